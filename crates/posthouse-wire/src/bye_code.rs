//! The codes of a bye: the reason why a session ends. Codes 0 to 999 belong to Posthouse, codes
//! from 1000 on to the application.

/// No error: the sender has finished.
pub const NORMAL: u16 = 0;
/// The sender shuts down. Another instance, or the same one later, may accept a connection.
pub const GOING_AWAY: u16 = 1;
/// A frame announced a larger payload than the receiver accepts.
pub const FRAME_TOO_LARGE: u16 = 2;
/// A frame broke a rule of `PROTOCOL.md`.
pub const PROTOCOL_VIOLATION: u16 = 3;
/// The two sides have no protocol version in common.
pub const VERSION_NOT_SUPPORTED: u16 = 4;
/// The sender rejected the proof or the credential.
pub const NOT_ADMITTED: u16 = 5;
/// A limit was reached; [`Bye::retry_after`](crate::Bye::retry_after) says when to try again.
pub const BUSY: u16 = 6;
/// A frame arrived too slowly, or nothing arrived for two and a half heartbeats.
pub const TOO_SLOW: u16 = 7;
/// An error inside the sender.
pub const INTERNAL_ERROR: u16 = 8;
/// The first code that belongs to the application.
pub const APPLICATION: u16 = 1000;
