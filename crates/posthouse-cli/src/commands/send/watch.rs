//! The watch of a directory: it is scanned repeatedly, and each file that appears in it is sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
#[cfg(windows)]
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::tree::{self, FoundFile, Root, TreeEntry};
use crate::transfer_client::{JobSource, NextJob};

/// The time between two scans.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// The files of a directory in the state that the last scan found.
pub(super) struct WatchedDirectory {
    root: Root,
    top: PathBuf,
    files: BTreeMap<String, KnownFile>,
    /// The entries that were reported as skipped or unsendable.
    reported: BTreeSet<PathBuf>,
    queue: VecDeque<NextJob>,
    next_scan_at: Instant,
}

/// A file in the state that the last scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KnownFile {
    bytes: u64,
    modified: Option<SystemTime>,
    state: FileState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileState {
    /// The file may still be written.
    Incomplete,
    /// Two scans found the file with this size and time, and it was queued.
    Queued,
}

impl WatchedDirectory {
    pub(super) fn new(root: Root, top: PathBuf) -> Self {
        Self {
            root,
            top,
            files: BTreeMap::new(),
            reported: BTreeSet::new(),
            queue: VecDeque::new(),
            next_scan_at: Instant::now(),
        }
    }

    /// Scans the directory. A file that has not changed since the last scan is complete, and is
    /// queued once.
    fn scan(&mut self) {
        let mut before = std::mem::take(&mut self.files);
        let mut reported_before = std::mem::take(&mut self.reported);
        let mut unsendable = 0;
        let top = std::mem::take(&mut self.top);
        tree::walk(&top, &mut |entry| match entry {
            TreeEntry::File(file) => {
                let last = before.remove(&file.path);
                self.on_file(&top, file, last);
            }
            TreeEntry::Skipped(path, why) => {
                if !reported_before.remove(path) {
                    self.queue.push_back(NextJob::Skipped(tree::shown(path), why));
                }
                self.reported.insert(path.to_owned());
            }
            // Files may appear in the directory later.
            TreeEntry::EmptyDirectory(_) => {}
            TreeEntry::Unsendable(path, why) => {
                unsendable += 1;
                if !reported_before.remove(path) {
                    self.queue.push_back(NextJob::Failed(tree::shown(path), why));
                }
                self.reported.insert(path.to_owned());
            }
        });
        self.top = top;
        if unsendable > 0 {
            // An unreadable directory may still have files that were sent. They must not be sent
            // again.
            self.files.append(&mut before);
        }
    }

    fn on_file(&mut self, top: &Path, file: FoundFile, last: Option<KnownFile>) {
        let FoundFile { path, bytes, modified } = file;
        let is_same = |last: &KnownFile| (last.bytes, last.modified) == (bytes, modified);
        let state = match last.filter(is_same).map(|last| last.state) {
            Some(FileState::Queued) => FileState::Queued,
            Some(FileState::Incomplete) if !is_being_written(&top.join(&path)) => {
                self.queue.push_back(NextJob::Job(self.root.job(&path)));
                FileState::Queued
            }
            Some(FileState::Incomplete) | None => FileState::Incomplete,
        };
        self.files.insert(path, KnownFile { bytes, modified, state });
    }
}

/// Returns true if a writer has the file open. On Windows the size of a file can be set long before
/// its bytes are written, and its time need not change before its last writer has closed it ("File
/// Times" in Microsoft's documentation).
#[cfg(windows)]
fn is_being_written(path: &Path) -> bool {
    use std::os::windows::fs::OpenOptionsExt as _;
    use windows_sys::Win32::Foundation::ERROR_SHARING_VIOLATION;
    use windows_sys::Win32::Storage::FileSystem::{FILE_SHARE_DELETE, FILE_SHARE_READ};

    let share = FILE_SHARE_READ | FILE_SHARE_DELETE;
    let opened = fs::File::options().read(true).share_mode(share).open(path);
    // Any other error will be reported when the file is sent.
    let code = opened.err().and_then(|error| error.raw_os_error());
    code.is_some_and(|code| code.cast_unsigned() == ERROR_SHARING_VIOLATION)
}

#[cfg(not(windows))]
fn is_being_written(_: &Path) -> bool {
    false
}

impl JobSource for WatchedDirectory {
    fn next(&mut self, now: Instant) -> NextJob {
        if self.queue.is_empty() && now >= self.next_scan_at {
            self.scan();
            self.next_scan_at = now + SCAN_INTERVAL;
        }
        self.queue.pop_front().unwrap_or(NextJob::NotBefore(self.next_scan_at))
    }

    fn remaining(&self) -> usize {
        let is_incomplete = |known: &&KnownFile| known.state == FileState::Incomplete;
        let incomplete = self.files.values().filter(is_incomplete).count();
        incomplete + self.queue.iter().filter(|next| matches!(next, NextJob::Job(_))).count()
    }

    fn take_unsendable(&mut self) -> Option<(String, String)> {
        let is_failed = |next: &NextJob| matches!(next, NextJob::Failed(..));
        let index = self.queue.iter().position(is_failed)?;
        match self.queue.remove(index) {
            Some(NextJob::Failed(name, why)) => Some((name, why)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::commands::send::tree::SendPath;

    /// Returns an empty directory and its watch.
    fn watched() -> (tempfile::TempDir, WatchedDirectory) {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().to_owned();
        let Ok(SendPath::Directory(root, _)) = SendPath::open(&top.join("."), None) else {
            panic!("a tree")
        };
        (directory, WatchedDirectory::new(root, top))
    }

    /// Returns the names that are queued at this time.
    fn queued_names(watch: &mut WatchedDirectory, now: Instant) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            match watch.next(now) {
                NextJob::Job(job) => names.push(job.name.into()),
                NextJob::NotBefore(_) => return names,
                other => panic!("{other:?}"),
            }
        }
    }

    #[cfg(windows)]
    #[test]
    fn a_file_that_somebody_has_open_to_write_is_not_queued() {
        let (directory, mut watch) = watched();
        let top = directory.path();
        let start = Instant::now();
        let none: [&str; 0] = [];

        fs::create_dir(top.join("deep")).unwrap();
        let writer = fs::File::create(top.join("deep").join("a")).unwrap();
        writer.set_len(1 << 20).unwrap();
        let mut scan_times = (1..).map(|second| start + second * SCAN_INTERVAL);
        let mut scan = || queued_names(&mut watch, scan_times.next().unwrap());
        assert_eq!((scan(), scan(), scan()), (vec![], vec![], vec![]));
        drop(writer);
        assert_eq!(scan(), ["deep/a"]);
        let reader = fs::File::open(top.join("deep").join("a")).unwrap();
        assert_eq!(scan(), none, "once");
        drop(reader);
    }

    #[test]
    fn a_file_is_queued_once_and_only_when_two_scans_find_it_the_same() {
        let (directory, mut watch) = watched();
        let top = directory.path();
        let start = Instant::now();
        let none: [&str; 0] = [];

        fs::write(top.join("a"), "1").unwrap();
        assert_eq!(queued_names(&mut watch, start), none, "it may still be written");
        assert_eq!(watch.remaining(), 1, "and is not sent yet");
        let mut scan_times = (1..).map(|second| start + second * SCAN_INTERVAL);
        let mut scan = || queued_names(&mut watch, scan_times.next().unwrap());
        fs::write(top.join("a"), "12").unwrap();
        assert_eq!(scan(), none, "it has grown");
        assert_eq!(scan(), ["a"]);
        assert_eq!(scan(), none, "once");
        fs::rename(top.join("a"), top.join("b")).unwrap();
        assert_eq!(scan(), none);
        assert_eq!(scan(), ["b"]);
        fs::write(top.join("b"), "other").unwrap();
        assert_eq!((scan(), scan(), scan()), (vec![], vec!["b".to_owned()], vec![]));
        assert_eq!(watch.remaining(), 0);
    }
}
