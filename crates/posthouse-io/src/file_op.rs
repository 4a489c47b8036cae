//! Files and directories, as operations see them.
//!
//! A [`Directory`] is a capability: what is opened, made or listed through it lies beneath it,
//! whatever a path says and whoever swaps links meanwhile. A [`File`] is one open regular file.
//! Paths are relative, with `/` between their parts, and have no empty part, `.` or `..` (asserted:
//! who takes names from elsewhere checks them first).
//!
//! On Windows names that differ in case only are one name. What Windows gives another meaning than
//! that of a name (`a:b`, `nul.txt`, `a.`, control characters, ...) leads to nothing where
//! something is opened ([`NotFound`]), is no part of a list, and is [`Denied`] where something
//! would be made. Every reparse point counts as a link. Nothing is executable there.
//!
//! [`NotFound`]: crate::Failure::NotFound
//! [`Denied`]: crate::Failure::Denied

use crate::gather::Gather;
use crate::handle::{Directory, File, Usage};

/// An operation on files: [`Op::File`](crate::Op::File). What it needs it owns until its one
/// terminal completion, which is an [`Outcome::File`](crate::Outcome::File) or a failure. It cannot
/// be cancelled: the system gives no way to take a disk's work back.
///
/// Several operations on one file may be in flight, and end in any order; but beside a write or a
/// truncation only a sync may be, which need not cover it.
#[derive(Debug)]
pub enum FileOp {
    /// Opens a regular file beneath the directory for reading: [`FileOutcome::Opened`]. Whatever
    /// is no regular file, or lies behind a link, is refused ([`Failure::NotAFile`]) and not waited
    /// for (a FIFO would be).
    ///
    /// [`Failure::NotAFile`]: crate::Failure::NotAFile
    Open {
        /// Beneath what.
        directory: Directory,
        /// Which file.
        path: Box<str>,
    },
    /// Opens a part, an unfinished file that only its holder can see, for writing and reading,
    /// locked against everybody else; makes it where there is none: [`FileOutcome::Part`]. Parts
    /// lie in a directory of their own, `.posthouse`, beneath the directory. Something planted in
    /// the part's place (a link, another's file) is put out of the way, never written to.
    OpenPart {
        /// Beneath what.
        directory: Directory,
        /// Its name: one part of a path.
        name: Box<str>,
    },
    /// Cuts a part to this length: [`FileOutcome::Done`].
    Truncate {
        /// The part.
        file: File,
        /// Bytes that stay.
        bytes: u64,
    },
    /// Reads into the memory: [`FileOutcome::Read`] with as many bytes as there are, at most
    /// `bytes`; fewer are no sign of the end, none are.
    Read {
        /// Of what.
        file: File,
        /// From where on.
        offset: u64,
        /// How many bytes at most, at least 1.
        bytes: usize,
        /// Where to: it comes back with what was read in it, and nothing else.
        memory: Vec<u8>,
    },
    /// Writes: [`FileOutcome::Written`] with the number of bytes, which may be fewer than given.
    Write {
        /// Into what.
        file: File,
        /// From where on.
        offset: u64,
        /// What, not empty.
        data: Gather,
    },
    /// Waits until everything written is on the disk: [`FileOutcome::Done`].
    Sync {
        /// Of what.
        file: File,
    },
    /// What is known of an open file now: [`FileOutcome::Metadata`].
    Metadata {
        /// Of what.
        file: File,
    },
    /// Gives a part that has been synced its final name beneath the directory, making the
    /// directories on the way; when it completes the name is on the disk:
    /// [`FileOutcome::Done`]. It never replaces anything ([`Failure::Exists`]) and follows no
    /// link. The part's own name stays until [`RemovePart`](Self::RemovePart); where the file
    /// system knows one name of a file only (FAT, exFAT on Windows) it goes with this.
    ///
    /// [`Failure::Exists`]: crate::Failure::Exists
    Publish {
        /// Beneath what.
        directory: Directory,
        /// The part's name and its open file; exactly this file gets the final name.
        part: Box<str>,
        /// The part.
        file: File,
        /// The final name.
        path: Box<str>,
        /// When it was modified, in ms since 1970; `None`: now. The file system keeps the nearest
        /// time that it has.
        modified_ms: Option<i64>,
        /// Whether its owner may execute it, where the system knows of that.
        executable: bool,
    },
    /// Waits until a file that was found under its final name is on the disk, and with it that name
    /// and those of the directories on the way: [`FileOutcome::Done`]. Whoever
    /// [published](Self::Publish) it may not have waited for that yet, or may have been told that
    /// it failed. Where the name leads to no file, or to another, it is
    /// [`Failure::NotFound`](crate::Failure::NotFound).
    SyncName {
        /// Beneath what.
        directory: Directory,
        /// The final name.
        path: Box<str>,
        /// The file.
        file: File,
    },
    /// Removes a part's own name, where it still is this file's: [`FileOutcome::Done`].
    RemovePart {
        /// Beneath what.
        directory: Directory,
        /// The part's name.
        name: Box<str>,
        /// The part.
        file: File,
    },
    /// Removes parts that nobody has locked and that were last written before so many ms:
    /// [`FileOutcome::Done`].
    ExpireParts {
        /// Beneath what.
        directory: Directory,
        /// Age in ms from which on they go.
        age_ms: u64,
    },
    /// Counts what lies beneath the directory: [`FileOutcome::Usage`].
    Usage {
        /// Beneath what.
        directory: Directory,
    },
    /// Lists the regular files beneath the directory, in all of it, in the order of their paths'
    /// bytes, those after `after`: [`FileOutcome::Listed`]. Parts, links and what is no file are
    /// left out.
    List {
        /// Beneath what.
        directory: Directory,
        /// The path after which to go on; empty: from the beginning.
        after: Box<str>,
        /// Entries at most, at least 1.
        max_entries: usize,
    },
}

/// What came of an operation on files.
#[derive(Debug)]
pub enum FileOutcome {
    /// An open file and what is known of it.
    Opened {
        /// The file.
        file: File,
        /// As of its opening.
        metadata: Metadata,
        /// The state that it was in then.
        version: Option<FileVersion>,
    },
    /// A part.
    Part {
        /// The part.
        file: File,
        /// Bytes that it holds already.
        bytes: u64,
    },
    /// The memory with what was read.
    Read {
        /// Empty: the end of the file.
        memory: Vec<u8>,
    },
    /// What was written; the memory comes back.
    Written {
        /// From the first segment on.
        bytes: usize,
        /// The operation's memory.
        data: Gather,
    },
    /// What is known of the file.
    Metadata {
        /// Now.
        metadata: Metadata,
        /// The state that it is in.
        version: Option<FileVersion>,
    },
    /// What lies beneath the directory.
    Usage(Usage),
    /// A part of a listing.
    Listed {
        /// In order.
        entries: Vec<FileEntry>,
        /// Whether others follow.
        more: bool,
    },
    /// It is done.
    Done,
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Its length.
    pub bytes: u64,
    /// When it was last modified, in ms since 1970.
    pub modified_ms: i64,
    /// Whether its owner may execute it; on Windows never.
    pub executable: bool,
}

/// A state of a file. Who finds the same one later finds the same bytes, as far as file systems
/// tell: it is made of the file's identity, its length, and when it was last changed in any way
/// (which programs cannot set). A file that was changed within the last five seconds is in none
/// that would be known again: the clocks of file systems are coarse. Neither is one whose file
/// system keeps no such time (FAT on Windows, some that are programs).
///
/// Somebody may write to a file in ways that show late (a mapping of it, another machine). So what
/// is known by a version is checked in the end by whoever relies on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileVersion {
    pub(crate) volume: u64,
    pub(crate) file: u128,
    pub(crate) bytes: u64,
    /// In units of the system.
    pub(crate) modified: i128,
    pub(crate) changed: i128,
}

/// A line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Beneath the directory, with `/` between the parts.
    pub path: Box<str>,
    /// What is known of it.
    pub metadata: Metadata,
}

/// Where parts lie.
pub const PARTS_DIRECTORY: &str = ".posthouse";

/// Returns whether a path leads to something beneath a directory: relative, with `/` between its
/// components, none of which is empty, `.` or `..`, or has a NUL. Operations assert this of theirs.
pub fn is_beneath(path: &str) -> bool {
    path.split('/').all(|name| !matches!(name, "" | "." | "..") && !name.contains('\0'))
}
