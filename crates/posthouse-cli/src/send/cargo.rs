//! All that is to be sent: what the paths on the command line stand for.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::tree::{self, Root, Seen, Start};
use crate::courier::{Account, Manifest, Next, Screen};

/// The files, by name: of each no more is held than that, and where it lies.
pub(super) struct Cargo {
    roots: Vec<Root>,
    files: std::vec::IntoIter<(usize, Box<str>)>,
}

impl Cargo {
    /// Looks through all paths. What is left out, and what cannot be sent, goes into the account.
    pub(super) fn find(
        paths: &[PathBuf],
        sent_as: Option<&str>,
        account: &mut Account,
        screen: &Screen,
    ) -> Self {
        let (mut roots, mut files) = (Vec::new(), Vec::new());
        for path in paths {
            match Start::find(path, sent_as) {
                Ok(Start::File(root, found)) => {
                    account.expect(found.bytes);
                    files.push((roots.len(), found.path.into()));
                    roots.push(root);
                }
                Ok(Start::Tree(root, top)) => {
                    beneath(&top, account, screen, |name| files.push((roots.len(), name)));
                    roots.push(root);
                }
                Err(why) => fail(path, &why, account, screen),
            }
        }
        Self { roots, files: files.into_iter() }
    }
}

fn beneath(top: &Path, account: &mut Account, screen: &Screen, mut each: impl FnMut(Box<str>)) {
    tree::walk(top, &mut |seen| match seen {
        Seen::File(found) => {
            account.expect(found.bytes);
            each(found.path.into());
        }
        Seen::Skipped(path, why) => account.skipped(screen, &tree::shown(path), why),
        Seen::Empty(path) => account.skipped(screen, &tree::shown(path), "an empty directory"),
        Seen::Unsendable(path, why) => fail(path, &why, account, screen),
    });
}

fn fail(path: &Path, why: &str, account: &mut Account, screen: &Screen) {
    account.expect(0);
    account.failed(screen, &tree::shown(path), None, why);
}

impl Manifest for Cargo {
    fn next(&mut self, _: Instant) -> Next {
        match self.files.next() {
            Some((root, path)) => Next::Parcel(self.roots[root].parcel(&path)),
            None => Next::End,
        }
    }

    fn left(&self) -> usize {
        self.files.len()
    }
}
