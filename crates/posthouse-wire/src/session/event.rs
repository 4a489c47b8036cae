//! The events that a session reports to its caller.

use std::time::Duration;

use crate::{Bye, ReplyStatus, TransferFrame};

/// The result of hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The protocol version both sides speak.
    pub version: u16,
    /// The features both sides have.
    pub features: u32,
    /// The largest payload that the peer accepts.
    pub peer_max_payload_bytes: u32,
    /// The heartbeat: the shorter of the two that were asked for.
    pub heartbeat: Option<Duration>,
    /// What the peer told about itself.
    pub credential: Box<[u8]>,
    /// Whether both sides have proved that they hold the key.
    pub proven: bool,
}

/// The meaning of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent<'a> {
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
        status: ReplyStatus,
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
