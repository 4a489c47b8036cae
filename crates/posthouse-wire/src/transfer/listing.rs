//! The entries of a listing.

use crate::{Framing, MAX_FILE_NAME_BYTES, MAX_PAYLOAD_BYTES, kind};

use super::entry::{ENTRY_BYTES, Entry, Replace};
use super::frames::MORE;

/// The bytes of an entry before its name: its description, the length of its name u16.
const ENTRY_HEAD_BYTES: usize = ENTRY_BYTES + 2;
/// The bytes of the frame before its entries: id u32, flags u8.
const HEAD_BYTES: usize = 4 + 1;

const _: () = assert!(MAX_FILE_NAME_BYTES <= u16::MAX as usize);

/// The entries of a listing, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListingEntries<'a>(&'a [u8]);

impl<'a> ListingEntries<'a> {
    /// Checks that each entry is complete and its description valid. The error is the reason of
    /// the first fault. The names are not checked: the caller skips entries with invalid names.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (entry, after) = split(rest).ok_or("an entry is incomplete")?;
            if let Some(fault) = entry.fault() {
                return Err(fault);
            }
            rest = after;
        }
        Ok(Self(bytes))
    }

    pub(super) fn bytes(self) -> &'a [u8] {
        self.0
    }
}

#[expect(clippy::copy_iterator, reason = "it is a slice, and a frame that holds it is Copy")]
impl<'a> Iterator for ListingEntries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let (entry, rest) = split(self.0)?;
        self.0 = rest;
        Some(entry)
    }
}

fn split(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    let (name_bytes, rest) = rest.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*name_bytes)))?;
    let (entry, _) = Entry::parse_head(head, name);
    Some((entry, rest))
}

/// Appends a listing frame with as many of the entries as fit, and returns the number of entries
/// that it has consumed. `more` says whether others follow the given ones. An entry whose name is
/// too long for any frame that this peer accepts is consumed and left out: this peer could not be
/// offered the file either.
///
/// Returns `None`, and appends nothing, if all given entries were left out and others follow. Then
/// call it again with those, because a listing without entries says that there are no more.
///
/// # Panics
///
/// Panics if the peer would reject the listing (number 0, a size beyond `i64::MAX`), or if an entry
/// has a name without bytes.
pub fn encode_listed<'a>(
    id: u32,
    more: bool,
    entries: impl IntoIterator<Item = Entry<'a>>,
    max_payload_bytes: usize,
    out: &mut Vec<u8>,
) -> Option<usize> {
    assert_ne!(id, 0, "numbers begin with 1");
    let max = max_payload_bytes.min(MAX_PAYLOAD_BYTES);
    let mut body = Vec::new();
    let mut taken = 0;
    let mut more = more;
    for entry in entries {
        assert!(!entry.name.is_empty(), "an entry without a name");
        let bytes = ENTRY_HEAD_BYTES + entry.name.len();
        if HEAD_BYTES + bytes <= max && entry.name.len() <= MAX_FILE_NAME_BYTES {
            if HEAD_BYTES + body.len() + bytes > max {
                more = true;
                break;
            }
            put(entry, &mut body);
        }
        taken += 1;
    }
    if more && body.is_empty() {
        return None;
    }
    let [a, b, c, d] = id.to_le_bytes();
    let head = [a, b, c, d, u8::from(more) * MORE];
    Framing::encode_small(kind::LISTED, &head, &body, out);
    Some(taken)
}

fn put(entry: Entry<'_>, body: &mut Vec<u8>) {
    body.extend_from_slice(&entry.head(Replace::Never));
    body.extend_from_slice(&(entry.name.len() as u16).to_le_bytes());
    body.extend_from_slice(entry.name);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{EntryKind, TransferFrame, parse};
    use super::*;
    use crate::{Frame, Violation};

    fn entry(name: &[u8]) -> Entry<'_> {
        let kind = EntryKind::File;
        Entry { kind, size: 1 << 40, modified_ns: Some(5), mode: Some(0o755), name }
    }

    /// Returns the bytes of the frame and the number of entries that it consumed.
    fn listed(more: bool, names: &[&[u8]], max: usize) -> (Vec<u8>, Option<usize>) {
        let mut bytes = Vec::new();
        let entries = names.iter().map(|name| entry(name));
        let taken = encode_listed(3, more, entries, max, &mut bytes);
        (bytes, taken)
    }

    fn open(bytes: &[u8]) -> (bool, Vec<Entry<'_>>) {
        let frame = Frame { kind: bytes[4], payload: &bytes[5..] };
        let Ok(Some(TransferFrame::Listed { id: 3, more, entries })) = parse(frame) else {
            panic!("{frame:?}");
        };
        let mut again = Vec::new();
        let listed = TransferFrame::Listed { id: 3, more, entries };
        listed.encode(1 << 20, &mut again).unwrap();
        assert_eq!(again, bytes);
        (more, entries.collect())
    }

    #[test]
    fn a_listing_is_read_as_it_was_written_and_a_cut_one_is_malformed() {
        let (bytes, taken) = listed(false, &[b"a", b"b/c"], 1000);
        assert_eq!(taken, Some(2));
        assert_eq!(open(&bytes), (false, vec![entry(b"a"), entry(b"b/c")]));
        let payload = &bytes[5..];
        for len in HEAD_BYTES + 1..payload.len() {
            let cut = Frame { kind: kind::LISTED, payload: &payload[..len] };
            let whole_entries = len == HEAD_BYTES + ENTRY_HEAD_BYTES + 1;
            assert_eq!(parse(cut).is_ok(), whole_entries, "{len} bytes");
        }
        let (bytes, taken) = listed(false, &[], 64);
        assert_eq!((open(&bytes), taken), ((false, Vec::new()), Some(0)));
    }

    #[test]
    fn flags_that_are_not_defined_are_ignored() {
        let (mut bytes, _) = listed(true, &[b"a"], 64);
        bytes[5 + 4] |= 0xfe;
        bytes[5 + HEAD_BYTES + 18] |= 0xfd;
        let Frame { kind, payload } = Frame { kind: bytes[4], payload: &bytes[5..] };
        let Ok(Some(TransferFrame::Listed { more: true, mut entries, .. })) =
            parse(Frame { kind, payload })
        else {
            panic!("{payload:?}");
        };
        assert_eq!(entries.next(), Some(entry(b"a")));
    }

    #[test]
    fn entries_that_cannot_be_are_malformed() {
        let spoilt = |at: usize, with: &[u8]| {
            let (mut bytes, _) = listed(false, &[b"a"], 64);
            bytes[5 + HEAD_BYTES + at..][..with.len()].copy_from_slice(with);
            let frame = Frame { kind: bytes[4], payload: &bytes[5..] };
            matches!(parse(frame), Err(Violation::Malformed { kind: kind::LISTED, .. }))
        };
        assert!(spoilt(0, &(1_u64 << 63).to_le_bytes()));
        assert!(!spoilt(0, &(u64::MAX >> 1).to_le_bytes()));
        assert!(spoilt(18, &[2]), "a directory with bytes");
        assert!(spoilt(19, &[0, 0]), "no name, and a byte too many");
        assert!(spoilt(19, &[2, 0]), "longer than the frame");
        // More, after nothing.
        assert!(parse(Frame { kind: kind::LISTED, payload: &[3, 0, 0, 0, 1] }).is_err());
        assert!(parse(Frame { kind: kind::LISTED, payload: &[3, 0, 0, 0, 2] }).is_ok());
    }

    #[test]
    fn an_entry_with_an_invalid_name_is_read_for_the_caller_to_skip() {
        let long = vec![b'x'; u16::MAX.into()];
        for name in [&[][..], &[0xff], &long[..1024], &long[..1025], &long] {
            let mut payload = vec![3, 0, 0, 0, 0];
            put(entry(name), &mut payload);
            put(entry(b"next"), &mut payload);
            let parsed = parse(Frame { kind: kind::LISTED, payload: &payload });
            let Ok(Some(TransferFrame::Listed { entries, .. })) = parsed else {
                panic!("a name of {} bytes: {parsed:?}", name.len());
            };
            assert_eq!(entries.collect::<Vec<_>>(), [entry(name), entry(b"next")]);
        }
    }

    #[test]
    fn what_does_not_fit_is_left_for_the_next_answer() {
        let one = HEAD_BYTES + ENTRY_HEAD_BYTES + 1;
        let (bytes, taken) = listed(false, &[b"a", b"b"], one);
        assert_eq!((open(&bytes), taken), ((true, vec![entry(b"a")]), Some(1)));
        let (bytes, taken) = listed(false, &[b"a", b"b"], one + ENTRY_HEAD_BYTES + 1);
        assert_eq!((open(&bytes).0, taken), (false, Some(2)));
    }

    #[test]
    fn a_name_that_fits_no_frame_is_passed_over() {
        let long = [b'x'; 60];
        let (bytes, taken) = listed(true, &[&long, b"b", &long], 64);
        assert_eq!((open(&bytes), taken), ((true, vec![entry(b"b")]), Some(3)));
        let (bytes, taken) = listed(false, &[&long], 64);
        assert_eq!((open(&bytes), taken), ((false, Vec::new()), Some(1)));
        assert_eq!(listed(true, &[&long, &long], 64), (Vec::new(), None));
    }

    proptest! {
        #[test]
        fn page_after_page_every_entry_that_fits_comes_once(
            lens in prop::collection::vec(1_usize..70, 0..40),
            max in 64_usize..300,
            at_once in 1_usize..20,
        ) {
            let names: Vec<Vec<u8>> = lens.iter().map(|len| vec![b'n'; *len]).collect();
            let fits = |name: &&Vec<u8>| HEAD_BYTES + ENTRY_HEAD_BYTES + name.len() <= max;
            let expected: Vec<&Vec<u8>> = names.iter().filter(fits).collect();
            let mut seen = Vec::new();
            let mut next = 0;
            loop {
                let given = &names[next..names.len().min(next + at_once)];
                let others = next + given.len() < names.len();
                let mut out = Vec::new();
                let entries = given.iter().map(|name| entry(name));
                let Some(taken) = encode_listed(3, others, entries, max, &mut out) else {
                    prop_assert!(others && out.is_empty());
                    next += given.len();
                    continue;
                };
                prop_assert!(out.len() <= 5 + max);
                let (more, page) = open(&out);
                seen.extend(page.iter().map(|entry| entry.name.to_vec()));
                next += taken;
                prop_assert_eq!(more, next < names.len());
                if !more {
                    break;
                }
            }
            prop_assert_eq!(seen.iter().collect::<Vec<_>>(), expected);
        }
    }
}
