//! What the kernel is given with a request and gives back with its completions.

use crate::token::Socket;

/// A request to the kernel: what it is, and the socket (or the file's place) that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) kind: RequestKind,
    pub(super) slot: u32,
    /// The low bits of the slot's generation: enough to notice a completion that comes for a
    /// socket that is gone, which would be a bug, for no socket is closed before its last one.
    generation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum RequestKind {
    Accept,
    Connect,
    Receive,
    Send,
    /// Cancels the request that waits for something to come.
    CancelInput,
    /// Cancels a send.
    CancelSend,
    Close,
    /// The wait for the lane's waker; it is for no socket.
    Waker,
    /// Cancels everything, when the lane is dropped.
    CancelAll,
    /// A read, write or sync of a file; the slot is its place among those in flight.
    File,
}

const KINDS: [RequestKind; 10] = [
    RequestKind::Accept,
    RequestKind::Connect,
    RequestKind::Receive,
    RequestKind::Send,
    RequestKind::CancelInput,
    RequestKind::CancelSend,
    RequestKind::Close,
    RequestKind::Waker,
    RequestKind::CancelAll,
    RequestKind::File,
];

const GENERATION_MASK: u32 = 0x00ff_ffff;

impl Request {
    pub(super) fn new(kind: RequestKind, socket: Socket) -> Self {
        Self { kind, slot: socket.slot, generation: socket.generation & GENERATION_MASK }
    }

    /// A request that is for no socket.
    pub(super) fn of_lane(kind: RequestKind) -> Self {
        Self { kind, slot: u32::MAX, generation: 0 }
    }

    /// A request that is for the file in this place.
    pub(super) fn of_file(slot: u32) -> Self {
        Self { kind: RequestKind::File, slot, generation: 0 }
    }

    /// Whether it was made for this socket, which has the slot now.
    pub(super) fn is_for(self, socket: Socket) -> bool {
        self.generation == socket.generation & GENERATION_MASK
    }

    /// As the 64 bits that the kernel carries: slot, generation, kind.
    pub(super) fn to_bits(self) -> u64 {
        let kind = self.kind as u64;
        u64::from(self.slot) << 32 | u64::from(self.generation) << 8 | kind
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        let kind = KINDS[usize::from(bits as u8)];
        Self { kind, slot: (bits >> 32) as u32, generation: (bits as u32) >> 8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_back_as_it_was() {
        for (number, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, number, "the table is in order");
            let socket = Socket { slot: 0x1234_5678, generation: 0xffab_cdef };
            let request = Request::new(kind, socket);
            assert_eq!(Request::from_bits(request.to_bits()), request);
            let next = Socket { generation: socket.generation + 1, ..socket };
            assert!(request.is_for(socket) && !request.is_for(next));
        }
        for request in [Request::of_lane(RequestKind::Waker), Request::of_file(0x1234_5678)] {
            assert_eq!(Request::from_bits(request.to_bits()), request);
        }
    }
}
