//! The bounds on the interface that a user has to learn: public types and options.

use super::tree::Tree;
use super::{Finding, Rule};

pub(super) const TYPES: Rule = Rule {
    name: "public-types",
    says: "`posthouse` has at most 75 public types (counted in its listing, api.txt)",
    check: types,
};

pub(super) const OPTIONS: Rule = Rule {
    name: "options",
    says: "a public struct of options has at most 20 fields beside `tuning`",
    check: options,
};

/// One more than 70 since a list tells its callers what it left out and whether it goes on
/// (`FileList`).
const TYPES_MAX: usize = 75;
const OPTIONS_MAX: usize = 20;
const LISTING: &str = "crates/posthouse/api.txt";

fn types(tree: &Tree) -> Vec<Finding> {
    let Some(listing) = tree.document(LISTING) else {
        return vec![finding("is missing: write it with `cargo xtask api --bless`".into())];
    };
    let count = listing.lines().filter(|line| is_type(line)).count();
    let text = format!("{count} public types, at most {TYPES_MAX}: remove one first");
    if count > TYPES_MAX { vec![finding(text)] } else { Vec::new() }
}

/// Returns whether the line declares a type, or re-exports one of another crate.
fn is_type(line: &str) -> bool {
    let line = line.trim_start_matches("#[non_exhaustive] ");
    let mut words = line.split([' ', '<', ':', '(']).filter(|word| !word.is_empty());
    let is_name = |word: &str| word.starts_with(char::is_uppercase);
    match (words.next(), words.next()) {
        (Some("pub"), Some("struct" | "enum" | "union" | "trait")) => true,
        // An alias or a re-exported type. An associated type has the name of a type before its own.
        (Some("pub"), Some("type" | "use")) => words.find(|word| is_name(word)).is_some_and(|_| {
            let path = line.split([' ', '<', '=']).nth(2).unwrap_or_default();
            path.split("::").filter(|part| is_name(part)).count() == 1
        }),
        _ => false,
    }
}

fn options(tree: &Tree) -> Vec<Finding> {
    let listing = tree.document(LISTING).unwrap_or_default();
    let mut found = Vec::new();
    let structs = listing.lines().filter_map(|line| {
        let path = line.trim_start_matches("#[non_exhaustive] ").strip_prefix("pub struct ")?;
        path.ends_with("Options").then_some(path)
    });
    let mut count_of_structs = 0;
    for path in structs {
        count_of_structs += 1;
        let field = format!("pub {path}::");
        let is_option = |line: &&str| {
            line.strip_prefix(&field).is_some_and(|rest| !rest.starts_with("tuning:"))
        };
        let count = listing.lines().filter(is_option).count();
        if count > OPTIONS_MAX {
            let text = format!("{path} has {count} options, at most {OPTIONS_MAX}");
            found.push(finding(format!("{text}: remove one first")));
        }
    }
    if count_of_structs == 0 {
        found.push(finding("has no struct of options: adapt the rule `options`".into()));
    }
    found
}

fn finding(text: String) -> Finding {
    Finding { path: LISTING.into(), line: 1, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_from_the_rest_of_the_listing() {
        for line in [
            "pub struct posthouse::Builder<H>",
            "#[non_exhaustive] pub enum posthouse::Backend",
            "pub trait posthouse::Handler: core::marker::Send",
            "pub type posthouse::Result = core::result::Result<(), posthouse::Close>",
            "pub use posthouse::sim::Disk",
        ] {
            assert!(is_type(line), "{line}");
        }
        for line in [
            "pub mod posthouse::sim",
            "pub type posthouse::Handler::State: core::default::Default",
            "pub type posthouse::Target::Err = posthouse_io::AddressError",
            "pub use posthouse::check",
            "pub posthouse::Backend::Auto",
            "impl posthouse::Builder",
        ] {
            assert!(!is_type(line), "{line}");
        }
    }

    #[test]
    fn too_many_types_or_no_listing_are_found() {
        let listing = |count| "pub struct posthouse::A\n".repeat(count);
        assert_eq!(types(&Tree::of(&[(LISTING, &listing(TYPES_MAX))])), []);
        assert_eq!(types(&Tree::of(&[(LISTING, &listing(TYPES_MAX + 1))])).len(), 1);
        assert_eq!(types(&Tree::of(&[])).len(), 1);
    }

    #[test]
    fn the_fields_of_options_are_counted_without_tuning() {
        let found = |fields| {
            let mut listing = "pub struct posthouse::Options\n".to_owned();
            for number in 0..fields {
                listing +=
                    &["pub posthouse::Options::field_", &number.to_string(), ": u8\n"].concat();
            }
            listing += "pub posthouse::Options::tuning: posthouse::Tuning\n";
            listing += "pub fn posthouse::Options::default() -> Self\n";
            options(&Tree::of(&[(LISTING, &listing)])).len()
        };
        assert_eq!(found(OPTIONS_MAX), 0);
        assert_eq!(found(OPTIONS_MAX + 1), 1);
        assert_eq!(options(&Tree::of(&[])).len(), 1);
    }
}
