//! The codes of an abort: why a transfer ended without its file.

/// One side does not want it any more.
pub const CANCELLED: u16 = 0;
/// The application said no; the text may say why.
pub const REFUSED: u16 = 1;
/// There is a file of that name with other content.
pub const EXISTS: u16 = 2;
/// What the receiver holds is not the beginning of this file, and the sender does not begin
/// anew.
pub const PREFIX_DIFFERS: u16 = 3;
/// What arrived has another hash than what was sent.
pub const HASH_DIFFERS: u16 = 4;
/// Too many transfers, or somebody else sends this very file now: try later.
pub const BUSY: u16 = 5;
/// The disk, or a quota, is full.
pub const NO_SPACE: u16 = 6;
/// There is no such file.
pub const NOT_FOUND: u16 = 7;
/// A name that may not be.
pub const BAD_NAME: u16 = 8;
/// The file changed while it was sent.
pub const CHANGED: u16 = 9;
/// The disk failed.
pub const DISK: u16 = 10;
/// The other side broke the rules of this transfer.
pub const PROTOCOL: u16 = 11;
/// Nothing came for too long.
pub const EXPIRED: u16 = 12;
/// The connection is about to end.
pub const GOING_AWAY: u16 = 13;
