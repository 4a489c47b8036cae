//! What only a real Linux can show: its limits, its urgent data, its threads.

use std::io::Write;
use std::net::TcpStream;

use posthouse_io::{
    Address, Backend, CompletionPort, Failure, LaneId, ListenOptions, Op, Options, Outcome,
    ReceiveMode, Tag, Turn,
};
use rustix::net::SendFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bed::{Bed, End, Listening, PATIENCE};
use crate::own_process::in_own_process;
use crate::process::{Holdings, opened, ring_mappings};
use crate::real::{ALL, on_all};

/// A connection from a plain socket.
fn plain_peer(bed: &Bed, listening: Listening) -> (TcpStream, End) {
    let peer = TcpStream::connect(listening.address.socket_addr()).expect("a connection");
    let (end, _) = bed.accepted(listening, bed.lane(1));
    (peer, end)
}

#[test]
fn urgent_data_does_not_hold_up_the_bytes_behind_it() {
    on_all(|bed| {
        let listening = bed.listen(bed.lane(0));
        for mode in [ReceiveMode::Once, ReceiveMode::Stream] {
            let (mut peer, end) = plain_peer(bed, listening);
            let early = bed.receive(end, mode);
            peer.write_all(b"before").expect("sent");
            rustix::net::send(&peer, b"!", SendFlags::OOB).expect("sent");
            peer.write_all(b"behind").expect("sent");
            let mut got = Vec::new();
            while got.len() < 12 {
                let tag = match mode {
                    ReceiveMode::Stream => early,
                    ReceiveMode::Once if got.is_empty() => early,
                    ReceiveMode::Once => bed.receive(end, mode),
                };
                match bed.completion(tag).outcome {
                    Outcome::Received(buffer) => got.extend_from_slice(&buffer),
                    other => panic!("bytes, not {other:?}"),
                }
            }
            assert_eq!(got, b"beforebehind");
            bed.cancel(end);
            if mode == ReceiveMode::Stream {
                assert_eq!(bed.failure(early), Failure::Cancelled);
            }
            bed.close(end);
        }
        bed.unlisten(listening);
    });
}

#[test]
fn without_descriptors_accepting_pauses_and_loses_nobody() {
    if !in_own_process("linux::without_descriptors_accepting_pauses_and_loses_nobody") {
        return;
    }
    on_all(|bed| {
        const PEERS: usize = 40;
        let listening = bed.listen(bed.lane(0));
        let peers: Vec<_> = (0..PEERS)
            .map(|_| {
                bed.cancel(listening.end);
                TcpStream::connect(listening.address.socket_addr()).expect("a connection")
            })
            .collect();
        // The accept of the beginning is cancelled; what it took before is kept by the bed.
        let before = std::iter::from_fn(|| {
            let completion = bed.completion(listening.accept);
            completion.more.then_some(completion)
        });
        let mut accepted: Vec<_> = before.collect();

        let limit = getrlimit(Resource::Nofile);
        let used = std::fs::read_dir("/proc/self/fd").expect("descriptors").count() as u64;
        // Room for five more, less what stands between the numbers in use.
        let low = Rlimit { current: Some(used + 4), maximum: limit.maximum };
        setrlimit(Resource::Nofile, low).expect("the limit is lowered");
        let accept = bed.submit(listening.end.lane, Op::Accept(listening.end.socket));
        let paused = loop {
            let completion = bed.completion(accept);
            if !completion.more {
                break completion.outcome;
            }
            accepted.push(completion);
        };
        let passing = matches!(&paused, Outcome::Failed(error)
            if error.failure == Failure::NoDescriptors && error.is_passing());
        assert!(passing, "{paused:?}");
        assert!(accepted.len() < PEERS);

        let (near, connect) = bed.connect(bed.lane(2), listening.address);
        assert_eq!(bed.failure(connect), Failure::NoDescriptors);
        bed.close(near);

        setrlimit(Resource::Nofile, limit).expect("the limit is raised");
        let again = bed.submit(listening.end.lane, Op::Accept(listening.end.socket));
        while accepted.len() < PEERS {
            // Shared: another worker may still have been on its way with one of the paused accept.
            let either = || [again, accept].into_iter().find_map(|tag| bed.driver.take_kept(tag));
            accepted.push(bed.until("everybody", either));
        }
        drop((accepted, peers));
        bed.unlisten(Listening { accept: again, ..listening });
    });
}

#[test]
fn a_port_leaves_no_descriptor_behind() {
    if !in_own_process("linux::a_port_leaves_no_descriptor_behind") {
        return;
    }
    let before = Holdings::now();
    assert_eq!(before.ring_mappings, 0);
    on_all(|bed| {
        let (near, far) = bed.pair();
        let listening = bed.listen(bed.lane(0));
        bed.cancel(listening.end);
        assert_eq!(bed.failure(listening.accept), Failure::Cancelled);
        assert!(opened() > before.opened);
        assert_eq!(ring_mappings() > 0, matches!(bed.backend, Backend::Uring));
        bed.close_all([near, far, listening.end]);
    });
    assert_eq!(Holdings::now(), before);

    for (backend, layout) in ALL {
        let options = Options { backend, layout: Some(layout), ..Options::default() };
        let (port, _) = CompletionPort::open(options).expect("the port opens");
        let any: Address = "127.0.0.1:0".parse().expect("an address");
        let mut listener = port.listen(any, ListenOptions::default()).ok();
        port.spawn(LaneId(0), "io", move |lane| {
            // Left open, and left in flight: it goes with its lane, and is counted.
            let listener = lane.adopt_listener(listener.take().expect("one step"));
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
    on_all(|bed| {
        let (near, far) = bed.pair();
        let single = bed.receive(near, ReceiveMode::Once);
        let stream = bed.receive(far, ReceiveMode::Stream);
        assert_eq!(bed.port.counters().buffers_used, 0);
        bed.cancel_receives(near);
        bed.cancel_receives(far);
        assert_eq!(bed.failure(single), Failure::Cancelled);
        assert_eq!(bed.failure(stream), Failure::Cancelled);
        bed.close_all([near, far]);
    });
}

#[test]
fn a_connect_that_cannot_even_begin_fails_like_any_other() {
    on_all(|bed| {
        let nowhere = "255.255.255.255:9".parse().expect("an address");
        let (end, connect) = bed.connect(bed.lane(0), nowhere);
        assert_eq!(bed.failure(connect), Failure::Unreachable);
        bed.close(end);
    });
}
