//! A directory for a test, and the operations that a test performs there.

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use tempfile::TempDir;

use crate::error::Failure;
use crate::file_op::{FileOp, FileOutcome, PARTS_DIRECTORY};
use crate::gather::{Gather, Segment};
use crate::handle::{Directory, File};
use crate::native::file_pool::FilePool;
use crate::op::Outcome;
use crate::token::Tag;

/// A directory for a test.
pub(super) struct Place {
    files: FilePool,
    pub(super) directory: Directory,
    pub(super) path: PathBuf,
    _temporary: Option<TempDir>,
}

impl Place {
    pub(super) fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a new directory");
        let place = Self::at(temporary.path());
        Self { _temporary: Some(temporary), ..place }
    }

    pub(super) fn at(path: &Path) -> Self {
        let directory = Directory::open(path).expect("a directory");
        Self { files: FilePool::default(), directory, path: path.to_owned(), _temporary: None }
    }

    pub(super) fn parts(&self) -> PathBuf {
        self.path.join(PARTS_DIRECTORY)
    }

    pub(super) fn run(&self, op: FileOp) -> Result<FileOutcome, Failure> {
        let (post, posted) = channel();
        let post = move |completion| post.send(completion).expect("the test waits");
        assert!(self.files.start(Tag(0), Box::new(op), post).is_none());
        match posted.recv().expect("a completion").outcome {
            Outcome::File(outcome) => Ok(*outcome),
            Outcome::Failed(error) => Err(error.failure),
            other => panic!("the outcome of a file operation, not {other:?}"),
        }
    }

    pub(super) fn open(&self, path: &str) -> Result<File, Failure> {
        match self.run(FileOp::Open { directory: self.directory.clone(), path: path.into() })? {
            FileOutcome::Opened { file, .. } => Ok(file),
            other => panic!("a file, not {other:?}"),
        }
    }

    pub(super) fn part(&self, name: &str) -> Result<(File, u64), Failure> {
        match self.run(FileOp::OpenPart { directory: self.directory.clone(), name: name.into() })? {
            FileOutcome::Part { file, bytes } => Ok((file, bytes)),
            other => panic!("a part, not {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn new_part(&self, name: &str) -> File {
        self.part(name).expect("a part").0
    }

    pub(super) fn held_in_part(&self, name: &str) -> Result<u64, Failure> {
        self.part(name).map(|(_, bytes)| bytes)
    }

    #[track_caller]
    pub(super) fn opened(&self, path: &str) -> File {
        self.open(path).expect("it is there")
    }

    #[track_caller]
    pub(super) fn write(&self, file: &File, bytes: &[u8]) {
        let mut data = Gather::default();
        bytes.chunks(3).for_each(|piece| data.push(Segment::Owned(piece.to_vec())));
        let write = FileOp::Write { file: file.clone(), offset: 0, data };
        let written = self.run(write).expect("written");
        assert!(matches!(written, FileOutcome::Written { bytes: all, .. } if all == bytes.len()));
    }

    pub(super) fn read(&self, file: &File) -> Vec<u8> {
        let file = file.clone();
        let memory = Vec::new();
        match self.run(FileOp::Read { file, offset: 0, bytes: 1000, memory }) {
            Ok(FileOutcome::Read { memory }) => memory,
            other => panic!("bytes, not {other:?}"),
        }
    }

    pub(super) fn content(&self, path: &str) -> Result<Vec<u8>, Failure> {
        Ok(self.read(&self.open(path)?))
    }

    pub(super) fn publish(&self, file: &File, path: &str) -> Result<(), Failure> {
        let directory = self.directory.clone();
        let file = file.clone();
        let part = "part".into();
        let path = path.into();
        let modified_ns = None;
        self.run(FileOp::Publish { directory, part, file, path, modified_ns, executable: true })
            .map(drop)
    }

    pub(super) fn remove_part(&self, name: &str, file: &File) -> Result<(), Failure> {
        let directory = self.directory.clone();
        let file = file.clone();
        self.run(FileOp::RemovePart { directory, name: name.into(), file }).map(drop)
    }

    pub(super) fn sync_name(&self, path: &str, file: &File) -> Result<(), Failure> {
        let directory = self.directory.clone();
        let file = file.clone();
        self.run(FileOp::SyncName { directory, path: path.into(), file }).map(drop)
    }

    pub(super) fn expire(&self, age_ms: u64) -> Result<(), Failure> {
        self.run(FileOp::ExpireParts { directory: self.directory.clone(), age_ms }).map(drop)
    }

    pub(super) fn paths(&self) -> Vec<String> {
        let directory = self.directory.clone();
        let after = "".into();
        match self.run(FileOp::List {
            directory,
            after,
            max_entries: usize::MAX,
            max_bytes: usize::MAX,
            is_listed: |_| true,
        }) {
            Ok(FileOutcome::Listed { entries, more: false }) => {
                entries.into_iter().map(|entry| entry.path.into()).collect()
            }
            other => panic!("a list, not {other:?}"),
        }
    }

    pub(super) fn files(&self) -> u64 {
        self.directory.usage().expect("usage").files
    }
}

#[track_caller]
pub(super) fn write_file(path: impl AsRef<Path>, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("a file");
}

#[track_caller]
pub(super) fn make_dir(path: impl AsRef<Path>) {
    std::fs::create_dir_all(path).expect("a directory");
}

#[track_caller]
pub(super) fn count_names(path: impl AsRef<Path>) -> usize {
    std::fs::read_dir(path).expect("a directory").count()
}

#[track_caller]
pub(super) fn content_of(path: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(path).expect("it is there")
}

/// Returns the path in the form that the system takes literally.
pub(super) fn verbatim(path: &Path, name: &str) -> PathBuf {
    PathBuf::from(format!(r"\\?\{}\{name}", path.display()))
}
