//! Parts: unfinished files that only their holder can see.
//!
//! They lie in a directory of their own. To hold a part is to have it open: whoever opens it lets
//! nobody else open it for writing, and the system releases that when its process ends. A name is
//! taken away only by its holder, or where nobody has open what lies there.
//!
//! Who else may use the directory of parts is what its access rights say, which it has from the
//! directory that it is in: a part has them, too, and so has what becomes of it. Its owner is not
//! asked for, as a server of files may call everybody's by another name.

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
use super::names::WideName;
use super::opening::{SHARED, TO_ENTER, TO_LOOK, enter_as, find};
use super::room::to_grow;
use super::{EntryKind, Found, Opened, find_out, identity, kind_of, not_a_file};
use crate::error::{Error, Failure};
use crate::file_op::{FileOutcome, PARTS_DIRECTORY};
use crate::fs::{DirHandle, MAX_TRIES};
use crate::handle::File;

/// Others may read it and take its name away; who would write to it finds it locked, and so does
/// who opens it like this while somebody has it to write.
const HELD: fs::FILE_SHARE_MODE = fs::FILE_SHARE_READ | fs::FILE_SHARE_DELETE;

/// Opens a part, or makes it.
const TO_HOLD: How = How {
    access: fs::FILE_GENERIC_READ | fs::FILE_GENERIC_WRITE | fs::DELETE,
    share: HELD,
    disposition: nt::FILE_OPEN_IF,
    options: nt::FILE_NON_DIRECTORY_FILE,
    attributes: fs::FILE_ATTRIBUTE_NORMAL,
};

/// Opens a name of a file that we hold to take it away.
const TO_REMOVE: How = How { access: TO_LOOK.access | fs::DELETE, share: SHARED, ..TO_LOOK };

/// Opens whatever nobody has open to write, to take its name away.
const TO_REMOVE_UNHELD: How = How { share: HELD, ..TO_REMOVE };

const TO_MAKE_PARTS: How =
    How { disposition: nt::FILE_OPEN_IF, attributes: fs::FILE_ATTRIBUTE_HIDDEN, ..TO_ENTER };

impl DirHandle {
    /// Opens a part and locks it; makes it where there is none.
    pub(in crate::fs) fn open_part(&self, name: &str) -> Result<FileOutcome, Error> {
        let name = WideName::to_make(name)?;
        let parts = self.enter_parts(TO_MAKE_PARTS).map_err(to_grow)?;
        for _ in 0..MAX_TRIES {
            if let Some((file, found)) = try_to_open(&parts, name.as_wide())? {
                let bytes = found.metadata.bytes;
                return Ok(FileOutcome::Part { file: File::new(Opened::from(file)), bytes });
            }
        }
        // Somebody changes the name faster than it can be looked at.
        Err(Error::new(Failure::Locked))
    }

    /// Removes a part's name, where it still is this file's.
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

    /// Removes parts that nobody has locked and that were last written so long ago.
    pub(in crate::fs) fn expire_parts(&self, age_ms: u64) -> Result<(), Error> {
        let Some(parts) = self.parts()? else { return Ok(()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let before_ms = now_ms.saturating_sub_unsigned(age_ms);
        let mut old = Vec::new();
        calls::each_name(&parts, |name, _| {
            let is_old = |found: Found| is_old(&found, before_ms);
            if find(&parts, name).is_ok_and(|found| found.is_some_and(is_old)) {
                old.push(name.to_vec());
            }
            Ok(())
        })?;
        for name in old {
            expire(&parts, &name, before_ms)?;
        }
        Ok(())
    }

    /// The directory of parts, where there is one.
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

/// Opens a part and locks it. `None`: the name was changed meanwhile, or is free now of what lay
/// there.
fn try_to_open(parts: &OwnedHandle, name: &[u16]) -> Result<Option<(OwnedHandle, Found)>, Error> {
    let file = match calls::open(parts, name, TO_HOLD) {
        Ok(file) => file,
        Err(Status(STATUS_DELETE_PENDING)) => return Ok(None),
        // The second: also a file that was made read-only, and so nothing that one of us holds; or
        // one that a filter or new access rights keep us from.
        Err(status @ Status(STATUS_FILE_IS_A_DIRECTORY | STATUS_ACCESS_DENIED)) => {
            return if put_away(parts, name)? { Ok(None) } else { Err(status.into()) };
        }
        Err(status) => return Err(to_grow(status.into())),
    };
    let found = find_out(&file)?;
    // A link, or a file that has another name: published already, and not removed then; or somebody
    // linked a file of his choice here.
    if found.kind != EntryKind::File || !found.has_one_name {
        return remove(parts, &file, &file).map(|()| None);
    }
    Ok(Some((file, found)))
}

/// Frees a name of what is no part; false: there is nothing of the kind. Only an empty directory
/// can be removed.
fn put_away(parts: &OwnedHandle, name: &[u16]) -> Result<bool, Error> {
    match calls::open(parts, name, TO_REMOVE_UNHELD) {
        // A part, with what has come of it so far: whatever denies it to us now may let us have it
        // later.
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

/// Takes away the name by which the first handle was opened, at once, although others may have the
/// file open. The second is that of the file's holder, if it has one, and was opened by this name.
fn remove(parts: &OwnedHandle, named: &OwnedHandle, held: &OwnedHandle) -> Result<(), Error> {
    // Since Windows 10 1607, on NTFS and ReFS; what is read-only since 1809.
    let at_once = nt::FILE_DISPOSITION_DELETE | nt::FILE_DISPOSITION_POSIX_SEMANTICS;
    let mut disposed = calls::dispose(named, at_once);
    if disposed == Err(Status(STATUS_CANNOT_DELETE)) {
        let read_only = nt::FILE_DISPOSITION_IGNORE_READONLY_ATTRIBUTE;
        disposed = calls::dispose(named, at_once | read_only);
    }
    if !disposed.is_err_and(Status::is_unknown) {
        return Ok(disposed?);
    }
    // Elsewhere the name stays until nobody has the file open by it. So it is another name that
    // stays; where it cannot be given one, the name itself. The holder's handle is renamed: under
    // Wine no other would know its file from then on.
    if find_out(named)?.kind == EntryKind::File {
        let taken = Err(Status(STATUS_OBJECT_NAME_COLLISION));
        let mut free_list = (0..MAX_TRIES).map(|_| spare_name());
        let _ = free_list.find(|name| calls::rename(held, parts, name) != taken);
    }
    Ok(calls::dispose_at_last(held)?)
}

/// A name that nobody has. Should its file outlive this process, it expires as a part.
fn spare_name() -> Vec<u16> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("gone-{}-{count}", std::process::id()).encode_utf16().collect()
}

fn is_old(found: &Found, before_ms: i64) -> bool {
    found.kind == EntryKind::File && found.metadata.modified_ms < before_ms
}

/// Removes a part that was last written before this time, unless somebody holds it.
fn expire(parts: &OwnedHandle, name: &[u16], before_ms: i64) -> Result<(), Error> {
    // What cannot be opened is held, or has gone.
    let Ok(file) = calls::open(parts, name, TO_REMOVE_UNHELD) else { return Ok(()) };
    if is_old(&find_out(&file)?, before_ms) {
        remove(parts, &file, &file)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::opening::open_root;
    use super::*;

    fn wide(name: &str) -> Vec<u16> {
        name.encode_utf16().collect()
    }

    /// What denies it may be a filter, or rights that were changed: the part can be gone on with
    /// when that is over.
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
