//! The receiving side of a transfer, with any sender: offers of files and directories, chunks and
//! dones of any value in any order, repeated offers, results of the disk in any order, short or
//! failed, memory, windows and room that are granted now or later, and ends at any moment.

mod disk;
mod model;

use std::time::Duration;

use posthouse_wire::{
    DeliveryId, DiskError, DiskFailure, EndCause, EntryKind, FileReceiver, OpNumber,
    ReceiverAction, ReceiverConfig, ReceiverEvent, ReceiverOp, Room, Tell, TransferFrame,
};

use crate::content::content;
use crate::input::Input;
use disk::Disk;
use model::{MAX_ACTIONS, Model};

type Error = &'static str;

struct Run {
    receiver: FileReceiver<Error>,
    model: Model,
    disk: Disk,
    operations: Vec<(OpNumber, ReceiverOp)>,
    /// The requests for memory that have not been granted.
    needs: usize,
    /// Whether the place of the file is granted by a later step, and not at once.
    grants_late: bool,
    /// Whether the request for the place of the file has not been granted.
    wants_file: bool,
    /// Whether a request for a window has not been granted.
    wants_window: bool,
    /// A request for room that has not been answered.
    wants_room: Option<Room>,
    now: Duration,
}

/// Performs a run.
pub(crate) fn run(bytes: &[u8]) {
    let input = &mut Input::new(bytes);
    let kind = if input.rarely(16) { EntryKind::Directory } else { EntryKind::File };
    let size = if kind == EntryKind::Directory { 0 } else { input.number() };
    let id = 1 + u32::from(input.byte());
    let has_delivery_id = input.flag();
    let any_size = 1 + input.number().min(u64::MAX - 1);
    let choice = input.byte();
    let config = ReceiverConfig {
        id,
        kind,
        size: size.min(i64::MAX as u64),
        delivery_id: has_delivery_id.then_some(DeliveryId([9; 16])),
        window_bytes: [1, 8, 100, any_size][usize::from(choice % 4)],
        sync_bytes: input.number().max(1),
    };
    let mut run = Run {
        receiver: FileReceiver::new(config),
        model: Model::new(config),
        disk: Disk::new(input, config.size),
        operations: Vec::new(),
        needs: 0,
        grants_late: choice & 0x80 != 0,
        wants_file: false,
        wants_window: false,
        wants_room: None,
        now: Duration::from_secs(1),
    };
    run.perform();
    while !input.is_empty() && !run.model.is_released {
        run.step(input);
    }
    run.finish();
}

impl Run {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 24 {
            0..=8 => self.disk_op(input),
            10 if self.wants_file => self.grant_file(),
            9 | 10 => self.grant(),
            11 | 12 => self.extend(),
            13 | 14 => self.answer_room(!input.rarely(4)),
            15..=18 => self.chunk(input),
            // Most frames come when it is their turn: the others end most runs.
            19 if self.model.is_whole() || input.rarely(16) => {
                let hash = self.model.hash().filter(|_| !input.rarely(4));
                let hash = hash.unwrap_or_else(|| input.array());
                self.model.on_done(hash);
                self.receiver.on_done(hash);
            }
            20 if self.model.may_restart() || input.rarely(16) => self.offer_again(),
            21 if input.rarely(8) => {
                let causes = [
                    EndCause::Local,
                    EndCause::Peer,
                    EndCause::PeerFileChanged,
                    EndCause::Connection,
                ];
                let cause = causes[input.below(4)];
                let is_changed = cause == EndCause::PeerFileChanged;
                self.receiver.end(if is_changed { "changed" } else { "given" }, cause);
            }
            _ => self.now = self.now.saturating_add(Duration::from_millis(input.number())),
        }
        self.perform();
    }

    /// Performs the actions of the receiver.
    fn perform(&mut self) {
        for actions in 0.. {
            let Some(action) = self.receiver.poll(self.now) else { break };
            assert!(actions < MAX_ACTIONS, "actions without end: {action:?}");
            assert!(!self.model.is_released, "{action:?} after the last action");
            let is_last = matches!(action, ReceiverAction::Release);
            assert!(is_last || !self.model.is_settled, "{action:?} after the room was settled");
            match action {
                ReceiverAction::Disk { number, op } => self.begin(number, op),
                ReceiverAction::Frame(frame) => self.say(&frame),
                ReceiverAction::Need(bytes) => {
                    assert!((1..=256 * 1024).contains(&bytes));
                    self.needs += 1;
                }
                ReceiverAction::NeedFile => self.need_file(),
                ReceiverAction::NeedRest => {
                    self.needs += 1;
                    self.grant();
                }
                ReceiverAction::Window(bytes) => {
                    assert!(!std::mem::replace(&mut self.wants_window, true));
                    self.model.ask_window(bytes);
                }
                ReceiverAction::Free(_) => self.model.give_back(),
                ReceiverAction::Room(room @ Room::Reserve { .. }) => {
                    self.model.ask_room();
                    assert_eq!(self.wants_room.replace(room), None);
                }
                ReceiverAction::Room(room) => self.model.change_room(room, &self.disk),
                ReceiverAction::Discard => self.model.discard(),
                ReceiverAction::Notify(event) => self.notice(event),
                ReceiverAction::Release => {
                    assert!(self.operations.is_empty(), "released before its operations");
                    // What has not been granted is not wanted any more.
                    self.needs = 0;
                    self.model.is_released = true;
                }
            }
        }
        self.check();
    }

    fn begin(&mut self, number: OpNumber, op: ReceiverOp) {
        let is_file = self.model.config.kind == EntryKind::File;
        assert_eq!(self.receiver.open_files(), u64::from(is_file), "{op:?} without a place");
        self.model.check_op(&op, &self.disk);
        self.operations.push((number, op));
        let count = |is_it: fn(&ReceiverOp) -> bool| {
            self.operations.iter().filter(|(_, op)| is_it(op)).count()
        };
        let reads = count(|op| matches!(op, ReceiverOp::Read { .. }));
        let writes = count(|op| matches!(op, ReceiverOp::Write { .. }));
        let syncs = count(|op| matches!(op, ReceiverOp::Sync));
        let others = self.operations.len() - reads - writes - syncs;
        let kinds = [reads, writes + syncs, others].iter().filter(|count| **count > 0).count();
        let is_allowed = reads <= 2 && writes <= 1 && syncs <= 1 && others <= 1 && kinds <= 1;
        assert!(is_allowed, "{:?}", self.operations);
    }

    fn say(&mut self, frame: &TransferFrame<'_>) {
        self.model.say(frame);
        // What is said is what the sender reads.
        let mut bytes = Vec::new();
        frame.encode(64, &mut bytes).expect("a frame that every peer takes");
    }

    fn notice(&mut self, event: ReceiverEvent<Error>) {
        match event {
            ReceiverEvent::Moved(bytes) | ReceiverEvent::ResumedFrom(bytes) => {
                assert!(bytes <= self.model.config.size, "more than the file has: {event:?}");
            }
            ReceiverEvent::Ended { result, tell } => {
                assert!(result.is_err() || tell == Tell::Nobody);
                self.model.end(result, &self.disk);
            }
        }
    }

    fn check(&self) {
        let Self { receiver, model, operations, .. } = self;
        let mut numbers: Vec<_> = operations.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        assert!(receiver.operations().eq(numbers), "operations in flight");
        let asked = operations.iter().map(|(_, op)| match op {
            ReceiverOp::Read { bytes, .. } if model.result.is_none() => *bytes as u64,
            _ => 0,
        });
        assert!(receiver.read_bytes() >= asked.sum(), "memory that is not counted");
        assert!(receiver.read_bytes() <= 3 * 256 * 1024);
        assert!(receiver.window_bytes() >= model.queue.len() as u64, "bytes that do not count");
        if model.is_accepted && model.result.is_none() {
            assert!(receiver.window_bytes() <= model.config.window_bytes);
        }
        assert_eq!(receiver.is_ended(), model.result.is_some());
        match receiver.sign_of_life() {
            None => assert!(receiver.is_ended()),
            Some(TransferFrame::Credit { limit, .. }) => {
                assert!(!receiver.is_ended() && model.is_accepted);
                assert_eq!(limit, model.limit, "a sign of life changes nothing");
            }
            Some(frame) => assert!(matches!(frame, TransferFrame::Working { .. })),
        }
        let idle = Duration::from_secs(30);
        if receiver.expires_at(self.now, idle).is_some() {
            assert!(model.is_accepted && !receiver.is_ended() && model.queue.is_empty());
        }
        assert!(!receiver.to_string().is_empty());
    }

    // ---- the disk ----

    /// Ends one of the operations in flight.
    fn disk_op(&mut self, input: &mut Input<'_>) {
        if self.operations.is_empty() {
            return;
        }
        let (number, op) = self.operations.remove(input.below(self.operations.len()));
        let choice = input.byte();
        let result = if choice >= 0xf0 {
            self.model.is_faulty = true;
            match op {
                ReceiverOp::Read { .. } => self.model.give_back(),
                // Its bytes are gone, and what follows them has no place any more.
                ReceiverOp::Write { .. } => self.model.is_torn = true,
                _ => {}
            }
            let failures = [DiskFailure::Other, DiskFailure::NotFound, DiskFailure::Exists];
            Err(DiskError { failure: failures[input.below(3)], error: "disk" })
        } else {
            self.disk.perform(op, choice, input, &mut self.model)
        };
        self.receiver.on_disk(number, result);
    }

    fn grant(&mut self) {
        if self.needs > 0 {
            self.needs -= 1;
            self.receiver.grant(self.model.lend());
        }
    }

    fn need_file(&mut self) {
        assert!(!std::mem::replace(&mut self.wants_file, true), "two places for one file");
        assert_eq!(self.receiver.open_files(), 0, "a second place");
        if !self.grants_late {
            self.grant_file();
        }
    }

    fn grant_file(&mut self) {
        if std::mem::take(&mut self.wants_file) {
            self.receiver.grant_file();
        }
    }

    fn extend(&mut self) {
        if std::mem::take(&mut self.wants_window) {
            self.model.grant_window();
            self.receiver.extend();
        }
    }

    fn answer_room(&mut self, is_reserved: bool) {
        let Some(Room::Reserve { bytes, files, directories }) = self.wants_room.take() else {
            return;
        };
        if is_reserved {
            self.model.reserved = Some([bytes, files, directories]);
        } else {
            self.model.is_faulty = true;
        }
        self.receiver.on_room(is_reserved);
    }

    // ---- the sender ----

    fn chunk(&mut self, input: &mut Input<'_>) {
        let left = self.model.limit.saturating_sub(self.model.received);
        let bytes = match input.byte() {
            0..0x80 => left.min(1 + input.below(64) as u64),
            0x80..0xf0 => left,
            _ => input.near(left),
        };
        if left == 0 && !input.rarely(16) {
            return;
        }
        let bytes = bytes.clamp(1, 4096) as usize;
        let mut chunk = content(self.model.received, bytes);
        if input.rarely(32) {
            chunk[0] ^= 1;
            self.model.is_faulty = true;
        }
        let is_valid = self.model.takes(bytes);
        let result = self.receiver.on_chunk(&chunk);
        assert_eq!(result.is_ok(), is_valid, "a chunk of {bytes} bytes: {result:?}");
        match result {
            Ok(()) => self.model.take(&chunk),
            Err(_) => self.model.is_faulty = true,
        }
    }

    fn offer_again(&mut self) {
        let was_moving = self.model.is_accepted && self.model.result.is_none();
        match self.receiver.offered_again() {
            Ok(()) => {
                assert!(was_moving && self.model.verified.is_none(), "offered again at any time");
                self.model.restart();
            }
            // The peer broke the rules of the connection, which the caller ends.
            Err(_) => self.receiver.end("broken", EndCause::Connection),
        }
    }

    /// Ends the run: a sender and a disk without faults finish what they have begun. A small file
    /// then arrives, and in any case everything comes back.
    fn finish(&mut self) {
        let is_small = self.model.config.size <= 1024;
        let is_right = self.disk.is_right() && !self.model.is_faulty && is_small;
        let succeeds = is_right && !self.receiver.is_ended();
        if !succeeds {
            self.receiver.end("finished", EndCause::Connection);
        }
        let mut rounds = 0;
        self.perform();
        while !self.model.is_released {
            rounds += 1;
            assert!(rounds < 16 * 1024, "no end in sight: {:?}", self.receiver);
            self.grant_file();
            self.grant();
            self.extend();
            self.answer_room(true);
            self.disk_op(&mut Input::new(&[]));
            if self.model.takes(1) {
                let left = (self.model.limit - self.model.received).min(100) as usize;
                let chunk = content(self.model.received, left);
                assert_eq!(self.receiver.on_chunk(&chunk), Ok(()));
                self.model.take(&chunk);
            } else if succeeds
                && let Some(hash) = self.model.hash()
                && self.model.is_whole()
            {
                self.model.on_done(hash);
                self.receiver.on_done(hash);
            }
            if !self.model.is_released {
                self.perform();
            }
        }
        // A place that comes later is not used.
        self.grant_file();
        self.perform();
        self.model.check_end(succeeds, &self.receiver);
    }
}
