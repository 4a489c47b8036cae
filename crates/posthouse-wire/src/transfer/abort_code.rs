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
/// There are too many transfers, another peer is sending this file now, or others wait for what
/// this slow transfer holds: try again later.
pub const BUSY: u16 = 5;
/// The disk is full.
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
/// The connection is about to end. Posthouse does not send this code: it says bye.
pub const GOING_AWAY: u16 = 13;
/// The quota of the directory has no room for the file.
pub const QUOTA: u16 = 14;
/// The receiver drains: it ends what has begun and begins nothing more. Posthouse does not send
/// this code yet.
pub const DRAINING: u16 = 15;
/// The directory that receives the files is not there. Posthouse does not send this code yet.
pub const NO_INBOX: u16 = 16;
/// The file system of the receiver cannot store the name. Posthouse does not send this code yet.
pub const NAME_UNSTORABLE: u16 = 17;
/// The file was replaced by another one of the same size and time while it was sent, or its
/// permissions changed.
pub const REPLACED: u16 = 18;
/// A file of that name exists, and the receiver does not permit its replacement.
pub const MAY_NOT_REPLACE: u16 = 19;
/// The offer has a critical attribute that the receiver does not know.
pub const UNKNOWN_ATTRIBUTE: u16 = 20;

/// The advice of an abort code: when the same file may be sent with success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The attempt fails again until the configuration of one side changes.
    Never,
    /// The attempt fails again until the file, its name, or the file in its place changes.
    Changed,
    /// The same attempt may succeed later.
    Later,
}

/// Returns the advice of a code. An unknown code counts as [`REFUSED`].
pub fn retry(code: u16) -> Retry {
    match code {
        EXISTS | NOT_FOUND | BAD_NAME | NAME_UNSTORABLE => Retry::Changed,
        PREFIX_DIFFERS | HASH_DIFFERS | BUSY | NO_SPACE | CHANGED | DISK | EXPIRED | GOING_AWAY
        | QUOTA | DRAINING | NO_INBOX | REPLACED => Retry::Later,
        _ => Retry::Never,
    }
}
