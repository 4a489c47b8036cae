//! A port and a disk on which a test performs one operation after the other.

use posthouse_io::sim::{Disk, Faults, Network};
use posthouse_io::{
    Completion, Directory, Failure, File, FileEntry, FileIdentity, FileOp, FileOutcome, Metadata,
    Op, Outcome, Tag,
};

use crate::fixture::{Fixture, gather};

pub(crate) type Result<T> = std::result::Result<T, Failure>;

pub(crate) struct DiskFixture {
    pub(crate) fixture: Fixture,
    pub(crate) disk: Disk,
    pub(crate) directory: Directory,
}

/// Returns the result of a file operation.
pub(crate) fn result(outcome: Outcome) -> Result<FileOutcome> {
    match outcome {
        Outcome::File(outcome) => Ok(*outcome),
        Outcome::Failed(error) => Err(error.failure),
        other => panic!("not an outcome of a file operation: {other:?}"),
    }
}

impl DiskFixture {
    pub(crate) fn new(faults: Faults) -> Self {
        Self::on(&Network::with(1, faults))
    }

    pub(crate) fn on(network: &Network) -> Self {
        let disk = network.disk("disk");
        Self { fixture: Fixture::new(network), directory: disk.directory(), disk }
    }

    /// Opens another port after a crash.
    pub(crate) fn again(self) -> Self {
        let network = self.fixture.network.clone();
        self.fixture.end_clean();
        Self::on(&network)
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.fixture.network.set_faults(faults);
    }

    pub(crate) fn submit(&self, op: FileOp) -> Tag {
        self.fixture.submit(Op::File(Box::new(op)))
    }

    /// Returns the tag of the next completion, and its result.
    pub(crate) fn next(&self) -> Option<(Tag, Result<FileOutcome>)> {
        let Completion { tag, more, outcome } = self.fixture.completion()?;
        assert!(!more, "an operation on files has one completion");
        Some((tag, result(outcome)))
    }

    pub(crate) fn perform(&self, op: FileOp) -> Result<FileOutcome> {
        let tag = self.submit(op);
        result(self.fixture.outcome(tag))
    }

    /// Performs an operation whose only successful outcome is `Done`.
    fn do_it(&self, op: FileOp) -> Result<()> {
        match self.perform(op)? {
            FileOutcome::Done => Ok(()),
            other => panic!("{other:?}"),
        }
    }

    // ---- each operation ----

    pub(crate) fn open(&self, path: &str) -> Result<(File, Metadata)> {
        let op = FileOp::Open { directory: self.directory.clone(), path: path.into() };
        match self.perform(op)? {
            FileOutcome::Opened { file, metadata, .. } => Ok((file, metadata)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn identity(&self, path: &str) -> FileIdentity {
        let op = FileOp::Open { directory: self.directory.clone(), path: path.into() };
        match self.perform(op) {
            Ok(FileOutcome::Opened { identity, .. }) => identity.expect("the file has an identity"),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn part(&self, name: &str) -> Result<(File, u64)> {
        let op = FileOp::OpenPart { directory: self.directory.clone(), name: name.into() };
        match self.perform(op)? {
            FileOutcome::Part { file, bytes } => Ok((file, bytes)),
            other => panic!("{other:?}"),
        }
    }

    /// Creates a part with these bytes, not synced.
    pub(crate) fn part_with(&self, name: &str, bytes: &[u8]) -> File {
        let (file, _) = self.part(name).unwrap();
        self.write_all(&file, 0, bytes);
        file
    }

    pub(crate) fn read_op(file: &File, offset: u64, bytes: usize) -> FileOp {
        FileOp::Read { file: file.clone(), offset, bytes, memory: b"old".to_vec() }
    }

    pub(crate) fn read(&self, file: &File, offset: u64, bytes: usize) -> Result<Vec<u8>> {
        match self.perform(Self::read_op(file, offset, bytes))? {
            FileOutcome::Read { memory } => Ok(memory),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn write_op(file: &File, offset: u64, bytes: &[u8]) -> FileOp {
        FileOp::Write { file: file.clone(), offset, data: gather(bytes) }
    }

    pub(crate) fn write(&self, file: &File, offset: u64, bytes: &[u8]) -> Result<usize> {
        match self.perform(Self::write_op(file, offset, bytes))? {
            FileOutcome::Written { bytes: written, data } => {
                assert!(data.slices().flatten().eq(bytes), "the write returned other bytes");
                Ok(written)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Writes all bytes, and returns the number of writes.
    pub(crate) fn write_all(&self, file: &File, offset: u64, bytes: &[u8]) -> usize {
        let mut written = 0;
        let mut writes = 0;
        while written < bytes.len() {
            written += self.write(file, offset + written as u64, &bytes[written..]).unwrap();
            writes += 1;
        }
        writes
    }

    pub(crate) fn truncate(&self, file: &File, bytes: u64) -> Result<()> {
        self.do_it(FileOp::Truncate { file: file.clone(), bytes })
    }

    pub(crate) fn sync(&self, file: &File) -> Result<()> {
        self.do_it(FileOp::Sync { file: file.clone() })
    }

    pub(crate) fn metadata(&self, file: &File) -> Result<Metadata> {
        match self.perform(FileOp::Metadata { file: file.clone() })? {
            FileOutcome::Metadata { metadata, .. } => Ok(metadata),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn publish_op(&self, part: &str, file: &File, path: &str) -> FileOp {
        FileOp::Publish {
            directory: self.directory.clone(),
            part: part.into(),
            file: file.clone(),
            path: path.into(),
            modified_ns: None,
            executable: false,
        }
    }

    pub(crate) fn publish(&self, part: &str, file: &File, path: &str) -> Result<()> {
        self.do_it(self.publish_op(part, file, path))
    }

    pub(crate) fn sync_name(&self, path: &str, file: &File) -> Result<()> {
        let directory = self.directory.clone();
        let path = path.into();
        self.do_it(FileOp::SyncName { directory, path, file: file.clone() })
    }

    pub(crate) fn look_up_directory(&self, path: &str) -> Result<()> {
        let directory = self.directory.clone();
        self.do_it(FileOp::LookUpDirectory { directory, path: path.into() })
    }

    pub(crate) fn make_directory(&self, path: &str) -> Result<()> {
        let directory = self.directory.clone();
        self.do_it(FileOp::MakeDirectory { directory, path: path.into() })
    }

    pub(crate) fn remove_part(&self, name: &str, file: &File) -> Result<()> {
        let directory = self.directory.clone();
        let file = file.clone();
        self.do_it(FileOp::RemovePart { directory, name: name.into(), file })
    }

    pub(crate) fn expire(&self, age_ms: u64) -> Result<()> {
        let directory = self.directory.clone();
        self.do_it(FileOp::ExpireParts { directory, age_ms })
    }

    /// Returns the number of files that are left.
    pub(crate) fn free_parts(&self, bytes: u64, files: u64) -> Result<u64> {
        let directory = self.directory.clone();
        match self.perform(FileOp::FreeParts { directory, bytes, files })? {
            FileOutcome::Usage(usage) => Ok(usage.files),
            other => panic!("a usage, not {other:?}"),
        }
    }

    pub(crate) fn list(&self, after: &str, max_entries: usize) -> Result<(Vec<FileEntry>, bool)> {
        self.list_some(after, (max_entries, usize::MAX), |_| true)
    }

    pub(crate) fn list_some(
        &self,
        after: &str,
        (max_entries, max_bytes): (usize, usize),
        is_listed: fn(&str) -> bool,
    ) -> Result<(Vec<FileEntry>, bool)> {
        let directory = self.directory.clone();
        let after = after.into();
        match self.perform(FileOp::List { directory, after, max_entries, max_bytes, is_listed })? {
            FileOutcome::Listed { entries, more } => Ok((entries, more)),
            other => panic!("{other:?}"),
        }
    }

    /// Returns the names of the parts.
    pub(crate) fn part_names(&self) -> Vec<String> {
        self.disk.parts().into_iter().map(|(name, _)| name).collect()
    }
}
