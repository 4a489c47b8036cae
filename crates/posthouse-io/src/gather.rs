//! The memory and the parts of files that a send or a write takes.

use std::sync::{Arc, LazyLock};

use crate::error::Error;
use crate::handle::File;

/// What to send: segments in order, with the part of the first that has already left.
#[derive(Debug, Default)]
pub struct Gather {
    segments: Vec<Segment>,
    /// Bytes of the first segment that have left already.
    offset: usize,
    bytes: usize,
}

/// A piece of what to send.
#[derive(Debug)]
pub enum Segment {
    /// Memory of this operation only.
    Owned(Vec<u8>),
    /// Memory that several operations send (a message to a group).
    Shared(Arc<[u8]>),
    /// What lies in a file.
    File(Box<FilePart>),
}

impl Segment {
    /// How long it is.
    #[expect(clippy::len_without_is_empty, reason = "a gather holds no empty one")]
    pub fn len(&self) -> usize {
        match self {
            Segment::Owned(bytes) => bytes.len(),
            Segment::Shared(bytes) => bytes.len(),
            Segment::File(part) => part.bytes,
        }
    }

    /// Its bytes, where they are in memory.
    fn memory(&self) -> Option<&[u8]> {
        match self {
            Segment::Owned(bytes) => Some(bytes),
            Segment::Shared(bytes) => Some(bytes),
            Segment::File(_) => None,
        }
    }
}

/// A part of a file, to send. It is read when it is sent; the file should not change meanwhile. So
/// many bytes leave whatever becomes of the file: where it ends early or cannot be read, zeros
/// leave in its place, and [`fault`](Self::fault) says so.
#[derive(Debug)]
pub struct FilePart {
    file: File,
    offset: u64,
    bytes: usize,
    fault: Option<FileFault>,
}

/// Why zeros were sent in a file's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFault {
    /// The file ends before the part does.
    Short,
    /// It cannot be read.
    Failed(Error),
}

impl FilePart {
    /// So many bytes of a file, from this position on.
    pub fn new(file: File, offset: u64, bytes: usize) -> Self {
        Self { file, offset, bytes, fault: None }
    }

    /// Whether zeros were sent in its place, from some byte on, and why.
    pub fn fault(&self) -> Option<FileFault> {
        self.fault
    }
}

/// What zeros are sent from.
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

    /// Takes all segments out, in order. Nothing of the first may have left (asserted).
    pub fn drain(&mut self, take: impl FnMut(Segment)) {
        assert!(self.offset == 0, "a gather that has partly left is not taken apart");
        self.bytes = 0;
        self.segments.drain(..).for_each(take);
    }

    /// Bytes that have not left.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether everything has left.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// What has not left, in order, up to the first that lies in a file.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let padded = self.is_first_padded();
        let skip = if padded { 0 } else { self.offset };
        let left = self.segments[usize::from(padded)..].iter().map_while(Segment::memory);
        left.enumerate().map(move |(i, bytes)| if i == 0 { &bytes[skip..] } else { bytes })
    }

    /// The file, from where on and how much of it is to be sent, where that comes next.
    pub(crate) fn file_ahead(&self) -> Option<(&File, u64, usize)> {
        match self.segments.first() {
            Some(Segment::File(part)) if !self.is_first_padded() => {
                let skip = self.offset;
                Some((&part.file, part.offset + skip as u64, part.bytes - skip))
            }
            _ => None,
        }
    }

    /// Whether a part of a file comes somewhere after the memory that comes next.
    #[cfg(any(target_os = "linux", test))]
    pub(crate) fn file_follows(&self) -> bool {
        self.file_ahead().is_none()
            && self.segments.iter().skip(1).any(|it| matches!(it, Segment::File(_)))
    }

    /// Whether some of it lies in a file.
    #[cfg(any(target_os = "linux", windows))]
    pub(crate) fn has_file(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::File(_)))
    }

    /// Whether the first segment is a part of a file that was padded: zeros follow it, and it is
    /// kept to say so.
    fn is_first_padded(&self) -> bool {
        matches!(self.segments.first(), Some(Segment::File(part)) if part.fault.is_some())
    }

    /// The file that comes next.
    fn first_file(&mut self) -> &mut FilePart {
        match self.segments.first_mut() {
            Some(Segment::File(part)) => part,
            other => unreachable!("a file comes next, not {other:?}"),
        }
    }

    /// Has this memory sent in place of the first bytes of the file that comes next: it is what
    /// was read of them.
    pub(crate) fn load(&mut self, memory: Vec<u8>) {
        let gone = std::mem::take(&mut self.offset) + memory.len();
        let part = self.first_file();
        part.offset += gone as u64;
        part.bytes -= gone;
        self.segments.insert(0, Segment::Owned(memory));
    }

    /// Replaces what is left of the file that comes next with zeros.
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

    /// Removes `bytes` that have left, and hands each segment that is done to `done`, so that its
    /// memory can be used again.
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

    /// Memory, and then six bytes of a file from its position 100 on.
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
