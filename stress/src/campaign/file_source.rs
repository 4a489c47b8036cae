//! A file with the bytes that all connections send, each from a position of its own.

use std::io::{self, Write};
use std::sync::mpsc;
use std::time::Duration;

use posthouse_io::{
    Backend, CompletionPort, Directory, Error, Failure, File, FileOp, FileOutcome, FilePart,
    LaneId, Op, Options, Outcome, Segment, Tag, Turn,
};
use tempfile::TempDir;

use super::pattern::{POSITIONS, words};

/// The length of the file.
const BYTES: u64 = 8 * POSITIONS + (32 << 20);

/// The file. It is removed when this value is dropped.
#[derive(Debug)]
pub(super) struct FileSource {
    file: File,
    _temporary: TempDir,
}

impl FileSource {
    pub(super) fn new(seed: u64, backend: Backend, options: &Options) -> io::Result<Self> {
        let temporary = tempfile::tempdir()?;
        let name = "content";
        let mut file = io::BufWriter::new(std::fs::File::create(temporary.path().join(name))?);
        for word in words(seed).take(BYTES as usize / 8) {
            file.write_all(&word)?;
        }
        file.flush()?;
        drop(file);
        let directory = Directory::open(temporary.path())?;
        let open = FileOp::Open { directory, path: name.into() };
        Ok(Self { file: opened(open, backend, options)?, _temporary: temporary })
    }

    /// Returns the part of `bytes` bytes from `offset` on, if the file contains it.
    pub(super) fn part(&self, offset: u64, bytes: u32) -> Option<Segment> {
        let part = || FilePart::new(self.file.clone(), offset, bytes as usize);
        (offset + u64::from(bytes) <= BYTES).then(|| Segment::File(Box::new(part())))
    }
}

/// Opens the file through a port.
fn opened(open: FileOp, backend: Backend, options: &Options) -> io::Result<File> {
    let (port, _) = CompletionPort::open(backend, &Options { io_workers: 1, ..options.clone() })?;
    let (sender, receiver) = mpsc::channel();
    let mut open = Some(open);
    port.spawn(LaneId(0), "file-source", move |lane| {
        if let Some(open) = open.take() {
            lane.submit(Tag(0), Op::File(Box::new(open)));
        }
        let Some(completion) = lane.next_completion() else { return Turn::Sleep(None) };
        let _ = sender.send(completion.outcome);
        Turn::Done
    })?;
    let outcome = receiver.recv().unwrap_or(Outcome::Failed(Error::new(Failure::Cancelled)));
    port.drain(Duration::from_secs(10));
    match outcome {
        Outcome::File(outcome) => match *outcome {
            FileOutcome::Opened { file, .. } => Ok(file),
            other => Err(io::Error::other(format!("{other:?}"))),
        },
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}
