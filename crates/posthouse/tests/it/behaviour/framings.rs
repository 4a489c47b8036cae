//! Framings other than the native one.

use std::time::Duration;

use posthouse::{EndpointOptions, Framing, Listener};

use crate::harness::{Harness, everywhere, target};
use crate::probe::Probe;

/// Sends bytes in pieces. Expects these messages in the handler and these bytes as their echo.
fn exchange(harness: &Harness<'_>, framing: &str, sent: &[u8], messages: &[&[u8]], echoed: &[u8]) {
    let framing: Framing = framing.parse().expect("a framing");
    for piece in [1, 3, sent.len()] {
        let probe = Probe::echo();
        let seen = probe.seen();
        let listener = Listener::new(harness.address()).framing(framing.clone());
        let server = harness.start(harness.options().builder(probe, listener));
        let mut raw = harness.dial(&server);
        sent.chunks(piece).for_each(|piece| raw.send(piece));
        raw.finish();
        harness.wait_for("all messages", || seen.messages().len() >= messages.len());
        assert_eq!(harness.read(&mut raw, echoed.len()), echoed, "{framing}");
        harness.wait_for_end(&mut raw);
        let expected: Vec<_> = messages.iter().map(|body| (0, body.to_vec())).collect();
        assert_eq!(seen.messages(), expected, "{framing} in pieces of {piece}");
        harness.end(&server);
        seen.told();
    }
}

#[test]
fn lines_end_at_a_line_feed_and_the_last_one_at_the_end() {
    everywhere(|harness| {
        let messages: [&[u8]; 4] = [b"one", b"two", b"", b"last"];
        exchange(harness, "lines", b"one\r\ntwo\n\nlast", &messages, b"one\ntwo\n\nlast\n");
    });
}

#[test]
fn a_delimiter_ends_a_message_and_what_is_left_is_lost() {
    everywhere(|harness| {
        let messages: [&[u8]; 3] = [b"a", b"", b"b--c"];
        exchange(harness, "delimiter:-->", b"a-->-->b--c-->left", &messages, b"a-->-->b--c-->");
    });
}

#[test]
fn a_length_field_says_how_long_a_message_is() {
    everywhere(|harness| {
        let messages: [&[u8]; 2] = [b"abc", b""];
        exchange(harness, "length:width=2", b"\0\x03abc\0\0", &messages, b"\0\x03abc\0\0");
        let own = "length:width=4,endian=little,adjust=-4";
        exchange(harness, own, b"\x06\0\0\0xy", &[b"xy"], b"\x06\0\0\0xy");
        // The header is kept in the message, and the echo has the correct length in its field.
        let kept = "length:offset=1,width=1,strip=0";
        exchange(harness, kept, b"T\x02hiU\x00", &[b"T\x02hi", b"U\x00"], b"T\x02hiU\x00");
    });
}

#[test]
fn raw_pieces_come_as_they_come() {
    everywhere(|harness| {
        let probe = Probe::echo();
        let seen = probe.seen();
        let listener = Listener::new(harness.address()).framing(Framing::Raw);
        let server = harness.start(harness.options().builder(probe, listener));
        let mut raw = harness.dial(&server);
        raw.send(b"in pieces");
        assert_eq!(harness.read(&mut raw, 9), b"in pieces");
        let all: Vec<u8> = seen.messages().into_iter().flat_map(|(_, body)| body).collect();
        assert_eq!(all, b"in pieces");
        drop(raw);
        harness.end(&server);
    });
}

#[test]
fn a_target_speaks_the_framing_that_it_names() {
    everywhere(|harness| {
        let listener = Listener::new(harness.address()).framing(Framing::Lines);
        let server = harness.start(harness.options().builder(Probe::echo(), listener));
        let to = target(&server).framing(Framing::Lines);
        let client =
            harness.client_with(to, EndpointOptions::default()).expect("the client connects");
        client.send(0, b"a line").expect("a line can be sent");
        client.send(0, b"two\nlines").expect_err("a line feed ends a line");
        client.send(1, b"kind").expect_err("lines have no kinds");
        client.request(0, b"?", Duration::from_secs(1)).expect_err("lines have no requests");
        client.send(0, b"").expect("an empty line can be sent");
        let replies: Vec<_> = (0..2)
            .map(|_| client.receive(Duration::from_secs(30)).expect("a reply arrives").payload)
            .collect();
        assert_eq!(replies, [b"a line".to_vec(), b"".to_vec()]);
        client.close();
        harness.end(&server);
    });
}

#[test]
fn a_message_over_the_limit_is_refused_in_every_framing() {
    everywhere(|harness| {
        let long = [b'x'; 101];
        let too_much: [(&str, &[u8]); 4] = [
            ("native", b"\x66\0\0\0"),
            ("lines", &long),
            ("delimiter:;", &long),
            ("length:width=2", b"\0\x65"),
        ];
        for (framing, bytes) in too_much {
            let probe = Probe::echo();
            let seen = probe.seen();
            let options = harness.options().with(|o| o.connection.max_frame_bytes = 100);
            let spoken = framing.parse().expect("a framing");
            let listener = Listener::new(harness.address()).framing(spoken);
            let server = harness.start(options.builder(probe, listener));
            let mut raw = harness.dial(&server);
            raw.send(bytes);
            harness.wait_for_end(&mut raw);
            drop(raw);
            harness.wait_for("the end of the connection", || seen.ends().len() == 1);
            assert_eq!(seen.ends()[0].kind(), posthouse::DisconnectKind::Protocol, "{framing}");
            assert!(seen.messages().is_empty(), "{framing}");
            harness.end(&server);
        }
    });
}
