//! C3: the ways to end a connection, and their effects on the peer.

use std::time::Duration;

use posthouse::{Close, DisconnectKind, Fault, RunError, SendError};

use crate::harness::{everywhere, in_simulation};
use crate::probe::{Line, Probe};
use crate::raw::{bye, frame, hello};

#[test]
fn a_graceful_close_sends_all_that_is_queued() {
    everywhere(|harness| {
        let size = if harness.is_real() { 1 << 20 } else { 60_000 };
        let probe = Probe::new().on_received(move |peer, _| {
            for number in 0..5 {
                peer.send(number, &vec![number; size]);
            }
            peer.close(Close::graceful());
            peer.send(9, b"after the close: it goes nowhere");
            Ok(())
        });
        let seen = probe.seen();
        let tuning = harness.options().tuning.with_queue_high_bytes(1 << 26);
        let options = harness.options().with(|o| {
            o.connection.send_queue_bytes = 1 << 26;
            o.tuning = tuning;
        });
        let server = harness.serve_with(probe, options);
        let mut raw = harness.dial(&server);
        raw.send(&frame(0, b"go"));
        for number in 0..5 {
            assert_eq!(harness.read_frame(&mut raw), (number, vec![number; size]));
        }
        harness.wait_for_end(&mut raw);
        assert!(raw.received().is_empty() && !raw.is_reset(), "a clean end and nothing more");
        drop(raw);
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        assert_eq!(
            (seen.ends()[0].kind(), seen.ends()[0].unsent_bytes()),
            (DisconnectKind::Closed, 0)
        );
        harness.end(&server);
    });
}

#[test]
fn a_close_that_tells_reaches_the_peer_that_can_understand_it() {
    everywhere(|harness| {
        let probe = Probe::new().on_received(|_, _| {
            let close =
                Close::with_code(1_234, "zu früh").retry_after(Duration::from_millis(2_500));
            Err(close.log("a secret cause"))
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&hello(0, 1 << 20));
        raw.send(&frame(0, b"go"));
        assert_eq!(harness.read_frame(&mut raw).0, 4);
        let (kind, body) = harness.read_frame(&mut raw);
        assert_eq!((kind, bye(&body)), (5, (1_234, "zu früh".to_owned())));
        assert_eq!(body[2..6], 2_500u32.to_le_bytes());
        harness.wait_for_end(&mut raw);
        let mut plain = harness.dial(&server);
        plain.send(&frame(0, b"go"));
        harness.wait_for_end(&mut plain);
        assert!(plain.received().is_empty(), "a plain peer gets no frame of Posthouse's own");
        drop((raw, plain));
        harness.wait_for("the ends of both connections", || seen.ends().len() == 2);
        for why in seen.ends() {
            assert_eq!((why.kind(), why.fault()), (DisconnectKind::Closed, Fault::Local));
            assert!(why.to_string().contains("a secret cause"), "{why}");
        }
        harness.end(&server);
    });
}

#[test]
fn the_peers_text_reaches_the_other_sides_reason() {
    everywhere(|harness| {
        let server = harness
            .serve(Probe::new().on_received(|_, _| Err(Close::with_code(1_234, "too early"))));
        let probe = Probe::new().on_connected(|peer| {
            peer.send(0, b"go");
            Ok(())
        });
        let seen = probe.seen();
        let client = harness.client_side(probe);
        client
            .connect(crate::harness::target(&server), Line::default())
            .expect("no limit is reached");
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        let why = seen.ends()[0].clone();
        assert_eq!((why.kind(), why.fault()), (DisconnectKind::Ended, Fault::Peer));
        assert!(why.to_string().contains("1234") && why.to_string().contains("too early"), "{why}");
        harness.end(&client);
        harness.end(&server);
    });
}

#[cfg_attr(windows, ignore = "Wine: a reset that comes before a read looks like a clean end")]
#[test]
fn an_abort_is_seen_as_a_reset() {
    everywhere(|harness| {
        let probe = Probe::new().on_received(|peer, _| {
            peer.send(0, b"discarded, or not");
            Err(Close::abort().log("of the test"))
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut from_callback = harness.dial(&server);
        from_callback.send(&frame(0, b"go"));
        harness.wait_for("a reset", || from_callback.is_reset());
        let mut from_outside = harness.dial(&server);
        harness.wait_for("the peer", || seen.connected().len() == 2);
        server.close(seen.connected()[1], Close::abort()).expect("the connection is open");
        harness.wait_for("a reset", || from_outside.is_reset());
        harness.wait_for("the ends of both connections", || seen.ends().len() == 2);
        assert!(seen.ends().iter().all(|why| why.kind() == DisconnectKind::Closed));
        harness.end(&server);
    });
}

/// An abort overtakes a graceful close; the reason of the first close counts.
#[test]
fn a_graceful_close_can_be_cut_short() {
    everywhere(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let options = harness.options().with(|o| o.connection.close_timeout_ms = 3_600_000);
        let server = harness.serve_with(probe, options);
        let mut raw = harness.dial(&server);
        harness.wait_for("the peer", || seen.connected().len() == 1);
        let id = seen.connected()[0];
        server
            .close(id, Close::with_code(1_000, "first").log("the first"))
            .expect("the connection is open");
        harness.wait_for_end(&mut raw);
        assert!(!raw.is_reset());
        server.close(id, Close::abort().log("the second")).expect("the file exists");
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        assert!(seen.ends()[0].to_string().contains("the first"), "{}", seen.ends()[0]);
        drop(raw);
        harness.end(&server);
    });
}

/// A close rejects all later sends, from whatever thread.
#[test]
fn a_connection_that_is_closing_takes_nothing() {
    everywhere(|harness| {
        let probe = Probe::new().on_received(|peer, _| {
            let id = peer.id();
            assert!(peer.is_open());
            peer.close(Close::graceful());
            assert!(!peer.is_open());
            // The connection is still open in this callback, so its sends are accepted.
            let _ = peer.endpoint().send(id, 9, b"too late");
            Ok(())
        });
        let seen = probe.seen();
        let options = harness.options().with(|o| o.connection.close_timeout_ms = 3_600_000);
        let server = harness.serve_with(probe, options);
        let mut raw = harness.dial(&server);
        raw.send(&frame(0, b"go"));
        harness.wait_for_end(&mut raw);
        let id = seen.connected()[0];
        assert_eq!(server.stats().connections, 1, "the peer has not ended its side");
        assert_eq!(server.send(id, 0, b"too late"), Err(SendError::NotConnected));
        assert_eq!(server.run(id, |_| panic!("too late")), Err(RunError::NotConnected));
        assert!(raw.received().is_empty());
        drop(raw);
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        assert_eq!(
            seen.ends()[0].unsent_bytes(),
            13,
            "the accepted message is not reported as unsent"
        );
        assert_eq!(harness.end(&server).panics, 0);
    });
}

#[test]
fn a_graceful_close_waits_no_longer_than_it_should() {
    in_simulation(|harness| {
        let probe = Probe::new().on_received(|peer, _| {
            peer.send(0, &vec![0; 900_000]);
            Err(Close::graceful())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        // One peer reads nothing; the other reads everything and stays connected.
        let mut deaf = harness.dial(&server);
        deaf.stop_reading();
        deaf.send(&frame(0, b"go"));
        let mut stays = harness.dial(&server);
        stays.send(&frame(0, b"go"));
        let since = harness.world().now();
        harness.wait_for("the ends of both connections", || seen.ends().len() == 2);
        let time = harness.world().now() - since;
        assert!(time < Duration::from_secs(7), "{time:?}");
        assert!(seen.ends().iter().all(|why| why.kind() == DisconnectKind::Closed));
        assert!(
            seen.ends().iter().any(|why| why.unsent_bytes() > 0),
            "the peer that does not read has no unsent bytes"
        );
        drop((deaf, stays));
        harness.end(&server);
    });
}

/// A close is complete as soon as the peer's end has arrived, in whatever order the bytes in flight
/// arrived and however many they were.
#[test]
fn a_graceful_close_is_over_when_the_peer_has_ended() {
    in_simulation(|harness| {
        let harness = harness.with(4, 8);
        let probe = Probe::new().on_received(|_, _| Err(Close::graceful()));
        let seen = probe.seen();
        let tuning = harness.options().tuning.with_receive_buffer_bytes(1024);
        let server = harness.serve_with(probe, harness.options().with(|o| o.tuning = tuning));
        let mut raws: Vec<_> = (0..5).map(|_| harness.dial(&server)).collect();
        for raw in &mut raws {
            raw.send(&frame(0, &vec![0; 20_000]).repeat(4));
            raw.finish();
        }
        let since = harness.world().now();
        harness.wait_for("the ends of all connections", || seen.ends().len() == 5);
        let time = harness.world().now() - since;
        assert!(time < Duration::from_secs(1), "{time:?}");
        drop(raws);
        harness.end(&server);
    });
}

#[test]
fn an_error_in_a_callback_closes_and_its_text_stays_here() {
    everywhere(|harness| {
        let probe = Probe::new().on_received(|_, message| {
            let text = std::str::from_utf8(message.payload())?;
            text.parse::<u32>()?;
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&hello(0, 1 << 20));
        raw.send(&frame(0, b"12"));
        raw.send(&frame(0, b"not a number"));
        assert_eq!(harness.read_frame(&mut raw).0, 4);
        let (kind, body) = harness.read_frame(&mut raw);
        assert_eq!((kind, bye(&body)), (5, (8, "internal error".to_owned())));
        harness.wait_for_end(&mut raw);
        drop(raw);
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        assert!(seen.ends()[0].to_string().contains("invalid digit"), "{}", seen.ends()[0]);
        assert_eq!(seen.messages().len(), 2);
        harness.end(&server);
    });
}

#[test]
fn a_shutdown_says_goodbye_and_sends_what_is_queued() {
    everywhere(|harness| {
        let probe = Probe::new().on_received(|peer, _| {
            (40..60).for_each(|number| peer.send(number, &[number; 1_000]));
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&hello(0, 1 << 20));
        assert_eq!(harness.read_frame(&mut raw).0, 4);
        raw.send(&frame(40, b"go"));
        harness.wait_for("the message", || seen.messages().len() == 1);
        server.shutdown(Duration::from_secs(30));
        for number in 40..60 {
            assert_eq!(harness.read_frame(&mut raw), (number, vec![number; 1_000]));
        }
        let (kind, body) = harness.read_frame(&mut raw);
        assert_eq!((kind, bye(&body).0), (5, 1), "no bye with code 1, going away");
        harness.wait_for_end(&mut raw);
        drop(raw);
        harness.ended(&server);
        assert_eq!(seen.ends()[0].kind(), DisconnectKind::Shutdown);
    });
}
