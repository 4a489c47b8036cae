//! The jobs of the paths on the command line.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::tree::{self, Root, SendPath, TreeEntry};
use crate::transfer_client::{JobSource, NextJob, TransferReport};

/// The files beneath the paths. For each file, only its root and its path beneath the root are
/// held.
pub(super) struct PathJobs {
    roots: Vec<Root>,
    files: std::vec::IntoIter<(usize, Box<str>)>,
}

impl PathJobs {
    /// Walks all paths. Adds the entries that are skipped or cannot be sent to the report.
    pub(super) fn find(
        paths: &[PathBuf],
        sent_as: Option<&str>,
        report: &mut TransferReport,
    ) -> Self {
        let mut roots = Vec::new();
        let mut files = Vec::new();
        for path in paths {
            match SendPath::open(path, sent_as) {
                Ok(SendPath::File(root, file)) => {
                    report.expect_file(file.bytes);
                    files.push((roots.len(), file.path.into()));
                    roots.push(root);
                }
                Ok(SendPath::Directory(root, top)) => {
                    walk(&top, report, |path| files.push((roots.len(), path)));
                    roots.push(root);
                }
                Err(why) => fail(path, &why, report),
            }
        }
        Self { roots, files: files.into_iter() }
    }
}

fn walk(top: &Path, report: &mut TransferReport, mut each: impl FnMut(Box<str>)) {
    tree::walk(top, &mut |entry| match entry {
        TreeEntry::File(file) => {
            report.expect_file(file.bytes);
            each(file.path.into());
        }
        TreeEntry::Skipped(path, why) => report.skipped(&tree::shown(path), why),
        TreeEntry::EmptyDirectory(path) => {
            report.skipped(&tree::shown(path), "an empty directory");
        }
        TreeEntry::Unsendable(path, why) => fail(path, &why, report),
    });
}

fn fail(path: &Path, why: &str, report: &mut TransferReport) {
    report.expect_file(0);
    report.failed(&tree::shown(path), why);
}

impl JobSource for PathJobs {
    fn next(&mut self, _: Instant) -> NextJob {
        match self.files.next() {
            Some((root, path)) => NextJob::Job(self.roots[root].job(&path)),
            None => NextJob::End,
        }
    }

    fn remaining(&self) -> usize {
        self.files.len()
    }
}
