//! The files to transfer, and the order in which they come.

use std::time::Instant;

use posthouse::Directory;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From here to the server.
    Send,
    /// From the server to here.
    Get,
}

impl Direction {
    /// The participle for messages about a file: "sent" or "received".
    pub(crate) fn participle(self) -> &'static str {
        match self {
            Direction::Send => "sent",
            Direction::Get => "received",
        }
    }
}

/// One file to transfer.
#[derive(Clone, Debug)]
pub(crate) struct FileJob {
    /// The local directory.
    pub(crate) directory: Directory,
    /// The path of the file beneath it.
    pub(crate) path: Box<str>,
    /// The name of the file on the server.
    pub(crate) name: Box<str>,
}

/// The answer of a [`JobSource`].
#[derive(Debug)]
pub(crate) enum NextJob {
    Job(FileJob),
    /// A file is left out on purpose: its name, and the reason.
    Skipped(String, &'static str),
    /// A file should be transferred but cannot be: its name, and the reason.
    Failed(String, String),
    /// There is no job before this time.
    NotBefore(Instant),
    /// There are no more jobs.
    End,
}

/// A source of jobs, asked for one after the other, so that not all of them are held at once.
pub(crate) trait JobSource {
    fn next(&mut self, now: Instant) -> NextJob;

    /// The number of jobs still to come, as far as that is known.
    fn remaining(&self) -> usize;
}
