//! The events of a session.

use std::time::Duration;

use crate::{Bye, ReplyStatus, TransferFrame};

/// The result of hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The protocol version that both sides speak.
    pub version: u16,
    /// The features that both sides have, one bit each.
    pub features: u32,
    /// The largest payload that the peer accepts, in bytes.
    pub peer_max_payload_bytes: u32,
    /// The heartbeat: the shorter of both sides' heartbeats, at least
    /// [`MIN_HEARTBEAT`](crate::MIN_HEARTBEAT); `None` if neither side asked for one.
    pub heartbeat: Option<Duration>,
    /// The credential of the peer; empty if the peer sent none.
    pub credential: Box<[u8]>,
    /// True exactly when both sides have proved that they hold the key.
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
    /// The reply to a request of this side. The caller checks that it sent a request with this
    /// number: the session does not keep the numbers.
    Reply {
        /// The number of the request.
        id: u32,
        /// The result of the request.
        status: ReplyStatus,
        /// Its kind.
        kind: u8,
        /// Its content.
        payload: &'a [u8],
    },
    /// A frame of a file transfer. It comes only if both sides have the feature.
    Transfer(TransferFrame<'a>),
    /// Hello and, if the server demands one, the proof are now complete.
    Established,
    /// The peer ends the session.
    Bye(Bye),
    /// No event for the caller. The answers to the frame, if any, are in `out`.
    Nothing,
}
