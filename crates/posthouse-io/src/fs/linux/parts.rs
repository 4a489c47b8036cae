//! Parts: unfinished files that only their holder can see.
//!
//! Parts lie in a directory of their own that belongs to this user. Its names are trusted as little
//! as others: a process holds a name if it holds the part's lock and, with the lock, has found the
//! name to lead to that part. A name is removed only by its holder, or if it leads to something
//! that nobody can hold.
//!
//! The name of a new part is not synced. If the machine fails before the system writes it, the
//! transfer starts again.

use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, Stat, flock, fstat, unlinkat};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::geteuid;

use super::opening::{beneath, make_beneath, stat_of, wait_again};
use super::{DirHandle, MAX_TRIES, identity_of, is_regular, metadata_of};
use crate::error::{Error, Failure};
use crate::file_op::{FileOutcome, PARTS_DIRECTORY};
use crate::fs::PartsToFree;
use crate::handle::File;

/// The flags that open a file without waiting.
const AT_ONCE: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::NOFOLLOW);

impl DirHandle {
    /// Opens a part and locks it; creates it if it does not exist.
    pub(in crate::fs) fn open_part(&self, name: &str) -> Result<FileOutcome, Error> {
        let parts = self.make_parts()?;
        for _ in 0..MAX_TRIES {
            if let Some((file, stat)) = try_to_open(&parts, name)? {
                let bytes = metadata_of(&stat).bytes;
                return Ok(FileOutcome::Part { file: File::new(file), bytes });
            }
        }
        // Another process changes the name faster than it can be examined.
        Err(Error::new(Failure::Locked))
    }

    /// Removes a part's name if it still belongs to this file.
    pub(in crate::fs) fn remove_part(&self, name: &str, file: &OwnedFd) -> Result<(), Error> {
        if let Some(parts) = self.parts()?
            && leads_to(&parts, name, &fstat(file)?)?
        {
            unlink(&parts, name)?;
        }
        Ok(())
    }

    /// Removes parts that nobody has locked and that were last written more than `age_ms` ago.
    pub(in crate::fs) fn expire_parts(&self, age_ms: u64) -> Result<(), Error> {
        let Some(parts) = self.parts()? else { return Ok(()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ns = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        let before_ns = now_ns.saturating_sub_unsigned(age_ms.saturating_mul(1_000_000));
        for entry in Dir::read_from(&parts)? {
            let entry = entry?;
            // Names of parts are valid UTF-8.
            if let Ok(name) = entry.file_name().to_str() {
                expire(&parts, name, before_ns)?;
            }
        }
        Ok(())
    }

    /// Removes parts that nobody has locked, the oldest first, until enough is freed.
    pub(in crate::fs) fn free_parts(&self, wanted: PartsToFree) -> Result<(), Error> {
        let mut found = Vec::new();
        let parts = self.parts()?;
        if let Some(parts) = &parts {
            for entry in Dir::read_from(parts)? {
                let entry = entry?;
                if let Ok(name) = entry.file_name().to_str()
                    && let Some(stat) = stat_of(parts, name)?
                    && is_own_file(&stat)
                    && stat.st_nlink == 1
                {
                    let metadata = metadata_of(&stat);
                    found.push((metadata.modified_ns, metadata.bytes, name.to_owned()));
                }
            }
        }
        wanted.free(found, |name| match &parts {
            Some(parts) => expire(parts, name, i64::MAX),
            None => Ok(false),
        })
    }

    /// Opens the directory of parts, if it exists. It must be a directory that belongs to this
    /// user: the owner of another one could swap parts at any time.
    pub(super) fn parts(&self) -> Result<Option<OwnedFd>, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let parts = match beneath(&self.root, PARTS_DIRECTORY, flags) {
            Ok(parts) => parts,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno @ Errno::NOTDIR) => {
                return Err(Error { failure: Failure::NotAFile, code: errno.raw_os_error() });
            }
            Err(errno) => return Err(errno.into()),
        };
        if fstat(&parts)?.st_uid != geteuid().as_raw() {
            return Err(Error::new(Failure::Denied));
        }
        Ok(Some(parts))
    }

    fn make_parts(&self) -> Result<OwnedFd, Error> {
        if let Some(parts) = self.parts()? {
            return Ok(parts);
        }
        match rustix::fs::mkdirat(&self.root, PARTS_DIRECTORY, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.parts()?.ok_or(Error::new(Failure::NotFound))
    }
}

/// Opens a part and locks it. Returns `None` if the name was changed meanwhile, or if a foreign
/// object was removed from it.
fn try_to_open(parts: &OwnedFd, name: &str) -> Result<Option<(OwnedFd, Stat)>, Error> {
    let opened = match stat_of(parts, name)? {
        None => {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | AT_ONCE;
            make_beneath(parts, name, flags, Mode::RUSR | Mode::WUSR)
        }
        Some(found) if is_own_file(&found) => beneath(parts, name, OFlags::RDWR | AT_ONCE),
        // A link, a FIFO or another user's file, which no process of ours holds.
        Some(_) => return put_away(parts, name).map(|()| None),
    };
    let file = match opened {
        Ok(file) => file,
        Err(Errno::EXIST | Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ISDIR) => {
            return Ok(None);
        }
        Err(errno) => return Err(errno.into()),
    };
    if !is_own_file(&fstat(&file)?) {
        return Ok(None);
    }
    if !lock_file(&file)? {
        return Err(Error::new(Failure::Locked));
    }
    let stat = fstat(&file)?;
    if !leads_to(parts, name, &stat)? {
        // The part was published and removed between the open and the lock.
        return Ok(None);
    }
    if stat.st_nlink != 1 {
        // The part is published already and was not removed then, or another user linked a file
        // here.
        return put_away(parts, name).map(|()| None);
    }
    wait_again(&file)?;
    Ok(Some((file, stat)))
}

/// Locks a file against everybody else. Returns false if another process has it locked.
fn lock_file(file: &OwnedFd) -> Result<bool, Errno> {
    match retry_on_intr(|| flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn is_own_file(stat: &Stat) -> bool {
    is_regular(stat) && stat.st_uid == geteuid().as_raw()
}

/// Returns whether the name leads to this file.
pub(super) fn leads_to(directory: &OwnedFd, name: &str, file: &Stat) -> Result<bool, Errno> {
    Ok(stat_of(directory, name)?.is_some_and(|found| identity_of(&found) == identity_of(file)))
}

/// Removes a foreign object from a name. A directory can be removed only if it is empty.
fn put_away(parts: &OwnedFd, name: &str) -> Result<(), Error> {
    match unlink(parts, name) {
        Err(Errno::ISDIR) => {}
        unlinked => return Ok(unlinked?),
    }
    match unlinkat(parts, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error { failure: Failure::NotAFile, code: errno.raw_os_error() }),
    }
}

/// Removes a name if it exists.
pub(super) fn unlink(directory: &OwnedFd, name: &str) -> Result<(), Errno> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Removes a part that was last written before this time, unless it is locked. Returns whether it
/// has removed it.
fn expire(parts: &OwnedFd, name: &str, before_ns: i64) -> Result<bool, Error> {
    let is_old = |stat: &Stat| is_regular(stat) && metadata_of(stat).modified_ns < before_ns;
    if !stat_of(parts, name)?.is_some_and(|stat| is_old(&stat)) {
        return Ok(false);
    }
    let file = match beneath(parts, name, OFlags::RDONLY | AT_ONCE).map_err(Error::from) {
        Ok(file) => file,
        Err(error) if error.is_transient() => return Err(error),
        // The object is not a part, or has vanished.
        Err(_) => return Ok(false),
    };
    if !is_regular(&fstat(&file)?) || !lock_file(&file)? {
        return Ok(false);
    }
    let stat = fstat(&file)?;
    let is_expired = is_old(&stat) && leads_to(parts, name, &stat)?;
    if is_expired {
        unlink(parts, name)?;
    }
    Ok(is_expired)
}
