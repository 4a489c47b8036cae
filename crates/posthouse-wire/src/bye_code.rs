//! Why a session ends: the codes of a bye. 0 to 999 are Posthouse's, from 1000 on they are the
//! application's.

/// All is well; the sender is done.
pub const NORMAL: u16 = 0;
/// The sender shuts down; another instance, or the same one later, may serve.
pub const GOING_AWAY: u16 = 1;
/// A frame announced more than the receiver takes.
pub const FRAME_TOO_LARGE: u16 = 2;
/// A frame that breaks the rules of `PROTOCOL.md`.
pub const PROTOCOL_VIOLATION: u16 = 3;
/// No protocol version that both sides speak.
pub const VERSION_NOT_SUPPORTED: u16 = 4;
/// The proof or the credential was refused.
pub const NOT_ADMITTED: u16 = 5;
/// A limit was reached; see the retry-after.
pub const BUSY: u16 = 6;
/// A frame, or a sign of life, came too slowly.
pub const TOO_SLOW: u16 = 7;
/// A fault of the sender's own.
pub const INTERNAL_ERROR: u16 = 8;
/// The first code that is the application's own.
pub const APPLICATION: u16 = 1000;
