//! Streams that end at a bad moment: T14, T15.

use std::time::Duration;

use posthouse::DisconnectKind;

use crate::harness::{everywhere, in_simulation};
use crate::probe::Probe;
use crate::raw::{frame, frame_head, hello, request};

/// T14. Pending reads, a send that waits for room, and held chunks each end exactly once.
#[test]
fn a_reset_with_operations_pending_is_told_once() {
    everywhere(|harness| {
        let probe = Probe::new().on_received(|peer, message| {
            match message.kind() {
                1 => peer.pause_reading(),
                _ => peer.send(0, &vec![0; 8 << 20]),
            }
            Ok(())
        });
        let seen = probe.seen();
        let tuning = harness.options().tuning.with_queue_high_bytes(1 << 26);
        let send_queue_bytes = 1 << 26;
        let max_frame = 8 << 20;
        let options = harness.options().with(|o| {
            o.connection.send_queue_bytes = send_queue_bytes;
            o.connection.max_frame_bytes = max_frame;
            o.tuning = tuning;
        });
        let server = harness.serve_with(probe, options);
        let rounds = if harness.is_real() { 8 } else { 2 };
        for round in 1..=rounds {
            let mut raw = harness.dial(&server);
            raw.stop_reading();
            raw.send(&frame(0, b"fill the window"));
            if round % 2 == 0 {
                raw.send(&frame(1, b"pause"));
            }
            raw.send(&frame(2, &[0; 1_000]));
            harness.wait_for("a send that waits", || {
                server.peers().first().is_some_and(|info| info.queued_bytes > 0)
            });
            raw.reset();
            harness.wait_for("the end of the connection", || seen.ends().len() == round);
            assert_eq!(seen.ends()[round - 1].kind(), DisconnectKind::Reset);
            harness.wait_for("the release of the slot", || server.stats().connections == 0);
        }
        harness.end(&server);
    });
}

/// T15.
#[test]
fn a_request_before_a_half_close_is_answered_and_then_closed() {
    everywhere(|harness| {
        let probe = Probe::echo();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&[hello(0, 1 << 20), request(7, 40, b"last question")].concat());
        raw.finish();
        assert_eq!(harness.read_frame(&mut raw).0, 4);
        let (kind, body) = harness.read_frame(&mut raw);
        assert_eq!((kind, &body[..]), (9, &b"\x07\0\0\0\0\x28last question"[..]));
        harness.wait_for_end(&mut raw);
        assert!(!raw.is_reset());
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        assert_eq!(
            (seen.ends()[0].kind(), seen.ends()[0].unsent_bytes()),
            (DisconnectKind::Ended, 0)
        );
        harness.end(&server);
    });
}

/// The same with a slow answer, and with a first-message deadline that passes before the answer.
#[test]
fn a_reply_that_comes_later_reaches_a_peer_that_has_half_closed() {
    everywhere(|harness| {
        let probe = Probe::new().on_requested(|peer, _, responder| {
            peer.state_mut().responders.extend(responder.take());
            peer.after(Duration::from_millis(300), |peer| {
                let responder = peer.state_mut().responders.pop().expect("a responder was kept");
                Ok(responder.reply(0, &[1; 100_000])?)
            })?;
            Ok(())
        });
        let seen = probe.seen();
        let options = harness.options().with(|o| o.connection.first_message_timeout_ms = 200);
        let server = harness.serve_with(probe, options);
        let mut raw = harness.dial(&server);
        raw.send(&[hello(0, 1 << 20), request(1, 40, b"?"), request(2, 40, b"?")].concat());
        raw.finish();
        assert_eq!(harness.read_frame(&mut raw).0, 4);
        for _ in 0..2 {
            let (kind, body) = harness.read_frame(&mut raw);
            assert_eq!((kind, body.len()), (9, 100_006));
        }
        harness.wait_for_end(&mut raw);
        assert!(!raw.is_reset());
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        harness.end(&server);
    });
}

#[test]
fn a_request_that_is_never_answered_does_not_keep_a_half_closed_peer_for_ever() {
    in_simulation(|harness| {
        let probe = Probe::new().on_requested(|peer, _, responder| {
            peer.state_mut().responders.extend(responder.take());
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&[hello(0, 1 << 20), request(7, 40, b"?")].concat());
        raw.finish();
        let since = harness.world().now();
        harness.wait_for_end(&mut raw);
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        assert!(harness.world().now() - since < Duration::from_secs(12));
        assert!(seen.ends()[0].to_string().contains("requests"), "{}", seen.ends()[0]);
        harness.end(&server);
    });
}

/// Replies to plain messages are sent before the close, too: they are already queued when the end
/// arrives.
#[test]
fn messages_before_a_half_close_are_answered() {
    everywhere(|harness| {
        let probe = Probe::echo().forgetting_messages();
        let seen = probe.seen();
        let tuning = harness.options().tuning.with_turn_messages(3);
        let server = harness.serve_with(probe, harness.options().with(|o| o.tuning = tuning));
        let mut raw = harness.dial(&server);
        (0..200u8).for_each(|number| raw.send(&frame(number, &[number; 500])));
        raw.finish();
        for number in 0..200u8 {
            assert_eq!(harness.read_frame(&mut raw), (number, vec![number; 500]));
        }
        harness.wait_for_end(&mut raw);
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        harness.end(&server);
    });
}

#[test]
fn an_end_in_the_middle_of_a_frame_says_so() {
    everywhere(|harness| {
        let probe = Probe::echo();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&[frame(0, b"whole"), frame_head(0, 100), b"half".to_vec()].concat());
        raw.finish();
        harness.wait_for_end(&mut raw);
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        assert!(seen.ends()[0].to_string().contains("middle of a frame"), "{}", seen.ends()[0]);
        assert_eq!(seen.messages().len(), 1);
        harness.end(&server);
    });
}
