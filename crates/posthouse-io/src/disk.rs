//! Files and directories of this machine.

use std::io;
use std::path::Path;

use crate::file::Usage;

/// A directory of this machine.
#[derive(Debug)]
pub(crate) struct Folder;

impl Folder {
    pub(crate) fn open(_: &Path) -> io::Result<Self> {
        Ok(Self)
    }

    #[expect(clippy::unused_self, reason = "not there yet")]
    pub(crate) fn usage(&self) -> io::Result<Usage> {
        Ok(Usage::default())
    }
}
