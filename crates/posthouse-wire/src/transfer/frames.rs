//! The frames of file transfers, once both sides have said in their hello that they know them.

use super::ListingEntries;
use crate::fields::Fields;
use crate::{EncodeError, Frame, Framing, Violation, kind};

/// The bit of a hello's features that says: this side transfers files.
pub const FEATURE_TRANSFERS: u32 = 1;
/// Bytes of a chunk's payload before the file's own.
pub const CHUNK_HEAD_BYTES: usize = 4;
/// The longest text of an abort that is sent, and the most that is kept of one.
pub const MAX_ABORT_TEXT_BYTES: usize = 512;

/// One frame of a transfer. Names and texts are the peer's own bytes, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferFrame<'a> {
    /// There is a file to send. Said again for the same id, after the accept and before a chunk:
    /// what you hold is not its beginning.
    Offer {
        /// Its number.
        id: u32,
        /// The number of the get that it answers; 0: none.
        in_reply_to: u32,
        /// Bytes of the file, at most `i64::MAX`.
        size: u64,
        /// When it was modified, in ms since 1970.
        modified_ms: Option<i64>,
        /// Whether its owner may execute it.
        executable: bool,
        /// Its name.
        name: &'a [u8],
    },
    /// Send it.
    Accept {
        /// The offer's number.
        id: u32,
        /// From where on; what is before it is there.
        offset: u64,
        /// Up to where it may be sent before more credit comes.
        limit: u64,
        /// BLAKE3 of what is there.
        prefix: [u8; 32],
    },
    /// The next bytes of the file.
    Chunk {
        /// The offer's number.
        id: u32,
        /// At least one.
        bytes: &'a [u8],
    },
    /// More may be sent.
    Credit {
        /// The offer's number.
        id: u32,
        /// Up to where.
        limit: u64,
    },
    /// Of the sender: that was all. Of the receiver: it is all there, on the disk.
    Done {
        /// The offer's number.
        id: u32,
        /// BLAKE3 of the whole file.
        hash: [u8; 32],
    },
    /// It is given up, be it an offer, a get or a list.
    Abort {
        /// Its number.
        id: u32,
        /// Why: see [`abort_code`](super::abort_code).
        code: u16,
        /// For people.
        text: &'a [u8],
    },
    /// Offer me this file.
    Get {
        /// The wish's number.
        id: u32,
        /// The file's name.
        name: &'a [u8],
    },
    /// Tell me what files there are.
    List {
        /// The wish's number.
        id: u32,
        /// After which name to go on; empty: from the beginning.
        after: &'a [u8],
    },
    /// The answer to that.
    Listed {
        /// The wish's number.
        id: u32,
        /// Whether others follow the last one.
        more: bool,
        /// In the order of the bytes of their names.
        entries: ListingEntries<'a>,
    },
}

/// Flag of a file: its owner may execute it.
pub(super) const EXECUTABLE: u8 = 0x01;
/// Flag of a listing: others follow its last entry.
pub(super) const MORE: u8 = 0x01;
/// The largest size: what every system can say of a file.
pub(super) const MAX_FILE_SIZE: u64 = i64::MAX as u64;
/// What stands for a time that is not said.
pub(super) const NO_TIME: i64 = i64::MIN;

impl TransferFrame<'_> {
    /// Its kind on the wire.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Offer { .. } => kind::OFFER,
            Self::Accept { .. } => kind::ACCEPT,
            Self::Chunk { .. } => kind::CHUNK,
            Self::Credit { .. } => kind::CREDIT,
            Self::Done { .. } => kind::DONE,
            Self::Abort { .. } => kind::ABORT,
            Self::Get { .. } => kind::GET,
            Self::List { .. } => kind::LIST,
            Self::Listed { .. } => kind::LISTED,
        }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        match *self {
            Self::Offer { id, .. }
            | Self::Accept { id, .. }
            | Self::Chunk { id, .. }
            | Self::Credit { id, .. }
            | Self::Done { id, .. }
            | Self::Abort { id, .. }
            | Self::Get { id, .. }
            | Self::List { id, .. }
            | Self::Listed { id, .. } => id,
        }
    }

    /// Appends the frame, or appends nothing and errors. An abort's text is cut to fit. (For a
    /// listing of one's own there is [`encode_listed`](crate::encode_listed).)
    ///
    /// # Errors
    ///
    /// Where the payload is larger than `max_payload_bytes`.
    ///
    /// # Panics
    ///
    /// Where the peer would refuse it: number 0, a chunk without bytes, a size beyond `i64::MAX`.
    pub fn encode(&self, max_payload_bytes: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        assert_ne!(self.id(), 0, "numbers begin with 1");
        let mut head = FixedFields::new();
        head.put(&self.id().to_le_bytes());
        let body = match *self {
            Self::Offer { in_reply_to, size, modified_ms, executable, name, .. } => {
                assert!(size <= MAX_FILE_SIZE, "no file has this size");
                head.put(&in_reply_to.to_le_bytes());
                head.put(&size.to_le_bytes());
                head.put(&modified_ms.unwrap_or(NO_TIME).to_le_bytes());
                head.put(&[u8::from(executable) * EXECUTABLE]);
                name
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
            Self::Done { ref hash, .. } => {
                head.put(hash);
                &[]
            }
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

/// Appends what comes before a chunk's bytes, which the caller lets follow.
///
/// # Errors
///
/// Where the payload is larger than `max_payload_bytes`.
///
/// # Panics
///
/// Where the peer would refuse it: number 0, or no bytes.
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

/// Reads a frame of a kind that belongs to transfers; `None`: the kind does not.
pub(crate) fn parse(frame: Frame<'_>) -> Result<Option<TransferFrame<'_>>, Violation> {
    let Frame { kind, payload } = frame;
    if !matches!(kind, kind::OFFER..=kind::ABORT | kind::GET..=kind::LISTED) {
        return Ok(None);
    }
    let malformed = |why| Violation::Malformed { kind, why };
    let mut fields = Fields::new(payload, kind, "shorter than its fields");
    let id = fields.u32()?;
    if id == 0 {
        return Err(malformed("number 0"));
    }
    let parsed = match kind {
        kind::OFFER => {
            let (in_reply_to, size) = (fields.u32()?, fields.u64()?);
            let modified = i64::from_le_bytes(fields.take()?);
            let [flags] = fields.take()?;
            if size > MAX_FILE_SIZE {
                return Err(malformed("a size that no file has"));
            }
            let modified_ms = (modified != NO_TIME).then_some(modified);
            let executable = flags & EXECUTABLE != 0;
            let name = fields.rest();
            TransferFrame::Offer { id, in_reply_to, size, modified_ms, executable, name }
        }
        kind::ACCEPT => {
            let (offset, limit, prefix) = (fields.u64()?, fields.u64()?, fields.take()?);
            TransferFrame::Accept { id, offset, limit, prefix }
        }
        kind::CHUNK if fields.rest().is_empty() => return Err(malformed("no bytes")),
        kind::CHUNK => TransferFrame::Chunk { id, bytes: fields.rest() },
        kind::CREDIT => TransferFrame::Credit { id, limit: fields.u64()? },
        kind::DONE => TransferFrame::Done { id, hash: fields.take()? },
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
                // After what? Whoever asks on would get the same answer for ever.
                return Err(malformed("more is to follow and nothing is there"));
            }
            TransferFrame::Listed { id, more, entries }
        }
    };
    Ok(Some(parsed))
}

/// The part of a text that fits, ending between two characters. What is no UTF-8 is cut anywhere.
fn cut(text: &[u8], room: usize) -> &[u8] {
    if text.len() <= room {
        return text;
    }
    let begins = |end: &usize| text[*end] & 0xc0 != 0x80;
    let end = (room.saturating_sub(3)..=room).rev().find(begins).unwrap_or(room);
    &text[..end]
}

/// The fixed fields of a frame: at most an accept's.
struct FixedFields {
    bytes: [u8; 4 + 8 + 8 + 32],
    len: usize,
}

impl FixedFields {
    fn new() -> Self {
        Self { bytes: [0; 52], len: 0 }
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

    use super::*;

    fn frames() -> Vec<TransferFrame<'static>> {
        let (prefix, hash) = ([7; 32], [9; 32]);
        vec![
            TransferFrame::Offer {
                id: 1,
                in_reply_to: 2,
                size: 5 << 32,
                modified_ms: Some(-3),
                executable: true,
                name: b"a/b",
            },
            TransferFrame::Offer {
                id: u32::MAX,
                in_reply_to: 0,
                size: 0,
                modified_ms: None,
                executable: false,
                name: b"",
            },
            TransferFrame::Accept { id: 3, offset: 1 << 40, limit: u64::MAX, prefix },
            TransferFrame::Chunk { id: 4, bytes: b"bytes" },
            TransferFrame::Credit { id: 5, limit: 1 << 50 },
            TransferFrame::Done { id: 6, hash },
            TransferFrame::Abort { id: 7, code: 0x0102, text: b"why" },
            TransferFrame::Get { id: 8, name: b"name" },
            TransferFrame::Abort { id: 7, code: 0, text: b"" },
            TransferFrame::List { id: 9, after: b"" },
            TransferFrame::List { id: 9, after: b"a/b" },
        ]
    }

    /// The kind and the payload of the one frame in these bytes.
    fn open(bytes: &[u8]) -> Frame<'_> {
        assert_eq!(u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len() - 4);
        Frame { kind: bytes[4], payload: &bytes[5..] }
    }

    /// Bytes without which the frame is malformed.
    fn least_bytes(frame: &TransferFrame<'_>) -> usize {
        match frame {
            TransferFrame::Offer { .. } => 25,
            TransferFrame::Accept { .. } => 52,
            TransferFrame::Chunk { .. } | TransferFrame::Listed { .. } => 5,
            TransferFrame::Credit { .. } => 12,
            TransferFrame::Done { .. } => 36,
            TransferFrame::Abort { .. } => 6,
            TransferFrame::Get { .. } | TransferFrame::List { .. } => 4,
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
                bytes[5 + 24] |= 0xfe;
            }
            if let TransferFrame::Accept { .. }
            | TransferFrame::Credit { .. }
            | TransferFrame::Done { .. } = frame
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
        for kind in (0..10).chain([16, 17]).chain(21..=255) {
            assert_eq!(parse(Frame { kind, payload: &payload }), Ok(None));
        }
    }

    #[test]
    fn nothing_is_appended_where_it_does_not_fit() {
        for frame in frames() {
            let mut whole = Vec::new();
            frame.encode(1 << 20, &mut whole).unwrap();
            let (mut out, len) = (b"before".to_vec(), whole.len() - 5);
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
        // A peer may send more; what is kept of it ends between two characters, too.
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
            // Zeros often, so that sizes and lengths come out small.
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
                Ok(None) => prop_assert!(!(10..=15).contains(&kind) && !(18..=20).contains(&kind)),
                Err(error) => {
                    let is_malformed = matches!(error, Violation::Malformed { kind: told, .. }
                        if told == kind);
                    prop_assert!(is_malformed, "{}", error);
                }
            }
        }
    }
}
