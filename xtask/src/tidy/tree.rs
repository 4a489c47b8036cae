//! What the rules read: every file of the workspace, held in memory, so that a test can give them
//! a workspace of three lines.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::source::Source;
use crate::{Outcome, workspace};

pub(super) struct Tree {
    /// All Rust sources.
    pub(super) sources: Vec<Source>,
    /// Manifests and documents: path and text.
    documents: Vec<(String, String)>,
    /// The paths of all files, whatever they hold.
    files: BTreeSet<String>,
}

impl Tree {
    pub(super) fn read(root: &Path) -> Outcome<Self> {
        let files = workspace::files(root)?;
        let mut texts = Vec::new();
        for path in files.iter().filter(|path| is_source(path) || is_document(path)) {
            let text = fs::read_to_string(root.join(path))
                .map_err(|error| format!("cannot read {path}: {error}"))?;
            texts.push((path.clone(), text));
        }
        Ok(Self::new(texts, files))
    }

    fn new(texts: Vec<(String, String)>, files: BTreeSet<String>) -> Self {
        let (rust, documents): (Vec<_>, Vec<_>) =
            texts.into_iter().partition(|(path, _)| is_source(path));
        let mut sources: Vec<Source> =
            rust.into_iter().map(|(path, text)| Source::new(path, text)).collect();
        let test_modules: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
        for source in &mut sources {
            let of_module = |module: &String| {
                source
                    .path
                    .strip_prefix(module.as_str())
                    .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
            };
            if test_modules.iter().any(of_module) {
                source.mark_as_test();
            }
        }
        Self { sources, documents, files }
    }

    /// A tree of these files, for tests.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let texts = files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect();
        Self::new(texts, files.iter().map(|(path, _)| (*path).into()).collect())
    }

    /// The paths of all files, in order.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    pub(super) fn document(&self, path: &str) -> Option<&str> {
        self.documents.iter().find(|(of, _)| of == path).map(|(_, text)| text.as_str())
    }

    /// The sources below `directory`, which ends in `/`.
    pub(super) fn below<'a>(&'a self, directory: &'a str) -> impl Iterator<Item = &'a Source> {
        self.sources.iter().filter(move |source| source.path.starts_with(directory))
    }

    /// Whether a file or a directory with files in it has this path.
    pub(super) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let directory = format!("{path}/");
        self.files.contains(path) || self.files.iter().any(|file| file.starts_with(&directory))
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
    fn a_module_declared_for_tests_in_its_parent_is_test_code() {
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", "mod port;\n#[cfg(test)]\nmod checks;\n"),
            ("crates/a/src/checks.rs", "fn f() {}"),
            ("crates/a/src/checks/more.rs", "fn f() {}"),
            ("crates/a/src/checks_of_frames.rs", "fn f() {}"),
            ("crates/a/src/port.rs", "mod lane; #[cfg(test)] mod script;"),
            ("crates/a/src/port/script.rs", "fn f() {}"),
        ]);
        let test: Vec<_> =
            tree.sources.iter().filter(|s| s.is_test(0)).map(|s| s.path.as_str()).collect();
        assert_eq!(
            test,
            [
                "crates/a/src/checks.rs",
                "crates/a/src/checks/more.rs",
                "crates/a/src/port/script.rs",
            ]
        );
    }

    #[test]
    fn a_directory_exists_when_a_file_is_in_it() {
        let tree = Tree::of(&[("crates/a/src/lib.rs", "")]);
        assert!(tree.has("crates/a/") && tree.has("crates/a/src/lib.rs"));
        assert!(!tree.has("crates/b") && !tree.has("crates/a/src/li"));
    }
}
