//! The files of the demonstration, in a temporary directory.

use std::fs;
use std::path::Path;

use posthouse::Directory;
use tempfile::TempDir;

use super::{FILE_BYTES, FILES};
use crate::failure::{Failure, Outcome};
use crate::pattern;

/// What clients send, what arrives at the server, and what clients get back. Dropping it removes
/// all of it.
pub(crate) struct Files {
    pub(super) outbox: Directory,
    pub(super) inbox: Directory,
    pub(super) back: Directory,
    /// The last: Windows keeps a directory that somebody has open.
    top: TempDir,
}

impl Files {
    /// Makes the directories, and the files to send.
    pub(super) fn make() -> Outcome<Self> {
        let failed = |at: &Path, error| {
            let shown = at.display();
            Failure::runtime(format!(
                "cannot make the files of the demonstration in {shown}: {error}"
            ))
        };
        let top = tempfile::Builder::new().prefix("posthouse-demo-").tempdir();
        let top = top.map_err(|error| failed(&std::env::temp_dir(), error))?;
        let [outbox, inbox, back] = fill(top.path()).map_err(|error| failed(top.path(), error))?;
        Ok(Self { outbox, inbox, back, top })
    }

    /// How many of the files that came back are what was sent.
    pub(super) fn same(&self) -> u64 {
        let is_same = |client: &u32| {
            let came = fs::read(self.top.path().join("back").join(name(*client)));
            came.is_ok_and(|came| came == content(*client))
        };
        (0..FILES).filter(is_same).count() as u64
    }
}

fn fill(top: &Path) -> std::io::Result<[Directory; 3]> {
    for part in ["outbox", "inbox", "back"] {
        fs::create_dir(top.join(part))?;
    }
    for client in 0..FILES {
        fs::write(top.join("outbox").join(name(client)), content(client))?;
    }
    let open = |part| Directory::open(top.join(part));
    Ok([open("outbox")?, open("inbox")?, open("back")?])
}

/// The name of a client's file.
pub(super) fn name(client: u32) -> String {
    format!("client-{client}.bin")
}

fn content(client: u32) -> Vec<u8> {
    pattern::bytes(u64::from(client), FILE_BYTES)
}
