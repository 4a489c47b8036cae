//! Tests of the completion ports of Windows: several pending accepts of one listener, receives
//! with and without memory, and a port that is dropped while operations are in flight.

use std::io::Write;
use std::net::TcpStream;

use posthouse_io::{
    Backend, CompletionPort, Error, Failure, File, FileOp, LaneId, Layout, ListenOptions, Op,
    Options, Outcome, ReadMode, ReceiveMode, Tag, Turn,
};

use crate::harness::{Harness, PATIENCE, gather};
use crate::log;
use crate::test_dir::TestDir;
use posthouse_process::{is_wine, opened};

const LAYOUTS: [Layout; 2] = [Layout::Shared, Layout::Pinned];

fn options(layout: Layout) -> Options {
    Options { layout: Some(layout), io_workers: 2, ..Options::default() }
}

#[test]
fn one_peer_awaited_at_a_time_is_enough_for_all_to_come_in() {
    for layout in LAYOUTS {
        let harness = Harness::with(Backend::Iocp, &Options { accepts: 1, ..options(layout) });
        let listening = harness.listen(harness.lane(0));
        let pairs: Vec<_> = (0..50).map(|_| harness.pair_by(listening)).collect();
        for (near, far) in pairs {
            harness.close_all([near, far]);
        }
        harness.unlisten(listening);
        harness.finish();
    }
}

#[test]
fn peers_that_leave_before_they_are_accepted_do_not_end_accepting() {
    for layout in LAYOUTS {
        let harness = Harness::with(Backend::Iocp, &Options { accepts: 2, ..options(layout) });
        let any = "127.0.0.1:0".parse().expect("an address");
        let listener =
            harness.port.listen(any, ListenOptions::default()).expect("the listener opens");
        let address = listener.local_address();
        // The peers wait in the system's queue, and are gone before the port accepts them.
        for round in 0..40 {
            let mut peer =
                TcpStream::connect(address.socket_addr()).expect("a connection is established");
            if round % 2 == 0 {
                peer.write_all(b"gone").expect("the bytes can be sent");
            }
        }
        let socket = harness.on(harness.lane(0), move |lane| lane.adopt_listener(listener));
        let accept = harness.submit(harness.lane(0), Op::Accept(socket));
        let end = crate::harness::End { lane: harness.lane(0), socket };
        let listening = crate::harness::Listening { end, address, accept };
        let (near, connect) = harness.connect(harness.lane(0), address);
        assert!(matches!(harness.outcome(connect), Outcome::Connected));
        let mine = harness.on(near.lane, move |lane| lane.local_address(near.socket));
        let far = loop {
            let (far, peer) = harness.accepted(listening, harness.lane(0));
            if Some(peer) == mine {
                break far;
            }
            harness.close(far);
        };
        harness.send_all(near, b"still here");
        assert_eq!(harness.read(far, 10), b"still here");
        harness.close_all([near, far]);
        harness.unlisten(listening);
        harness.finish();
    }
}

#[test]
fn receives_that_wait_without_memory_hold_none() {
    for (read_mode, held) in [(ReadMode::ZeroByte, 0), (ReadMode::Pending, 30)] {
        let harness =
            Harness::with(Backend::Iocp, &Options { read_mode, ..options(Layout::Shared) });
        let (near, far) = harness.pair();
        let receives: Vec<_> = (0..30).map(|_| harness.receive(far, ReceiveMode::Once)).collect();
        assert_eq!(harness.port.counters().buffers_used, held, "{read_mode:?}");
        harness.cancel_receives(far);
        for receive in receives {
            assert_eq!(harness.failure(receive), Failure::Cancelled);
        }
        assert_eq!(harness.port.counters().buffers_used, 0, "{read_mode:?}");
        harness.close_all([near, far]);
        harness.finish();
    }
}

/// The bytes that the system has received before the reset still arrive. The port submits no
/// receive after them: it would keep the socket from being closed for as long as the peer likes.
#[test]
fn a_reset_ends_a_stream_of_posted_receives_whatever_has_just_come() {
    for layout in LAYOUTS {
        let harness = Harness::with(
            Backend::Iocp,
            &Options { read_mode: ReadMode::Pending, ..options(layout) },
        );
        let listening = harness.listen(harness.lane(0));
        for _ in 0..50 {
            let address = listening.address.socket_addr();
            let mut peer = TcpStream::connect(address).expect("a connection is established");
            let (near, _) = harness.accepted(listening, harness.lane(0));
            let receive = harness.receive(near, ReceiveMode::Stream);
            let peer = harness.on(near.lane, move |lane| {
                // The packets of the operations that end meanwhile are taken afterwards.
                for _ in 0..20 {
                    peer.write_all(b"x").expect("the bytes can be sent");
                    std::thread::yield_now();
                }
                lane.reset(near.socket);
                peer
            });
            let end = loop {
                let completion = harness.completion(receive);
                if !completion.more {
                    break completion.outcome;
                }
            };
            assert_eq!(error(&end).failure, Failure::Reset);
            harness.close(near);
            drop(peer);
        }
        harness.unlisten(listening);
        harness.finish();
    }
}

/// The system reports a reset in the call that begins a send, and by a packet for a pending
/// receive. The two error numbers differ, and each is reported once.
#[test]
fn a_failure_in_the_call_and_one_that_comes_later_are_told_alike() {
    for layout in LAYOUTS {
        let harness = Harness::with(Backend::Iocp, &options(layout));
        let listening = harness.listen(harness.lane(0));
        let (near, far) = harness.pair_by(listening);
        let waiting = harness.receive(far, ReceiveMode::Once);
        harness.reset(near);
        let later = error(&harness.outcome(waiting));
        harness.close_all([near, far]);

        let (near, far) = harness.pair_by(listening);
        harness.reset(near);
        let in_the_call = loop {
            match harness.outcome(harness.send(far, b"is anybody there?")) {
                Outcome::Sent { .. } => {}
                failed => break error(&failed),
            }
        };
        harness.close_all([near, far]);
        assert_eq!(later.failure, Failure::Reset, "{later:?}");
        assert_eq!(in_the_call.failure, Failure::Reset, "{in_the_call:?}");
        assert_ne!(later.code, in_the_call.code, "the two ways must be told apart");
        harness.unlisten(listening);
        harness.finish();
    }
}

#[track_caller]
fn error(outcome: &Outcome) -> Error {
    match outcome {
        Outcome::Failed(error) => *error,
        other => panic!("a failure, not {other:?}"),
    }
}

/// Ends a worker that has closed nothing: the port must cancel and await every operation of the
/// system before it frees the memory.
fn leave_everything_behind(layout: Layout, read_mode: ReadMode, file: File) {
    let options = Options { read_mode, io_workers: 1, ..options(layout) };
    let (port, _) = CompletionPort::open(Backend::Iocp, &options).expect("the port opens");
    let any = "127.0.0.1:0".parse().expect("an address");
    let listener = port.listen(any, ListenOptions::default()).expect("the listener opens");
    let address = listener.local_address();
    let mut listener = Some(listener);
    let mut file = Some(file);
    let mut connected = 0;
    port.spawn(LaneId(0), "io", move |lane| {
        if let Some(listener) = listener.take() {
            let socket = lane.adopt_listener(listener);
            lane.submit(Tag(0), Op::Accept(socket));
            for _ in 0..10 {
                let socket = lane.socket();
                lane.submit(Tag(1), Op::Connect(socket, address));
            }
        }
        while let Some(completion) = lane.next_completion() {
            match completion.outcome {
                Outcome::Accepted(new) => {
                    let socket = lane.adopt(*new);
                    for _ in 0..4 {
                        lane.submit(Tag(2), Op::Receive(socket, ReceiveMode::Once));
                    }
                    connected += 1;
                }
                Outcome::Connected => connected += 1,
                other => panic!("a connection, not {other:?}"),
            }
        }
        if connected < 20 {
            return Turn::Sleep(None);
        }
        let file = file.take().expect("the last step runs once");
        for n in 0..PIECES {
            let file = file.clone();
            let offset = (n * PIECE) as u64;
            let op = match n % 2 {
                0 => FileOp::Read { file, offset, bytes: PIECE, memory: Vec::new() },
                _ => FileOp::Write { file, offset, data: gather(&vec![1; PIECE]) },
            };
            lane.submit(Tag(3), Op::File(Box::new(op)));
        }
        Turn::Done
    })
    .expect("the worker starts");
    let drained = port.drain(PATIENCE);
    // Windows completes a read of cached bytes in the call, so no read may be in flight.
    let of_files = if is_wine() { PIECES..=PIECES } else { 0..=PIECES };
    let of_sockets = 41;
    assert_eq!(drained.workers, 0);
    let in_flight = usize::try_from(drained.leaked).expect("few operations are in flight");
    assert!(of_files.contains(&(in_flight - of_sockets)), "{drained:?}");
}

/// The number of file operations that are left in flight, and the bytes of each.
const PIECES: usize = 16;
const PIECE: usize = 64 * 1024;

#[test]
fn a_port_that_goes_with_operations_in_flight_takes_everything_with_it() {
    log::keep();
    let harness = Harness::with(Backend::Iocp, &options(Layout::Shared));
    let dir = TestDir::new(&harness);
    let mut parts = 0;
    let mut part = || {
        parts += 1;
        let (file, _) = dir.part(&format!("part-{parts}")).expect("the part opens");
        // The write extends the file; the port under test is the first to read these bytes.
        dir.write(&file, 0, &vec![0; PIECES * PIECE]).expect("the file can be written");
        file
    };
    // The first run loads everything that the process then keeps.
    leave_everything_behind(Layout::Shared, ReadMode::ZeroByte, part());
    let before = opened();
    for layout in LAYOUTS {
        for read_mode in [ReadMode::ZeroByte, ReadMode::Pending] {
            leave_everything_behind(layout, read_mode, part());
        }
    }
    assert_eq!(opened(), before, "a handle was leaked");
    let nothing: [&str; 0] = [];
    assert_eq!(log::lines("memory is leaked"), nothing);
    drop(dir);
    harness.finish();
}
