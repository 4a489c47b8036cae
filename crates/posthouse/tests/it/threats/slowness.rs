//! Slow peers: T3, T4, T6.

use std::time::Duration;

use posthouse::{DisconnectKind, Peer};

use crate::harness::{everywhere, in_simulation};
use crate::probe::Probe;
use crate::raw::{Raw, frame, frame_head};

/// T3. Neither an occasional byte nor a steady trickle keeps an incomplete frame alive.
#[test]
fn a_frame_that_trickles_is_closed_by_the_clock() {
    in_simulation(|harness| {
        let probe = Probe::echo();
        let seen = probe.seen();
        let server = harness.serve(probe);
        for (every, bytes, latest) in [(3_000, 1, 9), (500, 150, 31)] {
            let so_far = seen.ends().len();
            let mut raw = harness.dial(&server);
            raw.send(&frame_head(0, 1 << 20));
            let since = harness.world().now();
            while seen.ends().len() == so_far {
                harness.world().run_for(Duration::from_millis(every));
                if raw.is_over() {
                    break;
                }
                raw.send(&vec![0; bytes]);
            }
            let time = harness.world().now() - since;
            assert!(time <= Duration::from_secs(latest), "{time:?} with {bytes} bytes at a time");
            drop(raw);
            harness.wait_for("the end of the connection", || seen.ends().len() == so_far + 1);
            assert_eq!(seen.ends()[so_far].kind(), DisconnectKind::TooSlow);
        }
        harness.serves(&server);
        assert_eq!(harness.end(&server).peer_faults, 2);
    });
}

#[test]
fn a_frame_that_is_slow_enough_to_be_honest_arrives() {
    in_simulation(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&frame_head(1, 6_000));
        for _ in 0..20 {
            raw.send(&[7; 300]);
            harness.world().run_for(Duration::from_secs(1));
        }
        harness.wait_for("the message", || seen.messages() == [(1, vec![7; 6_000])]);
        // No deadline runs between frames.
        harness.world().run_for(Duration::from_secs(600));
        assert!(seen.ends().is_empty());
        drop(raw);
        harness.end(&server);
    });
}

/// The deadline of a frame stands still while the server does not read from its peer.
#[test]
fn a_pause_of_ours_does_not_make_the_peer_slow() {
    in_simulation(|harness| {
        let probe = Probe::new().on_received(|peer, message| {
            if message.kind() == 1 {
                peer.pause_reading();
                peer.after(Duration::from_secs(100), |peer| {
                    peer.resume_reading();
                    Ok(())
                })?;
            }
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&[frame(1, b"pause"), frame(2, &[7; 50_000])].concat());
        harness.wait_for("the first message", || seen.messages().len() == 1);
        harness.world().run_for(Duration::from_secs(99));
        assert!(seen.ends().is_empty(), "{:?}", seen.ends());
        harness.wait_for("the second message", || seen.messages().len() == 2);
        assert!(seen.ends().is_empty(), "{:?}", seen.ends());
        drop(raw);
        harness.end(&server);
    });
}

/// The frame has begun when the pause begins, and its rest arrives during the pause. No deadline
/// runs meanwhile that would start its time anew.
#[test]
fn a_pause_within_a_frame_does_not_make_the_frame_slow() {
    in_simulation(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let options = harness.options().with(|o| o.connection.heartbeat_ms = 0);
        let server = harness.serve_with(probe, options);
        let mut raw = harness.dial(&server);
        let message = frame(1, &[7; 150_000]);
        raw.send(&message[..100]);
        harness.wait_for("the beginning of the frame", || server.stats().assembly_bytes > 0);
        let peer = server.peers()[0].id;
        let run = |pauses: bool| {
            let change = move |peer: &mut Peer<'_, Probe>| {
                if pauses {
                    peer.pause_reading();
                } else {
                    peer.resume_reading();
                }
                Ok(())
            };
            server.run(peer, change).expect("the peer is connected");
        };
        run(true);
        harness.world().run_for(Duration::from_secs(1));
        raw.send(&message[100..]);
        harness.world().run_for(Duration::from_secs(40));
        assert_eq!(seen.messages().len(), 0);
        run(false);
        harness.wait_for("the message", || seen.messages() == [(1, vec![7; 150_000])]);
        assert!(seen.ends().is_empty(), "{:?}", seen.ends());
        drop(raw);
        harness.end(&server);
    });
}

/// A program that pauses for half a second again and again, for reasons of its own, gives no time
/// to a frame that trickles.
#[test]
fn many_short_pauses_do_not_keep_a_slow_frame_alive() {
    in_simulation(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&frame_head(0, 1 << 20));
        harness.wait_for("the connection", || seen.connected().len() == 1);
        let peer = seen.connected()[0];
        let begun = harness.world().now();
        for _ in 0..30 {
            let pause = server.run(peer, |peer| {
                peer.pause_reading();
                peer.after(Duration::from_millis(500), |peer| {
                    peer.resume_reading();
                    Ok(())
                })?;
                Ok(())
            });
            if pause.is_err() {
                break;
            }
            harness.world().run_for(Duration::from_secs(2));
            raw.send(&[0]);
        }
        let passed = harness.world().now() - begun;
        assert!(passed < Duration::from_secs(50), "the frame was slow for {passed:?}");
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        assert_eq!(seen.ends()[0].kind(), DisconnectKind::TooSlow);
        drop(raw);
        harness.end(&server);
    });
}

/// T4. A silent peer takes one slot and nothing more, and the server continues to accept.
#[test]
fn silent_peers_keep_nobody_out() {
    everywhere(|harness| {
        let probe = Probe::echo();
        let seen = probe.seen();
        let server =
            harness.serve_with(probe, harness.options().with(|o| o.endpoint.max_connections = 300));
        let silent: Vec<Raw> = (0..250).map(|_| harness.dial(&server)).collect();
        harness.wait_for("all connections", || server.stats().connected == 250);
        harness.serves(&server);
        assert_eq!(server.stats().buffers_used, 0, "an idle connection holds no buffer");
        drop(silent);
        harness.wait_for("the ends of the connections", || server.stats().connections == 0);
        assert_eq!(seen.messages().len(), 1);
        harness.end(&server);
    });
}

/// T6. A connection is closed if its peer reads nothing of the queued bytes.
#[test]
fn a_peer_that_takes_nothing_is_closed_as_too_slow() {
    in_simulation(|harness| {
        let probe = Probe::echo().on_received(|peer, message| {
            let size = if message.payload() == b"much" { 900_000 } else { 1 };
            peer.send(message.kind(), &vec![0; size]);
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut deaf = harness.dial(&server);
        deaf.stop_reading();
        deaf.send(&frame(0, b"much"));
        harness.wait_for("the message", || seen.messages().len() == 1);
        // The bytes that the window took at first count for the first half minute.
        harness.world().run_for(Duration::from_secs(61));
        assert_eq!(seen.ends().len(), 1);
        assert_eq!(seen.ends()[0].kind(), DisconnectKind::TooSlow);
        assert!(seen.ends()[0].unsent_bytes() > 0);
        assert!(deaf.is_over());
        harness.end(&server);
    });
}

/// A peer that reads its queued bytes slowly, but above the minimum rate, is served to the end.
#[test]
fn a_peer_that_takes_little_at_a_time_gets_everything() {
    in_simulation(|harness| {
        let probe = Probe::new().on_received(|peer, _| {
            peer.send(0, &vec![0; 900_000]);
            Ok(())
        });
        let seen = probe.seen();
        let tuning = harness.options().tuning.with_queue_high_bytes(1 << 20);
        let server = harness.serve_with(probe, harness.options().with(|o| o.tuning = tuning));
        let mut slow = harness.dial(&server);
        slow.stop_reading();
        slow.send(&frame(0, b"much"));
        let mut received = 0;
        while received < 900_005 {
            harness.world().run_for(Duration::from_secs(20));
            slow.resume_reading();
            harness.world().run_for(Duration::from_millis(1));
            slow.stop_reading();
            received += slow.received().len();
            let count = slow.received().len();
            slow.take(count);
            assert!(seen.ends().is_empty(), "{:?} after {received} bytes", seen.ends());
        }
        drop(slow);
        harness.end(&server);
    });
}
