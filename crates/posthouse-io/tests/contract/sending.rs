//! Sending: segments, their order, and a peer that does not read.

use std::sync::Arc;

use posthouse_io::{Failure, Gather, Outcome, ReceiveMode, Segment};

use crate::flow::{Reader, Sender};
use crate::harness::{Harness, assert_same, pattern};

/// Returns more bytes than both sides of one connection hold in the system while neither side
/// reads.
pub fn more_than_fits(harness: &Harness) -> Vec<u8> {
    pattern(if harness.real { 24 * 1024 * 1024 } else { 600 * 1024 }, 5)
}

pub fn what_was_sent_says_how_much_and_gives_the_memory_back(harness: &Harness) {
    let (near, far) = harness.pair();
    let send = harness.send(near, b"some bytes");
    let Outcome::Sent { bytes, mut gather } = harness.outcome(send) else { panic!("bytes sent") };
    assert!(bytes <= 10, "more bytes left than were queued");
    assert_eq!(gather.len(), 10, "the port advanced the gather");
    gather.advance(bytes, drop);
    assert_eq!(harness.read(far, bytes), b"some bytes"[..bytes]);
    harness.close_all([near, far]);
}

pub fn segments_leave_in_their_order_however_many_there_are(harness: &Harness) {
    let (near, far) = harness.pair();
    let sent = pattern(3_000, 4);
    let mut gather = Gather::default();
    for (n, piece) in sent.chunks(11).enumerate() {
        gather.push(match n % 2 {
            0 => Segment::Owned(piece.to_vec()),
            _ => Segment::Shared(Arc::from(piece)),
        });
    }
    let sender = Sender::start_gather(harness, near, gather);
    let reader = Reader::start(harness, far, 1);
    assert_eq!(sender.wait(harness), Ok(()));
    harness.shutdown(near);
    let (got, end) = reader.wait(harness);
    assert_same(&got, &sent);
    assert_eq!(end, Ok(()));
    harness.close_all([near, far]);
}

pub fn a_send_waits_for_a_peer_that_does_not_read_and_goes_on_when_it_does(harness: &Harness) {
    let (near, far) = harness.pair();
    let bytes = more_than_fits(harness);
    let filling = Sender::start(harness, near, &bytes);
    filling.cancel(harness);
    let sent = filling.sent();
    assert!(sent < bytes.len(), "the peer's window fills");

    // The stream has no room, so this send waits from its submission.
    let rest = Sender::start(harness, near, &bytes[sent..]);
    let reader = Reader::start(harness, far, 1);
    assert_eq!(rest.wait(harness), Ok(()));
    harness.shutdown(near);
    let (got, end) = reader.wait(harness);
    assert_same(&got, &bytes);
    assert_eq!(end, Ok(()));
    harness.close_all([near, far]);
}

pub fn cancelling_receives_leaves_a_pending_send_alone(harness: &Harness) {
    let (near, far) = harness.pair();
    let bytes = more_than_fits(harness);
    let filling = Sender::start(harness, near, &bytes);
    filling.cancel(harness);
    let rest = Sender::start(harness, near, &bytes[filling.sent()..]);
    let receive = harness.receive(near, ReceiveMode::Once);
    harness.cancel_receives(near);
    assert_eq!(harness.failure(receive), Failure::Cancelled);
    let reader = Reader::start(harness, far, 1);
    assert_eq!(rest.wait(harness), Ok(()));
    harness.shutdown(near);
    assert_eq!(reader.wait(harness).0.len(), bytes.len());
    harness.close_all([near, far]);
}

pub fn a_reset_of_ones_own_ends_a_pending_send_and_pending_receives(harness: &Harness) {
    let (near, far) = harness.pair();
    let sender = Sender::start(harness, near, &more_than_fits(harness));
    let receives = [(); 3].map(|()| harness.receive(near, ReceiveMode::Once));
    harness.reset(near);
    assert_eq!(sender.wait(harness), Err(Failure::Reset));
    for receive in receives {
        assert_eq!(harness.failure(receive), Failure::Reset);
    }
    harness.close_all([near, far]);
}

pub fn a_reset_by_the_peer_ends_a_pending_send_and_pending_receives(harness: &Harness) {
    let (near, far) = harness.pair();
    let sender = Sender::start(harness, near, &more_than_fits(harness));
    let receives = [(); 3].map(|()| harness.receive(near, ReceiveMode::Once));
    harness.reset(far);
    assert_eq!(sender.wait(harness), Err(Failure::Reset));
    for receive in receives {
        assert_eq!(harness.failure(receive), Failure::Reset);
    }
    harness.close_all([near, far]);
}
