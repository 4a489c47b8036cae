//! The kinds of frames that are reserved for Posthouse once hello is agreed.

pub(crate) const HELLO: u8 = 4;
pub(crate) const BYE: u8 = 5;
pub(crate) const PROVE: u8 = 6;
pub(crate) const WELCOME: u8 = 7;
/// The kind of a request.
pub const REQUEST: u8 = 8;
pub(crate) const REPLY: u8 = 9;
pub(crate) const OFFER: u8 = 10;
pub(crate) const ACCEPT: u8 = 11;
pub(crate) const CHUNK: u8 = 12;
pub(crate) const CREDIT: u8 = 13;
pub(crate) const DONE: u8 = 14;
pub(crate) const ABORT: u8 = 15;
pub(crate) const PING: u8 = 16;
pub(crate) const PONG: u8 = 17;
pub(crate) const GET: u8 = 18;
pub(crate) const LIST: u8 = 19;
pub(crate) const LISTED: u8 = 20;
pub(crate) const WORKING: u8 = 21;

/// Returns whether `kind` is reserved for Posthouse (4 to 31) once hello is agreed.
///
/// Before hello is agreed, and with a peer that never sends a hello, these are ordinary kinds.
pub fn is_reserved_kind(kind: u8) -> bool {
    (4..32).contains(&kind)
}

/// Returns whether a side that does not know this reserved kind must close the connection. Bit 4
/// marks the kinds that a side may skip.
pub(crate) fn is_critical(kind: u8) -> bool {
    kind & 0x10 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_kinds_are_4_to_31_and_the_upper_half_may_be_skipped() {
        for kind in 0..=255 {
            assert_eq!(is_reserved_kind(kind), kind / 4 >= 1 && kind < 32, "kind {kind}");
        }
        assert!((4..16).all(is_critical));
        assert!(!(16..32).any(is_critical));
    }
}
