//! Files and directories of a real system.
//!
//! File operations block, so the threads of a pool perform them (`native/file_pool.rs`). A ring, or
//! a completion port of Windows, performs some of them itself (`uring/file_ops.rs`,
//! `iocp/file_ops.rs`).
//!
//! Every process with write access to the directory can swap names in it at any time. So a name is
//! resolved once, beneath an open directory, and all later decisions use the opened object: its
//! kind, its owner, its identity.
//!
//! | file | content |
//! |---|---|
//! | `dir_handle` | a directory that was opened to work beneath it, and the parents of a path |
//! | `listing` | recursive walks |
//! | `linux`, `windows` | opening, parts and publishing on each system |

mod dir_handle;
#[cfg(target_os = "linux")]
mod linux;
mod listing;
#[cfg(windows)]
mod windows;

pub(crate) use self::dir_handle::DirHandle;
use self::dir_handle::Entered;
#[cfg(target_os = "linux")]
use self::linux as platform;
use self::listing::ListBounds;
#[cfg(windows)]
use self::windows as platform;

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Failure};
use crate::file_op::{FileOp, FileOutcome, FileVersion, Metadata, is_beneath};
use crate::handle::{Directory, DirectoryHandle, File, FileHandle, Usage};

/// The object that the system opened.
pub(crate) use self::platform::Opened;

/// The maximum number of segments that one call writes; a longer gather is written by several
/// operations.
pub(crate) const MAX_SEGMENTS: usize = 64;
/// The end of the longest possible file.
const MAX_OFFSET: u64 = i64::MAX as u64;
/// The maximum number of tries of a step that other programs can make fail by changing names.
const MAX_TRIES: usize = 16;

/// Asserts that an operation is valid.
pub(crate) fn check(op: &FileOp) {
    let (directory, file) = match op {
        FileOp::OpenPart { directory, name } => {
            check_name(name);
            (Some(directory), None)
        }
        FileOp::Publish { directory, part, file, path, .. } => {
            check_name(part);
            check_path(path);
            (Some(directory), Some(file))
        }
        FileOp::SyncName { directory, path, file } => {
            check_path(path);
            (Some(directory), Some(file))
        }
        FileOp::Open { directory, path }
        | FileOp::LookUpDirectory { directory, path }
        | FileOp::MakeDirectory { directory, path } => {
            check_path(path);
            (Some(directory), None)
        }
        FileOp::RemovePart { directory, name, file } => {
            check_name(name);
            (Some(directory), Some(file))
        }
        FileOp::List { directory, max_entries, .. } => {
            assert!(*max_entries > 0, "a list of nothing");
            (Some(directory), None)
        }
        FileOp::ExpireParts { directory, .. }
        | FileOp::FreeParts { directory, .. }
        | FileOp::Usage { directory } => (Some(directory), None),
        FileOp::Read { file, bytes, .. } => {
            assert!(*bytes > 0, "a read of nothing");
            (None, Some(file))
        }
        FileOp::Write { file, data, .. } => {
            assert!(!data.is_empty(), "a write without bytes");
            assert!(!data.has_file(), "a file is sent, not written");
            (None, Some(file))
        }
        FileOp::Truncate { file, .. } | FileOp::Sync { file } | FileOp::Metadata { file } => {
            (None, Some(file))
        }
    };
    // They panic on a handle of a simulated disk.
    let _ = (directory.map(Directory::dir_handle), file.map(File::opened));
}

fn check_path(path: &str) {
    assert!(is_beneath(path), "a path that does not lead beneath a directory: {path:?}");
}

fn check_name(name: &str) {
    check_path(name);
    assert!(!name.contains('/'), "the name of a part is one component of a path: {name:?}");
}

/// Performs an operation. It blocks.
pub(crate) fn perform(op: FileOp) -> Result<FileOutcome, Error> {
    let done = |()| FileOutcome::Done;
    match op {
        FileOp::Open { directory, path } => directory.dir_handle().open_file(&path),
        FileOp::OpenPart { directory, name } => directory.dir_handle().open_part(&name),
        FileOp::Truncate { file, bytes } => platform::truncate(file.opened(), bytes).map(done),
        FileOp::Read { file, offset, bytes, memory } => {
            let memory = read(file.opened(), offset, bytes, memory)?;
            Ok(FileOutcome::Read { memory })
        }
        FileOp::Write { file, offset, data } => {
            let bytes = platform::write(file.opened(), offset, &data)?;
            Ok(FileOutcome::Written { bytes, data })
        }
        FileOp::Sync { file } => platform::sync(file.opened()).map(done),
        FileOp::Metadata { file } => platform::metadata(file.opened()),
        FileOp::Publish { directory, part, file, path, modified_ns, executable } => {
            let publication = Publication { path: &path, modified_ns, executable };
            directory.dir_handle().publish(&part, file.opened(), &publication).map(done)
        }
        FileOp::LookUpDirectory { directory, path } => {
            directory.dir_handle().look_up_directory(&path).map(done)
        }
        FileOp::MakeDirectory { directory, path } => {
            directory.dir_handle().make_directory(&path).map(done)
        }
        FileOp::SyncName { directory, path, file } => {
            directory.dir_handle().sync_name(&path, file.opened()).map(done)
        }
        FileOp::RemovePart { directory, name, file } => {
            directory.dir_handle().remove_part(&name, file.opened()).map(done)
        }
        FileOp::ExpireParts { directory, age_ms } => {
            directory.dir_handle().expire_parts(age_ms).map(done)
        }
        FileOp::FreeParts { directory, bytes, files } => {
            let directory = directory.dir_handle();
            directory.free_parts(PartsToFree { bytes, files })?;
            directory.usage().map(FileOutcome::Usage)
        }
        FileOp::Usage { directory } => directory.dir_handle().usage().map(FileOutcome::Usage),
        FileOp::List { directory, after, max_entries, max_bytes, is_listed } => {
            let bounds = ListBounds { max_entries, max_bytes, is_listed };
            directory.dir_handle().list(&after, bounds)
        }
    }
}

/// Returns whether a file can contain these bytes. Beyond them the system's only error is
/// "invalid".
pub(crate) fn is_within_a_file(offset: u64, bytes: usize) -> bool {
    offset.checked_add(bytes as u64).is_some_and(|end| end <= MAX_OFFSET)
}

/// Returns the version of a file that was last changed at `changed_ms` (ms since 1970), or `None`
/// if that is too recent for the file system to distinguish a later change.
fn settled(version: FileVersion, changed_ms: i64) -> Option<FileVersion> {
    const SETTLED_MS: i64 = 5_000;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ns = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    (now_ns.saturating_sub(changed_ms) >= SETTLED_MS).then_some(version)
}

/// Reads at most `bytes` bytes into `memory`, which then contains no other bytes.
pub(crate) fn read(
    file: &Opened,
    offset: u64,
    bytes: usize,
    mut memory: Vec<u8>,
) -> Result<Vec<u8>, Error> {
    memory.clear();
    let reachable = MAX_OFFSET.saturating_sub(offset);
    let bytes = usize::try_from(reachable).map_or(bytes, |reachable| bytes.min(reachable));
    if bytes == 0 {
        return Ok(memory);
    }
    memory.reserve(bytes);
    let read = platform::read(file, offset, &mut memory.spare_capacity_mut()[..bytes])?;
    assert!(read <= bytes, "more bytes read than there was room for");
    // SAFETY: the system has written `read` bytes to the beginning of the slice, which is the
    // beginning of the vector.
    unsafe { memory.set_len(read) };
    Ok(memory)
}

/// The final name and attributes of a part.
struct Publication<'a> {
    path: &'a str,
    modified_ns: Option<i64>,
    /// True exactly when the owner may execute the file.
    #[cfg_attr(windows, expect(dead_code, reason = "Windows does not know of it"))]
    executable: bool,
}

/// The bytes and files that the removal of parts must still free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PartsToFree {
    bytes: u64,
    files: u64,
}

impl PartsToFree {
    fn is_reached(self) -> bool {
        self == Self { bytes: 0, files: 0 }
    }

    /// Counts a part as removed.
    fn remove(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.files = self.files.saturating_sub(1);
    }

    /// Removes parts, the oldest first, until enough is freed. `parts` has the time of the last
    /// write, the bytes and the name of each; `remove` returns whether it has removed a part.
    fn free<N: Ord>(
        mut self,
        mut parts: Vec<(i64, u64, N)>,
        mut remove: impl FnMut(&N) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mut all = self;
        for (_, bytes, _) in &parts {
            all.remove(*bytes);
        }
        if !all.is_reached() {
            return Err(Error::new(Failure::NoSpace));
        }
        parts.sort_unstable();
        for (_, bytes, name) in &parts {
            if self.is_reached() {
                break;
            }
            if remove(name)? {
                self.remove(*bytes);
            }
        }
        if self.is_reached() { Ok(()) } else { Err(Error::new(Failure::NoSpace)) }
    }
}

/// The kind of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryKind {
    File,
    Directory,
    /// An entry that is neither a regular file nor a directory: a link, a device, or anything else.
    Other,
}

/// The properties of the file or directory to which a name leads.
struct Found {
    kind: EntryKind,
    /// True exactly when the file has one name. A part with a second name is published.
    has_one_name: bool,
    metadata: Metadata,
}

impl Directory {
    /// Opens a directory of this machine. It blocks, so it is for the start of a program.
    ///
    /// # Errors
    ///
    /// The system's error, or [`NotADirectory`](io::ErrorKind::NotADirectory).
    ///
    /// # Examples
    ///
    /// ```
    /// let directory = posthouse_io::Directory::open(&std::env::temp_dir())?;
    /// let usage = directory.usage()?;
    /// println!("{} files, {} bytes", usage.files, usage.bytes);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::new(DirHandle::open(path)?))
    }

    fn dir_handle(&self) -> &DirHandle {
        self.downcast().expect("a directory of this machine, not of a simulated disk")
    }
}

impl DirectoryHandle for DirHandle {
    fn usage(&self) -> io::Result<Usage> {
        Ok(DirHandle::usage(self)?)
    }
}

impl File {
    pub(crate) fn opened(&self) -> &Opened {
        self.downcast().expect("a file of this machine, not of a simulated disk")
    }
}

impl FileHandle for Opened {}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(check: impl FnOnce() + std::panic::UnwindSafe) -> bool {
        std::panic::catch_unwind(check).is_err()
    }

    #[test]
    fn a_path_that_could_lead_elsewhere_is_a_bug_of_who_submits_it() {
        for path in ["", "/a", "a/", "a//b", ".", "..", "a/..", "a/./b", "../a", "a\0b"] {
            assert!(is_refused(|| check_path(path)), "{path:?}");
        }
        for path in ["a", "a/b", "...", ".a", "a b", "a\\..\\b", "C:"] {
            assert!(!is_refused(|| check_path(path)), "{path:?}");
        }
        assert!(is_refused(|| check_name("a/b")));
        assert!(!is_refused(|| check_name("a")));
    }
}
