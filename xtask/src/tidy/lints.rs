//! The rules for the text of a source that no lint of the compiler or of clippy checks.

use super::tree::{Source, Tree};
use super::{Finding, Rule};

pub(super) const FILE: Rule =
    Rule { name: "file-length", says: "a source file has at most 800 lines", check: files };

pub(super) const LINE: Rule = Rule {
    name: "line-length",
    says: "a line of source has at most 100 columns, also if rustfmt does not break it",
    check: lines,
};

pub(super) const UNFINISHED: Rule =
    Rule { name: "unfinished", says: "no comment puts work off", check: unfinished };

pub(super) const SLEEP: Rule = Rule {
    name: "sleep-in-tests",
    says: "a test waits for a condition, never for a time",
    check: sleep,
};

const FILE_LINES_MAX: usize = 800;
const LINE_COLUMNS_MAX: usize = 100;
const MARKS: [&str; 6] = ["TODO", "FIXME", "XXX", "HACK", "for now", "For now"];

fn files(tree: &Tree) -> Vec<Finding> {
    let over = |source: &Source| {
        let lines = source.text.lines().count();
        (lines > FILE_LINES_MAX).then(|| Finding {
            path: source.path.clone(),
            line: FILE_LINES_MAX + 1,
            text: format!("{lines} lines, at most {FILE_LINES_MAX}: move a second idea out of it"),
        })
    };
    tree.sources.iter().filter_map(over).collect()
}

fn lines(tree: &Tree) -> Vec<Finding> {
    each_line(tree, |_, _, line| {
        let columns = line.chars().count();
        (columns > LINE_COLUMNS_MAX)
            .then(|| format!("{columns} columns, at most {LINE_COLUMNS_MAX}: break the line"))
    })
}

fn unfinished(tree: &Tree) -> Vec<Finding> {
    each_line(tree, |_, _, line| {
        let (_, comment) = line.split_once("//")?;
        let mark = MARKS.iter().find(|mark| has_words(comment, mark))?;
        Some(format!("`{mark}` in a comment: do the work, or give the state and its reason"))
    })
}

fn sleep(tree: &Tree) -> Vec<Finding> {
    each_line(tree, |source, number, line| {
        let sleeps = line.contains("thread::sleep") && !line.trim_start().starts_with("//");
        (sleeps && source.is_test(number))
            .then(|| "a sleep in a test: wait for the condition, with a bound".into())
    })
}

/// Returns a finding for each line of each source for which `check` returns a text.
fn each_line(tree: &Tree, check: impl Fn(&Source, usize, &str) -> Option<String>) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in &tree.sources {
        for (line, number) in source.text.lines().zip(1..) {
            if let Some(text) = check(source, number, line) {
                found.push(Finding { path: source.path.clone(), line: number, text });
            }
        }
    }
    found
}

/// Returns whether `text` contains `words` without a letter or digit beside it.
fn has_words(text: &str, words: &str) -> bool {
    text.match_indices(words).any(|(at, _)| {
        !text[..at].ends_with(char::is_alphanumeric)
            && !text[at + words.len()..].starts_with(char::is_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Tree {
        Tree::of(&[("crates/posthouse/src/peer.rs", text)])
    }

    #[test]
    fn a_file_may_have_800_lines_and_no_more() {
        assert_eq!(files(&tree(&"\n".repeat(800))), []);
        assert_eq!(files(&tree(&"\n".repeat(801))).len(), 1);
    }

    #[test]
    fn columns_are_characters_not_bytes() {
        assert_eq!(lines(&tree(&"é".repeat(100))), []);
        let found = lines(&tree(&format!("\n{}", "é".repeat(101))));
        assert_eq!((found.len(), found[0].line), (1, 2));
    }

    #[test]
    fn work_put_off_is_found_in_comments() {
        for text in [" FIXME: later", " XXX", "/ A HACK.", " Good enough for now."] {
            // In two parts, so that the rule does not find them here.
            assert_eq!(unfinished(&tree(&["f(); /", "/", text].concat())).len(), 1, "{text}");
        }
        assert_eq!(unfinished(&tree("// Waits for nowhere, in mktemp.XXXXXX.")), []);
        assert_eq!(unfinished(&tree("let mark = \"FIXME\";")), []);
    }

    #[test]
    fn a_sleep_is_found_in_tests_only() {
        let found = |path, text: &str| sleep(&Tree::of(&[(path, text)])).len();
        let sleeps = ["    std::thread", "::sleep(d);\n"].concat();
        let tests = format!("{sleeps}#[cfg(test)]\nmod tests {{\n{sleeps}}}");
        assert_eq!(found("crates/a/src/echo.rs", &tests), 1);
        assert_eq!(found("crates/a/src/echo/tests.rs", &sleeps), 1);
        assert_eq!(found("crates/a/tests/it/echo.rs", &sleeps), 1);
        assert_eq!(found("crates/a/tests/echo.rs", &format!("// {sleeps}lane.sleep();")), 0);
    }
}
