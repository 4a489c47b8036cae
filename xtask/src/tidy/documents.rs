//! The rule for paths in ARCHITECTURE.md: they must exist.

use super::tree::Tree;
use super::{Finding, Rule};

pub(super) const RULE: Rule = Rule {
    name: "architecture-paths",
    says: "the paths in backticks in ARCHITECTURE.md exist",
    check,
};

const PATH: &str = "ARCHITECTURE.md";

fn check(tree: &Tree) -> Vec<Finding> {
    let finding = |line, text| Finding { path: PATH.into(), line, text };
    let Some(text) = tree.document(PATH) else {
        return vec![finding(1, "is missing: write it".into())];
    };
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        // The parts of the line with odd numbers are between backticks.
        let spans = line.split('`').skip(1).step_by(2).filter(|_| !fenced);
        for span in spans.filter(|span| looks_like_a_path(span) && !tree.has(span)) {
            let text = format!("`{span}` does not exist: name the current path");
            found.push(finding(number + 1, text));
        }
    }
    found
}

/// Returns whether the text is a path of the source tree. `/etc/hosts`, `target/debug`, addresses
/// of pages and shell patterns are not.
fn looks_like_a_path(span: &str) -> bool {
    let elsewhere = span.starts_with(['/', '-', '~']) || span.starts_with("target/");
    let ends_as_file = [".rs", ".md", ".toml"].iter().any(|end| span.ends_with(end));
    let foreign = |c: char| !c.is_ascii_alphanumeric() && !"/._-".contains(c);
    (span.contains('/') || ends_as_file) && !elsewhere && !span.contains(foreign)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        let tree = Tree::of(&[(PATH, text), ("crates/posthouse-io/src/lane.rs", "")]);
        check(&tree).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_path_that_leads_nowhere_is_found() {
        let text = "See\n`crates/posthouse-io/src/line.rs` and `lane.rs`\nand `docs/`.";
        assert_eq!(lines(text), [2, 2, 3]);
    }

    #[test]
    fn paths_that_exist_and_what_is_no_path_are_fine() {
        let text = "`crates/posthouse-io/src/lane.rs` in `crates/posthouse-io/`, `Lane::next`, \
                    `cargo xtask test`, `Vec<u8>/x`, `https://example.org/x`, `/proc/self`\n\
                    ```\nno/such/path `no/such/path`\n```\n";
        assert_eq!(lines(text), Vec::<usize>::new());
    }

    #[test]
    fn a_missing_document_is_found() {
        assert_eq!(check(&Tree::of(&[])).len(), 1);
    }
}
