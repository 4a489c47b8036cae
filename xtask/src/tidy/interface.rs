//! How much a user has to learn: public types, options, subcommands.

use super::source::{Source, closing, identifier, words};
use super::tree::Tree;
use super::{Finding, Rule};

pub(super) const TYPES: Rule = Rule {
    name: "public-types",
    says: "`posthouse` has at most 54 public types (counted in its listing, api.txt)",
    check: types,
};

pub(super) const OPTIONS: Rule = Rule {
    name: "options",
    says: "`posthouse::Options` has at most 20 fields beside `tuning`",
    check: options,
};

pub(super) const SUBCOMMANDS: Rule = Rule {
    name: "subcommands",
    says: "the program has at most 12 subcommands",
    check: subcommands,
};

const TYPES_MAX: usize = 54;
const OPTIONS_MAX: usize = 20;
const SUBCOMMANDS_MAX: usize = 12;
const LISTING: &str = "crates/posthouse/api.txt";

fn types(tree: &Tree) -> Vec<Finding> {
    let finding = |text| vec![Finding { path: LISTING.into(), line: 1, text }];
    let Some(listing) = tree.document(LISTING) else {
        return finding("is missing: write it with `cargo xtask api --bless`".into());
    };
    let kinds = ["struct", "enum", "union", "trait", "type"];
    let count = listing
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| !word.starts_with("#[")))
        .filter(|kind| kinds.contains(kind))
        .count();
    over(count, TYPES_MAX, "public types").map_or_else(Vec::new, finding)
}

fn options(tree: &Tree) -> Vec<Finding> {
    for source in tree.below("crates/posthouse/src/options") {
        let Some((at, body)) = body_of(source, "struct", "Options") else { continue };
        let fields = fields(body).into_iter().filter(|field| *field != "tuning").count();
        return over(fields, OPTIONS_MAX, "options")
            .map(|text| Finding { path: source.path.clone(), line: source.line(at), text })
            .into_iter()
            .collect();
    }
    let path = "crates/posthouse/src/options.rs".into();
    vec![Finding { path, line: 1, text: "`pub struct Options` is not there: put it there".into() }]
}

fn subcommands(tree: &Tree) -> Vec<Finding> {
    let mut count = 0;
    let mut last = None;
    for source in tree.below("crates/posthouse-cli/src/") {
        for (at, inside) in source.attributes() {
            if !inside.starts_with("derive(") || words(inside, "Subcommand").next().is_none() {
                continue;
            }
            let Some(start) = words(&source.code[at..], "enum").next() else { continue };
            let Some(open) = source.code[at + start..].find('{').map(|n| at + start + n) else {
                continue;
            };
            let Some(close) = closing(&source.code, open) else { continue };
            count += variants(&source.code[open + 1..close]);
            last = Some((source, at));
        }
    }
    let Some((source, at)) = last else { return Vec::new() };
    over(count, SUBCOMMANDS_MAX, "subcommands")
        .map(|text| Finding { path: source.path.clone(), line: source.line(at), text })
        .into_iter()
        .collect()
}

fn over(count: usize, max: usize, what: &str) -> Option<String> {
    (count > max).then(|| format!("{count} {what}, at most {max}: take one away first"))
}

/// Where the public `struct` or `enum` called `name` stands, and what is between its braces.
fn body_of<'a>(source: &'a Source, kind: &str, name: &str) -> Option<(usize, &'a str)> {
    let declaration = format!("pub {kind} {name}");
    let at = words(&source.code, &declaration).next()?;
    let open = at + source.code[at..].find('{')?;
    Some((at, &source.code[open + 1..closing(&source.code, open)?]))
}

/// The names of the fields in the body of a struct.
fn fields(body: &str) -> Vec<&str> {
    parts(body)
        .into_iter()
        .filter_map(|part| {
            let (declared, _) = part.split_once(':')?;
            declared.split_whitespace().last()
        })
        .collect()
}

/// How many variants the body of an enum has.
fn variants(body: &str) -> usize {
    parts(body).into_iter().filter(|part| identifier(part).is_some()).count()
}

/// What stands between the commas of a body, without attributes; commas in any bracket, angle
/// brackets included, are not counted.
fn parts(body: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut at, mut angle) = (0, 0, 0_usize);
    while let Some(byte) = body.as_bytes().get(at) {
        match byte {
            b'(' | b'[' | b'{' => at = closing(body, at).unwrap_or(body.len()),
            b'<' => angle += 1,
            b'>' => angle = angle.saturating_sub(1),
            b',' if angle == 0 => {
                parts.push(&body[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(&body[start..]);
    parts.into_iter().map(without_attributes).filter(|part| !part.is_empty()).collect()
}

fn without_attributes(part: &str) -> &str {
    let mut part = part.trim();
    while part.starts_with("#[") {
        let end = closing(part, 1).map_or(part.len(), |close| close + 1);
        part = part[end..].trim_start();
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_types_are_counted_in_the_listing() {
        let listing = |count| {
            let types = "struct posthouse::A\n#[non_exhaustive] enum posthouse::B\n";
            format!(
                "{}fn posthouse::A::f(&self)\nassociated type posthouse::H::State\n",
                types.repeat(count)
            )
        };
        assert_eq!(types(&Tree::of(&[(LISTING, &listing(TYPES_MAX / 2))])), []);
        assert_eq!(types(&Tree::of(&[(LISTING, &listing(TYPES_MAX / 2 + 1))])).len(), 1);
        assert_eq!(types(&Tree::of(&[])).len(), 1);
    }

    #[test]
    fn the_fields_of_options_are_counted_without_tuning() {
        let file = |fields: usize| {
            let mut text = "pub struct Options {\n    pub tuning: Tuning,\n".to_owned();
            for number in 0..fields {
                text +=
                    "    /// Doc, with: signs.\n    #[serde(default = \"x\", rename = \"y\")]\n";
                text += &["    pub field_", &number.to_string(), ": Map<A, b::C<(u8, u8)>>,\n"]
                    .concat();
            }
            text + "}\n"
        };
        let found = |fields| {
            options(&Tree::of(&[("crates/posthouse/src/options/mod.rs", &file(fields))])).len()
        };
        assert_eq!(found(20), 0);
        assert_eq!(found(21), 1);
        assert_eq!(options(&Tree::of(&[])).len(), 1);
    }

    #[test]
    fn the_variants_of_subcommand_enums_are_counted_together() {
        let file = |variants: usize| {
            let mut text = "#[derive(Debug, clap::Subcommand)]\nenum Command {\n".to_owned();
            for number in 0..variants {
                text += "    /// A, b.\n    #[command(name = \"x\")]\n";
                text +=
                    ["    A,\n", "    B(Options, u8),\n", "    C { a: u8, b: u8 },\n"][number % 3];
            }
            text + "}\n#[derive(Debug)]\nenum Other { A, B }\n"
        };
        let found = |variants| {
            let text = file(variants);
            subcommands(&Tree::of(&[("crates/posthouse-cli/src/main.rs", &text)])).len()
        };
        assert_eq!(found(12), 0);
        assert_eq!(found(13), 1);
    }
}
