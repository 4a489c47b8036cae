//! Resolution of a path beneath an open directory.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Advice, AtFlags, Mode, OFlags, ResolveFlags, Stat, fstat};
use rustix::io::{Errno, retry_on_intr};
use rustix::path::Arg;

use super::{DirHandle, MAX_TRIES, identity_of, is_regular, metadata_of, version_of};
use crate::error::{Error, Failure};
use crate::file_op::{FileIdentity, FileOutcome};
use crate::handle::File;

/// Opens a directory of this machine. The descriptor identifies the directory and grants no other
/// access to it.
pub(in crate::fs) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?)
}

impl DirHandle {
    /// Opens a regular file for reading.
    pub(in crate::fs) fn open_file(&self, path: &str) -> Result<FileOutcome, Error> {
        // Examined before the open: opening a device may have an effect, and opening a FIFO
        // releases its writer.
        regular(&beneath(&self.root, path, OFlags::PATH)?)?;
        // The file may have been swapped meanwhile, so the open does not wait, and the opened
        // object is examined again.
        let unfinished = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = beneath(&self.root, path, unfinished)?;
        let stat = regular(&file)?;
        wait_again(&file)?;
        // This is only advice; the operation is correct without it.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        let metadata = metadata_of(&stat);
        let (volume, inode) = identity_of(&stat);
        let identity = Some(FileIdentity { volume, file: inode.into() });
        let version = version_of(&stat);
        Ok(FileOutcome::Opened { file: File::new(file), metadata, identity, version })
    }
}

/// Opens the target of `path` beneath `from`. A link in the path, or at its end, is rejected.
pub(super) fn beneath(
    from: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    make_beneath(from, path, flags, Mode::empty())
}

/// Does the same for a new file.
pub(super) fn make_beneath(
    from: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 1;
    loop {
        let opened = rustix::fs::openat2(from.as_fd(), path, flags, mode, resolve);
        match opened {
            Err(Errno::INTR) => {}
            // Something was renamed meanwhile, and the system cannot determine whether the path
            // left the directory.
            Err(Errno::AGAIN) if tries < MAX_TRIES => tries += 1,
            opened => return opened,
        }
    }
}

/// Returns the status of a name in this directory, which may be a link, or `None` if it does not
/// exist.
pub(super) fn stat_of(directory: &OwnedFd, name: impl Arg) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Restores blocking calls on a file that was opened non-blocking. Otherwise a ring would return
/// `EAGAIN` for all data that is not in memory.
pub(super) fn wait_again(file: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::fcntl_setfl(file, OFlags::empty())
}

fn regular(file: &OwnedFd) -> Result<Stat, Error> {
    let stat = fstat(file)?;
    if is_regular(&stat) { Ok(stat) } else { Err(Error::new(Failure::NotAFile)) }
}
