//! Parts: unfinished files that only their holder can see.
//!
//! Parts lie in a directory of their own. A process holds a part by having it open: its open lets
//! nobody else open the file for writing, and the system releases it when the process ends. A name
//! is removed only by its holder, or if nobody has its target open for writing.
//!
//! The access rights of the directory of parts decide who else may use it. It inherits them from
//! the directory above it, and parts and the published files have them, too. The owner is not
//! checked, because a file server may report a different owner for everybody's files.

use std::os::windows::io::OwnedHandle;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use windows_sys::Wdk::Storage::FileSystem as nt;
use windows_sys::Win32::Foundation::{
    STATUS_ACCESS_DENIED, STATUS_CANNOT_DELETE, STATUS_DELETE_PENDING, STATUS_FILE_IS_A_DIRECTORY,
    STATUS_OBJECT_NAME_COLLISION,
};
use windows_sys::Win32::Storage::FileSystem as fs;

use super::calls::{self, How, Status};
use super::entries::unless_closed;
use super::names::WideName;
use super::opening::{SHARED, TO_ENTER, TO_LOOK, enter_as, find};
use super::room::to_grow;
use super::{EntryKind, Found, Opened, find_out, identity, kind_of, not_a_file};
use crate::error::{Error, Failure};
use crate::file_op::{FileOutcome, PARTS_DIRECTORY};
use crate::fs::{DirHandle, MAX_TRIES, PartsToFree};
use crate::handle::File;

/// Others may read the part and remove its name. A process that would write to it finds it locked,
/// and so does one that opens it in this mode while another process has it open for writing.
const HELD: fs::FILE_SHARE_MODE = fs::FILE_SHARE_READ | fs::FILE_SHARE_DELETE;

/// Opens a part, or creates it.
const TO_HOLD: How = How {
    access: fs::FILE_GENERIC_READ | fs::FILE_GENERIC_WRITE | fs::DELETE,
    share: HELD,
    disposition: nt::FILE_OPEN_IF,
    options: nt::FILE_NON_DIRECTORY_FILE,
    attributes: fs::FILE_ATTRIBUTE_NORMAL,
};

/// Opens a name of a held file to remove the name.
const TO_REMOVE: How = How { access: TO_LOOK.access | fs::DELETE, share: SHARED, ..TO_LOOK };

/// Opens an object that nobody has open for writing, to remove its name.
const TO_REMOVE_UNHELD: How = How { share: HELD, ..TO_REMOVE };

const TO_MAKE_PARTS: How =
    How { disposition: nt::FILE_OPEN_IF, attributes: fs::FILE_ATTRIBUTE_HIDDEN, ..TO_ENTER };

impl DirHandle {
    /// Opens a part and locks it; creates it if it does not exist.
    pub(in crate::fs) fn open_part(&self, name: &str) -> Result<FileOutcome, Error> {
        let name = WideName::to_make(name)?;
        let parts = self.enter_parts(TO_MAKE_PARTS).map_err(to_grow)?;
        for _ in 0..MAX_TRIES {
            if let Some((file, found)) = try_to_open(&parts, name.as_wide())? {
                let bytes = found.metadata.bytes;
                return Ok(FileOutcome::Part { file: File::new(Opened::from(file)), bytes });
            }
        }
        // Another process changes the name faster than it can be examined.
        Err(Error::new(Failure::Locked))
    }

    /// Removes a part's name if it still belongs to this file.
    pub(in crate::fs) fn remove_part(&self, name: &str, file: &Opened) -> Result<(), Error> {
        let (Some(parts), Ok(name)) = (self.parts()?, WideName::to_find(name)) else {
            return Ok(());
        };
        match calls::open(&parts, name.as_wide(), TO_REMOVE) {
            Ok(found) if identity(&found)? == identity(&file.handle)? => {
                remove(&parts, &found, &file.handle)
            }
            Ok(_) => Ok(()),
            Err(status) if status.is_absent() => Ok(()),
            Err(status) => Err(status.into()),
        }
    }

    /// Removes parts that nobody has locked and that were last written more than `age_ms` ago.
    pub(in crate::fs) fn expire_parts(&self, age_ms: u64) -> Result<(), Error> {
        let Some(parts) = self.parts()? else { return Ok(()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ns = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        let before_ns = now_ns.saturating_sub_unsigned(age_ms.saturating_mul(1_000_000));
        let mut old = Vec::new();
        calls::each_name(&parts, |name, _| {
            if unless_closed(find(&parts, name))?.flatten().is_some_and(|it| is_old(&it, before_ns))
            {
                old.push(name.to_vec());
            }
            Ok(())
        })?;
        for name in old {
            expire(&parts, &name, before_ns)?;
        }
        Ok(())
    }

    /// Removes parts that nobody has locked, the oldest first, until enough is freed.
    pub(in crate::fs) fn free_parts(&self, wanted: PartsToFree) -> Result<(), Error> {
        let mut found = Vec::new();
        let parts = self.parts()?;
        if let Some(parts) = &parts {
            calls::each_name(parts, |name, _| {
                if let Some(part) = unless_closed(find(parts, name))?.flatten()
                    && part.kind == EntryKind::File
                    && part.has_one_name
                {
                    found.push((part.metadata.modified_ns, part.metadata.bytes, name.to_vec()));
                }
                Ok(())
            })?;
        }
        wanted.free(found, |name| match &parts {
            Some(parts) => expire(parts, name, i64::MAX),
            None => Ok(false),
        })
    }

    /// Opens the directory of parts, if it exists.
    fn parts(&self) -> Result<Option<OwnedHandle>, Error> {
        match self.enter_parts(TO_ENTER) {
            Ok(parts) => Ok(Some(parts)),
            Err(Error { failure: Failure::NotFound, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn enter_parts(&self, how: How) -> Result<OwnedHandle, Error> {
        let name = WideName::to_find(PARTS_DIRECTORY).expect("it is a name");
        enter_as(&self.root, name.as_wide(), how)?.ok_or(not_a_file())
    }
}

/// Opens a part and locks it. Returns `None` if the name was changed meanwhile, or if a foreign
/// object was removed from it.
fn try_to_open(parts: &OwnedHandle, name: &[u16]) -> Result<Option<(OwnedHandle, Found)>, Error> {
    let file = match calls::open(parts, name, TO_HOLD) {
        Ok(file) => file,
        Err(Status(STATUS_DELETE_PENDING)) => return Ok(None),
        // The second error: a read-only file, which no process of ours holds, or a file that a
        // filter or new access rights deny.
        Err(status @ Status(STATUS_FILE_IS_A_DIRECTORY | STATUS_ACCESS_DENIED)) => {
            return if put_away(parts, name)? { Ok(None) } else { Err(status.into()) };
        }
        Err(status) => return Err(to_grow(status.into())),
    };
    let found = find_out(&file)?;
    // A link, or a file with another name: published already and not removed then, or linked here
    // by another user.
    if found.kind != EntryKind::File || !found.has_one_name {
        return remove(parts, &file, &file).map(|()| None);
    }
    Ok(Some((file, found)))
}

/// Removes a foreign object from a name. Returns false if there is none. A directory can be removed
/// only if it is empty.
fn put_away(parts: &OwnedHandle, name: &[u16]) -> Result<bool, Error> {
    match calls::open(parts, name, TO_REMOVE_UNHELD) {
        // A part with its content so far. The reason for the denial may end, so that it can be
        // opened later.
        Ok(part) if is_a_writable_file(&part)? => Ok(false),
        Ok(planted) => remove(parts, &planted, &planted).map(|()| true),
        Err(status) if status.is_absent() => Ok(false),
        Err(status) => Err(status.into()),
    }
}

fn is_a_writable_file(handle: &OwnedHandle) -> Result<bool, Error> {
    let basic: fs::FILE_BASIC_INFO = calls::ask(handle)?;
    let is_file = kind_of(basic.FileAttributes) == EntryKind::File;
    Ok(is_file && basic.FileAttributes & fs::FILE_ATTRIBUTE_READONLY == 0)
}

/// Removes the name by which the first handle was opened, at once, although others may have the
/// file open. The second handle is that of the file's holder, if it has one, and was opened by this
/// name.
fn remove(parts: &OwnedHandle, named: &OwnedHandle, held: &OwnedHandle) -> Result<(), Error> {
    // Supported since Windows 10 1607 on NTFS and ReFS; for read-only files since 1809.
    let at_once = nt::FILE_DISPOSITION_DELETE | nt::FILE_DISPOSITION_POSIX_SEMANTICS;
    let mut disposed = calls::dispose(named, at_once);
    if disposed == Err(Status(STATUS_CANNOT_DELETE)) {
        let read_only = nt::FILE_DISPOSITION_IGNORE_READONLY_ATTRIBUTE;
        disposed = calls::dispose(named, at_once | read_only);
    }
    if !disposed.is_err_and(Status::is_unknown) {
        return Ok(disposed?);
    }
    // Elsewhere the name stays until no handle that was opened by it is left. So the file is
    // renamed first, and the new name stays instead; if the rename fails, the name itself stays.
    // The holder's handle is renamed, because under Wine every other handle would lose its file by
    // that.
    if find_out(named)?.kind == EntryKind::File {
        let taken = Err(Status(STATUS_OBJECT_NAME_COLLISION));
        let mut free_list = (0..MAX_TRIES).map(|_| spare_name());
        let _ = free_list.find(|name| calls::rename(held, parts, name) != taken);
    }
    Ok(calls::dispose_at_last(held)?)
}

/// Returns an unused name. If its file outlives this process, it expires as a part.
fn spare_name() -> Vec<u16> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("gone-{}-{count}", std::process::id()).encode_utf16().collect()
}

fn is_old(found: &Found, before_ns: i64) -> bool {
    found.kind == EntryKind::File && found.metadata.modified_ns < before_ns
}

/// Removes a part that was last written before this time, unless it is held. Returns whether it has
/// removed it.
fn expire(parts: &OwnedHandle, name: &[u16], before_ns: i64) -> Result<bool, Error> {
    let file = match calls::open(parts, name, TO_REMOVE_UNHELD).map_err(Error::from) {
        Ok(file) => file,
        Err(error) if error.is_transient() => return Err(error),
        // The object is held, or has vanished.
        Err(_) => return Ok(false),
    };
    let is_expired = is_old(&find_out(&file)?, before_ns);
    if is_expired {
        remove(parts, &file, &file)?;
    }
    Ok(is_expired)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::opening::open_root;
    use super::*;

    fn wide(name: &str) -> Vec<u16> {
        name.encode_utf16().collect()
    }

    /// A filter or changed access rights may cause the denial. The part can be resumed when that
    /// ends.
    #[test]
    fn a_part_that_cannot_be_opened_to_write_is_left_where_it_is() {
        let place = tempfile::tempdir().expect("a new directory");
        let part = place.path().join("part");
        fs::write(&part, b"what has come so far").expect("a file");
        fs::create_dir(place.path().join("directory")).expect("a directory");
        let parts = open_root(place.path()).expect("it opens");
        assert_eq!(put_away(&parts, &wide("part")), Ok(false));
        assert_eq!(fs::read(&part).expect("it is there"), b"what has come so far");
        let before = fs::metadata(&part).expect("it is there").permissions();
        let mut read_only = before.clone();
        read_only.set_readonly(true);
        fs::set_permissions(&part, read_only).expect("read-only");
        let found = calls::open(&parts, &wide("part"), TO_LOOK).map_err(Error::from);
        let writable = found.and_then(|found| is_a_writable_file(&found));
        fs::set_permissions(&part, before).expect("so that it can be removed");
        assert_eq!(writable, Ok(false), "what nobody of us holds goes");
        assert_eq!(put_away(&parts, &wide("directory")), Ok(true));
        assert_eq!(put_away(&parts, &wide("directory")), Ok(false), "nothing is there any more");
    }
}
