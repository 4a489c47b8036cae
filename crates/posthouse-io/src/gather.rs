//! The memory and the parts of files that a send or a write takes.

use std::sync::{Arc, LazyLock};

use crate::error::Error;
use crate::handle::File;

/// The segments of a send, in order, and the number of bytes of the first that have already left.
#[derive(Debug, Default)]
pub struct Gather {
    segments: Vec<Segment>,
    /// The number of bytes of the first segment that have already left.
    offset: usize,
    bytes: usize,
}

/// A segment of a [`Gather`].
#[derive(Debug)]
pub enum Segment {
    /// Memory of this operation only.
    Owned(Vec<u8>),
    /// Memory that several operations share (a message to a group).
    Shared(Arc<[u8]>),
    /// A part of a file.
    File(Box<FilePart>),
}

impl Segment {
    /// Returns the length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a gather holds no empty one")]
    pub fn len(&self) -> usize {
        match self {
            Segment::Owned(bytes) => bytes.len(),
            Segment::Shared(bytes) => bytes.len(),
            Segment::File(part) => part.bytes,
        }
    }

    /// Returns the bytes if they are in memory.
    fn memory(&self) -> Option<&[u8]> {
        match self {
            Segment::Owned(bytes) => Some(bytes),
            Segment::Shared(bytes) => Some(bytes),
            Segment::File(_) => None,
        }
    }
}

/// A part of a file to send. The system reads it while it sends it, so the file should not change
/// meanwhile. The announced number of bytes always leaves: if the file ends early or cannot be
/// read, zeros leave in place of the missing bytes, and [`fault`](Self::fault) returns the reason.
#[derive(Debug)]
pub struct FilePart {
    file: File,
    offset: u64,
    bytes: usize,
    fault: Option<FileFault>,
}

/// The reason why zeros were sent in place of a part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFault {
    /// The file ends before the part does.
    Short,
    /// The file cannot be read.
    Failed(Error),
}

impl FilePart {
    /// Returns the part of `bytes` bytes that starts at `offset` in the file.
    pub fn new(file: File, offset: u64, bytes: usize) -> Self {
        Self { file, offset, bytes, fault: None }
    }

    /// Returns the reason if zeros were sent in place of some of its bytes.
    pub fn fault(&self) -> Option<FileFault> {
        self.fault
    }
}

/// The memory from which zeros are sent.
static ZEROS: LazyLock<Arc<[u8]>> = LazyLock::new(|| Arc::from([0; 64 * 1024]));

impl Gather {
    /// Adds a segment at the end; an empty one is dropped.
    pub fn push(&mut self, segment: Segment) {
        let len = segment.len();
        if len > 0 {
            self.bytes += len;
            self.segments.push(segment);
        }
    }

    /// Takes out all segments in order. No byte of the first may have left (asserted).
    pub fn drain(&mut self, take: impl FnMut(Segment)) {
        assert!(self.offset == 0, "a gather that has partly left is not taken apart");
        self.bytes = 0;
        self.segments.drain(..).for_each(take);
    }

    /// Returns the number of bytes that have not left.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Returns whether all bytes have left.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Returns the memory that has not left, in order, up to the first part of a file.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let padded = self.is_first_padded();
        let skip = if padded { 0 } else { self.offset };
        let left = self.segments[usize::from(padded)..].iter().map_while(Segment::memory);
        left.enumerate().map(move |(i, bytes)| if i == 0 { &bytes[skip..] } else { bytes })
    }

    /// Returns the file, offset and number of bytes to send if a part of a file comes next.
    pub(crate) fn file_ahead(&self) -> Option<(&File, u64, usize)> {
        match self.segments.first() {
            Some(Segment::File(part)) if !self.is_first_padded() => {
                let skip = self.offset;
                Some((&part.file, part.offset + skip as u64, part.bytes - skip))
            }
            _ => None,
        }
    }

    /// Returns whether a part of a file follows the memory that comes next.
    #[cfg(any(target_os = "linux", test))]
    pub(crate) fn file_follows(&self) -> bool {
        self.file_ahead().is_none()
            && self.segments.iter().skip(1).any(|it| matches!(it, Segment::File(_)))
    }

    /// Returns whether a segment is a part of a file.
    #[cfg(any(target_os = "linux", windows))]
    pub(crate) fn has_file(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::File(_)))
    }

    /// Returns whether the first segment is a padded part of a file. The zeros are behind it, and
    /// the segment stays to report the fault.
    fn is_first_padded(&self) -> bool {
        matches!(self.segments.first(), Some(Segment::File(part)) if part.fault.is_some())
    }

    /// Returns the part of a file that comes next.
    fn first_file(&mut self) -> &mut FilePart {
        match self.segments.first_mut() {
            Some(Segment::File(part)) => part,
            other => unreachable!("a file comes next, not {other:?}"),
        }
    }

    /// Replaces the first bytes of the part of a file that comes next with this memory, which was
    /// read from them.
    pub(crate) fn load(&mut self, memory: Vec<u8>) {
        let gone = std::mem::take(&mut self.offset) + memory.len();
        let part = self.first_file();
        part.offset += gone as u64;
        part.bytes -= gone;
        self.segments.insert(0, Segment::Owned(memory));
    }

    /// Replaces the rest of the part of a file that comes next with zeros.
    pub(crate) fn pad_file(&mut self, fault: FileFault) {
        let sent = self.offset;
        let part = self.first_file();
        let mut left = std::mem::replace(&mut part.bytes, sent) - sent;
        part.fault = Some(fault);
        let zeros = std::iter::from_fn(|| {
            let bytes = left.min(ZEROS.len());
            left -= bytes;
            match bytes {
                0 => None,
                bytes if bytes == ZEROS.len() => Some(Segment::Shared(ZEROS.clone())),
                bytes => Some(Segment::Owned(vec![0; bytes])),
            }
        });
        self.segments.splice(1..1, zeros);
    }

    /// Removes `bytes` that have left, and passes each finished segment to `done`, so that its
    /// memory can be used again.
    ///
    /// # Panics
    ///
    /// Panics if `bytes` is more than [`len`](Self::len).
    pub fn advance(&mut self, bytes: usize, mut done: impl FnMut(Segment)) {
        assert!(bytes <= self.bytes, "more bytes sent than there were");
        self.bytes -= bytes;
        let mut left = self.offset + bytes;
        let mut whole = 0;
        while whole < self.segments.len() && left >= self.segments[whole].len() {
            left -= self.segments[whole].len();
            whole += 1;
        }
        self.segments.drain(..whole).for_each(&mut done);
        self.offset = left;
        assert!(left == 0 || !self.segments.is_empty(), "an offset without a segment");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::no_file;

    #[test]
    fn a_gather_advances_over_segment_borders() {
        let mut gather = Gather::default();
        gather.push(Segment::Owned(b"abc".to_vec()));
        gather.push(Segment::Owned(Vec::new()));
        gather.push(Segment::Shared(Arc::from(&b"defg"[..])));
        assert_eq!(gather.len(), 7);
        let mut done = 0;
        gather.advance(4, |_| done += 1);
        assert_eq!((gather.len(), done), (3, 1));
        assert_eq!(gather.slices().collect::<Vec<_>>(), [b"efg"]);
        gather.advance(3, |_| done += 1);
        assert_eq!((gather.is_empty(), done, gather.slices().count()), (true, 2, 0));
    }

    /// Returns memory followed by six bytes of a file from position 100 on, and memory again.
    fn with_file() -> Gather {
        let mut gather = Gather::default();
        gather.push(Segment::Owned(b"ab".to_vec()));
        let part = FilePart::new(no_file(), 100, 6);
        gather.push(Segment::File(Box::new(part)));
        gather.push(Segment::Owned(b"yz".to_vec()));
        gather
    }

    fn ahead(gather: &Gather) -> Option<(u64, usize)> {
        gather.file_ahead().map(|(_, offset, bytes)| (offset, bytes))
    }

    fn memory(gather: &Gather) -> Vec<u8> {
        gather.slices().flatten().copied().collect()
    }

    #[test]
    fn a_file_is_ahead_when_the_memory_before_it_has_left() {
        let mut gather = with_file();
        assert_eq!((gather.len(), memory(&gather), ahead(&gather)), (10, b"ab".to_vec(), None));
        assert!(gather.file_follows());
        gather.advance(2, drop);
        assert_eq!((memory(&gather), ahead(&gather)), (Vec::new(), Some((100, 6))));
        assert!(!gather.file_follows());
        gather.advance(4, drop);
        assert_eq!(ahead(&gather), Some((104, 2)));
        let mut fault = None;
        gather.advance(3, |segment| match segment {
            Segment::File(part) => fault = Some(part.fault()),
            _ => panic!("the file is done"),
        });
        assert_eq!((fault, memory(&gather), ahead(&gather)), (Some(None), b"z".to_vec(), None));
    }

    #[test]
    fn what_was_read_of_a_file_is_sent_in_its_place() {
        let mut gather = with_file();
        gather.advance(3, drop);
        gather.load(b"123".to_vec());
        assert_eq!((gather.len(), memory(&gather), ahead(&gather)), (7, b"123".to_vec(), None));
        assert!(gather.file_follows());
        gather.advance(3, drop);
        assert_eq!((gather.len(), ahead(&gather)), (4, Some((104, 2))));
        gather.load(b"45".to_vec());
        let mut done = 0;
        gather.advance(2, |_| done += 1);
        assert_eq!((done, memory(&gather), ahead(&gather)), (2, b"yz".to_vec(), None));
    }

    #[test]
    fn zeros_leave_in_place_of_what_a_file_does_not_have() {
        for sent in [0, 4] {
            let mut gather = with_file();
            gather.advance(2 + sent, drop);
            gather.pad_file(FileFault::Short);
            let zeros = [vec![0; 6 - sent], b"yz".to_vec()].concat();
            assert_eq!((gather.len(), memory(&gather), ahead(&gather)), (8 - sent, zeros, None));
            let mut faults = Vec::new();
            gather.advance(1, |segment| match segment {
                Segment::File(part) => faults.push(part.fault()),
                _ => panic!("zeros are left"),
            });
            assert_eq!(faults, [Some(FileFault::Short)]);
            assert_eq!(gather.len(), 7 - sent);
            gather.advance(7 - sent, drop);
            assert!(gather.is_empty());
        }
        let long = 3 * ZEROS.len() + 5;
        let mut gather = Gather::default();
        let part = FilePart::new(no_file(), 0, long);
        gather.push(Segment::File(Box::new(part)));
        gather.pad_file(FileFault::Short);
        assert_eq!(memory(&gather), vec![0; long]);
    }

    #[test]
    #[should_panic(expected = "more bytes sent than there were")]
    fn a_gather_refuses_to_advance_past_its_end() {
        let mut gather = Gather::default();
        gather.push(Segment::Owned(b"abc".to_vec()));
        gather.advance(4, drop);
    }
}
