//! The receiving side of a transfer. It looks for the file and for its part, hashes the bytes that
//! it finds for the sender to compare, takes chunks, writes, verifies, publishes and cleans up.
//!
//! ```text
//! LookingUp ── found ──> Holding ──> Moving ──> SyncingName ───────────┐
//!     └─ not found ──> Reserving ──> OpeningPart ──> Holding           ├──> CleaningUp ──> Over
//!                        └ Counting     ├> Truncating └> Moving ──> Publishing ─┘
//!                                       └> MakingRoom
//! ```
//!
//! If the quota has no room for the file, the directory is counted again, and then the parts that
//! no transfer holds give way, the oldest first. The part of this file does not: it is open by
//! then.
//!
//! A directory is looked up and, if it does not exist, made: LookingUp ──> Reserving ──>
//! MakingDirectory ──> Over.
//!
//! A part holds a beginning of the file at every moment: the receiver writes it in order, one write
//! at a time. The part gets its final name after the last write has ended.

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
use super::operations::{DiskError, DiskOutcome, FilePlace, OpNumber, Operations};
use super::prefix_hasher::PrefixHasher;
use super::{
    DeliveryId, EntryKind, MIN_COMPARE_BYTES_PER_SECOND, TransferFrame, TransferViolation,
};
use crate::kind;

pub use actions::{ReceiverAction, ReceiverEvent, ReceiverOp, Room};
use part::{Credit, Part};

/// The maximum size of a write in bytes. A write joins chunks up to this size.
const MAX_WRITE_BYTES: usize = 1024 * 1024;

/// The file that is received, and the limits of its transfer.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverConfig {
    /// The number of the transfer.
    pub id: u32,
    /// Whether a file or a directory is offered.
    pub kind: EntryKind,
    /// The size of the file in bytes.
    pub size: u64,
    /// The delivery id of the offer, which done returns to the sender.
    pub delivery_id: Option<DeliveryId>,
    /// The maximum number of bytes that are in flight or not yet written, at least 1.
    pub window_bytes: u64,
    /// The number of bytes written since the last sync after which the next sync starts, at
    /// least 1.
    pub sync_bytes: u64,
}

/// The receiving side of a transfer. The caller passes events in, and performs the
/// [actions](Self::poll) that follow.
#[derive(Debug)]
pub struct FileReceiver<E> {
    config: ReceiverConfig,
    state: State,
    /// The part, once it has been opened.
    part: Option<Part>,
    place: FilePlace,
    operations: Operations<OpKind>,
    actions: VecDeque<ReceiverAction<E>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpKind {
    LookUp,
    LookUpDirectory,
    MakeDirectory,
    Count,
    MakeRoom,
    OpenPart,
    /// A read, and the size of its memory.
    Read {
        bytes: usize,
    },
    Truncate,
    Write,
    Sync {
        covers: u64,
    },
    SyncName,
    Publish,
    RemovePart,
}

/// The file whose bytes the sender compares with its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A whole file under the final name.
    Final,
    Part,
}

#[derive(Debug)]
enum State {
    LookingUp,
    MakingDirectory,
    Reserving(Attempt),
    Counting,
    OpeningPart(RoomState),
    MakingRoom,
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
    /// The whole file has no room; the opened part holds some of it, so less is needed.
    Rest,
    /// Other parts have given way, and the opened part is counted.
    RoomMade,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoomState {
    /// The quota has room for the whole file, which is reserved.
    Reserved,
    /// The quota has no room for the whole file. The part may hold enough that there is room for
    /// the rest, so the receiver opens the part before it decides.
    Missing,
}

/// The state in which the receiver reads and hashes the bytes that it holds.
#[derive(Debug)]
struct Holding {
    source: Source,
    held: PrefixHasher,
    /// The credit with which the receiver accepts, once it has requested memory for it.
    credit: Option<Credit>,
}

/// The state after the accept, in which the receiver takes and writes chunks.
#[derive(Debug)]
struct Moving {
    source: Source,
    hasher: Hasher,
    credit: Credit,
    /// The hash of the sender, once the receiver has verified it.
    verified: Option<Hash>,
    accepted_at: Duration,
}

/// The work that is left when a transfer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cleanup {
    /// The receiver writes the received bytes, so that the next attempt can resume.
    Keep,
    /// The receiver removes the part.
    Remove,
    Nothing,
}

impl<E> FileReceiver<E> {
    /// Starts to receive an offered file, or to make an offered directory.
    ///
    /// # Panics
    ///
    /// Panics if `window_bytes` or `sync_bytes` is 0.
    pub fn new(config: ReceiverConfig) -> Self {
        assert!(config.window_bytes > 0, "a window of 0 bytes");
        assert!(config.sync_bytes > 0, "a sync after every 0 bytes");
        let mut receiver = Self {
            config,
            state: State::LookingUp,
            part: None,
            place: FilePlace::None,
            operations: Operations::default(),
            actions: VecDeque::new(),
        };
        match config.kind {
            EntryKind::File => {
                receiver.place = FilePlace::Requested;
                receiver.actions.push_back(ReceiverAction::NeedFile);
            }
            EntryKind::Directory => {
                receiver.submit(OpKind::LookUpDirectory, ReceiverOp::LookUpDirectory);
            }
        }
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

    /// Takes the place of an open file that a [`NeedFile`](ReceiverAction::NeedFile) requested.
    /// Does nothing if the receiver does not need it any more.
    pub fn grant_file(&mut self) {
        if self.place == FilePlace::Requested && matches!(self.state, State::LookingUp) {
            self.place = FilePlace::Held;
            self.submit(OpKind::LookUp, ReceiverOp::LookUp);
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
            (Attempt::First | Attempt::Counted, _) if self.config.kind == EntryKind::Directory => {
                self.make_directory(is_reserved);
            }
            (Attempt::First | Attempt::Counted, _) => {
                let room = if is_reserved { RoomState::Reserved } else { RoomState::Missing };
                self.state = State::OpeningPart(room);
                self.submit(OpKind::OpenPart, ReceiverOp::OpenPart);
            }
            (Attempt::Rest | Attempt::RoomMade, true) => self.hold_part(),
            (Attempt::Rest, false) => self.make_room(),
            (Attempt::RoomMade, false) => self.fail(TransferFailure::NoRoom),
        }
    }

    fn make_directory(&mut self, is_reserved: bool) {
        if is_reserved {
            self.state = State::MakingDirectory;
            self.submit(OpKind::MakeDirectory, ReceiverOp::MakeDirectory);
        } else {
            self.fail(TransferFailure::NoRoom);
        }
    }

    /// Takes the empty memory that a [`Need`](ReceiverAction::Need) requested.
    pub fn grant(&mut self, memory: Vec<u8>) {
        if let State::Holding(holding) = &mut self.state {
            let operations = &mut self.operations;
            let granted = holding.held.grant(|bytes| operations.begin(OpKind::Read { bytes }));
            if let Some((number, read)) = granted {
                let op = ReceiverOp::Read { offset: read.offset, bytes: read.bytes, memory };
                return self.actions.push_back(ReceiverAction::Disk { number, op });
            }
        }
        self.actions.push_back(ReceiverAction::Free(memory));
    }

    /// Grants the memory that a [`Window`](ReceiverAction::Window) requested. Does nothing if the
    /// receiver does not need it any more.
    pub fn extend(&mut self) {
        match &mut self.state {
            State::Holding(holding) => {
                holding.credit.as_mut().and_then(Credit::grant);
            }
            State::Moving(moving) => {
                if let Some(limit) = moving.credit.grant() {
                    let credit = TransferFrame::Credit { id: self.config.id, limit };
                    self.actions.push_back(ReceiverAction::Frame(credit));
                }
            }
            _ => {}
        }
    }

    /// Takes a chunk of the sender. If it succeeds, the caller queues the bytes for a write.
    ///
    /// # Errors
    ///
    /// Fails if the chunk breaks the rules of the transfer. This ends the transfer, unless the file
    /// is being published.
    pub fn on_chunk(&mut self, bytes: &[u8]) -> Result<(), TransferViolation> {
        let result = self.take_chunk(bytes);
        if let Err(violation) = result {
            self.on_violation(violation);
        }
        result
    }

    /// Ends the transfer because the peer broke its rules. While the file is being published, this
    /// has no effect: then the disk decides how the transfer ends.
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

    /// Handles the done of the sender. Fails the transfer if bytes are missing or the hash differs.
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

    /// Handles a repeated offer: the bytes that the receiver holds are not the beginning of the
    /// file of the sender.
    ///
    /// # Errors
    ///
    /// Fails if the receiver holds no bytes, or a chunk has arrived: the peer broke the rules of
    /// the connection.
    pub fn offered_again(&mut self) -> Result<(), TransferViolation> {
        let early = TransferViolation::OutOfTurn { kind: kind::OFFER };
        let State::Moving(moving) = &self.state else { return Err(early) };
        match (moving.source, &self.part) {
            (Source::Final, _) if self.config.size > 0 => {
                self.fail(TransferFailure::Exists { bytes: None });
            }
            (Source::Part, Some(part)) if part.held > 0 && part.is_untouched() => self.truncate(),
            (Source::Final | Source::Part, _) => return Err(early),
        }
        Ok(())
    }

    /// Ends the transfer with an error of the caller.
    pub fn end(&mut self, error: E, cause: EndCause) {
        if self.is_finishing() && self.outlasts(cause) {
            return;
        }
        let (tell, cleanup) = match cause {
            EndCause::Local => (Tell::Peer, self.cleanup_on_failure()),
            EndCause::Peer | EndCause::Connection => (Tell::Nobody, self.cleanup_on_failure()),
            // The sender has no file of that size and time any more: no attempt could resume it.
            EndCause::PeerFileChanged if self.part.is_some() => (Tell::Nobody, Cleanup::Remove),
            EndCause::PeerFileChanged => (Tell::Nobody, Cleanup::Nothing),
        };
        self.finish(Err(TransferFailure::Given(error)), tell, cleanup);
    }

    /// Returns whether a verified file gets its name in spite of this end: then the disk decides
    /// how the transfer ends.
    fn outlasts(&self, cause: EndCause) -> bool {
        cause == EndCause::Connection || matches!(self.state, State::Publishing { .. })
    }

    // ---- queries ----

    /// Returns the number of the transfer.
    pub fn id(&self) -> u32 {
        self.config.id
    }

    /// Returns whether the whole file has arrived and been verified. Only the disk can still keep
    /// it from its final name.
    pub fn is_finishing(&self) -> bool {
        match &self.state {
            State::Moving(moving) => moving.verified.is_some(),
            State::SyncingName { .. } | State::Publishing { .. } => true,
            _ => false,
        }
    }

    /// Returns whether the program has been told of the end. Only operations on the disk may be
    /// left.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::CleaningUp(_) | State::Over)
    }

    /// Returns the time at which the transfer expires, or `None` if the receiver does not wait for
    /// the sender.
    pub fn expires_at(&self, last_activity: Duration, idle_timeout: Duration) -> Option<Duration> {
        let State::Moving(moving) = &self.state else { return None };
        let written = self.part.as_ref().is_none_or(Part::is_written);
        let comparing = Duration::from_secs(self.held() / MIN_COMPARE_BYTES_PER_SECOND);
        let since = last_activity.max(moving.accepted_at + comparing);
        (written && moving.verified.is_none()).then_some(since + idle_timeout)
    }

    /// Returns whether the next step is the sender's: chunks within its credit, or done. A receiver
    /// without credit for further bytes, or with a write in flight, returns false.
    pub fn awaits_sender(&self) -> bool {
        let State::Moving(moving) = &self.state else { return false };
        let written = self.part.as_ref().map_or(self.config.size, |part| part.written);
        let may_send = moving.credit.limit() > written || written == self.config.size;
        let is_written = self.part.as_ref().is_none_or(Part::is_written);
        is_written && may_send && moving.verified.is_none()
    }

    /// Returns the frame that shows the sender that this side is alive: credit while chunks may
    /// come, otherwise working. `None` if the transfer has ended.
    pub fn sign_of_life(&self) -> Option<TransferFrame<'static>> {
        let id = self.config.id;
        match &self.state {
            State::CleaningUp(_) | State::Over => None,
            State::Moving(moving) if moving.verified.is_none() => {
                Some(TransferFrame::Credit { id, limit: moving.credit.limit() })
            }
            _ => Some(TransferFrame::Working { id }),
        }
    }

    /// Returns the number of open files that the receiver has or may open: 0 or 1.
    pub fn open_files(&self) -> u64 {
        u64::from(self.place == FilePlace::Held)
    }

    /// Returns the number of bytes of memory that reads hold for the comparison.
    pub fn read_bytes(&self) -> u64 {
        match &self.state {
            State::Holding(holding) => holding.held.held_bytes(),
            _ => self.operations.sum_bytes(|kind| match kind {
                OpKind::Read { bytes } => bytes,
                _ => 0,
            }),
        }
    }

    /// Returns the number of bytes that may still arrive, or have arrived and are not written.
    pub fn window_bytes(&self) -> u64 {
        let queued = self.part.as_ref().map_or(0, |part| part.queued);
        match &self.state {
            State::Holding(holding) => {
                holding.credit.as_ref().map_or(0, |credit| credit.promised(holding.held.bytes()))
            }
            State::Moving(moving) => {
                let written = self.part.as_ref().map_or(self.config.size, |part| part.written);
                moving.credit.promised(written).max(queued)
            }
            _ => queued,
        }
    }

    /// Returns the numbers of the operations in flight.
    pub fn operations(&self) -> impl Iterator<Item = OpNumber> + '_ {
        self.operations.numbers()
    }

    fn held(&self) -> u64 {
        self.part.as_ref().map_or(self.config.size, |part| part.held)
    }
}

/// A reason of the caller to end a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// This side ends it; the peer is told.
    Local,
    /// The peer has ended it.
    Peer,
    /// The peer has ended it, because its file has changed.
    PeerFileChanged,
    /// The connection ends. A file that has been verified still gets its name.
    Connection,
}

impl Holding {
    fn boxed(source: Source, bytes: u64) -> Box<Self> {
        Box::new(Self { source, held: PrefixHasher::new(bytes), credit: None })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LookingUp => "looking up its name",
            Self::MakingDirectory => "making the directory",
            Self::Reserving(_) | Self::Counting => "reserving space",
            Self::OpeningPart(_) => "opening its part file",
            Self::MakingRoom => "removing other parts",
            Self::Holding(_) => "hashing the bytes that exist",
            Self::Truncating => "truncating its part file",
            Self::Moving(_) => "writing",
            Self::SyncingName { .. } => "syncing its name",
            Self::Publishing { .. } => "linking it to its name",
            Self::CleaningUp(_) | Self::Over => "cleaning up",
        })
    }
}

/// Writes the current step of the receiver.
impl<E> fmt::Display for FileReceiver<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}
