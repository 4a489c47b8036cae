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
    now: Duration,
    max_bytes: usize,
    prefers_unread: bool,
}

/// Performs a run.
pub(crate) fn run(bytes: &[u8]) {
    let input = &mut Input::new(bytes);
    let max_chunk_bytes = [1, 4, 64, 1 + input.below(4096)][input.below(4)];
    let model = Model::new(input, max_chunk_bytes);
    let mut run = Run {
        sender: FileSender::new(max_chunk_bytes),
        model,
        operations: Vec::new(),
        needs: 0,
        now: Duration::from_secs(1),
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
            16..=19 => self.take_chunk(),
            20 => self.chunk_left(input.rarely(8)),
            21 if input.rarely(8) => {
                let tell = if input.flag() { Tell::Peer } else { Tell::Nobody };
                self.sender.end("given", tell);
            }
            22 => self.now = self.now.saturating_add(Duration::from_millis(input.number())),
            _ => {
                self.max_bytes = input.near(64).max(1) as usize;
                self.prefers_unread = input.flag();
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
                    self.model.check_op(&op);
                    self.operations.push((number, op));
                }
                SenderAction::Frame(frame) => self.model.say(frame),
                SenderAction::Need(bytes) => {
                    assert!((1..=self.model.max_read_bytes()).contains(&bytes));
                    self.needs += 1;
                }
                SenderAction::NeedFile => self.sender.grant_file(),
                SenderAction::Close => {
                    assert!(self.operations.is_empty(), "closed before its operations");
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

    fn check(&self) {
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
        let expires = sender.expires_at(self.now, idle);
        assert!(expires.is_none_or(|at| at >= self.now + idle));
        if sender.is_ended() {
            assert!(!sender.is_awaited() && expires.is_none() && !sender.has_chunk());
        } else {
            assert_ne!(sender.is_awaited(), expires.is_some(), "one side waits for the other");
            let is_idle = operations.is_empty() && self.needs == 0 && !sender.has_chunk();
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
            Err(DiskError { failure: DiskFailure::Other, error: "disk" })
        } else {
            Ok(self.outcome(op, choice, input))
        };
        self.sender.on_disk(number, result);
    }

    fn outcome(&mut self, op: SenderOp, choice: u8, input: &mut Input<'_>) -> DiskOutcome {
        let facts = FileFacts { bytes: self.model.size, modified_ns: 5 };
        match op {
            SenderOp::Open => DiskOutcome::Opened { facts, known: self.model.known },
            SenderOp::Reopen if choice >= 0xf0 => {
                self.model.is_cut = true;
                DiskOutcome::Reopened { facts, same_file: false, known: self.model.known }
            }
            SenderOp::Reopen => {
                DiskOutcome::Reopened { facts, same_file: true, known: self.model.known }
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
        self.model.check_end(succeeds);
    }
}
