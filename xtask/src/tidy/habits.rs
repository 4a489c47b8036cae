//! Words and attributes that must not stand in a finished source.

use super::paths;
use super::source::{Source, words};
use super::tree::Tree;
use super::{Finding, Rule};

pub(super) const UNFINISHED: Rule = Rule {
    name: "unfinished",
    says: "no macro that stands for missing code, no comment that puts work off",
    check: unfinished,
};

pub(super) const SLEEP: Rule = Rule {
    name: "sleep-in-tests",
    says: "a test waits for a condition, never for a time",
    check: sleep,
};

pub(super) const IGNORE: Rule =
    Rule { name: "ignore-reason", says: "an ignored test says why", check: ignore };

pub(super) const ALLOW: Rule = Rule {
    name: "allow-reason",
    says: "a lint that is allowed or expected in the source has a reason",
    check: allow,
};

const MACROS: &[&str] = &["todo", "unimplemented", "dbg"];
const COMMENTS: &[&str] = &["TODO", "FIXME", "XXX", "HACK", "for now", "For now"];

fn unfinished(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in &tree.sources {
        for name in MACROS {
            for at in source.words(name) {
                if source.code[at + name.len()..].starts_with('!') {
                    found.push(finding(
                        source,
                        at,
                        format!("`{name}!` here: write what is missing"),
                    ));
                }
            }
        }
        for word in COMMENTS {
            for at in words(&source.comments, word) {
                let text = format!("`{word}` in a comment: do it, or say what is and why");
                found.push(finding(source, at, text));
            }
        }
    }
    found
}

fn sleep(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in &tree.sources {
        for named in paths::named(source).iter().filter(|named| source.is_test(named.at)) {
            if named.path.ends_with("thread::sleep") {
                let text = "a sleep in a test: wait for the condition, with a bound".into();
                found.push(finding(source, named.at, text));
            }
        }
    }
    found
}

fn ignore(tree: &Tree) -> Vec<Finding> {
    with_attribute(tree, |inside| inside.trim() == "ignore", "say why: `#[ignore = \"..\"]`")
}

fn allow(tree: &Tree) -> Vec<Finding> {
    let unreasoned = |inside: &str| {
        ["allow", "expect"].iter().any(|level| words(inside, level).next().is_some())
            && inside.contains('(')
            && words(inside, "reason").next().is_none()
            && !inside.starts_with("doc")
    };
    with_attribute(tree, unreasoned, "say why the lint does not apply: `reason = \"..\"`")
}

fn with_attribute(tree: &Tree, wrong: impl Fn(&str) -> bool, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in &tree.sources {
        for (at, _) in source.attributes().filter(|(_, inside)| wrong(inside)) {
            found.push(finding(source, at, text.into()));
        }
    }
    found
}

fn finding(source: &Source, at: usize, text: String) -> Finding {
    Finding { path: source.path.clone(), line: source.line(at), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Tree {
        Tree::of(&[("crates/posthouse/src/peer.rs", text)])
    }

    #[test]
    fn work_put_off_is_found() {
        for text in [
            "fn f() { todo!() }",
            "fn f() { std::unimplemented!(\"x\") }",
            "fn f() { dbg!(1); }",
            "// FIXME: later",
            "/* XXX */",
            "/// A HACK.",
            "// Good enough for now.",
        ] {
            assert_eq!(unfinished(&tree(text)).len(), 1, "{text}");
        }
    }

    #[test]
    fn finished_work_is_not() {
        let text = "// Waits for nowhere, in mktemp.XXXXXX.\nfn todo() { let dbg = \"FIXME\"; }";
        assert_eq!(unfinished(&tree(text)), []);
    }

    #[test]
    fn a_sleep_is_found_in_tests_only() {
        let sleeps = "use std::thread; fn f() { thread::sleep(d); }";
        assert_eq!(sleep(&tree(sleeps)), []);
        assert_eq!(sleep(&tree(&format!("#[cfg(test)] mod tests {{ {sleeps} }}"))).len(), 1);
        assert_eq!(sleep(&Tree::of(&[("crates/posthouse/tests/echo.rs", sleeps)])).len(), 1);
        let imported = "#[cfg(test)] mod tests { use std::thread::{self, sleep}; }";
        assert_eq!(sleep(&tree(imported)).len(), 1);
        let other = "#[cfg(test)] mod tests { fn f() { lane.sleep(); } }";
        assert_eq!(sleep(&tree(other)), []);
    }

    #[test]
    fn an_ignored_test_needs_a_reason() {
        assert_eq!(ignore(&tree("#[test]\n#[ignore]\nfn f() {}")).len(), 1);
        assert_eq!(ignore(&tree("#[test]\n#[ignore = \"needs root\"]\nfn f() {}")), []);
    }

    #[test]
    fn an_allowed_lint_needs_a_reason() {
        for text in [
            "#[allow(clippy::too_many_lines)] fn f() {}",
            "#![allow(dead_code)]",
            "#[expect(\n    unused,\n)] fn f() {}",
            "#[cfg_attr(test, allow(dead_code))] fn f() {}",
        ] {
            assert_eq!(allow(&tree(text)).len(), 1, "{text}");
        }
        for text in [
            "#[allow(clippy::too_many_lines, reason = \"a table\")] fn f() {}",
            "#[deny(warnings)] fn f() { x.expect(\"y\") }",
        ] {
            assert_eq!(allow(&tree(text)), [], "{text}");
        }
    }
}
