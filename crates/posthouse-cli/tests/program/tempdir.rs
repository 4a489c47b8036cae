//! Directories and files of one test.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A file of one test that only this user can read, alone in a directory that is removed with this
/// value.
pub(crate) struct TemporaryFile {
    path: PathBuf,
    _directory: TempDir,
}

impl TemporaryFile {
    pub(crate) fn new(name: &str, content: &str) -> Self {
        let directory = tempfile::tempdir().expect("the directory is made");
        let path = directory.path().join(name);
        std::fs::write(&path, content).expect("the file is written");
        let file = Self { path, _directory: directory };
        #[cfg(unix)]
        file.set_mode(0o600);
        file
    }

    #[cfg(unix)]
    pub(crate) fn set_mode(&self, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;

        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&self.path, permissions).expect("the file is ours");
    }

    pub(crate) fn text(&self) -> &str {
        self.path.to_str().expect("the path is UTF-8")
    }
}

/// A directory of one test, removed when it is dropped.
pub(crate) struct TemporaryDirectory(TempDir);

impl TemporaryDirectory {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("the directory is made"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns the path of an entry in the directory.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Returns the path of an entry as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.join(name).to_str().expect("the path is UTF-8").to_owned()
    }

    /// Writes a file in the directory, and creates missing parents.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir_all(path.parent().expect("the path has a parent"))
            .expect("the directory can be created");
        std::fs::write(&path, content).expect("the file is written");
        path
    }
}
