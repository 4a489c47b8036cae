//! What a connection has to send: replies collected in order, one gathered send in flight.

use std::sync::Arc;

use posthouse_io::{FileFault, Gather, Segment};

/// Small messages are collected in a tail of this size, then it is closed and another begun.
const TAIL_BYTES: usize = 16 * 1024;
/// What has grown further is not kept as a tail.
const TAIL_BYTES_MAX: usize = 2 * TAIL_BYTES;
/// A shared message smaller than this is copied: cheaper than a segment of its own.
const COPY_BYTES_MAX: usize = 1024;
/// Memory that a worker keeps for the next tails.
const SPARES_MAX: usize = 64;
/// Memory that it keeps for the next pieces of files, each of this size at most.
const PIECES_MAX: usize = 8;
const PIECE_BYTES_MAX: usize = 1024 * 1024;

/// Memory that a worker's connections take in turns.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the boxes are what is kept")]
pub(crate) struct Spares {
    tails: Vec<Vec<u8>>,
    gathers: Vec<Gather>,
    /// For queues that do not fit one tail; what is in them is empty.
    boxes: Vec<Box<Gather>>,
    /// For pieces of files.
    pieces: Vec<Vec<u8>>,
}

impl Spares {
    fn tail(&mut self) -> Vec<u8> {
        self.tails.pop().unwrap_or_else(|| Vec::with_capacity(TAIL_BYTES))
    }

    fn gather(&mut self) -> Gather {
        self.gathers.pop().unwrap_or_default()
    }

    fn boxed(&mut self, gather: Gather) -> Box<Gather> {
        let mut boxed = self.boxes.pop().unwrap_or_default();
        *boxed = gather;
        boxed
    }

    fn unboxed(&mut self, mut boxed: Box<Gather>) -> Gather {
        let gather = std::mem::take(&mut *boxed);
        if self.boxes.len() < SPARES_MAX {
            self.boxes.push(boxed);
        }
        gather
    }

    /// Keeps a gather that has left.
    fn keep_gather(&mut self, gather: Gather) {
        if self.gathers.len() < SPARES_MAX {
            self.gathers.push(gather);
        }
    }

    /// Memory for a piece of a file, empty.
    pub(crate) fn piece(&mut self) -> Vec<u8> {
        self.pieces.pop().unwrap_or_default()
    }

    /// Keeps the memory of a segment that is not needed any more, unless it is very large or many
    /// are kept.
    pub(crate) fn keep(&mut self, segment: Segment) {
        let Segment::Owned(mut bytes) = segment else { return };
        let (kept, kept_max) = match bytes.capacity() <= TAIL_BYTES_MAX {
            true => (&mut self.tails, SPARES_MAX),
            false if bytes.capacity() > PIECE_BYTES_MAX => return,
            false => (&mut self.pieces, PIECES_MAX),
        };
        if kept.len() < kept_max {
            bytes.clear();
            kept.push(bytes);
        }
    }
}

/// What a send came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Everything that was in flight has left.
    pub(crate) all: bool,
    /// Bytes of a file that the system has sent by itself.
    pub(crate) unread: usize,
    /// Why zeros left in place of the chunk, or of its end.
    pub(crate) fault: Option<FileFault>,
}

/// The send queue of one connection. Empty and idle it holds no memory.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Closed segments, in order, before the tail.
    closed: Option<Box<Gather>>,
    /// Where small messages are collected.
    tail: Vec<u8>,
    /// Bytes not yet handed to the system, in flight ones included.
    queued_bytes: usize,
    /// True exactly while a send is in flight.
    sending: bool,
    /// Of the queued bytes, how many have to leave until the last chunk of a file has left, and how
    /// many of them are the chunk's.
    bulk_end: u32,
    bulk_bytes: u32,
}

impl Output {
    /// Bytes not yet handed to the system.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Queued bytes of a file's chunk. There is one chunk at most: a message waits for no other.
    pub(crate) fn bulk_bytes(&self) -> usize {
        self.bulk_bytes.min(self.bulk_end) as usize
    }

    /// Queued bytes that are no file's: what the marks and bounds of the queue count.
    pub(crate) fn message_bytes(&self) -> usize {
        self.queued_bytes - self.bulk_bytes()
    }

    /// Whether a send should be submitted: something is queued and none is in flight.
    pub(crate) fn wants_send(&self) -> bool {
        !self.sending && self.queued_bytes > 0
    }

    /// Lets `encode` append to the tail, and counts what it appended.
    pub(crate) fn append<T>(
        &mut self,
        spares: &mut Spares,
        encode: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> T {
        if self.tail.capacity() == 0 {
            self.tail = spares.tail();
        }
        let before = self.tail.len();
        let result = encode(&mut self.tail);
        self.queued_bytes += self.tail.len() - before;
        if self.tail.len() >= TAIL_BYTES {
            self.close_tail(spares);
        } else if self.tail.is_empty() {
            spares.keep(Segment::Owned(std::mem::take(&mut self.tail)));
        }
        result
    }

    /// Queues a frame that others send, too.
    pub(crate) fn push_shared(&mut self, spares: &mut Spares, frame: &Arc<[u8]>) {
        if frame.len() <= COPY_BYTES_MAX {
            return self.append(spares, |tail| tail.extend_from_slice(frame));
        }
        self.close_tail(spares);
        self.queued_bytes += frame.len();
        self.closed(spares).push(Segment::Shared(frame.clone()));
    }

    /// Queues a frame that was encoded elsewhere.
    pub(crate) fn push_owned(&mut self, spares: &mut Spares, frame: Vec<u8>) {
        if frame.len() <= COPY_BYTES_MAX {
            return self.append(spares, |tail| tail.extend_from_slice(&frame));
        }
        self.close_tail(spares);
        self.queued_bytes += frame.len();
        self.closed(spares).push(Segment::Owned(frame));
    }

    /// Queues a chunk of a file, whose head has been queued. The one before has left.
    pub(crate) fn push_bulk(&mut self, spares: &mut Spares, chunk: Segment) {
        assert_eq!(self.bulk_bytes(), 0, "one chunk at a time");
        self.close_tail(spares);
        self.queued_bytes += chunk.len();
        self.bulk_bytes = u32::try_from(chunk.len()).expect("a chunk is far smaller");
        self.bulk_end = u32::try_from(self.queued_bytes).unwrap_or(u32::MAX);
        self.closed(spares).push(chunk);
    }

    fn closed(&mut self, spares: &mut Spares) -> &mut Gather {
        self.closed.get_or_insert_with(|| {
            let gather = spares.gather();
            spares.boxed(gather)
        })
    }

    fn close_tail(&mut self, spares: &mut Spares) {
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.closed(spares).push(Segment::Owned(tail));
        }
    }

    /// Everything queued, as the one send that goes out next.
    pub(crate) fn start(&mut self, spares: &mut Spares) -> Gather {
        assert!(self.wants_send(), "a send is started only when one is wanted");
        self.sending = true;
        let mut gather = match self.closed.take() {
            Some(closed) => spares.unboxed(closed),
            None => spares.gather(),
        };
        if !self.tail.is_empty() {
            gather.push(Segment::Owned(std::mem::take(&mut self.tail)));
        }
        gather
    }

    /// A send came back with so many bytes gone. What is left goes out before what was queued
    /// since.
    pub(crate) fn sent(&mut self, spares: &mut Spares, bytes: usize, mut gather: Gather) -> Sent {
        assert!(self.sending, "a send completed that was not in flight");
        self.sending = false;
        self.queued_bytes -= bytes;
        self.bulk_end = self.bulk_end.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
        let (mut unread, mut fault) = (0, None);
        gather.advance(bytes, |segment| {
            let len = segment.len();
            match segment {
                Segment::File(part) => (unread, fault) = (unread + len, part.fault()),
                segment => spares.keep(segment),
            }
        });
        if gather.is_empty() {
            spares.keep_gather(gather);
            return Sent { all: true, unread, fault };
        }
        if let Some(later) = self.closed.take() {
            let mut later = spares.unboxed(later);
            later.drain(|segment| gather.push(segment));
            spares.keep_gather(later);
        }
        self.closed = Some(spares.boxed(gather));
        Sent { all: false, unread, fault }
    }

    /// The send in flight failed; its memory is gone.
    pub(crate) fn failed(&mut self) {
        assert!(self.sending, "a send failed that was not in flight");
        self.sending = false;
    }

    /// Forgets what is queued and not in flight; returns how many bytes will never leave.
    pub(crate) fn discard(&mut self) -> usize {
        self.closed = None;
        self.tail = Vec::new();
        self.bulk_end = 0;
        std::mem::take(&mut self.queued_bytes)
    }
}
