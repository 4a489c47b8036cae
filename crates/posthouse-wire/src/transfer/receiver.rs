//! The receiving side of a transfer: looks for the file, holds against what is there, takes chunks,
//! writes, verifies, publishes and cleans up.
//!
//! ```text
//! LookingUp ── found ──> Holding ──> Moving ──> SyncingName ───────────┐
//!     └─ not found ──> Reserving ──> OpeningPart ──> Holding           ├──> CleaningUp ──> Over
//!                        └ Counting     └> Truncating └> Moving ──> Publishing ─┘
//! ```
//!
//! A part holds a beginning of the file at every moment: it is written in order, one write at a
//! time. It gets its final name after the last write has ended.

mod actions;
mod part;
mod results;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use blake3::{Hash, Hasher};

use super::failure::{Tell, TransferFailure};
use super::operations::{DiskError, DiskOutcome, OpNumber, Operations};
use super::read_ahead::ReadAhead;
use super::{MIN_COMPARE_BYTES_PER_SECOND, TransferViolation};
use crate::kind;

pub use actions::{ReceiverAction, ReceiverEvent, ReceiverOp, Room};
use part::{Credit, Part};

/// Bytes that are read at a time to compare what is there.
const COMPARE_BYTES: usize = 256 * 1024;
/// Reads that are in flight, or wait for their turn.
const MAX_READS: usize = 2;
/// The maximum size of a write, to which chunks are joined.
const MAX_WRITE_BYTES: usize = 1024 * 1024;

/// The file that is received, and how.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverConfig {
    /// The number of the transfer.
    pub id: u32,
    /// The size of the file.
    pub size: u64,
    /// The maximum number of bytes that are on their way or unwritten, at least 1.
    pub window_bytes: u64,
    /// A sync begins when so many bytes have been written since the last one.
    pub sync_bytes: u64,
}

/// The receiving side of a transfer. The caller passes in what happens, and performs the
/// [actions](Self::poll) that follow.
#[derive(Debug)]
pub struct FileReceiver<E> {
    config: ReceiverConfig,
    state: State,
    /// The part, once it has been opened.
    part: Option<Part>,
    operations: Operations<OpKind>,
    actions: VecDeque<ReceiverAction<E>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpKind {
    LookUp,
    Count,
    OpenPart,
    Read,
    Truncate,
    Write,
    Sync { covers: u64 },
    SyncName,
    Publish,
    RemovePart,
}

/// The file that is held against the sender's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A whole file under the final name.
    Final,
    Part,
}

#[derive(Debug)]
enum State {
    LookingUp,
    Reserving(Attempt),
    Counting,
    OpeningPart(RoomState),
    Holding(Box<Holding>),
    Truncating,
    Moving(Box<Moving>),
    SyncingName { hash: Hash },
    Publishing { hash: Hash },
    CleaningUp(Cleanup),
    Over,
}

/// An attempt to reserve room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    First,
    /// The directory has been counted anew.
    Counted,
    /// There is none for all of the file: the part, which has been opened, holds some of it.
    Rest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoomState {
    Reserved,
    /// With what the part holds the rest may fit.
    Missing,
}

/// The bytes that are there are read and hashed.
#[derive(Debug)]
struct Holding {
    source: Source,
    bytes: u64,
    hashed: u64,
    /// The offset of the next read.
    read_to: u64,
    reads: ReadAhead,
    hasher: Hasher,
}

/// The transfer is accepted: chunks come and are written.
#[derive(Debug)]
struct Moving {
    source: Source,
    hasher: Hasher,
    credit: Credit,
    /// The hash that the sender said, and that was found right.
    verified: Option<Hash>,
    accepted_at: Duration,
}

/// The work that is left when a transfer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cleanup {
    /// The received bytes are written, for the next attempt.
    Keep,
    /// The part goes.
    Remove,
    Nothing,
}

impl<E> FileReceiver<E> {
    /// Begins to receive a file that was offered.
    ///
    /// # Panics
    ///
    /// If the window has no bytes.
    pub fn new(config: ReceiverConfig) -> Self {
        assert!(config.window_bytes > 0, "a window has bytes");
        let mut receiver = Self {
            config,
            state: State::LookingUp,
            part: None,
            operations: Operations::default(),
            actions: VecDeque::new(),
        };
        receiver.submit(OpKind::LookUp, ReceiverOp::LookUp);
        receiver
    }

    /// Returns the next action. Call it after every input until there is none.
    pub fn poll(&mut self, now: Duration) -> Option<ReceiverAction<E>> {
        if self.actions.is_empty() {
            self.advance(now);
        }
        self.actions.pop_front()
    }

    // ---- inputs ----

    /// Takes the result of an operation.
    pub fn on_disk(&mut self, number: OpNumber, result: Result<DiskOutcome, DiskError<E>>) {
        let kind = self.operations.end(number);
        if matches!(self.state, State::CleaningUp(_) | State::Over) {
            return self.on_late(kind, result);
        }
        match result {
            Ok(outcome) => self.on_success(number, kind, outcome),
            Err(error) => self.on_failure(kind, error),
        }
    }

    /// Takes the answer to [`Room::Reserve`].
    pub fn on_room(&mut self, is_reserved: bool) {
        let State::Reserving(attempt) = self.state else { return };
        match (attempt, is_reserved) {
            (Attempt::First, false) => {
                self.state = State::Counting;
                self.submit(OpKind::Count, ReceiverOp::Count);
            }
            (Attempt::First | Attempt::Counted, _) => {
                let room = if is_reserved { RoomState::Reserved } else { RoomState::Missing };
                self.state = State::OpeningPart(room);
                self.submit(OpKind::OpenPart, ReceiverOp::OpenPart);
            }
            (Attempt::Rest, true) => self.hold_part(),
            (Attempt::Rest, false) => self.fail(TransferFailure::NoRoom),
        }
    }

    /// Takes memory that was asked for, empty.
    pub fn grant(&mut self, memory: Vec<u8>) {
        if let State::Holding(holding) = &mut self.state {
            let operations = &mut self.operations;
            let granted = holding.reads.grant(|| operations.begin(OpKind::Read));
            if let Some((number, read)) = granted {
                let op = ReceiverOp::Read { offset: read.offset, bytes: read.bytes, memory };
                return self.actions.push_back(ReceiverAction::Disk { number, op });
            }
        }
        self.actions.push_back(ReceiverAction::Free(memory));
    }

    /// Takes a chunk of the sender. If it is right, the caller queues its bytes for a write;
    /// otherwise the transfer ends, unless the file is just getting its name.
    pub fn on_chunk(&mut self, bytes: &[u8]) -> Result<(), TransferViolation> {
        let result = self.take_chunk(bytes);
        if let Err(violation) = result {
            self.on_violation(violation);
        }
        result
    }

    /// Ends the transfer of a peer that broke its rules. Once the file gets its name, the disk
    /// decides how the transfer ends.
    fn on_violation(&mut self, violation: TransferViolation) {
        if !matches!(self.state, State::Publishing { .. }) {
            self.fail(TransferFailure::Violation(violation));
        }
    }

    fn take_chunk(&mut self, bytes: &[u8]) -> Result<(), TransferViolation> {
        let early = TransferViolation::OutOfTurn { kind: kind::CHUNK };
        let State::Moving(moving) = &mut self.state else { return Err(early) };
        if moving.verified.is_some() {
            return Err(early);
        }
        moving.credit.take(bytes.len())?;
        let part = self.part.as_mut().ok_or(early)?;
        moving.hasher.update(bytes);
        part.queue(bytes.len());
        Ok(())
    }

    /// Takes the sender's word that this is all. The transfer ends if it is not so.
    pub fn on_done(&mut self, hash: [u8; 32]) {
        let early = TransferViolation::OutOfTurn { kind: kind::DONE };
        let State::Moving(moving) = &mut self.state else {
            return self.on_violation(early);
        };
        let whole = moving.hasher.finalize();
        if moving.verified.is_some() {
            self.on_violation(early);
        } else if let Err(violation) = moving.credit.check_whole() {
            self.on_violation(violation);
        } else if whole == Hash::from(hash) {
            moving.verified = Some(whole);
        } else {
            let cleanup = if self.part.is_some() { Cleanup::Remove } else { Cleanup::Nothing };
            self.finish(Err(TransferFailure::HashDiffers), Tell::Peer, cleanup);
        }
    }

    /// Takes a repeated offer: what is held is not the beginning of the sender's file.
    ///
    /// # Errors
    ///
    /// If nothing is held, or a chunk has come: then the peer broke the rules of the connection.
    pub fn offered_again(&mut self) -> Result<(), TransferViolation> {
        let early = TransferViolation::OutOfTurn { kind: kind::OFFER };
        let State::Moving(moving) = &self.state else { return Err(early) };
        match (moving.source, &self.part) {
            (Source::Final, _) => self.fail(TransferFailure::Exists { bytes: None }),
            (Source::Part, Some(part)) if part.held > 0 && part.is_untouched() => self.truncate(),
            (Source::Part, _) => return Err(early),
        }
        Ok(())
    }

    /// Ends the transfer for a reason of the caller's.
    pub fn end(&mut self, error: E, cause: EndCause) {
        if self.is_finishing() && self.outlasts(cause) {
            return;
        }
        let (tell, cleanup) = match cause {
            EndCause::Local => (Tell::Peer, self.cleanup_on_failure()),
            EndCause::Peer | EndCause::Connection => (Tell::Nobody, self.cleanup_on_failure()),
            // Of that size and time there is no such file any more: nothing could go on with it.
            EndCause::PeerFileChanged if self.part.is_some() => (Tell::Nobody, Cleanup::Remove),
            EndCause::PeerFileChanged => (Tell::Nobody, Cleanup::Nothing),
        };
        self.finish(Err(TransferFailure::Given(error)), tell, cleanup);
    }

    /// Whether the file is as good as there: then the disk decides how the transfer ends.
    fn outlasts(&self, cause: EndCause) -> bool {
        cause == EndCause::Connection || matches!(self.state, State::Publishing { .. })
    }

    // ---- queries ----

    /// Returns the number of the transfer.
    pub fn id(&self) -> u32 {
        self.config.id
    }

    /// Whether the file has arrived and been verified: nothing keeps it from its final name but the
    /// disk.
    pub fn is_finishing(&self) -> bool {
        match &self.state {
            State::Moving(moving) => moving.verified.is_some(),
            State::SyncingName { .. } | State::Publishing { .. } => true,
            _ => false,
        }
    }

    /// Whether the end has been told, and nothing is left but work for the disk.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::CleaningUp(_) | State::Over)
    }

    /// Returns the time at which the transfer expires, if it is the sender's turn.
    pub fn expires_at(&self, last_activity: Duration, idle_timeout: Duration) -> Option<Duration> {
        let State::Moving(moving) = &self.state else { return None };
        let written = self.part.as_ref().is_none_or(Part::is_written);
        let comparing = Duration::from_secs(self.held() / MIN_COMPARE_BYTES_PER_SECOND);
        let since = last_activity.max(moving.accepted_at + comparing);
        (written && moving.verified.is_none()).then_some(since + idle_timeout)
    }

    /// Returns the numbers of the operations in flight.
    pub fn operations(&self) -> impl Iterator<Item = OpNumber> + '_ {
        self.operations.numbers()
    }

    fn held(&self) -> u64 {
        self.part.as_ref().map_or(self.config.size, |part| part.held)
    }
}

/// A reason of the caller's to end a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// This side ends it; the peer is told.
    Local,
    /// The peer has ended it.
    Peer,
    /// The peer has ended it, because its file is another than it was.
    PeerFileChanged,
    /// The connection ends. A file that has been verified still gets its name.
    Connection,
}

impl Holding {
    fn boxed(source: Source, bytes: u64) -> Box<Self> {
        let (reads, hasher) = (ReadAhead::default(), Hasher::new());
        Box::new(Self { source, bytes, hashed: 0, read_to: 0, reads, hasher })
    }

    fn is_hashed(&self) -> bool {
        self.hashed == self.bytes
    }

    /// Adds the reads that may run ahead; returns their sizes.
    fn read_on(&mut self) -> impl Iterator<Item = usize> + use<> {
        let mut asked = [0; MAX_READS];
        let mut count = 0;
        while self.reads.len() < MAX_READS && self.read_to < self.bytes {
            let left = self.bytes - self.read_to;
            let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(COMPARE_BYTES);
            self.reads.ask(self.read_to, bytes);
            self.read_to += bytes as u64;
            asked[count] = bytes;
            count += 1;
        }
        asked.into_iter().take(count)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LookingUp => "looking for it",
            Self::Reserving(_) | Self::Counting => "reserving room",
            Self::OpeningPart(_) => "opening its part",
            Self::Holding(_) => "reading what is there",
            Self::Truncating => "cutting its part",
            Self::Moving(_) => "writing",
            Self::SyncingName { .. } => "syncing its name",
            Self::Publishing { .. } => "publishing",
            Self::CleaningUp(_) | Self::Over => "cleaning up",
        })
    }
}

/// Writes what the receiver is doing.
impl<E> fmt::Display for FileReceiver<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}
