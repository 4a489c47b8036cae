//! Peers that connect and never prove the key, or are never admitted: T4, T30.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use posthouse::sim::Faults;
use posthouse::{Address, DisconnectKind, Endpoint, EndpointOptions, Key, Listener, Target};

use crate::harness::{
    Harness, PATIENCE, everywhere, has_ipv6, in_simulation, on_real_sockets, target,
};
use crate::log;
use crate::probe::{Line, Probe, Seen};
use crate::raw::{Raw, bye, frame, hello};

/// The time of one way of a distant peer's bytes.
const ONE_WAY: Duration = Duration::from_millis(25);

fn key() -> Key {
    Key::new(b"0123456789abcdef").expect("a long enough key")
}

/// A server that demands the key, with this bound of connections.
fn guarded(harness: &Harness<'_>, max_connections: usize) -> (Endpoint<Probe>, Seen) {
    let probe = Probe::echo();
    let seen = probe.seen();
    let options = harness.options().with(|o| o.endpoint.max_connections = max_connections);
    let listener = Listener::new(harness.address()).key(key());
    (harness.start(options.builder(probe, listener)), seen)
}

/// Connects with the key, and is served.
fn proves(harness: &Harness<'_>, to: Target) {
    let client = harness.client_with(to.key(key()), EndpointOptions::default());
    let client = client.expect("who knows the key gets in");
    client.send(60, b"honest").expect("it is up");
    let reply = client.receive(PATIENCE).expect("a reply");
    assert_eq!((reply.kind, &reply.payload[..]), (60, &b"honest"[..]));
    client.close();
}

/// Peers that say hello and prove nothing, as many as the house has room for, and more.
fn crowd(harness: &Harness<'_>, server: &Endpoint<Probe>, peers: usize) -> Vec<Raw> {
    let dial = |_| {
        let mut raw = harness.dial(server);
        raw.send(&hello(0, 1 << 20));
        raw
    };
    (0..peers).map(dial).collect()
}

#[test]
fn a_crowd_that_proves_nothing_keeps_nobody_out_who_can_prove() {
    everywhere(|harness| {
        let (server, _) = guarded(harness, 100);
        let crowd = crowd(harness, &server, 200);
        for _ in 0..if harness.is_real() { 40 } else { 4 } {
            proves(harness, target(&server));
        }
        drop(crowd);
        harness.end(&server);
    });
}

/// A distant peer needs two round trips for its proof. Meanwhile one host takes every place of the
/// budget several times.
#[test]
fn a_proof_passes_over_a_long_way_while_one_host_floods() {
    in_simulation(|harness| {
        let world = harness.world();
        world.faults(Faults { delay: ONE_WAY..=ONE_WAY, ..Faults::none() });
        let (server, seen) = guarded(harness, 40);
        let probe = Probe::new();
        let met = probe.seen();
        let client = harness.client_side(probe);
        let mut flood = VecDeque::new();
        for honest in 1..=2 {
            client.connect(target(&server).key(key()), Line::default()).expect("there is room");
            let until = world.now() + 10 * ONE_WAY;
            while met.connected().len() < honest {
                assert!(world.now() < until, "in bounded time: {:?}", met.told());
                let from = "198.51.100.1".parse().expect("an address");
                let mut raw = Raw::simulated(world.dial_from(from, harness.address()));
                raw.send(&hello(0, 1 << 20));
                flood.push_back(raw);
                if flood.len() > 100 {
                    flood.pop_front();
                }
                world.run_for(Duration::from_millis(1));
            }
        }
        assert!(met.connect_failures().is_empty(), "{:?}", met.told());
        let stats = server.stats();
        assert!(stats.evicted > 100 && stats.refused == 0, "{stats:?}");
        assert!(stats.unadmitted <= 20, "half of max_connections: {stats:?}");
        assert_eq!(seen.connected().len(), 2);
        drop(flood);
        harness.end(&client);
        harness.end(&server);
    });
}

/// Connects, says hello and waits for the first byte of the answer, without end. Without the wait,
/// the accept queue of the system grows where an accept is slow, and honest peers wait in it.
fn flood(server: SocketAddr, over: &AtomicBool) {
    let mut held = VecDeque::new();
    while !over.load(Ordering::Relaxed) {
        // A full accept queue of the system may refuse.
        let Ok(mut tcp) = TcpStream::connect(server) else { continue };
        // It may be reset already.
        let _ = tcp.write_all(&hello(0, 1 << 20)).and_then(|()| tcp.read(&mut [0]));
        held.push_back(tcp);
        if held.len() > 100 {
            held.pop_front();
        }
    }
}

/// Passes the bytes of one direction on, each piece after the time of the way.
fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = [0; 4096];
    while let Ok(bytes @ 1..) = from.read(&mut piece) {
        let due = Instant::now() + ONE_WAY;
        while let Some(left) = due.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        if to.write_all(&piece[..bytes]).is_err() {
            break;
        }
    }
    // Fails where the connection is gone.
    let _ = to.shutdown(Shutdown::Write);
}

/// Starts the long way to a server: a relay for this number of connections. Returns its address.
fn long_way(server: Address, connections: usize) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").into();
    std::thread::spawn(move || {
        for near in listener.incoming().take(connections).flatten() {
            let far = TcpStream::connect(server.socket_addr()).expect("somebody listens");
            let clone = |tcp: &TcpStream| tcp.try_clone().expect("a descriptor");
            let back = (clone(&far), clone(&near));
            std::thread::spawn(move || carry(near, far));
            std::thread::spawn(move || carry(back.0, back.1));
        }
    });
    address
}

/// The same on real sockets, with a relay that takes its time.
#[test]
fn a_proof_passes_a_slow_relay_while_one_host_floods() {
    on_real_sockets(|harness| {
        if !has_ipv6() {
            return;
        }
        let (server, _) = guarded(harness, 100);
        // The relay is another host: it has another address.
        let listener = Listener::new("[::1]:0").key(key());
        let other = server.listen(listener).expect("a free port").local_address();
        let over = AtomicBool::new(false);
        let from = server.addresses()[0].socket_addr();
        std::thread::scope(|scope| {
            scope.spawn(|| flood(from, &over));
            harness.wait_for("a full budget", || server.stats().evicted > 0);
            let way = long_way(other, 5);
            let result = std::panic::catch_unwind(|| {
                (0..5).for_each(|_| proves(harness, Target::new(way)));
            });
            over.store(true, Ordering::Relaxed);
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        assert_eq!(server.stats().connected, 5, "each of them");
        harness.end(&server);
    });
}

/// The reason of an eviction is told to the handler, counted, and logged at a bounded rate.
#[test]
fn a_crowd_that_is_never_admitted_keeps_nobody_out_and_is_told_why() {
    log::keep();
    everywhere(|harness| {
        log::clear();
        let probe = Probe::new().on_received(|peer, message| {
            peer.admit();
            peer.send(message.kind(), message.payload());
            Ok(())
        });
        let seen = probe.seen();
        let options = harness.options().with(|o| {
            o.endpoint.max_connections = 20;
            o.connection.admission_timeout_ms = 3_600_000;
        });
        let server = harness.serve_with(probe, options);
        let mut crowd: Vec<Raw> = (0..100).map(|_| harness.dial(&server)).collect();
        harness.wait_for("the crowd", || server.stats().accepted == 100);
        let mut admitted: Vec<Raw> = Vec::new();
        for _ in 0..10 {
            let mut raw = harness.dial(&server);
            raw.send(&frame(60, b"a password"));
            assert_eq!(harness.read_frame(&mut raw), (60, b"a password".to_vec()));
            admitted.push(raw);
        }
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.refused), (110, 0), "{stats:?}");
        // Who is evicted at once never reaches the handler.
        harness.wait_for("the evicted", || {
            let stats = server.stats();
            stats.disconnected + stats.unreachable == stats.evicted
        });
        let stats = server.stats();
        assert_eq!((stats.unadmitted, stats.evicted), (9, 91), "one took its place: {stats:?}");
        for why in seen.ends() {
            assert_eq!(why.kind(), DisconnectKind::Evicted, "{why}");
        }
        for raw in &mut admitted {
            raw.send(&frame(61, b"still here"));
            assert_eq!(harness.read_frame(raw), (61, b"still here".to_vec()));
        }
        let lines = log::lines("lost its oldest");
        // In simulation all of this takes less than two seconds. Real time is not asserted.
        assert!(!lines.is_empty() && (harness.is_real() || lines.len() <= 2), "{lines:?}");
        assert!(lines[0].contains("max_unadmitted"), "{}", lines[0]);
        assert!(log::lines("connection failed").is_empty());
        // The whole house but one place is for the admitted.
        while admitted.len() < 20 {
            let mut raw = harness.dial(&server);
            raw.send(&frame(60, b"a password"));
            assert_eq!(harness.read_frame(&mut raw), (60, b"a password".to_vec()));
            admitted.push(raw);
        }
        for raw in &mut crowd {
            harness.wait_for_end(raw);
        }
        let stats = server.stats();
        assert_eq!((stats.unadmitted, stats.evicted, stats.refused), (0, 100, 0), "{stats:?}");
        let mut late = harness.dial(&server);
        harness.wait_for_end(&mut late);
        assert_eq!(server.stats().refused, 1, "everybody in the house is admitted");
        drop((crowd, admitted, late));
        harness.end(&server);
    });
}

/// A refused peer that does not end its stream holds its place no longer than the refusal takes.
#[test]
fn a_refused_proof_is_not_lingered_for() {
    everywhere(|harness| {
        let probe = Probe::echo();
        let options = harness.options().with(|o| o.connection.close_timeout_ms = 3_600_000);
        let listener = Listener::new(harness.address()).key(key());
        let server = harness.start(options.builder(probe, listener));
        let mut wrong = harness.dial(&server);
        wrong.send(&hello(0, 1 << 20));
        harness.read_frame(&mut wrong);
        wrong.send(&frame(6, &[1; 32]));
        let (kind, body) = harness.read_frame(&mut wrong);
        assert_eq!((kind, bye(&body).0), (5, 5), "it is told");
        let mut plain = harness.dial(&server);
        plain.send(&frame(40, b"no hello"));
        harness.wait_for("their end", || server.stats().connections == 0);
        drop((wrong, plain));
        harness.end(&server);
    });
}
