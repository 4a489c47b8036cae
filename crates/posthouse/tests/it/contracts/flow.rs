//! C5 and C8: reading stops and resumes, and no queue grows without bound.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use posthouse::{DisconnectKind, Endpoint, Peer, SendError, Target};

use crate::harness::{Harness, everywhere, in_simulation, on_real_sockets};
use crate::probe::{Line, Probe};
use crate::raw::{Raw, frame};

#[expect(clippy::unnecessary_wraps, reason = "the task owns the peer's state")]
fn resume(peer: &mut Peer<'_, Probe>) -> posthouse::HandlerResult {
    peer.resume_reading();
    Ok(())
}

#[test]
fn a_pause_stops_between_any_two_messages_of_one_chunk() {
    everywhere(|harness| {
        let probe = Probe::new().on_received(|peer, _| {
            peer.pause_reading();
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        let stream: Vec<u8> = (0..50u8).flat_map(|number| frame(number, &[number; 3])).collect();
        raw.send(&stream);
        raw.finish();
        for number in 0..50u8 {
            let so_far = usize::from(number) + 1;
            harness.wait_for("the next message", || seen.messages().len() >= so_far);
            // The closure runs after all deliveries, including that of a message that ignored the
            // pause.
            let id = seen.connected()[0];
            let (done, wait) = std::sync::mpsc::channel();
            server
                .run(id, move |_| {
                    let _ = done.send(());
                    Ok(())
                })
                .expect("the connection is open");
            harness.wait_for("the run", || wait.try_recv().is_ok());
            if number == 49 && !harness.is_real() {
                harness.world().run_for(Duration::from_secs(1));
            }
            assert_eq!(seen.messages().len(), so_far, "one message for each resume");
            assert_eq!(seen.messages()[so_far - 1], (number, vec![number; 3]));
            assert!(seen.ends().is_empty(), "the end comes after the messages");
            server.run(id, resume).expect("the connection is open");
        }
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        drop(raw);
        harness.end(&server);
    });
}

#[test]
fn a_pause_in_connected_holds_everything_back() {
    everywhere(|harness| {
        let probe = Probe::new().on_connected(|peer| {
            peer.pause_reading();
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&frame(0, b"held back"));
        harness.wait_for("the peer", || seen.connected().len() == 1);
        let mut other = harness.dial(&server);
        other.send(&frame(0, b"the same"));
        harness.wait_for("another connection", || seen.connected().len() == 2);
        assert!(seen.messages().is_empty());
        server.run(seen.connected()[0], resume).expect("the connection is open");
        harness.wait_for("the message", || seen.messages() == [(0, b"held back".to_vec())]);
        drop((raw, other));
        harness.end(&server);
    });
}

/// A probe that answers every message with 10,000 bytes.
fn tenfold() -> Probe {
    Probe::new().forgetting_messages().on_received(|peer, _| {
        peer.state_mut().count += 1;
        let number = peer.state().count.to_le_bytes();
        let mut reply = vec![0; 10_000];
        reply[..8].copy_from_slice(&number);
        peer.send(0, &reply);
        Ok(())
    })
}

/// T6. The server stops reading from a peer that does not read, so the peer's own sends stop.
#[test]
fn an_accepted_peer_that_does_not_read_is_not_read_from_until_it_does() {
    everywhere(|harness| {
        let probe = tenfold();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.stop_reading();
        // The messages exceed all buffers between the two ends by far.
        let messages = if harness.is_real() { 1_500 } else { 250 };
        let question = if harness.is_real() { 20_000 } else { 5_000 };
        for _ in 0..messages {
            raw.send(&frame(0, &vec![1; question]));
        }
        match harness.is_real() {
            // The peer has more to send, and the server has not read for a while.
            true => harness.wait_for("a server that has stopped reading", || {
                let long = Duration::from_millis(300);
                raw.unsent() > 0 && server.peers().first().is_some_and(|info| info.idle > long)
            }),
            false => harness.world().run_for(Duration::from_secs(5)),
        }
        let info = server.peers()[0].clone();
        assert!(info.queued_bytes > 64 * 1024, "the queue fell below the low mark: {info:?}");
        assert!(info.queued_bytes < 256 * 1024 + 10_006, "one message over the mark: {info:?}");
        assert!(info.messages_received < messages as u64, "{info:?}");
        assert!(raw.unsent() > 0, "the peer's own sends have stopped");
        let before = seen.writable();
        raw.resume_reading();
        for number in 1..=messages as u64 {
            let (_, body) = harness.read_frame(&mut raw);
            assert_eq!(body[..8], number.to_le_bytes(), "messages are missing or out of order");
        }
        assert!(seen.writable() > before, "writable was not called");
        assert!(seen.ends().is_empty());
        drop(raw);
        harness.end(&server);
    });
}

#[test]
fn writable_is_told_once_for_each_time_that_the_queue_was_over_its_mark() {
    in_simulation(|harness| {
        let probe = Probe::new().on_received(|peer, _| {
            (0..40).for_each(|_| peer.send(0, &[0; 10_000]));
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        for round in 1..=3 {
            raw.send(&frame(0, b"fill"));
            for _ in 0..40 {
                harness.read_frame(&mut raw);
            }
            harness.wait_for("room in the queue", || seen.writable() == round);
        }
        harness.world().run_for(Duration::from_secs(1));
        assert_eq!(seen.writable(), 3);
        drop(raw);
        harness.end(&server);
    });
}

#[test]
fn a_sender_that_was_refused_is_told_when_to_try_again() {
    everywhere(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        // The queue never exceeds its high mark; only a rejected send makes a sender wait.
        let size = if harness.is_real() { 16_000_000 } else { 500_000 };
        let tuning =
            harness.options().tuning.with_queue_high_bytes(size + 5).with_queue_low_bytes(1_000);
        let options = harness.options().with(|o| {
            o.connection.send_queue_bytes = size + 5;
            o.tuning = tuning;
        });
        let server =
            harness.serve_with(probe, options.with(|o| o.connection.max_frame_bytes = size));
        let mut raw = harness.dial(&server);
        harness.wait_for("the peer", || seen.connected().len() == 1);
        raw.stop_reading();
        let id = seen.connected()[0];
        server.send(id, 0, &vec![0; size]).expect("no limit is reached");
        let again = server.send(id, 1, &vec![0; size]);
        assert!(matches!(again, Err(SendError::QueueFull { .. })), "{again:?}");
        raw.resume_reading();
        harness.wait_for("room in the queue", || {
            raw.received();
            seen.writable() == 1
        });
        server.send(id, 1, b"now").expect("no limit is reached");
        harness.read(&mut raw, size + 5);
        assert_eq!(harness.read_frame(&mut raw), (1, b"now".to_vec()));
        drop(raw);
        harness.end(&server);
        assert_eq!(seen.writable(), 1, "the callback ran more than once");
    });
}

/// A server whose side of the stream the test writes itself.
fn against(harness: &Harness<'_>, probe: Probe) -> (Endpoint<Probe>, Raw) {
    let client = harness.client_side(probe);
    if harness.is_real() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let to = Target::new(address.to_string());
        client.connect(to.without_hello(), Line::default()).expect("no limit is reached");
        let (tcp, _) = listener.accept().expect("the client connects");
        (client, Raw::accepted(tcp))
    } else {
        let listener = harness.world().serve("10.0.0.9:1").expect("a free address");
        let to = Target::new("10.0.0.9:1");
        client.connect(to.without_hello(), Line::default()).expect("no limit is reached");
        let raw = Raw::simulated(harness.until("the client", || listener.accept()));
        (client, raw)
    }
}

/// Two ends that both stop reading would wait for ever, so the connecting side closes instead.
#[test]
fn a_connecting_side_whose_peer_does_not_read_is_closed_and_not_stopped() {
    everywhere(|harness| {
        let probe = tenfold();
        let seen = probe.seen();
        let (client, mut server) = against(harness, probe);
        server.stop_reading();
        for _ in 0..2_000 {
            server.send(&frame(0, b"question"));
        }
        harness.wait_for("the end of the connection", || {
            server.unsent();
            seen.ends().len() == 1
        });
        assert_eq!(seen.ends()[0].kind(), DisconnectKind::QueueFull);
        assert!(seen.ends()[0].unsent_bytes() > 0, "{}", seen.ends()[0]);
        drop(server);
        harness.end(&client);
    });
}

/// T7. Members of a group that do not read are closed by their own send-queue limit.
#[test]
fn a_member_that_stops_reading_is_closed_and_the_others_do_not_notice() {
    on_real_sockets(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raws: Vec<Raw> = (0..4).map(|_| harness.dial(&server)).collect();
        harness.wait_for("the peers", || seen.connected().len() == 4);
        raws[0].stop_reading();
        let everyone = server.everyone();
        let mut received = [0; 4];
        for number in 0..400u32 {
            let mut body = vec![0; 100_000];
            body[..4].copy_from_slice(&number.to_le_bytes());
            everyone.send(0, &body).expect("the queues of the reading peers have room");
            for (place, raw) in raws.iter_mut().enumerate().skip(1) {
                let (_, body) = harness.read_frame(raw);
                assert_eq!(body[..4], number.to_le_bytes(), "member {place}");
                received[place] += 1;
            }
        }
        assert_eq!(received, [0, 400, 400, 400]);
        harness.wait_for("the end of one connection", || seen.ends().len() == 1);
        assert_eq!(seen.ends()[0].kind(), DisconnectKind::QueueFull);
        assert_eq!(everyone.len(), 3);
        drop(raws);
        harness.end(&server);
    });
}

/// Closures that are posted to a connection do not lengthen its turn at the expense of other
/// connections.
#[test]
fn closures_sent_to_a_connection_do_not_lengthen_its_turn() {
    on_real_sockets(|harness| {
        let harness = harness.with(1, 4);
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let probe = Probe::new().forgetting_messages().on_received(move |peer, message| {
            peer.state_mut().count += 1;
            if message.kind() == 1 {
                // The callback blocks until everything has been sent and posted.
                let _ = held.lock().expect("no thread panicked").recv();
            }
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&[frame(1, b"hold"), frame(2, b"").repeat(8_000)].concat());
        harness.wait_for("the peer", || seen.connected().len() == 1 && raw.unsent() == 0);
        let (told, counts) = mpsc::channel();
        for _ in 0..100 {
            let told = told.clone();
            let note = move |peer: &mut Peer<'_, Probe>| {
                let _ = told.send(peer.state().count);
                Ok(())
            };
            server.run(seen.connected()[0], note).expect("the connection is open");
        }
        release.send(()).expect("the callback waits");
        let counts: Vec<u64> =
            (0..100).map(|_| harness.until("a closure", || counts.try_recv().ok())).collect();
        assert!(counts[99] - counts[0] <= 256, "from {} to {}", counts[0], counts[99]);
        drop(raw);
        harness.end(&server);
    });
}

/// The peer's end is also delivered in order: not while the connection is paused.
#[test]
fn an_end_waits_for_the_end_of_a_pause() {
    in_simulation(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        harness.wait_for("the peer", || seen.connected().len() == 1);
        let id = seen.connected()[0];
        let pause = |peer: &mut Peer<'_, Probe>| {
            peer.pause_reading();
            Ok(())
        };
        server.run(id, pause).expect("the connection is open");
        harness.world().run_for(Duration::from_millis(10));
        raw.finish();
        harness.world().run_for(Duration::from_secs(1));
        assert!(seen.ends().is_empty());
        server.run(id, resume).expect("the connection is open");
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        assert_eq!(seen.ends()[0].kind(), DisconnectKind::Ended);
        drop(raw);
        harness.end(&server);
    });
}

/// Two threads send; both find the queue of posts full, and one of them also finds the room of the
/// send queue reserved by the other. That one is owed a call of `writable`, although nothing is
/// ever sent.
#[test]
fn room_that_was_reserved_in_vain_is_told_to_who_found_none() {
    on_real_sockets(|harness| {
        let harness = &harness.with(1, 1);
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let probe = Probe::new().on_received(move |_, _| {
            let _ = held.lock().expect("no thread panicked").recv();
            Ok(())
        });
        let seen = probe.seen();
        let options = harness.options().with(|o| {
            o.tuning.max_posts = 1;
            o.connection.send_queue_bytes = 100;
        });
        let server = harness.serve_with(probe, options);
        let mut raw = harness.dial(&server);
        raw.send(&frame(1, b"blocks the worker"));
        harness.wait_for("the message", || seen.messages().len() == 1);
        let id = seen.connected()[0];
        server.run(id, |_| Ok(())).expect("there is room for one post");
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                        match server.send(id, 1, &[0; 60]) {
                            Err(SendError::Busy) => {}
                            Err(SendError::QueueFull { .. }) => {
                                is_over.store(true, std::sync::atomic::Ordering::Relaxed);
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                });
            }
        });
        release.send(()).expect("the callback waits");
        harness.wait_for("the notice", || seen.writable() == 1);
        drop(raw);
        harness.end(&server);
    });
}
