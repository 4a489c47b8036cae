//! Messages.

/// A message: a kind and a payload, borrowed from the receive buffer.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub(crate) kind: u8,
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Returns the kind that the sender set; 0 in framings without kinds.
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// Returns the payload, which is valid during the callback. To keep the payload longer, copy it
    /// with [`to_vec`](Self::to_vec) or [`to_owned`](Self::to_owned).
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Returns a copy of the payload.
    pub fn to_vec(&self) -> Vec<u8> {
        self.payload.to_vec()
    }

    /// Returns a copy of the message that owns its payload.
    pub fn to_owned(&self) -> OwnedMessage {
        OwnedMessage { kind: self.kind, payload: self.to_vec() }
    }
}

/// A message that owns its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedMessage {
    /// The kind of the message; 0 in framings without kinds.
    pub kind: u8,
    /// The payload of the message.
    pub payload: Vec<u8>,
}
