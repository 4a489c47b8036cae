//! The received input that is not yet delivered: chunks in order, and receives that completed
//! early.

use std::collections::VecDeque;
use std::ops::Range;

use posthouse_io::{Buffer, Error, Outcome};
use posthouse_wire::{FrameRate, Reader};

use super::watch::{UntoldEnd, Watch};

/// The input of a connection. An idle connection holds no buffer.
#[derive(Debug, Default)]
pub(super) struct Input {
    pub(super) reader: Reader,
    /// In a box, because most connections hold nothing most of the time.
    backlog: Option<Box<Backlog>>,
    /// The rate at which the partial frame arrives.
    pub(super) frame_rate: Option<Box<FrameRate>>,
    /// The bytes of the reader's partial frame that count in the endpoint's budget.
    pub(super) budgeted_bytes: usize,
    /// The sequence number of the next receive to submit.
    pub(super) next_submitted: u8,
    /// The sequence number of the next receive to deliver.
    next_delivered: u8,
    /// The number of receives in flight.
    pub(super) pending: u8,
    /// True exactly when the receives in flight have been cancelled.
    pub(super) cancelled: bool,
    /// The end of the stream, once it was received. It follows the held chunks.
    pub(super) end: Option<End>,
    pub(super) watch: Watch,
    /// True exactly when a watch has seen the end of the peer's stream. There may be bytes before
    /// it.
    pub(super) end_seen: bool,
    /// The end of the peer's stream, while it is not told because this side does not read.
    pub(super) untold_end: Option<Box<UntoldEnd>>,
}

/// The end of the peer's stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Ended,
    Failed(Error),
}

#[derive(Debug, Default)]
struct Backlog {
    chunks: VecDeque<Chunk>,
    early: Vec<(u8, Outcome)>,
}

/// The free backlog boxes of a worker: many connections need one for a turn, few for long.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the boxes are what is kept")]
pub(crate) struct FreeBacklogs {
    boxes: Vec<Box<Backlog>>,
}

/// The maximum number of boxes that a worker keeps.
const MAX_FREE: usize = 64;

/// A received buffer: bytes that can be delivered, and records that must be opened first.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) buffer: Buffer,
    /// A record that arrived in several buffers, joined. `plain` is a range of it then.
    pub(super) joined: Option<Vec<u8>>,
    /// The plain bytes that have not been delivered.
    pub(super) plain: Range<usize>,
    /// The records of the buffer that have not been opened. Empty without a record layer.
    pub(super) rest: Range<usize>,
}

impl Chunk {
    /// Makes a chunk of plain bytes.
    pub(super) fn of_plain(buffer: Buffer) -> Self {
        let plain = 0..buffer.len();
        let rest = 0..0;
        Self { buffer, joined: None, plain, rest }
    }

    /// Makes a chunk of records.
    pub(super) fn of_records(buffer: Buffer) -> Self {
        let plain = 0..0;
        let rest = 0..buffer.len();
        Self { buffer, joined: None, plain, rest }
    }

    /// Returns whether all of it has been delivered.
    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.rest.is_empty()
    }

    #[inline]
    pub(super) fn plain_bytes(&self) -> &[u8] {
        let bytes = self.joined.as_deref().unwrap_or(&self.buffer);
        &bytes[self.plain.clone()]
    }

    /// Advances past all but the last `left` plain bytes.
    #[inline]
    pub(super) fn keep_last(&mut self, left: usize) {
        self.plain.start = self.plain.end - left;
    }
}

impl Input {
    /// Returns the outcome of a receive if it is the next in sequence; otherwise keeps it in the
    /// window, which holds as many outcomes as receives may be pending.
    pub(super) fn reorder(
        &mut self,
        free: &mut FreeBacklogs,
        sequence: u8,
        outcome: Outcome,
    ) -> Option<Outcome> {
        if sequence == self.next_delivered {
            self.next_delivered = self.next_delivered.wrapping_add(1);
            return Some(outcome);
        }
        let early = &mut self.backlog(free).early;
        assert!(early.len() < 32, "more early receives than can be pending");
        early.push((sequence, outcome));
        None
    }

    /// Returns the number of receives that may be submitted now. Receives in flight and early
    /// outcomes both count against the window, so a late receive stops the others.
    pub(super) fn room(&self, window: u8) -> u8 {
        window.saturating_sub(self.next_submitted.wrapping_sub(self.next_delivered))
    }

    /// Returns the next early outcome, if it is now the next in sequence.
    pub(super) fn next_early(&mut self, free: &mut FreeBacklogs) -> Option<Outcome> {
        let backlog = self.backlog.as_mut()?;
        let index = backlog.early.iter().position(|(s, _)| *s == self.next_delivered)?;
        self.next_delivered = self.next_delivered.wrapping_add(1);
        let outcome = backlog.early.swap_remove(index).1;
        self.free_if_empty(free);
        Some(outcome)
    }

    /// Adds a chunk behind the held ones.
    pub(super) fn push_chunk(&mut self, free: &mut FreeBacklogs, chunk: Chunk) {
        self.backlog(free).chunks.push_back(chunk);
    }

    /// Puts back a chunk that was delivered only in part.
    pub(super) fn put_back(&mut self, free: &mut FreeBacklogs, chunk: Chunk) {
        self.backlog(free).chunks.push_front(chunk);
    }

    pub(super) fn next_chunk(&mut self, free: &mut FreeBacklogs) -> Option<Chunk> {
        let chunk = self.backlog.as_mut()?.chunks.pop_front();
        self.free_if_empty(free);
        chunk
    }

    fn backlog(&mut self, free: &mut FreeBacklogs) -> &mut Backlog {
        self.backlog.get_or_insert_with(|| free.boxes.pop().unwrap_or_default())
    }

    fn free_if_empty(&mut self, free: &mut FreeBacklogs) {
        let empty =
            self.backlog.take_if(|backlog| backlog.chunks.is_empty() && backlog.early.is_empty());
        if let Some(backlog) = empty
            && backlog.chunks.capacity() <= MAX_FREE
            && free.boxes.len() < MAX_FREE
        {
            free.boxes.push(backlog);
        }
    }

    /// Returns the number of held chunks.
    pub(super) fn held_chunks(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.chunks.len())
    }

    /// Drops all input that will not be delivered. Early outcomes stay, because they are part of
    /// the sequence that leads to the end of the stream.
    pub(super) fn discard(&mut self, free: &mut FreeBacklogs) {
        if let Some(backlog) = &mut self.backlog {
            backlog.chunks.clear();
        }
        self.free_if_empty(free);
        self.reader = Reader::default();
        self.frame_rate = None;
    }
}
