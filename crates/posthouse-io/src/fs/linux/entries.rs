//! The entries of a directory.

use std::os::fd::OwnedFd;

use rustix::fs::{Dir, DirEntry, FileType, OFlags, Stat};
use rustix::io::Errno;
use rustix::path::Arg;

use super::opening::{beneath, stat_of};
use super::{kind_of, metadata_of};
use crate::error::Error;
use crate::file_op::PARTS_DIRECTORY;
use crate::fs::{EntryKind, Found};

/// An entry of a directory.
pub(in crate::fs) struct Entry<'a> {
    directory: &'a OwnedFd,
    entry: &'a DirEntry,
}

impl Entry<'_> {
    /// Returns the name of the entry; `None` if it is not valid UTF-8.
    pub(in crate::fs) fn text(&self) -> Option<&str> {
        self.entry.file_name().to_str().ok()
    }

    /// Returns the kind of the entry. Not every file system reports it with the name; then the
    /// entry is examined.
    pub(in crate::fs) fn kind(&self) -> Result<EntryKind, Error> {
        Ok(match self.entry.file_type() {
            FileType::Unknown => self.look()?.map_or(EntryKind::Other, |found| found.kind),
            kind => kind_of(kind),
        })
    }

    pub(in crate::fs) fn look(&self) -> Result<Option<Found>, Error> {
        unless_closed(stat_of(self.directory, self.entry.file_name()))
    }

    pub(in crate::fs) fn enter(&self) -> Result<Option<OwnedFd>, Error> {
        enter_named(self.directory, self.entry.file_name())
    }
}

/// Opens a directory again, to walk it.
pub(in crate::fs) fn walkable(directory: &OwnedFd) -> Result<OwnedFd, Error> {
    Ok(beneath(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY)?)
}

/// Calls `each` with every entry of a directory. Returns false if the directory has been removed,
/// or may not be searched. A directory that may only be read shows nothing but names.
pub(in crate::fs) fn each_entry(
    directory: &OwnedFd,
    mut each: impl FnMut(&Entry<'_>) -> Result<(), Error>,
) -> Result<bool, Error> {
    let entries = match Dir::read_from(directory) {
        Err(Errno::NOENT | Errno::ACCESS | Errno::PERM) => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        let entry = match entry {
            // The directory has been removed.
            Err(Errno::NOENT) => return Ok(false),
            entry => entry?,
        };
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            each(&Entry { directory, entry: &entry })?;
        }
    }
    Ok(true)
}

/// Returns the properties of a name's target in this directory, or `None` if the name does not
/// exist, or may not be examined.
pub(in crate::fs) fn look(directory: &OwnedFd, name: &str) -> Result<Option<Found>, Error> {
    unless_closed(stat_of(directory, name))
}

/// Opens a directory to walk it. Returns `None` if the name is no longer a directory, or may not be
/// read.
pub(in crate::fs) fn enter(directory: &OwnedFd, name: &str) -> Result<Option<OwnedFd>, Error> {
    enter_named(directory, name)
}

fn enter_named(directory: &OwnedFd, name: impl Arg + Copy) -> Result<Option<OwnedFd>, Error> {
    match beneath(directory, name, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(inner) => Ok(Some(inner)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::PERM) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns whether a name in the root directory is that of the directory of parts, which listings
/// leave out.
pub(in crate::fs) fn is_parts_directory(name: &str) -> bool {
    name == PARTS_DIRECTORY
}

/// Replaces the error for an object that may not be examined with `None`: a walk omits such
/// objects.
fn unless_closed(looked: Result<Option<Stat>, Errno>) -> Result<Option<Found>, Error> {
    match looked {
        Err(Errno::ACCESS | Errno::PERM) => Ok(None),
        looked => Ok(looked?.map(|stat| found(&stat))),
    }
}

fn found(stat: &Stat) -> Found {
    Found {
        kind: kind_of(FileType::from_raw_mode(stat.st_mode)),
        has_one_name: stat.st_nlink == 1,
        metadata: metadata_of(stat),
    }
}
