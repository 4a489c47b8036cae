//! Walks of all that lies beneath a directory.
//!
//! A walk sees what is there when it comes by: what vanishes meanwhile is left out, and so is what
//! may not be read. No link is followed.

use std::collections::BinaryHeap;
use std::os::fd::OwnedFd;

use rustix::fs::{Dir, DirEntry, FileType, OFlags};
use rustix::io::Errno;
use rustix::path::Arg;

use super::folder::{Folder, beneath, look};
use super::{is_regular, metadata};
use crate::error::Error;
use crate::file::{FileEntry, FileOutcome, PARTS_DIRECTORY, Usage};

/// Directories one beneath the other that are walked; a deeper one is left out. Each is open while
/// those in it are walked.
const DEPTH_MAX: usize = 64;
/// Names of a directory that are held and sorted at a time: a larger one is read several times.
const BATCH: usize = 4096;

impl Folder {
    /// Lists regular files in the order of their paths' bytes.
    pub(super) fn list(&self, after: &str, entries_max: usize) -> Result<FileOutcome, Error> {
        let mut list = List { after, entries_max, entries: Vec::new(), more: false };
        let root = beneath(&self.root, ".", OFlags::RDONLY | OFlags::DIRECTORY)?;
        list.directory(&root, &mut String::new(), 1)?;
        Ok(FileOutcome::Listed { entries: list.entries, more: list.more })
    }

    /// Adds all regular files up.
    pub(super) fn add_up(&self, usage: &mut Usage) -> Result<(), Errno> {
        let root = beneath(&self.root, ".", OFlags::RDONLY | OFlags::DIRECTORY)?;
        add_up(&root, usage, (1, false))
    }
}

/// Adds up what is in a directory. A part that has its final name already is counted there.
fn add_up(
    directory: &OwnedFd,
    usage: &mut Usage,
    (depth, unfinished): (usize, bool),
) -> Result<(), Errno> {
    each_name(directory, |entry| {
        let name = entry.file_name();
        match kind(directory, entry)? {
            FileType::RegularFile => {
                if let Some(stat) = look(directory, name)?
                    && (!unfinished || stat.st_nlink == 1)
                {
                    usage.files += 1;
                    usage.bytes = usage.bytes.saturating_add(metadata(&stat).bytes);
                }
            }
            FileType::Directory if depth < DEPTH_MAX => {
                if let Some(inner) = enter(directory, name)? {
                    let parts = depth == 1 && name.to_bytes() == PARTS_DIRECTORY.as_bytes();
                    add_up(&inner, usage, (depth + 1, unfinished || parts))?;
                }
            }
            _ => {}
        }
        Ok(())
    })
}

/// A list as it grows.
struct List<'a> {
    after: &'a str,
    entries_max: usize,
    entries: Vec<FileEntry>,
    more: bool,
}

impl List<'_> {
    /// Lists what lies in a directory. `path` is empty, or ends with `/`.
    fn directory(
        &mut self,
        directory: &OwnedFd,
        path: &mut String,
        depth: usize,
    ) -> Result<(), Errno> {
        let start = path.len();
        let mut last = String::new();
        loop {
            let names = self.names(directory, path, &last)?;
            let whole = names.len() < BATCH;
            for name in names {
                path.push_str(&name);
                self.name(directory, &name, path, depth)?;
                path.truncate(start);
                if self.more {
                    return Ok(());
                }
                last = name;
            }
            if whole {
                return Ok(());
            }
        }
    }

    /// The first names in a directory, in order, that come after `last` and have to do with the
    /// list. A directory's ends with `/`: paths are ordered as wholes, and `a-b` comes before
    /// `a/b`.
    fn names(&self, directory: &OwnedFd, path: &str, last: &str) -> Result<Vec<String>, Errno> {
        // What `after` says here; where it says nothing, all of this directory comes after it.
        let after = self.after.strip_prefix(path).unwrap_or_default();
        let mut first = BinaryHeap::new();
        each_name(directory, |entry| {
            let Ok(name) = entry.file_name().to_str() else { return Ok(()) };
            if path.is_empty() && name == PARTS_DIRECTORY {
                return Ok(());
            }
            let name = match kind(directory, entry)? {
                FileType::RegularFile => name.to_owned(),
                FileType::Directory => format!("{name}/"),
                _ => return Ok(()),
            };
            let holds_what_follows = name.ends_with('/') && after.starts_with(&*name);
            if *name > *last && (*name > *after || holds_what_follows) {
                first.push(name);
                if first.len() > BATCH {
                    first.pop();
                }
            }
            Ok(())
        })?;
        Ok(first.into_sorted_vec())
    }

    /// Lists a file, or what lies in a directory.
    fn name(
        &mut self,
        directory: &OwnedFd,
        name: &str,
        path: &mut String,
        depth: usize,
    ) -> Result<(), Errno> {
        if let Some(name) = name.strip_suffix('/') {
            if depth < DEPTH_MAX
                && let Some(inner) = enter(directory, name)?
            {
                self.directory(&inner, path, depth + 1)?;
            }
            return Ok(());
        }
        match look(directory, name)? {
            Some(stat) if is_regular(&stat) => {
                self.more = self.entries.len() == self.entries_max;
                if !self.more {
                    let path = path.as_str().into();
                    self.entries.push(FileEntry { path, metadata: metadata(&stat) });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Calls `each` with everything that has a name in a directory.
fn each_name(
    directory: &OwnedFd,
    mut each: impl FnMut(&DirEntry) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let entries = match Dir::read_from(directory) {
        Err(Errno::NOENT) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = match entry {
            // The directory has been removed.
            Err(Errno::NOENT) => return Ok(()),
            entry => entry?,
        };
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            each(&entry)?;
        }
    }
    Ok(())
}

/// What it is. Not every file system says so with the name.
fn kind(directory: &OwnedFd, entry: &DirEntry) -> Result<FileType, Errno> {
    match entry.file_type() {
        FileType::Unknown => {
            let stat = look(directory, entry.file_name())?;
            Ok(stat.map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)))
        }
        kind => Ok(kind),
    }
}

/// Opens a directory to walk it, unless it is none any more or may not be read.
fn enter(directory: &OwnedFd, name: impl Arg + Copy) -> Result<Option<OwnedFd>, Errno> {
    match beneath(directory, name, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(inner) => Ok(Some(inner)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::PERM) => Ok(None),
        Err(errno) => Err(errno),
    }
}
