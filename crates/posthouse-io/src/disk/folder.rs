//! A directory that was opened to work beneath it.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::here::{self, Identity};
use crate::error::Error;
use crate::file::Usage;
use crate::sync::{Mutex, lock};

/// Directories that are remembered; past that they are found out again.
const DURABLE_MAX: usize = 4096;

/// A directory of this machine.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(super) root: here::Handle,
    /// Directories beneath it whose names are known to be on the disk.
    durable: Mutex<BTreeSet<Identity>>,
}

/// A directory on the way to a name.
pub(super) struct Level {
    pub(super) directory: here::Handle,
    identity: Identity,
    /// Whether its own name is known to be on the disk.
    durable: bool,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { root: here::open_root(path)?, durable: Mutex::default() })
    }

    pub(crate) fn usage(&self) -> Result<Usage, Error> {
        let mut usage = Usage::default();
        self.add_up(&mut usage)?;
        Ok(usage)
    }

    /// Opens the directories on the way, one beneath the other, making those that are not there.
    pub(super) fn go(&self, way: &str) -> Result<Vec<Level>, Error> {
        let mut levels: Vec<Level> = Vec::new();
        for name in way.split('/') {
            let from = levels.last().map_or(&self.root, |level| &level.directory);
            let directory = here::enter_or_make(from, name)?;
            let identity = here::identity(&directory)?;
            let durable = lock(&self.durable).contains(&identity);
            levels.push(Level { directory, identity, durable });
        }
        Ok(levels)
    }

    /// Waits until the new name is on the disk, and those of the directories on the way to it.
    /// Who found a directory there does not know whether the one who made it has waited: so each
    /// name is waited for once.
    pub(super) fn sync_way(&self, way: &[Level]) -> Result<(), Error> {
        let mut new_inside = true;
        for level in way.iter().rev() {
            if new_inside {
                here::sync_directory(&level.directory)?;
            }
            new_inside = !level.durable;
        }
        if new_inside {
            here::sync_directory(&self.root)?;
        }
        let mut durable = lock(&self.durable);
        if durable.len() + way.len() > DURABLE_MAX {
            durable.clear();
        }
        durable.extend(way.iter().map(|level| level.identity));
        Ok(())
    }
}
