//! Receiving: streams and single receives, their order, their cancelling, their buffers.

use std::sync::mpsc;

use posthouse_io::{Failure, Outcome, ReceiveMode};

use crate::bed::{Bed, assert_ended, assert_same, pattern};

pub fn a_stream_of_receives_brings_every_byte_and_then_the_end(bed: &Bed) {
    let (near, far) = bed.pair();
    let stream = bed.receive(far, ReceiveMode::Stream);
    let sent = pattern(50_000, 1);
    for piece in sent.chunks(7_000) {
        bed.send_all(near, piece);
    }
    bed.shutdown(near);
    let mut got = Vec::new();
    loop {
        let completion = bed.completion(stream);
        match completion.outcome {
            Outcome::Received(buffer) => {
                assert!(completion.more, "the stream goes on after data");
                assert!(!buffer.is_empty(), "at least one byte");
                got.push(buffer.to_vec());
            }
            outcome => {
                assert!(!completion.more, "the end is terminal");
                assert_ended(&outcome);
                break;
            }
        }
    }
    // Several workers take the completions of one stream as it comes.
    if bed.sees_order() {
        assert_same(&got.concat(), &sent);
    }
    assert_eq!(got.concat().len(), sent.len());
    bed.close_all([near, far]);
}

pub fn a_single_receive_brings_one_buffer_and_no_more(bed: &Bed) {
    let (near, far) = bed.pair();
    bed.send_all(near, b"first");
    let receive = bed.receive(far, ReceiveMode::Once);
    let first = bed.bytes(receive).to_vec();
    bed.send_all(near, b"second");
    // What a second completion under the same tag would do, the bed would tell.
    let rest = bed.read(far, 11 - first.len());
    assert_eq!([first, rest].concat(), b"firstsecond");
    bed.close_all([near, far]);
}

pub fn pending_receives_get_the_bytes_in_the_order_of_their_submission(bed: &Bed) {
    let (near, far) = bed.pair();
    let receives: Vec<_> = (0..8).map(|_| bed.receive(far, ReceiveMode::Once)).collect();
    let sent = pattern(30_000, 2);
    bed.send_all(near, &sent);
    bed.shutdown(near);
    let mut got = Vec::new();
    let mut ended = false;
    for receive in receives {
        match bed.outcome(receive) {
            Outcome::Received(buffer) => {
                assert!(!ended, "no bytes after the end");
                got.extend_from_slice(&buffer);
            }
            outcome => {
                assert_ended(&outcome);
                ended = true;
            }
        }
    }
    if !ended {
        got.extend_from_slice(&bed.read_to_end(far));
    }
    assert_same(&got, &sent);
    bed.close_all([near, far]);
}

pub fn the_end_reaches_every_pending_receive_and_every_later_one(bed: &Bed) {
    let (near, far) = bed.pair();
    let receives: Vec<_> = (0..3).map(|_| bed.receive(far, ReceiveMode::Once)).collect();
    bed.shutdown(near);
    for receive in receives {
        assert_ended(&bed.outcome(receive));
    }
    let later = bed.receive(far, ReceiveMode::Stream);
    assert_ended(&bed.outcome(later));
    bed.close_all([near, far]);
}

pub fn cancelled_receives_leave_the_bytes_to_the_next(bed: &Bed) {
    let (near, far) = bed.pair();
    for mode in [ReceiveMode::Once, ReceiveMode::Stream] {
        let pending = bed.receive(far, mode);
        bed.cancel_receives(far);
        assert_eq!(bed.failure(pending), Failure::Cancelled);
        bed.send_all(near, b"for the next");
        assert_eq!(bed.read(far, 12), b"for the next");
    }
    bed.close_all([near, far]);
}

pub fn all_pending_receives_are_cancelled_each_once(bed: &Bed) {
    let (near, far) = bed.pair();
    let receives: Vec<_> = (0..5).map(|_| bed.receive(far, ReceiveMode::Once)).collect();
    bed.cancel_receives(far);
    bed.cancel(far);
    for receive in receives {
        assert_eq!(bed.failure(receive), Failure::Cancelled);
    }
    bed.close_all([near, far]);
}

pub fn a_cancel_amid_traffic_loses_no_byte(bed: &Bed) {
    let (near, far) = bed.pair();
    let sent = pattern(4_000, 3);
    let mut got = Vec::new();
    for piece in sent.chunks(100) {
        let receive = bed.receive(far, ReceiveMode::Once);
        bed.send_all(near, piece);
        bed.cancel_receives(far);
        match bed.outcome(receive) {
            Outcome::Received(buffer) => got.extend_from_slice(&buffer),
            Outcome::Failed(error) => assert_eq!(error.failure, Failure::Cancelled),
            other => panic!("bytes or cancelled, not {other:?}"),
        }
    }
    bed.shutdown(near);
    got.extend_from_slice(&bed.read_to_end(far));
    assert_same(&got, &sent);
    bed.close_all([near, far]);
}

pub fn a_buffer_dropped_on_another_thread_comes_back(bed: &Bed) {
    let (near, far) = bed.pair();
    for _ in 0..10 {
        bed.send_all(near, b"hold this");
        let buffer = bed.bytes(bed.receive(far, ReceiveMode::Once));
        assert_eq!(bed.port.counters().buffers_used, 1);
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || sender.send(buffer.len()));
        let held = receiver.recv().expect("the thread looks at the buffer");
        thread.join().expect("the thread ends").expect("somebody listens");
        bed.read(far, 9 - held);
        assert_eq!(bed.port.counters().buffers_used, 0);
    }
    bed.close_all([near, far]);
}

pub fn a_recycled_buffer_is_used_again(bed: &Bed) {
    let (near, far) = bed.pair();
    for round in 0..10_u8 {
        bed.send_all(near, &[round]);
        let buffer = bed.bytes(bed.receive(far, ReceiveMode::Once));
        assert_eq!((&*buffer, buffer.capacity()), (&[round][..], crate::bed::BUFFER_BYTES));
        bed.on(far.lane, move |lane| lane.recycle(buffer));
        assert_eq!(bed.port.counters().buffers_used, 0);
    }
    bed.close_all([near, far]);
}
