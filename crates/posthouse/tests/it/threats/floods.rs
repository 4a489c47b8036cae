//! Peers that ask for too much at once: T8, T10, T11, T16.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use posthouse::DisconnectKind;
use posthouse::sim::Faults;

use crate::harness::{everywhere, in_simulation, on_real_sockets};
use crate::probe::Probe;
use crate::raw::{Raw, frame, hello, request};

/// T10. A flood is served in turns like all other traffic: with one worker, another peer's message
/// is handled after only a small part of the flood.
#[test]
fn a_burst_of_empty_frames_leaves_the_others_their_turns() {
    const FLOOD: u64 = 100_000;
    on_real_sockets(|harness| {
        let harness = harness.with(1, 4);
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let flooded = Arc::new(AtomicU64::new(0));
        let at_other = Arc::new(Mutex::new(None));
        let count = flooded.clone();
        let note = at_other.clone();
        let probe = Probe::new().forgetting_messages().on_received(move |peer, message| {
            match message.kind() {
                1 => {
                    // The callback blocks until everything has been sent.
                    let _ = held.lock().expect("no thread panicked").recv();
                }
                2 => drop(count.fetch_add(1, Ordering::Relaxed)),
                _ => {
                    let so_far = count.load(Ordering::Relaxed);
                    note.lock().expect("no thread panicked").get_or_insert(so_far);
                    peer.send(message.kind(), message.payload());
                }
            }
            Ok(())
        });
        let server = harness.serve(probe);
        let mut flood = harness.dial(&server);
        let mut other = harness.dial(&server);
        harness.wait_for("both connections", || server.stats().connected == 2);
        flood.send(&frame(1, b"hold"));
        flood.send(&frame(2, b"").repeat(FLOOD as usize));
        harness.wait_for("the flood on its way", || flood.unsent() == 0);
        other.send(&frame(60, b"honest"));
        release.send(()).expect("the callback waits");
        assert_eq!(harness.read_frame(&mut other), (60, b"honest".to_vec()));
        let so_far = at_other.lock().expect("no thread panicked").expect("the count was recorded");
        assert!(so_far < FLOOD / 10, "{so_far} of the flood came first");
        harness.wait_for("the flood", || flooded.load(Ordering::Relaxed) == FLOOD);
        drop((flood, other));
        harness.end(&server);
    });
}

#[test]
fn a_burst_of_empty_frames_is_delivered_to_the_last() {
    in_simulation(|harness| {
        let probe = Probe::new().forgetting_messages().on_received(|peer, _| {
            peer.state_mut().count += 1;
            if peer.state().count == 20_000 {
                peer.send(1, b"all");
            }
            Ok(())
        });
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&frame(2, b"").repeat(20_000));
        assert_eq!(harness.read_frame(&mut raw), (1, b"all".to_vec()));
        drop(raw);
        harness.end(&server);
    });
}

/// T11.
#[test]
fn a_flood_of_pings_whose_pongs_are_not_read_is_closed() {
    everywhere(|harness| {
        let probe = Probe::echo();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.stop_reading();
        raw.send(&hello(0, 1 << 20));
        // The pongs exceed all buffers between the two ends.
        raw.send(&frame(16, &[1; 8]).repeat(if harness.is_real() { 1_500_000 } else { 60_000 }));
        harness.wait_for("the end of the connection", || {
            raw.unsent();
            let queued = server.peers().first().map_or(0, |info| info.queued_bytes);
            assert!(queued < 64 * 1024, "{queued} bytes of pongs");
            seen.ends().len() == 1
        });
        let why = seen.ends()[0].clone();
        assert!(why.to_string().contains("pings"), "{why}");
        drop(raw);
        harness.serves(&server);
        harness.end(&server);
    });
}

/// T10. The rejections count in the send queue: above its high mark the server stops reading.
#[test]
fn a_flood_of_requests_whose_rejections_are_not_read_is_not_read_either() {
    const HIGH: usize = 16 * 1024;
    everywhere(|harness| {
        let probe = Probe::new().on_requested(|peer, _, responder| {
            peer.state_mut().responders.extend(responder.take());
            Ok(())
        });
        let options = harness.options().with(|it| {
            // The mark holds without the pace of rejections.
            it.endpoint.max_rejections_per_second = 0;
            it.connection = it.connection.clone().with_max_requests(1);
            it.tuning =
                it.tuning.clone().with_queue_high_bytes(HIGH).with_queue_low_bytes(HIGH / 2);
        });
        let server = harness.serve_with(probe, options);
        let mut raw = harness.dial(&server);
        raw.stop_reading();
        raw.send(&hello(0, 1 << 20));
        // The rejections exceed all buffers between the two ends.
        let count = if harness.is_real() { 400_000 } else { 20_000 };
        raw.send(&(1..=count).flat_map(|id| request(id, 40, b"")).collect::<Vec<_>>());
        let queued = |raw: &mut Raw| {
            raw.unsent();
            server.peers().first().map_or(0, |info| info.queued_bytes)
        };
        // The system may take some more bytes after the queue has exceeded the mark.
        harness.wait_for("a full queue", || queued(&mut raw) > HIGH / 2);
        // A server that continued to read would queue far more in this time.
        for _ in 0..20 {
            let other = harness.dial(&server);
            harness.wait_for("the other connection", || server.stats().connections == 2);
            drop(other);
            harness.wait_for("the end of the connection", || server.stats().connections == 1);
            let queued = queued(&mut raw);
            assert!(queued < HIGH + 1_000, "{queued} bytes of rejections");
        }
        drop(raw);
        harness.end(&server);
    });
}

/// A peer sends as many pings as an honest peer may send.
#[test]
fn every_ping_is_answered_with_its_own_bytes() {
    everywhere(|harness| {
        let server = harness.serve(Probe::echo());
        let mut raw = harness.dial(&server);
        raw.send(&hello(0, 1 << 20));
        assert_eq!(harness.read_frame(&mut raw).0, 4);
        for number in 0..300u64 {
            raw.send(&frame(16, &number.to_le_bytes()));
            assert_eq!(harness.read_frame(&mut raw), (17, number.to_le_bytes().to_vec()));
        }
        drop(raw);
        harness.end(&server);
    });
}

/// T8.
#[test]
fn peers_that_come_and_reset_do_not_end_accepting() {
    everywhere(|harness| {
        let probe = Probe::echo().forgetting_messages().on_connected(|peer| {
            peer.send(50, b"welcome");
            Ok(())
        });
        let server = harness.serve(probe);
        let rounds = if harness.is_real() { 500 } else { 50 };
        for round in 0..rounds {
            let mut raw = harness.dial(&server);
            raw.stop_reading();
            match round % 3 {
                0 => raw.reset(),
                1 => drop(raw),
                _ => {
                    raw.send(&[9]);
                    raw.finish();
                }
            }
            if !harness.is_real() {
                harness.world().run_for(Duration::from_micros(round * 10));
            }
        }
        let client = harness.client(&server);
        assert_eq!(client.receive(Duration::from_secs(30)).expect("the greeting arrives").kind, 50);
        client.close();
        harness.wait_for("the ends of all connections", || server.stats().connections == 0);
        assert_eq!(harness.end(&server).accept_pauses, 0);
    });
}

/// T9. Accepting pauses and resumes, and every waiting peer is accepted.
#[test]
fn a_shortage_of_descriptors_pauses_accepting_and_no_more() {
    in_simulation(|harness| {
        let probe = Probe::echo();
        let server = harness.serve(probe);
        harness.world().faults(Faults { no_descriptors_ppm: 500_000, ..Faults::typical() });
        let mut raws: Vec<_> = (0..20).map(|_| harness.dial(&server)).collect();
        raws.iter_mut().for_each(|raw| raw.send(&frame(60, b"hello")));
        for raw in &mut raws {
            assert_eq!(harness.read_frame(raw), (60, b"hello".to_vec()));
        }
        let stats = server.stats();
        assert!(stats.accept_pauses > 0, "{stats:?}");
        assert!(stats.accept_pauses < 500, "a worker spins: {stats:?}");
        drop(raws);
        harness.end(&server);
    });
}

/// T16. The answer to a connection that was reset never reaches the connection that reuses its
/// slot.
#[test]
fn a_reset_and_an_instant_reconnect_do_not_mix() {
    everywhere(|harness| {
        let probe = Probe::new()
            .on_connected(|peer| {
                peer.send(50, b"welcome");
                Ok(())
            })
            .on_received(|peer, message| {
                let id = peer.id();
                let body = message.to_vec();
                let endpoint = peer.endpoint().clone();
                peer.send(1, &body);
                peer.after(Duration::from_millis(1), move |peer| {
                    peer.send(2, &body);
                    let again = body.clone();
                    let sent = endpoint.after(Duration::from_millis(1), move |endpoint| {
                        // The connection may already be gone.
                        let _ = endpoint.send(id, 3, &again);
                    });
                    assert!(sent.is_ok() || peer.endpoint().stats().connections > 0);
                    Ok(())
                })?;
                Ok(())
            });
        let seen = probe.seen();
        let server = harness.serve(probe);
        for round in 0..60u64 {
            let mut raw = harness.dial(&server);
            raw.stop_reading();
            raw.send(&frame(0, &round.to_le_bytes()));
            if round % 4 != 3 {
                raw.reset();
                continue;
            }
            raw.resume_reading();
            assert_eq!(harness.read_frame(&mut raw).0, 50);
            for kind in 1..=3 {
                let expected = (kind, round.to_le_bytes().to_vec());
                assert_eq!(harness.read_frame(&mut raw), expected, "the answer of another request");
            }
        }
        harness.wait_for("the ends of all connections", || server.stats().connections == 0);
        assert_eq!(harness.end(&server).panics, 0);
        assert!(
            seen.ends()
                .iter()
                .all(|why| { matches!(why.kind(), DisconnectKind::Reset | DisconnectKind::Ended) })
        );
    });
}
