//! Tests that need a real Linux: its limits, its urgent data, its threads.

use std::io::Write;
use std::net::TcpStream;

use posthouse_io::{
    Address, Backend, CompletionPort, Failure, LaneId, ListenOptions, Op, Options, Outcome,
    ReceiveMode, Tag, Turn,
};
use rustix::net::{AddressFamily, SendFlags, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{End, Harness, Listening, PATIENCE};
use crate::namespace::{has_ip, ip, is_inside};
use crate::own_process::in_own_process;
use crate::real::{ALL, on_all};
use posthouse_process::{Holdings, opened, ring_mappings};

/// A connection whose peer is a plain socket.
fn plain_peer(harness: &Harness, listening: Listening) -> (TcpStream, End) {
    let peer =
        TcpStream::connect(listening.address.socket_addr()).expect("a connection is established");
    let (end, _) = harness.accepted(listening, harness.lane(1));
    (peer, end)
}

#[test]
fn urgent_data_does_not_hold_up_the_bytes_behind_it() {
    on_all(|harness| {
        let listening = harness.listen(harness.lane(0));
        for mode in [ReceiveMode::Once, ReceiveMode::Stream] {
            let (mut peer, end) = plain_peer(harness, listening);
            let early = harness.receive(end, mode);
            peer.write_all(b"before").expect("the bytes can be sent");
            rustix::net::send(&peer, b"!", SendFlags::OOB).expect("the bytes can be sent");
            peer.write_all(b"behind").expect("the bytes can be sent");
            let mut got = Vec::new();
            while got.len() < 12 {
                let tag = match mode {
                    ReceiveMode::Stream => early,
                    ReceiveMode::Once if got.is_empty() => early,
                    ReceiveMode::Once => harness.receive(end, mode),
                };
                match harness.completion(tag).outcome {
                    Outcome::Received(buffer) => got.extend_from_slice(&buffer),
                    other => panic!("bytes, not {other:?}"),
                }
            }
            assert_eq!(got, b"beforebehind");
            harness.cancel(end);
            if mode == ReceiveMode::Stream {
                assert_eq!(harness.failure(early), Failure::Cancelled);
            }
            harness.close(end);
        }
        harness.unlisten(listening);
    });
}

#[test]
fn without_descriptors_accepting_pauses_and_loses_nobody() {
    if !in_own_process("linux::without_descriptors_accepting_pauses_and_loses_nobody") {
        return;
    }
    on_all(|harness| {
        const PEERS: usize = 40;
        let listening = harness.listen(harness.lane(0));
        let peers: Vec<_> = (0..PEERS)
            .map(|_| {
                harness.cancel(listening.end);
                TcpStream::connect(listening.address.socket_addr())
                    .expect("a connection is established")
            })
            .collect();
        // The first accept is cancelled; the harness keeps the peers that it accepted before.
        let before = std::iter::from_fn(|| {
            let completion = harness.completion(listening.accept);
            completion.more.then_some(completion)
        });
        let mut accepted: Vec<_> = before.collect();

        let limit = getrlimit(Resource::Nofile);
        let used =
            std::fs::read_dir("/proc/self/fd").expect("the descriptors are listed").count() as u64;
        // There is room for five more descriptors, less the gaps between the numbers in use.
        let low = Rlimit { current: Some(used + 4), maximum: limit.maximum };
        setrlimit(Resource::Nofile, low).expect("the limit is lowered");
        let accept = harness.submit(listening.end.lane, Op::Accept(listening.end.socket));
        let paused = loop {
            let completion = harness.completion(accept);
            if !completion.more {
                break completion.outcome;
            }
            accepted.push(completion);
        };
        let passing = matches!(&paused, Outcome::Failed(error)
            if error.failure == Failure::NoDescriptors && error.is_transient());
        assert!(passing, "{paused:?}");
        assert!(accepted.len() < PEERS);

        let (near, connect) = harness.connect(harness.lane(2), listening.address);
        assert_eq!(harness.failure(connect), Failure::NoDescriptors);
        harness.close(near);

        setrlimit(Resource::Nofile, limit).expect("the limit is raised");
        let again = harness.submit(listening.end.lane, Op::Accept(listening.end.socket));
        while accepted.len() < PEERS {
            // In the shared layout another worker may still hold a completion of the paused accept.
            let either =
                || [again, accept].into_iter().find_map(|tag| harness.driver.take_kept(tag));
            accepted.push(harness.until("everybody", either));
        }
        drop((accepted, peers));
        harness.unlisten(Listening { accept: again, ..listening });
    });
}

#[test]
fn a_port_leaves_no_descriptor_behind() {
    if !in_own_process("linux::a_port_leaves_no_descriptor_behind") {
        return;
    }
    let before = Holdings::now();
    assert_eq!(before.ring_mappings, 0);
    on_all(|harness| {
        let (near, far) = harness.pair();
        let listening = harness.listen(harness.lane(0));
        harness.cancel(listening.end);
        assert_eq!(harness.failure(listening.accept), Failure::Cancelled);
        assert!(opened() > before.opened);
        assert_eq!(ring_mappings() > 0, matches!(harness.backend, Backend::Uring));
        harness.close_all([near, far, listening.end]);
    });
    assert_eq!(Holdings::now(), before);

    for (backend, layout) in ALL {
        let options = Options { layout: Some(layout), ..Options::default() };
        let (port, _) = CompletionPort::open(backend, &options).expect("the port opens");
        let any: Address = "127.0.0.1:0".parse().expect("an address");
        let mut listener = port.listen(any, ListenOptions::default()).ok();
        port.spawn(LaneId(0), "io", move |lane| {
            // The listener is left open with its accept in flight: the lane drops both, and they
            // are counted.
            let listener = lane.adopt_listener(listener.take().expect("the step runs once"));
            lane.submit(Tag(1), Op::Accept(listener));
            Turn::Done
        })
        .expect("the worker starts");
        let drained = port.drain(PATIENCE);
        assert_eq!((drained.workers, drained.leaked), (0, 1));
        drop(port);
        assert_eq!(Holdings::now(), before);
    }
}

#[test]
fn an_idle_connection_holds_no_buffer() {
    on_all(|harness| {
        let (near, far) = harness.pair();
        let single = harness.receive(near, ReceiveMode::Once);
        let stream = harness.receive(far, ReceiveMode::Stream);
        assert_eq!(harness.port.counters().buffers_used, 0);
        harness.cancel_receives(near);
        harness.cancel_receives(far);
        assert_eq!(harness.failure(single), Failure::Cancelled);
        assert_eq!(harness.failure(stream), Failure::Cancelled);
        harness.close_all([near, far]);
    });
}

#[test]
fn a_connect_that_meets_itself_is_refused_and_leaves_the_port() {
    const TEST: &str = "linux::a_connect_that_meets_itself_is_refused_and_leaves_the_port";
    const PORT: u16 = 40_000;
    if !is_inside(TEST, &["--net"], has_ip) {
        return;
    }
    ip(&["link", "set", "lo", "up"]);
    // The system has one port to choose for the connecting end, and it is the target's.
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", format!("{PORT} {PORT}"))
        .expect("the range is set");
    on_all(|harness| {
        for host in ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"] {
            let target: Address = format!("{host}:{PORT}").parse().expect("an address");
            let (end, connect) = harness.connect(harness.lane(1), target);
            assert_eq!(harness.failure(connect), Failure::Refused, "{host}");
            // The server gets its port although the socket is still open.
            bind_alone(target);
            let receive = harness.receive(end, ReceiveMode::Once);
            assert_eq!(harness.failure(receive), Failure::NotConnected, "{host}");
            let send = harness.send(end, b"to itself");
            assert_eq!(harness.failure(send), Failure::NotConnected, "{host}");
            harness.close(end);
            bind_alone(target);
        }
    });
}

/// Binds an address that no other socket, connected or remembered, may have.
fn bind_alone(address: Address) {
    let address = address.socket_addr();
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket(family, SocketType::STREAM, None).expect("a socket");
    rustix::net::bind(&socket, &address).expect("nobody has the port");
}

#[test]
fn a_connect_that_cannot_even_begin_fails_like_any_other() {
    on_all(|harness| {
        let nowhere = "255.255.255.255:9".parse().expect("an address");
        let (end, connect) = harness.connect(harness.lane(0), nowhere);
        assert_eq!(harness.failure(connect), Failure::Unreachable);
        harness.close(end);
    });
}
