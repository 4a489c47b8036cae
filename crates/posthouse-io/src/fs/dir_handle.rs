//! A directory that was opened to work beneath it.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::platform::{self, Birth, Identity};
use crate::error::{Error, Failure};
use crate::handle::Usage;
use crate::sync::{Mutex, lock};

/// The maximum number of remembered directories, each with its name of at most a few hundred bytes;
/// beyond it the memory is cleared.
const MAX_DURABLE: usize = 4096;

/// An open directory of a real system.
#[derive(Debug)]
pub(crate) struct DirHandle {
    pub(super) root: platform::Handle,
    /// The directories beneath it whose names are known to be on the disk.
    durable: Mutex<BTreeSet<Named>>,
}

/// A directory under one of its names. The number of a removed directory can belong to the next
/// one, and a rename gives a directory a name that is not on the disk. So the time of creation and
/// the name belong to the key.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    parent: Identity,
    name: Box<str>,
    identity: Identity,
    birth: Birth,
}

/// A directory in the path of a name.
pub(super) struct Component {
    pub(super) directory: platform::Handle,
    /// `None` if the file system does not report when a directory was created: such a directory is
    /// not remembered.
    named: Option<Named>,
    /// True exactly when the directory's own name is known to be on the disk.
    durable: bool,
}

/// A directory that was opened in its parent.
pub(super) struct Entered {
    pub(super) directory: platform::Handle,
    /// True if its name may not be on the disk, because it did not exist before this call.
    pub(super) is_new: bool,
}

impl DirHandle {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { root: platform::open_root(path)?, durable: Mutex::default() })
    }

    pub(crate) fn usage(&self) -> Result<Usage, Error> {
        let mut usage = Usage::default();
        self.add_up(&mut usage)?;
        Ok(usage)
    }

    /// Looks for a directory, and waits until its name is on the disk.
    pub(super) fn look_up_directory(&self, path: &str) -> Result<(), Error> {
        platform::check_directory(&self.root, path).map_err(name_is_taken)?;
        self.make_directory(path)
    }

    /// Creates a directory unless it exists, and waits until its name is on the disk.
    pub(super) fn make_directory(&self, path: &str) -> Result<(), Error> {
        self.sync_parents(self.open_parents(path).map_err(name_is_taken)?)
    }

    /// Opens the directories of a path, one beneath the other, and creates the missing ones.
    pub(super) fn open_parents(&self, parents: &str) -> Result<Vec<Component>, Error> {
        let mut components: Vec<Component> = Vec::new();
        let mut parent = platform::identity(&self.root)?;
        for name in parents.split('/') {
            let from = components.last().map_or(&self.root, |component| &component.directory);
            let Entered { directory, is_new } = platform::enter_or_make(from, name)?;
            let identity = platform::identity(&directory)?;
            let named =
                birth(&directory).map(|birth| Named { parent, name: name.into(), identity, birth });
            // A directory that was created just now may have the key of a removed one.
            let durable =
                !is_new && named.as_ref().is_some_and(|named| lock(&self.durable).contains(named));
            components.push(Component { directory, named, durable });
            parent = identity;
        }
        Ok(components)
    }

    /// Waits until a new name is on the disk, together with the names of the directories in its
    /// path, up to the root. The process that created an existing directory may not have waited for
    /// that directory's name. So this handle syncs the name of each directory once, and remembers
    /// it.
    pub(super) fn sync_parents(&self, parents: Vec<Component>) -> Result<(), Error> {
        let mut new_inside = true;
        for component in parents.iter().rev() {
            if new_inside {
                platform::sync_directory(&component.directory)?;
            }
            new_inside = !component.durable;
        }
        if new_inside {
            platform::sync_directory(&self.root)?;
        }
        let mut durable = lock(&self.durable);
        if durable.len() + parents.len() > MAX_DURABLE {
            durable.clear();
        }
        durable.extend(parents.into_iter().filter_map(|component| component.named));
        Ok(())
    }
}

/// Returns the time at which a directory was created.
fn birth(directory: &platform::Handle) -> Option<Birth> {
    let birth = platform::birth(directory);
    #[cfg(test)]
    if tests::CLOCK_STANDS.get() {
        return birth.map(|_| Birth::default());
    }
    birth
}

/// Returns the failure to look up or create a directory. A link or a special file there takes the
/// name, as a regular file does.
fn name_is_taken(error: Error) -> Error {
    match error.failure {
        Failure::NotAFile => Error { failure: Failure::Exists, ..error },
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// True exactly while this thread sees all directories as created at the same time.
        pub(super) static CLOCK_STANDS: Cell<bool> = const { Cell::new(false) };
    }

    /// The number of times that a directory is removed and created again.
    const TRIES: usize = 100;

    /// Returns whether the last directory of the path is known to be on the disk.
    fn is_durable(dir: &DirHandle, path: &str) -> bool {
        dir.open_parents(path).expect("the path opens").last().expect("a directory").durable
    }

    /// Opens a directory beneath the root, and creates it if it is missing.
    fn enter(dir: &DirHandle, name: &str) -> Component {
        dir.open_parents(name).expect("the path opens").pop().expect("a directory")
    }

    #[test]
    fn a_directory_is_synced_once_under_each_name() {
        let place = tempfile::tempdir().expect("a directory");
        let dir = DirHandle::open(place.path()).expect("the directory opens");
        dir.make_directory("a").expect("the directory is created");
        if birth(&dir.root).is_none() {
            eprintln!("NOT TESTED: the file system does not report the time of creation");
            return assert!(!is_durable(&dir, "a"));
        }
        assert!(is_durable(&dir, "a"));
        std::fs::rename(place.path().join("a"), place.path().join("b")).expect("it is renamed");
        assert!(!is_durable(&dir, "b"), "the new name is not on the disk");
        dir.make_directory("b").expect("the directory exists");
        assert!(is_durable(&dir, "b"));
    }

    /// Another process removes the directory and creates the next one.
    #[test]
    fn a_directory_with_the_number_of_a_removed_one_is_synced() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("a");
        let dir = DirHandle::open(place.path()).expect("the directory opens");
        let identity = |it: &Component| platform::identity(&it.directory).expect("an identity");
        let mut tested = 0;
        for _ in 0..TRIES {
            dir.make_directory("a").expect("the directory is created");
            let first = enter(&dir, "a");
            let (number, time) = (identity(&first), birth(&first.directory));
            drop(first);
            std::fs::remove_dir(&path).expect("it is removed");
            std::fs::create_dir(&path).expect("the next one is created");
            let next = enter(&dir, "a");
            // Two directories that were created in one step of the clock cannot be told apart.
            if time.is_none() || birth(&next.directory) != time {
                tested += usize::from(identity(&next) == number);
                assert!(!next.durable, "nobody has synced the name of the new directory");
            }
            drop(next);
            std::fs::remove_dir(&path).expect("it is removed");
        }
        if tested == 0 {
            eprintln!("NOT TESTED: the file system does not use a number again at another time");
        }
    }

    /// This handle creates the next directory, within the same step of a coarse clock.
    #[test]
    fn a_directory_with_the_number_and_the_time_of_a_removed_one_is_synced() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("a");
        let dir = DirHandle::open(place.path()).expect("the directory opens");
        CLOCK_STANDS.set(true);
        let mut tested = 0;
        for _ in 0..TRIES {
            let first = enter(&dir, "a").named;
            lock(&dir.durable).extend(first);
            std::fs::remove_dir(&path).expect("it is removed");
            let next = enter(&dir, "a");
            let is_known = |named| lock(&dir.durable).contains(named);
            tested += usize::from(next.named.as_ref().is_some_and(is_known));
            assert!(!next.durable, "nobody has synced the name of the new directory");
            drop(next);
            std::fs::remove_dir(&path).expect("it is removed");
        }
        CLOCK_STANDS.set(false);
        if tested == 0 {
            eprintln!("NOT TESTED: the file system does not use a number again");
        }
    }
}
