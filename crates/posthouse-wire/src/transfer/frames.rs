//! The frames of file transfers. They are sent only if the hellos of both sides have
//! [`FEATURE_TRANSFERS`] set.

use super::entry::ENTRY_BYTES;
use super::{DeliveryId, Entry, ListingEntries, OfferAttributes, Replace};
use crate::fields::Fields;
use crate::{EncodeError, Frame, Framing, Violation, kind};

/// The bit of a hello's features that announces the support of file transfers.
pub const FEATURE_TRANSFERS: u32 = 1;
/// The number of bytes in a chunk's payload before the bytes of the file.
pub const CHUNK_HEAD_BYTES: usize = 4;
/// The maximum length in bytes of the text of an abort. A longer one is cut when it is sent and
/// when it is received.
pub const MAX_ABORT_TEXT_BYTES: usize = 512;

/// A frame of a transfer. Names and texts are the unchecked bytes of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferFrame<'a> {
    /// Offers a file. A second offer with the same id, after the accept and before a chunk, says
    /// that the bytes which the receiver holds are not the beginning of the file.
    Offer {
        /// The number of the offer.
        id: u32,
        /// The number of the get that the offer answers; 0 if it answers none.
        in_reply_to: u32,
        /// The file or directory.
        entry: Entry<'a>,
        /// Whether the file may replace another one of the same name.
        replace: Replace,
        /// The attributes.
        attributes: OfferAttributes,
    },
    /// Accepts an offer.
    Accept {
        /// The offer's number.
        id: u32,
        /// The offset from which the sender is to send: the receiver holds the bytes before it.
        offset: u64,
        /// The offset up to which the sender may send before it gets more credit.
        limit: u64,
        /// BLAKE3 of the bytes before `offset`.
        prefix: [u8; 32],
    },
    /// Carries the next bytes of the file.
    Chunk {
        /// The offer's number.
        id: u32,
        /// The bytes, at least one.
        bytes: &'a [u8],
    },
    /// Allows the sender to send more.
    Credit {
        /// The offer's number.
        id: u32,
        /// The offset up to which the sender may send.
        limit: u64,
    },
    /// Ends the transfer with success. From the sender: all bytes have been sent. From the
    /// receiver: the whole file is on the disk.
    Done {
        /// The offer's number.
        id: u32,
        /// BLAKE3 of the whole file.
        hash: [u8; 32],
        /// The delivery id of the offer. Only the receiver says it, and only if the offer has one.
        delivery_id: Option<DeliveryId>,
    },
    /// Says that the sender of this frame works on a transfer or request, but has nothing to send
    /// yet. It counts as activity and has no other effect.
    Working {
        /// The number of the offer, get or list.
        id: u32,
    },
    /// Ends an offer, a get or a list without success.
    Abort {
        /// The number of the offer, get or list.
        id: u32,
        /// The reason: see [`abort_code`](super::abort_code).
        code: u16,
        /// The details for a human reader.
        text: &'a [u8],
    },
    /// Requests the offer of a file.
    Get {
        /// The number of the request.
        id: u32,
        /// The name of the file.
        name: &'a [u8],
    },
    /// Requests a listing of the files.
    List {
        /// The number of the request.
        id: u32,
        /// The name after which the listing starts; if empty, it starts at the beginning.
        after: &'a [u8],
    },
    /// Answers a list.
    Listed {
        /// The number of the request.
        id: u32,
        /// True exactly when other entries follow the last one.
        more: bool,
        /// The entries, in the order of the bytes of their names.
        entries: ListingEntries<'a>,
    },
}

/// The flag of a listing whose last entry others follow.
pub(super) const MORE: u8 = 0x01;

impl TransferFrame<'_> {
    /// Returns the kind of the frame on the wire.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Offer { .. } => kind::OFFER,
            Self::Accept { .. } => kind::ACCEPT,
            Self::Chunk { .. } => kind::CHUNK,
            Self::Credit { .. } => kind::CREDIT,
            Self::Done { .. } => kind::DONE,
            Self::Working { .. } => kind::WORKING,
            Self::Abort { .. } => kind::ABORT,
            Self::Get { .. } => kind::GET,
            Self::List { .. } => kind::LIST,
            Self::Listed { .. } => kind::LISTED,
        }
    }

    /// Returns the number of the offer, get or list that the frame belongs to.
    pub fn id(&self) -> u32 {
        match *self {
            Self::Offer { id, .. }
            | Self::Accept { id, .. }
            | Self::Chunk { id, .. }
            | Self::Credit { id, .. }
            | Self::Done { id, .. }
            | Self::Working { id }
            | Self::Abort { id, .. }
            | Self::Get { id, .. }
            | Self::List { id, .. }
            | Self::Listed { id, .. } => id,
        }
    }

    /// Appends the frame to `out`. The text of an abort is cut to fit. (Use
    /// [`encode_listed`](crate::encode_listed) to encode a new listing.)
    ///
    /// # Errors
    ///
    /// Fails, and appends nothing, if the payload is larger than `max_payload_bytes`.
    ///
    /// # Panics
    ///
    /// Panics if the peer would reject the frame: number 0, a chunk without bytes, a size beyond
    /// `i64::MAX`, a directory with bytes.
    pub fn encode(&self, max_payload_bytes: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        assert_ne!(self.id(), 0, "numbers begin with 1");
        let mut head = FixedFields::new();
        head.put(&self.id().to_le_bytes());
        let body = match *self {
            Self::Offer { in_reply_to, entry, replace, attributes, .. } => {
                head.put(&in_reply_to.to_le_bytes());
                head.put(&entry.head(replace));
                let mut block = Vec::with_capacity(MAX_ATTRIBUTES_BYTES);
                attributes.encode(&mut block);
                head.put(&block);
                entry.name
            }
            Self::Accept { offset, limit, ref prefix, .. } => {
                head.put(&offset.to_le_bytes());
                head.put(&limit.to_le_bytes());
                head.put(prefix);
                &[]
            }
            Self::Chunk { bytes, .. } => {
                assert!(!bytes.is_empty(), "a chunk has bytes");
                bytes
            }
            Self::Credit { limit, .. } => {
                head.put(&limit.to_le_bytes());
                &[]
            }
            Self::Done { ref hash, delivery_id, .. } => {
                head.put(hash);
                if let Some(DeliveryId(id)) = delivery_id {
                    head.put(&id);
                }
                &[]
            }
            Self::Working { .. } => &[],
            Self::Abort { code, text, .. } => {
                head.put(&code.to_le_bytes());
                let room = max_payload_bytes.saturating_sub(head.len).min(MAX_ABORT_TEXT_BYTES);
                cut(text, room)
            }
            Self::Get { name, .. } => name,
            Self::List { after, .. } => after,
            Self::Listed { more, entries, .. } => {
                head.put(&[u8::from(more) * MORE]);
                entries.bytes()
            }
        };
        Framing::encode_native(self.kind(), head.bytes(), body, max_payload_bytes, out)
    }
}

/// Appends the head of a chunk frame. The caller appends the `bytes` bytes of the file after it.
///
/// # Errors
///
/// Fails, and appends nothing, if the payload is larger than `max_payload_bytes`.
///
/// # Panics
///
/// Panics if the peer would reject the frame: number 0, or no bytes.
pub fn encode_chunk_head(
    id: u32,
    bytes: usize,
    max_payload_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    assert!(id != 0 && bytes > 0, "numbers begin with 1, and a chunk has bytes");
    let payload_bytes = CHUNK_HEAD_BYTES.saturating_add(bytes);
    Framing::encode_native_head(kind::CHUNK, payload_bytes, max_payload_bytes, out)?;
    out.extend_from_slice(&id.to_le_bytes());
    Ok(())
}

/// Parses a frame of a transfer. Returns `None` if the kind of the frame is not one of transfers.
pub(crate) fn parse(frame: Frame<'_>) -> Result<Option<TransferFrame<'_>>, Violation> {
    let Frame { kind, payload } = frame;
    if !matches!(kind, kind::OFFER..=kind::ABORT | kind::GET..=kind::WORKING) {
        return Ok(None);
    }
    let malformed = |why| Violation::Malformed { kind, why };
    let mut fields = Fields::new(payload, kind, "it is shorter than its fields");
    let id = fields.u32()?;
    if id == 0 {
        return Err(malformed("its number is 0"));
    }
    let parsed = match kind {
        kind::OFFER => {
            let in_reply_to = fields.u32()?;
            let head = fields.take::<ENTRY_BYTES>()?;
            let block_bytes = fields.u16()?;
            let attributes = OfferAttributes::parse(fields.bytes(usize::from(block_bytes))?)?;
            let (entry, replace) = Entry::parse_head(&head, fields.rest());
            if let Some(fault) = entry.fault() {
                return Err(malformed(fault));
            }
            TransferFrame::Offer { id, in_reply_to, entry, replace, attributes }
        }
        kind::ACCEPT => {
            let offset = fields.u64()?;
            let limit = fields.u64()?;
            let prefix = fields.take()?;
            TransferFrame::Accept { id, offset, limit, prefix }
        }
        kind::CHUNK if fields.rest().is_empty() => return Err(malformed("its chunk is empty")),
        kind::CHUNK => TransferFrame::Chunk { id, bytes: fields.rest() },
        kind::CREDIT => TransferFrame::Credit { id, limit: fields.u64()? },
        kind::DONE => {
            let hash = fields.take()?;
            let delivery_id = fields.take().ok().map(DeliveryId);
            TransferFrame::Done { id, hash, delivery_id }
        }
        kind::WORKING => TransferFrame::Working { id },
        kind::ABORT => {
            let code = fields.u16()?;
            TransferFrame::Abort { id, code, text: cut(fields.rest(), MAX_ABORT_TEXT_BYTES) }
        }
        kind::GET => TransferFrame::Get { id, name: fields.rest() },
        kind::LIST => TransferFrame::List { id, after: fields.rest() },
        _ => {
            let [flags] = fields.take()?;
            let entries = ListingEntries::parse(fields.rest()).map_err(malformed)?;
            let more = flags & MORE != 0;
            if more && fields.rest().is_empty() {
                // No entry to continue after: the next request would get the same answer for ever.
                return Err(malformed("it announces more entries and has none"));
            }
            TransferFrame::Listed { id, more, entries }
        }
    };
    Ok(Some(parsed))
}

/// Returns the start of a text, at most `room` bytes, cut between two characters. Text that is not
/// UTF-8 may be cut anywhere.
fn cut(text: &[u8], room: usize) -> &[u8] {
    if text.len() <= room {
        return text;
    }
    let begins = |end: &usize| text[*end] & 0xc0 != 0x80;
    let end = (room.saturating_sub(3)..=room).rev().find(begins).unwrap_or(room);
    &text[..end]
}

/// The bytes of an offer's attributes with their length.
const MAX_ATTRIBUTES_BYTES: usize = 2 + 3 + 16;
/// The number of bytes of the longest fixed fields: those of an offer and of an accept.
const MAX_FIXED_BYTES: usize = 52;
const _: () = assert!(4 + 4 + ENTRY_BYTES + MAX_ATTRIBUTES_BYTES <= MAX_FIXED_BYTES);

/// The fixed fields of a frame.
struct FixedFields {
    bytes: [u8; MAX_FIXED_BYTES],
    len: usize,
}

impl FixedFields {
    fn new() -> Self {
        Self { bytes: [0; MAX_FIXED_BYTES], len: 0 }
    }

    fn put(&mut self, field: &[u8]) {
        self.bytes[self.len..self.len + field.len()].copy_from_slice(field);
        self.len += field.len();
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::EntryKind;
    use super::*;

    fn frames() -> Vec<TransferFrame<'static>> {
        let prefix = [7; 32];
        let hash = [9; 32];
        vec![
            TransferFrame::Offer {
                id: 1,
                in_reply_to: 2,
                entry: Entry {
                    kind: EntryKind::File,
                    size: 5 << 32,
                    modified_ns: Some(-3),
                    mode: Some(0o755),
                    name: b"a/b",
                },
                replace: Replace::Permitted,
                attributes: OfferAttributes {
                    delivery_id: Some(DeliveryId([5; 16])),
                    unknown_critical: None,
                },
            },
            TransferFrame::Offer {
                id: u32::MAX,
                in_reply_to: 0,
                entry: Entry {
                    kind: EntryKind::Directory,
                    size: 0,
                    modified_ns: None,
                    mode: None,
                    name: b"",
                },
                replace: Replace::Never,
                attributes: OfferAttributes::default(),
            },
            TransferFrame::Accept { id: 3, offset: 1 << 40, limit: u64::MAX, prefix },
            TransferFrame::Chunk { id: 4, bytes: b"bytes" },
            TransferFrame::Credit { id: 5, limit: 1 << 50 },
            TransferFrame::Done { id: 6, hash, delivery_id: None },
            TransferFrame::Done { id: 6, hash, delivery_id: Some(DeliveryId([6; 16])) },
            TransferFrame::Working { id: 9 },
            TransferFrame::Abort { id: 7, code: 0x0102, text: b"why" },
            TransferFrame::Get { id: 8, name: b"name" },
            TransferFrame::Abort { id: 7, code: 0, text: b"" },
            TransferFrame::List { id: 9, after: b"" },
            TransferFrame::List { id: 9, after: b"a/b" },
        ]
    }

    /// Returns the kind and the payload of the frame in these bytes. Panics if the bytes are not
    /// exactly one frame.
    fn open(bytes: &[u8]) -> Frame<'_> {
        assert_eq!(u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len() - 4);
        Frame { kind: bytes[4], payload: &bytes[5..] }
    }

    /// Returns the minimum payload length, in bytes, of such a frame.
    fn least_bytes(frame: &TransferFrame<'_>) -> usize {
        match frame {
            TransferFrame::Offer { attributes, .. } => {
                let mut block = Vec::new();
                attributes.encode(&mut block);
                8 + ENTRY_BYTES + block.len()
            }
            TransferFrame::Accept { .. } => 52,
            TransferFrame::Chunk { .. } | TransferFrame::Listed { .. } => 5,
            TransferFrame::Credit { .. } => 12,
            TransferFrame::Done { .. } => 36,
            TransferFrame::Abort { .. } => 6,
            TransferFrame::Get { .. }
            | TransferFrame::List { .. }
            | TransferFrame::Working { .. } => 4,
        }
    }

    #[test]
    fn a_frame_is_read_as_it_was_written_and_a_cut_one_is_malformed() {
        for frame in frames() {
            let mut bytes = Vec::new();
            frame.encode(1 << 20, &mut bytes).unwrap();
            let Frame { kind, payload } = open(&bytes);
            assert_eq!(kind, frame.kind());
            assert_eq!(payload[..4], frame.id().to_le_bytes());
            assert_eq!(parse(Frame { kind, payload }), Ok(Some(frame)));
            let least = least_bytes(&frame);
            for len in 0..least {
                let cut = parse(Frame { kind, payload: &payload[..len] });
                let is_malformed =
                    matches!(cut, Err(Violation::Malformed { kind: told, .. }) if told == kind);
                assert!(is_malformed, "{len} bytes of {frame:?}");
            }
            assert!(parse(Frame { kind, payload: &payload[..least] }).is_ok(), "{frame:?}");
        }
    }

    #[test]
    fn what_a_later_version_adds_is_ignored() {
        for frame in frames() {
            let mut bytes = Vec::new();
            frame.encode(1 << 20, &mut bytes).unwrap();
            if let TransferFrame::Offer { .. } = frame {
                bytes[5 + 8 + 18] |= 0xfc;
                bytes[5 + 8 + 17] |= if bytes[5 + 8 + 17] == 0xff { 0 } else { 0xfe };
            }
            if let TransferFrame::Accept { .. }
            | TransferFrame::Credit { .. }
            | TransferFrame::Done { .. }
            | TransferFrame::Working { .. } = frame
            {
                bytes.extend_from_slice(b"more");
            }
            let frame_read = parse(Frame { kind: bytes[4], payload: &bytes[5..] });
            assert_eq!(frame_read, Ok(Some(frame)));
        }
    }

    #[test]
    fn what_cannot_be_is_malformed_and_what_is_no_transfer_is_left_alone() {
        for frame in frames() {
            let mut bytes = Vec::new();
            frame.encode(1 << 20, &mut bytes).unwrap();
            bytes[5..9].fill(0);
            assert!(parse(Frame { kind: bytes[4], payload: &bytes[5..] }).is_err(), "number 0");
        }
        let mut bytes = Vec::new();
        frames()[0].encode(1 << 20, &mut bytes).unwrap();
        let mut payload = bytes.split_off(5);
        payload[8..16].copy_from_slice(&(1_u64 << 63).to_le_bytes());
        assert!(parse(Frame { kind: kind::OFFER, payload: &payload }).is_err());
        payload[8..16].copy_from_slice(&(i64::MAX as u64).to_le_bytes());
        assert!(parse(Frame { kind: kind::OFFER, payload: &payload }).is_ok());
        for kind in (0..10).chain([16, 17]).chain(22..=255) {
            assert_eq!(parse(Frame { kind, payload: &payload }), Ok(None));
        }
    }

    #[test]
    fn nothing_is_appended_where_it_does_not_fit() {
        for frame in frames() {
            let mut whole = Vec::new();
            frame.encode(1 << 20, &mut whole).unwrap();
            let mut out = b"before".to_vec();
            let len = whole.len() - 5;
            let fits = matches!(frame, TransferFrame::Abort { text: [_, ..], .. });
            assert_eq!(frame.encode(len - 1, &mut out).is_ok(), fits, "{frame:?}");
            assert!(fits || out == b"before");
            out.truncate(6);
            frame.encode(len, &mut out).unwrap();
            assert_eq!(out[6..], whole);
        }
    }

    #[test]
    fn what_every_peer_takes_is_enough_for_all_but_names_and_chunks() {
        for frame in frames() {
            assert!(least_bytes(&frame) <= crate::MIN_PEER_PAYLOAD_BYTES as usize, "{frame:?}");
        }
    }

    #[test]
    fn an_abort_is_cut_to_fit_between_two_characters() {
        let text = "ä".repeat(400);
        for (room, kept) in [(1 << 20, 512), (64, 58), (7, 0), (9, 2)] {
            let mut bytes = Vec::new();
            let abort = TransferFrame::Abort { id: 1, code: 1, text: text.as_bytes() };
            abort.encode(room, &mut bytes).unwrap();
            let Ok(Some(TransferFrame::Abort { text, .. })) = parse(open(&bytes)) else { panic!() };
            assert_eq!(text.len(), kept);
            assert!(std::str::from_utf8(text).is_ok());
        }
        // A peer may send a longer text; the kept part also ends between two characters.
        for (text, kept) in [("€".repeat(171), 510), ("x".repeat(513), 512)] {
            let payload = [&[1, 0, 0, 0, 1, 0], text.as_bytes()].concat();
            let frame = Frame { kind: kind::ABORT, payload: &payload };
            let Ok(Some(TransferFrame::Abort { text, .. })) = parse(frame) else { panic!() };
            assert_eq!(text.len(), kept);
        }
        assert_eq!(cut(&[0x80; 600], 512).len(), 512, "no text at all, and never more");
        assert_eq!(cut(&[0x80; 600], 0).len(), 0);
    }

    #[test]
    fn a_chunks_head_and_its_bytes_are_the_frame() {
        let mut whole = Vec::new();
        TransferFrame::Chunk { id: 9, bytes: b"hello" }.encode(64, &mut whole).unwrap();
        let mut parts = Vec::new();
        encode_chunk_head(9, 5, 64, &mut parts).unwrap();
        parts.extend_from_slice(b"hello");
        assert_eq!(parts, whole);
        assert!(encode_chunk_head(9, 61, 64, &mut parts).is_err());
        assert_eq!(parts, whole, "nothing was appended");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_payload_makes_it_panic_and_what_is_read_can_be_written_again(
            kind in 8_u8..23,
            id in prop_oneof![Just(0), Just(1), any::<u32>()],
            // Many zeros, so that sizes and lengths are small.
            rest in prop::collection::vec(prop_oneof![3 => Just(0_u8), 1 => any::<u8>()], 0..120),
        ) {
            let payload = [&id.to_le_bytes(), &rest[..]].concat();
            match parse(Frame { kind, payload: &payload }) {
                Ok(Some(frame)) => {
                    prop_assert_eq!((frame.kind(), frame.id()), (kind, id));
                    let mut again = Vec::new();
                    frame.encode(payload.len(), &mut again).unwrap();
                    prop_assert_eq!(parse(open(&again)), Ok(Some(frame)));
                }
                Ok(None) => prop_assert!(!(10..=15).contains(&kind) && !(18..=21).contains(&kind)),
                Err(error) => {
                    let is_malformed = matches!(error, Violation::Malformed { kind: told, .. }
                        if told == kind);
                    prop_assert!(is_malformed, "{}", error);
                }
            }
        }
    }
}
