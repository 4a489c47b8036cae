//! The rule for the types of files in the workspace.

use super::tree::Tree;
use super::{Finding, Rule};

pub(super) const RULE: Rule = Rule {
    name: "file-types",
    says: "a file has a type that people write here: files that a program left are not committed",
    check,
};

const ENDINGS: &[&str] =
    &["c", "csv", "json", "lock", "md", "patch", "py", "rs", "sh", "svg", "toml", "txt"];
const NAMES: &[&str] = &[".ci/run", ".gitignore", "LICENSE-APACHE", "LICENSE-MIT"];

fn check(tree: &Tree) -> Vec<Finding> {
    let is_known = |path: &str| {
        let ending = path.rsplit('/').next().and_then(|name| name.rsplit_once('.'));
        NAMES.contains(&path) || ending.is_some_and(|(_, ending)| ENDINGS.contains(&ending))
    };
    let unknown = tree.paths().filter(|path| !is_known(path));
    let finding = |path: &str| Finding {
        path: path.to_owned(),
        line: 1,
        text: "has an unknown type: remove the file, or add its type to the rule".to_owned(),
    };
    unknown.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_left_is_found() {
        let files =
            ["src/a.rs", ".gitignore", "system.reg", "dosdevices/z:", "a/LICENSE-MIT", "b/c"];
        let tree = Tree::of(&files.map(|path| (path, "")));
        let found: Vec<String> = check(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["a/LICENSE-MIT", "b/c", "dosdevices/z:", "system.reg"]);
    }
}
