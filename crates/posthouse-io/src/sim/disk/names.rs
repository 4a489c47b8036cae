//! The names of files: their present state, and their state after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::error::Failure;
use crate::file_op::PARTS_DIRECTORY;
use crate::sim::random::Random;

/// The identity of a file, which names lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inode(pub(super) u64);

/// The target of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    File(Inode),
    Directory,
}

/// All paths of a disk.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The present names.
    now: Tree,
    /// The names that are certainly on the disk.
    synced: Tree,
    /// The changes that lead from `synced` to `now`, in order.
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug, Default)]
struct Tree {
    files: BTreeMap<Box<str>, Inode>,
    directories: BTreeSet<Box<str>>,
}

#[derive(Debug)]
enum Change {
    Made(Box<str>),
    Linked(Box<str>, Inode),
    Unlinked(Box<str>),
}

impl Change {
    fn path(&self) -> &str {
        match self {
            Self::Made(path) | Self::Linked(path, _) | Self::Unlinked(path) => path,
        }
    }
}

/// Returns the directories of a path, from the outermost on.
fn way(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

impl Tree {
    /// Applies a change. Returns false if a directory of its path does not exist.
    fn apply(&mut self, change: &Change) -> bool {
        if !way(change.path()).all(|directory| self.directories.contains(directory)) {
            return false;
        }
        match change {
            Change::Made(path) => {
                self.directories.insert(path.clone());
            }
            Change::Linked(path, inode) => {
                self.files.insert(path.clone(), *inode);
            }
            Change::Unlinked(path) => {
                self.files.remove(path);
            }
        }
        true
    }
}

impl Names {
    pub(super) fn look(&self, path: &str) -> Option<Found> {
        let file = self.now.files.get(path).map(|inode| Found::File(*inode));
        file.or_else(|| self.now.directories.contains(path).then_some(Found::Directory))
    }

    /// Returns whether a file has the name of one of the directories of a path.
    pub(super) fn is_blocked(&self, path: &str) -> bool {
        way(path).any(|directory| self.now.files.contains_key(directory))
    }

    /// Returns all files, in the byte order of their paths.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, Inode)> {
        self.now.files.iter().map(|(path, inode)| (&**path, *inode))
    }

    /// Returns the files whose paths come after this one, or all if it is empty.
    pub(super) fn files_after(&self, path: &str) -> impl Iterator<Item = (&str, Inode)> {
        let after = if path.is_empty() { Bound::Unbounded } else { Bound::Excluded(path) };
        let range = self.now.files.range::<str, _>((after, Bound::Unbounded));
        range.map(|(path, inode)| (&**path, *inode))
    }

    /// Returns the paths of a file.
    pub(super) fn of(&self, inode: Inode) -> impl Iterator<Item = &str> {
        self.files().filter(move |(_, other)| *other == inode).map(|(path, _)| path)
    }

    /// Returns the number of directories that contain nothing.
    pub(super) fn empty_directories(&self) -> u64 {
        let is_empty = |directory: &&str| {
            let inside = format!("{directory}/");
            let from = (Bound::Included(&*inside), Bound::Unbounded);
            let mut others = self.now.directories.range::<str, _>(from);
            let mut files = self.now.files.range::<str, _>(from);
            !others.next().is_some_and(|it| it.starts_with(&inside))
                && !files.next().is_some_and(|(it, _)| it.starts_with(&inside))
        };
        let directories = self.now.directories.iter().map(|directory| &**directory);
        let finals = directories.filter(|directory| *directory != PARTS_DIRECTORY);
        finals.filter(is_empty).count() as u64
    }

    /// Creates the missing directories of a path.
    pub(super) fn make_way(&mut self, path: &str) -> Result<(), Failure> {
        for directory in way(path) {
            match self.look(directory) {
                Some(Found::Directory) => {}
                Some(Found::File(_)) => return Err(Failure::Exists),
                None => self.change(Change::Made(directory.into())),
            }
        }
        Ok(())
    }

    /// Gives a file a path, which must be free and whose directories must exist.
    pub(super) fn link(&mut self, path: &str, inode: Inode) {
        self.change(Change::Linked(path.into(), inode));
    }

    pub(super) fn unlink(&mut self, path: &str) {
        self.change(Change::Unlinked(path.into()));
    }

    fn change(&mut self, change: Change) {
        assert!(self.now.apply(&change), "the way to {:?} is there", change.path());
        self.unsynced.push(change);
    }

    /// Syncs the changes of a path and of its directories.
    pub(super) fn sync(&mut self, path: &str) {
        let concerns = |change: &mut Change| {
            let other = change.path();
            path == other || way(path).any(|directory| directory == other)
        };
        for change in self.unsynced.extract_if(.., concerns) {
            assert!(self.synced.apply(&change), "a directory is synced before what is in it");
        }
    }

    pub(super) fn sync_all(&mut self) {
        self.unsynced.clear();
        self.synced.clone_from(&self.now);
    }

    /// Keeps or loses each unsynced change. Returns the number of lost changes.
    pub(super) fn crash(&mut self, random: &mut Random) -> u64 {
        let mut lost = 0;
        for change in std::mem::take(&mut self.unsynced) {
            let kept = random.coin() && self.synced.apply(&change);
            lost += u64::from(!kept);
        }
        self.now.clone_from(&self.synced);
        lost
    }

    /// Returns the files that have a path now, or could have one after a crash.
    pub(super) fn reachable(&self) -> BTreeSet<Inode> {
        let linked = self.unsynced.iter().filter_map(|change| match change {
            Change::Linked(_, inode) => Some(inode),
            Change::Made(_) | Change::Unlinked(_) => None,
        });
        self.now.files.values().chain(self.synced.files.values()).chain(linked).copied().collect()
    }
}
