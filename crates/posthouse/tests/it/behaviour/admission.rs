//! Admission: small limits and a deadline until the handler lifts them.

use std::time::Duration;

use posthouse::DisconnectKind;

use crate::harness::{Harness, Options, everywhere, in_simulation};
use crate::probe::Probe;
use crate::raw::{bye, frame, frame_head, hello};

/// Returns a probe that admits a peer when it sends the password, and answers each message with its
/// size.
fn gatekeeper() -> Probe {
    Probe::new().on_received(|peer, message| {
        if message.payload() == b"please" {
            peer.admit();
        }
        let size = message.payload().len().to_string();
        peer.send(message.kind(), size.as_bytes());
        Ok(())
    })
}

fn options(harness: &Harness<'_>) -> Options {
    harness.options().with(|o| o.connection.admission_timeout_ms = 10_000)
}

#[test]
fn a_peer_that_is_not_admitted_in_time_is_closed() {
    in_simulation(|harness| {
        let probe = gatekeeper();
        let seen = probe.seen();
        let server = harness.serve_with(probe, options(harness));
        let mut stranger = harness.dial(&server);
        let mut told = harness.dial(&server);
        let mut friend = harness.dial(&server);
        told.send(&hello(0, 1 << 20));
        friend.send(&frame(0, b"please"));
        harness.wait_for("all three peers", || {
            seen.connected().len() == 3 && seen.messages().len() == 1
        });
        let since = harness.world().now();
        // Sending messages does not extend the deadline.
        harness.world().run_for(Duration::from_secs(9));
        assert!(seen.ends().is_empty(), "the deadline acted too early");
        stranger.send(&frame(0, b"hello"));
        harness.wait_for("the ends of two connections", || seen.ends().len() == 2);
        // The peers do not close by themselves, so a graceful close would wait for its deadline.
        assert!(harness.world().now() - since < Duration::from_secs(16));
        assert!(seen.ends().iter().all(|why| why.kind() == DisconnectKind::NotAdmitted));
        assert_eq!(harness.read_frame(&mut told).0, 4);
        let (kind, body) = harness.read_frame(&mut told);
        assert_eq!((kind, bye(&body).0), (5, 5));
        harness.world().run_for(Duration::from_secs(60));
        friend.send(&frame(0, b"still here"));
        harness.wait_for("the friend's message", || seen.messages().len() == 3);
        drop((stranger, told, friend));
        harness.end(&server);
    });
}

#[test]
fn small_frames_before_admission_and_large_ones_after() {
    everywhere(|harness| {
        let probe = gatekeeper();
        let seen = probe.seen();
        let server = harness.serve_with(probe, options(harness));
        let mut raw = harness.dial(&server);
        raw.send(&frame(0, &[1; 16 * 1024]));
        assert_eq!(harness.read_frame(&mut raw).1, b"16384");
        // The first message admits the peer, so the second of the same chunk is accepted.
        let mut both = frame(0, b"please");
        both.extend(frame(0, &[1; 16 * 1024 + 1]));
        raw.send(&both);
        assert_eq!(harness.read_frame(&mut raw).1, b"6");
        assert_eq!(harness.read_frame(&mut raw).1, b"16385");
        let mut stranger = harness.dial(&server);
        stranger.send(&frame_head(0, 16 * 1024 + 1));
        harness.wait_for_end(&mut stranger);
        drop(stranger);
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        assert_eq!(seen.ends()[0].kind(), DisconnectKind::Protocol);
        drop(raw);
        harness.end(&server);
    });
}

#[test]
fn a_peer_that_must_say_hello_has_small_frames_until_then() {
    everywhere(|harness| {
        let options = harness.options().with(|o| o.connection.hello = posthouse::Hello::Required);
        let server = harness.serve_with(Probe::echo(), options);
        let mut stranger = harness.dial(&server);
        stranger.send(&frame_head(4, 16 * 1024 + 1));
        harness.wait_for_end(&mut stranger);
        let mut raw = harness.dial(&server);
        let mut both = hello(0, 1 << 20);
        both.extend(frame(0, &[1; 16 * 1024 + 1]));
        raw.send(&both);
        assert_eq!(harness.read_frame(&mut raw).0, 4);
        assert_eq!(harness.read_frame(&mut raw).1.len(), 16 * 1024 + 1);
        drop((raw, stranger));
        harness.end(&server);
    });
}

#[test]
fn a_peer_that_sends_no_first_message_in_time_is_closed() {
    in_simulation(|harness| {
        let probe = Probe::echo();
        let seen = probe.seen();
        let options = harness.options().with(|o| o.connection.first_message_timeout_ms = 2_000);
        let server = harness.serve_with(probe, options);
        let mut mute = harness.dial(&server);
        let mut polite = harness.dial(&server);
        let mut talker = harness.dial(&server);
        polite.send(&hello(0, 1 << 20));
        talker.send(&frame(0, b"hello"));
        harness.wait_for("all three peers", || seen.connected().len() == 3);
        let since = harness.world().now();
        harness.wait_for("the ends of two connections", || seen.ends().len() == 2);
        assert!(harness.world().now() - since < Duration::from_secs(8));
        for why in seen.ends() {
            assert!(why.to_string().contains("no first message"), "{why}");
        }
        harness.wait_for_end(&mut mute);
        harness.world().run_for(Duration::from_secs(600));
        talker.send(&frame(0, b"still here"));
        harness.wait_for("the talker's message", || seen.messages().len() == 2);
        drop((mute, polite, talker));
        harness.end(&server);
    });
}

/// Both deadlines apply: a peer that is admitted at once must still send a message in time.
#[test]
fn an_admitted_peer_must_send_its_first_message_in_time() {
    in_simulation(|harness| {
        let probe = Probe::new().on_connected(|peer| {
            peer.admit();
            Ok(())
        });
        let seen = probe.seen();
        let options = options(harness).with(|o| o.connection.first_message_timeout_ms = 2_000);
        let server = harness.serve_with(probe, options);
        let raw = harness.dial(&server);
        harness.wait_for("the peer", || seen.connected().len() == 1);
        harness.world().run_for(Duration::from_secs(8));
        assert_eq!(seen.ends().len(), 1);
        drop(raw);
        harness.end(&server);
    });
}
