//! Receiving: streams and single receives, their order, cancellation and buffers.

use std::sync::mpsc;

use posthouse_io::{Failure, Outcome, ReceiveMode};

use crate::flow::{Reader, Sender};
use crate::harness::{Harness, assert_ended, assert_same, pattern};

pub fn a_stream_of_receives_brings_every_byte_and_then_the_end(harness: &Harness) {
    let (near, far) = harness.pair();
    let stream = harness.receive(far, ReceiveMode::Stream);
    let sent = pattern(50_000, 1);
    assert_eq!(Sender::start(harness, near, &sent).wait(harness), Ok(()));
    harness.shutdown(near);
    let mut got = Vec::new();
    let mut ended = false;
    while !ended || got.len() < sent.len() {
        let completion = harness.completion(stream);
        assert!(!(ended && harness.sees_order), "nothing follows the end: {completion:?}");
        match completion.outcome {
            Outcome::Received(buffer) => {
                assert!(completion.more, "the stream ended after data");
                assert!(!buffer.is_empty(), "at least one byte");
                got.extend_from_slice(&buffer);
            }
            outcome => {
                assert!(!completion.more, "the end is not terminal");
                assert_ended(&outcome);
                ended = true;
            }
        }
    }
    if harness.sees_order {
        assert_same(&got, &sent);
    }
    assert_eq!(got.len(), sent.len());
    harness.close_all([near, far]);
}

pub fn a_single_receive_brings_one_buffer_and_no_more(harness: &Harness) {
    let (near, far) = harness.pair();
    for text in [b"first ", b"second"] {
        let receive = harness.receive(far, ReceiveMode::Once);
        let sender = Sender::start(harness, near, text);
        // The harness would report a second completion of the same tag.
        let first = harness.bytes(receive).to_vec();
        let rest = harness.read(far, text.len() - first.len());
        assert_eq!([first, rest].concat(), text);
        assert_eq!(sender.wait(harness), Ok(()));
    }
    harness.close_all([near, far]);
}

pub fn pending_receives_get_the_bytes_in_the_order_of_their_submission(harness: &Harness) {
    let (near, far) = harness.pair();
    let receives: Vec<_> = (0..8).map(|_| harness.receive(far, ReceiveMode::Once)).collect();
    let sent = pattern(50_000, 2);
    let sender = Sender::start(harness, near, &sent);
    let mut got = Vec::new();
    for receive in receives {
        got.extend_from_slice(&harness.bytes(receive));
    }
    let reader = Reader::start(harness, far, 2);
    assert_eq!(sender.wait(harness), Ok(()));
    harness.shutdown(near);
    let (rest, end) = reader.wait(harness);
    got.extend(rest);
    assert_same(&got, &sent);
    assert_eq!(end, Ok(()));
    harness.close_all([near, far]);
}

pub fn the_end_reaches_every_pending_receive_and_every_later_one(harness: &Harness) {
    let (near, far) = harness.pair();
    let receives: Vec<_> = (0..3).map(|_| harness.receive(far, ReceiveMode::Once)).collect();
    harness.shutdown(near);
    for receive in receives {
        assert_ended(&harness.outcome(receive));
    }
    let later = harness.receive(far, ReceiveMode::Stream);
    assert_ended(&harness.outcome(later));
    harness.close_all([near, far]);
}

pub fn cancelled_receives_leave_the_bytes_to_the_next(harness: &Harness) {
    let (near, far) = harness.pair();
    for mode in [ReceiveMode::Once, ReceiveMode::Stream] {
        let pending = harness.receive(far, mode);
        harness.cancel_receives(far);
        assert_eq!(harness.failure(pending), Failure::Cancelled);
        let sender = Sender::start(harness, near, b"for the next");
        assert_eq!(harness.read(far, 12), b"for the next");
        assert_eq!(sender.wait(harness), Ok(()));
    }
    harness.close_all([near, far]);
}

pub fn all_pending_receives_are_cancelled_each_once(harness: &Harness) {
    let (near, far) = harness.pair();
    let receives: Vec<_> = (0..5).map(|_| harness.receive(far, ReceiveMode::Once)).collect();
    harness.cancel_receives(far);
    harness.cancel(far);
    for receive in receives {
        assert_eq!(harness.failure(receive), Failure::Cancelled);
    }
    harness.close_all([near, far]);
}

pub fn a_cancel_amid_traffic_loses_no_byte(harness: &Harness) {
    let (near, far) = harness.pair();
    let sent = pattern(40_000, 3);
    let sender = Sender::start(harness, near, &sent);
    let mut got = Vec::new();
    for _ in 0..100 {
        let receive = harness.receive(far, ReceiveMode::Once);
        harness.cancel_receives(far);
        match harness.outcome(receive) {
            Outcome::Received(buffer) => got.extend_from_slice(&buffer),
            Outcome::Failed(error) => assert_eq!(error.failure, Failure::Cancelled),
            other => panic!("bytes or cancelled, not {other:?}"),
        }
    }
    let reader = Reader::start(harness, far, 1);
    assert_eq!(sender.wait(harness), Ok(()));
    harness.shutdown(near);
    let (rest, end) = reader.wait(harness);
    got.extend(rest);
    assert_same(&got, &sent);
    assert_eq!(end, Ok(()));
    harness.close_all([near, far]);
}

pub fn a_buffer_dropped_on_another_thread_comes_back(harness: &Harness) {
    let (near, far) = harness.pair();
    for _ in 0..10 {
        let receive = harness.receive(far, ReceiveMode::Once);
        let sender = Sender::start(harness, near, b"hold this");
        let buffer = harness.bytes(receive);
        assert_eq!(harness.port.counters().buffers_used, 1);
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || tell.send(buffer.len()));
        let held = told.recv().expect("the thread reads the buffer");
        thread.join().expect("the thread ends").expect("a listener exists");
        harness.read(far, 9 - held);
        assert_eq!(sender.wait(harness), Ok(()));
        assert_eq!(harness.port.counters().buffers_used, 0);
    }
    harness.close_all([near, far]);
}

pub fn a_recycled_buffer_is_used_again(harness: &Harness) {
    let (near, far) = harness.pair();
    for round in 0..10_u8 {
        harness.send_all(near, &[round]);
        let buffer = harness.bytes(harness.receive(far, ReceiveMode::Once));
        assert_eq!((&*buffer, buffer.capacity()), (&[round][..], crate::harness::BUFFER_BYTES));
        harness.on(far.lane, move |lane| lane.recycle(buffer));
        assert_eq!(harness.port.counters().buffers_used, 0);
    }
    harness.close_all([near, far]);
}
