//! The codes of an abort: the reasons for which a transfer ends without its file.

/// One side cancelled the transfer.
pub const CANCELLED: u16 = 0;
/// The application refused the transfer; the text may give the reason.
pub const REFUSED: u16 = 1;
/// A file of that name with other content exists.
pub const EXISTS: u16 = 2;
/// The bytes that the receiver holds are not the beginning of this file, and the sender does not
/// start over.
pub const PREFIX_DIFFERS: u16 = 3;
/// The hash of the received bytes differs from that of the sent bytes.
pub const HASH_DIFFERS: u16 = 4;
/// Too many transfers, or another peer is sending this file now: try again later.
pub const BUSY: u16 = 5;
/// The disk or a quota is full.
pub const NO_SPACE: u16 = 6;
/// The file does not exist.
pub const NOT_FOUND: u16 = 7;
/// The name is invalid.
pub const BAD_NAME: u16 = 8;
/// The file changed while it was sent.
pub const CHANGED: u16 = 9;
/// The disk failed.
pub const DISK: u16 = 10;
/// The other side broke the rules of this transfer.
pub const PROTOCOL: u16 = 11;
/// The other side sent nothing for too long.
pub const EXPIRED: u16 = 12;
/// The connection is about to end.
pub const GOING_AWAY: u16 = 13;
