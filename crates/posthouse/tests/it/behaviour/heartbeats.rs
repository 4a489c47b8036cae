//! Heartbeats: a connection is closed if its peer is gone, and kept if its peer only has nothing to
//! send.

use std::time::Duration;

use posthouse::{DisconnectKind, Target};

use crate::harness::in_simulation;
use crate::probe::{Line, Probe};
use crate::raw::{Raw, frame, hello};

/// T5. The bounds hold with the default heartbeat.
#[test]
fn a_peer_that_vanished_is_given_up_within_thirty_seconds() {
    in_simulation(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&hello(0, 1 << 20));
        harness.wait_for("the peer", || seen.connected().len() == 1);
        raw.stop_reading();
        let since = harness.world().now();
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        let time = harness.world().now() - since;
        assert!(time <= Duration::from_secs(30), "ended only after {time:?}");
        assert!(time >= Duration::from_secs(20), "too early, after {time:?}");
        assert_eq!(seen.ends()[0].kind(), DisconnectKind::Silent);
        harness.wait_for("the release of the slot", || server.stats().connections == 0);
        harness.end(&server);
    });
}

#[test]
fn a_silent_honest_peer_stays_for_ever() {
    in_simulation(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let client = harness.client(&server);
        harness.world().run_for(Duration::from_secs(3600));
        assert!(seen.ends().is_empty(), "{:?}", seen.ends());
        client.send(0, b"still here").expect("the connection is open");
        harness.wait_for("the message", || seen.messages().len() == 1);
        harness.end(&server);
    });
}

#[test]
fn a_plain_peer_is_asked_for_no_sign_of_life() {
    in_simulation(|harness| {
        let probe = Probe::echo();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        harness.wait_for("the peer", || seen.connected().len() == 1);
        harness.world().run_for(Duration::from_secs(3600));
        assert!(raw.received().is_empty(), "a plain peer got a protocol frame");
        raw.send(&frame(0, b"hello"));
        assert_eq!(harness.read_frame(&mut raw), (0, b"hello".to_vec()));
        drop(raw);
        harness.end(&server);
    });
}

/// A peer is not silent while this side does not read from it.
#[test]
fn a_peer_that_is_not_read_from_is_not_called_silent() {
    in_simulation(|harness| {
        let probe = Probe::new().on_received(|peer, message| {
            if message.kind() == 1 {
                peer.pause_reading();
            }
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&hello(10_000, 1 << 20));
        raw.send(&frame(1, b"pause"));
        raw.send(&frame(2, b"later"));
        harness.wait_for("the pause", || seen.messages().len() == 1);
        let id = seen.connected()[0];
        harness.world().run_for(Duration::from_secs(120));
        assert!(seen.ends().is_empty(), "{:?}", seen.ends());
        let resume = |peer: &mut posthouse::Peer<'_, Probe>| {
            peer.resume_reading();
            Ok(())
        };
        server.run(id, resume).expect("the connection is open");
        harness.wait_for("the rest", || seen.messages().len() == 2);
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        assert_eq!(seen.ends()[0].kind(), DisconnectKind::Silent, "the peer is not silent by now");
        drop(raw);
        harness.end(&server);
    });
}

/// A program that pauses for 100 ms again and again finds a silent peer all the same.
#[test]
fn many_short_pauses_do_not_hide_a_silent_peer() {
    in_simulation(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&hello(10_000, 1 << 20));
        harness.wait_for("the peer", || seen.connected().len() == 1);
        let id = seen.connected()[0];
        for _ in 0..60 {
            let pause = server.run(id, |peer: &mut posthouse::Peer<'_, Probe>| {
                peer.pause_reading();
                peer.after(Duration::from_millis(100), |peer| {
                    peer.resume_reading();
                    Ok(())
                })?;
                Ok(())
            });
            if pause.is_err() {
                break;
            }
            harness.world().run_for(Duration::from_millis(2_300));
        }
        assert_eq!(seen.ends().len(), 1, "the peer was silent for two minutes");
        assert_eq!(seen.ends()[0].kind(), DisconnectKind::Silent);
        drop(raw);
        harness.end(&server);
    });
}

/// The same, if a full send queue stops the reading: the peer reads slowly.
#[test]
fn a_slow_reader_is_not_called_silent() {
    in_simulation(|harness| {
        let probe = Probe::new().on_received(|peer, _| {
            peer.send(1, &vec![0; 600_000]);
            Ok(())
        });
        let seen = probe.seen();
        let tuning = harness.options().tuning.with_queue_low_bytes(0);
        let server = harness.serve_with(probe, harness.options().with(|o| o.tuning = tuning));
        let mut raw = harness.dial(&server);
        raw.send(&hello(10_000, 1 << 20));
        raw.send(&frame(0, b"give"));
        harness.wait_for("the message", || seen.messages().len() == 1);
        raw.stop_reading();
        // The peer reads about 16 KiB every 8 seconds, far above the minimum rate.
        for _ in 0..40 {
            harness.world().run_for(Duration::from_secs(8));
            raw.resume_reading();
            harness.world().run_for(Duration::from_micros(100));
            raw.stop_reading();
            raw.send(&frame(16, &[0; 8]));
            assert!(seen.ends().is_empty(), "{:?}", seen.ends());
            if server.stats().connections == 0 || server.peers()[0].queued_bytes == 0 {
                break;
            }
        }
        drop(raw);
        harness.end(&server);
    });
}

#[test]
fn both_ends_ask_and_the_smaller_heartbeat_counts() {
    in_simulation(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&hello(1_000, 1 << 20));
        let (kind, answer) = harness.read_frame(&mut raw);
        assert_eq!((kind, &answer[18..22]), (4, &1_000u32.to_le_bytes()[..]));
        // The server pings the peer, gets the pong, and pings again.
        for _ in 0..5 {
            let (kind, body) = harness.read_frame(&mut raw);
            assert_eq!(kind, 16);
            raw.send_frame(17, &body);
        }
        let since = harness.world().now();
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        assert!(harness.world().now() - since < Duration::from_secs(4));
        harness.end(&server);
    });
}

#[test]
fn a_client_gives_up_a_server_that_vanished() {
    in_simulation(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let client = harness.client_side(probe);
        let listener = harness.world().serve("10.0.0.9:1").expect("a free address");
        let to = Target::new("10.0.0.9:1");
        let id = client.connect(to, Line::default()).expect("no limit is reached");
        let mut server = Raw::simulated(harness.until("the client", || listener.accept()));
        assert_eq!(harness.read_frame(&mut server).0, 4);
        let mut answer = hello(0, 1 << 20);
        answer[5 + 38] = 0x80;
        server.send(&answer);
        harness.wait_for("the connection", || seen.connected().len() == 1);
        let since = harness.world().now();
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        assert!(harness.world().now() - since <= Duration::from_secs(30));
        assert_eq!(seen.ends()[0].kind(), DisconnectKind::Silent);
        assert!(client.send(id, 0, b"").is_err());
        harness.end(&client);
    });
}

/// A connection that has paused reading still notices the heartbeats of its peer, and does not
/// close it as silent.
#[test]
fn a_pause_may_be_longer_than_the_peers_patience() {
    in_simulation(|harness| {
        let probe = Probe::new().on_received(|peer, _| {
            peer.pause_reading();
            peer.after(Duration::from_secs(300), |peer| {
                peer.resume_reading();
                Ok(())
            })?;
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let client = harness.client(&server);
        client.send(0, b"pause").expect("the connection is open");
        client.send(0, b"later").expect("the connection is open");
        harness.wait_for("the first message", || seen.messages().len() == 1);
        harness.world().run_for(Duration::from_secs(299));
        assert_eq!(seen.messages().len(), 1);
        harness.world().run_for(Duration::from_secs(2));
        assert_eq!(seen.messages().len(), 2);
        assert!(seen.ends().is_empty());
        harness.end(&server);
    });
}
