//! Publishing: a part gets its final name, whole or not at all.
//!
//! If the file system supports several names per file (NTFS, ReFS), the part gets an additional
//! name and loses its own later. Otherwise (FAT, exFAT) the final name replaces its own.
//!
//! The guarantee of Windows for names: NTFS and ReFS write changes of names into a journal, in
//! their order, and flushing a directory or a file writes the journal. FAT and exFAT have no
//! journal.

use std::os::windows::io::OwnedHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use windows_sys::Wdk::Storage::FileSystem as nt;
use windows_sys::Win32::Foundation::STATUS_INVALID_PARAMETER;
use windows_sys::Win32::Storage::FileSystem as fs;

use super::calls::{self, How, Status};
use super::names::WideName;
use super::opening::{TO_ENTER, TO_LOOK, enter_as, find};
use super::room::to_grow;
use super::{Opened, identity, steps_of, sync};
use crate::error::{Error, Failure};
use crate::fs::{DirHandle, Entered, Publication};

const TO_MAKE: How =
    How { disposition: nt::FILE_OPEN_IF, attributes: fs::FILE_ATTRIBUTE_NORMAL, ..TO_ENTER };

/// Opens a directory to flush it.
pub(super) const TO_FLUSH: How = How { access: TO_ENTER.access | fs::FILE_ADD_FILE, ..TO_ENTER };

/// Opens a file to flush it.
const TO_FLUSH_FILE: How = How { access: TO_LOOK.access | fs::FILE_APPEND_DATA, ..TO_LOOK };

/// The times that FAT and exFAT can represent in every time zone: a day from either end, because
/// they count in local time.
const FAT_FROM_NS: i64 = 315_619_200_000_000_000;
const FAT_TO_NS: i64 = 4_354_732_800_000_000_000;

impl DirHandle {
    /// Gives the open file of a part its final name, and returns when the name is on the disk, as
    /// far as the system reports. It never replaces anything.
    pub(in crate::fs) fn publish(
        &self,
        _part: &str,
        file: &Opened,
        publication: &Publication<'_>,
    ) -> Result<(), Error> {
        // Checked before any directory is created.
        for part in publication.path.split('/') {
            WideName::to_make(part)?;
        }
        let (parents, name) = match publication.path.rsplit_once('/') {
            Some((parents, name)) => (self.open_parents(parents)?, name),
            None => (Vec::new(), publication.path),
        };
        let directory = parents.last().map_or(&self.root, |component| &component.directory);
        let name = WideName::to_make(name)?;
        if find(directory, name.as_wide())?.is_some() {
            // Linking would report it, too, but this way a part that is not published stays
            // unchanged.
            return Err(Error::new(Failure::Exists));
        }
        if has_no_name(file)? {
            return Err(Error::new(Failure::NotFound));
        }
        finish(file, publication)?;
        link(file, directory, &name)?;
        self.sync_parents(parents)?;
        // This writes the journal even if a directory cannot be flushed.
        sync(file)
    }

    /// Waits until the file is on the disk under the name under which it was found.
    pub(in crate::fs) fn sync_name(&self, path: &str, file: &Opened) -> Result<(), Error> {
        // A file that was opened for reading cannot be flushed.
        let to_flush = self.open_beneath(path, TO_FLUSH_FILE);
        let can_flush = to_flush.is_ok();
        let (found, _) = match to_flush {
            // Its publisher still has it open, and has flushed it before giving it the name; or
            // nobody may write to it, and then nobody can flush it.
            Err(Error { failure: Failure::Locked | Failure::Denied, .. }) => {
                self.open_beneath(path, TO_LOOK)?
            }
            opened => opened?,
        };
        if identity(&found)? != identity(&file.handle)? {
            return Err(Error::new(Failure::NotFound));
        }
        match path.rsplit_once('/') {
            Some((parents, _)) => self.sync_parents(self.open_parents(parents)?)?,
            None => self.sync_parents(Vec::new())?,
        }
        if can_flush { calls::flush(&found) } else { Ok(()) }
    }
}

/// Opens a directory; creates it if it does not exist.
pub(in crate::fs) fn enter_or_make(from: &OwnedHandle, name: &str) -> Result<Entered, Error> {
    let name = WideName::to_make(name)?;
    let (entered, is_new) = match enter_as(from, name.as_wide(), TO_ENTER) {
        // Another process may create it first; then nobody has waited for its name either.
        Err(Error { failure: Failure::NotFound, .. }) => {
            (enter_as(from, name.as_wide(), TO_MAKE).map_err(to_grow)?, true)
        }
        entered => (entered?, false),
    };
    let directory = entered.ok_or(Error::new(Failure::Exists))?;
    Ok(Entered { directory, is_new })
}

/// Checks that a path leads to a directory, and through no link.
pub(in crate::fs) fn check_directory(root: &OwnedHandle, path: &str) -> Result<(), Error> {
    let mut inner = None;
    for part in path.split('/') {
        let name = WideName::to_make(part)?;
        let from = inner.as_ref().unwrap_or(root);
        if find(from, name.as_wide())?.is_none() {
            return Err(Error::new(Failure::NotFound));
        }
        let entered = enter_as(from, name.as_wide(), TO_ENTER)?;
        inner = Some(entered.ok_or(Error::new(Failure::Exists))?);
    }
    Ok(())
}

/// Sets the attributes that a file must have before others can see it, and syncs it.
fn finish(file: &Opened, publication: &Publication<'_>) -> Result<(), Error> {
    let modified_ns = publication.modified_ns.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
    });
    set_nearest(modified_ns, |steps| calls::set_modified(&file.handle, steps))?;
    sync(file)
}

/// Sets the nearest time that the file system can represent, or none if it rejects that, too.
fn set_nearest(ns: i64, set: impl Fn(i64) -> Result<(), Status>) -> Result<(), Status> {
    let invalid = Err(Status(STATUS_INVALID_PARAMETER));
    match set(steps_of(ns)) {
        // FAT and exFAT count from 1980 to 2107. The content is complete, so the file is published
        // without its time.
        refused if refused == invalid => match set(steps_of(ns.clamp(FAT_FROM_NS, FAT_TO_NS))) {
            refused if refused == invalid => Ok(()),
            set => set,
        },
        set => set,
    }
}

/// Gives exactly the open file the name, whatever the part's name leads to now.
pub(super) fn link(file: &Opened, directory: &OwnedHandle, name: &WideName) -> Result<(), Error> {
    let mut linked = calls::link(&file.handle, directory, name.as_wide());
    if linked.is_err_and(Status::is_unknown) {
        linked = calls::rename(&file.handle, directory, name.as_wide());
    }
    match linked {
        Ok(()) => Ok(()),
        Err(status) if has_no_name(file)? => {
            Err(Error { failure: Failure::NotFound, ..status.into() })
        }
        Err(status) => Err(to_grow(status.into())),
    }
}

/// Returns whether a file has lost its last name, after which it cannot get another.
fn has_no_name(file: &Opened) -> Result<bool, Error> {
    let standard: fs::FILE_STANDARD_INFO = calls::ask(&file.handle)?;
    Ok(standard.DeletePending || standard.NumberOfLinks == 0)
}

/// Waits until the names in a directory are on the disk, if the file system allows it: some do not
/// flush directories, and none flushes a directory in which this process may not create files.
pub(in crate::fs) fn sync_directory(directory: &OwnedHandle) -> Result<(), Error> {
    let flushed = calls::open(directory, &[], TO_FLUSH).map_err(Error::from);
    match flushed.and_then(|directory| calls::flush(&directory)) {
        Err(error @ Error { failure: Failure::Disk | Failure::NoSpace, .. }) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use windows_sys::Win32::Foundation::STATUS_DISK_FULL;

    use super::super::ns_of;
    use super::*;

    const FROM_1980_NS: i64 = 315_532_800_000_000_000;
    const TO_2108_NS: i64 = 4_354_819_200_000_000_000;

    #[test]
    fn a_file_system_gets_the_nearest_time_that_it_has() {
        let on_fat = |ns| {
            let has = RefCell::new(None);
            let result = set_nearest(ns, |steps| match ns_of(steps) {
                ns @ FROM_1980_NS..TO_2108_NS => {
                    *has.borrow_mut() = Some(ns);
                    Ok(())
                }
                _ => Err(Status(STATUS_INVALID_PARAMETER)),
            });
            (result, has.into_inner())
        };
        let day_ns = 86_400_000_000_000;
        for (ns, nearest) in [
            (i64::MIN, FROM_1980_NS + day_ns),
            (0, FROM_1980_NS + day_ns),
            (FROM_1980_NS, FROM_1980_NS),
            (1_700_000_000_123_456_700, 1_700_000_000_123_456_700),
            (TO_2108_NS, TO_2108_NS - day_ns),
            (i64::MAX, TO_2108_NS - day_ns),
        ] {
            assert_eq!(on_fat(ns), (Ok(()), Some(nearest)), "{ns}");
        }
    }

    #[test]
    fn a_time_that_no_call_sets_keeps_no_file_from_its_name() {
        assert_eq!(set_nearest(0, |_| Err(Status(STATUS_INVALID_PARAMETER))), Ok(()));
        let full = Status(STATUS_DISK_FULL);
        assert_eq!(set_nearest(0, |_| Err(full)), Err(full), "another failure is one");
    }
}
