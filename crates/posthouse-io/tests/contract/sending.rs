//! Sending: pieces, their order, and a peer that does not read.

use std::sync::Arc;

use posthouse_io::{Failure, Gather, Outcome, ReceiveMode, Segment};

use crate::bed::{Bed, assert_same, pattern};
use crate::flow::{Reader, Sender};

/// More than the system holds of one connection on both sides together, when nobody reads.
pub fn more_than_fits(bed: &Bed) -> Vec<u8> {
    pattern(if bed.real { 24 * 1024 * 1024 } else { 600 * 1024 }, 5)
}

pub fn what_was_sent_says_how_much_and_gives_the_memory_back(bed: &Bed) {
    let (near, far) = bed.pair();
    let send = bed.send(near, b"some bytes");
    let Outcome::Sent { bytes, mut gather } = bed.outcome(send) else { panic!("bytes sent") };
    assert!(bytes <= 10, "no more bytes left than there were");
    assert_eq!(gather.len(), 10, "the caller advances the gather, not the port");
    gather.advance(bytes, drop);
    assert_eq!(bed.read(far, bytes), b"some bytes"[..bytes]);
    bed.close_all([near, far]);
}

pub fn segments_leave_in_their_order_however_many_there_are(bed: &Bed) {
    let (near, far) = bed.pair();
    let sent = pattern(3_000, 4);
    let mut gather = Gather::default();
    for (n, piece) in sent.chunks(11).enumerate() {
        gather.push(match n % 2 {
            0 => Segment::Owned(piece.to_vec()),
            _ => Segment::Shared(Arc::from(piece)),
        });
    }
    let sender = Sender::start_gather(bed, near, gather);
    let reader = Reader::start(bed, far, 1);
    assert_eq!(sender.wait(bed), Ok(()));
    bed.shutdown(near);
    let (got, end) = reader.wait(bed);
    assert_same(&got, &sent);
    assert_eq!(end, Ok(()));
    bed.close_all([near, far]);
}

pub fn a_send_waits_for_a_peer_that_does_not_read_and_goes_on_when_it_does(bed: &Bed) {
    let (near, far) = bed.pair();
    let bytes = more_than_fits(bed);
    let filling = Sender::start(bed, near, &bytes);
    filling.cancel(bed);
    let sent = filling.sent();
    assert!(sent < bytes.len(), "the peer's window fills");

    // There is no room: this one waits from its submission on.
    let rest = Sender::start(bed, near, &bytes[sent..]);
    let reader = Reader::start(bed, far, 1);
    assert_eq!(rest.wait(bed), Ok(()));
    bed.shutdown(near);
    let (got, end) = reader.wait(bed);
    assert_same(&got, &bytes);
    assert_eq!(end, Ok(()));
    bed.close_all([near, far]);
}

pub fn cancelling_receives_leaves_a_pending_send_alone(bed: &Bed) {
    let (near, far) = bed.pair();
    let bytes = more_than_fits(bed);
    let filling = Sender::start(bed, near, &bytes);
    filling.cancel(bed);
    let rest = Sender::start(bed, near, &bytes[filling.sent()..]);
    let receive = bed.receive(near, ReceiveMode::Once);
    bed.cancel_receives(near);
    assert_eq!(bed.failure(receive), Failure::Cancelled);
    let reader = Reader::start(bed, far, 1);
    assert_eq!(rest.wait(bed), Ok(()));
    bed.shutdown(near);
    assert_eq!(reader.wait(bed).0.len(), bytes.len());
    bed.close_all([near, far]);
}

pub fn a_reset_of_ones_own_ends_a_pending_send_and_pending_receives(bed: &Bed) {
    let (near, far) = bed.pair();
    let sender = Sender::start(bed, near, &more_than_fits(bed));
    let receives = [(); 3].map(|()| bed.receive(near, ReceiveMode::Once));
    bed.reset(near);
    assert_eq!(sender.wait(bed), Err(Failure::Reset));
    for receive in receives {
        assert_eq!(bed.failure(receive), Failure::Reset);
    }
    bed.close_all([near, far]);
}

pub fn a_reset_by_the_peer_ends_a_pending_send_and_pending_receives(bed: &Bed) {
    let (near, far) = bed.pair();
    let sender = Sender::start(bed, near, &more_than_fits(bed));
    let receives = [(); 3].map(|()| bed.receive(near, ReceiveMode::Once));
    bed.reset(far);
    assert_eq!(sender.wait(bed), Err(Failure::Reset));
    for receive in receives {
        assert_eq!(bed.failure(receive), Failure::Reset);
    }
    bed.close_all([near, far]);
}
