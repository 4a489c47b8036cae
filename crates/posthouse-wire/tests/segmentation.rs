//! Tests that any segmentation of a stream gives the same messages in every framing, that decoding
//! is the inverse of encoding, and that no bytes make the reader panic or hold more than arrived.

use posthouse_wire::{
    Delimiter, EncodeError, Endian, FrameError, Framing, LengthField, MAX_DELIMITER_BYTES, Reader,
    ReaderConfig,
};
use proptest::collection::vec;
use proptest::prelude::*;

type Messages = Vec<(u8, Vec<u8>)>;

/// Feeds `stream` in chunks of the given sizes, over and over, and checks after each step what must
/// hold for any bytes.
fn read_in_chunks(
    config: &ReaderConfig,
    stream: &[u8],
    sizes: &[usize],
) -> (Messages, Option<FrameError>) {
    let mut reader = Reader::new();
    let mut messages = Messages::new();
    let mut rest = stream;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let (mut chunk, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
        rest = after;
        loop {
            let before = chunk.len();
            // Every second frame may take the fast path, which never changes the result.
            let accepts = |kind: u8| (messages.len() + usize::from(kind)).is_multiple_of(2);
            let max = config.max_payload_bytes;
            if let Some(frame) = reader.next_whole(config, max, accepts, &mut chunk) {
                assert!(frame.payload.len() <= max && chunk.len() < before);
                messages.push((frame.kind, frame.payload.to_vec()));
                continue;
            }
            assert_eq!(chunk.len(), before);
            match reader.next(config, config.max_payload_bytes, &mut chunk) {
                Ok(Some(frame)) => {
                    assert!(frame.payload.len() <= config.max_payload_bytes);
                    messages.push((frame.kind, frame.payload.to_vec()));
                    assert!(!reader.is_partial());
                    assert!(chunk.len() < before);
                }
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        assert!(chunk.is_empty());
        let fed = stream.len() - rest.len();
        assert!(reader.held() <= fed.min(config.max_payload_bytes + MAX_DELIMITER_BYTES + 264));
        assert!(reader.allocated() <= 2 * reader.held().max(4));
        assert_eq!(reader.is_partial(), reader.held() > 0);
    }
    if let Some(frame) = reader.finish(config) {
        messages.push((frame.kind, frame.payload.to_vec()));
    }
    (messages, None)
}

fn length_field() -> impl Strategy<Value = LengthField> {
    let width = prop::sample::select(vec![1_u8, 2, 3, 4, 8]);
    let endian = prop::sample::select(vec![Endian::Big, Endian::Little]);
    (0_u8..6, width, endian, -20_i32..20, any::<prop::sample::Index>()).prop_map(
        |(offset, width, endian, adjust, strip)| {
            let mut strips: Vec<u16> = (0..=u16::from(offset)).collect();
            strips.push(u16::from(offset) + u16::from(width));
            LengthField::new(offset, width, endian, adjust, *strip.get(&strips)).unwrap()
        },
    )
}

/// Framings that give the messages back one by one; few letters, so delimiters come close often.
fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![
        Just(Framing::Native),
        Just(Framing::Lines),
        length_field().prop_map(Framing::Length),
        vec(letter(), 1..5).prop_map(|bytes| Framing::Delimiter(Delimiter::new(&bytes).unwrap())),
    ]
}

fn letter() -> impl Strategy<Value = u8> {
    prop::sample::select(b"ab\r\n\0".to_vec())
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(1_usize..40, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_was_encoded_is_decoded_in_any_segmentation(
        framing in framing(),
        payloads in vec((any::<u8>(), vec(letter(), 0..60)), 0..12),
        sizes in sizes(),
    ) {
        let config = ReaderConfig { framing, max_payload_bytes: 50 };
        let mut stream = Vec::new();
        let mut expected = Messages::new();
        for (kind, payload) in payloads {
            let kind = if config.framing == Framing::Native { kind } else { 0 };
            let before = stream.len();
            match config.framing.encode(kind, &payload, 50, &mut stream) {
                // The encoder overwrites a field that stays in the message, and keeps the rest.
                Ok(()) => {
                    let kept = kept_field(&config.framing);
                    let mut payload = payload;
                    if let Some((field, strip)) = kept {
                        let sent = &stream[before + strip..];
                        payload[field.clone()].copy_from_slice(&sent[field]);
                    }
                    expected.push((kind, payload));
                }
                Err(error) => {
                    prop_assert_eq!(stream.len(), before);
                    match error {
                        EncodeError::TooLarge { len, .. } => prop_assert!(len > 50),
                        EncodeError::TooShort { len, min } => prop_assert!(len < min),
                        EncodeError::ContainsDelimiter { at } => prop_assert!(at < payload.len()),
                        other => prop_assert!(false, "{}", other),
                    }
                }
            }
        }
        let whole = read_in_chunks(&config, &stream, &[usize::MAX]);
        prop_assert_eq!(&whole, &(expected, None));
        prop_assert_eq!(read_in_chunks(&config, &stream, &[1]), whole.clone());
        prop_assert_eq!(read_in_chunks(&config, &stream, &sizes), whole);
    }

    #[test]
    fn an_echoed_message_makes_the_same_frame_again(
        field in length_field(),
        payload in vec(any::<u8>(), 0..60),
    ) {
        let config = ReaderConfig { framing: Framing::Length(field), max_payload_bytes: 100 };
        let mut stream = Vec::new();
        if config.framing.encode(0, &payload, 100, &mut stream).is_ok() {
            let (messages, _) = read_in_chunks(&config, &stream, &[usize::MAX]);
            let mut echo = Vec::new();
            config.framing.encode(0, &messages[0].1, 100, &mut echo).unwrap();
            prop_assert_eq!(echo, stream);
        }
    }

    #[test]
    fn garbage_gives_the_same_messages_and_the_same_end_in_any_segmentation(
        framing in framing(),
        garbage in vec(prop_oneof![letter(), Just(1), Just(5), any::<u8>()], 0..400),
        sizes in sizes(),
        max_payload_bytes in 0_usize..300,
    ) {
        let config = ReaderConfig { framing, max_payload_bytes };
        let whole = read_in_chunks(&config, &garbage, &[usize::MAX]);
        for sizes in [&[1][..], &sizes] {
            let cut = read_in_chunks(&config, &garbage, sizes);
            prop_assert_eq!(&cut.0, &whole.0);
            match (cut.1, whole.1) {
                // Without an announced length the reported size depends on the chunks.
                (Some(FrameError::TooLarge { .. }), Some(FrameError::TooLarge { .. })) => {}
                (cut, whole) => prop_assert_eq!(cut, whole),
            }
        }
    }

    #[test]
    fn raw_passes_every_byte_on_in_order(
        bytes in vec(any::<u8>(), 0..300),
        sizes in sizes(),
        max_payload_bytes in 1_usize..50,
    ) {
        let config = ReaderConfig { framing: Framing::Raw, max_payload_bytes };
        let (messages, error) = read_in_chunks(&config, &bytes, &sizes);
        prop_assert_eq!(error, None);
        let joined: Vec<u8> = messages.into_iter().flat_map(|(_, payload)| payload).collect();
        prop_assert_eq!(joined, bytes);
    }

    #[test]
    fn a_framing_is_read_as_it_is_written(framing in framing()) {
        prop_assert_eq!(framing.to_string().parse(), Ok(framing));
    }

    #[test]
    fn any_text_is_a_framing_or_an_error_that_quotes_it(
        text in "(length:|delimiter:|)[ -~]{0,20}",
    ) {
        if let Err(error) = text.parse::<Framing>() {
            prop_assert!(error.to_string().len() > 30, "{}", error);
        }
    }
}

/// Returns the position of the length field in the message, if it stays in it, and the number of
/// stripped bytes.
fn kept_field(framing: &Framing) -> Option<(std::ops::Range<usize>, usize)> {
    let Framing::Length(field) = framing else { return None };
    let strip = usize::from(field.strip());
    let at = usize::from(field.offset());
    let from = at.checked_sub(strip)?;
    Some((from..from + usize::from(field.width()), strip))
}
