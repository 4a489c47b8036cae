//! Tests of rings: an empty buffer group, full queues, a kernel that still uses memory.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use posthouse_io::{
    Address, Backend, Cancel, Failure, Lane, Layout, ListenOptions, Op, Outcome, ReceiveMode,
    Socket, Tag,
};

use crate::driver::Driver;
use crate::harness::{
    BUFFER_BYTES, End, Harness, Listening, PATIENCE, assert_same, gather, is_here, lock, pattern,
};
use crate::own_process::in_own_process;
use posthouse_process::Holdings;

/// The number of buffers that a ring provides.
const GROUP: usize = 128;
/// The number of completions in the queue: eight times as many as requests.
const COMPLETIONS: usize = 8192;

fn on_one_lane() -> Harness {
    Harness::new(Backend::Uring, Layout::Pinned, 1)
}

/// Connects a plain socket to lane 0.
fn plain_peer(harness: &Harness, listening: Listening) -> (TcpStream, End) {
    let peer =
        TcpStream::connect(listening.address.socket_addr()).expect("a connection is established");
    let (end, _) = harness.accepted(listening, harness.lane(0));
    (peer, end)
}

/// Submits an operation for each value, all of them in one step.
fn submit_all<T: Send + 'static>(
    harness: &Harness,
    each: Vec<T>,
    op: impl Fn(T) -> Op + Send + 'static,
) -> Vec<Tag> {
    let driver = harness.driver.clone();
    harness.on(harness.lane(0), move |lane| {
        each.into_iter().map(|t| driver.submit(lane, op(t))).collect()
    })
}

/// Appends the bytes of a stream until there are at least `count`.
fn read_stream(harness: &Harness, stream: Tag, bytes: &mut Vec<u8>, count: usize) {
    while bytes.len() < count {
        let completion = harness.completion(stream);
        match (completion.outcome, completion.more) {
            (Outcome::Received(buffer), true) => bytes.extend_from_slice(&buffer),
            other => panic!("bytes of a stream that goes on, not {other:?}"),
        }
    }
}

#[test]
fn streams_go_on_after_the_group_of_buffers_was_empty() {
    const PEERS: usize = 64;
    const FIRST: usize = 8 * BUFFER_BYTES;
    const ALL: usize = 32 * BUFFER_BYTES;
    const _: () = assert!(PEERS * FIRST > 3 * GROUP * BUFFER_BYTES, "the group will be empty");
    if !is_here(&Backend::Uring) {
        return;
    }
    let harness = on_one_lane();
    let listening = harness.listen(harness.lane(0));
    let mut peers: Vec<_> = (0..PEERS).map(|_| plain_peer(&harness, listening)).collect();
    let sent: Vec<_> = (0..PEERS).map(|n| pattern(ALL, n as u64)).collect();
    for ((peer, _), bytes) in peers.iter_mut().zip(&sent) {
        peer.write_all(&bytes[..FIRST]).expect("the bytes can be sent");
    }
    let ends: Vec<_> = peers.iter().map(|(_, end)| *end).collect();
    // All bytes have arrived when the streams begin, and no buffer is given back: the harness keeps
    // the completions, which hold more buffers than the lane reserves for streams.
    let stream = |end: End| Op::Receive(end.socket, ReceiveMode::Stream);
    let streams = submit_all(&harness, ends.clone(), stream);
    let held = |count: usize| {
        let held = || harness.port.counters().buffers_used;
        harness.until("the buffers to be held", || (held() * BUFFER_BYTES >= count).then_some(()));
    };
    held(PEERS * FIRST);
    std::thread::scope(|scope| {
        for ((peer, _), bytes) in peers.iter_mut().zip(&sent) {
            scope.spawn(|| peer.write_all(&bytes[FIRST..]).expect("the bytes can be sent"));
        }
    });
    held(PEERS * ALL);
    for (stream, sent) in streams.iter().zip(&sent) {
        let mut got = Vec::new();
        read_stream(&harness, *stream, &mut got, ALL);
        assert_same(&got, sent);
    }
    // The streams continue when the buffers are back.
    for ((peer, end), stream) in peers.iter_mut().zip(&streams) {
        peer.write_all(b"after").expect("the bytes can be sent");
        let mut got = Vec::new();
        read_stream(&harness, *stream, &mut got, 5);
        assert_eq!(got, b"after");
        harness.cancel(*end);
        assert_eq!(harness.failure(*stream), Failure::Cancelled);
    }
    harness.close_all(ends);
    harness.unlisten(listening);
    harness.finish();
}

/// Makes `count` connections and returns their ends, one pair after the other.
fn many_pairs(harness: &Harness, listening: Listening, count: usize) -> Vec<End> {
    /// The number of simultaneous connects, fewer than the system queues for an accept.
    const WAVE: usize = 1000;
    let lane = harness.lane(0);
    let address = listening.address;
    let mut ends = Vec::new();
    while ends.len() < 2 * count {
        let wave = WAVE.min(count - ends.len() / 2);
        let driver = harness.driver.clone();
        let connects: Vec<(Socket, Tag)> = harness.on(lane, move |lane| {
            let sockets: Vec<_> = (0..wave).map(|_| lane.socket()).collect();
            let connect = |socket| (socket, driver.submit(lane, Op::Connect(socket, address)));
            sockets.into_iter().map(connect).collect()
        });
        for (_, connect) in &connects {
            assert!(matches!(harness.outcome(*connect), Outcome::Connected));
        }
        let accepted: Vec<_> = (0..wave)
            .map(|_| match harness.completion(listening.accept).outcome {
                Outcome::Accepted(new) => new,
                other => panic!("a peer, not {other:?}"),
            })
            .collect();
        ends.extend(harness.on(lane, move |on| {
            let far = accepted.into_iter().map(|new| (new.peer, on.adopt(*new)));
            let mut far: HashMap<Address, Socket> = far.collect();
            let mut pairs = Vec::new();
            for (near, _) in connects {
                let local = on.local_address(near).expect("an address");
                pairs.extend([near, far.remove(&local).expect("the other end is known")]);
            }
            pairs.into_iter().map(|socket| End { lane, socket }).collect::<Vec<_>>()
        }));
    }
    ends
}

/// Submits nine thousand requests in one step, most of which complete at their submission. The
/// queue of requests is full eight times, and the queue of completions once.
#[test]
fn queues_that_are_full_lose_nothing() {
    const PAIRS: usize = COMPLETIONS * 11 / 20;
    const _: () = assert!(2 * PAIRS > COMPLETIONS, "the ends fit into one queue of completions");
    if !is_here(&Backend::Uring) {
        return;
    }
    let harness = on_one_lane();
    let listening = harness.listen(harness.lane(0));
    let ends = many_pairs(&harness, listening, PAIRS);
    let number = |n: usize| n.to_le_bytes();

    let numbered = ends.iter().copied().enumerate().collect();
    let sends =
        submit_all(&harness, numbered, move |(n, end)| Op::Send(end.socket, gather(&number(n))));
    for send in sends {
        assert!(matches!(harness.outcome(send), Outcome::Sent { bytes: 8, .. }));
    }
    let stream = |end: End| Op::Receive(end.socket, ReceiveMode::Stream);
    let streams = submit_all(&harness, ends.clone(), stream);
    for (n, stream) in streams.iter().enumerate() {
        let mut got = Vec::new();
        read_stream(&harness, *stream, &mut got, 8);
        // The received bytes are those of the other end of the pair.
        assert_eq!(got, number(n ^ 1));
    }
    let cancelled = ends.clone();
    harness.on(harness.lane(0), move |lane| {
        for end in cancelled {
            lane.cancel(end.socket, Cancel::Everything);
        }
    });
    for stream in streams {
        assert_eq!(harness.failure(stream), Failure::Cancelled);
    }
    for close in submit_all(&harness, ends, |end| Op::Close(end.socket)) {
        assert!(matches!(harness.outcome(close), Outcome::Closed));
    }
    harness.unlisten(listening);
    harness.finish();
}

#[test]
fn accepting_that_is_cancelled_and_begun_again_amid_a_storm_loses_nobody() {
    const THREADS: usize = 4;
    const EACH: usize = 250;
    if !is_here(&Backend::Uring) {
        return;
    }
    let harness = on_one_lane();
    let listening = harness.listen(harness.lane(0));
    let mut accept = listening.accept;
    let mut came = HashSet::new();
    let address = listening.address.socket_addr();
    let peers: Vec<_> = std::thread::scope(|scope| {
        let storm: Vec<_> = (0..THREADS)
            .map(|_| {
                let connect = |_| TcpStream::connect(address).expect("a connection is established");
                scope.spawn(move || (0..EACH).map(connect).collect::<Vec<_>>())
            })
            .collect();
        let mut rounds = 0;
        while came.len() < THREADS * EACH {
            rounds += 1;
            let first = harness.completion(accept);
            harness.cancel(listening.end);
            let mut next = Some(first);
            loop {
                let completion = next.take().unwrap_or_else(|| harness.completion(accept));
                match completion.outcome {
                    Outcome::Accepted(new) => {
                        assert!(came.insert(new.peer), "{new:?} was accepted twice");
                    }
                    Outcome::Failed(error) => {
                        assert_eq!(error.failure, Failure::Cancelled);
                        break;
                    }
                    other => panic!("a peer, not {other:?}"),
                }
            }
            accept = harness.submit(listening.end.lane, Op::Accept(listening.end.socket));
        }
        eprintln!("accepted in {rounds} rounds");
        storm.into_iter().flat_map(|thread| thread.join().expect("no thread panicked")).collect()
    });
    let local = |peer: &TcpStream| Address::from(peer.local_addr().expect("an address"));
    assert_eq!(came, peers.iter().map(local).collect());
    harness.unlisten(Listening { accept, ..listening });
    harness.finish();
}

/// Returns the number that the next descriptor of this process gets.
fn next_number() -> i32 {
    std::fs::File::open("/dev/null").expect("the descriptor opens").as_raw_fd()
}

#[test]
fn a_handle_number_that_is_used_again_at_once_gets_only_its_own() {
    const ROUNDS: usize = 200;
    if !is_here(&Backend::Uring) {
        return;
    }
    if !in_own_process("uring_only::a_handle_number_that_is_used_again_at_once_gets_only_its_own") {
        return;
    }
    let harness = on_one_lane();
    let listening = harness.listen(harness.lane(0));
    let lane = harness.lane(0);
    let (mut near, connect) = harness.connect(lane, listening.address);
    assert!(matches!(harness.outcome(connect), Outcome::Connected));
    let mut far = harness.accepted(listening, lane).0;
    let mut used_again = 0;
    for round in 0..ROUNDS {
        let stream = harness.receive(near, ReceiveMode::Stream);
        // This send is in flight when the end arrives.
        let lost = harness.send(far, &vec![1; BUFFER_BYTES]);
        let address = listening.address;
        let driver = harness.driver.clone();
        let begun = Arc::new(Mutex::new(None));
        let successor = begun.clone();
        // The receives are cancelled three times, the socket is closed, and another takes its slot,
        // with nothing in between.
        harness.cancel_receives(near);
        harness.on(lane, move |lane| {
            (0..3).for_each(|_| lane.cancel(near.socket, Cancel::Everything));
        });
        while harness.completion(stream).more {}
        harness.on(lane, move |on| {
            let again = driver.clone();
            driver.submit_then(on, Op::Close(near.socket), move |on, _| {
                let number = next_number();
                let socket = on.socket();
                let connect = again.submit(on, Op::Connect(socket, address));
                *lock(&successor) = Some((End { lane, socket }, connect, number));
                again.notify_all();
            });
        });
        let (next, connect, number) = harness.until("the next", || lock(&begun).take());
        used_again += usize::from(number < next_number());
        assert!(matches!(harness.outcome(connect), Outcome::Connected), "in round {round}");
        let (peer, _) = harness.accepted(listening, lane);
        harness.send_all(peer, &round.to_le_bytes());
        assert_eq!(harness.read(next, 8), round.to_le_bytes());
        let _ = harness.outcome(lost);
        harness.close(far);
        near = next;
        far = peer;
    }
    assert_eq!(used_again, ROUNDS);
    harness.close_all([near, far]);
    harness.unlisten(listening);
    harness.finish();
}

/// The ways to end a worker that has every kind of operation in flight.
#[derive(Clone, Copy, Debug)]
enum Ending {
    InAStepOfItsOwn,
    BeforeTheKernelHasSeenAnything,
    ByAPanic,
}

#[test]
fn a_lane_that_goes_with_everything_in_flight_leaves_nothing() {
    if !is_here(&Backend::Uring) {
        return;
    }
    if !in_own_process("uring_only::a_lane_that_goes_with_everything_in_flight_leaves_nothing") {
        return;
    }
    let before = Holdings::now();
    for guarded in [false, true] {
        for end in
            [Ending::InAStepOfItsOwn, Ending::BeforeTheKernelHasSeenAnything, Ending::ByAPanic]
        {
            let harness = match guarded {
                false => Harness::new(Backend::Uring, Layout::Pinned, 1),
                true => Harness::guarded(Backend::Uring, Layout::Pinned, 1),
            };
            leave(harness, end);
            assert_eq!(Holdings::now(), before, "{end:?}, guarded: {guarded}");
        }
    }
}

/// Ends a lane with accepts, connects, receives and sends in flight, while the peers continue to
/// send.
fn leave(harness: Harness, end: Ending) {
    const PEERS: usize = 20;
    let any: Address = "127.0.0.1:0".parse().expect("an address");
    let full = harness.port.listen(any, ListenOptions { backlog: 0, ..ListenOptions::default() });
    let full = full.expect("a listener that nobody accepts from");
    let listening = harness.listen(harness.lane(0));
    let peers: Vec<_> = (0..PEERS).map(|_| plain_peer(&harness, listening)).collect();
    let ends: Vec<End> = peers.iter().map(|(_, end)| *end).collect();
    let nowhere = full.local_address();
    let driver = harness.driver.clone();
    let begin = move |lane: &mut Lane| begin_everything(&driver, lane, &ends, nowhere);
    let stop = harness.driver.clone();
    match end {
        Ending::BeforeTheKernelHasSeenAnything => harness.post(harness.lane(0), move |lane| {
            begin(lane);
            stop.stop();
        }),
        Ending::InAStepOfItsOwn | Ending::ByAPanic => harness.on(harness.lane(0), begin),
    }
    std::thread::scope(|scope| {
        for (mut peer, _) in peers {
            peer.set_write_timeout(Some(PATIENCE)).expect("the time-out can be set");
            // Sends until the other end is gone.
            scope.spawn(move || while peer.write_all(&[7; BUFFER_BYTES]).is_ok() {});
        }
        let address = listening.address.socket_addr();
        let late = |_| TcpStream::connect(address).expect("a connection is established");
        let _late: Vec<_> = match end {
            Ending::BeforeTheKernelHasSeenAnything => Vec::new(),
            Ending::InAStepOfItsOwn | Ending::ByAPanic => {
                let held = || (harness.port.counters().buffers_used > 0).then_some(());
                harness.until("the streams to bring something", held);
                // From here on no code takes the accepted peers and the received bytes.
                harness.driver.take_at_most(0);
                let late = (0..5).map(late).collect();
                (0..2).for_each(|_| harness.on(harness.lane(0), |_| ()));
                late
            }
        };
        match end {
            Ending::InAStepOfItsOwn => {
                harness.driver.stop();
                harness.port.wake(harness.lane(0));
            }
            Ending::BeforeTheKernelHasSeenAnything => {}
            Ending::ByAPanic => {
                harness.post(harness.lane(0), |_| panic!("a panic that this test is about"));
            }
        }
        let drained = harness.port.drain(PATIENCE);
        assert_eq!(drained.workers, 0);
        assert!(drained.leaked > PEERS as u64, "the operation was not in flight: {drained:?}");
        harness.driver.forget();
    });
    drop((harness, full));
}

/// Submits one operation of each kind on every socket, and connects that get no answer.
fn begin_everything(driver: &Driver, lane: &mut Lane, ends: &[End], nowhere: Address) {
    const CONNECTS: usize = 5;
    for end in ends {
        driver.submit(lane, Op::Receive(end.socket, ReceiveMode::Stream));
        // The send is larger than the system accepts while the peer reads nothing.
        driver.submit(lane, Op::Send(end.socket, gather(&vec![9; 1 << 20])));
    }
    for _ in 0..CONNECTS {
        let socket = lane.socket();
        driver.submit(lane, Op::Connect(socket, nowhere));
    }
}

/// The end of a ring interrupts blocking calls of the thread that made it, after the call that
/// dropped the ring has returned. So no ring is made on a thread of the caller's.
#[test]
fn no_blocking_call_of_the_caller_is_interrupted() {
    use rustix::event::{Timespec, epoll};

    const ROUNDS: usize = 20;
    if !is_here(&Backend::Uring) {
        return;
    }
    let nothing = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a descriptor is free");
    let time = Timespec { tv_sec: 0, tv_nsec: 30_000_000 };
    let mut events = Vec::with_capacity(1);
    let mut blocks = |when: &str, round: usize| {
        let waited =
            epoll::wait(&nothing, rustix::buffer::spare_capacity(&mut events), Some(&time));
        assert_eq!(waited, Ok(0), "{when}, round {round}");
    };
    for round in 0..ROUNDS {
        let harness = on_one_lane();
        blocks("while the port is open", round);
        drop(harness);
        blocks("after the port has ended", round);
    }
}
