//! A simulated disk.

use super::At;
use super::completions::{Queued, Role};
use super::world::World;
use crate::error::{Error, Failure};
use crate::file::{FileOp, Usage};
use crate::operation::Outcome;
use crate::token::Tag;

/// A disk.
#[derive(Debug)]
pub struct Disk;

/// A directory.
#[derive(Clone, Debug)]
pub(crate) struct SimDirectory;

/// A file.
#[derive(Clone, Debug)]
pub(crate) struct SimFile;

impl SimDirectory {
    #[expect(clippy::unused_self, reason = "not there yet")]
    pub(crate) fn usage(&self) -> Usage {
        Usage::default()
    }
}

impl World {
    pub(super) fn file(&mut self, at: At, tag: Tag, op: FileOp) {
        drop(op);
        let outcome = Outcome::Failed(Error::new(Failure::Unsupported));
        self.complete(at, Queued::new(None, tag, Role::File, false, outcome), true);
    }
}
