//! Watching a socket that is not received from.

use posthouse_io::{Cancel, Failure, Layout, Op, Outcome, ReceiveMode, Tag, WatchMode};

use crate::harness::{End, Harness, assert_ended, assert_same, gather, pattern};
use posthouse_process::is_wine;

const MODES: [WatchMode; 2] = [WatchMode::End, WatchMode::Failure];

fn watch(harness: &Harness, end: End, mode: WatchMode) -> Tag {
    harness.submit(end.lane, Op::Watch(end.socket, mode))
}

/// Checks that an operation has not completed, after as many round trips on the same lanes as any
/// event needs.
#[track_caller]
fn assert_waits(harness: &Harness, tag: Tag, (one, other): (End, End)) {
    for _ in 0..5 {
        for (from, to) in [(one, other), (other, one)] {
            let receive = harness.receive(to, ReceiveMode::Once);
            harness.send_all(from, b"?");
            assert_eq!(*harness.bytes(receive), *b"?");
        }
    }
    let early = harness.driver.take_kept(tag);
    assert!(early.is_none(), "a watch with nothing to report: {early:?}");
}

/// Returns whether the end is seen behind bytes. Wine learns of the end by a read.
fn sees_end_behind_bytes(harness: &Harness) -> bool {
    let sees = !harness.real || !is_wine();
    if !sees {
        eprintln!("NOT TESTED: Wine does not show an end behind bytes that were not received");
    }
    sees
}

pub fn a_watch_sees_a_reset(harness: &Harness) {
    for mode in MODES {
        let (near, far) = harness.pair();
        let before = watch(harness, far, mode);
        harness.reset(near);
        assert_eq!(harness.failure(before), Failure::Reset);
        let after = watch(harness, far, mode);
        assert_eq!(harness.failure(after), Failure::Reset, "a watch that begins after it");
        let receive = harness.receive(far, ReceiveMode::Stream);
        assert_eq!(harness.failure(receive), Failure::Reset);
        harness.close_all([near, far]);
    }
}

pub fn a_watch_sees_a_reset_behind_bytes(harness: &Harness) {
    for mode in MODES {
        let (near, far) = harness.pair();
        harness.send_all(near, &pattern(1000, 20));
        harness.bytes(harness.receive(far, ReceiveMode::Once));
        harness.send_all(near, &pattern(1000, 20));
        let watch = watch(harness, far, mode);
        harness.reset(near);
        assert_eq!(harness.failure(watch), Failure::Reset);
        harness.close_all([near, far]);
    }
}

pub fn a_watch_sees_the_end_and_leaves_the_bytes_before_it(harness: &Harness) {
    let bytes = pattern(3000, 21);
    for watches_first in [true, false] {
        let (near, far) = harness.pair();
        let early = watches_first.then(|| watch(harness, far, WatchMode::End));
        harness.send_all(near, &bytes);
        harness.shutdown(near);
        if sees_end_behind_bytes(harness) {
            let tag = early.unwrap_or_else(|| watch(harness, far, WatchMode::End));
            assert_ended(&harness.outcome(tag));
        } else if let Some(early) = early {
            harness.cancel_receives(far);
            harness.failure(early);
        }
        assert_same(&harness.read(far, bytes.len()), &bytes);
        assert_ended(&harness.outcome(harness.receive(far, ReceiveMode::Once)));
        harness.close_all([near, far]);
    }
}

pub fn a_watch_sees_an_end_without_bytes(harness: &Harness) {
    for watches_first in [true, false] {
        let (near, far) = harness.pair();
        let early = watches_first.then(|| watch(harness, far, WatchMode::End));
        harness.shutdown(near);
        let tag = early.unwrap_or_else(|| watch(harness, far, WatchMode::End));
        assert_ended(&harness.outcome(tag));
        assert_ended(&harness.outcome(harness.receive(far, ReceiveMode::Stream)));
        harness.close_all([near, far]);
    }
}

pub fn a_watch_for_failures_waits_behind_the_end(harness: &Harness) {
    let others = harness.pair();
    let (near, far) = harness.pair();
    harness.shutdown(near);
    assert_ended(&harness.outcome(watch(harness, far, WatchMode::End)));
    let tag = watch(harness, far, WatchMode::Failure);
    assert_waits(harness, tag, others);
    // This side can still send, and the watch still waits.
    harness.send_all(far, &pattern(100, 22));
    assert_same(&harness.read(near, 100), &pattern(100, 22));
    assert_waits(harness, tag, others);
    harness.reset(near);
    assert_eq!(harness.failure(tag), Failure::Reset);
    harness.close_all([near, far, others.0, others.1]);
}

/// A poll of a stream that has ended is ready at once, each time. A lane that waits for something
/// else must sleep all the same.
pub fn a_watch_behind_the_end_lets_its_lane_sleep(harness: &Harness) {
    if !harness.real || harness.port.lanes() < 3 {
        return; // only real lanes of their own can be counted
    }
    let listening = harness.listen(harness.lane(1));
    let far = {
        let (near, connect) = harness.connect(harness.lane(1), listening.address);
        let (far, _) = harness.accepted(listening, harness.lane(0));
        assert!(matches!(harness.outcome(connect), Outcome::Connected));
        harness.shutdown(near);
        (near, far)
    };
    harness.unlisten(listening);
    let (near, far) = far;
    assert_ended(&harness.outcome(watch(harness, far, WatchMode::End)));
    let tag = watch(harness, far, WatchMode::Failure);
    let before = harness.driver.steps(far.lane);
    let listening = harness.listen(harness.lane(1));
    let (one, connect) = harness.connect(harness.lane(1), listening.address);
    let (other, _) = harness.accepted(listening, harness.lane(2));
    assert!(matches!(harness.outcome(connect), Outcome::Connected));
    harness.unlisten(listening);
    for _ in 0..100 {
        assert_waits(harness, tag, (one, other));
    }
    let steps = harness.driver.steps(far.lane) - before;
    assert!(steps < 20, "{steps} steps of a lane with nothing to do");
    harness.cancel_receives(far);
    assert_eq!(harness.failure(tag), Failure::Cancelled);
    harness.close_all([near, far, one, other]);
}

pub fn a_cancelled_watch_ends_once_and_has_taken_no_byte(harness: &Harness) {
    let others = harness.pair();
    for mode in MODES {
        for what in [Cancel::Receives, Cancel::Everything] {
            let (near, far) = harness.pair();
            let tag = watch(harness, far, mode);
            let bytes = pattern(3000, 23);
            harness.send_all(near, &bytes);
            assert_waits(harness, tag, others);
            harness.on(far.lane, move |lane| lane.cancel(far.socket, what));
            assert_eq!(harness.failure(tag), Failure::Cancelled);
            assert_same(&harness.read(far, bytes.len()), &bytes);
            harness.close_all([near, far]);
        }
    }
    harness.close_all([others.0, others.1]);
}

/// Whatever comes first, the watch ends once, and the next receive reports the state.
pub fn what_happens_while_a_watch_is_cancelled_is_told_to_the_next_receive(harness: &Harness) {
    let listening = harness.listen(harness.lane(0));
    for round in 0..60_u64 {
        let (near, far) = harness.pair_by(listening);
        let tag = watch(harness, far, MODES[(round / 3 % 2) as usize]);
        let resets = round % 3 == 0;
        let sends = round % 3 == 1;
        harness.post(near.lane, move |lane| match resets {
            true => lane.reset(near.socket),
            false => lane.shutdown(near.socket),
        });
        let cancel = move |lane: &mut posthouse_io::Lane| {
            lane.cancel(far.socket, Cancel::Receives);
        };
        let sent = sends.then(|| harness.send(far, b"a send at the same time"));
        harness.post(far.lane, cancel);
        match harness.outcome(tag) {
            Outcome::Ended => assert!(!resets),
            Outcome::Failed(error) if error.failure == Failure::Reset => assert!(resets),
            Outcome::Failed(error) => assert_eq!(error.failure, Failure::Cancelled),
            other => panic!("a watch ended in {other:?}"),
        }
        match harness.outcome(harness.receive(far, ReceiveMode::Once)) {
            Outcome::Ended if harness.real && is_wine() => {}
            Outcome::Ended => assert!(!resets, "the end in the place of a reset"),
            Outcome::Failed(error) => assert_eq!((error.failure, resets), (Failure::Reset, true)),
            other => panic!("a receive ended in {other:?}"),
        }
        if let Some(sent) = sent {
            harness.outcome(sent);
        }
        harness.close_all([near, far]);
    }
    harness.unlisten(listening);
}

pub fn a_reset_of_ones_own_ends_a_watch(harness: &Harness) {
    for mode in MODES {
        let (near, far) = harness.pair();
        let tag = watch(harness, far, mode);
        harness.reset(far);
        assert_eq!(harness.failure(tag), Failure::Reset);
        harness.close_all([near, far]);
    }
}

pub fn a_reset_that_a_send_meets_is_a_reset_for_the_watch_too(harness: &Harness) {
    for round in 0..20 {
        let (near, far) = harness.pair();
        let mut tag = watch(harness, far, MODES[round % 2]);
        harness.reset(near);
        let driver = harness.driver.clone();
        let again = harness.on(far.lane, move |lane| {
            driver.submit(lane, Op::Send(far.socket, gather(b"is anybody there?")))
        });
        match harness.outcome(again) {
            Outcome::Sent { .. } => {}
            Outcome::Failed(error) => assert_eq!(error.failure, Failure::Reset),
            other => panic!("bytes sent or a reset, not {other:?}"),
        }
        for _ in 0..2 {
            assert_eq!(harness.failure(tag), Failure::Reset);
            tag = watch(harness, far, MODES[round % 2]);
        }
        assert_eq!(harness.failure(tag), Failure::Reset);
        harness.close_all([near, far]);
    }
}

/// A send that waits for room, and a watch, both see the reset, in whatever order.
pub fn a_reset_ends_a_waiting_send_and_a_watch(harness: &Harness) {
    for mode in MODES {
        let (near, far) = harness.pair();
        let waits = loop {
            let send = harness.send(far, &pattern(200_000, 24));
            harness.on(far.lane, |_| {});
            match harness.driver.take_kept(send) {
                Some(completion) => drop(completion),
                None => break send,
            }
        };
        let tag = watch(harness, far, mode);
        harness.reset(near);
        assert_eq!(harness.failure(tag), Failure::Reset);
        match harness.outcome(waits) {
            Outcome::Failed(error) => assert_eq!(error.failure, Failure::Reset),
            Outcome::Sent { .. } => {} // it was only slow
            other => panic!("a send ended in {other:?}"),
        }
        harness.close_all([near, far]);
    }
}

pub fn a_watch_of_a_socket_that_never_connected_fails(harness: &Harness) {
    let lane = harness.lane(0);
    let end = harness.on(lane, move |on| End { lane, socket: on.socket() });
    for mode in MODES {
        assert_eq!(harness.failure(watch(harness, end, mode)), Failure::NotConnected);
    }
    harness.close(end);
}

pub fn watches_and_receives_take_turns_and_no_byte_is_lost(harness: &Harness) {
    let (near, far) = harness.pair();
    let bytes = pattern(100_000, 25);
    let sender = crate::flow::Sender::start(harness, near, &bytes);
    let mut got = Vec::new();
    let mut streams = harness.port.lanes() > 1 || harness.selected.layout == Layout::Pinned;
    while got.len() < bytes.len() {
        let tag = watch(harness, far, WatchMode::End);
        harness.cancel_receives(far);
        assert_eq!(harness.failure(tag), Failure::Cancelled);
        let mode = if streams { ReceiveMode::Stream } else { ReceiveMode::Once };
        let receive = harness.receive(far, mode);
        let mut first = true;
        loop {
            let completion = harness.completion(receive);
            if std::mem::take(&mut first) && completion.more {
                harness.cancel_receives(far);
            }
            let continues = completion.more;
            match completion.outcome {
                Outcome::Received(buffer) => got.extend_from_slice(&buffer),
                Outcome::Failed(error) => assert_eq!(error.failure, Failure::Cancelled),
                other => panic!("bytes, not {other:?}"),
            }
            if !continues {
                break;
            }
        }
        streams &= harness.sees_order;
    }
    assert_same(&got, &bytes);
    assert_eq!(sender.wait(harness), Ok(()));
    harness.close_all([near, far]);
}
