use super::*;
use crate::op_count;

const MIB: usize = 1 << 20;

fn config(framing: &str, max_payload_bytes: usize) -> ReaderConfig {
    ReaderConfig { framing: framing.parse().unwrap(), max_payload_bytes }
}

fn encoded(config: &ReaderConfig, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    config.framing.encode(0, payload, usize::MAX, &mut out).unwrap();
    out
}

/// Reads `stream` in chunks of `chunk_bytes`; the payloads, and the error that ended it.
fn read_all(
    config: &ReaderConfig,
    stream: &[u8],
    chunk_bytes: usize,
) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut reader = Reader::new();
    let mut payloads = Vec::new();
    for mut chunk in stream.chunks(chunk_bytes) {
        loop {
            match reader.next(config, usize::MAX, &mut chunk) {
                Ok(Some(frame)) => payloads.push(frame.payload.to_vec()),
                Ok(None) => break,
                Err(error) => return (payloads, Some(error)),
            }
        }
    }
    (payloads, None)
}

#[test]
fn a_frame_of_a_mebibyte_costs_linear_work_one_byte_at_a_time() {
    let worst = format!("delimiter:{}b", "a".repeat(63));
    for framing in ["native", "lines", "length", "delimiter:\r\n", &worst] {
        let config = config(framing, MIB);
        let payload = vec![b'a'; MIB];
        let stream = match &config.framing {
            // The payload ends where the delimiter begins, so it cannot consist of its letter.
            Framing::Delimiter(end) if end.bytes().len() == 64 => {
                let mut stream = vec![b'a'; MIB + 63];
                stream.push(b'b');
                stream
            }
            _ => encoded(&config, &payload),
        };
        let bytes_touched = op_count::during(|| {
            let (payloads, error) = read_all(&config, &stream, 1);
            assert_eq!((payloads.len(), error), (1, None), "{framing}");
            assert_eq!(payloads[0], payload, "{framing}");
        });
        // Each byte is copied once, twice more as capacity doubles, and compared twice at most.
        assert!(
            bytes_touched <= 5 * stream.len() as u64,
            "{framing}: {bytes_touched} for {} bytes",
            stream.len()
        );
    }
}

#[test]
fn many_small_frames_in_one_chunk_are_not_copied() {
    let config = config("native", 1024);
    let stream = encoded(&config, b"hello").repeat(1000);
    let bytes_touched =
        op_count::during(|| assert_eq!(read_all(&config, &stream, usize::MAX).0.len(), 1000));
    assert_eq!(bytes_touched, 0);
}

#[test]
fn a_refused_length_allocates_nothing() {
    for (framing, head) in [
        ("native", &[0xff, 0xff, 0xff, 0][..]),
        ("native", &[0xff; 4]),
        ("native", &[0; 4]),
        ("length", &[0xff; 4]),
        ("length:width=8,strip=0", &[0xff; 8]),
        ("length:adjust=-4", &[0, 0, 0, 3]),
    ] {
        let config = config(framing, MIB);
        let mut reader = Reader::new();
        let error = reader.next(&config, usize::MAX, &mut &head[..]).unwrap_err();
        assert_eq!(reader.allocated(), 0, "{framing}: {error}");
        // With one byte at a time the reader never holds more than the head.
        assert_eq!(read_all(&config, head, 1).1.as_ref(), Some(&error), "{framing}");
    }
}

#[test]
fn the_smaller_of_both_limits_holds_and_the_limit_itself_passes() {
    for framing in ["native", "lines", "length", "delimiter:||"] {
        let wide = config(framing, 100);
        for chunk_bytes in [1, 7, 1000] {
            assert_eq!(read_all(&wide, &encoded(&wide, &[b'x'; 100]), chunk_bytes).0.len(), 1);
            let (payloads, error) = read_all(&wide, &encoded(&wide, &[b'x'; 101]), chunk_bytes);
            assert!(payloads.is_empty());
            let told = matches!(error, Some(FrameError::TooLarge { announced: 101, max: 100 }));
            assert!(told, "{framing}: {error:?}");
        }
        let stream = encoded(&wide, &[b'x'; 11]);
        let error = Reader::new().next(&wide, 10, &mut &stream[..]).unwrap_err();
        assert!(matches!(error, FrameError::TooLarge { max: 10, .. }), "{framing}: {error:?}");
    }
}

#[test]
fn memory_follows_the_bytes_received_and_goes_with_the_frame() {
    let config = config("native", MIB);
    let stream = encoded(&config, &vec![7; MIB]);
    let mut reader = Reader::new();
    for (at, byte) in stream.iter().enumerate() {
        let mut chunk = std::slice::from_ref(byte);
        let complete = reader.next(&config, MIB, &mut chunk).unwrap().is_some();
        assert_eq!(complete, at + 1 == stream.len());
        assert_eq!(reader.is_partial(), !complete);
        assert_eq!(reader.held(), if complete { 0 } else { at + 1 });
        assert!(reader.allocated() <= 2 * (at + 1).max(4), "{} at {at}", reader.allocated());
    }
    assert_eq!(reader.next(&config, MIB, &mut &[][..]), Ok(None));
    assert_eq!(reader.allocated(), 0);
}

#[test]
fn capacity_stops_at_the_announced_length() {
    let config = config("native", MIB);
    let stream = encoded(&config, &[7; 1000]);
    let mut reader = Reader::new();
    for mut chunk in stream[..900].chunks(300) {
        assert_eq!(reader.next(&config, MIB, &mut chunk), Ok(None));
    }
    assert!(reader.allocated() <= stream.len(), "{}", reader.allocated());
}

#[test]
fn a_line_may_end_either_way_and_the_last_one_without_an_end() {
    let config = config("lines", 3);
    for chunk_bytes in 1..8 {
        let mut reader = Reader::new();
        let mut lines = Vec::new();
        for mut chunk in b"one\r\n\ntwo\na\rb\n\r\r\nend\r".chunks(chunk_bytes) {
            while let Some(frame) = reader.next(&config, 3, &mut chunk).unwrap() {
                lines.push(frame.payload.to_vec());
            }
        }
        assert!(reader.is_partial());
        assert_eq!(lines, [&b"one"[..], b"", b"two", b"a\rb", b"\r"]);
        let last = Frame { kind: 0, payload: b"end" };
        assert_eq!(reader.finish(&config), Some(last));
        assert!(!reader.is_partial());
        assert_eq!(reader.finish(&config), None);
        assert_eq!(reader.allocated(), 0);
    }
}

#[test]
fn an_unfinished_frame_is_no_message_at_the_end_of_the_stream() {
    for framing in ["native", "length", "delimiter:||"] {
        let config = config(framing, 100);
        let stream = encoded(&config, b"message");
        let mut reader = Reader::new();
        assert_eq!(reader.next(&config, 100, &mut &stream[..stream.len() - 1]), Ok(None));
        assert_eq!(reader.finish(&config), None);
        assert!(reader.is_partial(), "{framing}");
    }
}

#[test]
fn raw_gives_each_chunk_in_pieces_within_the_limit() {
    let config = config("raw", 4);
    assert_eq!(read_all(&config, b"abcdefghi", 6).0, [&b"abcd"[..], b"ef", b"ghi"]);
    let mut input = &b"xy"[..];
    let piece = Reader::new().next(&config, 0, &mut input).unwrap().unwrap().payload.to_vec();
    assert_eq!((&piece[..], input), (&b"x"[..], &b"y"[..]));
}

#[test]
fn foreign_traffic_is_named_however_it_is_cut() {
    let record = |len: u8| [0x16, 3, 1, 0, len, 1, 0, 0, len - 4, 3, 3, 0x5a];
    for (stream, expected) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], Foreign::Http),
        (b"POST /x HTTP/1.1\r\n", Foreign::Http),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Foreign::Http),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Foreign::Tls),
        (&record(0xa5), Foreign::Tls),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Foreign::Ssh),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Foreign::Proxy),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", Foreign::Proxy),
    ] {
        for chunk_bytes in 1..=stream.len() {
            for limit in [100, MIB] {
                let (payloads, error) = read_all(&config("native", limit), stream, chunk_bytes);
                assert_eq!(error, Some(FrameError::Foreign(expected)));
                assert!(payloads.is_empty());
            }
        }
    }
}

#[test]
fn foreign_traffic_is_looked_for_at_the_beginning_only() {
    let config = config("native", MIB);
    let mut stream = encoded(&config, b"first");
    stream.extend_from_slice(b"GET / HTTP/1.1\r\n");
    for chunk_bytes in [1, 3, 100] {
        let (payloads, error) = read_all(&config, &stream, chunk_bytes);
        assert_eq!(payloads, [b"first"]);
        assert_eq!(error, Some(FrameError::BadFlags { flags: b' ' }));
    }
    // A message with the bytes of a client hello passes if it is not the first.
    let mut hello = vec![0; 0x01_0315 - 6];
    hello.splice(0..0, [1, 0, 0, 0xa1, 3, 3]);
    let mut stream = encoded(&config, b"first");
    let begin = stream.len();
    Framing::Native.encode(0xa5, &hello, MIB, &mut stream).unwrap();
    let (payloads, error) = read_all(&config, &stream[begin..], 1000);
    assert_eq!((payloads.len(), error), (0, Some(FrameError::Foreign(Foreign::Tls))));
    assert_eq!(read_all(&config, &stream, 1000), (vec![b"first".to_vec(), hello], None));
    // A message with the length that a client hello announces passes if its other bytes differ.
    let stream = encoded(&config, &vec![1; 0x01_0315]);
    assert_eq!(stream[..4], [0x16, 3, 1, 0]);
    assert_eq!(read_all(&config, &stream, 1000), (vec![vec![1; 0x01_0315]], None));
}
