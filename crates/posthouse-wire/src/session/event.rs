//! What a session tells its caller.

use std::time::Duration;

use crate::{Bye, Status, TransferFrame};

/// What hello has settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The protocol version both sides speak.
    pub version: u16,
    /// The features both sides have.
    pub features: u32,
    /// The largest payload that the peer accepts.
    pub peer_payload_bytes_max: u32,
    /// The heartbeat: the shorter of the two that were asked for.
    pub heartbeat: Option<Duration>,
    /// What the peer told about itself.
    pub credential: Box<[u8]>,
    /// Whether both sides have proved that they hold the key.
    pub proven: bool,
}

/// What a frame turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// An ordinary message.
    Message {
        /// Its kind.
        kind: u8,
        /// Its content.
        payload: &'a [u8],
    },
    /// A request, to be answered with a reply of the same id.
    Request {
        /// Its number, chosen by the peer.
        id: u32,
        /// Its kind.
        kind: u8,
        /// Its content.
        payload: &'a [u8],
    },
    /// The answer to a request of ours. Whether there was such a request is for the caller to know.
    Reply {
        /// The number of the request.
        id: u32,
        /// How it ended.
        status: Status,
        /// Its kind.
        kind: u8,
        /// Its content.
        payload: &'a [u8],
    },
    /// A frame of a file transfer, where both sides know them.
    Transfer(TransferFrame<'a>),
    /// Hello, and the proof where one is demanded, have just been completed.
    Established,
    /// The peer ends the session.
    Bye(Bye),
    /// Nothing for the caller; answers, if any, are in `out`.
    Nothing,
}
