//! The round trip of a frame: it is written as it was read, and read again as the same.

use std::time::Duration;

use posthouse_wire::{
    Entry, EntryKind, Frame, Framing, MAX_ABORT_TEXT_BYTES, MAX_PAYLOAD_BYTES, Reader,
    ReaderConfig, Session, SessionConfig, SessionEvent, TransferFrame, encode_reply,
    encode_request,
};

use crate::frames::{ABORT, ACCEPT, CHUNK, CREDIT, DONE, GET, LIST, LISTED, WORKING, frame};

/// Checks a request or a reply.
pub(super) fn check_request(from: Frame<'_>, event: &SessionEvent<'_>) {
    let mut bytes = Vec::new();
    match *event {
        SessionEvent::Request { id, kind, payload } => {
            encode_request(id, kind, payload, MAX_PAYLOAD_BYTES, &mut bytes)
        }
        SessionEvent::Reply { id, status, kind, payload } => {
            encode_reply(id, status, kind, payload, MAX_PAYLOAD_BYTES, &mut bytes)
        }
        _ => unreachable!("{event:?}"),
    }
    .expect("it has come");
    let mut original = frame(from.kind, from.payload);
    if let SessionEvent::Reply { status, .. } = event {
        original[9] = *status as u8; // every other number is a refusal, too
    }
    assert_eq!(bytes, original);
}

/// Checks a frame of a transfer.
pub(super) fn check_transfer(from: Frame<'_>, parsed: TransferFrame<'_>) {
    assert_eq!(parsed.kind(), from.kind);
    assert_ne!(parsed.id(), 0);
    check_values(&parsed);
    if let TransferFrame::Offer { attributes, .. } = parsed
        && attributes.unknown_critical.is_some()
    {
        return; // this side does not know how to write it
    }
    let mut bytes = Vec::new();
    parsed.encode(MAX_PAYLOAD_BYTES, &mut bytes).expect("it has come");
    let original = frame(from.kind, from.payload);
    match from.kind {
        // No byte of these is ignored.
        CHUNK | GET | LIST => assert_eq!(bytes, original),
        // A text is cut.
        ABORT if from.payload.len() <= 512 => assert_eq!(bytes, original),
        // Bytes after the fields are ignored.
        ABORT | ACCEPT | CREDIT | DONE | WORKING => {
            assert_eq!(bytes[5..], from.payload[..bytes.len() - 5]);
        }
        // Undefined flags are not written again.
        LISTED => assert_eq!(bytes.len(), original.len()),
        _ => assert!(bytes.len() <= original.len()),
    }
    read_again(&bytes, parsed);
}

/// Checks that the values are ones that every system can hold.
fn check_values(parsed: &TransferFrame<'_>) {
    let check = |entry: &Entry<'_>| {
        assert!(i64::try_from(entry.size).is_ok());
        assert!(entry.kind == EntryKind::File || entry.size == 0, "a directory with bytes");
        assert!(entry.mode.is_none_or(|mode| mode <= 0o777));
    };
    match *parsed {
        TransferFrame::Offer { ref entry, .. } => check(entry),
        TransferFrame::Chunk { bytes, .. } => assert!(!bytes.is_empty()),
        TransferFrame::Abort { text, .. } => assert!(text.len() <= MAX_ABORT_TEXT_BYTES),
        TransferFrame::Listed { more, entries, .. } => {
            assert!(!more || entries.count() > 0, "more after nothing");
            for entry in entries {
                check(&entry);
            }
        }
        _ => {}
    }
}

/// Reads a frame in an established session.
fn read_again(mut bytes: &[u8], expected: TransferFrame<'_>) {
    let config = SessionConfig::default();
    let now = Duration::ZERO;
    let mut client = Session::connecting();
    let mut server = Session::accepted();
    let mut hello = Vec::new();
    client.start(&config, [1; 16], &mut hello);
    let frame = Frame { kind: hello[4], payload: &hello[5..] };
    let event = server.handle_frame(&config, now, &mut || [2; 16], frame, &mut Vec::new());
    assert_eq!(event, Ok(SessionEvent::Established));
    let framing = Framing::Native;
    let reader_config = ReaderConfig { framing, max_payload_bytes: MAX_PAYLOAD_BYTES };
    let mut reader = Reader::new();
    let frame = reader.next(&reader_config, usize::MAX, &mut bytes).expect("a valid frame");
    let frame = frame.expect("a whole frame");
    let event = server.handle_frame(&config, now, &mut || [2; 16], frame, &mut Vec::new());
    match (event, expected) {
        // Two lists of entries are the same if their entries are.
        (
            Ok(SessionEvent::Transfer(TransferFrame::Listed { id, more, entries })),
            TransferFrame::Listed { id: expected_id, more: expected_more, entries: expected },
        ) => {
            assert_eq!((id, more), (expected_id, expected_more));
            assert!(entries.eq(expected));
        }
        (event, expected) => assert_eq!(event, Ok(SessionEvent::Transfer(expected))),
    }
}
