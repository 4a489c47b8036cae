//! Resolution of a path beneath an open directory.

use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::OwnedHandle;
use std::path::Path;

use windows_sys::Wdk::Storage::FileSystem as nt;
use windows_sys::Win32::Foundation::{STATUS_NOT_A_DIRECTORY, STATUS_OBJECT_NAME_COLLISION};
use windows_sys::Win32::Storage::FileSystem as fs;

use super::calls::{self, How, Status};
use super::names::WideName;
use super::{EntryKind, Found, Opened, find_out, identity, not_a_file, version};
use crate::error::Error;
use crate::file_op::{FileIdentity, FileOutcome};
use crate::fs::DirHandle;
use crate::handle::File;

/// Others may have every access at the same time.
pub(super) const SHARED: fs::FILE_SHARE_MODE =
    fs::FILE_SHARE_READ | fs::FILE_SHARE_WRITE | fs::FILE_SHARE_DELETE;
/// The access to a directory: to resolve names in it, and to list them.
const TO_WALK: fs::FILE_ACCESS_RIGHTS =
    fs::FILE_LIST_DIRECTORY | fs::FILE_TRAVERSE | fs::FILE_READ_ATTRIBUTES | fs::SYNCHRONIZE;

/// Examines an object, even one that others have open, and changes nothing.
pub(super) const TO_LOOK: How = How {
    access: fs::FILE_READ_ATTRIBUTES | fs::SYNCHRONIZE,
    share: SHARED,
    disposition: nt::FILE_OPEN,
    options: 0,
    attributes: 0,
};

/// Opens an existing directory. Calls on directories wait.
pub(super) const TO_ENTER: How = How {
    access: TO_WALK,
    options: nt::FILE_DIRECTORY_FILE | nt::FILE_SYNCHRONOUS_IO_NONALERT,
    ..TO_LOOK
};

const TO_READ: How = How {
    access: fs::FILE_GENERIC_READ,
    options: nt::FILE_NON_DIRECTORY_FILE | nt::FILE_SEQUENTIAL_ONLY,
    ..TO_LOOK
};

/// Opens a directory of this machine. Links in this path are followed, because the path is the
/// caller's own.
pub(in crate::fs) fn open_root(path: &Path) -> io::Result<OwnedHandle> {
    let mut options = std::fs::OpenOptions::new();
    options.access_mode(TO_WALK).share_mode(SHARED).custom_flags(fs::FILE_FLAG_BACKUP_SEMANTICS);
    let root = options.open(path)?;
    if root.metadata()?.is_dir() {
        Ok(root.into())
    } else {
        Err(io::ErrorKind::NotADirectory.into())
    }
}

impl DirHandle {
    /// Opens a regular file for reading.
    pub(in crate::fs) fn open_file(&self, path: &str) -> Result<FileOutcome, Error> {
        let (file, found) = self.open_beneath(path, TO_READ)?;
        if found.kind != EntryKind::File {
            return Err(not_a_file());
        }
        let identity = identity(&file).ok();
        let identity = identity.map(|(volume, file)| FileIdentity { volume, file });
        let version = version(&file);
        let file = File::new(Opened::from(file));
        let metadata = found.metadata;
        Ok(FileOutcome::Opened { file, metadata, identity, version })
    }

    /// Opens the target of a path, which may be a link. A link on the way is rejected.
    pub(super) fn open_beneath(&self, path: &str, how: How) -> Result<(OwnedHandle, Found), Error> {
        let mut inner = None;
        let mut name = path;
        while let Some((part, rest)) = name.split_once('/') {
            let from = inner.as_ref().unwrap_or(&self.root);
            inner = Some(enter_beneath(from, WideName::to_find(part)?.as_wide())?);
            name = rest;
        }
        let from = inner.as_ref().unwrap_or(&self.root);
        let file = calls::open(from, WideName::to_find(name)?.as_wide(), how)?;
        let found = find_out(&file)?;
        Ok((file, found))
    }
}

/// Opens a directory in another directory.
pub(super) fn enter_beneath(from: &OwnedHandle, name: &[u16]) -> Result<OwnedHandle, Error> {
    enter_as(from, name, TO_ENTER)?.ok_or(Status(STATUS_NOT_A_DIRECTORY).into())
}

/// Opens a directory in another directory, or creates it. Returns `None` if a file has the name.
pub(super) fn enter_as(
    from: &OwnedHandle,
    name: &[u16],
    how: How,
) -> Result<Option<OwnedHandle>, Error> {
    match calls::open(from, name, how) {
        Ok(directory) => match find_out(&directory)?.kind {
            EntryKind::Directory => Ok(Some(directory)),
            EntryKind::File | EntryKind::Other => Err(not_a_file()),
        },
        // The second error comes from a call that creates directories.
        Err(Status(STATUS_NOT_A_DIRECTORY | STATUS_OBJECT_NAME_COLLISION)) => {
            match find(from, name)? {
                Some(found) if found.kind == EntryKind::Other => Err(not_a_file()),
                _ => Ok(None),
            }
        }
        Err(status) => Err(status.into()),
    }
}

/// Returns the properties of a name's target in this directory, which may be a link, or `None` if
/// the name does not exist.
pub(super) fn find(directory: &OwnedHandle, name: &[u16]) -> Result<Option<Found>, Error> {
    match calls::open(directory, name, TO_LOOK) {
        Ok(file) => find_out(&file).map(Some),
        Err(status) if status.is_absent() => Ok(None),
        Err(status) => Err(status.into()),
    }
}
