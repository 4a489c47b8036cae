//! The rules for dependencies between crates, read from the manifests.

use super::tree::Tree;
use super::{Finding, Rule};

pub(super) const APART: Rule = Rule {
    name: "crates-apart",
    says: "wire and io depend neither on each other nor on the framework; the program depends on \
           neither of them; wire and the framework depend on no crate of a system",
    check: apart,
};

pub(super) const LINTS: Rule = Rule {
    name: "lints-inherited",
    says: "every package inherits the lints of the workspace",
    check: lints,
};

/// A crate, and the packages that it must not depend on.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("posthouse-wire", &["posthouse-io", "posthouse"]),
    ("posthouse-io", &["posthouse-wire", "posthouse"]),
    ("posthouse-cli", &["posthouse-wire", "posthouse-io"]),
];

/// The crates that give access to the system or to randomness. The packages of [`WITHOUT_SYSTEM`]
/// must not depend on them, except in their tests: they use posthouse-io.
const SYSTEM: &[&str] =
    &["rustix", "libc", "io-uring", "windows-sys", "getrandom", "rand", "fastrand", "tempfile"];
const WITHOUT_SYSTEM: &[&str] = &["posthouse-wire", "posthouse"];

fn apart(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for manifest in tree.manifests() {
        let Some(name) = manifest.path.rsplit('/').nth(1) else { continue };
        let table: toml::Table = match manifest.text.parse() {
            Ok(table) => table,
            Err(error) => {
                let text = format!("is not a valid manifest: {error}");
                found.push(Finding { path: manifest.path.clone(), line: 1, text });
                continue;
            }
        };
        let mut dependencies = Vec::new();
        collect(&table, &mut dependencies);
        for (package, kind) in dependencies {
            let package = package.as_str();
            let crates = FORBIDDEN.iter().filter(|(of, _)| *of == name);
            let by_crate = crates.flat_map(|(_, others)| *others).any(|other| *other == package);
            let by_system = WITHOUT_SYSTEM.contains(&name)
                && SYSTEM.contains(&package)
                && kind == "dependencies";
            if by_crate || by_system {
                let line = manifest.text.lines().position(|line| line.contains(package));
                let text = format!("{name} must not depend on {package}: remove the dependency");
                let line = line.unwrap_or(0) + 1;
                found.push(Finding { path: manifest.path.clone(), line, text });
            }
        }
    }
    found
}

/// Collects the packages in every dependency table below `table`, and the name of that table.
fn collect(table: &toml::Table, found: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let Some(value) = value.as_table() else { continue };
        if !key.ends_with("dependencies") {
            // `[target.'cfg(..)'.dependencies]` is two tables down.
            collect(value, found);
            continue;
        }
        for (name, dependency) in value {
            let package = dependency.get("package").and_then(toml::Value::as_str);
            found.push((package.unwrap_or(name).to_owned(), key.clone()));
        }
    }
}

fn lints(tree: &Tree) -> Vec<Finding> {
    let inherits = "[lints]\nworkspace = true";
    tree.manifests()
        // A workspace has lints of its own, also that of the benchmark.
        .filter(|manifest| !manifest.text.contains("[workspace]"))
        .filter(|manifest| !manifest.text.contains(inherits))
        .map(|manifest| Finding {
            path: manifest.path.clone(),
            line: 1,
            text: format!("does not inherit the lints of the workspace: add `{inherits}`"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(manifest: &str) -> Vec<usize> {
        let tree = Tree::of(&[("crates/posthouse-wire/Cargo.toml", manifest)]);
        apart(&tree).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_dependency_is_found_in_any_table_and_under_any_name() {
        for manifest in [
            "[dependencies]\nposthouse-io.workspace = true",
            "[dev-dependencies]\nposthouse-io = { path = \"../posthouse-io\" }",
            "[target.'cfg(unix)'.dependencies]\nio = { package = \"posthouse-io\", path = \"..\" }",
            "[dependencies]\nrustix.workspace = true",
        ] {
            assert_eq!(lines(manifest), [2], "{manifest}");
        }
    }

    #[test]
    fn other_dependencies_and_those_of_tests_on_the_system_are_fine() {
        for manifest in [
            "[package]\ndescription = \"beside posthouse-io\"\n[dependencies]\nsha2 = \"1\"",
            "[target.'cfg(unix)'.dev-dependencies]\nrustix = \"1\"",
        ] {
            assert_eq!(lines(manifest), Vec::<usize>::new(), "{manifest}");
        }
        assert_eq!(lines("[dependencies").len(), 1);
    }

    #[test]
    fn a_package_without_the_lints_of_the_workspace_is_found() {
        let found = |text| lints(&Tree::of(&[("crates/a/Cargo.toml", text)])).len();
        assert_eq!(found("[package]\nname = \"a\"\n"), 1);
        assert_eq!(found("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"), 0);
        assert_eq!(found("[workspace]\n[lints.clippy]\npedantic = \"warn\"\n"), 0);
    }
}
