//! C6: `connected` first, `disconnected` once and last; an id names one connection for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use posthouse::{Close, DisconnectKind, RunError, SendError};

use crate::harness::{everywhere, in_simulation};
use crate::probe::Probe;
use crate::raw::{Raw, frame, hello};

/// Peers connect and leave in every way for a while. The probe checks each callback and its order.
#[test]
fn every_connection_is_told_once_and_in_order_however_it_ends() {
    everywhere(|harness| {
        let probe = Probe::new()
            .forgetting_messages()
            .on_connected(|peer| {
                peer.send(0, b"welcome");
                Ok(())
            })
            .on_received(|peer, message| match message.payload() {
                b"bye" => Err(Close::graceful()),
                b"abort" => Err(Close::abort()),
                payload => {
                    peer.send(message.kind(), payload);
                    Ok(())
                }
            });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let rounds = if harness.is_real() { 300 } else { 40 };
        let mut stay: Vec<Raw> = Vec::new();
        for round in 0..rounds {
            let mut raw = harness.dial(&server);
            raw.stop_reading();
            let words: [&[u8]; 3] = [b"bye", b"abort", b"hello"];
            raw.send(&frame(1, words[round % 3]));
            match round % 7 {
                0 => raw.reset(),
                1 => drop(raw),
                2 => raw.send(&[0, 0, 0, 0]),
                3 => raw.finish(),
                _ => {
                    raw.resume_reading();
                    raw.send(&frame(1, &vec![0; round * 50]));
                    stay.push(raw);
                }
            }
        }
        match harness.is_real() {
            true => harness.wait_for("all peers", || server.stats().accepted == rounds as u64),
            // A peer that leaves the accept queue at once was never connected.
            false => harness.world().run_for(Duration::from_secs(1)),
        }
        stay.drain(..).for_each(|mut raw| raw.finish());
        harness.wait_for("the ends of all connections", || server.stats().connections == 0);
        let stats = harness.end(&server);
        assert_eq!(stats.connected, stats.accepted, "{stats:?}");
        assert!(stats.connected == rounds as u64 || !harness.is_real(), "{stats:?}");
        assert_eq!(seen.connected().len() as u64, stats.connected);
        assert_eq!(seen.ends().len() as u64, stats.connected);
    });
}

#[test]
fn an_id_of_a_gone_connection_never_names_another() {
    everywhere(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        // The registry has one slot, so each connection reuses the slot of the last one.
        let server =
            harness.serve_with(probe, harness.options().with(|o| o.endpoint.max_connections = 1));
        let mut gone = Vec::new();
        for round in 1..=10 {
            let mut raw = harness.dial(&server);
            harness.wait_for("the peer", || seen.connected().len() == round);
            let id = seen.connected()[round - 1];
            for old in &gone {
                assert_ne!(*old, id);
                assert_eq!(server.send(*old, 0, b"for another"), Err(SendError::NotConnected));
                assert_eq!(server.run(*old, |_| panic!()), Err(RunError::NotConnected));
                assert_eq!(server.close(*old, Close::abort()), Err(RunError::NotConnected));
                assert!(server.peer(*old).is_none());
            }
            server.send(id, 0, b"for you").expect("the connection is open");
            assert_eq!(harness.read_frame(&mut raw), (0, b"for you".to_vec()));
            drop(raw);
            harness.wait_for("the end of the connection", || server.stats().connections == 0);
            gone.push(id);
        }
        harness.end(&server);
    });
}

/// Messages and closures in the mailbox of a connection that ends are dropped, even if the next
/// connection already has its slot.
#[test]
fn posts_that_are_overtaken_by_the_end_reach_nobody() {
    in_simulation(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let server =
            harness.serve_with(probe, harness.options().with(|o| o.endpoint.max_connections = 1));
        let first = harness.dial(&server);
        harness.wait_for("the peer", || seen.connected().len() == 1);
        let id = seen.connected()[0];
        server.close(id, Close::abort()).expect("the connection is open");
        // The worker has not seen the close yet, so the endpoint accepts all of these messages and
        // sends none.
        for _ in 0..5 {
            server.send(id, 0, b"too late").expect("the end is not known to the sender yet");
        }
        server
            .run(id, |_| panic!("a closure of a connection that is gone"))
            .expect("the closure is accepted");
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        assert_eq!(seen.ends()[0].unsent_bytes(), 5 * 13, "the unsent bytes are not reported");
        drop(first);
        let mut second = harness.dial(&server);
        harness.wait_for("another connection", || seen.connected().len() == 2);
        server.send(seen.connected()[1], 0, b"for you").expect("the connection is open");
        assert_eq!(harness.read_frame(&mut second), (0, b"for you".to_vec()));
        assert_eq!(server.peers()[0].queued_bytes, 0);
        drop(second);
        assert_eq!(harness.end(&server).panics, 0);
    });
}

#[test]
fn what_was_left_unsent_is_told() {
    everywhere(|harness| {
        let size = 20 << 20;
        let probe = Probe::new().on_received(move |peer, message| {
            if message.payload() == b"abort" {
                return Err(Close::abort());
            }
            peer.send(0, &vec![0; 10 << 20]);
            peer.send(0, &vec![0; 10 << 20]);
            Ok(())
        });
        let seen = probe.seen();
        let tuning = harness.options().tuning.with_queue_high_bytes(1 << 28);
        let max_frame = 10 << 20;
        let send_queue_bytes = 1 << 28;
        let options = harness.options().with(|o| {
            o.connection.max_frame_bytes = max_frame;
            o.connection.send_queue_bytes = send_queue_bytes;
            o.tuning = tuning;
        });
        let server = harness.serve_with(probe, options);
        let mut raw = harness.dial(&server);
        raw.stop_reading();
        raw.send(&frame(0, b"fill"));
        raw.send(&frame(0, b"abort"));
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        let why = seen.ends()[0].clone();
        assert_eq!(why.kind(), DisconnectKind::Closed);
        assert!(why.unsent_bytes() > 0 && why.unsent_bytes() <= size + 10, "{why}");
        assert!(why.to_string().contains("bytes unsent"), "{why}");
        drop(raw);
        harness.end(&server);
    });
}

/// Every accepted byte has been passed to the system or is reported as unsent, whatever operation
/// the end of the connection overtook.
#[test]
fn what_was_taken_was_sent_or_is_told_as_unsent() {
    everywhere(|harness| {
        let told = Arc::new(AtomicU64::new(0));
        let sum = told.clone();
        let probe = Probe::new()
            .on_connected(|peer| {
                peer.send(0, b"welcome");
                Ok(())
            })
            .on_disconnected(move |peer, why| {
                let sent = peer.info().expect("the connection was open").bytes_sent;
                sum.store(sent + why.unsent_bytes(), Ordering::SeqCst);
            });
        let seen = probe.seen();
        let server = harness.serve(probe);
        for round in 1..=if harness.is_real() { 30 } else { 3 } {
            let mut raw = harness.dial(&server);
            raw.stop_reading();
            harness.wait_for("the peer", || seen.connected().len() == round);
            let id = seen.connected()[round - 1];
            let taken = AtomicU64::new(12);
            let send = || match server.send(id, 0, &[0; 95]) {
                Ok(()) => drop(taken.fetch_add(100, Ordering::SeqCst)),
                Err(SendError::NotConnected) => {}
                Err(error) => panic!("{error:?}"),
            };
            if harness.is_real() {
                std::thread::scope(|scope| {
                    (0..2).for_each(|_| drop(scope.spawn(|| (0..300).for_each(|_| send()))));
                    raw.reset();
                });
            } else {
                raw.reset();
                for _ in 0..200 {
                    send();
                    harness.world().run_for(Duration::from_micros(11));
                }
            }
            harness.wait_for("the end of the connection", || server.stats().connections == 0);
            let taken = taken.load(Ordering::SeqCst);
            let told = told.load(Ordering::SeqCst);
            assert_eq!(taken, told, "accepted and reported sends differ on {harness:?}");
        }
        harness.end(&server);
    });
}

/// A group has only open connections as members: a connection that ends leaves its groups, and a
/// connection that has left is not a member.
#[test]
fn a_group_forgets_who_is_gone() {
    everywhere(|harness| {
        let probe = Probe::new().on_connected(|peer| {
            let red = peer.endpoint().group("red");
            let blue = peer.endpoint().group("blue");
            peer.join(&red);
            peer.join(&red);
            peer.join(&blue);
            peer.leave(&blue);
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let red = server.group("red");
        let blue = server.group("blue");
        let mut raws: Vec<Raw> = (0..3).map(|_| harness.dial(&server)).collect();
        harness.wait_for("the peers", || seen.connected().len() == 3);
        harness.wait_for("the members", || (red.len(), server.everyone().len()) == (3, 3));
        harness.wait_for("the end of their memberships", || blue.is_empty());
        blue.send(0, b"to nobody").expect("no limit is reached");
        red.send_except(seen.connected()[0], 1, b"to two").expect("no limit is reached");
        red.send(2, b"to all").expect("no limit is reached");
        let mut first = Vec::new();
        for raw in &mut raws {
            first.push(harness.read_frame(raw).0);
        }
        first.sort_unstable();
        assert_eq!(first, [1, 1, 2]);
        drop(raws);
        harness.wait_for("the ends of the connections", || server.stats().connections == 0);
        assert_eq!((red.len(), server.everyone().len()), (0, 0));
        harness.end(&server);
    });
}

/// Timers of a connection and closures posted to it do not outlive it.
#[test]
fn nothing_runs_after_disconnected() {
    in_simulation(|harness| {
        let late = Arc::new(AtomicU64::new(0));
        let count = late.clone();
        let probe = Probe::new().on_connected(move |peer| {
            let count = count.clone();
            peer.after(Duration::from_secs(5), move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })?;
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&hello(1_000, 1 << 20));
        harness.wait_for("the peer", || seen.connected().len() == 1);
        drop(raw);
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        harness.world().run_for(Duration::from_secs(60));
        assert_eq!(late.load(Ordering::SeqCst), 0);
        assert_eq!(seen.told().len(), 2);
        harness.end(&server);
    });
}
