//! The entries of a directory.

use std::os::windows::io::OwnedHandle;

use super::names::WideName;
use super::opening::{TO_ENTER, enter_beneath, find};
use super::{calls, kind_of};
use crate::error::{Error, Failure};
use crate::file_op::PARTS_DIRECTORY;
use crate::fs::{EntryKind, Found};

/// An entry of a directory.
pub(in crate::fs) struct Entry<'a> {
    directory: &'a OwnedHandle,
    name: &'a [u16],
    text: Option<String>,
    kind: EntryKind,
}

impl Entry<'_> {
    /// Returns the name if it is valid Unicode. It can be an invalid name for this crate, under
    /// which nothing can be opened.
    pub(in crate::fs) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Returns the kind.
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it has to be found out")]
    pub(in crate::fs) fn kind(&self) -> Result<EntryKind, Error> {
        Ok(self.kind)
    }

    /// Opens the file to examine it. The directory's own data is unreliable: the length of a file
    /// that is being written, or that has other names, is updated late.
    pub(in crate::fs) fn look(&self) -> Result<Option<Found>, Error> {
        unless_closed(find(self.directory, self.name)).map(Option::flatten)
    }

    pub(in crate::fs) fn enter(&self) -> Result<Option<OwnedHandle>, Error> {
        unless_closed(enter_beneath(self.directory, self.name))
    }
}

/// Opens a directory again, to walk it: each handle has one position in the list of names.
pub(in crate::fs) fn walkable(directory: &OwnedHandle) -> Result<OwnedHandle, Error> {
    Ok(calls::open(directory, &[], TO_ENTER)?)
}

/// Calls `each` with every entry of a directory except `.` and `..`. Returns false if the directory
/// has been removed, or may not be read.
pub(in crate::fs) fn each_entry(
    directory: &OwnedHandle,
    mut each: impl FnMut(&Entry<'_>) -> Result<(), Error>,
) -> Result<bool, Error> {
    let dot = u16::from(b'.');
    let walked = calls::each_name(directory, |name, attributes| {
        if matches!(name, [it] | [it, _] if *it == dot) && name.iter().all(|unit| *unit == dot) {
            return Ok(());
        }
        let text = String::from_utf16(name).ok();
        each(&Entry { directory, name, text, kind: kind_of(attributes) })
    });
    match walked {
        // The second error is also returned for a removed directory while others have it open.
        Err(Error { failure: Failure::NotFound | Failure::Denied, .. }) => Ok(false),
        walked => walked.map(|()| true),
    }
}

/// Returns the properties of a name's target in this directory, or `None` if the name does not
/// exist.
pub(in crate::fs) fn look(directory: &OwnedHandle, name: &str) -> Result<Option<Found>, Error> {
    let name = WideName::to_find(name);
    unless_closed(name.and_then(|name| find(directory, name.as_wide()))).map(Option::flatten)
}

/// Opens a directory to walk it. Returns `None` if the name is no longer a directory, or may not be
/// read.
pub(in crate::fs) fn enter(
    directory: &OwnedHandle,
    name: &str,
) -> Result<Option<OwnedHandle>, Error> {
    unless_closed(WideName::to_find(name).and_then(|name| enter_beneath(directory, name.as_wide())))
}

/// Returns whether a name in the root is that of the directory of parts, in any case.
pub(in crate::fs) fn is_parts_directory(name: &str) -> bool {
    name.eq_ignore_ascii_case(PARTS_DIRECTORY)
}

/// Replaces the error for an object that may not be examined, or that has vanished, with `None`: a
/// walk omits such objects. Some files of the system itself cannot even be examined.
pub(super) fn unless_closed<T>(looked: Result<T, Error>) -> Result<Option<T>, Error> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.failure {
            Failure::NotFound | Failure::NotAFile | Failure::Denied | Failure::Locked => Ok(None),
            _ => Err(error),
        },
    }
}
