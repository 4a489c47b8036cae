mod ending;

use super::*;
use crate::transfer::harness::{End, failure_of, take_operation};
use crate::transfer::prefix_hasher::PREFIX_READ_BYTES;
use crate::transfer::{DiskFailure, TransferFrame, file_hash};

/// A receiver. The harness performs its actions, except those on the disk.
struct Harness {
    receiver: FileReceiver<&'static str>,
    /// The answers to the next requests for room.
    has_room: Vec<bool>,
    operations: Vec<(OpNumber, ReceiverOp)>,
    frames: Vec<TransferFrame<'static>>,
    rooms: Vec<Room>,
    end: Option<(End, Tell)>,
    discards: usize,
    /// The number of granted pieces of memory that have not been returned.
    lent: usize,
    is_released: bool,
    now: Duration,
}

const SIZE: u64 = 10;
const CONTENT: &[u8] = b"0123456789";
const DELIVERY_ID: Option<DeliveryId> = Some(DeliveryId([4; 16]));
const CONFIG: ReceiverConfig = ReceiverConfig {
    id: 7,
    kind: EntryKind::File,
    size: SIZE,
    delivery_id: DELIVERY_ID,
    window_bytes: 1,
    sync_bytes: 1,
};

impl Harness {
    fn with(window_bytes: u64, sync_bytes: u64) -> Self {
        Self::of(ReceiverConfig { window_bytes, sync_bytes, ..CONFIG })
    }

    fn of(config: ReceiverConfig) -> Self {
        let mut harness = Self {
            receiver: FileReceiver::new(config),
            has_room: Vec::new(),
            operations: Vec::new(),
            frames: Vec::new(),
            rooms: Vec::new(),
            end: None,
            discards: 0,
            lent: 0,
            is_released: false,
            now: Duration::ZERO,
        };
        harness.run();
        harness
    }

    fn new() -> Self {
        Self::with(u64::MAX, u64::MAX)
    }

    fn run(&mut self) {
        while let Some(action) = self.receiver.poll(self.now) {
            assert!(!self.is_released, "{action:?} after the last action");
            match action {
                ReceiverAction::Disk { number, op } => self.operations.push((number, op)),
                ReceiverAction::Frame(frame) => self.frames.push(frame),
                ReceiverAction::NeedFile => {
                    assert!(
                        self.operations.is_empty(),
                        "nothing is opened before its place is had"
                    );
                    self.receiver.grant_file();
                    assert_eq!(self.receiver.open_files(), 1);
                }
                ReceiverAction::Need(bytes) => {
                    assert!(bytes > 0);
                    self.lent += 1;
                    self.receiver.grant(Vec::new());
                }
                ReceiverAction::NeedRest => {
                    self.lent += 1;
                    self.receiver.grant(Vec::new());
                }
                ReceiverAction::Window(bytes) => {
                    assert!(bytes > 0);
                    self.receiver.extend();
                }
                ReceiverAction::Free(_) => self.lent -= 1,
                ReceiverAction::Room(room) => {
                    self.rooms.push(room);
                    if let Room::Reserve { .. } = room {
                        let has_room = self.has_room.pop().unwrap_or(true);
                        self.receiver.on_room(has_room);
                    }
                }
                ReceiverAction::Discard => self.discards += 1,
                ReceiverAction::Notify(ReceiverEvent::Ended { result, tell }) => {
                    assert!(self.end.replace((result, tell)).is_none(), "told once");
                }
                ReceiverAction::Notify(_) => {}
                ReceiverAction::Release => self.is_released = true,
            }
        }
    }

    /// Answers the operation in flight that looks like this one.
    fn answer(&mut self, op: &ReceiverOp, result: Result<DiskOutcome, DiskFailure>) -> &mut Self {
        let (number, op) = take_operation(&mut self.operations, op);
        if let (ReceiverOp::Read { .. }, Err(_)) = (&op, &result) {
            self.lent -= 1; // it failed with its memory
        }
        let error = |failure| DiskError { failure, error: "disk" };
        self.receiver.on_disk(number, result.map_err(error));
        self.run();
        self
    }

    fn done(&mut self, op: &ReceiverOp) -> &mut Self {
        self.answer(op, Ok(DiskOutcome::Done))
    }

    /// Runs the receiver up to its accept, with a part that holds these bytes.
    fn accepted(mut self, held: &[u8]) -> Self {
        self.answer(&ReceiverOp::LookUp, Err(DiskFailure::NotFound));
        self.answer(&ReceiverOp::OpenPart, Ok(DiskOutcome::Part { bytes: held.len() as u64 }));
        self.hold(held);
        self
    }

    fn hold(&mut self, held: &[u8]) {
        if !held.is_empty() {
            self.answer(&read(0, held.len()), Ok(DiskOutcome::Read(held.to_vec())));
        }
        let offset = held.len() as u64;
        let accept = self.frames.pop();
        let Some(TransferFrame::Accept { id: 7, offset: from, prefix, .. }) = accept else {
            panic!("{accept:?}");
        };
        assert_eq!((from, prefix), (offset, file_hash(held)));
    }

    fn chunk(&mut self, bytes: &[u8]) -> &mut Self {
        assert_eq!(self.receiver.on_chunk(bytes), Ok(()));
        self.run();
        self
    }

    fn wrote(&mut self, offset: u64, bytes: usize) -> &mut Self {
        self.answer(&write(offset), Ok(DiskOutcome::Written(bytes)))
    }

    fn say_done(&mut self) -> &mut Self {
        self.receiver.on_done(file_hash(CONTENT));
        self.run();
        self
    }

    fn cancel(&mut self, cause: EndCause) -> &mut Self {
        self.receiver.end("given", cause);
        self.run();
        self
    }

    fn failed(&self) -> &TransferFailure<&'static str> {
        failure_of(self.end.as_ref())
    }

    /// Checks that no operation, no memory and no slot is left.
    fn assert_over(&self) {
        assert!(self.is_released && self.operations.is_empty(), "{:?}", self.operations);
        assert_eq!((self.lent, self.receiver.operations().count()), (0, 0));
        assert!(self.end.is_some() && self.receiver.is_ended());
    }
}

fn read(offset: u64, bytes: usize) -> ReceiverOp {
    ReceiverOp::Read { offset, bytes, memory: Vec::new() }
}

fn write(offset: u64) -> ReceiverOp {
    ReceiverOp::Write { offset, max_bytes: MAX_WRITE_BYTES }
}

fn given() -> TransferFailure<&'static str> {
    TransferFailure::Given("given")
}

fn done_of(content: &[u8]) -> TransferFrame<'static> {
    TransferFrame::Done { id: 7, hash: file_hash(content), delivery_id: DELIVERY_ID }
}

fn directory() -> Harness {
    Harness::of(ReceiverConfig { kind: EntryKind::Directory, size: 0, ..CONFIG })
}

#[test]
fn a_directory_that_exists_is_answered_with_done_at_once() {
    let mut it = directory();
    it.done(&ReceiverOp::LookUpDirectory).assert_over();
    assert_eq!(it.frames, [done_of(b"")]);
    assert_eq!(it.end, Some((Ok(file_hash(b"")), Tell::Nobody)));
    assert!(it.rooms.iter().all(|room| *room == Room::Spend { bytes: 0 }), "{:?}", it.rooms);
}

#[test]
fn a_directory_is_made_and_counted() {
    let mut it = directory();
    it.answer(&ReceiverOp::LookUpDirectory, Err(DiskFailure::NotFound));
    assert_eq!(it.rooms, [Room::Reserve { bytes: 0, files: 0, directories: 1 }]);
    it.done(&ReceiverOp::MakeDirectory).assert_over();
    assert_eq!(it.frames, [done_of(b"")]);
    assert_eq!(it.rooms[1], Room::Spend { bytes: 0 });
}

#[test]
fn a_directory_without_room_or_that_cannot_be_made_fails() {
    let mut it = directory();
    it.has_room = vec![false, false];
    it.answer(&ReceiverOp::LookUpDirectory, Err(DiskFailure::NotFound));
    it.done(&ReceiverOp::Count).assert_over();
    assert_eq!(it.end, Some((Err(TransferFailure::NoRoom), Tell::Peer)));
    let mut it = directory();
    it.answer(&ReceiverOp::LookUpDirectory, Err(DiskFailure::NotFound));
    it.answer(&ReceiverOp::MakeDirectory, Err(DiskFailure::Other)).assert_over();
    assert!(it.rooms.contains(&Room::Return) && it.frames.is_empty());
    let mut it = directory();
    it.answer(&ReceiverOp::LookUpDirectory, Err(DiskFailure::Exists)).assert_over();
    assert!(it.end.is_some_and(|(end, _)| end.is_err()));
}

#[test]
fn a_new_file_is_written_published_and_said_to_be_there() {
    let mut it = Harness::new().accepted(b"");
    assert_eq!(it.rooms, [Room::Reserve { bytes: SIZE, files: 1, directories: 0 }]);
    it.chunk(b"01234").chunk(b"56789").say_done();
    assert!(it.receiver.is_finishing() && it.end.is_none());
    it.wrote(0, 5).wrote(5, 5);
    assert!(it.frames.is_empty() && it.end.is_none(), "not yet on the disk");
    it.done(&ReceiverOp::Publish);
    assert_eq!(it.frames, [done_of(CONTENT)]);
    assert_eq!(it.end, Some((Ok(file_hash(CONTENT)), Tell::Nobody)));
    assert_eq!(it.rooms[1..], [Room::Spend { bytes: SIZE }]);
    it.done(&ReceiverOp::RemovePart).assert_over();
}

#[test]
fn a_part_is_read_held_against_the_sender_and_gone_on_with() {
    let mut it = Harness::new().accepted(b"0123");
    assert_eq!(it.rooms[1..], [Room::Shrink { bytes: 4, files: 1 }]);
    it.chunk(b"456789").say_done().wrote(4, 6).done(&ReceiverOp::Publish);
    assert_eq!(it.end, Some((Ok(file_hash(CONTENT)), Tell::Nobody)));
    assert_eq!(it.rooms[2], Room::Spend { bytes: 6 });
    it.done(&ReceiverOp::RemovePart).assert_over();
}

#[test]
fn what_is_there_is_read_ahead_and_short_reads_are_filled() {
    let size = 3 * PREFIX_READ_BYTES as u64;
    let content: Vec<u8> = (0..size).map(|at| (at >> 10) as u8).collect();
    let config = ReceiverConfig { size, ..CONFIG };
    let mut it = Harness::new();
    it.receiver = FileReceiver::new(config);
    it.operations.clear();
    it.run();
    it.answer(&ReceiverOp::LookUp, Ok(DiskOutcome::Found { bytes: size }));
    let some = |at: usize, bytes: usize| Ok(DiskOutcome::Read(content[at..][..bytes].to_vec()));
    assert_eq!((it.operations.len(), it.receiver.read_bytes()), (2, size / 3 * 2));
    let bytes = PREFIX_READ_BYTES;
    it.answer(&read(bytes as u64, bytes), some(bytes, bytes));
    assert_eq!(it.operations.len(), 1, "no more than two at a time");
    it.answer(&read(0, bytes), some(0, 100));
    assert!(it.frames.is_empty());
    it.answer(&read(100, bytes - 100), some(100, bytes - 100));
    it.answer(&read(2 * bytes as u64, bytes), some(2 * bytes, bytes));
    let prefix = file_hash(&content);
    assert_eq!(it.frames, [TransferFrame::Accept { id: 7, offset: size, limit: size, prefix }]);
}

#[test]
fn reads_that_are_in_flight_after_the_end_count_as_memory_in_use() {
    let size = PREFIX_READ_BYTES as u64 + 5;
    let mut it = Harness::of(ReceiverConfig { size, ..CONFIG });
    it.answer(&ReceiverOp::LookUp, Ok(DiskOutcome::Found { bytes: size }));
    it.receiver.end("given", EndCause::Local);
    it.run();
    assert_eq!(it.receiver.read_bytes(), size);
    it.answer(&read(0, PREFIX_READ_BYTES), Ok(DiskOutcome::Read(Vec::new())));
    assert_eq!(it.receiver.read_bytes(), 5);
    it.answer(&read(size - 5, 5), Err(DiskFailure::Other));
    assert_eq!(it.receiver.read_bytes(), 0);
    it.assert_over();
}

#[test]
fn a_whole_file_under_the_name_is_only_synced() {
    let mut it = Harness::new();
    it.answer(&ReceiverOp::LookUp, Ok(DiskOutcome::Found { bytes: SIZE })).hold(CONTENT);
    it.say_done();
    assert!(it.frames.is_empty(), "it need not stay before its name is synced");
    it.done(&ReceiverOp::SyncName);
    assert_eq!(it.frames, [done_of(CONTENT)]);
    it.assert_over();

    let mut it = Harness::new();
    it.answer(&ReceiverOp::LookUp, Ok(DiskOutcome::Found { bytes: SIZE + 1 }));
    assert_eq!(it.failed(), &TransferFailure::Exists { bytes: Some(SIZE + 1) });
    it.assert_over();

    let mut it = Harness::new();
    it.answer(&ReceiverOp::LookUp, Ok(DiskOutcome::Found { bytes: SIZE })).hold(CONTENT);
    it.say_done().answer(&ReceiverOp::SyncName, Err(DiskFailure::NotFound));
    assert_eq!(it.failed(), &TransferFailure::Changed("the existing file disappeared"));
    it.assert_over();
}

#[test]
fn a_part_that_is_longer_than_the_file_is_cut() {
    let mut it = Harness::new();
    it.answer(&ReceiverOp::LookUp, Err(DiskFailure::NotFound));
    it.answer(&ReceiverOp::OpenPart, Ok(DiskOutcome::Part { bytes: SIZE + 1 }));
    it.done(&ReceiverOp::Truncate).hold(b"");
    let rooms = [Room::Shrink { bytes: SIZE, files: 1 }, Room::Extend { bytes: SIZE }];
    assert_eq!(it.rooms[1..], rooms);
    it.chunk(CONTENT).say_done().wrote(0, 10).done(&ReceiverOp::Publish);
    assert_eq!(it.rooms[3], Room::Spend { bytes: SIZE });
}

#[test]
fn without_room_the_directory_is_counted_and_what_the_part_holds_may_do() {
    for (held, answers, fits) in [
        (0, vec![true, false], true),
        (4, vec![true, false, false], true),
        (4, vec![false, false, false], false),
        (0, vec![false, false], false),
    ] {
        let mut it = Harness::new();
        it.has_room = answers;
        it.answer(&ReceiverOp::LookUp, Err(DiskFailure::NotFound)).done(&ReceiverOp::Count);
        it.answer(&ReceiverOp::OpenPart, Ok(DiskOutcome::Part { bytes: held }));
        let make_room = ReceiverOp::MakeRoom { bytes: SIZE - held, files: u64::from(held == 0) };
        if fits {
            it.hold(&CONTENT[..held as usize]);
        } else {
            it.answer(&make_room, Err(DiskFailure::Other));
            assert_eq!(it.failed(), &TransferFailure::NoRoom);
            if held == 0 {
                it.done(&ReceiverOp::RemovePart);
            }
            it.assert_over();
        }
    }
}

#[test]
fn other_parts_give_way_for_what_the_own_part_does_not_hold() {
    for (held, is_enough) in [(0, true), (4, true), (0, false), (4, false)] {
        let mut it = Harness::new();
        it.has_room = vec![is_enough, false, false, false];
        if held == 0 {
            // An empty part saves nothing, so it is not tried on its own.
            it.has_room.pop();
        }
        it.answer(&ReceiverOp::LookUp, Err(DiskFailure::NotFound)).done(&ReceiverOp::Count);
        it.answer(&ReceiverOp::OpenPart, Ok(DiskOutcome::Part { bytes: held }));
        it.done(&ReceiverOp::MakeRoom { bytes: SIZE - held, files: u64::from(held == 0) });
        // The part is counted by now.
        let rest = Room::Reserve { bytes: SIZE - held, files: 0, directories: 0 };
        assert!(it.rooms.contains(&rest), "{:?}", it.rooms);
        if is_enough {
            it.hold(&CONTENT[..held as usize]);
        } else {
            assert_eq!(it.failed(), &TransferFailure::NoRoom);
        }
    }
    // The connection ends meanwhile.
    let mut it = Harness::new();
    it.has_room = vec![false, false];
    it.answer(&ReceiverOp::LookUp, Err(DiskFailure::NotFound)).done(&ReceiverOp::Count);
    it.answer(&ReceiverOp::OpenPart, Ok(DiskOutcome::Part { bytes: 0 }));
    it.receiver.end("the connection ended", EndCause::Connection);
    it.run();
    it.done(&ReceiverOp::MakeRoom { bytes: SIZE, files: 1 });
    it.done(&ReceiverOp::RemovePart).assert_over();
}

#[test]
fn a_prefix_that_differs_is_answered_by_the_same_offer_once() {
    let mut it = Harness::new().accepted(b"xyz");
    assert_eq!(it.receiver.offered_again(), Ok(()));
    it.run();
    it.done(&ReceiverOp::Truncate).hold(b"");
    assert!(it.receiver.offered_again().is_err(), "nothing is held");
    it.chunk(CONTENT).say_done().wrote(0, 10).done(&ReceiverOp::Publish);
    assert_eq!(it.end, Some((Ok(file_hash(CONTENT)), Tell::Nobody)));

    let mut it = Harness::new().accepted(b"012");
    it.chunk(b"3");
    assert!(it.receiver.offered_again().is_err(), "a chunk has come");

    let mut it = Harness::new();
    assert!(it.receiver.offered_again().is_err(), "nothing was accepted");
    it.answer(&ReceiverOp::LookUp, Ok(DiskOutcome::Found { bytes: SIZE })).hold(CONTENT);
    assert_eq!(it.receiver.offered_again(), Ok(()));
    it.run();
    assert_eq!(it.failed(), &TransferFailure::Exists { bytes: None });
    it.assert_over();
}

#[test]
fn an_empty_file_that_is_there_cannot_be_offered_again() {
    let mut it = Harness::of(ReceiverConfig { size: 0, ..CONFIG });
    it.answer(&ReceiverOp::LookUp, Ok(DiskOutcome::Found { bytes: 0 }));
    let prefix = file_hash(b"");
    assert_eq!(it.frames, [TransferFrame::Accept { id: 7, offset: 0, limit: 0, prefix }]);
    let violation = TransferViolation::OutOfTurn { kind: kind::OFFER };
    assert_eq!(it.receiver.offered_again(), Err(violation));
}

#[test]
#[should_panic(expected = "a sync after every 0 bytes")]
fn a_sync_after_0_bytes_is_no_configuration() {
    FileReceiver::<()>::new(ReceiverConfig { sync_bytes: 0, ..CONFIG });
}

#[test]
fn a_sender_that_breaks_the_rules_is_told_how() {
    type Input = fn(&mut FileReceiver<&'static str>);
    let chunk: Input = |it| assert!(it.on_chunk(b"x").is_err());
    let done: Input = |it| it.on_done(file_hash(CONTENT));
    let late = |kind| TransferViolation::OutOfTurn { kind };
    let mut early = Harness::new();
    chunk(&mut early.receiver);
    early.run();
    assert_eq!(early.failed(), &TransferFailure::Violation(late(kind::CHUNK)));
    let mut early = Harness::new();
    done(&mut early.receiver);
    early.run();
    assert_eq!(early.failed(), &TransferFailure::Violation(late(kind::DONE)));

    let beyond_credit = TransferViolation::BeyondCredit { end: 5, limit: 4 };
    let beyond_size = TransferViolation::BeyondSize { end: 11, size: SIZE };
    let few = TransferViolation::TooFew { received: 4, size: SIZE };
    let table: [(u64, &[u8], Input, TransferViolation); 5] = [
        (4, b"0123", chunk, beyond_credit),
        (u64::MAX, CONTENT, chunk, beyond_size),
        (4, b"0123", done, few),
        (
            u64::MAX,
            CONTENT,
            |it| {
                it.on_done(file_hash(CONTENT));
                assert!(it.on_chunk(b"x").is_err());
            },
            late(kind::CHUNK),
        ),
        (
            u64::MAX,
            CONTENT,
            |it| (0..2).for_each(|_| it.on_done(file_hash(CONTENT))),
            late(kind::DONE),
        ),
    ];
    for (window, first, input, violation) in table {
        let mut it = Harness::with(window, u64::MAX).accepted(b"");
        it.chunk(first);
        input(&mut it.receiver);
        it.run();
        assert_eq!(it.end, Some((Err(TransferFailure::Violation(violation)), Tell::Peer)));
        // The received bytes are kept for the next attempt.
        it.wrote(0, first.len()).assert_over();
    }
}

#[test]
fn another_hash_is_told_and_the_part_goes() {
    let mut it = Harness::new().accepted(b"");
    it.chunk(CONTENT);
    it.receiver.on_done(file_hash(b"other"));
    it.run();
    assert_eq!(it.end, Some((Err(TransferFailure::HashDiffers), Tell::Peer)));
    it.wrote(0, 10).done(&ReceiverOp::RemovePart).assert_over();

    let mut it = Harness::new();
    it.answer(&ReceiverOp::LookUp, Ok(DiskOutcome::Found { bytes: SIZE })).hold(CONTENT);
    it.receiver.on_done(file_hash(b"other"));
    it.run();
    it.assert_over();
}

#[test]
fn writes_are_in_order_one_at_a_time_and_go_on_beside_a_sync() {
    let mut it = Harness::with(u64::MAX, 3).accepted(b"");
    it.chunk(b"012").chunk(b"3");
    assert_eq!(it.operations.len(), 1);
    it.wrote(0, 3).chunk(b"45");
    assert_eq!(it.operations.len(), 2, "a sync and a write: {:?}", it.operations);
    it.wrote(3, 1).wrote(4, 1).wrote(5, 1);
    assert_eq!(it.operations.len(), 1, "one sync at a time");
    it.done(&ReceiverOp::Sync);
    assert_eq!(it.operations, [(OpNumber(0), ReceiverOp::Sync)], "of what came since");
    it.chunk(b"6789").say_done().wrote(6, 4);
    assert_eq!(it.operations.len(), 1, "no name before the sync has ended");
    it.done(&ReceiverOp::Sync).done(&ReceiverOp::Publish).done(&ReceiverOp::RemovePart);
    it.assert_over();
}

#[test]
fn a_sync_that_fails_ends_the_transfer_and_what_came_is_written() {
    let mut it = Harness::with(u64::MAX, 3).accepted(b"");
    it.chunk(b"0123").wrote(0, 3);
    it.answer(&ReceiverOp::Sync, Err(DiskFailure::Other));
    assert_eq!(it.failed(), &TransferFailure::Given("disk"));
    it.wrote(3, 1).assert_over();
    assert_eq!((it.discards, *it.rooms.last().unwrap()), (0, Room::Spend { bytes: 4 }));
}

#[test]
fn credit_follows_what_is_written() {
    let mut it = Harness::with(4, u64::MAX).accepted(b"");
    it.chunk(b"0123");
    assert!(it.frames.is_empty());
    it.wrote(0, 1);
    assert!(it.frames.is_empty(), "not worth a frame");
    it.wrote(1, 1);
    assert_eq!(it.frames, [TransferFrame::Credit { id: 7, limit: 6 }]);
    it.wrote(2, 2);
    assert_eq!(it.frames[1..], [TransferFrame::Credit { id: 7, limit: 8 }]);
}

#[test]
fn it_expires_while_it_is_the_senders_turn() {
    let idle = Duration::from_secs(30);
    let at = |it: &Harness| it.receiver.expires_at(Duration::from_secs(5), idle);
    let mut it = Harness::new();
    assert_eq!(at(&it), None, "the disk's turn");
    it.now = Duration::from_secs(9);
    let mut it = it.accepted(b"");
    assert_eq!(at(&it), Some(Duration::from_secs(39)), "since the accept");
    it.chunk(CONTENT);
    assert_eq!(at(&it), None, "unwritten");
    it.wrote(0, 10);
    assert_eq!(at(&it), Some(Duration::from_secs(39)));
    it.say_done();
    assert_eq!(at(&it), None);
}

#[test]
fn an_answer_on_room_and_memory_that_come_late_are_given_back() {
    let config = CONFIG;
    let mut receiver = FileReceiver::new(config);
    let poll = |receiver: &mut FileReceiver<&'static str>| receiver.poll(Duration::ZERO);
    assert!(matches!(poll(&mut receiver), Some(ReceiverAction::NeedFile)));
    assert!(poll(&mut receiver).is_none(), "nothing happens before its place is granted");
    assert_eq!(receiver.sign_of_life(), Some(TransferFrame::Working { id: 7 }));
    assert_eq!(receiver.expires_at(Duration::ZERO, Duration::ZERO), None);
    receiver.grant_file();
    let Some(ReceiverAction::Disk { number, .. }) = poll(&mut receiver) else { panic!() };
    receiver.grant_file();
    assert!(poll(&mut receiver).is_none(), "a second place is not used");
    receiver.on_disk(number, Ok(DiskOutcome::Found { bytes: SIZE }));
    assert!(matches!(poll(&mut receiver), Some(ReceiverAction::Need(10))));
    receiver.end("given", EndCause::Local);
    assert!(matches!(poll(&mut receiver), Some(ReceiverAction::Notify(_))));
    receiver.grant(Vec::with_capacity(5));
    let Some(ReceiverAction::Free(memory)) = poll(&mut receiver) else { panic!() };
    assert_eq!(memory.capacity(), 5);
    receiver.on_room(true);
    assert!(receiver.is_ended());

    let mut receiver = FileReceiver::new(config);
    assert!(matches!(poll(&mut receiver), Some(ReceiverAction::NeedFile)));
    receiver.end("given", EndCause::Local);
    receiver.grant_file();
    while let Some(action) = poll(&mut receiver) {
        assert!(!matches!(action, ReceiverAction::Disk { .. }), "{action:?}");
    }
    assert_eq!(receiver.open_files(), 0);
}
