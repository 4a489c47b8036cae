//! A directory for a test, and the operations on it.

use std::path::{Path, PathBuf};

use posthouse_io::{
    Directory, Failure, File, FileEntry, FileIdentity, FileOp, FileOutcome, Gather, LaneId,
    Metadata, Op, Outcome, Segment, Tag,
};
use tempfile::TempDir;

use crate::harness::{Harness, gather};

/// A directory that a test works in.
pub struct TestDir<'a> {
    pub harness: &'a Harness,
    pub directory: Directory,
    path: PathBuf,
    _temporary: Option<TempDir>,
}

impl<'a> TestDir<'a> {
    /// Makes an empty directory, which is removed with this value.
    pub fn new(harness: &'a Harness) -> Self {
        let temporary = tempfile::tempdir().expect("the directory can be created");
        let dir = Self::at(harness, temporary.path());
        Self { _temporary: Some(temporary), ..dir }
    }

    /// Uses an existing directory, which is not removed.
    pub fn at(harness: &'a Harness, path: &Path) -> Self {
        let directory = Directory::open(path).expect("the directory opens");
        Self { harness, directory, path: path.to_owned(), _temporary: None }
    }

    /// Returns a path of this machine in the directory.
    pub fn path(&self, beneath: &str) -> PathBuf {
        self.path.join(beneath)
    }

    pub fn submit(&self, op: FileOp) -> Tag {
        self.submit_on(self.harness.lane(0), op)
    }

    pub fn submit_on(&self, lane: LaneId, op: FileOp) -> Tag {
        self.harness.submit(lane, Op::File(Box::new(op)))
    }

    #[track_caller]
    pub fn outcome(&self, tag: Tag) -> Result<FileOutcome, Failure> {
        match self.harness.outcome(tag) {
            Outcome::File(outcome) => Ok(*outcome),
            Outcome::Failed(error) => Err(error.failure),
            other => panic!("expected the outcome of a file operation, not {other:?}"),
        }
    }

    #[track_caller]
    pub fn run(&self, op: FileOp) -> Result<FileOutcome, Failure> {
        self.outcome(self.submit(op))
    }

    #[track_caller]
    fn done(&self, op: FileOp) -> Result<(), Failure> {
        match self.run(op)? {
            FileOutcome::Done => Ok(()),
            other => panic!("done, not {other:?}"),
        }
    }

    #[track_caller]
    pub fn look_up_directory(&self, path: &str) -> Result<(), Failure> {
        let directory = self.directory.clone();
        self.done(FileOp::LookUpDirectory { directory, path: path.into() })
    }

    #[track_caller]
    pub fn make_directory(&self, path: &str) -> Result<(), Failure> {
        let directory = self.directory.clone();
        self.done(FileOp::MakeDirectory { directory, path: path.into() })
    }

    #[track_caller]
    pub fn open(&self, path: &str) -> Result<(File, Metadata), Failure> {
        match self.run(FileOp::Open { directory: self.directory.clone(), path: path.into() })? {
            FileOutcome::Opened { file, metadata, .. } => Ok((file, metadata)),
            other => panic!("a file, not {other:?}"),
        }
    }

    #[track_caller]
    pub fn identity(&self, path: &str) -> FileIdentity {
        match self.run(FileOp::Open { directory: self.directory.clone(), path: path.into() }) {
            Ok(FileOutcome::Opened { identity, .. }) => identity.expect("the file has an identity"),
            other => panic!("a file, not {other:?}"),
        }
    }

    pub fn part_op(&self, name: &str) -> FileOp {
        FileOp::OpenPart { directory: self.directory.clone(), name: name.into() }
    }

    #[track_caller]
    pub fn part(&self, name: &str) -> Result<(File, u64), Failure> {
        match self.run(self.part_op(name))? {
            FileOutcome::Part { file, bytes } => Ok((file, bytes)),
            other => panic!("a part, not {other:?}"),
        }
    }

    #[track_caller]
    pub fn read(&self, file: &File, offset: u64, bytes: usize) -> Result<Vec<u8>, Failure> {
        let file = file.clone();
        let memory = Vec::new();
        match self.run(FileOp::Read { file, offset, bytes, memory })? {
            FileOutcome::Read { memory } => Ok(memory),
            other => panic!("bytes, not {other:?}"),
        }
    }

    /// Reads a file in pieces, and returns all of its bytes.
    #[track_caller]
    pub fn read_all(&self, file: &File) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let piece = self.read(file, all.len() as u64, 64 << 10).expect("the read succeeds");
            if piece.is_empty() {
                return all;
            }
            all.extend_from_slice(&piece);
        }
    }

    #[track_caller]
    pub fn content(&self, path: &str) -> Vec<u8> {
        self.read_all(&self.open(path).expect("the file is there").0)
    }

    /// Writes all bytes, in as many operations as necessary.
    #[track_caller]
    pub fn write(&self, file: &File, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.write_gather(file, offset, gather(bytes))
    }

    #[track_caller]
    pub fn write_gather(
        &self,
        file: &File,
        mut offset: u64,
        mut data: Gather,
    ) -> Result<(), Failure> {
        while !data.is_empty() {
            let before = data.len();
            match self.run(FileOp::Write { file: file.clone(), offset, data })? {
                FileOutcome::Written { bytes, data: mut back } => {
                    assert_eq!(back.len(), before, "the returned memory has changed");
                    assert!(bytes > 0, "a write that ends writes something");
                    back.advance(bytes, drop);
                    offset += bytes as u64;
                    data = back;
                }
                other => panic!("bytes written, not {other:?}"),
            }
        }
        Ok(())
    }

    #[track_caller]
    pub fn truncate(&self, file: &File, bytes: u64) -> Result<(), Failure> {
        self.done(FileOp::Truncate { file: file.clone(), bytes })
    }

    #[track_caller]
    pub fn sync(&self, file: &File) -> Result<(), Failure> {
        self.done(FileOp::Sync { file: file.clone() })
    }

    #[track_caller]
    pub fn metadata(&self, file: &File) -> Metadata {
        match self.run(FileOp::Metadata { file: file.clone() }) {
            Ok(FileOutcome::Metadata { metadata, .. }) => metadata,
            other => panic!("expected metadata, not {other:?}"),
        }
    }

    pub fn publish_op(&self, part: &str, file: &File, path: &str) -> FileOp {
        FileOp::Publish {
            directory: self.directory.clone(),
            part: part.into(),
            file: file.clone(),
            path: path.into(),
            modified_ns: None,
            executable: false,
        }
    }

    #[track_caller]
    pub fn publish(&self, part: &str, file: &File, path: &str) -> Result<(), Failure> {
        self.done(self.publish_op(part, file, path))
    }

    #[track_caller]
    pub fn sync_name(&self, path: &str, file: &File) -> Result<(), Failure> {
        let directory = self.directory.clone();
        let path = path.into();
        self.run(FileOp::SyncName { directory, path, file: file.clone() }).map(drop)
    }

    pub fn remove_part(&self, name: &str, file: &File) -> Result<(), Failure> {
        let directory = self.directory.clone();
        let file = file.clone();
        self.done(FileOp::RemovePart { directory, name: name.into(), file })
    }

    #[track_caller]
    pub fn expire_parts(&self, age_ms: u64) -> Result<(), Failure> {
        self.done(FileOp::ExpireParts { directory: self.directory.clone(), age_ms })
    }

    /// Returns the number of files that are left.
    #[track_caller]
    pub fn free_parts(&self, bytes: u64, files: u64) -> Result<u64, Failure> {
        let directory = self.directory.clone();
        match self.run(FileOp::FreeParts { directory, bytes, files })? {
            FileOutcome::Usage(usage) => Ok(usage.files),
            other => panic!("a usage, not {other:?}"),
        }
    }

    /// Creates a file with this content in the way of a transfer.
    #[track_caller]
    pub fn make(&self, path: &str, content: &[u8]) {
        let (file, bytes) = self.part("making").expect("the part opens");
        assert_eq!(bytes, 0);
        self.write(&file, 0, content).expect("the file can be written");
        self.sync(&file).expect("the file can be synced");
        self.publish("making", &file, path).expect("the file can be published");
        self.remove_part("making", &file).expect("the file can be removed");
    }

    #[track_caller]
    pub fn list(&self, after: &str, max_entries: usize) -> (Vec<FileEntry>, bool) {
        self.list_some(after, (max_entries, usize::MAX), |_| true)
    }

    #[track_caller]
    pub fn list_some(
        &self,
        after: &str,
        (max_entries, max_bytes): (usize, usize),
        is_listed: fn(&str) -> bool,
    ) -> (Vec<FileEntry>, bool) {
        let directory = self.directory.clone();
        let after = after.into();
        match self.run(FileOp::List { directory, after, max_entries, max_bytes, is_listed }) {
            Ok(FileOutcome::Listed { entries, more }) => (entries, more),
            other => panic!("a list, not {other:?}"),
        }
    }

    /// Returns the paths of all files.
    #[track_caller]
    pub fn paths(&self) -> Vec<String> {
        let (entries, more) = self.list("", usize::MAX);
        assert!(!more);
        entries.into_iter().map(|entry| entry.path.into()).collect()
    }
}

/// Returns the names in a directory of this machine, sorted.
pub fn names_in(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).expect("the directory opens");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("a name").file_name().into_string().expect("a text")
    };
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}

/// Returns the pieces as one gather.
pub fn gather_of(pieces: &[&[u8]]) -> Gather {
    let mut gather = Gather::default();
    for piece in pieces {
        gather.push(Segment::Owned(piece.to_vec()));
    }
    gather
}
