//! What has been received and not yet delivered: chunks in order, and those that came early.

use std::collections::VecDeque;

use posthouse_io::{Buffer, Error, Outcome};
use posthouse_wire::{FrameRate, Reader};

/// The input of a connection. Idle it holds no buffer.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    pub(super) reader: Reader,
    /// Boxed: most connections hold nothing most of the time.
    held: Option<Box<Held>>,
    /// How fast the frame that has begun arrives.
    pub(super) pace: Option<Box<FrameRate>>,
    /// Bytes that the reader's partial frame counts in the endpoint's budget.
    pub(super) budgeted_bytes: usize,
    /// The sequence number of the next receive to submit.
    pub(super) next_submitted: u8,
    /// The sequence number of the next receive to deliver.
    next_delivered: u8,
    /// Receives in flight.
    pub(super) pending: u8,
    /// True exactly when the receives in flight have been asked to end.
    pub(super) cancelled: bool,
    /// How the stream ended, once that is known; nothing follows what is held.
    pub(super) end: Option<End>,
}

/// How the peer's stream ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Ended,
    Failed(Error),
}

#[derive(Debug, Default)]
struct Held {
    chunks: VecDeque<Chunk>,
    early: Vec<(u8, Outcome)>,
}

/// Boxes for what connections hold, kept by a worker: many hold something for a turn, few for long.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the boxes are what is kept")]
pub(crate) struct HeldSpares {
    boxes: Vec<Box<Held>>,
}

/// Boxes that a worker keeps.
const SPARES_MAX: usize = 64;

/// A received buffer and how much of it has been delivered.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) buffer: Buffer,
    pub(super) offset: usize,
}

impl Chunk {
    /// Whether all of it has been delivered.
    pub(super) fn is_empty(&self) -> bool {
        self.offset == self.buffer.len()
    }
}

impl Inbound {
    /// Puts the outcome of a receive where its sequence number belongs: `Some` when it is its
    /// turn. The window is as wide as receives may be pending.
    pub(super) fn in_turn(
        &mut self,
        spares: &mut HeldSpares,
        sequence: u8,
        outcome: Outcome,
    ) -> Option<Outcome> {
        if sequence == self.next_delivered {
            self.next_delivered = self.next_delivered.wrapping_add(1);
            return Some(outcome);
        }
        let early = &mut self.held(spares).early;
        assert!(early.len() < 32, "more early receives than can be pending");
        early.push((sequence, outcome));
        None
    }

    /// Receives that may be submitted now, with so many in the window at most: those in flight and
    /// those that came early count alike, so that one that is late stops the others.
    pub(super) fn room(&self, window: u8) -> u8 {
        window.saturating_sub(self.next_submitted.wrapping_sub(self.next_delivered))
    }

    /// The next outcome that had come early and is now in turn.
    pub(super) fn next_early(&mut self, spares: &mut HeldSpares) -> Option<Outcome> {
        let held = self.held.as_mut()?;
        let place = held.early.iter().position(|(s, _)| *s == self.next_delivered)?;
        self.next_delivered = self.next_delivered.wrapping_add(1);
        let outcome = held.early.swap_remove(place).1;
        self.forget_empty(spares);
        Some(outcome)
    }

    /// Adds received bytes behind what is held.
    pub(super) fn hold(&mut self, spares: &mut HeldSpares, buffer: Buffer) {
        let chunk = Chunk { buffer, offset: 0 };
        self.held(spares).chunks.push_back(chunk);
    }

    /// Puts a chunk back that was not delivered to its end.
    pub(super) fn put_back(&mut self, spares: &mut HeldSpares, chunk: Chunk) {
        self.held(spares).chunks.push_front(chunk);
    }

    pub(super) fn next_chunk(&mut self, spares: &mut HeldSpares) -> Option<Chunk> {
        let chunk = self.held.as_mut()?.chunks.pop_front();
        self.forget_empty(spares);
        chunk
    }

    fn held(&mut self, spares: &mut HeldSpares) -> &mut Held {
        self.held.get_or_insert_with(|| spares.boxes.pop().unwrap_or_default())
    }

    fn forget_empty(&mut self, spares: &mut HeldSpares) {
        let empty = self.held.take_if(|held| held.chunks.is_empty() && held.early.is_empty());
        if let Some(held) = empty
            && held.chunks.capacity() <= SPARES_MAX
            && spares.boxes.len() < SPARES_MAX
        {
            spares.boxes.push(held);
        }
    }

    /// Buffers that are held.
    pub(super) fn held_chunks(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.chunks.len())
    }

    /// Lets go of everything that will not be delivered. What came early stays: it is in the
    /// sequence that leads to the end of the stream.
    pub(super) fn discard(&mut self, spares: &mut HeldSpares) {
        if let Some(held) = &mut self.held {
            held.chunks.clear();
        }
        self.forget_empty(spares);
        self.reader = Reader::default();
        self.pace = None;
    }
}
