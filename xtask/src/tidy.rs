//! `cargo xtask tidy`: checks the rules of the source tree that no compiler checks.

mod dependencies;
mod documents;
mod file_types;
mod interface;
mod lints;
mod prose;
mod tree;

use crate::{Result, workspace};
use tree::Tree;

/// A rule: its name, its text, and the function that checks it.
struct Rule {
    name: &'static str,
    says: &'static str,
    check: fn(&Tree) -> Vec<Finding>,
}

/// A place where a rule does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// The number of the line, from 1; 1 for the file as a whole.
    line: usize,
    /// The mistake and the remedy.
    text: String,
}

const RULES: &[Rule] = &[
    dependencies::APART,
    dependencies::LINTS,
    documents::RULE,
    file_types::RULE,
    lints::FILE,
    lints::LINE,
    lints::UNFINISHED,
    lints::SLEEP,
    prose::OPENING,
    interface::TYPES,
    interface::OPTIONS,
];

pub(crate) fn run() -> Result {
    let tree = Tree::read(&workspace::root())?;
    let found = check(&tree, RULES);
    for (finding, rule) in &found {
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

/// Prints the rules.
pub(crate) fn list() {
    for rule in RULES {
        println!("{:20} {}", rule.name, rule.says);
    }
}

/// Returns all findings, each with the name of its rule, in the order of the files.
fn check(tree: &Tree, rules: &[Rule]) -> Vec<(Finding, &'static str)> {
    let of_rule = |rule: &Rule| {
        let name = rule.name;
        (rule.check)(tree).into_iter().map(move |finding| (finding, name))
    };
    let mut found: Vec<_> = rules.iter().flat_map(of_rule).collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_its_rule_and_its_place() {
        let line = "x".repeat(200);
        let tree = Tree::of(&[("b.rs", &line), ("a.rs", &format!("\n{line}"))]);
        let found = check(&tree, &[lints::LINE]);
        let places: Vec<_> =
            found.iter().map(|(at, rule)| (at.path.as_str(), at.line, *rule)).collect();
        assert_eq!(places, [("a.rs", 2, "line-length"), ("b.rs", 1, "line-length")]);
    }
}
