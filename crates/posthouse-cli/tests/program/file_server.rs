//! A file server with the directories of one test, and the files that tests send and get.

use std::collections::BTreeMap;
use std::fs;
use std::path::{MAIN_SEPARATOR, Path};

use super::harness::{Program, ProgramOutput, run, serve};
use super::tempdir::TemporaryDirectory;

/// A server with an empty directory, `inbox`, in a directory of this test.
pub(crate) struct FileServerFixture {
    pub(crate) server: Program,
    pub(crate) address: String,
    /// The last field: Windows does not remove a directory that a server has open.
    pub(crate) here: TemporaryDirectory,
}

impl FileServerFixture {
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let here = TemporaryDirectory::new();
        fs::create_dir(here.join("inbox")).unwrap();
        let inbox = here.text("inbox");
        let words = [&["--dir", &inbox], arguments].concat();
        let (server, address) = serve(&words);
        Self { server, address: address.to_string(), here }
    }

    /// Runs `posthouse send` with paths in the test's directory.
    pub(crate) fn send(&self, arguments: &[&str]) -> ProgramOutput {
        let words = ["send", &self.address].into_iter().chain(arguments.iter().copied());
        Program::start_in(self.here.path(), words).finish()
    }

    /// Runs `posthouse get` in the test's directory.
    pub(crate) fn get(&self, arguments: &[&str]) -> ProgramOutput {
        let words = ["get", &self.address].into_iter().chain(arguments.iter().copied());
        Program::start_in(self.here.path(), words).finish()
    }

    pub(crate) fn list(&self, arguments: &[&str]) -> ProgramOutput {
        run(["list", &self.address].into_iter().chain(arguments.iter().copied()))
    }

    /// Returns the contents of all files in the inbox by name.
    pub(crate) fn inbox(&self) -> BTreeMap<String, Vec<u8>> {
        files(&self.here.join("inbox"))
    }

    /// Returns the names of all files in the inbox.
    pub(crate) fn names(&self) -> Vec<String> {
        self.inbox().into_keys().collect()
    }
}

/// Returns the contents of all files beneath a directory by name, without the parts directory.
pub(crate) fn files(top: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            match entry.file_type().unwrap() {
                _ if entry.file_name() == ".posthouse" => {}
                kind if kind.is_dir() => left.push(path),
                _ => {
                    let name = path.strip_prefix(top).unwrap().to_str().unwrap();
                    let name = name.replace(MAIN_SEPARATOR, "/");
                    found.insert(name, fs::read(path).unwrap());
                }
            }
        }
    }
    found
}

/// Creates sixty files of several sizes, with all kinds of names, in directories.
pub(crate) fn make_tree(here: &TemporaryDirectory, top: &str) {
    for number in 0..60_usize {
        let name = match number {
            0 => "empty".to_owned(),
            1 => "größe und 雪.txt".to_owned(),
            2 => "a/b/c/d/e/deep".to_owned(),
            3 => ".hidden".to_owned(),
            _ => format!("part {}/file-{number}.bin", number % 7),
        };
        let content: Vec<u8> = (0..number * number * 37).map(|at| (at * number) as u8).collect();
        here.write(&format!("{top}/{name}"), content);
    }
}

pub(crate) fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}
