//! The description of a file or directory, as an offer and an entry of a listing carry it.

use std::fmt;

use crate::fields::Fields;
use crate::{Violation, kind};

/// The maximum size of a file in bytes: every system can represent it.
pub(super) const MAX_FILE_SIZE: u64 = i64::MAX as u64;
/// The bytes of a description before its name: size u64, modified i64, mode u16, flags u8.
pub(super) const ENTRY_BYTES: usize = 8 + 8 + 2 + 1;
/// The flag of an offer whose file may replace another one.
const REPLACE: u8 = 0x01;
/// The flag of a directory.
const DIRECTORY: u8 = 0x02;
/// The value on the wire for an unknown modification time.
const NO_TIME: i64 = i64::MIN;
/// The value on the wire for unknown permissions.
const NO_MODE: u16 = 0xffff;
/// The bits of permissions that travel: read, write and execute for owner, group and others.
const MODE_BITS: u16 = 0o777;

/// The type of the attribute that holds a delivery id.
const DELIVERY_ID: u8 = 0x01;
/// The bit of an attribute's type that forbids a receiver to skip it.
const CRITICAL: u8 = 0x80;

/// A file, or a directory as an entry without content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file.
    #[default]
    File,
    /// A directory. Its size is 0, and no bytes follow.
    Directory,
}

/// The description of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Whether it is a file or a directory.
    pub kind: EntryKind,
    /// The size in bytes, at most `i64::MAX`; 0 for a directory.
    pub size: u64,
    /// The modification time, in ns since 1970. `None` if it is unknown.
    pub modified_ns: Option<i64>,
    /// The permissions: the lowest nine bits of a mode of Unix. `None` if they are unknown.
    pub mode: Option<u16>,
    /// The name: unchecked bytes of the peer.
    pub name: &'a [u8],
}

/// A random number that names the delivery of one file: it is the same in every attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryId(pub [u8; 16]);

/// Writes 32 hexadecimal digits.
impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeliveryId({self})")
    }
}

/// The attributes of an offer. Unknown ones are skipped, unless they are critical.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfferAttributes {
    /// The delivery id, if the sender gave one.
    pub delivery_id: Option<DeliveryId>,
    /// The type of a critical attribute that this side does not know. The offer must be rejected.
    pub unknown_critical: Option<u8>,
}

/// Whether an offered file may replace a file of the same name, if the receiver permits it, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Replace {
    /// The receiver must keep the other file.
    #[default]
    Never,
    /// The sender permits the replacement.
    Permitted,
}

impl<'a> Entry<'a> {
    /// Returns the bytes before the name.
    ///
    /// # Panics
    ///
    /// Panics if the peer would reject the entry: a size beyond `i64::MAX`, a directory with bytes.
    pub(super) fn head(&self, replace: Replace) -> [u8; ENTRY_BYTES] {
        assert!(self.fault().is_none(), "{:?}", self.fault());
        let mut head = [0; ENTRY_BYTES];
        head[..8].copy_from_slice(&self.size.to_le_bytes());
        head[8..16].copy_from_slice(&self.modified_ns.unwrap_or(NO_TIME).to_le_bytes());
        let mode = self.mode.map_or(NO_MODE, |mode| mode & MODE_BITS);
        head[16..18].copy_from_slice(&mode.to_le_bytes());
        let directory = if self.kind == EntryKind::Directory { DIRECTORY } else { 0 };
        let replace = if replace == Replace::Permitted { REPLACE } else { 0 };
        head[18] = directory | replace;
        head
    }

    /// Parses the bytes before a name. It ignores undefined bits.
    pub(super) fn parse_head(head: &[u8; ENTRY_BYTES], name: &'a [u8]) -> (Self, Replace) {
        let (size, rest) = split(head);
        let (modified, rest) = split(rest);
        let (mode, rest) = split(rest);
        let flags = rest[0];
        let modified = i64::from_le_bytes(modified);
        let mode = u16::from_le_bytes(mode);
        let entry = Self {
            kind: if flags & DIRECTORY == 0 { EntryKind::File } else { EntryKind::Directory },
            size: u64::from_le_bytes(size),
            modified_ns: (modified != NO_TIME).then_some(modified),
            mode: (mode != NO_MODE).then_some(mode & MODE_BITS),
            name,
        };
        let replace = if flags & REPLACE == 0 { Replace::Never } else { Replace::Permitted };
        (entry, replace)
    }

    /// Returns the reason why no file or directory has this description.
    pub(super) fn fault(&self) -> Option<&'static str> {
        if self.size > MAX_FILE_SIZE {
            Some("a file size above the maximum")
        } else if self.kind == EntryKind::Directory && self.size > 0 {
            Some("a directory whose size is not 0")
        } else {
            None
        }
    }
}

/// Splits a field from the start of bytes that are known to hold it.
fn split<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    let (field, rest) = bytes.split_at(N);
    (field.try_into().expect("a field of this length"), rest)
}

impl OfferAttributes {
    /// Appends the block: its length u16, then for each attribute type u8, length u16, value.
    ///
    /// # Panics
    ///
    /// Panics if there is an unknown attribute.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.unknown_critical.is_none(), "an attribute that cannot be written");
        let Some(DeliveryId(id)) = self.delivery_id else {
            return out.extend_from_slice(&[0, 0]);
        };
        out.extend_from_slice(&[3 + 16, 0, DELIVERY_ID, 16, 0]);
        out.extend_from_slice(&id);
    }

    /// Parses the block without its length.
    pub(super) fn parse(block: &[u8]) -> Result<Self, Violation> {
        let malformed = |why| Violation::Malformed { kind: kind::OFFER, why };
        let mut attributes = Self::default();
        let mut fields = Fields::new(block, kind::OFFER, "an attribute is incomplete");
        while !fields.rest().is_empty() {
            let [attribute] = fields.take()?;
            let length = fields.u16()?;
            let value = fields.bytes(usize::from(length))?;
            match attribute {
                DELIVERY_ID => {
                    let id = value.try_into();
                    let id =
                        id.map_err(|_| malformed("a delivery id that is not 16 bytes long"))?;
                    attributes.delivery_id = Some(DeliveryId(id));
                }
                _ if attribute & CRITICAL != 0 => {
                    attributes.unknown_critical.get_or_insert(attribute);
                }
                _ => {}
            }
        }
        Ok(attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: DeliveryId = DeliveryId([0xab; 16]);

    fn parsed(block: &[u8]) -> Result<OfferAttributes, Violation> {
        OfferAttributes::parse(block)
    }

    #[test]
    fn attributes_are_read_as_they_were_written() {
        for delivery_id in [None, Some(ID)] {
            let attributes = OfferAttributes { delivery_id, unknown_critical: None };
            let mut block = Vec::new();
            attributes.encode(&mut block);
            let (length, block) = block.split_first_chunk().unwrap();
            assert_eq!(usize::from(u16::from_le_bytes(*length)), block.len());
            assert_eq!(parsed(block), Ok(attributes));
            for len in 1..block.len() {
                assert!(parsed(&block[..len]).is_err(), "{len} bytes");
            }
        }
        assert_eq!(ID.to_string(), "ab".repeat(16));
    }

    #[test]
    fn an_unknown_attribute_is_skipped_unless_it_is_critical() {
        let mut block = vec![0x7f, 2, 0, 1, 2, DELIVERY_ID, 16, 0];
        block.extend_from_slice(&ID.0);
        let known = OfferAttributes { delivery_id: Some(ID), unknown_critical: None };
        assert_eq!(parsed(&block), Ok(known));
        block.extend_from_slice(&[0x81, 0, 0, 0xff, 1, 0, 9]);
        let expected = OfferAttributes { unknown_critical: Some(0x81), ..known };
        assert_eq!(parsed(&block), Ok(expected));
        assert!(parsed(&[DELIVERY_ID, 1, 0, 9]).is_err());
    }

    #[test]
    fn permissions_are_nine_bits_or_unknown() {
        let entry = |mode| Entry {
            kind: EntryKind::File,
            size: 7,
            modified_ns: Some(-5),
            mode,
            name: b"a",
        };
        for (mode, expected) in [
            (None, None),
            (Some(0), Some(0)),
            (Some(0o644), Some(0o644)),
            (Some(0o4755), Some(0o755)),
        ] {
            let head = entry(mode).head(Replace::Permitted);
            let (read, replace) = Entry::parse_head(&head, b"a");
            assert_eq!((read, replace), (entry(expected), Replace::Permitted));
        }
    }
}
