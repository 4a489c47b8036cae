//! Operations on files and directories.
//!
//! A [`Directory`] is a capability: everything that is opened, created or listed through it lies
//! beneath it, whatever a path says and even if others swap links meanwhile. A [`File`] is one open
//! regular file. Paths are relative, with `/` between their components; no component is empty, `.`
//! or `..` (asserted: a caller that takes names from elsewhere checks them first, with
//! [`is_beneath`]).
//!
//! On Windows, names that differ only in case are the same name. Windows interprets some names in
//! its own way (`a:b`, `nul.txt`, `a.`, control characters, ...). Opening such a name fails with
//! [`NotFound`], creating it fails with [`Denied`], and listings omit it. Every reparse point
//! counts as a link. No file is executable there.
//!
//! [`NotFound`]: crate::Failure::NotFound
//! [`Denied`]: crate::Failure::Denied

use crate::gather::Gather;
use crate::handle::{Directory, File, Usage};

/// An operation on files, for [`Op::File`](crate::Op::File). It owns all that it needs until its
/// one terminal completion, which is an [`Outcome::File`](crate::Outcome::File) or a failure. It
/// cannot be cancelled: no system call takes back work that a disk has begun.
///
/// Several operations on one file may be in flight, and end in any order. Beside a write or a
/// truncation only a sync may be in flight, and that sync need not cover it.
#[derive(Debug)]
pub enum FileOp {
    /// Opens a regular file beneath the directory for reading: [`FileOutcome::Opened`]. Anything
    /// but a regular file, and a file behind a link, is rejected with [`Failure::NotAFile`],
    /// without waiting (opening a FIFO would wait).
    ///
    /// [`Failure::NotAFile`]: crate::Failure::NotAFile
    Open {
        /// The directory to open the file beneath.
        directory: Directory,
        /// The path of the file.
        path: Box<str>,
    },
    /// Opens a part for writing and reading, and creates it if it does not exist:
    /// [`FileOutcome::Part`]. A part is an unfinished file without a final name, locked against
    /// everybody else. Parts lie in a directory of their own, [`.posthouse`](PARTS_DIRECTORY),
    /// beneath the directory. If something else was planted in the part's place (a link, another
    /// user's file), the operation removes it from there and never writes to it.
    OpenPart {
        /// The directory that the part belongs to.
        directory: Directory,
        /// The part's name: one component of a path.
        name: Box<str>,
    },
    /// Truncates a part to this length: [`FileOutcome::Done`].
    Truncate {
        /// The part.
        file: File,
        /// The number of bytes that remain.
        bytes: u64,
    },
    /// Reads into the memory: [`FileOutcome::Read`] with at most `bytes` bytes. Fewer bytes do not
    /// mean the end of the file; an empty result does.
    Read {
        /// The file to read.
        file: File,
        /// The position of the first byte.
        offset: u64,
        /// The maximum number of bytes, at least 1.
        bytes: usize,
        /// The memory to read into. It comes back with the bytes read as its only content.
        memory: Vec<u8>,
    },
    /// Writes: [`FileOutcome::Written`] with the number of bytes, which may be fewer than given.
    Write {
        /// The file to write to.
        file: File,
        /// The position of the first byte.
        offset: u64,
        /// The bytes to write, not empty.
        data: Gather,
    },
    /// Waits until everything written to the file is on the disk: [`FileOutcome::Done`].
    Sync {
        /// The file to sync.
        file: File,
    },
    /// Returns the metadata of an open file as it is now: [`FileOutcome::Metadata`].
    Metadata {
        /// The file to examine.
        file: File,
    },
    /// Gives a synced part its final name beneath the directory and creates the directories on the
    /// way: [`FileOutcome::Done`]. On completion the name is on the disk. The operation never
    /// replaces anything ([`Failure::Exists`]) and follows no link. The part keeps its own name as
    /// well until [`RemovePart`](Self::RemovePart). On a file system that knows only one name per
    /// file (FAT, exFAT on Windows), this operation removes the part's own name.
    ///
    /// [`Failure::Exists`]: crate::Failure::Exists
    Publish {
        /// The directory to publish beneath.
        directory: Directory,
        /// The part's name.
        part: Box<str>,
        /// The open part; exactly this file gets the final name.
        file: File,
        /// The final name.
        path: Box<str>,
        /// The modification time to set, in ns since 1970; `None` is the present. The file system
        /// stores the nearest time that it can represent.
        modified_ns: Option<i64>,
        /// True exactly when the owner may execute the file; ignored on systems without such a
        /// permission.
        executable: bool,
    },
    /// Looks for a directory beneath the directory, and waits until its name is on the disk:
    /// [`FileOutcome::Done`], or [`Failure::NotFound`](crate::Failure::NotFound). It follows no
    /// link. If something else has the name, or one of the names on the way, the operation fails
    /// with [`Failure::Exists`](crate::Failure::Exists).
    LookUpDirectory {
        /// The directory to search beneath.
        directory: Directory,
        /// The path.
        path: Box<str>,
    },
    /// Creates a directory beneath the directory, and those on the way, unless they exist; waits
    /// until their names are on the disk: [`FileOutcome::Done`]. It follows no link. If something
    /// else has one of the names, the operation fails with
    /// [`Failure::Exists`](crate::Failure::Exists).
    MakeDirectory {
        /// The directory to create it beneath.
        directory: Directory,
        /// The path.
        path: Box<str>,
    },
    /// Waits until a file that was found under its final name is on the disk, together with that
    /// name and the names of the directories on the way: [`FileOutcome::Done`]. The transfer that
    /// [published](Self::Publish) the file may still be waiting for that, or its wait may have
    /// failed. If the name leads to no file or to another file, the operation fails with
    /// [`Failure::NotFound`](crate::Failure::NotFound).
    SyncName {
        /// The directory that the name is beneath.
        directory: Directory,
        /// The final name.
        path: Box<str>,
        /// The file.
        file: File,
    },
    /// Removes a part's own name if it still belongs to this file: [`FileOutcome::Done`].
    RemovePart {
        /// The directory that the part belongs to.
        directory: Directory,
        /// The part's name.
        name: Box<str>,
        /// The part.
        file: File,
    },
    /// Removes all parts that nobody has locked and that were last written more than `age_ms` ago:
    /// [`FileOutcome::Done`].
    ExpireParts {
        /// The directory that the parts belong to.
        directory: Directory,
        /// The age beyond which a part is removed, in ms.
        age_ms: u64,
    },
    /// Removes parts that nobody has locked, the one that was written longest ago first, until they
    /// have freed this many bytes and files, and then counts as [`Usage`](Self::Usage) does:
    /// [`FileOutcome::Usage`]. If all parts together hold less, the operation removes none and
    /// fails with [`Failure::NoSpace`](crate::Failure::NoSpace). It also fails in this way, after
    /// it has removed the others, if parts that are locked would be needed.
    FreeParts {
        /// The directory that the parts belong to.
        directory: Directory,
        /// The number of bytes to free.
        bytes: u64,
        /// The number of files to free.
        files: u64,
    },
    /// Counts the files, bytes and empty directories beneath the directory: [`FileOutcome::Usage`].
    Usage {
        /// The directory to count.
        directory: Directory,
    },
    /// Lists the regular files beneath the directory, recursively, in the byte order of their
    /// paths, starting behind `after`: [`FileOutcome::Listed`]. Parts, links and anything else that
    /// is not a regular file are omitted.
    List {
        /// The directory to list.
        directory: Directory,
        /// The path after which the list starts; empty to start at the beginning.
        after: Box<str>,
        /// The maximum number of entries, at least 1.
        max_entries: usize,
        /// The maximum sum of their [`memory_bytes`](FileEntry::memory_bytes). The first entry is
        /// listed in any case.
        max_bytes: usize,
        /// Returns whether a file with this path is listed.
        is_listed: fn(&str) -> bool,
    },
}

impl FileOp {
    /// Returns whether the operation walks a directory. The larger the directory, the longer a walk
    /// takes, so few walks run at a time.
    pub(crate) fn is_walk(&self) -> bool {
        matches!(
            self,
            Self::List { .. }
                | Self::Usage { .. }
                | Self::ExpireParts { .. }
                | Self::FreeParts { .. }
        )
    }
}

/// The result of an operation on files.
#[derive(Debug)]
pub enum FileOutcome {
    /// An open file and its metadata.
    Opened {
        /// The file.
        file: File,
        /// The metadata at the time of opening.
        metadata: Metadata,
        /// The identity of the file; `None` if its file system does not tell.
        identity: Option<FileIdentity>,
        /// The version of the file at that time; `None` if it cannot be recognised again.
        version: Option<FileVersion>,
    },
    /// An open part.
    Part {
        /// The part.
        file: File,
        /// The number of bytes that the part already holds.
        bytes: u64,
    },
    /// The memory of a read.
    Read {
        /// The bytes read; empty at the end of the file.
        memory: Vec<u8>,
    },
    /// The bytes were written, all or a part of them; the memory comes back.
    Written {
        /// The number of bytes, counted from the first segment.
        bytes: usize,
        /// The operation's memory, as submitted. [`Gather::advance`] removes the bytes written.
        data: Gather,
    },
    /// The metadata of an open file.
    Metadata {
        /// The present metadata.
        metadata: Metadata,
        /// The present version of the file; `None` if it cannot be recognised again.
        version: Option<FileVersion>,
    },
    /// The files and bytes beneath the directory.
    Usage(Usage),
    /// One section of a listing.
    Listed {
        /// The entries, in order.
        entries: Vec<FileEntry>,
        /// True exactly when more entries follow.
        more: bool,
    },
    /// The operation succeeded and has no other result.
    Done,
}

/// The metadata of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The length in bytes.
    pub bytes: u64,
    /// The time of the last modification, in ns since 1970. A time beyond the years 1677 to 2262
    /// counts as the nearest of them.
    pub modified_ns: i64,
    /// The permissions: the lowest nine bits of a mode of Unix. `None` on Windows.
    pub mode: Option<u16>,
}

impl Metadata {
    /// Returns whether the owner may execute the file; always false on Windows.
    pub fn is_executable(&self) -> bool {
        self.mode.is_some_and(|mode| mode & 0o100 != 0)
    }
}

/// The identity of a file among all files that exist at the same time: its volume and its number
/// there. It stays while the file exists, if the file is renamed, too; a later file may get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileIdentity {
    pub(crate) volume: u64,
    pub(crate) file: u128,
}

/// A version of a file's content. As far as file systems tell, equal versions mean equal bytes. A
/// version consists of the file's identity, its length, its modification time and the time of its
/// last change of any kind (which programs cannot set). A file has no version if it was changed
/// within the last five seconds, because the clocks of file systems are coarse, or if its file
/// system records no such time (FAT on Windows, some file systems that are programs).
///
/// Some writes show late: those through a mapping of the file, and those from another machine. So a
/// caller that relies on a version must verify the bytes in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileVersion {
    pub(crate) volume: u64,
    pub(crate) file: u128,
    pub(crate) bytes: u64,
    /// The time of the last modification, in units of the system.
    pub(crate) modified: i128,
    pub(crate) changed: i128,
}

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// The path beneath the directory, with `/` between the components.
    pub path: Box<str>,
    /// The metadata of the file.
    pub metadata: Metadata,
}

impl FileEntry {
    /// Returns the number of bytes of memory that an entry with a path of this length takes,
    /// roughly.
    pub fn memory_bytes(path_bytes: usize) -> usize {
        const ALLOCATION_BYTES: usize = 16;
        size_of::<Self>() + ALLOCATION_BYTES + path_bytes
    }
}

/// The name of the directory that holds the parts.
pub const PARTS_DIRECTORY: &str = ".posthouse";

/// Returns whether a path leads to something beneath a directory: it is relative, with `/` between
/// its components, and no component is empty, `.` or `..`, or contains a NUL. Operations assert
/// this of their paths.
///
/// ```
/// assert!(posthouse_io::is_beneath("logs/today.txt"));
/// assert!(!posthouse_io::is_beneath("../passwords"));
/// assert!(!posthouse_io::is_beneath("/etc/passwd"));
/// ```
pub fn is_beneath(path: &str) -> bool {
    path.split('/').all(|name| !matches!(name, "" | "." | "..") && !name.contains('\0'))
}
