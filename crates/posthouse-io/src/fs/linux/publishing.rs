//! Publishing: a part gets its final name, whole or not at all.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, fchmod, fstat,
    futimens, linkat, mkdirat,
};
use rustix::io::{Errno, retry_on_intr};

use super::opening::{beneath, stat_of};
use super::parts::{leads_to, unlink};
use super::{DirHandle, MAX_TRIES, NS_PER_SECOND, Publication, identity, sync};
use crate::error::{Error, Failure};
use crate::fs::Entered;
use crate::sync::OnceLock;

impl DirHandle {
    /// Gives the open file of a part its final name, and returns when the name is on the disk. It
    /// never replaces anything.
    pub(in crate::fs) fn publish(
        &self,
        part: &str,
        file: &OwnedFd,
        publication: &Publication<'_>,
    ) -> Result<(), Error> {
        let (parents, name) = match publication.path.rsplit_once('/') {
            Some((parents, name)) => (self.open_parents(parents)?, name),
            None => (Vec::new(), publication.path),
        };
        let directory = parents.last().map_or(&self.root, |component| &component.directory);
        if stat_of(directory, name)?.is_some() {
            // Linking would report it, too, but this way a part that is not published stays
            // unchanged.
            return Err(Errno::EXIST.into());
        }
        finish(file, publication)?;
        self.link(part, file, directory, name)?;
        self.sync_parents(parents)
    }

    /// Waits until the file is on the disk under the name under which it was found.
    pub(in crate::fs) fn sync_name(&self, path: &str, file: &OwnedFd) -> Result<(), Error> {
        let found = beneath(&self.root, path, OFlags::PATH)?;
        if identity(&found)? != identity(file)? {
            return Err(Errno::NOENT.into());
        }
        sync(file)?;
        match path.rsplit_once('/') {
            Some((parents, _)) => self.sync_parents(self.open_parents(parents)?),
            None => self.sync_parents(Vec::new()),
        }
    }

    /// Links exactly the open file, whatever the part's name leads to now.
    fn link(
        &self,
        part: &str,
        file: &OwnedFd,
        directory: &OwnedFd,
        name: &str,
    ) -> Result<(), Error> {
        // The first call returns "not found" to all processes but the one that opened the file, and
        // before Linux 6.10 to all without privileges. The second call returns it if `/proc` is not
        // mounted.
        let mut linked = linkat(file, "", directory, name, AtFlags::EMPTY_PATH);
        if linked == Err(Errno::NOENT) {
            let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
            linked = linkat(CWD, descriptor, directory, name, AtFlags::SYMLINK_FOLLOW);
        }
        match linked {
            Err(Errno::NOENT | Errno::NOTDIR) => self.link_by_name(part, file, directory, name),
            linked => linked.map_err(link_error),
        }
    }

    /// Links the target of the part's name, if it is the open file before and after the call.
    fn link_by_name(
        &self,
        part: &str,
        file: &OwnedFd,
        directory: &OwnedFd,
        name: &str,
    ) -> Result<(), Error> {
        let gone = Error::from(Errno::NOENT);
        let parts = self.parts()?.ok_or(gone)?;
        let stat = fstat(file)?;
        if !leads_to(&parts, part, &stat)? {
            return Err(gone);
        }
        linkat(&parts, part, directory, name, AtFlags::empty()).map_err(link_error)?;
        if !leads_to(directory, name, &stat)? {
            unlink(directory, name)?;
            return Err(gone);
        }
        Ok(())
    }
}

/// Opens a directory; creates it if it does not exist.
pub(in crate::fs) fn enter_or_make(from: &OwnedFd, name: &str) -> Result<Entered, Error> {
    let mut is_new = false;
    for _ in 0..MAX_TRIES {
        match beneath(from, name, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(directory) => return Ok(Entered { directory, is_new }),
            Err(Errno::NOENT) => {}
            Err(errno @ Errno::NOTDIR) => {
                return Err(Error { failure: Failure::Exists, code: errno.raw_os_error() });
            }
            Err(errno) => return Err(errno.into()),
        }
        match mkdirat(from, name, Mode::RWXU | Mode::RWXG | Mode::RWXO) {
            Ok(()) => is_new = true,
            // Another process has created it first.
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::NOENT.into())
}

/// Checks that a path leads to a directory, and through no link.
pub(in crate::fs) fn check_directory(root: &OwnedFd, path: &str) -> Result<(), Error> {
    match beneath(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Ok(_) => Ok(()),
        Err(errno @ (Errno::NOTDIR | Errno::LOOP)) => {
            Err(Error { failure: Failure::Exists, code: errno.raw_os_error() })
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Sets the attributes that a file must have before others can see it, and syncs it.
fn finish(file: &OwnedFd, publication: &Publication<'_>) -> Result<(), Error> {
    let modified = match publication.modified_ns {
        Some(ns) => {
            Timespec { tv_sec: ns.div_euclid(NS_PER_SECOND), tv_nsec: ns.rem_euclid(NS_PER_SECOND) }
        }
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    };
    let accessed = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    futimens(file, &Timestamps { last_access: accessed, last_modification: modified })?;
    let all = if publication.executable { 0o777 } else { 0o666 };
    fchmod(file, Mode::from_raw_mode(all & !umask()))?;
    sync(file)
}

/// Returns the permissions that this process removes from new files. The system call that returns
/// them also sets them, so a file of another thread could miss them. Therefore the system's report
/// is read instead, once.
fn umask() -> u32 {
    static UMASK: OnceLock<u32> = OnceLock::new();
    *UMASK.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        line.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok()).unwrap_or(0o022)
    })
}

/// Waits until the names in a directory are on the disk.
pub(in crate::fs) fn sync_directory(directory: &OwnedFd) -> Result<(), Error> {
    let readable = beneath(directory.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    match retry_on_intr(|| rustix::fs::fsync(&readable)) {
        // The file system needs no sync of directories.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns the meaning of an error of linking, where `EXDEV` is not about a link in the path.
fn link_error(errno: Errno) -> Error {
    match errno {
        // The directory is on another file system.
        Errno::XDEV => Error { failure: Failure::Unsupported, code: errno.raw_os_error() },
        errno => errno.into(),
    }
}
