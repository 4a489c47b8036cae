//! Requests and replies: messages with a number that connects a reply to its request.

use crate::{EncodeError, Framing, kind};

/// The size of a request's head, which stands before its payload: id u32, kind u8. The head counts
/// toward the maximum payload of a frame.
pub const REQUEST_HEAD_BYTES: usize = 5;
/// The size of a reply's head, which stands before its payload: id u32, status u8, kind u8. The
/// head counts toward the maximum payload of a frame.
pub const REPLY_HEAD_BYTES: usize = 6;

/// The result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReplyStatus {
    /// The peer answered the request.
    Ok = 0,
    /// The peer rejected the request. The payload may contain the reason, as text for people.
    Refused = 1,
}

impl ReplyStatus {
    /// Parses a status. An unknown one counts as [`ReplyStatus::Refused`].
    pub(crate) fn from_wire(byte: u8) -> Self {
        if byte == 0 { Self::Ok } else { Self::Refused }
    }
}

/// Appends a whole request frame to `out`. On an error it appends nothing.
///
/// `max_payload_bytes` is [`crate::Session::send_limit`]; the head counts toward it.
///
/// # Errors
/// [`EncodeError::TooLarge`].
pub fn encode_request(
    id: u32,
    kind: u8,
    payload: &[u8],
    max_payload_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let [a, b, c, d] = id.to_le_bytes();
    Framing::encode_native(kind::REQUEST, &[a, b, c, d, kind], payload, max_payload_bytes, out)
}

/// Appends a whole reply frame to `out`. On an error it appends nothing.
///
/// `max_payload_bytes` is [`crate::Session::send_limit`]; the head counts toward it.
///
/// # Errors
/// [`EncodeError::TooLarge`].
pub fn encode_reply(
    id: u32,
    status: ReplyStatus,
    kind: u8,
    payload: &[u8],
    max_payload_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let [a, b, c, d] = id.to_le_bytes();
    let head = [a, b, c, d, status as u8, kind];
    Framing::encode_native(kind::REPLY, &head, payload, max_payload_bytes, out)
}
