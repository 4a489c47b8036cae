//! File operations on Windows.
//!
//! Each component of a path is opened separately, beneath the handle of its directory, and without
//! following reparse points, which redirect the system to another place (links, junctions, and data
//! that file systems and cloud services store elsewhere). A reparse point of any kind is rejected.
//!
//! Files are opened for overlapped reads and writes, so that a completion port can perform them;
//! the calls in this folder wait for each. Names differ in more than case, as usual on Windows,
//! unless the directory is configured otherwise. Windows has no permission to execute, so
//! `executable` has no effect. The system may update a file's modification time only when its
//! writer closes the file.
//!
//! | file | content |
//! |---|---|
//! | `calls` | the system's calls behind a safe interface |
//! | `names` | valid names, and their form for the system |
//! | `opening` | resolving a path beneath a directory |
//! | `parts` | unfinished files: their directory, their locks, their expiry |
//! | `publishing` | giving a part its final name |
//! | `room` | the errors that mean a full disk |
//! | `waiting` | files whose reads and writes wait for the disk, overlapped or not |
//! | `entries` | the entries of a directory |

mod calls;
mod entries;
mod names;
mod opening;
mod parts;
mod publishing;
mod room;
mod waiting;

use std::mem::MaybeUninit;
use std::os::windows::io::OwnedHandle;
use std::sync::OnceLock;

use windows_sys::Win32::Foundation::{
    ERROR_FILE_TOO_LARGE, ERROR_INVALID_PARAMETER, STATUS_DELETE_PENDING,
    STATUS_DIRECTORY_NOT_EMPTY, STATUS_FILE_IS_A_DIRECTORY, STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_INFO_CLASS, STATUS_INVALID_PARAMETER, STATUS_NO_SUCH_FILE,
    STATUS_NOT_A_DIRECTORY, STATUS_NOT_IMPLEMENTED, STATUS_NOT_SUPPORTED,
    STATUS_OBJECT_NAME_NOT_FOUND, STATUS_OBJECT_PATH_NOT_FOUND, STATUS_REPARSE_POINT_ENCOUNTERED,
    STATUS_STOPPED_ON_SYMLINK, WIN32_ERROR,
};
use windows_sys::Win32::Storage::FileSystem as fs;

use self::calls::Status;
pub(super) use self::entries::{each_entry, enter, is_parts_directory, look, walkable};
pub(super) use self::opening::open_root;
pub(super) use self::publishing::{check_directory, enter_or_make, sync_directory};
use self::room::to_grow;
use super::{EntryKind, Found, MAX_OFFSET, MAX_SEGMENTS, is_within_a_file, settled};
use crate::error::{Error, Failure};
use crate::file_op::{FileOutcome, FileVersion, Metadata};
use crate::gather::Gather;
use crate::handle::File;
use crate::sys;

/// An open directory.
pub(super) type Handle = OwnedHandle;
/// The identity of a file among all present files: the volume's number and the file's own.
pub(super) type Identity = (u64, u128);
/// The time at which an object was created, in the system's steps.
pub(super) type Birth = i64;

/// The object that the system opened.
#[derive(Debug)]
pub(crate) struct Opened {
    handle: OwnedHandle,
    /// The number of the completion port that the file is associated with, once it is. The
    /// association is permanent.
    port: OnceLock<usize>,
}

impl File {
    pub(crate) fn handle(&self) -> &OwnedHandle {
        &self.opened().handle
    }

    /// Returns the number of the completion port that the file is associated with, once it is.
    pub(crate) fn port(&self) -> &OnceLock<usize> {
        &self.opened().port
    }
}

impl From<OwnedHandle> for Opened {
    fn from(handle: OwnedHandle) -> Self {
        Self { handle, port: OnceLock::new() }
    }
}

pub(super) fn truncate(file: &Opened, bytes: u64) -> Result<(), Error> {
    if bytes > MAX_OFFSET {
        return Err(too_long());
    }
    match calls::set_length(&file.handle, bytes.cast_signed()) {
        // Only the length can be invalid here: it is too large for the file system.
        Err(Status(STATUS_INVALID_PARAMETER)) => Err(too_long()),
        cut => cut.map_err(|status| to_grow(status.into())),
    }
}

/// Reads into the beginning of `room`. Returns the number of bytes, which is zero at the end of the
/// file.
pub(super) fn read(
    file: &Opened,
    offset: u64,
    room: &mut [MaybeUninit<u8>],
) -> Result<usize, Error> {
    match calls::read(&file.handle, offset, room) {
        // Only the offset can be invalid here: it is beyond the end of every file of this system.
        Err(ERROR_INVALID_PARAMETER) => Ok(0),
        read => read.map_err(sys::error),
    }
}

/// Writes from the beginning of `data`. Returns the number of bytes written. The system gathers
/// only whole pages, so the segments are written one after the other.
pub(super) fn write(file: &Opened, offset: u64, data: &Gather) -> Result<usize, Error> {
    if !is_within_a_file(offset, data.len()) {
        return Err(too_long());
    }
    let mut written = 0;
    for segment in data.slices().take(MAX_SEGMENTS) {
        match calls::write(&file.handle, offset + written as u64, segment) {
            Ok(bytes) => {
                written += bytes;
                if bytes < segment.len() {
                    break;
                }
            }
            // The next write fails again, and then reports the error.
            Err(_) if written > 0 => break,
            Err(code) => return Err(write_error(code)),
        }
    }
    Ok(written)
}

fn write_error(code: WIN32_ERROR) -> Error {
    match code {
        // Only the offset can be invalid here.
        ERROR_INVALID_PARAMETER => too_long(),
        code => to_grow(sys::error(code)),
    }
}

fn too_long() -> Error {
    sys::error(ERROR_FILE_TOO_LARGE)
}

/// Waits until everything written is on the disk, together with the file's metadata.
pub(super) fn sync(file: &Opened) -> Result<(), Error> {
    calls::flush(&file.handle).map_err(to_grow)
}

pub(super) fn metadata(file: &Opened) -> Result<FileOutcome, Error> {
    let metadata = find_out(&file.handle)?.metadata;
    Ok(FileOutcome::Metadata { metadata, version: version(&file.handle) })
}

/// Returns the version of a file, if it has one.
fn version(handle: &OwnedHandle) -> Option<FileVersion> {
    let basic: fs::FILE_BASIC_INFO = calls::ask(handle).ok()?;
    let standard: fs::FILE_STANDARD_INFO = calls::ask(handle).ok()?;
    let (volume, file) = identity(handle).ok()?;
    let version = FileVersion {
        volume,
        file,
        bytes: standard.EndOfFile.cast_unsigned(),
        modified: basic.LastWriteTime.into(),
        changed: basic.ChangeTime.into(),
    };
    // Zero means that the file system does not record this time.
    (basic.ChangeTime != 0).then_some(version).and_then(|it| settled(it, ms_of(basic.ChangeTime)))
}

/// Returns the properties of an open object. Anything that is not on a disk is a device, and no
/// file.
fn find_out(handle: &OwnedHandle) -> Result<Found, Error> {
    if !calls::is_on_a_disk(handle) {
        return Err(not_a_file());
    }
    let basic: fs::FILE_BASIC_INFO = calls::ask(handle)?;
    let standard: fs::FILE_STANDARD_INFO = calls::ask(handle)?;
    Ok(Found {
        kind: kind_of(basic.FileAttributes),
        has_one_name: standard.NumberOfLinks == 1,
        metadata: Metadata {
            bytes: standard.EndOfFile.cast_unsigned(),
            modified_ns: ns_of(basic.LastWriteTime),
            mode: None,
        },
    })
}

/// Returns the number of a file in the longest form that the file system supports. A file system
/// always uses the same form for a file.
pub(super) fn identity(handle: &OwnedHandle) -> Result<Identity, Error> {
    if let Ok(told) = calls::ask::<fs::FILE_ID_INFO>(handle) {
        let id = u128::from_le_bytes(told.FileId.Identifier);
        return Ok((told.VolumeSerialNumber, id));
    }
    let (volume, id) = calls::short_identity(handle)?;
    Ok((volume.into(), id.into()))
}

/// Returns when an object was created, if the file system reports it.
pub(super) fn birth(handle: &OwnedHandle) -> Option<Birth> {
    let basic: fs::FILE_BASIC_INFO = calls::ask(handle).ok()?;
    (basic.CreationTime != 0).then_some(basic.CreationTime)
}

fn kind_of(attributes: u32) -> EntryKind {
    let has = |bits| attributes & bits != 0;
    if has(fs::FILE_ATTRIBUTE_REPARSE_POINT | fs::FILE_ATTRIBUTE_DEVICE) {
        EntryKind::Other
    } else if has(fs::FILE_ATTRIBUTE_DIRECTORY) {
        EntryKind::Directory
    } else {
        EntryKind::File
    }
}

/// The number of the system's time steps of 100 ns, counted from 1601, in a ms.
const STEPS_PER_MS: i64 = 10_000;
const NS_PER_STEP: i64 = 100;
/// The number of steps from 1601 to 1970.
const STEPS_TO_1970: i64 = 11_644_473_600_000 * STEPS_PER_MS;

fn ns_of(steps: i64) -> i64 {
    steps.saturating_sub(STEPS_TO_1970).saturating_mul(NS_PER_STEP)
}

fn ms_of(steps: i64) -> i64 {
    steps.saturating_sub(STEPS_TO_1970).div_euclid(STEPS_PER_MS)
}

/// Returns the nearest time that the system can represent. To the system, zero and negative numbers
/// are commands.
fn steps_of(ns: i64) -> i64 {
    ns.div_euclid(NS_PER_STEP).saturating_add(STEPS_TO_1970).max(1)
}

impl Status {
    fn is_absent(self) -> bool {
        matches!(
            self.0,
            STATUS_OBJECT_NAME_NOT_FOUND
                | STATUS_OBJECT_PATH_NOT_FOUND
                | STATUS_NO_SUCH_FILE
                | STATUS_DELETE_PENDING
        )
    }

    /// Returns whether the file system, or this version of Windows, does not support the call.
    fn is_unknown(self) -> bool {
        matches!(
            self.0,
            STATUS_NOT_SUPPORTED
                | STATUS_NOT_IMPLEMENTED
                | STATUS_INVALID_DEVICE_REQUEST
                | STATUS_INVALID_INFO_CLASS
                | STATUS_INVALID_PARAMETER
        )
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let error = sys::of_status(status.0).expect_err("a status that says no");
        match status.0 {
            STATUS_FILE_IS_A_DIRECTORY
            | STATUS_REPARSE_POINT_ENCOUNTERED
            | STATUS_STOPPED_ON_SYMLINK
            | STATUS_DIRECTORY_NOT_EMPTY => Self { failure: Failure::NotAFile, ..error },
            STATUS_NOT_A_DIRECTORY | STATUS_DELETE_PENDING => {
                Self { failure: Failure::NotFound, ..error }
            }
            _ => error,
        }
    }
}

/// Returns the error for a link, a directory, or anything else that is not a regular file.
fn not_a_file() -> Error {
    Error::new(Failure::NotAFile)
}

#[cfg(test)]
mod tests;
