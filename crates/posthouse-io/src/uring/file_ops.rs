//! Reads, writes and syncs of files, as requests of a ring.
//!
//! The other file operations run on the file pool, as on every backend. The kernel would pass
//! opening, linking, removing and waiting for a directory to threads of its own, so a ring has no
//! advantage, and one path takes several such calls in a row.

use std::os::fd::AsRawFd;

use io_uring::types::Fd;
use io_uring::{opcode, squeue};
use rustix::io::Errno;

use crate::error::Error;
use crate::file_op::{FileOp, FileOutcome};
use crate::fs::{MAX_SEGMENTS, is_within_a_file};
use crate::token::Tag;

/// The maximum number of bytes that one request reads or writes: the kernel's limit for one call.
const MAX_BYTES: usize = 0x7fff_f000;

/// The file operations that the kernel performs. Each keeps the memory and the file that its
/// request refers to. Both stay in place: the memory is on the heap.
#[derive(Debug, Default)]
pub(super) struct Files {
    slots: Vec<Option<InFlight>>,
    vacant: Vec<u32>,
}

#[derive(Debug)]
struct InFlight {
    tag: Tag,
    op: Box<FileOp>,
    /// The addresses of the segments of a write.
    segments: Vec<libc::iovec>,
    /// True exactly when the operation was abandoned: nobody awaits it any more.
    abandoned: bool,
}

/// The end of a request.
pub(super) enum FileEnd {
    Completed(Tag, Result<FileOutcome, Error>),
    /// The kernel would have to wait, or was interrupted: the file pool performs the operation.
    Retry(Tag, Box<FileOp>),
}

/// Returns whether a ring performs the operation. The file pool rejects an offset beyond the end of
/// any file, because a ring would take the largest offset for the file's own position.
pub(super) fn is_for_ring(op: &FileOp) -> bool {
    match op {
        FileOp::Read { offset, bytes, .. } => is_within_a_file(*offset, *bytes),
        FileOp::Write { offset, data, .. } => is_within_a_file(*offset, data.len()),
        FileOp::Sync { .. } => true,
        _ => false,
    }
}

impl Files {
    /// Keeps an operation, and returns its slot and the request that performs it. The memory and
    /// the file of the request stay in place until [`end`](Self::end) frees the slot.
    pub(super) fn begin(&mut self, tag: Tag, op: Box<FileOp>) -> (u32, squeue::Entry) {
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 operations")
        });
        let place = &mut self.slots[slot as usize];
        assert!(place.is_none(), "a place taken twice");
        let in_flight = place.insert(InFlight { tag, op, segments: Vec::new(), abandoned: false });
        (slot, in_flight.entry())
    }

    /// Marks the operation as abandoned if it is one of these.
    pub(super) fn abandon(&mut self, tag: Tag) {
        let mut in_flight = self.slots.iter_mut().flatten();
        if let Some(abandoned) = in_flight.find(|in_flight| in_flight.tag == tag) {
            abandoned.abandoned = true;
        }
    }

    /// Returns the number of abandoned operations.
    pub(super) fn abandoned(&self) -> usize {
        self.slots.iter().flatten().filter(|in_flight| in_flight.abandoned).count()
    }

    /// Removes an operation whose request the kernel has ended.
    pub(super) fn end(&mut self, slot: u32, result: Result<usize, Errno>) -> FileEnd {
        let ended = self.slots[slot as usize].take();
        let InFlight { tag, op, .. } = ended.expect("the kernel ends what it was given");
        self.vacant.push(slot);
        match result {
            Err(Errno::INTR | Errno::AGAIN) => FileEnd::Retry(tag, op),
            Err(errno) => FileEnd::Completed(tag, Err(errno.into())),
            Ok(bytes) => FileEnd::Completed(tag, Ok(outcome(*op, bytes))),
        }
    }
}

impl InFlight {
    fn entry(&mut self) -> squeue::Entry {
        match &mut *self.op {
            FileOp::Read { file, offset, bytes, memory } => {
                memory.clear();
                memory.reserve(*bytes);
                let bytes = (*bytes).min(MAX_BYTES) as u32;
                let fd = Fd(file.descriptor().as_raw_fd());
                opcode::Read::new(fd, memory.as_mut_ptr(), bytes).offset(*offset).build()
            }
            FileOp::Write { file, offset, data } => {
                let place = |bytes: &[u8]| libc::iovec {
                    iov_base: bytes.as_ptr().cast_mut().cast(),
                    iov_len: bytes.len(),
                };
                self.segments = data.slices().take(MAX_SEGMENTS).map(place).collect();
                let start = self.segments.as_ptr();
                let count = self.segments.len() as u32;
                let fd = Fd(file.descriptor().as_raw_fd());
                opcode::Writev::new(fd, start, count).offset(*offset).build()
            }
            FileOp::Sync { file } => opcode::Fsync::new(Fd(file.descriptor().as_raw_fd())).build(),
            op => unreachable!("for the file pool: {op:?}"),
        }
    }
}

/// Returns the outcome of an operation that was performed.
fn outcome(op: FileOp, bytes: usize) -> FileOutcome {
    match op {
        FileOp::Read { mut memory, .. } => {
            // SAFETY: the kernel has written `bytes` bytes to the beginning of the vector, and its
            // capacity was the request's limit.
            unsafe { memory.set_len(bytes) };
            FileOutcome::Read { memory }
        }
        FileOp::Write { data, .. } => FileOutcome::Written { bytes, data },
        _ => FileOutcome::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather::{Gather, Segment};
    use crate::handle::File;

    fn a_file() -> File {
        let file = std::fs::File::open("/proc/self/exe").expect("a file");
        File::new(crate::fs::Opened::from(file))
    }

    fn read(offset: u64, bytes: usize) -> FileOp {
        FileOp::Read { file: a_file(), offset, bytes, memory: Vec::new() }
    }

    fn write(offset: u64) -> FileOp {
        let mut data = Gather::default();
        data.push(Segment::Owned(vec![1, 2, 3]));
        FileOp::Write { file: a_file(), offset, data }
    }

    #[test]
    fn what_the_kernel_did_not_do_comes_back_as_it_was() {
        let mut files = Files::default();
        for errno in [Errno::INTR, Errno::AGAIN] {
            let (first, _) = files.begin(Tag(1), Box::new(write(7)));
            let (second, _) = files.begin(Tag(2), Box::new(read(0, 10)));
            assert_ne!(first, second);
            match files.end(first, Err(errno)) {
                FileEnd::Retry(Tag(1), op) => match *op {
                    FileOp::Write { offset: 7, data, .. } => assert_eq!(data.len(), 3),
                    other => panic!("the write, not {other:?}"),
                },
                _ => panic!("it is not over"),
            }
            let ended = files.end(second, Err(Errno::IO));
            assert!(matches!(ended, FileEnd::Completed(Tag(2), Err(e)) if e == Errno::IO.into()));
        }
        assert_eq!(files.slots.len(), 2, "places are used again");
    }

    #[test]
    fn what_no_file_holds_is_not_for_the_ring() {
        let last = u64::MAX >> 1;
        assert!(is_for_ring(&read(last - 10, 10)) && is_for_ring(&write(last - 3)));
        for beyond in [last, last + 1, u64::MAX - 1, u64::MAX] {
            assert!(!is_for_ring(&read(beyond, 10)) && !is_for_ring(&write(beyond)));
        }
    }
}
