//! The ends of a transfer: failures of the disk, aborts, the end of the connection.

use super::*;

#[test]
fn each_operation_that_fails_ends_the_transfer_and_leaves_nothing_behind() {
    let looked = || Harness::new();
    let mut opening = looked();
    opening.answer(&ReceiverOp::LookUp, Err(DiskFailure::NotFound));
    let mut counting = looked();
    counting.has_room = vec![false];
    counting.answer(&ReceiverOp::LookUp, Err(DiskFailure::NotFound));
    let mut reading = looked();
    reading.answer(&ReceiverOp::LookUp, Ok(DiskOutcome::Found { bytes: SIZE }));
    let mut cutting = looked().accepted(b"xyz");
    cutting.receiver.offered_again().unwrap();
    cutting.run();
    for (mut it, op, removed) in [
        (looked(), ReceiverOp::LookUp, false),
        (opening, ReceiverOp::OpenPart, false),
        (counting, ReceiverOp::Count, false),
        (reading, read(0, 10), false),
        (cutting, ReceiverOp::Truncate, true),
    ] {
        it.answer(&op, Err(DiskFailure::Other));
        assert_eq!(it.end, Some((Err(TransferFailure::Given("disk")), Tell::Peer)), "{op:?}");
        if removed {
            it.done(&ReceiverOp::RemovePart);
        }
        it.assert_over();
    }
}

#[test]
fn bytes_that_will_not_be_written_hold_no_memory_while_the_part_is_removed() {
    let mut it = Harness::new().accepted(b"");
    it.chunk(b"01234").chunk(b"56789");
    it.receiver.on_done([0; 32]);
    it.run();
    assert_eq!(it.failed(), &TransferFailure::HashDiffers);
    assert_eq!((it.discards, it.receiver.window_bytes()), (0, 10), "a write has some of them");
    it.wrote(0, 4);
    assert_eq!((it.discards, it.receiver.window_bytes()), (1, 0));
    it.done(&ReceiverOp::RemovePart).assert_over();
}

#[test]
fn a_held_file_that_becomes_shorter_ends_the_transfer_and_its_memory_comes_back() {
    let mut it = Harness::new();
    it.answer(&ReceiverOp::LookUp, Ok(DiskOutcome::Found { bytes: SIZE }));
    it.answer(&read(0, 10), Ok(DiskOutcome::Read(Vec::new())));
    assert!(matches!(it.failed(), TransferFailure::Changed(_)));
    it.assert_over();
}

#[test]
fn what_was_not_made_does_not_count_and_a_part_that_was_there_counts_once() {
    let opening = |is_over: bool| {
        let mut it = Harness::new();
        it.answer(&ReceiverOp::LookUp, Err(DiskFailure::NotFound));
        if is_over {
            it.cancel(EndCause::Peer);
        }
        it
    };
    for is_over in [false, true] {
        let mut it = opening(is_over);
        it.answer(&ReceiverOp::OpenPart, Err(DiskFailure::Other)).assert_over();
        assert_eq!(it.rooms[1], Room::Return, "the end came first: {is_over}");
    }
    let mut it = opening(true);
    it.answer(&ReceiverOp::OpenPart, Ok(DiskOutcome::Part { bytes: 4 })).assert_over();
    assert_eq!(it.rooms[1], Room::Return);
    for result in [Ok(DiskOutcome::Done), Err(DiskFailure::Other)] {
        let is_made = result.is_ok();
        let directory = ReceiverConfig { kind: EntryKind::Directory, size: 0, ..CONFIG };
        let mut it = Harness::of(directory);
        it.answer(&ReceiverOp::LookUpDirectory, Err(DiskFailure::NotFound));
        it.cancel(EndCause::Peer).answer(&ReceiverOp::MakeDirectory, result).assert_over();
        let expected = if is_made { Room::Spend { bytes: 0 } } else { Room::Return };
        assert_eq!(it.rooms[1], expected);
    }
}

/// The part takes its room until then.
#[test]
fn the_room_of_a_part_returns_when_the_part_is_gone() {
    for result in [Ok(DiskOutcome::Done), Err(DiskFailure::Other)] {
        let is_gone = result.is_ok();
        let mut it = Harness::new().accepted(b"");
        it.chunk(b"01234").cancel(EndCause::PeerFileChanged).wrote(0, 5);
        assert_eq!(it.rooms.len(), 1, "nothing but the reservation");
        it.answer(&ReceiverOp::RemovePart, result).assert_over();
        let expected = if is_gone { Room::Return } else { Room::Spend { bytes: 5 } };
        assert_eq!(it.rooms[1], expected);
    }
}

#[test]
fn what_came_behind_a_write_that_failed_is_dropped() {
    for result in [Err(DiskFailure::Other), Ok(DiskOutcome::Written(0))] {
        let mut it = Harness::new().accepted(b"012");
        it.chunk(b"34").chunk(b"56").answer(&write(3), result);
        assert_eq!(it.discards, 1);
        it.assert_over();
    }
    // The same, when the transfer is over already.
    let mut it = Harness::new().accepted(b"012");
    it.chunk(b"34").cancel(EndCause::Peer).answer(&write(3), Err(DiskFailure::Other));
    assert_eq!(it.discards, 1);
    it.assert_over();
}

#[test]
fn a_name_that_is_taken_meanwhile_costs_the_part_and_another_failure_does_not() {
    let publishing = || {
        let mut it = Harness::new().accepted(b"");
        it.chunk(CONTENT).say_done().wrote(0, 10);
        it
    };
    let mut it = publishing();
    it.answer(&ReceiverOp::Publish, Err(DiskFailure::Exists));
    assert_eq!(it.end, Some((Err(TransferFailure::Given("disk")), Tell::Peer)));
    it.done(&ReceiverOp::RemovePart).assert_over();
    let mut it = publishing();
    it.answer(&ReceiverOp::Publish, Err(DiskFailure::Other));
    assert_eq!(it.rooms[1], Room::Spend { bytes: SIZE }, "the name may be there all the same");
    it.assert_over();
}

#[test]
fn an_end_waits_for_what_is_in_flight_and_then_cleans_up() {
    // While it is looked for, the part is opened, or read, nothing of it is left.
    let mut it = Harness::new();
    it.cancel(EndCause::Local);
    assert_eq!(it.end, Some((Err(given()), Tell::Peer)));
    assert!(!it.is_released);
    it.answer(&ReceiverOp::LookUp, Ok(DiskOutcome::Found { bytes: SIZE })).assert_over();

    for (held, removed) in [(0, true), (4, false)] {
        let mut it = Harness::new();
        it.answer(&ReceiverOp::LookUp, Err(DiskFailure::NotFound)).cancel(EndCause::Peer);
        it.answer(&ReceiverOp::OpenPart, Ok(DiskOutcome::Part { bytes: held }));
        if removed {
            it.done(&ReceiverOp::RemovePart);
        }
        it.assert_over();
    }

    let mut it = Harness::new();
    it.answer(&ReceiverOp::LookUp, Ok(DiskOutcome::Found { bytes: SIZE }));
    it.cancel(EndCause::Connection);
    it.answer(&read(0, 10), Ok(DiskOutcome::Read(CONTENT.to_vec()))).assert_over();
    assert_eq!(it.end, Some((Err(given()), Tell::Nobody)));
}

#[test]
fn what_has_come_is_kept_unless_the_peers_file_is_another() {
    let mut it = Harness::new().accepted(b"");
    it.chunk(b"01").chunk(b"23").cancel(EndCause::Connection);
    it.wrote(0, 2).wrote(2, 1).wrote(3, 1).assert_over();
    assert_eq!(it.rooms[1..], [Room::Spend { bytes: 4 }]);

    let mut it = Harness::new().accepted(b"");
    it.cancel(EndCause::Local).done(&ReceiverOp::RemovePart).assert_over();

    let mut it = Harness::new().accepted(b"012");
    it.cancel(EndCause::PeerFileChanged).done(&ReceiverOp::RemovePart).assert_over();
    let mut it = Harness::new();
    it.answer(&ReceiverOp::LookUp, Ok(DiskOutcome::Found { bytes: SIZE })).hold(CONTENT);
    it.cancel(EndCause::PeerFileChanged).assert_over();
}

#[test]
fn a_verified_file_gets_its_name_though_the_connection_ends() {
    let mut it = Harness::new().accepted(b"");
    it.chunk(CONTENT).say_done().cancel(EndCause::Connection);
    assert!(it.end.is_none() && it.receiver.is_finishing());
    it.wrote(0, 10).cancel(EndCause::Connection);
    // Once it gets its name no one can stop it, also not with frames that are out of turn.
    assert!(it.receiver.on_chunk(b"x").is_err());
    it.say_done().cancel(EndCause::Local).cancel(EndCause::Peer).done(&ReceiverOp::Publish);
    assert_eq!(it.end, Some((Ok(file_hash(CONTENT)), Tell::Nobody)));
    it.done(&ReceiverOp::RemovePart).assert_over();

    let mut it = Harness::new().accepted(b"");
    it.chunk(CONTENT).say_done().cancel(EndCause::Local);
    assert_eq!(it.end, Some((Err(given()), Tell::Peer)), "a cancel before that is heeded");
}
