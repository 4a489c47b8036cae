//! Both sides of a transfer against each other, whatever the sizes and wherever it is cut.

use posthouse_wire::{Incoming, Next, Outgoing, TransferViolation};
use proptest::prelude::*;

fn content(bytes: usize, seed: u8) -> Vec<u8> {
    (0..bytes).map(|i| (i.wrapping_mul(31) >> 3) as u8 ^ seed).collect()
}

/// How a transfer went.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Whole,
    PrefixDiffers,
    Cut,
}

/// Sends `file` to a receiver that holds `held`; cut after so many chunks. `held` grows.
fn run(
    file: &[u8],
    held: &mut Vec<u8>,
    (chunk_bytes, window): (usize, u64),
    cut_after: Option<usize>,
) -> End {
    let mut sender = Outgoing::new(1, file.len() as u64, chunk_bytes);
    let mut receiver = Incoming::new(1, file.len() as u64, window);
    receiver.held(held);
    let (offset, mut limit, prefix) = receiver.accept();
    sender.accepted(offset, limit, prefix).expect("a right accept");
    let mut chunks = 0;
    loop {
        match sender.next() {
            Next::Prefix { offset, bytes } => {
                let at = offset as usize;
                if sender.prefix(&file[at..at + bytes]).is_err() {
                    return End::PrefixDiffers;
                }
            }
            Next::Chunk { offset, bytes } => {
                assert!(bytes > 0 && bytes <= chunk_bytes);
                let bytes = &file[offset as usize..offset as usize + bytes];
                sender.chunk(bytes);
                assert!(sender.sent() <= limit, "never beyond the credit");
                receiver.chunk(bytes).expect("within the credit");
                held.extend_from_slice(bytes);
                chunks += 1;
                if cut_after == Some(chunks) {
                    return End::Cut;
                }
                if let Some(more) = receiver.written(bytes.len() as u64) {
                    assert!(more > limit && more <= file.len() as u64);
                    limit = more;
                    sender.credit(more).expect("after the accept");
                }
            }
            Next::Done => {
                let hash = sender.done();
                assert_eq!(receiver.done(hash), Ok(true));
                assert!(receiver.is_written());
                assert_eq!(sender.confirmed(receiver.hash()), Ok(()));
                return End::Whole;
            }
            Next::Wait => panic!("nobody has to wait here"),
        }
    }
}

proptest! {
    #[test]
    fn a_file_cut_anywhere_goes_on_and_arrives_whole(
        size in 0_usize..5000,
        chunk_bytes in 1_usize..700,
        window in 1_u64..3000,
        cuts in proptest::collection::vec(1_usize..8, 0..5),
    ) {
        let file = content(size, 0);
        let mut held = Vec::new();
        for cut in cuts {
            if run(&file, &mut held, (chunk_bytes, window), Some(cut)) == End::Whole {
                break;
            }
        }
        prop_assert!(file.starts_with(&held));
        if held.len() < size || size == 0 {
            let end = run(&file, &mut held, (chunk_bytes, window), None);
            prop_assert_eq!(end, End::Whole);
        }
        prop_assert_eq!(held, file);
    }

    #[test]
    fn what_is_held_of_another_file_is_always_found(
        size in 1_usize..3000,
        held in 1_usize..3000,
        spoilt in any::<usize>(),
        chunk_bytes in 1_usize..700,
    ) {
        let file = content(size, 0);
        let mut held = file[..held.min(size)].to_vec();
        let at = spoilt % held.len();
        held[at] ^= 1;
        prop_assert_eq!(run(&file, &mut held, (chunk_bytes, 100), None), End::PrefixDiffers);
    }
}

#[test]
fn a_sender_that_breaks_the_rules_is_told_how() {
    let mut receiver = Incoming::new(1, 10, 4);
    assert_eq!(receiver.chunk(b"a"), Err(TransferViolation::OutOfTurn), "before the accept");
    assert_eq!((receiver.accept().0, receiver.received()), (0, 0));
    assert_eq!(receiver.chunk(b"12345"), Err(TransferViolation::BeyondCredit));
    assert_eq!(receiver.chunk(b"12345678901"), Err(TransferViolation::BeyondSize));
    assert_eq!(receiver.chunk(b"1234"), Ok(()));
    let few = TransferViolation::TooFew { received: 4, size: 10 };
    assert_eq!(receiver.done([0; 32]), Err(few));
    assert_eq!(receiver.written(1), None, "not worth a frame");
    assert_eq!(receiver.written(3), Some(8));
    assert_eq!(receiver.chunk(b"5678"), Ok(()));
    assert_eq!(receiver.written(4), Some(10), "the last credit is for all of it");
    assert_eq!(receiver.chunk(b"90"), Ok(()));
    assert_eq!(receiver.done([0; 32]), Ok(false), "the hash is another");
    assert_eq!(receiver.done(receiver.hash()), Err(TransferViolation::OutOfTurn));
}

#[test]
fn a_receiver_that_breaks_the_rules_is_told_how() {
    let mut sender = Outgoing::new(1, 10, 4);
    assert_eq!(sender.credit(5), Err(TransferViolation::OutOfTurn));
    assert_eq!(sender.accepted(11, 11, [0; 32]), Err(TransferViolation::OffsetTooFar));
    assert_eq!(sender.accepted(5, 4, [0; 32]), Err(TransferViolation::OffsetTooFar));
    assert_eq!(sender.next(), Next::Wait);
    let empty = Incoming::new(1, 0, 1).hash();
    assert_eq!(sender.accepted(0, 4, empty), Ok(()));
    assert_eq!(sender.accepted(0, 4, empty), Err(TransferViolation::AcceptedTwice));
    sender.chunk(b"1234");
    assert_eq!(sender.next(), Next::Wait);
    assert_eq!(sender.credit(2), Ok(()), "less than before says nothing");
    assert_eq!(sender.next(), Next::Wait);
    assert_eq!(sender.credit(u64::MAX), Ok(()));
    assert_eq!(sender.next(), Next::Chunk { offset: 4, bytes: 4 });
    sender.chunk(b"567890");
    assert_eq!(sender.confirmed([0; 32]), Err(TransferViolation::OutOfTurn));
    let hash = sender.done();
    assert_eq!(sender.confirmed([0; 32]), Err(TransferViolation::OtherHash));
    assert_eq!(sender.confirmed(hash), Ok(()));
}

#[test]
fn sizes_beyond_four_gibibytes_are_counted_right() {
    let size = 5 << 32;
    let mut receiver = Incoming::new(1, size, u64::MAX);
    assert_eq!((receiver.accept().1, receiver.size()), (size, size));
    let mut sender = Outgoing::new(1, size, 1 << 20);
    sender.accepted(4 << 32, u64::MAX, [0; 32]).expect("it may");
    assert_eq!(sender.next(), Next::Prefix { offset: 0, bytes: 1 << 20 });
}
