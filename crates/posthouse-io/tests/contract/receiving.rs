//! Receiving: streams and single receives, their order, their cancelling, their buffers.

use std::sync::mpsc;

use posthouse_io::{Failure, Outcome, ReceiveMode};

use crate::bed::{Bed, assert_ended, assert_same, pattern};
use crate::flow::{Reader, Sender};

pub fn a_stream_of_receives_brings_every_byte_and_then_the_end(bed: &Bed) {
    let (near, far) = bed.pair();
    let stream = bed.receive(far, ReceiveMode::Stream);
    let sent = pattern(50_000, 1);
    assert_eq!(Sender::start(bed, near, &sent).wait(bed), Ok(()));
    bed.shutdown(near);
    let mut got = Vec::new();
    let mut ended = false;
    while !ended || got.len() < sent.len() {
        let completion = bed.completion(stream);
        assert!(!(ended && bed.sees_order), "nothing follows the end: {completion:?}");
        match completion.outcome {
            Outcome::Received(buffer) => {
                assert!(completion.more, "the stream goes on after data");
                assert!(!buffer.is_empty(), "at least one byte");
                got.extend_from_slice(&buffer);
            }
            outcome => {
                assert!(!completion.more, "the end is terminal");
                assert_ended(&outcome);
                ended = true;
            }
        }
    }
    if bed.sees_order {
        assert_same(&got, &sent);
    }
    assert_eq!(got.len(), sent.len());
    bed.close_all([near, far]);
}

pub fn a_single_receive_brings_one_buffer_and_no_more(bed: &Bed) {
    let (near, far) = bed.pair();
    for text in [b"first ", b"second"] {
        let receive = bed.receive(far, ReceiveMode::Once);
        let sender = Sender::start(bed, near, text);
        // A second completion under the same tag would be told by the bed.
        let first = bed.bytes(receive).to_vec();
        let rest = bed.read(far, text.len() - first.len());
        assert_eq!([first, rest].concat(), text);
        assert_eq!(sender.wait(bed), Ok(()));
    }
    bed.close_all([near, far]);
}

pub fn pending_receives_get_the_bytes_in_the_order_of_their_submission(bed: &Bed) {
    let (near, far) = bed.pair();
    let receives: Vec<_> = (0..8).map(|_| bed.receive(far, ReceiveMode::Once)).collect();
    let sent = pattern(50_000, 2);
    let sender = Sender::start(bed, near, &sent);
    let mut got = Vec::new();
    for receive in receives {
        got.extend_from_slice(&bed.bytes(receive));
    }
    let reader = Reader::start(bed, far, 2);
    assert_eq!(sender.wait(bed), Ok(()));
    bed.shutdown(near);
    let (rest, end) = reader.wait(bed);
    got.extend(rest);
    assert_same(&got, &sent);
    assert_eq!(end, Ok(()));
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
        let sender = Sender::start(bed, near, b"for the next");
        assert_eq!(bed.read(far, 12), b"for the next");
        assert_eq!(sender.wait(bed), Ok(()));
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
    let sent = pattern(40_000, 3);
    let sender = Sender::start(bed, near, &sent);
    let mut got = Vec::new();
    for _ in 0..100 {
        let receive = bed.receive(far, ReceiveMode::Once);
        bed.cancel_receives(far);
        match bed.outcome(receive) {
            Outcome::Received(buffer) => got.extend_from_slice(&buffer),
            Outcome::Failed(error) => assert_eq!(error.failure, Failure::Cancelled),
            other => panic!("bytes or cancelled, not {other:?}"),
        }
    }
    let reader = Reader::start(bed, far, 1);
    assert_eq!(sender.wait(bed), Ok(()));
    bed.shutdown(near);
    let (rest, end) = reader.wait(bed);
    got.extend(rest);
    assert_same(&got, &sent);
    assert_eq!(end, Ok(()));
    bed.close_all([near, far]);
}

pub fn a_buffer_dropped_on_another_thread_comes_back(bed: &Bed) {
    let (near, far) = bed.pair();
    for _ in 0..10 {
        let receive = bed.receive(far, ReceiveMode::Once);
        let sender = Sender::start(bed, near, b"hold this");
        let buffer = bed.bytes(receive);
        assert_eq!(bed.port.counters().buffers_used, 1);
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || tell.send(buffer.len()));
        let held = told.recv().expect("the thread looks at the buffer");
        thread.join().expect("the thread ends").expect("somebody listens");
        bed.read(far, 9 - held);
        assert_eq!(sender.wait(bed), Ok(()));
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
