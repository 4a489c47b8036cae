//! The sending side of a transfer. It opens the file, offers it, opens it again once the receiver
//! has accepted, compares the bytes that the receiver holds, reads and sends chunks within the
//! credit of the receiver, checks that size and time of the file are unchanged, and sends done.
//!
//! ```text
//! Opening ──> Offered ──> Reopening ──> Comparing ──> Sending ──> Checking ──> DoneSaid ──> Over
//!                ^──────────────────────────┘ once, if the bytes that the receiver holds differ
//! ```
//!
//! While the sender waits for an accept, or for the receiver's done, it has no file open: peers
//! that never answer cost no descriptors. If it waits long for credit, the caller makes it
//! [close](FileSender::close_idle) the file, and it opens the file again once there is credit.
//! Otherwise receivers whose memory waits for other files could wait for a place of this one.
//!
//! Reads run ahead of the sent chunks, by at most two chunks and never beyond the credit. Chunks
//! leave in order. The reads for the comparison do not depend on the size of a chunk: otherwise a
//! peer that accepts only small frames could make them arbitrarily small.

mod actions;
mod reading;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use blake3::{Hash, Hasher};

use super::failure::{Tell, TransferFailure};
use super::operations::{
    DiskError, DiskFailure, DiskOutcome, FileFacts, FilePlace, OpNumber, Operations,
};
use super::prefix_hasher::{FileEnded, PrefixAction, PrefixHasher};
use super::read_ahead::{Content, Piece, Taken};
use super::{MIN_COMPARE_BYTES_PER_SECOND, TransferViolation};
use crate::kind;

pub use actions::{Chunk, SenderAction, SenderEvent, SenderFrame, SenderOp};
pub use reading::ChunkSizes;
use reading::{Comparing, LastChunk, Sending};

/// The maximum number of chunks that are being read, or wait until they can be sent.
const MAX_READS: usize = 2;

/// The sending side of a transfer. The caller passes events in, performs the
/// [actions](Self::poll) that follow, and [takes](Self::take_chunk) chunks when it can send them.
#[derive(Debug)]
pub struct FileSender<E> {
    max_chunk_bytes: usize,
    state: State,
    /// The file as it was when it was opened.
    file: Option<OpenedFile>,
    place: FilePlace,
    attempt: Attempt,
    operations: Operations<OpKind>,
    actions: VecDeque<SenderAction<E>>,
}

#[derive(Clone, Copy, Debug)]
struct OpenedFile {
    facts: FileFacts,
    /// The hash of the file, if it was sent in this state before.
    known: Option<Hash>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpKind {
    Open,
    Reopen,
    /// A read, and the size of its memory.
    Read {
        bytes: usize,
    },
    Metadata,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    First,
    /// The bytes that the receiver held were not the beginning of the file.
    Second,
}

#[derive(Debug)]
enum State {
    Opening,
    Offered {
        since: Option<Duration>,
    },
    Reopening(Accepted),
    Comparing(Box<Comparing>),
    Sending(Box<Sending>),
    Checking {
        hash: Hash,
    },
    DoneSaid {
        hash: Hash,
        since: Option<Duration>,
    },
    /// The program has been told of the end; operations may be in flight.
    Over,
    Released,
}

/// The accept of the receiver.
#[derive(Clone, Copy, Debug)]
struct Accepted {
    /// The number of bytes that the receiver holds.
    offset: u64,
    /// The offset up to which the sender may send.
    limit: u64,
    /// The hash of the bytes that the receiver holds.
    prefix: Hash,
}

impl<E> FileSender<E> {
    /// Starts to send a file in chunks of at most `max_chunk_bytes`, the largest that the peer
    /// accepts.
    ///
    /// # Panics
    ///
    /// Panics if `max_chunk_bytes` is 0.
    pub fn new(max_chunk_bytes: usize) -> Self {
        assert!(max_chunk_bytes > 0, "a maximum chunk of 0 bytes");
        let mut sender = Self {
            max_chunk_bytes,
            state: State::Opening,
            file: None,
            place: FilePlace::None,
            attempt: Attempt::First,
            operations: Operations::default(),
            actions: VecDeque::new(),
        };
        sender.need_file();
        sender
    }

    /// Returns the next action. Call it after every input until there is none.
    pub fn poll(&mut self, now: Duration, sizes: &mut ChunkSizes<'_>) -> Option<SenderAction<E>> {
        if self.actions.is_empty() {
            self.advance(now, sizes);
        }
        self.actions.pop_front()
    }

    // ---- inputs ----

    /// Takes the result of an operation.
    pub fn on_disk(&mut self, number: OpNumber, result: Result<DiskOutcome, DiskError<E>>) {
        let kind = self.operations.end(number);
        if self.is_ended() {
            if let Ok(DiskOutcome::Read(memory)) = result {
                self.actions.push_back(SenderAction::Free(memory));
            }
            return;
        }
        match (kind, result) {
            (OpKind::Open, Ok(DiskOutcome::Opened { facts, known })) => {
                self.file = Some(OpenedFile { facts, known: known.map(Hash::from) });
                self.offer();
            }
            (OpKind::Reopen, Ok(DiskOutcome::Reopened { facts, same_file, known })) => {
                self.on_reopened(OpenedFile { facts, known: known.map(Hash::from) }, same_file);
            }
            (OpKind::Reopen, Err(DiskError { failure: DiskFailure::NotFound, .. })) => {
                self.fail(TransferFailure::Changed("it disappeared after it was offered"));
            }
            (OpKind::Read { .. }, Ok(DiskOutcome::Read(memory))) => self.on_read(number, memory),
            (OpKind::Metadata, Ok(DiskOutcome::Metadata(facts))) => self.on_checked(facts),
            (_, Err(error)) => self.fail(TransferFailure::Given(error.error)),
            (kind, Ok(outcome)) => unreachable!("{kind:?} was answered {outcome:?}"),
        }
    }

    /// Takes the place of an open file that a [`NeedFile`](SenderAction::NeedFile) requested. Does
    /// nothing if the sender does not need it any more.
    pub fn grant_file(&mut self) {
        if self.place != FilePlace::Requested {
            return;
        }
        match self.state {
            State::Opening => self.submit(OpKind::Open, SenderOp::Open),
            State::Reopening(_) | State::Sending(_) => {
                self.submit(OpKind::Reopen, SenderOp::Reopen);
            }
            _ => return,
        }
        self.place = FilePlace::Held;
    }

    /// Closes the file if it is [idle](Self::idle_since).
    pub fn close_idle(&mut self) {
        if self.idle_since().is_some() {
            self.close();
        }
    }

    /// Takes the empty memory that a [`Need`](SenderAction::Need) requested.
    pub fn grant(&mut self, memory: Vec<u8>) {
        let operations = &mut self.operations;
        let begin = |bytes| operations.begin(OpKind::Read { bytes });
        let granted = match &mut self.state {
            State::Comparing(comparing) => comparing.own.grant(begin),
            State::Sending(sending) => sending.reads.grant(begin),
            _ => None,
        };
        self.actions.push_back(match granted {
            Some((number, read)) => {
                let op = SenderOp::Read { offset: read.offset, bytes: read.bytes, memory };
                SenderAction::Disk { number, op }
            }
            None => SenderAction::Free(memory),
        });
    }

    /// Handles the accept of the receiver: it wants the bytes from `offset` on, allows them up to
    /// `limit`, and holds the bytes before `offset`, whose hash is `prefix`.
    pub fn on_accept(&mut self, offset: u64, limit: u64, prefix: [u8; 32]) {
        if let Err(violation) = self.accept(offset, limit, Hash::from(prefix)) {
            self.fail(TransferFailure::Violation(violation));
        }
    }

    fn accept(&mut self, offset: u64, limit: u64, prefix: Hash) -> Result<(), TransferViolation> {
        let (State::Offered { .. }, Some(file)) = (&self.state, self.file) else {
            return Err(TransferViolation::AcceptedTwice);
        };
        let size = file.facts.bytes;
        if offset > size {
            return Err(TransferViolation::OffsetBeyondSize { offset, size });
        }
        if limit < offset {
            return Err(TransferViolation::LimitBelowOffset { limit, offset });
        }
        if offset == 0 && Hasher::new().finalize() != prefix {
            return Err(TransferViolation::PrefixOfNothing);
        }
        self.notify(SenderEvent::ResumedFrom(offset));
        self.state = State::Reopening(Accepted { offset, limit: limit.min(size), prefix });
        self.need_file();
        Ok(())
    }

    /// Handles credit: the receiver allows the bytes up to `limit`. A lower limit than before has
    /// no effect, and neither does credit that crosses a repeated offer.
    pub fn on_credit(&mut self, limit: u64) {
        let size = self.size();
        match &mut self.state {
            State::Reopening(accepted) => accepted.limit = accepted.limit.max(limit.min(size)),
            State::Comparing(comparing) => comparing.limit = comparing.limit.max(limit.min(size)),
            State::Sending(sending) => sending.limit = sending.limit.max(limit.min(size)),
            State::Offered { .. } if self.attempt == Attempt::Second => {}
            State::Opening | State::Offered { .. } => {
                let early = TransferViolation::OutOfTurn { kind: kind::CREDIT };
                self.fail(TransferFailure::Violation(early));
            }
            State::Checking { .. } | State::DoneSaid { .. } | State::Over | State::Released => {}
        }
    }

    /// Handles the done of the receiver: it has the whole file under its name.
    pub fn on_done(&mut self, confirmed: [u8; 32]) {
        let State::DoneSaid { hash, .. } = self.state else {
            let early = TransferViolation::OutOfTurn { kind: kind::DONE };
            return self.fail(TransferFailure::Violation(early));
        };
        if hash == Hash::from(confirmed) {
            self.finish(Ok(confirmed), Tell::Nobody);
        } else {
            self.fail(TransferFailure::Violation(TransferViolation::OtherHash));
        }
    }

    /// Takes the next chunk, which the caller must send now.
    pub fn take_chunk(&mut self) -> Option<Chunk> {
        let is_known = self.is_known();
        let State::Sending(sending) = &mut self.state else { return None };
        let actions = &mut self.actions;
        match sending.reads.take(|_| actions.push_back(SenderAction::NeedRest)) {
            Taken::Piece(Piece { offset, content }) => {
                assert_eq!(offset, sending.sent, "chunks are sent in order");
                let chunk = match content {
                    Content::Memory(memory) => Chunk::Memory(memory),
                    Content::Unread(bytes) => Chunk::Unread { offset, bytes },
                };
                sending.sent += chunk.len() as u64;
                sending.last_chunk = match &chunk {
                    Chunk::Unread { .. } => LastChunk::Unread,
                    Chunk::Memory(_) => LastChunk::Read,
                };
                if let (Chunk::Memory(memory), false) = (&chunk, is_known) {
                    sending.hasher.update(memory);
                }
                Some(chunk)
            }
            Taken::End(memory) => {
                actions.push_back(SenderAction::Free(memory));
                self.fail(TransferFailure::Changed("it became shorter"));
                None
            }
            Taken::Nothing => None,
        }
    }

    /// Records that the last taken chunk has left.
    pub fn chunk_left(&mut self) {
        if let State::Sending(sending) = &mut self.state {
            sending.last_chunk = LastChunk::Read;
        }
    }

    /// Fails the transfer because the file ended within the last taken chunk: zeros have left in
    /// place of the rest.
    pub fn chunk_cut(&mut self) {
        self.fail(TransferFailure::Changed("it became shorter"));
    }

    /// Ends the transfer with an error of the caller.
    pub fn end(&mut self, error: E, tell: Tell) {
        self.finish(Err(TransferFailure::Given(error)), tell);
    }

    // ---- queries ----

    /// Returns whether [`take_chunk`](Self::take_chunk) has a chunk to take.
    pub fn has_chunk(&self) -> bool {
        matches!(&self.state, State::Sending(sending) if sending.reads.is_next_read())
    }

    /// Returns the number of bytes of memory that reads hold, at most.
    pub fn read_bytes(&self) -> u64 {
        match &self.state {
            State::Comparing(comparing) => comparing.own.held_bytes(),
            State::Sending(sending) => sending.reads.held_bytes(),
            _ => self.operations.sum_bytes(|kind| match kind {
                OpKind::Read { bytes } => bytes,
                OpKind::Open | OpKind::Reopen | OpKind::Metadata => 0,
            }),
        }
    }

    /// Returns the number of open files that the sender has or may open: 0 or 1.
    pub fn open_files(&self) -> u64 {
        u64::from(self.place == FilePlace::Held)
    }

    /// Returns the time since which the file has been open without use, because the sender waits
    /// for credit; `None` if it is used, or is closed.
    pub fn idle_since(&self) -> Option<Duration> {
        let State::Sending(sending) = &self.state else { return None };
        let is_idle = self.place == FilePlace::Held
            && self.operations.is_empty()
            && sending.last_chunk == LastChunk::Read;
        sending.waiting_since.filter(|_| is_idle)
    }

    /// Returns the position up to which the file has been sent.
    pub fn sent(&self) -> u64 {
        match &self.state {
            State::Sending(sending) => sending.sent,
            State::Checking { .. } | State::DoneSaid { .. } => self.size(),
            _ => 0,
        }
    }

    /// Returns whether the program has been told of the end. Only operations on the disk may be
    /// left.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Over | State::Released)
    }

    /// Returns whether the receiver has accepted and the sender is comparing or sending bytes.
    pub fn is_sending(&self) -> bool {
        matches!(self.state, State::Comparing(_) | State::Sending(_))
    }

    /// Returns whether the receiver waits for this side.
    pub fn is_awaited(&self) -> bool {
        match &self.state {
            State::Opening | State::Reopening(_) | State::Comparing(_) | State::Checking { .. } => {
                true
            }
            State::Sending(sending) => sending.waiting_since.is_none(),
            State::Offered { .. } | State::DoneSaid { .. } | State::Over | State::Released => false,
        }
    }

    /// Returns the time at which the transfer expires, or `None` if the sender does not wait for
    /// the receiver. The time allows the receiver to compare the bytes that it holds, or to wait
    /// for its disk.
    pub fn expires_at(&self, last_activity: Duration, idle_timeout: Duration) -> Option<Duration> {
        let since = match &self.state {
            State::Offered { since } | State::DoneSaid { since, .. } => (*since)?,
            State::Sending(sending) => sending.waiting_since?,
            _ => return None,
        };
        let its_disk = Duration::from_secs(self.size() / MIN_COMPARE_BYTES_PER_SECOND);
        Some(since.max(last_activity) + 4 * idle_timeout + its_disk)
    }

    /// Returns the numbers of the operations in flight.
    pub fn operations(&self) -> impl Iterator<Item = OpNumber> + '_ {
        self.operations.numbers()
    }

    fn size(&self) -> u64 {
        self.file.map_or(0, |file| file.facts.bytes)
    }

    fn is_known(&self) -> bool {
        self.file.is_some_and(|file| file.known.is_some())
    }

    // ---- results ----

    fn offer(&mut self) {
        self.state = State::Offered { since: None };
        self.actions.push_back(SenderAction::Frame(SenderFrame::Offer));
        self.close();
    }

    /// Starts what the receiver has accepted, if the file is the one that was offered.
    fn on_reopened(&mut self, file: OpenedFile, same_file: bool) {
        if self.file.is_none_or(|offered| offered.facts != file.facts) {
            let text = "its size or modification time differs from the offered one";
            return self.fail(TransferFailure::Changed(text));
        }
        if !same_file {
            return self.fail(TransferFailure::Replaced);
        }
        let State::Reopening(Accepted { offset, limit, prefix }) = self.state else {
            return; // the chunks go on, and are hashed, or not, as before
        };
        self.file = Some(file);
        self.state = if offset == 0 {
            State::Sending(Box::new(Sending::new(0, limit, Hasher::new())))
        } else {
            let own = PrefixHasher::new(offset);
            State::Comparing(Box::new(Comparing { own, prefix, limit }))
        };
    }

    fn on_read(&mut self, number: OpNumber, memory: Vec<u8>) {
        match &mut self.state {
            State::Sending(sending) => sending.reads.end(number, memory),
            State::Comparing(comparing) => {
                let actions = &mut self.actions;
                let result = comparing.own.end(number, memory, |action| {
                    actions.push_back(match action {
                        PrefixAction::Free(memory) => SenderAction::Free(memory),
                        PrefixAction::NeedRest => SenderAction::NeedRest,
                    });
                });
                match result {
                    Ok(()) => self.compare(),
                    Err(FileEnded) => self.fail(TransferFailure::Changed("it became shorter")),
                }
            }
            state => unreachable!("a read ended in {state:?}"),
        }
    }

    /// Compares the hashes once all bytes that the receiver holds have been hashed.
    fn compare(&mut self) {
        let State::Comparing(comparing) = &self.state else { return };
        let Comparing { own, prefix, limit } = &**comparing;
        if !own.is_complete() {
            return;
        }
        if own.hash() == *prefix {
            let sending = Sending::new(own.bytes(), *limit, own.hasher());
            self.state = State::Sending(Box::new(sending));
        } else if self.attempt == Attempt::First {
            self.attempt = Attempt::Second;
            self.notify(SenderEvent::ResumedFrom(0));
            self.offer();
        } else {
            self.fail(TransferFailure::PrefixDiffers);
        }
    }

    /// Sends done if size and time of the file are as before: then the sent bytes are those of the
    /// file.
    fn on_checked(&mut self, now: FileFacts) {
        let State::Checking { hash } = self.state else {
            unreachable!("checked in {:?}", self.state);
        };
        if self.file.is_none_or(|file| file.facts != now) {
            let text = "its size or modification time differs from before";
            return self.fail(TransferFailure::Changed(text));
        }
        self.state = State::DoneSaid { hash, since: None };
        self.actions.push_back(SenderAction::Frame(SenderFrame::Done(*hash.as_bytes())));
        self.close();
    }

    // ---- what follows ----

    fn advance(&mut self, now: Duration, sizes: &mut ChunkSizes<'_>) {
        match &mut self.state {
            State::Offered { since } | State::DoneSaid { since, .. } => {
                since.get_or_insert(now);
            }
            State::Comparing(comparing) => {
                while let Some(bytes) = comparing.own.read_on() {
                    self.actions.push_back(SenderAction::Need(bytes));
                }
            }
            State::Sending(_) => self.send_on(now, sizes),
            State::Over if self.operations.is_empty() => {
                self.state = State::Released;
                self.actions.push_back(SenderAction::Release);
            }
            State::Opening
            | State::Reopening(_)
            | State::Checking { .. }
            | State::Over
            | State::Released => {}
        }
    }

    /// Reads ahead within the credit. Checks the file again once all bytes have been sent.
    fn send_on(&mut self, now: Duration, sizes: &mut ChunkSizes<'_>) {
        let (Some(file), State::Sending(sending)) = (self.file, &mut self.state) else { return };
        let size = file.facts.bytes;
        if self.place != FilePlace::Held || self.operations.any(|kind| kind == OpKind::Reopen) {
            if self.place == FilePlace::None && sending.read_to < sending.limit {
                sending.waiting_since = None;
                self.need_file();
            }
            return;
        }
        while sending.reads.len() < MAX_READS && sending.read_to < sending.limit {
            let offset = sending.read_to;
            let left = sending.limit - sending.read_to;
            let max_bytes = sizes.max_bytes.min(self.max_chunk_bytes);
            let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(max_bytes);
            let is_unread = file.known.is_some() && (sizes.prefers_unread)(bytes);
            if is_unread && !sending.reads.is_empty() {
                // If the disk hangs, chunks whose first byte was read long before would block the
                // connection.
                break;
            }
            sending.read_to += bytes as u64;
            if is_unread {
                // The memory of one byte is not lent.
                let number = self.operations.begin(OpKind::Read { bytes: 0 });
                sending.reads.probe(offset, bytes, number);
                let op = SenderOp::Probe { offset };
                self.actions.push_back(SenderAction::Disk { number, op });
            } else {
                sending.reads.ask(offset, bytes);
                self.actions.push_back(SenderAction::Need(bytes));
            }
        }
        if !sending.reads.is_empty() {
            sending.waiting_since = None;
        } else if sending.sent < size {
            sending.waiting_since.get_or_insert(now);
        } else if sending.last_chunk == LastChunk::Read {
            let hash = file.known.unwrap_or_else(|| sending.hasher.finalize());
            self.state = State::Checking { hash };
            self.submit(OpKind::Metadata, SenderOp::Metadata);
        }
    }

    // ---- the end ----

    fn fail(&mut self, failure: TransferFailure<E>) {
        self.finish(Err(failure), Tell::Peer);
    }

    fn finish(&mut self, result: Result<[u8; 32], TransferFailure<E>>, tell: Tell) {
        if self.is_ended() {
            return;
        }
        let actions = &mut self.actions;
        match std::mem::replace(&mut self.state, State::Over) {
            State::Comparing(mut it) => actions.extend(it.own.clear().map(SenderAction::Free)),
            State::Sending(mut it) => actions.extend(it.reads.clear().map(SenderAction::Free)),
            _ => {}
        }
        self.notify(SenderEvent::Ended { result, tell });
    }

    fn notify(&mut self, event: SenderEvent<E>) {
        self.actions.push_back(SenderAction::Notify(event));
    }

    fn need_file(&mut self) {
        self.place = FilePlace::Requested;
        self.actions.push_back(SenderAction::NeedFile);
    }

    fn close(&mut self) {
        self.place = FilePlace::None;
        self.actions.push_back(SenderAction::Close);
    }

    fn submit(&mut self, kind: OpKind, op: SenderOp) {
        let number = self.operations.begin(kind);
        self.actions.push_back(SenderAction::Disk { number, op });
    }
}
