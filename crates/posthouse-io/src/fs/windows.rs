//! The disks of Windows.
//!
//! Every name is opened by itself, beneath the handle of the directory that it is in, and without
//! following what makes the system look elsewhere (a reparse point: links, junctions, and what file
//! systems and cloud services keep otherwise): that is refused, whatever kind it is of.
//!
//! Files are opened for overlapped reads and writes, so that a completion port can take them; here
//! they are waited for. Names differ in more than case, as is usual there, unless a directory was
//! told otherwise. No file is executable or not, and so `executable` says nothing. When a file was
//! modified the system may find out only when whoever writes to it closes it.
//!
//! | file | what it holds |
//! |---|---|
//! | `calls` | the system's calls, made safe |
//! | `names` | what may be a name, and how the system takes it |
//! | `opening` | resolving a path beneath a directory |
//! | `parts` | unfinished files: their directory, their locks, their end |
//! | `publishing` | giving a part its final name |
//! | `room` | what says that a disk has no more room for us |
//! | `waiting` | files whose reads and writes wait for the disk, overlapped or not |
//! | `entries` | what has a name in a directory |

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
pub(super) use self::publishing::{enter_or_make, sync_directory};
use self::room::to_grow;
use super::{EntryKind, Found, MAX_OFFSET, MAX_SEGMENTS, is_within_a_file, settled};
use crate::error::{Error, Failure};
use crate::file_op::{FileOutcome, FileVersion, Metadata};
use crate::gather::Gather;
use crate::handle::File;
use crate::sys;

/// A directory.
pub(super) type Handle = OwnedHandle;
/// What tells a file from every other that there is now: the volume's number and its own.
pub(super) type Identity = (u64, u128);

/// What the system opened.
#[derive(Debug)]
pub(crate) struct Opened {
    handle: OwnedHandle,
    /// The completion port that it belongs to, once it does: for good, and to no other.
    port: OnceLock<usize>,
}

impl File {
    pub(crate) fn handle(&self) -> &OwnedHandle {
        &self.opened().handle
    }

    /// The number of the completion port that the file is associated with, once it is.
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
        // The length is all that can be invalid: the file system has none so long.
        Err(Status(STATUS_INVALID_PARAMETER)) => Err(too_long()),
        cut => cut.map_err(|status| to_grow(status.into())),
    }
}

/// Reads into the beginning of `room`; the number of bytes, zero at the end of the file.
pub(super) fn read(
    file: &Opened,
    offset: u64,
    room: &mut [MaybeUninit<u8>],
) -> Result<usize, Error> {
    match calls::read(&file.handle, offset, room) {
        // The offset is all that can be invalid: no file of this system ends so far out.
        Err(ERROR_INVALID_PARAMETER) => Ok(0),
        read => read.map_err(sys::error),
    }
}

/// Writes from the beginning of `data`; the number of bytes that were written. The system gathers
/// whole pages only, so the segments go one after the other.
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
            // It will fail again, and then alone.
            Err(_) if written > 0 => break,
            Err(code) => return Err(write_error(code)),
        }
    }
    Ok(written)
}

fn write_error(code: WIN32_ERROR) -> Error {
    match code {
        // The offset is all that can be invalid.
        ERROR_INVALID_PARAMETER => too_long(),
        code => to_grow(sys::error(code)),
    }
}

fn too_long() -> Error {
    sys::error(ERROR_FILE_TOO_LARGE)
}

/// Waits until everything written is on the disk, and with it what is known of the file.
pub(super) fn sync(file: &Opened) -> Result<(), Error> {
    calls::flush(&file.handle).map_err(to_grow)
}

pub(super) fn metadata(file: &Opened) -> Result<FileOutcome, Error> {
    let metadata = find_out(&file.handle)?.metadata;
    Ok(FileOutcome::Metadata { metadata, version: version(&file.handle) })
}

/// The state that a file is in.
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
    // Zero: the file system keeps no such time.
    (basic.ChangeTime != 0).then_some(version).and_then(|it| settled(it, ms_of(basic.ChangeTime)))
}

/// Asks what a handle has opened. What lies on no disk is a device, and no file.
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
            modified_ms: ms_of(basic.LastWriteTime),
            executable: false,
        },
    })
}

/// The number of a file, as long as the file system has it. What it tells of one file is told in
/// one way.
pub(super) fn identity(handle: &OwnedHandle) -> Result<Identity, Error> {
    if let Ok(told) = calls::ask::<fs::FILE_ID_INFO>(handle) {
        let id = u128::from_le_bytes(told.FileId.Identifier);
        return Ok((told.VolumeSerialNumber, id));
    }
    let (volume, id) = calls::short_identity(handle)?;
    Ok((volume.into(), id.into()))
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

/// Times of the system are in steps of 100 ns since 1601.
const STEPS_PER_MS: i64 = 10_000;
/// The beginning of 1970.
const STEPS_TO_1970: i64 = 11_644_473_600_000 * STEPS_PER_MS;

fn ms_of(steps: i64) -> i64 {
    steps.saturating_sub(STEPS_TO_1970).div_euclid(STEPS_PER_MS)
}

/// The nearest time that the system has. It takes zero, and what is less, for a wish.
fn steps_of(ms: i64) -> i64 {
    ms.saturating_mul(STEPS_PER_MS).saturating_add(STEPS_TO_1970).max(1)
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

    /// Whether the file system, or this version of the system, does not know of such a thing.
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

/// What stands there is a link, or a directory, or whatever is no file.
fn not_a_file() -> Error {
    Error::new(Failure::NotAFile)
}

#[cfg(test)]
mod tests;
