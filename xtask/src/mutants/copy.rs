//! A copy of the workspace for the mutants, with its own build directory.

use std::collections::BTreeSet;
use std::env::consts::EXE_SUFFIX;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Result, workspace};

/// The profile of the build.
const PROFILE: &str = "mutants";

pub(super) struct Copy {
    root: PathBuf,
    files: BTreeSet<String>,
    directory: PathBuf,
}

impl Copy {
    /// Copies the workspace at `root` into `directory`.
    pub(super) fn new(root: &Path, directory: PathBuf) -> Result<Self> {
        let copy = Self { root: root.to_owned(), files: workspace::files(root)?, directory };
        copy.restore()?;
        Ok(copy)
    }

    pub(super) fn tree(&self) -> PathBuf {
        self.directory.join("tree")
    }

    /// Makes the copy equal to the workspace. It does not touch equal files, so that cargo does not
    /// build them again.
    pub(super) fn restore(&self) -> Result {
        mirror(&self.root, &self.files, &self.tree()).map_err(|error| {
            format!("cannot copy the workspace to {}: {error}", self.directory.display())
        })
    }

    /// Builds the program from the current state of the copy and returns its path.
    pub(super) fn build(&self) -> Result<PathBuf> {
        let target = self.directory.join("target");
        let arguments = ["build", "--quiet", "--profile", PROFILE, "--package", "posthouse-cli"];
        let mut command = workspace::cargo(&self.tree(), &arguments);
        // A mistake can leave code unused; the warnings about it would hide the errors.
        command.env("CARGO_TARGET_DIR", &target).env("RUSTFLAGS", "--cap-lints=allow");
        workspace::succeed(&mut command)?;
        Ok(target.join(PROFILE).join(format!("posthouse{EXE_SUFFIX}")))
    }

    /// Builds the program without a mistake, and copies it to a path that later builds do not
    /// change.
    pub(super) fn build_unchanged(&self) -> Result<PathBuf> {
        let built = self.build()?;
        let kept = self.directory.join(format!("unchanged{EXE_SUFFIX}"));
        fs::copy(&built, &kept)
            .map_err(|error| format!("cannot copy {}: {error}", built.display()))?;
        Ok(kept)
    }
}

fn mirror(from: &Path, files: &BTreeSet<String>, to: &Path) -> std::io::Result<()> {
    for file in files {
        let source = from.join(file);
        let target = to.join(file);
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
        if !files.contains(&parts.join("/")) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_holds_the_listed_files_and_equal_ones_keep_their_time() {
        let directory = tempfile::tempdir().unwrap();
        let from = directory.path().join("from");
        let to = directory.path().join("to");
        fs::create_dir_all(from.join("src")).unwrap();
        fs::create_dir_all(to.join("src")).unwrap();
        for (path, text) in [
            (from.join("src/lib.rs"), "new"),
            (from.join("equal"), "equal"),
            (from.join("ignored"), "not listed"),
            (to.join("src/lib.rs"), "with a mistake"),
            (to.join("src/gone.rs"), "stray"),
            (to.join("equal"), "equal"),
        ] {
            fs::write(path, text).unwrap();
        }
        let equal = fs::File::options().write(true).open(to.join("equal")).unwrap();
        equal.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        mirror(&from, &["equal".to_owned(), "src/lib.rs".to_owned()].into(), &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("src/lib.rs")).unwrap(), "new");
        assert!(!to.join("src/gone.rs").exists() && !to.join("ignored").exists());
        let modified = fs::metadata(to.join("equal")).unwrap().modified().unwrap();
        assert_eq!(modified, std::time::SystemTime::UNIX_EPOCH);
    }
}
