//! A directory that was opened to work beneath it.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::platform::{self, Identity};
use crate::error::Error;
use crate::handle::Usage;
use crate::sync::{Mutex, lock};

/// The maximum number of remembered directories; beyond it the memory is cleared.
const MAX_DURABLE: usize = 4096;

/// An open directory of a real system.
#[derive(Debug)]
pub(crate) struct DirHandle {
    pub(super) root: platform::Handle,
    /// The directories beneath it whose names are known to be on the disk.
    durable: Mutex<BTreeSet<Identity>>,
}

/// A directory in the path of a name.
pub(super) struct Component {
    pub(super) directory: platform::Handle,
    identity: Identity,
    /// True exactly when the directory's own name is known to be on the disk.
    durable: bool,
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
        platform::check_directory(&self.root, path)?;
        self.make_directory(path)
    }

    /// Creates a directory unless it exists, and waits until its name is on the disk.
    pub(super) fn make_directory(&self, path: &str) -> Result<(), Error> {
        self.sync_parents(&self.open_parents(path)?)
    }

    /// Opens the directories of a path, one beneath the other, and creates the missing ones.
    pub(super) fn open_parents(&self, parents: &str) -> Result<Vec<Component>, Error> {
        let mut components: Vec<Component> = Vec::new();
        for name in parents.split('/') {
            let from = components.last().map_or(&self.root, |component| &component.directory);
            let directory = platform::enter_or_make(from, name)?;
            let identity = platform::identity(&directory)?;
            let durable = lock(&self.durable).contains(&identity);
            components.push(Component { directory, identity, durable });
        }
        Ok(components)
    }

    /// Waits until a new name is on the disk, together with the names of the directories in its
    /// path, up to the root. The process that created an existing directory may not have waited for
    /// that directory's name. So this handle syncs the name of each directory once, and remembers
    /// it.
    pub(super) fn sync_parents(&self, parents: &[Component]) -> Result<(), Error> {
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
        durable.extend(parents.iter().map(|component| component.identity));
        Ok(())
    }
}
