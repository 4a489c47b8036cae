//! File operations on Linux.
//!
//! | file | content |
//! |---|---|
//! | `opening` | resolving a path beneath a directory |
//! | `parts` | unfinished files: their directory, their locks, their expiry |
//! | `publishing` | giving a part its final name |
//! | `entries` | the entries of a directory |

mod entries;
mod opening;
mod parts;
mod publishing;

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Stat, StatxFlags, fstat};
use rustix::io::{Errno, retry_on_intr};

pub(super) use self::entries::{each_entry, enter, is_parts_directory, look, walkable};
pub(super) use self::opening::open_root;
pub(super) use self::publishing::{check_directory, enter_or_make, sync_directory};
use super::{
    DirHandle, EntryKind, MAX_OFFSET, MAX_SEGMENTS, MAX_TRIES, Publication, is_within_a_file,
    settled,
};
use crate::error::Error;
use crate::file_op::{FileOutcome, FileVersion, Metadata};
use crate::gather::Gather;
use crate::handle::File;

/// The object that the system opened.
pub(crate) type Opened = OwnedFd;
/// An open directory.
pub(super) type Handle = OwnedFd;
/// The identity of a file among all present files: device and inode.
pub(super) type Identity = (u64, u64);
/// The time at which an object was created: seconds and nanoseconds.
pub(super) type Birth = (i64, u32);

pub(super) fn truncate(file: &OwnedFd, bytes: u64) -> Result<(), Error> {
    if bytes > MAX_OFFSET {
        return Err(Errno::FBIG.into());
    }
    Ok(retry_on_intr(|| rustix::fs::ftruncate(file, bytes))?)
}

/// Reads into the beginning of `room`. Returns the number of bytes, which is zero at the end of the
/// file.
pub(super) fn read(
    file: &OwnedFd,
    offset: u64,
    room: &mut [MaybeUninit<u8>],
) -> Result<usize, Error> {
    let read = retry_on_intr(|| {
        rustix::io::pread(file, &mut *room, offset).map(|(filled, _)| filled.len())
    });
    Ok(read?)
}

/// Writes from the beginning of `data`. Returns the number of bytes written.
pub(super) fn write(file: &OwnedFd, offset: u64, data: &Gather) -> Result<usize, Error> {
    if !is_within_a_file(offset, data.len()) {
        return Err(Errno::FBIG.into());
    }
    let mut slices = [IoSlice::new(&[]); MAX_SEGMENTS];
    let mut used = 0;
    for (slot, segment) in slices.iter_mut().zip(data.slices()) {
        *slot = IoSlice::new(segment);
        used += 1;
    }
    Ok(retry_on_intr(|| rustix::io::pwritev(file, &slices[..used], offset))?)
}

/// Waits until everything written is on the disk. It syncs more than the data, because the length
/// and the modification time must be on the disk, too.
pub(super) fn sync(file: &OwnedFd) -> Result<(), Error> {
    Ok(retry_on_intr(|| rustix::fs::fsync(file))?)
}

pub(super) fn metadata(file: &OwnedFd) -> Result<FileOutcome, Error> {
    let stat = fstat(file)?;
    Ok(FileOutcome::Metadata { metadata: metadata_of(&stat), version: version_of(&stat) })
}

pub(super) fn identity(file: &OwnedFd) -> Result<Identity, Error> {
    Ok(identity_of(&fstat(file)?))
}

/// Returns when an object was created, if the file system reports it.
pub(super) fn birth(object: &OwnedFd) -> Option<Birth> {
    let found = rustix::fs::statx(object, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok()?;
    let is_known = found.stx_mask & StatxFlags::BTIME.bits() != 0;
    is_known.then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec))
}

const NS_PER_SECOND: i64 = 1_000_000_000;

/// Returns the metadata of a file.
fn metadata_of(stat: &Stat) -> Metadata {
    let rest = stat.st_mtime_nsec.cast_signed();
    Metadata {
        bytes: stat.st_size.cast_unsigned(),
        modified_ns: stat.st_mtime.saturating_mul(NS_PER_SECOND).saturating_add(rest),
        mode: Some((stat.st_mode & 0o777) as u16),
    }
}

/// Returns the version of a file, if it has one.
fn version_of(stat: &Stat) -> Option<FileVersion> {
    let time = |seconds: i64, ns: u64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
    let version = FileVersion {
        volume: stat.st_dev,
        file: stat.st_ino.into(),
        bytes: stat.st_size.cast_unsigned(),
        modified: time(stat.st_mtime, stat.st_mtime_nsec),
        changed: time(stat.st_ctime, stat.st_ctime_nsec),
    };
    // Zero means that the file system does not record this time.
    (version.changed != 0).then_some(version)?;
    settled(version, stat.st_ctime.saturating_mul(1000))
}

fn kind_of(kind: FileType) -> EntryKind {
    match kind {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        _ => EntryKind::Other,
    }
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Returns the identity of a file among all present files.
fn identity_of(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

impl File {
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        self.opened()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_op::FileOutcome;

    #[test]
    fn a_file_that_was_opened_without_waiting_waits_from_then_on() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("file"), b"content").expect("a file");
        let dir = DirHandle::open(directory.path()).expect("a directory");
        for opened in [dir.open_file("file"), dir.open_part("part")] {
            let Ok(FileOutcome::Opened { file, .. } | FileOutcome::Part { file, .. }) = opened
            else {
                panic!("a file, not {opened:?}")
            };
            let flags = rustix::fs::fcntl_getfl(file.opened()).expect("flags");
            assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "{flags:?}");
        }
    }
}
