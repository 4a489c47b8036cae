//! The first words of doc comments.

use super::tree::Tree;
use super::{Finding, Rule};

pub(super) const OPENING: Rule = Rule {
    name: "doc-opening",
    says: "a doc comment opens with a verb (\"Returns ...\") or with a noun and its article, not \
           with What, How, Who, Whoever, Where, Until, Of or So",
    check: |tree| openings(tree, EXCEPTIONS),
};

const WORDS: &[&str] = &["What", "How", "Who", "Whoever", "Where", "Until", "Of", "So"];

/// Openings that a reviewer has accepted: the path of the file and the start of the comment.
const EXCEPTIONS: &[(&str, &str)] = &[];
const _: () = assert!(EXCEPTIONS.len() <= 10);

fn openings(tree: &Tree, exceptions: &[(&str, &str)]) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in &tree.sources {
        for (line, text) in first_lines(&source.text) {
            let word = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            let is_excepted = exceptions
                .iter()
                .any(|(path, start)| source.path == *path && text.starts_with(start));
            if WORDS.contains(&word) && !is_excepted {
                let text = format!(
                    "a doc comment opens with `{word}`: open it with a verb (\"Returns ...\") or \
                     with a noun and its article (\"The number of ...\")"
                );
                found.push(Finding { path: source.path.clone(), line, text });
            }
        }
    }
    found
}

/// Returns the first line of each doc comment, without its marker, and its number from 1.
fn first_lines(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut marker_before = None;
    source.lines().zip(1..).filter_map(move |(line, number)| {
        let comment = split_marker(line.trim_start());
        let marker = comment.map(|(marker, _)| marker);
        let is_first = marker != marker_before;
        marker_before = marker;
        comment.filter(|_| is_first).map(|(_, text)| (number, text.trim_start()))
    })
}

/// Splits a line of a doc comment after `///` or `//!`. Four slashes begin an ordinary comment.
fn split_marker(line: &str) -> Option<(&str, &str)> {
    let is_doc = line.starts_with("//!") || line.starts_with("///") && !line.starts_with("////");
    is_doc.then(|| line.split_at(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "crates/a/src/b.rs";
    const NONE: [usize; 0] = [];

    fn lines(text: &str) -> Vec<usize> {
        let tree = Tree::of(&[(PATH, text)]);
        openings(&tree, &[]).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn each_bad_opening_is_found_in_both_kinds_of_doc_comments() {
        for word in WORDS {
            for marker in ["///", "    ///", "//!"] {
                let text = format!("\n{marker} {word} it does.\n");
                assert_eq!(lines(&text), [2], "{text}");
            }
        }
    }

    #[test]
    fn only_the_first_line_of_a_doc_comment_is_an_opening() {
        assert_eq!(lines("/// The size.\n/// How it is counted: in bytes.\n///\n/// So.\n"), NONE);
        assert_eq!(lines("/// The size.\nsize: u8,\n/// How many.\ncount: u8,\n"), [3]);
        assert_eq!(lines("//! The sizes.\n/// What is counted.\nstruct Size;\n"), [2]);
    }

    #[test]
    fn other_words_and_other_comments_are_fine() {
        for text in ["/// Offers a file.", "/// Software", "// What is this?", "//// So", "///"] {
            assert_eq!(lines(text), NONE, "{text}");
        }
    }

    #[test]
    fn an_exception_holds_for_its_file_and_its_text() {
        let text = "/// How many.\n\n/// How often.\n";
        let tree = Tree::of(&[(PATH, text), ("crates/a/src/c.rs", text)]);
        let found = openings(&tree, &[(PATH, "How many.")]);
        let places: Vec<_> = found.iter().map(|at| (at.path.as_str(), at.line)).collect();
        assert_eq!(places, [(PATH, 3), ("crates/a/src/c.rs", 1), ("crates/a/src/c.rs", 3)]);
    }
}
