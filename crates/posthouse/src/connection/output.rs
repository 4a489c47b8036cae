//! The output of a connection: messages collected in order, and one send in flight.

use std::sync::Arc;

use posthouse_io::{FileFault, Gather, Segment};

use crate::record_layer::{RecordError, RecordLayer};

/// The size of a tail, the segment in which small messages are collected. A full tail is closed,
/// and another tail is begun.
const TAIL_BYTES: usize = 16 * 1024;
/// The maximum capacity of memory that is kept as a tail.
const MAX_TAIL_BYTES: usize = 2 * TAIL_BYTES;
/// The maximum size of a shared message that is copied, which is cheaper than its own segment.
const MAX_COPY_BYTES: usize = 1024;
/// The maximum number of free tails that a worker keeps.
const MAX_FREE: usize = 64;
/// The maximum number of free buffers for pieces of files that a worker keeps.
const MAX_PIECES: usize = 8;
/// The maximum capacity of a free buffer for a piece of a file.
const MAX_PIECE_BYTES: usize = 1024 * 1024;

/// The maximum number of queued bytes that are sealed into records for one send.
const MAX_SEALED_BYTES: usize = 64 * 1024;

/// The free memory of a worker, for the output of its connections.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the boxes are what is kept")]
pub(crate) struct FreeList {
    tails: Vec<Vec<u8>>,
    gathers: Vec<Gather>,
    /// Boxes for queues that do not fit one tail, with empty gathers.
    boxes: Vec<Box<Gather>>,
    /// Buffers for pieces of files.
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

    /// Keeps a gather that has been sent.
    fn recycle_gather(&mut self, gather: Gather) {
        if self.gathers.len() < MAX_FREE {
            self.gathers.push(gather);
        }
    }

    /// Returns an empty buffer for a piece of a file.
    pub(crate) fn piece(&mut self) -> Vec<u8> {
        self.pieces.pop().unwrap_or_default()
    }

    /// Keeps the memory of a segment that is not needed any more, unless it is too large or enough
    /// are kept.
    pub(crate) fn recycle(&mut self, segment: Segment) {
        let Segment::Owned(mut bytes) = segment else { return };
        let (kept, max_kept) = if bytes.capacity() <= MAX_TAIL_BYTES {
            (&mut self.tails, MAX_FREE)
        } else if bytes.capacity() <= MAX_PIECE_BYTES {
            (&mut self.pieces, MAX_PIECES)
        } else {
            return;
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
    /// True exactly when everything in flight has been sent.
    pub(crate) all: bool,
    /// The number of file bytes that the system has sent by itself.
    pub(crate) sendfile_bytes: usize,
    /// The reason why zeros were sent in place of the chunk, or of its end.
    pub(crate) fault: Option<FileFault>,
}

/// The output of one connection: the queue, and the sealed bytes, which are or were in flight.
/// Nothing is ever appended to the sealed bytes. An empty output without a send holds no memory.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// The closed segments of the queue, in order, before the tail.
    closed: Option<Box<Gather>>,
    /// The segment in which small messages are collected.
    tail: Vec<u8>,
    sealed: Sealed,
    /// The number of bytes that have not been sent, counted before they are sealed. The marks and
    /// bounds refer to it.
    queued_bytes: usize,
    /// The number of queued bytes up to the end of the last chunk of a file.
    bulk_end: u32,
    /// The size of that chunk in bytes.
    bulk_bytes: u32,
}

/// The output that is, or was, in flight.
#[derive(Debug, Default)]
enum Sealed {
    #[default]
    Nothing,
    InFlight(Plain),
    /// A send was partial: this rest of it is sent next.
    Left(Box<Gather>, Plain),
}

/// The number of queued bytes in the sealed output.
#[derive(Clone, Copy, Debug)]
enum Plain {
    /// All sealed bytes: the stream has no record layer.
    Same,
    /// The sealed output consists of records that contain this number of queued bytes. The bytes
    /// count as queued until all of the records have been sent.
    InRecords(usize),
}

impl Output {
    /// Returns the number of bytes not yet passed to the system.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Returns the number of queued bytes of a file's chunk. At most one chunk is queued, so a
    /// message waits for no other.
    pub(crate) fn bulk_bytes(&self) -> usize {
        self.bulk_bytes.min(self.bulk_end) as usize
    }

    /// Returns the number of queued bytes without a file's chunk. The marks and bounds of the queue
    /// refer to it.
    pub(crate) fn message_bytes(&self) -> usize {
        self.queued_bytes - self.bulk_bytes()
    }

    /// Returns whether a send should be submitted: there is something to send and none is in
    /// flight.
    pub(crate) fn wants_send(&self) -> bool {
        !self.is_in_flight() && (self.queued_bytes > 0 || self.has_left())
    }

    /// Returns whether the last send was partial.
    pub(crate) fn has_left(&self) -> bool {
        matches!(self.sealed, Sealed::Left(..))
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        matches!(self.sealed, Sealed::InFlight(_))
    }

    /// Lets `encode` append to the tail, and counts the appended bytes.
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

    /// Queues a frame that is shared with other connections.
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

    /// Queues a chunk of a file, after its head. The chunk before it has been sent.
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

    /// Returns the next send of a stream without a record layer: the rest of a partial send if
    /// there is one, otherwise the whole queue, unchanged. The bytes of the send are sealed:
    /// nothing is appended to them any more.
    pub(crate) fn start(&mut self, free_list: &mut FreeList) -> Gather {
        assert!(self.wants_send(), "a send is started only when one is wanted");
        if let Some(left) = self.start_left(free_list) {
            return left;
        }
        self.sealed = Sealed::InFlight(Plain::Same);
        let mut gather = match self.closed.take() {
            Some(closed) => free_list.unboxed(closed),
            None => free_list.gather(),
        };
        if !self.tail.is_empty() {
            gather.push(Segment::Owned(std::mem::take(&mut self.tail)));
        }
        gather
    }

    /// Seals a part of the queue into records, after the layer's own output. Returns the next send;
    /// `None` if the layer needs more input first.
    pub(crate) fn start_records(
        &mut self,
        free_list: &mut FreeList,
        layer: &mut dyn RecordLayer,
    ) -> Result<Option<Gather>, RecordError> {
        assert!(!self.is_in_flight(), "one send at a time");
        if let Some(left) = self.start_left(free_list) {
            return Ok(Some(left));
        }
        let mut records = free_list.piece();
        layer.take_output(&mut records);
        let mut plain_bytes = 0;
        if layer.is_ready() {
            self.close_tail(free_list);
            while let Some(closed) = &mut self.closed {
                let plain = closed.slices().next().unwrap_or_default();
                let room = plain.len().min(MAX_SEALED_BYTES - plain_bytes);
                let taken = layer.seal(&plain[..room], &mut records)?;
                if taken == 0 {
                    break;
                }
                plain_bytes += taken;
                closed.advance(taken, |segment| free_list.recycle(segment));
            }
            if let Some(empty) = self.closed.take_if(|closed| closed.is_empty()) {
                let gather = free_list.unboxed(empty);
                free_list.recycle_gather(gather);
            }
        }
        if records.is_empty() {
            free_list.recycle(Segment::Owned(records));
            return Ok(None);
        }
        self.sealed = Sealed::InFlight(Plain::InRecords(plain_bytes));
        let mut gather = free_list.gather();
        gather.push(Segment::Owned(records));
        Ok(Some(gather))
    }

    /// Takes the rest of a partial send.
    #[inline]
    fn start_left(&mut self, free_list: &mut FreeList) -> Option<Gather> {
        let Sealed::Left(gather, plain) = &mut self.sealed else { return None };
        let gather = std::mem::take(gather);
        self.sealed = Sealed::InFlight(*plain);
        Some(free_list.unboxed(gather))
    }

    /// Handles a completed send of this number of bytes. The rest is sent alone, before the queue.
    pub(crate) fn sent(
        &mut self,
        free_list: &mut FreeList,
        bytes: usize,
        mut gather: Gather,
    ) -> Sent {
        let Sealed::InFlight(plain) = std::mem::take(&mut self.sealed) else {
            panic!("a send completed that was not in flight");
        };
        let mut sendfile_bytes = 0;
        let mut fault = None;
        gather.advance(bytes, |segment| {
            let len = segment.len();
            match segment {
                Segment::File(part) => {
                    sendfile_bytes += len;
                    fault = part.fault();
                }
                segment => free_list.recycle(segment),
            }
        });
        let all = gather.is_empty();
        let gone = match plain {
            Plain::Same => bytes,
            Plain::InRecords(plain_bytes) if all => plain_bytes,
            Plain::InRecords(_) => 0,
        };
        self.queued_bytes -= gone;
        self.bulk_end = self.bulk_end.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX));
        if all {
            free_list.recycle_gather(gather);
        } else {
            self.sealed = Sealed::Left(free_list.boxed(gather), plain);
        }
        Sent { all, sendfile_bytes, fault }
    }

    /// Handles a failed send, whose memory is lost.
    pub(crate) fn failed(&mut self) {
        assert!(self.is_in_flight(), "a send failed that was not in flight");
        self.sealed = Sealed::Nothing;
    }

    /// Drops the output that is not in flight, and returns the number of bytes that will never be
    /// sent.
    pub(crate) fn discard(&mut self) -> usize {
        self.closed = None;
        self.tail = Vec::new();
        if !self.is_in_flight() {
            self.sealed = Sealed::Nothing;
        }
        self.bulk_end = 0;
        std::mem::take(&mut self.queued_bytes)
    }
}
