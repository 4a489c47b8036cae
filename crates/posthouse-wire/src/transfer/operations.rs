//! The operations of a transfer on the disk: numbers, results, failures.

/// The maximum number of operations of a transfer that are in flight at the same time.
pub const MAX_OPERATIONS: usize = 16;

/// The number of an operation among those of its transfer that are in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpNumber(pub u8);

/// The result of an operation that succeeded.
#[derive(Debug)]
pub enum DiskOutcome {
    /// A file was found under the name.
    Found {
        /// The size of the file in bytes.
        bytes: u64,
    },
    /// A part was opened or created.
    Part {
        /// The number of bytes that the part holds.
        bytes: u64,
    },
    /// The bytes that were read: at most as many as the operation requested, none at the end of the
    /// file.
    Read(Vec<u8>),
    /// The number of bytes that were written, at least one.
    Written(usize),
    /// The file that is sent was opened.
    Opened {
        /// The size and time of the file.
        facts: FileFacts,
        /// The hash of the file's content, if this side has sent the file before and its version
        /// has not changed since. With a known hash the file is not read to compute it. (The
        /// receiver computes the hash of what it gets: if the known hash is wrong, the transfer
        /// fails.)
        known: Option<[u8; 32]>,
    },
    /// The file that is sent was opened again.
    Reopened {
        /// The size and time of the file that has the name now.
        facts: FileFacts,
        /// Whether it is the file that was offered, with the offered permissions and unchanged as
        /// far as its file system tells. Another file may have got its name.
        same_file: bool,
        /// The hash of the file's content, as in [`Opened`](Self::Opened).
        known: Option<[u8; 32]>,
    },
    /// The size and time of the file that is sent were read again.
    Metadata(FileFacts),
    /// Any other operation succeeded.
    Done,
}

/// A failure of an operation on the disk.
#[derive(Debug)]
pub struct DiskError<E> {
    /// The kind of failure, which decides how the transfer continues.
    pub failure: DiskFailure,
    /// The error of the system. If the transfer cannot continue after this failure, it ends with
    /// this error.
    pub error: E,
}

/// A kind of failure of an operation on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFailure {
    /// The file does not exist.
    NotFound,
    /// Another file has the name.
    Exists,
    /// Any other failure.
    Other,
}

/// The size and time of a file that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The time at which the file was modified, in ns since 1970.
    pub modified_ns: i64,
}

/// The place of a transfer among the open files of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FilePlace {
    None,
    Requested,
    /// The file is open, or is being opened.
    Held,
}

/// The operations in flight of one transfer.
#[derive(Debug)]
pub(super) struct Operations<K> {
    in_flight: [Option<K>; MAX_OPERATIONS],
}

impl<K: Copy> Default for Operations<K> {
    fn default() -> Self {
        Self { in_flight: [None; MAX_OPERATIONS] }
    }
}

impl<K: Copy> Operations<K> {
    pub(super) fn begin(&mut self, kind: K) -> OpNumber {
        let vacant = self.in_flight.iter().position(Option::is_none);
        let number = vacant.expect("a transfer has few operations in flight");
        self.in_flight[number] = Some(kind);
        OpNumber(number as u8)
    }

    pub(super) fn end(&mut self, number: OpNumber) -> K {
        let kind = self.in_flight[usize::from(number.0)].take();
        kind.expect("a result of an operation that is in flight")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.in_flight.iter().all(Option::is_none)
    }

    /// Returns whether `is_it` holds for the kind of an operation in flight.
    pub(super) fn any(&self, is_it: impl Fn(K) -> bool) -> bool {
        self.in_flight.iter().flatten().any(|kind| is_it(*kind))
    }

    /// Returns the sum of the bytes that `bytes_of` returns for the operations in flight.
    pub(super) fn sum_bytes(&self, bytes_of: impl Fn(K) -> usize) -> u64 {
        self.in_flight.iter().flatten().map(|kind| bytes_of(*kind) as u64).sum()
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = OpNumber> + '_ {
        let numbers = (0..).zip(&self.in_flight);
        numbers.filter(|(_, kind)| kind.is_some()).map(|(number, _)| OpNumber(number))
    }
}
