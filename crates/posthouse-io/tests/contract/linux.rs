//! What only a real Linux can show: its limits, its urgent data, its threads.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use posthouse_io::{
    Address, Backend, CompletionPort, Failure, LaneId, Layout, ListenOptions, Op, Options, Outcome,
    ReceiveMode, Tag, Turn,
};
use rustix::net::SendFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bed::{BUFFER_BYTES, Bed, End, Listening, PATIENCE, gather, is_here, lock};
use crate::own_process::in_own_process;
use crate::process::{Holdings, opened, ring_mappings};

/// Every backend of Linux in each of its layouts.
const ALL: [(Backend, Layout); 3] = [
    (Backend::Readiness, Layout::Pinned),
    (Backend::Readiness, Layout::Shared),
    (Backend::Uring, Layout::Pinned),
];

/// Runs a test on each of them.
pub fn on_all(test: impl Fn(&Bed)) {
    for (backend, layout) in ALL.into_iter().filter(|(backend, _)| is_here(backend)) {
        eprintln!("on {backend:?}, {layout}");
        let bed = Bed::new(backend, layout, 4);
        test(&bed);
        bed.finish();
    }
}

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

#[test]
fn a_connect_that_nobody_answers_is_cancelled_or_reset() {
    on_all(|bed| {
        let any: Address = "127.0.0.1:0".parse().expect("an address");
        let no_room = ListenOptions { backlog: 0, ..ListenOptions::default() };
        let full = bed.port.listen(any, no_room).expect("a listener");
        let address = full.local_address();
        let _first = TcpStream::connect(address.socket_addr()).expect("room for one");
        let (one, connect) = bed.connect(bed.lane(0), address);
        bed.cancel(one);
        assert_eq!(bed.failure(connect), Failure::Cancelled);
        let (other, connect) = bed.connect(bed.lane(0), address);
        bed.reset(other);
        assert_eq!(bed.failure(connect), Failure::Reset);
        bed.close_all([one, other]);
    });
}

#[test]
fn wake_ups_from_many_threads_are_not_lost() {
    const EACH: usize = 10_000;
    on_all(|bed| {
        let ran = Arc::new(AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for n in 0..4 {
                let (driver, port, ran) = (bed.driver.clone(), bed.port.clone(), ran.clone());
                let lane = bed.lane(n % 2);
                scope.spawn(move || {
                    for _ in 0..EACH {
                        let (ran, bell) = (ran.clone(), driver.clone());
                        driver.post(lane, move |_| {
                            ran.fetch_add(1, Ordering::SeqCst);
                            bell.ring();
                        });
                        port.wake(lane);
                    }
                });
            }
        });
        bed.until("all commands", || (ran.load(Ordering::SeqCst) == 4 * EACH).then_some(()));
    });
}

/// Workers that wait for each other inside of their completions.
#[derive(Default)]
struct Meeting {
    here: Mutex<usize>,
    came: Condvar,
}

impl Meeting {
    /// Whether `count` came in time.
    fn join(&self, count: usize) -> bool {
        let mut here = lock(&self.here);
        *here += 1;
        self.came.notify_all();
        let alone = |here: &mut usize| *here < count;
        let limit = Duration::from_secs(30);
        !self.came.wait_timeout_while(here, limit, alone).expect("no panic").1.timed_out()
    }
}

#[test]
fn several_receives_of_one_socket_are_taken_by_several_workers() {
    const WORKERS: usize = 3;
    let bed = Bed::new(Backend::Readiness, Layout::Shared, WORKERS);
    for _ in 0..20 {
        let (near, far) = bed.pair();
        let (meeting, met) = (Arc::new(Meeting::default()), Arc::new(AtomicUsize::new(0)));
        let (driver, all_met) = (bed.driver.clone(), met.clone());
        bed.on(far.lane, move |lane| {
            for _ in 0..WORKERS {
                let (meeting, met) = (meeting.clone(), met.clone());
                let op = Op::Receive(far.socket, ReceiveMode::Once);
                driver.submit_then(lane, op, move |_, _| {
                    met.fetch_add(usize::from(meeting.join(WORKERS)), Ordering::SeqCst);
                });
            }
        });
        // One event brings as much as all of them take.
        bed.send_all(near, &vec![7; WORKERS * BUFFER_BYTES]);
        bed.until("the workers", || (all_met.load(Ordering::SeqCst) == WORKERS).then_some(()));
        bed.close_all([near, far]);
    }
    bed.finish();
}

#[test]
fn a_worker_that_is_busy_leaves_the_rest_of_its_batch_to_others() {
    const WORKERS: usize = 4;
    let bed = Bed::new(Backend::Readiness, Layout::Shared, WORKERS);
    let pairs: Vec<_> = (0..WORKERS).map(|_| bed.pair()).collect();
    for _ in 0..20 {
        let (meeting, met) = (Arc::new(Meeting::default()), Arc::new(AtomicUsize::new(0)));
        let (driver, all_met, ends) = (bed.driver.clone(), met.clone(), pairs.clone());
        bed.on(LaneId(0), move |lane| {
            for (near, far) in ends {
                let (meeting, met) = (meeting.clone(), met.clone());
                let op = Op::Receive(far.socket, ReceiveMode::Once);
                driver.submit_then(lane, op, move |_, _| {
                    met.fetch_add(usize::from(meeting.join(WORKERS)), Ordering::SeqCst);
                });
                driver.submit_then(lane, Op::Send(near.socket, gather(b"x")), |_, _| {});
            }
        });
        bed.until("the workers", || (all_met.load(Ordering::SeqCst) == WORKERS).then_some(()));
    }
    bed.close_all(pairs.into_iter().flat_map(|(near, far)| [near, far]));
    bed.finish();
}

#[test]
fn completions_that_a_busy_worker_leaves_behind_reach_all_the_others() {
    const WORKERS: usize = 4;
    const HANDLERS: usize = 2 * WORKERS;
    let bed = Bed::new(Backend::Readiness, Layout::Shared, WORKERS);
    // In the second round the command itself is one of those who meet: its worker does not come
    // to take completions.
    for in_command in [false, true] {
        let (meeting, met) = (Arc::new(Meeting::default()), Arc::new(AtomicUsize::new(0)));
        let (driver, all_met) = (bed.driver.clone(), met.clone());
        let socket = bed.on(LaneId(0), move |lane| {
            let socket = lane.socket();
            for _ in 0..HANDLERS {
                let (meeting, met) = (meeting.clone(), met.clone());
                // It ends at its submission: the socket is not connected.
                let op = Op::Receive(socket, ReceiveMode::Once);
                driver.submit_then(lane, op, move |_, _| {
                    met.fetch_add(usize::from(meeting.join(WORKERS)), Ordering::SeqCst);
                });
            }
            if in_command {
                meeting.join(WORKERS);
            }
            socket
        });
        bed.until("the workers", || (all_met.load(Ordering::SeqCst) == HANDLERS).then_some(()));
        bed.close(End { lane: LaneId(0), socket });
    }
    bed.finish();
}

#[test]
fn a_worker_that_panics_has_ended_and_the_others_go_on() {
    for (backend, layout) in ALL {
        let options = Options { backend, layout: Some(layout), ..Options::default() };
        let options = Options { io_workers: 2, ..options };
        let (port, _) = CompletionPort::open(options).expect("the port opens");
        port.spawn(LaneId(0), "doomed", |_| panic!("a panic that this test is about"))
            .expect("the worker starts");
        let other = LaneId(u16::from(layout == Layout::Pinned));
        let mut steps = 0;
        port.spawn(other, "well", move |_| {
            steps += 1;
            if steps < 100 { Turn::Sleep(Some(Duration::from_micros(50))) } else { Turn::Done }
        })
        .expect("the worker starts");
        assert_eq!(port.drain(PATIENCE), posthouse_io::Drained::default());
    }
}

#[test]
fn a_worker_that_does_not_end_is_counted_and_can_end_later() {
    for (backend, layout) in ALL {
        let options = Options { backend, layout: Some(layout), ..Options::default() };
        let (port, _) = CompletionPort::open(options).expect("the port opens");
        let stop = Arc::new(AtomicUsize::new(0));
        let seen = stop.clone();
        port.spawn(LaneId(0), "io", move |_| match seen.load(Ordering::SeqCst) {
            0 => Turn::Sleep(None),
            _ => Turn::Done,
        })
        .expect("the worker starts");
        assert_eq!(port.drain(Duration::from_millis(20)).workers, 1);
        stop.store(1, Ordering::SeqCst);
        port.wake(LaneId(0));
        assert_eq!(port.drain(PATIENCE).workers, 0);
    }
}
