//! The sending side of a transfer, with any receiver: accepts, credits and dones of any value in
//! any order, results of the disk in any order, short or failed, memory that is granted now or
//! later, and ends at any moment.

mod model;

use std::time::Duration;

use posthouse_wire::{
    Chunk, ChunkSizes, DiskError, DiskFailure, DiskOutcome, FileFacts, FileSender, OpNumber,
    SenderAction, SenderEvent, SenderOp, Tell, file_hash,
};

use crate::content::{MAX_WHOLE_BYTES, content};
use crate::input::Input;
use model::{MAX_ACTIONS, Model};

type Error = &'static str;

struct Run {
    sender: FileSender<Error>,
    model: Model,
    operations: Vec<(OpNumber, SenderOp)>,
    /// The requests for memory that have not been granted.
    needs: usize,
    /// Whether the place of a file is granted by a later step, and not at once.
    grants_late: bool,
    /// Whether a request for the place of a file has not been granted.
    wants_file: bool,
    now: Duration,
    /// The time at which the last frame arrived.
    last_activity: Duration,
    /// The time since which the sender waits for the receiver.
    waiting_since: Option<Duration>,
    max_bytes: usize,
    prefers_unread: bool,
}

/// Performs a run.
pub(crate) fn run(bytes: &[u8]) {
    let input = &mut Input::new(bytes);
    let any_size = 1 + input.below(4096);
    let choice = input.byte();
    let max_chunk_bytes = [1, 4, 64, any_size][usize::from(choice % 4)];
    let model = Model::new(input, max_chunk_bytes);
    let mut run = Run {
        sender: FileSender::new(max_chunk_bytes),
        model,
        operations: Vec::new(),
        needs: 0,
        grants_late: choice & 0x80 != 0,
        wants_file: false,
        now: Duration::from_secs(1),
        last_activity: Duration::ZERO,
        waiting_since: None,
        max_bytes: usize::MAX,
        prefers_unread: false,
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
            0..=6 => self.disk(input),
            9 if self.wants_file => self.grant_file(),
            7..=9 => self.grant(),
            // Most frames come when it is their turn: the others end most runs.
            10..=12 if self.model.is_offered() || input.rarely(32) => self.accept(input),
            13 | 14 if self.model.accepts > 0 || input.rarely(32) => {
                let limit = input.near(self.model.limit);
                self.sender.on_credit(limit);
                self.model.on_credit(limit);
            }
            15 if self.model.said_hash.is_some() || input.rarely(32) => {
                let hash = self.model.said_hash.filter(|_| !input.rarely(4));
                let hash = hash.unwrap_or_else(|| input.array());
                self.model.confirmed = Some(hash);
                self.sender.on_done(hash);
            }
            19 if self.sender.idle_since().is_some() => self.close_idle(),
            16..=19 => self.take_chunk(),
            20 => self.chunk_left(input.rarely(8)),
            21 if input.rarely(8) => {
                let tell = if input.flag() { Tell::Peer } else { Tell::Nobody };
                self.sender.end("given", tell);
            }
            22 => {
                self.now = self.now.saturating_add(Duration::from_millis(input.number()));
                if input.flag() {
                    self.last_activity = self.now;
                }
            }
            _ => {
                self.max_bytes = input.near(64).max(1) as usize;
                let choice = input.byte();
                self.prefers_unread = choice & 1 != 0;
                self.grants_late = choice & 2 != 0;
            }
        }
        self.perform();
    }

    /// Performs the actions of the sender.
    fn perform(&mut self) {
        for actions in 0.. {
            let prefers_unread = self.prefers_unread;
            let mut prefers_unread = |_| prefers_unread;
            let prefers_unread = &mut prefers_unread;
            let mut sizes = ChunkSizes { max_bytes: self.max_bytes, prefers_unread };
            let Some(action) = self.sender.poll(self.now, &mut sizes) else { break };
            assert!(actions < MAX_ACTIONS, "actions without end: {action:?}");
            assert!(!self.model.is_released, "{action:?} after the last action");
            match action {
                SenderAction::Disk { number, op } => {
                    assert_eq!(self.sender.open_files(), 1, "{op:?} without a place");
                    self.model.check_op(&op);
                    self.operations.push((number, op));
                }
                SenderAction::Frame(frame) => self.model.say(frame),
                SenderAction::Need(bytes) => {
                    assert!((1..=self.model.max_read_bytes()).contains(&bytes));
                    self.needs += 1;
                }
                SenderAction::NeedFile => self.need_file(),
                SenderAction::Close => {
                    assert!(self.operations.is_empty(), "closed before its operations");
                    assert_eq!(self.sender.open_files(), 0, "closed, and has its place");
                }
                SenderAction::NeedRest => {
                    self.needs += 1;
                    self.grant();
                }
                SenderAction::Free(memory) => self.model.give_back(&memory),
                SenderAction::Notify(SenderEvent::ResumedFrom(offset)) => {
                    assert!(offset <= self.model.size);
                }
                SenderAction::Notify(SenderEvent::Ended { result, .. }) => {
                    self.model.end(result);
                }
                SenderAction::Release => {
                    assert!(self.operations.is_empty(), "released before its operations");
                    // What has not been granted is not wanted any more.
                    self.needs = 0;
                    self.model.is_released = true;
                }
            }
        }
        self.check();
    }

    fn check(&mut self) {
        let Self { sender, model, operations, .. } = self;
        let mut numbers: Vec<_> = operations.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        assert!(sender.operations().eq(numbers), "operations in flight");
        assert!(operations.len() <= 3, "{operations:?}");
        let asked = operations.iter().map(|(_, op)| match op {
            SenderOp::Read { bytes, .. } => *bytes as u64,
            _ => 0,
        });
        assert!(sender.read_bytes() >= asked.sum(), "memory that is not counted");
        assert!(sender.read_bytes() <= 3 * model.max_read_bytes() as u64);
        assert_eq!(sender.is_ended(), model.result.is_some());
        let idle = Duration::from_secs(30);
        let expires = sender.expires_at(self.last_activity, idle);
        let since = expires.map(|_| self.waiting_since.unwrap_or(self.now));
        self.waiting_since = since;
        // Four times the idle timeout, and a second for each 8 MiB of the file.
        let disk = Duration::from_secs(model.size / (8 << 20));
        let expected = since.map(|since| since.max(self.last_activity) + 4 * idle + disk);
        assert_eq!(expires, expected, "the time at which it expires");
        if sender.is_ended() {
            assert!(!sender.is_awaited() && expires.is_none() && !sender.has_chunk());
        } else {
            assert_ne!(sender.is_awaited(), expires.is_some(), "one side waits for the other");
            let wants_nothing = self.needs == 0 && !self.wants_file;
            let is_idle = operations.is_empty() && wants_nothing && !sender.has_chunk();
            assert!(is_idle || expires.is_none(), "it has work, and waits for the receiver");
        }
    }

    /// Ends one of the operations in flight.
    fn disk(&mut self, input: &mut Input<'_>) {
        if self.operations.is_empty() {
            return;
        }
        let (number, op) = self.operations.remove(input.below(self.operations.len()));
        let choice = input.byte();
        let result = if choice >= 0xf8 {
            if let SenderOp::Read { memory, .. } = &op {
                self.model.give_back(memory);
            }
            let failures = [DiskFailure::Other, DiskFailure::NotFound, DiskFailure::Exists];
            let failure = failures[usize::from(choice % 3)];
            self.model.fail(&op, failure);
            Err(DiskError { failure, error: "disk" })
        } else {
            Ok(self.outcome(op, choice, input))
        };
        self.sender.on_disk(number, result);
    }

    fn outcome(&mut self, op: SenderOp, choice: u8, input: &mut Input<'_>) -> DiskOutcome {
        let facts = FileFacts { bytes: self.model.size, modified_ns: 5 };
        match op {
            SenderOp::Open => DiskOutcome::Opened { facts, known: self.model.known },
            SenderOp::Reopen => {
                let same_file = choice < 0xf0;
                self.model.is_cut |= !same_file;
                let known = self.model.reopen(choice & 0x20 != 0);
                DiskOutcome::Reopened { facts, same_file, known }
            }
            SenderOp::Metadata if choice >= 0xf0 => {
                self.model.is_cut = true;
                DiskOutcome::Metadata(FileFacts { modified_ns: 6, ..facts })
            }
            SenderOp::Metadata => DiskOutcome::Metadata(facts),
            SenderOp::Read { offset, bytes, memory } => {
                let read = match choice {
                    0xf4.. => 0,
                    0xa0.. => 1 + input.below(bytes),
                    _ => bytes,
                };
                self.read(offset, read, memory)
            }
            SenderOp::Probe { offset } => {
                let read = usize::from(choice < 0xf4);
                self.model.is_cut |= read == 0;
                DiskOutcome::Read(content(offset, read))
            }
        }
    }

    fn read(&mut self, offset: u64, bytes: usize, mut memory: Vec<u8>) -> DiskOutcome {
        self.model.is_cut |= bytes == 0;
        memory.extend(content(offset, bytes));
        DiskOutcome::Read(memory)
    }

    fn grant(&mut self) {
        if self.needs > 0 {
            self.needs -= 1;
            self.sender.grant(self.model.lend());
        }
    }

    fn need_file(&mut self) {
        assert!(!std::mem::replace(&mut self.wants_file, true), "two places for one file");
        assert_eq!(self.sender.open_files(), 0, "a second place");
        if !self.grants_late {
            self.grant_file();
        }
    }

    fn grant_file(&mut self) {
        if std::mem::take(&mut self.wants_file) {
            self.sender.grant_file();
        }
    }

    /// Closes the file, which the sender does not use because it waits for credit.
    fn close_idle(&mut self) {
        assert!(self.sender.idle_since().is_some_and(|since| since <= self.now));
        assert!(self.operations.is_empty() && !self.sender.has_chunk(), "closed in use");
        self.model.check_idle();
        self.sender.close_idle();
        assert_eq!((self.sender.open_files(), self.sender.idle_since()), (0, None));
    }

    fn accept(&mut self, input: &mut Input<'_>) {
        let size = self.model.size;
        let offset = match input.byte() {
            0..0x60 => 0,
            0x60..0xc0 => input.near(size),
            _ => input.number(),
        };
        let limit = if input.flag() { input.near(offset) } else { input.near(size) };
        let is_right = offset <= MAX_WHOLE_BYTES && !input.rarely(4);
        let prefix = match is_right {
            true => file_hash(&content(0, offset as usize)),
            false => input.array(),
        };
        self.model.is_doomed |= !is_right && self.model.offers == 2;
        self.sender.on_accept(offset, limit, prefix);
        self.model.on_accept(offset, limit);
    }

    fn take_chunk(&mut self) {
        // A chunk leaves before the next one is taken.
        if self.model.is_leaving {
            return;
        }
        let before = self.sender.sent();
        let has_chunk = self.sender.has_chunk();
        let chunk = self.sender.take_chunk();
        assert!(has_chunk || chunk.is_none());
        if let Some(chunk) = chunk {
            assert_eq!(self.sender.sent(), before + chunk.len() as u64);
            if let Chunk::Memory(memory) = &chunk {
                self.model.give_back(memory);
            }
            self.model.send(before, &chunk);
        }
    }

    fn chunk_left(&mut self, is_cut: bool) {
        if !std::mem::take(&mut self.model.is_leaving) {
            return;
        }
        if is_cut && self.model.is_unread {
            self.model.is_cut = true;
            self.sender.chunk_cut();
        } else {
            self.sender.chunk_left();
        }
    }

    /// Ends the run: all that waits is answered by a receiver and a disk without faults. A sender
    /// of a small file then succeeds, and in any case everything comes back.
    fn finish(&mut self) {
        let rest = self.model.size;
        let is_hopeless = self.model.is_cut || self.model.is_doomed || rest > 1024;
        let succeeds = !self.sender.is_ended() && !is_hopeless;
        if !succeeds {
            self.sender.end("finished", Tell::Nobody);
        }
        self.perform();
        let mut rounds = 0;
        while !self.model.is_released {
            rounds += 1;
            assert!(rounds < 12 * 1024, "no end in sight: {:?}", self.sender);
            self.grant_file();
            self.grant();
            self.disk(&mut Input::new(&[]));
            self.perform();
            self.take_chunk();
            self.perform();
            self.chunk_left(false);
            if self.model.is_offered() {
                self.sender.on_accept(0, self.model.size, file_hash(b""));
                self.model.on_accept(0, self.model.size);
            } else if self.model.accepts > 0 {
                self.sender.on_credit(u64::MAX);
                self.model.on_credit(u64::MAX);
            }
            if let (Some(hash), false) = (self.model.said_hash, self.sender.is_ended()) {
                self.model.confirmed = Some(hash);
                self.sender.on_done(hash);
            }
            if !self.model.is_released {
                self.perform();
            }
        }
        // A place that comes later is not used.
        self.grant_file();
        self.perform();
        self.model.check_end(succeeds);
    }
}
