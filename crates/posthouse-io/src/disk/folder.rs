//! A directory that was opened to work beneath it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Advice, AtFlags, Mode, OFlags, ResolveFlags, Stat, fstat};
use rustix::io::{Errno, retry_on_intr};
use rustix::path::Arg;

use super::{TRIES_MAX, is_regular, metadata};
use crate::error::{Error, Failure};
use crate::file::{File, FileOutcome, Usage};
use crate::sync::Mutex;

/// A directory of this machine.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Names the directory and gives no other right to it.
    pub(super) root: OwnedFd,
    /// Directories beneath it whose names are known to be on the disk.
    pub(super) durable: Mutex<BTreeSet<(u64, u64)>>,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
        Ok(Self { root, durable: Mutex::default() })
    }

    pub(crate) fn usage(&self) -> io::Result<Usage> {
        let mut usage = Usage::default();
        self.add_up(&mut usage)?;
        Ok(usage)
    }

    /// Opens a regular file for reading.
    pub(super) fn open_file(&self, path: &str) -> Result<FileOutcome, Error> {
        // A look first: a device may do something when it is opened, and a FIFO lets its writer go.
        regular(&beneath(&self.root, path, OFlags::PATH)?)?;
        // It may have been swapped since, so the open does not wait for anything, and what counts
        // is what it opened.
        let unfinished = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = beneath(&self.root, path, unfinished)?;
        let stat = regular(&file)?;
        wait_again(&file)?;
        // Only advice: it is right without.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        Ok(FileOutcome::Opened { file: File::real(file), metadata: metadata(&stat) })
    }
}

/// Opens what `path` leads to beneath `from`. A link on the way, or at its end, is refused.
pub(super) fn beneath(
    from: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    make_beneath(from, path, flags, Mode::empty())
}

/// The same, for a file that is made.
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
            // Something was renamed meanwhile, and the system cannot tell whether it was left.
            Err(Errno::AGAIN) if tries < TRIES_MAX => tries += 1,
            opened => return opened,
        }
    }
}

/// What the name leads to in this directory, be it a link; `None`: nothing.
pub(super) fn look(directory: &OwnedFd, name: impl Arg) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Makes calls wait again on a file that was opened not to wait: a ring takes such a file at its
/// word, and would say `EAGAIN` for whatever is not in memory.
pub(super) fn wait_again(file: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::fcntl_setfl(file, OFlags::empty())
}

fn regular(file: &OwnedFd) -> Result<Stat, Error> {
    let stat = fstat(file)?;
    if is_regular(&stat) { Ok(stat) } else { Err(Error::new(Failure::NotAFile)) }
}
