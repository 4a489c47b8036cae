//! The files to send, the directory that receives them, and the check of the received files.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use posthouse_bench::processes::remove_leftovers;

pub(crate) const SMALL_FILES: usize = 2000;
const SMALL_BYTES: usize = 10 * 1024;
/// The name of the directory of a run, without the id of the process.
const PREFIX: &str = "posthouse-bench-";

/// The files of one transfer: one large file, or many small ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileSet {
    Large,
    Small,
}

pub(crate) struct Fixture {
    root: PathBuf,
}

fn at_path(path: &Path) -> impl FnOnce(std::io::Error) -> String + use<> {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

impl Fixture {
    /// Creates the files from random bytes, so that no method can compress them.
    pub(crate) fn build(place: &Path, large_bytes: u64) -> Result<Self, String> {
        // A run that a signal ended leaves its files behind, on /dev/shm in memory.
        remove_leftovers(place, PREFIX, |path| drop(fs::remove_dir_all(path)));
        let root = place.join(format!("{PREFIX}{}", std::process::id()));
        let fixture = Self { root };
        let small = fixture.outbox().join("small");
        fs::create_dir_all(&small).map_err(at_path(&small))?;
        let mut random = File::open("/dev/urandom").map_err(|error| error.to_string())?;
        let path = fixture.outbox().join("large.bin");
        let mut large = File::create(&path).map_err(at_path(&path))?;
        std::io::copy(&mut (&random).take(large_bytes), &mut large).map_err(at_path(&path))?;
        let mut bytes = vec![0; SMALL_BYTES];
        for number in 0..SMALL_FILES {
            random.read_exact(&mut bytes).map_err(|error| error.to_string())?;
            let path = small.join(format!("{number:04}.bin"));
            let mut file = File::create(&path).map_err(at_path(&path))?;
            file.write_all(&bytes).map_err(at_path(&path))?;
        }
        Ok(fixture)
    }

    pub(crate) fn outbox(&self) -> PathBuf {
        self.root.join("outbox")
    }

    pub(crate) fn inbox(&self) -> PathBuf {
        self.root.join("inbox")
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn empty_inbox(&self) -> Result<(), String> {
        let inbox = self.inbox();
        let _ = fs::remove_dir_all(&inbox);
        fs::create_dir_all(inbox.join("small")).map_err(at_path(&inbox))
    }

    /// Compares the received files with the sent ones.
    pub(crate) fn check(&self, set: FileSet, method: &str) -> Result<(), String> {
        let names: Vec<String> = match set {
            FileSet::Large => vec!["large.bin".to_owned()],
            FileSet::Small => (0..SMALL_FILES).map(|n| format!("small/{n:04}.bin")).collect(),
        };
        for name in names {
            let source = self.outbox().join(&name);
            let copy = self.inbox().join(&name);
            if !same(&source, &copy)? {
                return Err(format!("{method}: the received {name} differs from the sent one"));
            }
        }
        Ok(())
    }

    pub(crate) fn remove(&self) {
        // The next run removes what a failure leaves behind.
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn same(one: &Path, other: &Path) -> Result<bool, String> {
    let mut one = File::open(one).map_err(at_path(one))?;
    let mut other = File::open(other).map_err(at_path(other))?;
    let mut left = vec![0; 1 << 20];
    let mut right = vec![0; 1 << 20];
    loop {
        let bytes = one.read(&mut left).map_err(|error| error.to_string())?;
        if bytes == 0 {
            let more = other.read(&mut right).map_err(|error| error.to_string())?;
            return Ok(more == 0);
        }
        if other.read_exact(&mut right[..bytes]).is_err() || left[..bytes] != right[..bytes] {
            return Ok(false);
        }
    }
}
