//! A directory that is looked at again and again: what appears in it is sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
#[cfg(windows)]
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::tree::{self, Found, Root, Seen};
use crate::courier::{Manifest, Next};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is known of the files in a directory.
pub(super) struct Watch {
    root: Root,
    top: PathBuf,
    files: BTreeMap<String, Known>,
    /// What has been left out, or cannot be sent, and is told already.
    told: BTreeSet<PathBuf>,
    next: VecDeque<Next>,
    look_at: Instant,
}

/// A file, as it was at the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    bytes: u64,
    modified: Option<SystemTime>,
    /// True exactly when it was handed out so, and so was seen twice.
    handed_out: bool,
}

impl Watch {
    pub(super) fn new(root: Root, top: PathBuf) -> Self {
        Self {
            root,
            top,
            files: BTreeMap::new(),
            told: BTreeSet::new(),
            next: VecDeque::new(),
            look_at: Instant::now(),
        }
    }

    /// Looks: what is as it was the last time is complete, and is handed out once.
    fn look(&mut self) {
        let mut before = std::mem::take(&mut self.files);
        let mut told_before = std::mem::take(&mut self.told);
        let mut could_not_see = false;
        let top = std::mem::take(&mut self.top);
        tree::walk(&top, &mut |seen| match seen {
            Seen::File(found) => {
                let last = before.remove(&found.path);
                self.see(&top, found, last);
            }
            Seen::Skipped(path, why) => {
                if !told_before.remove(path) {
                    self.next.push_back(Next::Skipped(tree::shown(path), why));
                }
                self.told.insert(path.to_owned());
            }
            // It is there for what is to appear in it.
            Seen::Empty(_) => {}
            Seen::Unsendable(path, why) => {
                could_not_see = true;
                if !told_before.remove(path) {
                    self.next.push_back(Next::Failed(tree::shown(path), why));
                }
                self.told.insert(path.to_owned());
            }
        });
        self.top = top;
        if could_not_see {
            // They may still be there, and were sent.
            self.files.append(&mut before);
        }
    }

    fn see(&mut self, top: &Path, found: Found, last: Option<Known>) {
        let Found { path, bytes, modified } = found;
        let is_same = |last: &Known| (last.bytes, last.modified) == (bytes, modified);
        let is_complete = match last.filter(is_same) {
            Some(last) if last.handed_out => true,
            Some(_) if !is_being_written(&top.join(&path)) => {
                self.next.push_back(Next::Parcel(self.root.parcel(&path)));
                true
            }
            _ => false,
        };
        self.files.insert(path, Known { bytes, modified, handed_out: is_complete });
    }
}

/// Whether somebody has the file open to write to it. Asked on Windows, where the time of a file
/// need not change before its last writer has closed it ("File Times" in Microsoft's
/// documentation), and a size can be there long before its bytes.
#[cfg(windows)]
fn is_being_written(path: &Path) -> bool {
    use std::os::windows::fs::OpenOptionsExt as _;
    use windows_sys::Win32::Foundation::ERROR_SHARING_VIOLATION;
    use windows_sys::Win32::Storage::FileSystem::{FILE_SHARE_DELETE, FILE_SHARE_READ};

    let share = FILE_SHARE_READ | FILE_SHARE_DELETE;
    let opened = fs::File::options().read(true).share_mode(share).open(path);
    // Whatever else is in the way is told by who sends it.
    let code = opened.err().and_then(|error| error.raw_os_error());
    code.is_some_and(|code| code.cast_unsigned() == ERROR_SHARING_VIOLATION)
}

#[cfg(not(windows))]
fn is_being_written(_: &Path) -> bool {
    false
}

impl Manifest for Watch {
    fn next(&mut self, now: Instant) -> Next {
        if self.next.is_empty() && now >= self.look_at {
            self.look();
            self.look_at = now + LOOK_EVERY;
        }
        self.next.pop_front().unwrap_or(Next::At(self.look_at))
    }

    fn left(&self) -> usize {
        let seen_once = self.files.values().filter(|known| !known.handed_out).count();
        seen_once + self.next.iter().filter(|next| matches!(next, Next::Parcel(_))).count()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::send::tree::Start;

    /// An empty directory, and who watches it.
    fn watched() -> (tempfile::TempDir, Watch) {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().to_owned();
        let Ok(Start::Tree(root, _)) = Start::find(&top.join("."), None) else { panic!("a tree") };
        (directory, Watch::new(root, top))
    }

    /// The names that a look at this moment hands out.
    fn handed_out(watch: &mut Watch, now: Instant) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            match watch.next(now) {
                Next::Parcel(parcel) => names.push(parcel.name.into()),
                Next::At(_) => return names,
                other => panic!("{other:?}"),
            }
        }
    }

    #[cfg(windows)]
    #[test]
    fn a_file_that_somebody_has_open_to_write_is_not_handed_out() {
        let (directory, mut watch) = watched();
        let (top, start) = (directory.path(), Instant::now());
        let none: [&str; 0] = [];

        fs::create_dir(top.join("deep")).unwrap();
        let writer = fs::File::create(top.join("deep").join("a")).unwrap();
        writer.set_len(1 << 20).unwrap();
        let mut looks = (1..).map(|second| start + second * LOOK_EVERY);
        let mut look = || handed_out(&mut watch, looks.next().unwrap());
        assert_eq!((look(), look(), look()), (vec![], vec![], vec![]));
        drop(writer);
        assert_eq!(look(), ["deep/a"]);
        let reader = fs::File::open(top.join("deep").join("a")).unwrap();
        assert_eq!(look(), none, "once");
        drop(reader);
    }

    #[test]
    fn a_file_is_handed_out_once_and_only_when_two_looks_find_it_the_same() {
        let (directory, mut watch) = watched();
        let (top, start) = (directory.path(), Instant::now());
        let none: [&str; 0] = [];

        fs::write(top.join("a"), "1").unwrap();
        assert_eq!(handed_out(&mut watch, start), none, "it may still be written");
        assert_eq!(watch.left(), 1, "and is not sent yet");
        let mut looks = (1..).map(|second| start + second * LOOK_EVERY);
        let mut look = || handed_out(&mut watch, looks.next().unwrap());
        fs::write(top.join("a"), "12").unwrap();
        assert_eq!(look(), none, "it has grown");
        assert_eq!(look(), ["a"]);
        assert_eq!(look(), none, "once");
        fs::rename(top.join("a"), top.join("b")).unwrap();
        assert_eq!(look(), none);
        assert_eq!(look(), ["b"]);
        fs::write(top.join("b"), "other").unwrap();
        assert_eq!((look(), look(), look()), (vec![], vec!["b".to_owned()], vec![]));
        assert_eq!(watch.left(), 0);
    }
}
