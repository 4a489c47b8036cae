//! The files that the demonstration transfers, in a temporary directory.

use std::fs;
use std::path::Path;

use posthouse::Directory;
use tempfile::TempDir;

use super::{FILE_BYTES, FILES};
use crate::failure::{CommandResult, Failure};
use crate::pattern;

/// The directory that clients send from, the one that the server receives into, and the one for the
/// files that clients get back. Dropping this removes all files.
pub(crate) struct SampleFiles {
    pub(super) outbox: Directory,
    pub(super) inbox: Directory,
    pub(super) back: Directory,
    /// The last field: Windows does not remove an open directory.
    top: TempDir,
}

impl SampleFiles {
    /// Creates the directories and the files to send.
    pub(super) fn make() -> CommandResult<Self> {
        let failed = |at: &Path, error| {
            let shown = at.display();
            Failure::runtime(format!(
                "cannot create the files of the demonstration in {shown}: {error}"
            ))
        };
        let top = tempfile::Builder::new().prefix("posthouse-demo-").tempdir();
        let top = top.map_err(|error| failed(&std::env::temp_dir(), error))?;
        let [outbox, inbox, back] = fill(top.path()).map_err(|error| failed(top.path(), error))?;
        Ok(Self { outbox, inbox, back, top })
    }

    /// Counts the files that were received back unchanged.
    pub(super) fn count_unchanged(&self) -> u64 {
        let is_unchanged = |client: &u32| {
            let returned = fs::read(self.top.path().join("back").join(name(*client)));
            returned.is_ok_and(|returned| returned == content(*client))
        };
        (0..FILES).filter(is_unchanged).count() as u64
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

/// Returns the name of a client's file.
pub(super) fn name(client: u32) -> String {
    format!("client-{client}.bin")
}

fn content(client: u32) -> Vec<u8> {
    pattern::bytes(u64::from(client), FILE_BYTES)
}
