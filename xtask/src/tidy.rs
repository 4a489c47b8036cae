//! `cargo xtask tidy`: holds the rules of the source tree by reading it.

mod dependencies;
mod documents;
mod exceptions;
mod habits;
mod interface;
mod kinds;
mod paths;
mod sizes;
mod source;
mod system;
mod tree;
mod unsafety;

use crate::{Outcome, workspace};
use exceptions::{EXCEPTIONS, Exception};
use tree::Tree;

/// One rule: its name, what it says, and the reading that holds it.
struct Rule {
    name: &'static str,
    says: &'static str,
    check: fn(&Tree) -> Vec<Finding>,
}

/// A place where a rule does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// From 1; the file as a whole is line 1.
    line: usize,
    /// What is wrong and what to do.
    text: String,
}

const RULES: &[Rule] = &[
    dependencies::RULE,
    unsafety::ONLY_IN_IO,
    unsafety::FORBIDDEN,
    system::WIRE,
    system::FRAMEWORK,
    documents::RULE,
    kinds::RULE,
    sizes::FILE,
    sizes::FUNCTION,
    sizes::LINE,
    interface::TYPES,
    interface::OPTIONS,
    interface::SUBCOMMANDS,
    habits::UNFINISHED,
    habits::SLEEP,
    habits::IGNORE,
    habits::ALLOW,
];

pub(crate) fn run() -> Outcome {
    let tree = Tree::read(&workspace::root())?;
    let found = check(&tree, RULES, EXCEPTIONS);
    for (rule, finding) in &found {
        println!("{}:{}: {rule}: {}", finding.path, finding.line, finding.text);
    }
    match found.len() {
        0 => {
            println!("{} files, {} rules hold", tree.sources.len(), RULES.len());
            Ok(())
        }
        1 => Err("tidy: 1 finding".into()),
        count => Err(format!("tidy: {count} findings")),
    }
}

/// Prints the rules, and the exceptions with their reasons.
#[expect(clippy::unnecessary_wraps, reason = "every chore returns the same")]
pub(crate) fn list() -> Outcome {
    for rule in RULES {
        println!("{:20} {}", rule.name, rule.says);
    }
    println!("\n{} exceptions", EXCEPTIONS.len());
    for exception in EXCEPTIONS {
        println!("{:20} {}: {}", exception.rule, exception.path, exception.reason);
    }
    Ok(())
}

/// All findings that no exception covers, and the exceptions that cover none.
fn check(
    tree: &Tree,
    rules: &[Rule],
    exceptions: &'static [Exception],
) -> Vec<(&'static str, Finding)> {
    let mut found = Vec::new();
    let mut used = vec![false; exceptions.len()];
    for rule in rules {
        for finding in (rule.check)(tree) {
            match exceptions.iter().position(|e| e.rule == rule.name && e.path == finding.path) {
                Some(at) => used[at] = true,
                None => found.push((rule.name, finding)),
            }
        }
    }
    for (exception, _) in exceptions.iter().zip(used).filter(|(_, used)| !used) {
        let text = format!("nothing breaks `{}` there any more: remove the entry", exception.rule);
        let path = exception.path.to_owned();
        found.push(("stale-exception", Finding { path, line: 1, text }));
    }
    found.sort_by(|one, other| one.1.cmp(&other.1));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG_LINE: &str = "crates/posthouse-wire/src/frame.rs";
    const EXCEPTION: &[Exception] =
        &[Exception { rule: "line-length", path: LONG_LINE, reason: "a test" }];

    fn tree(columns: usize) -> Tree {
        Tree::of(&[(LONG_LINE, &format!("// {}\n", "x".repeat(columns)))])
    }

    #[test]
    fn a_finding_names_its_rule_and_place() {
        let found = check(&tree(200), &[sizes::LINE], &[]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0, found[0].1.line), ("line-length", 1));
    }

    #[test]
    fn an_exception_covers_its_rule_in_its_file_only() {
        assert_eq!(check(&tree(200), &[sizes::LINE], EXCEPTION), []);
        let elsewhere = Tree::of(&[("xtask/src/main.rs", &"x".repeat(200))]);
        assert!(check(&elsewhere, &[sizes::LINE], EXCEPTION).iter().any(|f| f.0 == "line-length"));
    }

    #[test]
    fn an_exception_that_covers_nothing_is_a_finding() {
        assert_eq!(check(&tree(20), &[sizes::LINE], EXCEPTION)[0].0, "stale-exception");
    }

    #[test]
    fn every_exception_names_a_rule_and_gives_a_reason() {
        for exception in EXCEPTIONS {
            assert!(RULES.iter().any(|rule| rule.name == exception.rule), "{}", exception.rule);
            assert!(exception.reason.len() > 10, "{}: say why", exception.path);
        }
    }

    #[test]
    fn no_two_rules_share_a_name() {
        let mut names: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), RULES.len());
    }
}
