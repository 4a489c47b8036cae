//! What a handler receives.

use crate::id::PeerId;

/// One message: a kind and a payload, borrowed from the receive buffer.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub(crate) kind: u8,
    pub(crate) payload: &'a [u8],
    pub(crate) request: Option<(PeerId, u32)>,
}

impl<'a> Message<'a> {
    /// The kind that the sender gave it; 0 in framings that have none.
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// The payload. It lives as long as the callback; [`to_bytes`](Self::to_bytes) keeps it.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// A copy of the payload.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.payload.to_vec()
    }

    /// The right to answer, where the message is a request. The first call that answers counts; a
    /// request that is never answered ends at the asking side by its time-out.
    pub fn ticket(&self) -> Option<Ticket> {
        self.request.map(|(peer, id)| Ticket { peer, id })
    }
}

/// The right to answer one request: with [`Peer::reply`](crate::Peer::reply) in a callback of the
/// connection that asked, with [`Endpoint::reply`](crate::Endpoint::reply) from anywhere else. It
/// can be kept, moved to a thread, and used later.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) peer: PeerId,
    pub(crate) id: u32,
}

impl Ticket {
    /// The connection that asked.
    pub fn peer(&self) -> PeerId {
        self.peer
    }
}
