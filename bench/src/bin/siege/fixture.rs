//! The directories of the server and of the honest peers.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use posthouse_bench::processes::remove_leftovers;

/// The name of the directory and of the control group of a run, without the id of the process.
pub(crate) const PREFIX: &str = "posthouse-siege-";
/// The number of empty files in the directory that the server serves.
pub(crate) const EMPTY_FILES: usize = 60_000;
/// The number of files of 1 MiB in the directory that the server serves.
pub(crate) const LARGE_FILES: usize = 8;
pub(crate) const LARGE_BYTES: usize = 1 << 20;
/// The name of the file of 11 bytes.
pub(crate) const SMALL_FILE: &str = "small.txt";
/// The quota of the directory that receives. An offer of exactly these bytes needs a count of the
/// directory, and then has no room because the directory has a file of one byte.
pub(crate) const QUOTA_BYTES: u64 = 8 << 30;
pub(crate) const QUOTA_FILES: u64 = 100_000;
/// The key of the second listener.
pub(crate) const KEY: &[u8] = b"a key of the siege";

/// The scratch directory of one run, which is removed in the end.
#[derive(Debug)]
pub(crate) struct Fixture {
    root: PathBuf,
}

impl Fixture {
    pub(crate) fn build(place: &Path) -> Result<Self, String> {
        // A run that was killed leaves its files behind, on /dev/shm in memory.
        remove_leftovers(place, PREFIX, |path| drop(fs::remove_dir_all(path)));
        let fixture = Self { root: place.join(format!("{PREFIX}{}", std::process::id())) };
        fixture.fill().map_err(|error| format!("{}: {error}", fixture.root.display()))?;
        Ok(fixture)
    }

    fn fill(&self) -> std::io::Result<()> {
        let root = &self.root;
        for directory in [outbox(root), inbox(root), downloads(root), uploads(root)] {
            fs::create_dir_all(directory)?;
        }
        for number in 0..EMPTY_FILES {
            // An entry of a name this long does not fit into a payload of 64 bytes.
            let name = format!("an-empty-file-of-the-directory-under-siege-{number:05}");
            File::create(outbox(root).join(name))?;
        }
        let mut random = File::open("/dev/urandom")?;
        let mut bytes = vec![0; LARGE_BYTES];
        for number in 0..LARGE_FILES {
            random.read_exact(&mut bytes)?;
            fs::write(outbox(root).join(large_file(number)), &bytes)?;
        }
        random.read_exact(&mut bytes)?;
        fs::write(uploads(root).join("content"), &bytes)?;
        fs::write(outbox(root).join(SMALL_FILE), b"hello siege")?;
        fs::write(inbox(root).join("one-byte"), b"1")
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // The next run removes what a failure leaves behind.
        let _ = fs::remove_dir_all(&self.root);
    }
}

pub(crate) fn large_file(number: usize) -> String {
    format!("large-{}.bin", number % LARGE_FILES)
}

/// Returns the directory that the server serves.
pub(crate) fn outbox(root: &Path) -> PathBuf {
    root.join("outbox")
}

/// Returns the directory into which the server receives.
pub(crate) fn inbox(root: &Path) -> PathBuf {
    root.join("inbox")
}

/// Returns the directory into which the honest peers receive.
pub(crate) fn downloads(root: &Path) -> PathBuf {
    root.join("downloads")
}

/// Returns the directory from which the honest peers send.
pub(crate) fn uploads(root: &Path) -> PathBuf {
    root.join("uploads")
}
