//! The entries of a listing.

use crate::{Framing, kind};

use super::{EXECUTABLE, NO_TIME};

/// Bytes of an entry before its name: size u64, modified i64, flags u8, name length u16.
const ENTRY_HEAD_BYTES: usize = 8 + 8 + 1 + 2;
/// Bytes of the frame before its entries: id u32, flags u8.
const HEAD_BYTES: usize = 5;

/// A line of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Bytes of the file.
    pub size: u64,
    /// When it was modified, in ms since 1970.
    pub modified_ms: Option<i64>,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// Its name: the peer's own bytes.
    pub name: &'a [u8],
}

/// The entries of a listing, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    /// Takes them where none is cut short.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, rest) = split(rest)?;
        }
        Some(Self(bytes))
    }

    pub(super) fn bytes(self) -> &'a [u8] {
        self.0
    }
}

#[expect(clippy::copy_iterator, reason = "it is a slice, and a frame that holds it is Copy")]
impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let (entry, rest) = split(self.0)?;
        self.0 = rest;
        Some(entry)
    }
}

fn split(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (size, rest) = bytes.split_first_chunk()?;
    let (modified, rest) = rest.split_first_chunk()?;
    let ([flags], rest) = rest.split_first_chunk()?;
    let (name_bytes, rest) = rest.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*name_bytes)))?;
    let modified = i64::from_le_bytes(*modified);
    let entry = Entry {
        size: u64::from_le_bytes(*size),
        modified_ms: (modified != NO_TIME).then_some(modified),
        executable: flags & EXECUTABLE != 0,
        name,
    };
    Some((entry, rest))
}

/// Appends a listing with as many of the entries as fit; `more` says whether others follow those
/// given. A name longer than a length can say is left out.
pub fn encode_listed<'a>(
    id: u32,
    more: bool,
    entries: impl IntoIterator<Item = Entry<'a>>,
    payload_bytes_max: usize,
    out: &mut Vec<u8>,
) {
    let mut payload = Vec::new();
    payload.extend_from_slice(&id.to_le_bytes());
    payload.push(u8::from(more));
    for entry in entries {
        let Ok(name_bytes) = u16::try_from(entry.name.len()) else { continue };
        if payload.len() + ENTRY_HEAD_BYTES + entry.name.len() > payload_bytes_max {
            payload[HEAD_BYTES - 1] = 1;
            break;
        }
        payload.extend_from_slice(&entry.size.to_le_bytes());
        payload.extend_from_slice(&entry.modified_ms.unwrap_or(NO_TIME).to_le_bytes());
        payload.push(u8::from(entry.executable) * EXECUTABLE);
        payload.extend_from_slice(&name_bytes.to_le_bytes());
        payload.extend_from_slice(entry.name);
    }
    Framing::encode_native(kind::LISTED, &[], &payload, payload.len(), out)
        .expect("a listing is cut to what the peer takes");
}

#[cfg(test)]
mod tests {
    use super::super::{TransferFrame, parse};
    use super::*;
    use crate::Frame;

    fn entry(name: &[u8]) -> Entry<'_> {
        Entry { size: 1 << 40, modified_ms: Some(5), executable: true, name }
    }

    fn listed(more: bool, names: &[&[u8]], max: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_listed(3, more, names.iter().map(|name| entry(name)), max, &mut bytes);
        bytes
    }

    #[test]
    fn a_listing_is_read_as_it_was_written() {
        let bytes = listed(false, &[b"a", b"b/c"], 1000);
        let frame = Frame { kind: bytes[4], payload: &bytes[5..] };
        let Ok(Some(TransferFrame::Listed { id: 3, more: false, entries })) = parse(frame) else {
            panic!("{frame:?}");
        };
        assert_eq!(entries.collect::<Vec<_>>(), [entry(b"a"), entry(b"b/c")]);
        for len in 6..frame.payload.len() {
            let cut = Frame { kind: frame.kind, payload: &frame.payload[..len] };
            let whole_entries = len == HEAD_BYTES + ENTRY_HEAD_BYTES + 1;
            assert_eq!(parse(cut).is_ok(), whole_entries, "{len} bytes");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_for_the_next_answer() {
        let one = HEAD_BYTES + ENTRY_HEAD_BYTES + 1;
        let bytes = listed(false, &[b"a", b"b"], one);
        let frame = Frame { kind: bytes[4], payload: &bytes[5..] };
        let Ok(Some(TransferFrame::Listed { more, entries, .. })) = parse(frame) else { panic!() };
        assert_eq!((more, entries.count()), (true, 1));
        let none = listed(false, &[b"a"], 64);
        assert_eq!(none.len(), 5 + one);
    }
}
