//! C8: errors of `send` are synchronous and do not change the connection.

use std::time::Duration;

use posthouse::{Endpoint, Framing, Listener, PeerId, RunError, SendError};

use crate::harness::{Harness, Options, everywhere, in_simulation, target};
use crate::probe::{Line, Probe};
use crate::raw::{Raw, frame, hello};

/// Checks that the connection works, and that no byte of a rejected message was queued.
fn still_works(harness: &Harness<'_>, server: &Endpoint<Probe>, peer: PeerId, raw: &mut Raw) {
    server.send(peer, 1, b"still here").expect("the connection is unchanged");
    assert_eq!(harness.read_frame(raw), (1, b"still here".to_vec()), "an earlier frame arrived");
    assert!(server.peer(peer).is_some());
}

fn with_peer(harness: &Harness<'_>, options: Options) -> (Endpoint<Probe>, PeerId, Raw) {
    let probe = Probe::new();
    let seen = probe.seen();
    let server = harness.serve_with(probe, options);
    let raw = harness.dial(&server);
    harness.wait_for("the peer", || seen.connected().len() == 1);
    let peer = seen.connected()[0];
    (server, peer, raw)
}

#[test]
fn a_message_that_is_too_large_is_refused() {
    everywhere(|harness| {
        let options = harness.options().with(|o| o.connection.max_frame_bytes = 1_000);
        let (server, peer, mut raw) = with_peer(harness, options);
        let too_large = server.send(peer, 0, &[0; 1_001]);
        assert!(matches!(too_large, Err(SendError::TooLarge { .. })));
        still_works(harness, &server, peer, &mut raw);
        server.send(peer, 2, &[0; 1_000]).expect("the reply just fits");
        assert_eq!(harness.read_frame(&mut raw), (2, vec![0; 1_000]));
        drop(raw);
        harness.end(&server);
    });
}

#[test]
fn what_the_peer_takes_counts_once_it_has_said_so() {
    everywhere(|harness| {
        let (server, peer, mut raw) = with_peer(harness, harness.options());
        server.send(peer, 20, &[0; 5_000]).expect("the peer is still plain");
        assert_eq!(harness.read_frame(&mut raw), (20, vec![0; 5_000]));
        raw.send(&hello(0, 100));
        assert_eq!(harness.read_frame(&mut raw).0, 4);
        // The gate gets the new limit in the turn in which the answer leaves, or right after it.
        harness.wait_for("the new limit", || server.send(peer, 20, &[]).is_err());
        assert_eq!(server.send(peer, 20, &[]), Err(SendError::ReservedKind(20)));
        let too_large = server.send(peer, 0, &[0; 101]);
        assert!(matches!(too_large, Err(SendError::TooLarge { .. })));
        still_works(harness, &server, peer, &mut raw);
        assert!(server.everyone().send(0, &[0; 101]).is_ok(), "the send to everyone failed");
        harness.wait_for("the skip", || server.stats().group_skips == 1);
        still_works(harness, &server, peer, &mut raw);
        assert_eq!(server.everyone().send(20, &[]), Err(SendError::ReservedKind(20)));
        drop(raw);
        harness.end(&server);
    });
}

/// A frame that could be sent when it was encoded, and cannot be sent after the hello that arrived
/// meanwhile.
#[test]
fn a_kind_that_became_the_protocols_own_on_its_way_is_not_sent() {
    in_simulation(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        harness.wait_for("the peer", || seen.connected().len() == 1);
        let peer = seen.connected()[0];
        raw.send(&hello(0, 1 << 20));
        // Sends at every step of the hello exchange, until a send is rejected.
        while server.send(peer, 20, b"").is_ok() {
            harness.world().run_for(Duration::from_micros(7));
        }
        harness.world().run_for(Duration::from_secs(1));
        let mut answered = false;
        while let Some((kind, _)) = raw.take_frame() {
            assert!(!answered || kind == 5, "kind {kind} after the answer");
            answered |= kind == 4;
        }
        assert!(answered);
        drop(raw);
        harness.end(&server);
    });
}

#[test]
fn a_full_queue_refuses_and_keeps_what_it_has() {
    everywhere(|harness| {
        let size = if harness.is_real() { 16_000_000 } else { 600_000 };
        let max_frame = size;
        let send_queue_bytes = size;
        let options = harness.options().with(|o| {
            o.connection.max_frame_bytes = max_frame;
            o.connection.send_queue_bytes = send_queue_bytes;
        });
        let (server, peer, mut raw) = with_peer(harness, options);
        raw.stop_reading();
        server.send(peer, 0, &vec![0; size]).expect("a message alone in the queue always fits");
        for more in [size, size - 1_000] {
            match server.send(peer, 0, &vec![0; more]) {
                Err(SendError::QueueFull { queued_bytes }) => assert!(queued_bytes > 1_000),
                other => panic!("{other:?}"),
            }
        }
        let small = server.send(peer, 3, b"there is room for this");
        raw.resume_reading();
        assert_eq!(harness.read_frame(&mut raw), (0, vec![0; size]));
        if small.is_ok() {
            assert_eq!(harness.read_frame(&mut raw), (3, b"there is room for this".to_vec()));
        }
        still_works(harness, &server, peer, &mut raw);
        drop(raw);
        harness.end(&server);
    });
}

/// The simulated world stands still between two calls of the test, so no worker takes the posts.
#[test]
fn too_much_posted_work_is_refused_as_busy() {
    in_simulation(|harness| {
        let tuning = harness.options().tuning.with_max_posts(10);
        let (server, peer, mut raw) =
            with_peer(harness, harness.options().with(|o| o.tuning = tuning));
        for number in 0..10 {
            server.send(peer, number, b"waits").expect("no limit is reached");
        }
        assert_eq!(server.send(peer, 11, b"too much"), Err(SendError::Busy));
        assert_eq!(server.run(peer, |_| panic!("refused")), Err(RunError::Busy));
        for number in 0..10 {
            assert_eq!(harness.read_frame(&mut raw), (number, b"waits".to_vec()));
        }
        harness.wait_for("room in the queue", || server.peers()[0].queued_bytes == 0);
        still_works(harness, &server, peer, &mut raw);
        drop(raw);
        assert_eq!(harness.end(&server).panics, 0);
    });
}

/// A rejected group message reaches no member.
#[test]
fn a_group_refuses_for_all_or_for_none() {
    in_simulation(|harness| {
        let tuning = harness.options().tuning.with_max_posts(3);
        let probe = Probe::new();
        let seen = probe.seen();
        let server = harness.serve_with(probe, harness.options().with(|o| o.tuning = tuning));
        let mut raws: Vec<Raw> = (0..3).map(|_| harness.dial(&server)).collect();
        harness.wait_for("the peers", || seen.connected().len() == 3);
        // The send queue of one member is full.
        let first = seen.connected()[2];
        while server.send(first, 9, b"").is_ok() {}
        assert_eq!(server.everyone().send(1, b"for all"), Err(SendError::Busy));
        harness.world().run_for(Duration::from_secs(1));
        let mut got = 0;
        for raw in &mut raws {
            while let Some((kind, _)) = raw.take_frame() {
                got += usize::from(kind == 1);
            }
        }
        assert_eq!(got, 0, "a peer received the message");
        drop(raws);
        harness.end(&server);
    });
}

/// A callback has no way to return the error, so the connection is closed with it as the reason.
#[test]
fn a_message_that_cannot_be_sent_in_a_callback_closes_with_the_reason() {
    everywhere(|harness| {
        for (case, framing) in
            [("large", Framing::Native), ("kind", Framing::Lines), ("line", Framing::Lines)]
        {
            let probe = Probe::new().on_received(|peer, message| {
                match message.payload() {
                    b"large" => peer.send(0, &[0; 1_001]),
                    b"kind" => peer.send(7, b""),
                    _ => peer.send(0, b"a\nb"),
                }
                Ok(())
            });
            let seen = probe.seen();
            let options = harness.options().with(|o| o.connection.max_frame_bytes = 1_000);
            let native = framing == Framing::Native;
            let listener = Listener::new(harness.address()).framing(framing);
            let server = harness.start(options.builder(probe, listener));
            let mut raw = harness.dial(&server);
            let line = [case.as_bytes(), b"\n"].concat();
            raw.send(&if native { frame(0, case.as_bytes()) } else { line });
            harness.wait_for_end(&mut raw);
            drop(raw);
            harness.wait_for("the end of the connection", || seen.ends().len() == 1);
            assert_eq!(seen.ends()[0].kind(), posthouse::DisconnectKind::Unsendable, "{case}");
            harness.end(&server);
        }
    });
}

#[test]
fn a_connection_that_is_not_up_takes_nothing() {
    everywhere(|harness| {
        let server = harness.serve(Probe::new());
        let client = harness.client_side(Probe::new());
        let id = client.connect(target(&server), Line::default()).expect("no limit is reached");
        // The connection is open or not yet open: the send succeeds or fails with `NotConnected`.
        let early = client.send(id, 0, b"hello");
        assert!(matches!(early, Ok(()) | Err(SendError::NotConnected)), "{early:?}");
        harness.end(&client);
        assert_eq!(client.send(id, 0, b"hello"), Err(SendError::NotConnected));
        assert_eq!(client.run(id, |_| Ok(())), Err(RunError::NotConnected));
        let late = client.after(Duration::ZERO, |_| panic!("the endpoint has ended"));
        assert_eq!(late, Err(RunError::Shutdown));
        assert_eq!(client.everyone().send(0, b""), Ok(()), "a peer received the message");
        harness.end(&server);
    });
}
