//! `unsafe` stands in one crate.

use super::tree::Tree;
use super::{Finding, Rule};

pub(super) const ONLY_IN_IO: Rule = Rule {
    name: "unsafe-only-in-io",
    says: "`unsafe` stands only in posthouse-io, test code included",
    check: only_in_io,
};

pub(super) const FORBIDDEN: Rule = Rule {
    name: "unsafe-forbidden",
    says: "every other crate has `#![forbid(unsafe_code)]` in its lib.rs and main.rs",
    check: forbidden,
};

const IO: &str = "crates/posthouse-io/";

fn only_in_io(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in tree.sources.iter().filter(|source| !source.path.starts_with(IO)) {
        for at in source.words("unsafe") {
            found.push(Finding {
                path: source.path.clone(),
                line: source.line(at),
                text: "`unsafe` is for posthouse-io alone: move what needs it there, \
                       behind a safe interface"
                    .into(),
            });
        }
    }
    found
}

fn forbidden(tree: &Tree) -> Vec<Finding> {
    let is_root = |path: &str| path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
    tree.sources
        .iter()
        .filter(|source| is_root(&source.path) && !source.path.starts_with(IO))
        .filter(|source| !source.attributes().any(|(_, inside)| inside == "forbid(unsafe_code)"))
        .map(|source| Finding {
            path: source.path.clone(),
            line: 1,
            text: "add `#![forbid(unsafe_code)]`".into(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "crates/posthouse-wire/src/lib.rs";

    #[test]
    fn unsafe_outside_io_is_found_in_tests_too() {
        for text in ["fn f() { unsafe { g() } }", "#[cfg(test)] mod tests { unsafe fn f() {} }"] {
            assert_eq!(only_in_io(&Tree::of(&[(ROOT, text)])).len(), 1, "{text}");
        }
    }

    #[test]
    fn unsafe_in_io_and_the_word_elsewhere_are_fine() {
        let tree = Tree::of(&[
            ("crates/posthouse-io/src/ring.rs", "fn f() { unsafe { g() } }"),
            (ROOT, "#![forbid(unsafe_code)] // unsafe\nconst S: &str = \"unsafe\";"),
        ]);
        assert_eq!(only_in_io(&tree), []);
    }

    #[test]
    fn a_root_without_the_attribute_is_found() {
        for text in ["", "#![deny(unsafe_code)]", "// #![forbid(unsafe_code)]"] {
            assert_eq!(forbidden(&Tree::of(&[(ROOT, text)])).len(), 1, "{text}");
        }
    }

    #[test]
    fn a_root_with_the_attribute_a_module_and_io_are_fine() {
        let tree = Tree::of(&[
            (ROOT, "//! Frames.\n\n#![forbid(unsafe_code)]"),
            ("crates/posthouse-wire/src/frame.rs", ""),
            ("crates/posthouse-io/src/lib.rs", ""),
        ]);
        assert_eq!(forbidden(&tree), []);
    }
}
