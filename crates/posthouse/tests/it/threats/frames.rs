//! Invalid frames: T1, T2, T12, T13, T25, and the traffic of other protocols.

use std::sync::{Arc, Mutex};

use posthouse::{DisconnectKind, Endpoint, RequestError};

use crate::harness::{Harness, Options, everywhere, in_simulation, on_real_sockets};
use crate::log;
use crate::probe::{Probe, Seen};
use crate::process::memory_bytes;
use crate::raw::{Raw, bye, frame, frame_head, hello};

fn echo(harness: &Harness<'_>, options: Options) -> (Endpoint<Probe>, Seen) {
    let probe = Probe::echo();
    let seen = probe.seen();
    (harness.serve_with(probe, options), seen)
}

/// Checks that a peer that sends these bytes is closed, for a reason that contains these words.
fn refuses(harness: &Harness<'_>, bytes: &[u8], words: &str) {
    let (server, seen) = echo(harness, harness.options());
    let mut raw = harness.dial(&server);
    raw.send(bytes);
    harness.wait_for_end(&mut raw);
    drop(raw);
    harness.wait_for("the end of the connection", || seen.ends().len() == 1);
    let why = seen.ends()[0].clone();
    assert_eq!(why.kind(), DisconnectKind::Protocol, "{why}");
    assert!(why.to_string().contains(words), "{why:?} should say {words:?}");
    assert!(seen.messages().is_empty(), "the handler got an invalid frame");
    harness.serves(&server);
    assert_eq!(harness.end(&server).peer_faults, 1);
}

/// T1.
#[test]
fn a_length_that_cannot_be_is_refused_before_anything_is_allocated() {
    everywhere(|harness| {
        refuses(harness, &[0xff, 0xff, 0xff, 0xff], "flags");
        refuses(harness, &frame_head(0, (1 << 20) + 1), "1048577 bytes");
        refuses(harness, &[0xff, 0xff, 0xff, 0], "16777214 bytes");
        refuses(harness, &[0, 0, 0, 0], "below its own header");
    });
}

#[test]
fn the_traffic_of_other_protocols_is_named() {
    log::keep();
    everywhere(|harness| {
        refuses(harness, b"GET /index.html HTTP/1.1\r\nHost: example.org\r\n\r\n", "HTTP");
        refuses(harness, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03random", "TLS");
        refuses(harness, b"SSH-2.0-OpenSSH_9.9\r\n", "SSH");
        refuses(harness, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "PROXY");
        for name in ["HTTP", "TLS", "SSH", "PROXY"] {
            let lines = log::lines(name);
            // Each endpoint of this test logs its first failure as a warning.
            let warned = |line: &String| line.contains("WARN") && line.contains("address=");
            assert!(lines.iter().any(warned), "{name} reaches the log: {lines:?}");
        }
    });
}

/// T2. Each peer announces a frame of a mebibyte and sends one byte of it.
#[test]
fn thousands_of_announced_frames_cost_only_what_has_come_of_them() {
    everywhere(|harness| {
        let peers = if harness.is_real() { 2_000 } else { 100 };
        let (server, _) = echo(harness, harness.options());
        let before = memory_bytes();
        let mut raws: Vec<Raw> = (0..peers).map(|_| harness.dial(&server)).collect();
        raws.iter_mut().for_each(|raw| raw.send(&[frame_head(0, 1 << 20), vec![1]].concat()));
        harness.wait_for("all messages", || {
            let received: u64 = server.peers().iter().map(|info| info.bytes_received).sum();
            received == 6 * peers as u64
        });
        // Received bytes are counted before the memory that holds them.
        harness.wait_for("the rest of the bytes", || {
            let stats = server.stats();
            stats.buffers_used == 0 && stats.assembly_bytes >= 6 * peers
        });
        let stats = server.stats();
        assert!(stats.assembly_bytes <= 64 * peers, "{stats:?}");
        let grown = memory_bytes().saturating_sub(before);
        assert!(grown < 32 << 20, "{peers} peers cost {grown} bytes");
        harness.serves(&server);
        drop(raws);
        harness.wait_for("the ends of all connections", || server.stats().assembly_bytes == 0);
        harness.end(&server);
    });
}

#[test]
fn who_wants_more_than_the_budget_of_partial_frames_is_closed() {
    everywhere(|harness| {
        let options = harness.options().with(|o| o.endpoint.assembly_bytes = 100_000);
        let (server, seen) = echo(harness, options);
        let mut raws: Vec<Raw> = (0..5).map(|_| harness.dial(&server)).collect();
        for raw in &mut raws {
            raw.send(&frame_head(0, 40_000));
            raw.send(&vec![1; 30_000]);
        }
        harness.wait_for("the ends of some connections", || {
            let alive: u64 = server.peers().iter().map(|info| info.bytes_received).sum();
            raws.iter_mut().for_each(|raw| {
                let _ = raw.is_over();
            });
            // The bytes of all remaining peers have arrived and fit into the budget.
            !raws.iter_mut().all(|raw| !raw.is_over()) && alive > 0
        });
        raws.retain_mut(|raw| !raw.is_over());
        harness.wait_for("the end of the same connection", || {
            raws.retain_mut(|raw| !raw.is_over());
            server.stats().connections == raws.len() && server.stats().assembly_bytes <= 100_000
        });
        assert!(!raws.is_empty(), "a peer within the budget was closed");
        assert!(
            seen.ends().iter().all(|why| why.kind() == DisconnectKind::Busy),
            "{:?}",
            seen.ends()
        );
        harness.serves(&server);
        drop(raws);
        harness.end(&server);
    });
}

/// T12. The server sends at most one frame, the bye, and then ends the stream.
#[test]
fn a_frame_that_may_not_come_is_answered_with_one_bye() {
    everywhere(|harness| {
        let mut old = hello(0, 1 << 20);
        old[5 + 8..5 + 10].fill(0);
        let cases: [(&str, Vec<u8>, u16); 8] = [
            ("an unknown critical kind", frame(10, b""), 3),
            ("a second hello", hello(0, 1 << 20), 3),
            ("a proof that nobody asked for", frame(6, &[0; 32]), 3),
            ("a request without its head", frame(8, &[0; 4]), 3),
            ("a reply without its head", frame(9, &[0; 5]), 3),
            ("a bye without its head", frame(5, &[0; 5]), 3),
            ("a short ping", frame(16, &[0; 7]), 3),
            ("a frame over the limit", frame_head(40, (1 << 20) + 1), 2),
        ];
        for (what, bytes, code) in cases {
            let (server, _) = echo(harness, harness.options());
            let mut raw = harness.dial(&server);
            raw.send(&[hello(0, 1 << 20), bytes, frame(10, b""), frame(40, b"ignored")].concat());
            assert_eq!(harness.read_frame(&mut raw).0, 4, "{what}");
            let (kind, body) = harness.read_frame(&mut raw);
            assert_eq!((kind, bye(&body).0), (5, code), "{what}");
            harness.wait_for_end(&mut raw);
            assert!(raw.received().is_empty(), "{what}: a frame arrived after the bye");
            drop(raw);
            harness.serves(&server);
            harness.end(&server);
        }
        let (server, _) = echo(harness, harness.options());
        let mut raw = harness.dial(&server);
        raw.send(&old);
        assert_eq!(harness.read_frame(&mut raw).0, 4);
        let (kind, body) = harness.read_frame(&mut raw);
        assert_eq!((kind, bye(&body).0), (5, 4), "an unknown version");
        harness.wait_for_end(&mut raw);
        drop(raw);
        harness.end(&server);
    });
}

/// Each of these requests would take a responder of its own, beyond `max_requests`.
#[test]
fn the_number_of_a_request_that_waits_cannot_be_used_again() {
    everywhere(|harness| {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = kept.clone();
        let probe = Probe::new().on_requested(move |_, _, responder| {
            keep.lock().unwrap().extend(responder.take());
            Ok(())
        });
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        let request = frame(8, &[7, 0, 0, 0, 40]);
        raw.send(&[hello(0, 1 << 20), request.clone(), request].concat());
        assert_eq!(harness.read_frame(&mut raw).0, 4);
        let (kind, body) = harness.read_frame(&mut raw);
        assert_eq!((kind, bye(&body).0), (5, 3), "the end is no violation of the protocol");
        harness.wait_for_end(&mut raw);
        assert_eq!(kept.lock().unwrap().len(), 1);
        drop(raw);
        harness.end(&server);
    });
}

#[test]
fn an_unknown_kind_that_may_be_skipped_is_skipped() {
    everywhere(|harness| {
        let (server, seen) = echo(harness, harness.options());
        let mut raw = harness.dial(&server);
        raw.send(&hello(0, 1 << 20));
        (18..32).for_each(|kind| raw.send(&frame(kind, b"from a later version")));
        raw.send(&frame(17, &[0; 8]));
        raw.send(&frame(9, &[7, 0, 0, 0, 0, 0]));
        raw.send(&frame(40, b"hello"));
        assert_eq!(harness.read_frame(&mut raw).0, 4);
        assert_eq!(harness.read_frame(&mut raw), (40, b"hello".to_vec()));
        assert_eq!(seen.messages().len(), 1);
        assert_eq!(server.stats().late_replies, 1, "an unexpected reply");
        drop(raw);
        harness.end(&server);
    });
}

#[test]
fn a_malformed_hello_is_refused() {
    everywhere(|harness| {
        let whole = hello(0, 1 << 20);
        let mut answer = whole.clone();
        answer[5 + 38] = 0x80;
        let mut tiny = whole.clone();
        tiny[5 + 14..5 + 18].copy_from_slice(&63u32.to_le_bytes());
        let mut greedy = whole.clone();
        greedy[5 + 39..5 + 41].copy_from_slice(&1025u16.to_le_bytes());
        let cut = frame(4, &whole[5..5 + 40]);
        for bytes in [answer, tiny, greedy, cut] {
            let (server, seen) = echo(harness, harness.options());
            let mut raw = harness.dial(&server);
            raw.send(&bytes);
            harness.wait_for_end(&mut raw);
            drop(raw);
            harness.wait_for("the end of the connection", || seen.ends().len() == 1);
            assert_eq!(seen.ends()[0].kind(), DisconnectKind::Protocol);
            harness.serves(&server);
            harness.end(&server);
        }
    });
}

/// T13.
#[test]
fn a_large_frame_one_byte_at_a_time_is_the_same_frame() {
    on_real_sockets(|harness| {
        let (server, seen) = echo(harness, harness.options());
        let mut raw = harness.dial(&server);
        // Wine makes only some thousand calls a second.
        let bytes = if cfg!(windows) { 3_000 } else { 50_000 };
        let body: Vec<u8> = (0..bytes).map(|at: u32| (at * 7) as u8).collect();
        frame(40, &body).iter().for_each(|byte| raw.send(&[*byte]));
        assert_eq!(harness.read_frame(&mut raw), (40, body));
        assert_eq!(seen.messages().len(), 1);
        assert_eq!(server.stats().assembly_bytes, 0);
        drop(raw);
        harness.end(&server);
    });
}

/// T25. A peer's text is never written to a log unescaped.
#[test]
fn control_characters_of_a_peer_do_not_reach_the_log() {
    log::keep();
    let evil = "\x1b[31mred\nforged line\r\0\u{202e}";
    let clean = |text: &str| text.chars().all(|c| !c.is_control() && c != '\u{202e}');
    everywhere(|harness| {
        log::clear();
        let (server, seen) = echo(harness, harness.options());
        let mut raw = harness.dial(&server);
        raw.send(&hello(0, 1 << 20));
        let mut body = vec![0; 6];
        body.extend(evil.as_bytes());
        raw.send(&frame(5, &body));
        harness.wait_for_end(&mut raw);
        drop(raw);
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        let why = seen.ends()[0].to_string();
        assert!(why.contains("forged line") && clean(&why), "{why:?}");
        assert!(!why.contains("\\\\"), "the text is not escaped exactly once: {why}");
        harness.wait_for("the log", || !log::lines("forged line").is_empty());
        assert!(log::lines("forged line").iter().all(|line| clean(line)));
        harness.end(&server);
    });
    let refused = RequestError::Rejected(evil.into()).to_string();
    assert!(refused.contains("forged line") && clean(&refused), "{refused:?}");
}

/// The log of one peer's failures cannot fill a disk; the counter counts all of them.
#[test]
fn many_faults_are_logged_once_a_second() {
    log::keep();
    in_simulation(|harness| {
        log::clear();
        let (server, seen) = echo(harness, harness.options());
        let mut raws: Vec<Raw> = (0..100).map(|_| harness.dial(&server)).collect();
        raws.iter_mut().for_each(|raw| raw.send(&[0; 4]));
        harness.wait_for("the ends of all connections", || seen.ends().len() == 100);
        let warned = log::lines("connection failed").len();
        assert!((1..=8).contains(&warned), "{warned} lines");
        drop(raws);
        assert_eq!(harness.end(&server).peer_faults, 100);
    });
}

/// A message of a peer may be what makes a handler panic, in each of its connections.
#[test]
fn panics_that_peers_cause_are_logged_at_a_bounded_rate_and_all_counted() {
    log::keep();
    in_simulation(|harness| {
        log::clear();
        let probe = Probe::new().on_received(|_, _| panic!("a message of this kind"));
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raws: Vec<Raw> = (0..100).map(|_| harness.dial(&server)).collect();
        raws.iter_mut().for_each(|raw| raw.send(&frame(40, b"panic")));
        harness.wait_for("the ends of all connections", || seen.ends().len() == 100);
        let lines = log::lines("ERROR posthouse");
        assert!((1..=8).contains(&lines.len()), "{lines:?}");
        assert!(lines[0].contains("a message of this kind"), "{lines:?}");
        drop(raws);
        assert_eq!(harness.end(&server).panics, 100);
    });
}
