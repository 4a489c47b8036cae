//! Which crate may see which.

use super::paths::crate_named;
use super::tree::Tree;
use super::{Finding, Rule};

pub(super) const RULE: Rule = Rule {
    name: "crates-apart",
    says: "wire and io see neither each other nor the framework; the program sees the latter",
    check,
};

/// A crate, and the crates it must not depend on.
const APART: &[(&str, &[&str])] = &[
    ("posthouse-wire", &["posthouse-io", "posthouse"]),
    ("posthouse-io", &["posthouse-wire", "posthouse"]),
    ("posthouse-cli", &["posthouse-wire", "posthouse-io"]),
];

fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (one, others) in APART {
        let path = format!("crates/{one}/Cargo.toml");
        let manifest = tree.document(&path).unwrap_or_default();
        match depended_on(manifest) {
            Ok(names) => {
                for other in names.iter().filter(|name| others.contains(&name.as_str())) {
                    let line = 1 + manifest
                        .lines()
                        .position(|line| line.contains(other.as_str()))
                        .unwrap_or(0);
                    let text = format!("{one} must not depend on {other}: remove the dependency");
                    found.push(Finding { path: path.clone(), line, text });
                }
            }
            Err(text) => found.push(Finding { path, line: 1, text }),
        }
        for source in tree.below(&format!("crates/{one}/")) {
            for other in *others {
                // `posthouse` alone is also the name of the program, and a word.
                let name = other.replace('-', "_");
                if let Some(at) = name.contains('_').then(|| crate_named(source, &name)).flatten() {
                    let text = format!("{one} must not use {other}");
                    let line = source.line(at);
                    found.push(Finding { path: source.path.clone(), line, text });
                }
            }
        }
    }
    found
}

/// The packages named in every dependency table of a manifest.
fn depended_on(manifest: &str) -> Result<Vec<String>, String> {
    let manifest: toml::Table =
        manifest.parse().map_err(|error| format!("is not a manifest: {error}"))?;
    let mut names = Vec::new();
    collect(&manifest, &mut names);
    Ok(names)
}

fn collect(table: &toml::Table, names: &mut Vec<String>) {
    for (key, value) in table {
        let Some(value) = value.as_table() else { continue };
        if key.ends_with("dependencies") {
            for (name, dependency) in value {
                let package = dependency.get("package").and_then(toml::Value::as_str);
                names.push(package.unwrap_or(name).to_owned());
            }
        } else {
            // `[target.'cfg(..)'.dependencies]` is two tables down.
            collect(value, names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(manifest: &str, source: &str) -> Vec<Finding> {
        check(&Tree::of(&[
            ("crates/posthouse-wire/Cargo.toml", manifest),
            ("crates/posthouse-wire/src/lib.rs", source),
        ]))
    }

    #[test]
    fn a_dependency_is_found_in_any_table_and_under_any_name() {
        for manifest in [
            "[dependencies]\nposthouse-io.workspace = true",
            "[dev-dependencies]\nposthouse-io = { path = \"../posthouse-io\" }",
            "[target.'cfg(unix)'.dependencies]\nio = { package = \"posthouse-io\", path = \"..\" }",
        ] {
            assert_eq!(findings(manifest, "").len(), 1, "{manifest}");
            assert_eq!(findings(manifest, "")[0].line, 2, "{manifest}");
        }
    }

    #[test]
    fn a_use_without_a_dependency_is_found_too() {
        assert_eq!(findings("", "\nuse posthouse_io::Lane;")[0].line, 2);
    }

    #[test]
    fn other_dependencies_and_mere_mentions_are_fine() {
        let manifest =
            "[package]\ndescription = \"beside posthouse-io\"\n[dependencies]\nsha2 = \"1\"";
        assert_eq!(findings(manifest, "//! See posthouse_io."), []);
    }
}
