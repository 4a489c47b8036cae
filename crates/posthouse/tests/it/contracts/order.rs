//! C5: messages keep their order, whatever the number of workers and pending reads.

use std::time::Duration;

use posthouse::{Close, Endpoint, Group, PeerId, ReadMode};

use crate::harness::{Harness, Options, everywhere, on_real_sockets, target};
use crate::probe::{Line, Probe};
use crate::raw::{Raw, frame};

/// The number that a message carries.
fn number(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload[..8].try_into().expect("a number in front"))
}

/// A message that carries a number, of a size that changes: some are large enough to be queued
/// by themselves.
fn numbered(number: u64) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    let large = if number % 7 == 3 { 2_000 } else { 0 };
    body.resize(8 + (number as usize * 37) % 300 + large, 1);
    body
}

fn roomy(harness: &Harness<'_>) -> Options {
    // Small buffers and small turns cause many completions and many turns.
    let tuning = harness
        .options()
        .tuning
        .with_receive_buffer_bytes(1024)
        .with_turn_messages(5)
        .with_queue_high_bytes(1 << 26);
    harness.options().with(|o| {
        o.connection.send_queue_bytes = 1 << 26;
        o.tuning = tuning;
    })
}

#[test]
fn messages_arrive_in_order_with_sixteen_workers_and_thirty_two_pending_reads() {
    everywhere(|harness| in_order_with_many_reads(harness, ReadMode::ZeroByte));
}

/// The system has enough memory for all of the reads.
#[cfg(windows)]
#[test]
fn messages_arrive_in_order_with_sixteen_workers_and_thirty_two_posted_reads() {
    on_real_sockets(|harness| in_order_with_many_reads(harness, ReadMode::Pending));
}

fn in_order_with_many_reads(harness: &Harness<'_>, read_mode: ReadMode) {
    let harness = harness.with(16, 32);
    let probe = Probe::new().forgetting_messages().on_received(|peer, message| {
        let expected = peer.state().count;
        peer.state_mut().count += 1;
        if number(message.payload()) != expected {
            return Err(Close::abort());
        }
        peer.send(0, message.payload());
        Ok(())
    });
    let seen = probe.seen();
    let mut options = roomy(&harness);
    options.tuning.read_mode = read_mode;
    let server = harness.serve_with(probe, options);
    let (peers, messages) = if harness.is_real() { (16, 3_000) } else { (3, 150) };
    let mut raws: Vec<Raw> = (0..peers).map(|_| harness.dial(&server)).collect();
    let stream: Vec<u8> = (0..messages).flat_map(|n| frame(0, &numbered(n))).collect();
    for (turn, piece) in stream.chunks(stream.len() / 50 + 1).enumerate() {
        for raw in &mut raws {
            let (first, rest) = piece.split_at(piece.len() * (turn % 7) / 7);
            raw.send(first);
            raw.send(rest);
        }
    }
    for raw in &mut raws {
        for expected in 0..messages {
            let (_, body) = harness.read_frame(raw);
            assert_eq!(body, numbered(expected), "an echo out of order on {harness:?}");
        }
    }
    assert!(seen.ends().is_empty(), "a message out of order: {:?}", seen.ends());
    drop(raws);
    harness.end(&server);
}

/// Sends in every way that one thread has, in turn.
fn send_in_some_way(server: &Endpoint<Probe>, group: &Group, peer: PeerId, next: u64) {
    let body = numbered(next);
    let sent = match next % 4 {
        0 => server.send(peer, 0, &body),
        1 => group.send(0, &body),
        2 => server.everyone().send(0, &body),
        _ => {
            let run = server.run(peer, move |peer| {
                peer.send(0, &body);
                Ok(())
            });
            run.expect("no limit is reached");
            Ok(())
        }
    };
    sent.expect("no limit is reached");
}

fn joining() -> Probe {
    Probe::new().on_connected(|peer| {
        let group = peer.endpoint().group("all");
        peer.join(&group);
        Ok(())
    })
}

#[test]
fn what_one_thread_sends_in_any_way_leaves_in_the_order_of_its_calls() {
    everywhere(|harness| {
        let probe = joining();
        let seen = probe.seen();
        let server = harness.serve_with(probe, roomy(harness));
        let mut raw = harness.dial(&server);
        harness.wait_for("the peer", || seen.connected().len() == 1);
        let peer = seen.connected()[0];
        let group = server.group("all");
        harness.wait_for("the member", || (group.len(), server.everyone().len()) == (1, 1));
        let messages = if harness.is_real() { 5_000 } else { 300 };
        for next in 0..messages {
            send_in_some_way(&server, &group, peer, next);
            if next % 50 == 0 && !harness.is_real() {
                harness.world().run_for(Duration::from_micros(30));
            }
        }
        for expected in 0..messages {
            assert_eq!(harness.read_frame(&mut raw).1, numbered(expected), "on {harness:?}");
        }
        drop(raw);
        harness.end(&server);
    });
}

#[test]
fn each_of_several_threads_keeps_its_own_order() {
    const EACH: u64 = 1_000;
    on_real_sockets(|harness| {
        let probe = joining();
        let seen = probe.seen();
        let server = harness.serve_with(probe, roomy(harness));
        let mut raw = harness.dial(&server);
        harness.wait_for("the peer", || seen.connected().len() == 1);
        let peer = seen.connected()[0];
        let group = server.group("all");
        harness.wait_for("the member", || (group.len(), server.everyone().len()) == (1, 1));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let server = &server;
                let group = &group;
                scope.spawn(move || {
                    for next in 0..EACH {
                        send_in_some_way(server, group, peer, thread << 32 | next);
                    }
                });
            }
        });
        let mut next = [0; 4];
        for _ in 0..4 * EACH {
            let got = number(&harness.read_frame(&mut raw).1);
            let thread = (got >> 32) as usize;
            let number = got & 0xffff_ffff;
            assert_eq!(number, next[thread], "thread {thread}");
            next[thread] += 1;
        }
        drop(raw);
        harness.end(&server);
    });
}

/// Both sides send at once, with requests between the messages.
#[test]
fn requests_and_messages_of_one_connection_arrive_in_the_order_of_the_calls() {
    everywhere(|harness| {
        let probe = Probe::new().on_requested(|_, message, responder| {
            responder.reply(1, message.payload());
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve_with(probe, roomy(harness));
        let client = Probe::new().on_connected(|peer| {
            for next in 0..200 {
                if next % 3 == 0 {
                    peer.request(0, &numbered(next), Duration::from_secs(60), |_, _| Ok(()));
                } else {
                    peer.send(0, &numbered(next));
                }
            }
            Ok(())
        });
        let client = harness.client_side(client);
        client.connect(target(&server), Line::default()).expect("no limit is reached");
        harness.wait_for("all messages", || seen.len() > 200);
        for (expected, (_, body)) in seen.messages().into_iter().enumerate() {
            assert_eq!(body, numbered(expected as u64));
        }
        harness.end(&client);
        harness.end(&server);
    });
}
