//! The files of the workspace, in memory. A test can give the rules a workspace of three lines.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::{Result, workspace};

pub(super) struct Tree {
    /// All Rust sources.
    pub(super) sources: Vec<Source>,
    /// Manifests and documents.
    documents: Vec<Source>,
    /// The paths of all files.
    files: BTreeSet<String>,
}

pub(super) struct Source {
    pub(super) path: String,
    pub(super) text: String,
}

impl Tree {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let files = workspace::files(root)?;
        let mut texts = Vec::new();
        for path in files.iter().filter(|path| is_source(path) || is_document(path)) {
            let text = fs::read_to_string(root.join(path))
                .map_err(|error| format!("cannot read {path}: {error}"))?;
            texts.push(Source { path: path.clone(), text });
        }
        Ok(Self::new(texts, files))
    }

    fn new(texts: Vec<Source>, files: BTreeSet<String>) -> Self {
        let (sources, documents) = texts.into_iter().partition(|source| is_source(&source.path));
        Self { sources, documents, files }
    }

    /// Makes a tree of these files, for tests.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let source =
            |(path, text): &(&str, &str)| Source { path: (*path).into(), text: (*text).into() };
        let paths = files.iter().map(|(path, _)| (*path).into()).collect();
        Self::new(files.iter().map(source).collect(), paths)
    }

    /// Returns the paths of all files, in order.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    pub(super) fn document(&self, path: &str) -> Option<&str> {
        self.documents.iter().find(|of| of.path == path).map(|of| of.text.as_str())
    }

    /// Returns the manifests of all packages, and of the workspace.
    pub(super) fn manifests(&self) -> impl Iterator<Item = &Source> {
        self.documents.iter().filter(|document| document.path.ends_with("Cargo.toml"))
    }

    /// Returns whether a file, or a directory with files in it, has this path.
    pub(super) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let directory = format!("{path}/");
        self.files.contains(path) || self.files.iter().any(|file| file.starts_with(&directory))
    }
}

impl Source {
    /// Returns whether the line, counted from 1, is compiled for tests only: it is in a directory
    /// or a file of tests, or below `#[cfg(test)]` with a module, which is at the end of a file.
    pub(super) fn is_test(&self, line: usize) -> bool {
        let is_file = self.path.split('/').any(|part| part == "tests" || part == "tests.rs");
        let mut before =
            self.text.lines().take(line - 1).skip_while(|l| l.trim() != "#[cfg(test)]");
        is_file || before.any(|line| line.starts_with("mod ") && line.ends_with('{'))
    }
}

fn is_source(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

fn is_document(path: &str) -> bool {
    let document = ["Cargo.toml", "ARCHITECTURE.md", "api.txt"];
    document.contains(&path.rsplit('/').next().unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_exists_when_a_file_is_in_it() {
        let tree = Tree::of(&[("crates/a/src/lib.rs", "")]);
        assert!(tree.has("crates/a/") && tree.has("crates/a/src/lib.rs"));
        assert!(!tree.has("crates/b") && !tree.has("crates/a/src/li"));
    }
}
