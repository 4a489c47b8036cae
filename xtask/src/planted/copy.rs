//! A copy of the workspace that mistakes can be put into, with its own build directory.

use std::collections::BTreeSet;
use std::env::consts::EXE_SUFFIX;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Outcome, workspace};

pub(super) struct Copy {
    place: PathBuf,
}

impl Copy {
    /// Makes the copy in `place` equal to `root`. Files that are already equal are left alone, so
    /// that cargo does not build again what did not change.
    pub(super) fn fresh(root: &Path, files: &BTreeSet<String>, place: &Path) -> Outcome<Self> {
        let copy = Self { place: place.to_path_buf() };
        mirror(root, files, &copy.tree()).map_err(|error| {
            format!("cannot copy the workspace to {}: {error}", place.display())
        })?;
        Ok(copy)
    }

    pub(super) fn tree(&self) -> PathBuf {
        self.place.join("tree")
    }

    /// Builds the program as the copy stands and says where it is.
    pub(super) fn build(&self) -> Outcome<PathBuf> {
        let target = self.place.join("target");
        let arguments = ["build", "--quiet", "--profile", "sim", "--package", "posthouse-cli"];
        let mut command = workspace::cargo(&self.tree(), &arguments);
        // What a mistake leaves unused is no news; the warnings would hide the errors.
        command.env("CARGO_TARGET_DIR", &target).env("RUSTFLAGS", "--cap-lints=allow");
        workspace::succeed(&mut command)?;
        Ok(target.join("sim").join(format!("posthouse{EXE_SUFFIX}")))
    }

    /// Builds the program before a mistake is in, and keeps it where later builds leave it alone.
    pub(super) fn build_unchanged(&self) -> Outcome<PathBuf> {
        let built = self.build()?;
        let kept = self.place.join(format!("unchanged{EXE_SUFFIX}"));
        fs::copy(&built, &kept)
            .map_err(|error| format!("cannot copy {}: {error}", built.display()))?;
        Ok(kept)
    }
}

fn mirror(from: &Path, files: &BTreeSet<String>, to: &Path) -> std::io::Result<()> {
    for file in files {
        let (source, target) = (from.join(file), to.join(file));
        let wanted = fs::read(&source)?;
        if fs::read(&target).is_ok_and(|there| there == wanted) {
            continue;
        }
        if let Some(directory) = target.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&target, wanted)?;
    }
    remove_strays(to, to, files)
}

/// Removes the files under `directory` that the workspace no longer has.
fn remove_strays(root: &Path, directory: &Path, files: &BTreeSet<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_strays(root, &path, files)?;
            continue;
        }
        let relative = path.strip_prefix(root).unwrap_or(&path);
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        let name = parts.join("/");
        // Cargo writes the lock file itself where the repository has none.
        if !files.contains(&name) && name != "Cargo.lock" {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_holds_the_listed_files_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir_all(from.join("src")).unwrap();
        fs::create_dir_all(to.join("src")).unwrap();
        fs::write(from.join("src/lib.rs"), "new").unwrap();
        fs::write(from.join("ignored"), "not listed").unwrap();
        fs::write(to.join("src/lib.rs"), "with a mistake").unwrap();
        fs::write(to.join("src/gone.rs"), "stray").unwrap();
        mirror(&from, &BTreeSet::from(["src/lib.rs".to_owned()]), &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("src/lib.rs")).unwrap(), "new");
        assert!(!to.join("src/gone.rs").exists());
        assert!(!to.join("ignored").exists());
    }

    #[test]
    fn an_equal_file_keeps_its_time_so_that_nothing_is_built_again() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir_all(&from).unwrap();
        fs::create_dir_all(&to).unwrap();
        fs::write(from.join("a"), "same").unwrap();
        fs::write(to.join("a"), "same").unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(to.join("a")).unwrap().set_modified(long_ago).unwrap();
        mirror(&from, &BTreeSet::from(["a".to_owned()]), &to).unwrap();
        assert_eq!(fs::metadata(to.join("a")).unwrap().modified().unwrap(), long_ago);
    }
}
