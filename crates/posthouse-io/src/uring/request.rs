//! The identification of a request, which the kernel returns with its completions.

use crate::token::Socket;

/// The identification of a request: its kind, and the slot of its socket (or of its file
/// operation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) kind: RequestKind,
    pub(super) slot: u32,
    /// The low bits of the slot's generation. They detect a completion for a closed socket, which
    /// would be a bug: no socket is closed before its last completion.
    generation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum RequestKind {
    Accept,
    Connect,
    Receive,
    /// Waits for the end of the peer's stream or the failure of the connection.
    Watch,
    Send,
    /// Cancels the request that serves the input of a socket.
    CancelInput,
    /// Cancels a send.
    CancelSend,
    Close,
    /// The wait for the lane's waker; it belongs to no socket.
    Waker,
    /// Cancels all requests, when the lane is dropped.
    CancelAll,
    /// A read, write or sync of a file; the slot is that of the file operation.
    File,
}

const KINDS: [RequestKind; 11] = [
    RequestKind::Accept,
    RequestKind::Connect,
    RequestKind::Receive,
    RequestKind::Watch,
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

    /// Returns a request that belongs to no socket.
    pub(super) fn of_lane(kind: RequestKind) -> Self {
        Self { kind, slot: u32::MAX, generation: 0 }
    }

    /// Returns the request of the file operation in this slot.
    pub(super) fn of_file(slot: u32) -> Self {
        Self { kind: RequestKind::File, slot, generation: 0 }
    }

    /// Returns whether the request was made for this socket, which occupies the slot now.
    pub(super) fn is_for(self, socket: Socket) -> bool {
        self.generation == socket.generation & GENERATION_MASK
    }

    /// Returns the request as the 64 bits that the kernel carries: slot, generation, kind.
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
