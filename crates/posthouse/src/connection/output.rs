//! A connection's output: replies collected in order, one gathered send in flight.

use std::sync::Arc;

use posthouse_io::{FileFault, Gather, Segment};

/// Small messages are collected in a tail of this size, then it is closed and another begun.
const TAIL_BYTES: usize = 16 * 1024;
/// Memory that has grown further is not kept as a tail.
const MAX_TAIL_BYTES: usize = 2 * TAIL_BYTES;
/// A shared message smaller than this is copied: cheaper than a segment of its own.
const MAX_COPY_BYTES: usize = 1024;
/// The maximum number of tails that a worker keeps for later.
const MAX_FREE: usize = 64;
/// The maximum number of pieces of files that it keeps for later, each of this size at most.
const MAX_PIECES: usize = 8;
const MAX_PIECE_BYTES: usize = 1024 * 1024;

/// Free memory that a worker's connections take in turns.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the boxes are what is kept")]
pub(crate) struct FreeList {
    tails: Vec<Vec<u8>>,
    gathers: Vec<Gather>,
    /// For queues that do not fit one tail; what is in them is empty.
    boxes: Vec<Box<Gather>>,
    /// For pieces of files.
    pieces: Vec<Vec<u8>>,
}

impl FreeList {
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
        if self.boxes.len() < MAX_FREE {
            self.boxes.push(boxed);
        }
        gather
    }

    /// Keeps a gather that has left.
    fn recycle_gather(&mut self, gather: Gather) {
        if self.gathers.len() < MAX_FREE {
            self.gathers.push(gather);
        }
    }

    /// Memory for a piece of a file, empty.
    pub(crate) fn piece(&mut self) -> Vec<u8> {
        self.pieces.pop().unwrap_or_default()
    }

    /// Keeps the memory of a segment that is not needed any more, unless it is very large or many
    /// are kept.
    pub(crate) fn recycle(&mut self, segment: Segment) {
        let Segment::Owned(mut bytes) = segment else { return };
        let (kept, max_kept) = match bytes.capacity() <= MAX_TAIL_BYTES {
            true => (&mut self.tails, MAX_FREE),
            false if bytes.capacity() > MAX_PIECE_BYTES => return,
            false => (&mut self.pieces, MAX_PIECES),
        };
        if kept.len() < max_kept {
            bytes.clear();
            kept.push(bytes);
        }
    }
}

/// The result of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// True exactly when everything that was in flight has left.
    pub(crate) all: bool,
    /// The bytes of a file that the system has sent by itself.
    pub(crate) sendfile_bytes: usize,
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
        free_list: &mut FreeList,
        encode: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> T {
        if self.tail.capacity() == 0 {
            self.tail = free_list.tail();
        }
        let before = self.tail.len();
        let result = encode(&mut self.tail);
        self.queued_bytes += self.tail.len() - before;
        if self.tail.len() >= TAIL_BYTES {
            self.close_tail(free_list);
        } else if self.tail.is_empty() {
            free_list.recycle(Segment::Owned(std::mem::take(&mut self.tail)));
        }
        result
    }

    /// Queues a frame that others send, too.
    pub(crate) fn push_shared(&mut self, free_list: &mut FreeList, frame: &Arc<[u8]>) {
        if frame.len() <= MAX_COPY_BYTES {
            return self.append(free_list, |tail| tail.extend_from_slice(frame));
        }
        self.close_tail(free_list);
        self.queued_bytes += frame.len();
        self.closed(free_list).push(Segment::Shared(frame.clone()));
    }

    /// Queues a frame that was encoded elsewhere.
    pub(crate) fn push_owned(&mut self, free_list: &mut FreeList, frame: Vec<u8>) {
        if frame.len() <= MAX_COPY_BYTES {
            return self.append(free_list, |tail| tail.extend_from_slice(&frame));
        }
        self.close_tail(free_list);
        self.queued_bytes += frame.len();
        self.closed(free_list).push(Segment::Owned(frame));
    }

    /// Queues a chunk of a file, whose head has been queued. The one before has left.
    pub(crate) fn push_bulk(&mut self, free_list: &mut FreeList, chunk: Segment) {
        assert_eq!(self.bulk_bytes(), 0, "one chunk at a time");
        self.close_tail(free_list);
        self.queued_bytes += chunk.len();
        self.bulk_bytes = u32::try_from(chunk.len()).expect("a chunk is far smaller");
        self.bulk_end = u32::try_from(self.queued_bytes).unwrap_or(u32::MAX);
        self.closed(free_list).push(chunk);
    }

    fn closed(&mut self, free_list: &mut FreeList) -> &mut Gather {
        self.closed.get_or_insert_with(|| {
            let gather = free_list.gather();
            free_list.boxed(gather)
        })
    }

    fn close_tail(&mut self, free_list: &mut FreeList) {
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.closed(free_list).push(Segment::Owned(tail));
        }
    }

    /// Everything queued, as the one send that goes out next.
    pub(crate) fn start(&mut self, free_list: &mut FreeList) -> Gather {
        assert!(self.wants_send(), "a send is started only when one is wanted");
        self.sending = true;
        let mut gather = match self.closed.take() {
            Some(closed) => free_list.unboxed(closed),
            None => free_list.gather(),
        };
        if !self.tail.is_empty() {
            gather.push(Segment::Owned(std::mem::take(&mut self.tail)));
        }
        gather
    }

    /// A send came back with so many bytes gone. What is left goes out before what was queued
    /// since.
    pub(crate) fn sent(
        &mut self,
        free_list: &mut FreeList,
        bytes: usize,
        mut gather: Gather,
    ) -> Sent {
        assert!(self.sending, "a send completed that was not in flight");
        self.sending = false;
        self.queued_bytes -= bytes;
        self.bulk_end = self.bulk_end.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
        let (mut sendfile_bytes, mut fault) = (0, None);
        gather.advance(bytes, |segment| {
            let len = segment.len();
            match segment {
                Segment::File(part) => {
                    (sendfile_bytes, fault) = (sendfile_bytes + len, part.fault());
                }
                segment => free_list.recycle(segment),
            }
        });
        if gather.is_empty() {
            free_list.recycle_gather(gather);
            return Sent { all: true, sendfile_bytes, fault };
        }
        if let Some(later) = self.closed.take() {
            let mut later = free_list.unboxed(later);
            later.drain(|segment| gather.push(segment));
            free_list.recycle_gather(later);
        }
        self.closed = Some(free_list.boxed(gather));
        Sent { all: false, sendfile_bytes, fault }
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
