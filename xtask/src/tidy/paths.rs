//! The paths that a source names, `std::time::Instant` say, whether by `use` or where it is used.

use std::collections::BTreeMap;

use super::source::{Source, identifier, words};

pub(super) struct Named {
    /// Segments joined by `::`, with imported names spelled out and `core` and `alloc` read as
    /// `std`, under which all they hold is found too.
    pub(super) path: String,
    pub(super) at: usize,
    pub(super) imported: bool,
}

/// Every path in the code of `source` that has at least two segments, and every import.
pub(super) fn named(source: &Source) -> Vec<Named> {
    let mut imports = Imports { found: Vec::new(), names: BTreeMap::new() };
    let mut inside_use = Vec::new();
    for at in source.words("use") {
        let rest = &source.code[at + 3..];
        // `use<'a>` in a return type names no path.
        let Some(length) = rest.find(';').filter(|_| !rest.trim_start().starts_with('<')) else {
            continue;
        };
        imports.read("", &rest[..length], at + 3);
        inside_use.push(at..at + 3 + length);
    }
    let mut found = imports.found;
    for (at, path) in written(&source.code) {
        if inside_use.iter().any(|range| range.contains(&at)) {
            continue;
        }
        let path = spelled_out(&path, &imports.names);
        found.push(Named { path, at, imported: false });
    }
    found
}

struct Imports {
    found: Vec<Named>,
    /// What each imported name stands for.
    names: BTreeMap<String, String>,
}

impl Imports {
    /// Reads one use tree, `a::{b, c as d, e::*}`, under `prefix`.
    fn read(&mut self, prefix: &str, tree: &str, at: usize) {
        let at = at + tree.len() - tree.trim_start().len();
        let tree = tree.trim().trim_start_matches("::");
        if tree.is_empty() {
            return;
        }
        if let Some((path, group)) = tree.split_once('{') {
            let group = group.trim_end().trim_end_matches('}');
            let prefix = format!("{prefix}{}", without_spaces(path));
            let mut from = at + path.len() + 1;
            for part in group_parts(group) {
                self.read(&prefix, part, from);
                from += part.len() + 1;
            }
            return;
        }
        let (path, alias) = match tree.split_once(" as ") {
            Some((path, alias)) => (path, Some(alias.trim())),
            None => (tree, None),
        };
        let path = format!("{prefix}{}", without_spaces(path));
        let path = standard(path.strip_suffix("::self").unwrap_or(&path));
        let name = alias.unwrap_or_else(|| path.rsplit("::").next().unwrap_or_default());
        self.names.insert(name.to_owned(), path.clone());
        self.found.push(Named { path, at, imported: true });
    }
}

/// The parts of a group, split at the commas that are not in a group within it.
fn group_parts(group: &str) -> Vec<&str> {
    let mut depth = 0;
    group
        .split(|c| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            c == ',' && depth == 0
        })
        .collect()
}

/// The paths of two segments and more, as written, and where they begin.
fn written(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let Some((word, mut rest)) = identifier(&code[at..]) else {
            at += code[at..].chars().next().map_or(1, char::len_utf8);
            // A number takes its suffix along, so that `1u8` is no path.
            continue;
        };
        let mut path = word.to_owned();
        while let Some((segment, after)) = rest.strip_prefix("::").and_then(identifier) {
            path = format!("{path}::{segment}");
            rest = after;
        }
        if path.contains("::") {
            found.push((at, path));
        }
        at = code.len() - rest.len();
    }
    found
}

fn spelled_out(path: &str, names: &BTreeMap<String, String>) -> String {
    let (first, rest) = path.split_once("::").unwrap_or((path, ""));
    match names.get(first) {
        Some(full) => format!("{full}::{rest}"),
        None => standard(path),
    }
}

fn standard(path: &str) -> String {
    match path.split_once("::") {
        Some(("core" | "alloc", rest)) => format!("std::{rest}"),
        _ => path.to_owned(),
    }
}

fn without_spaces(path: &str) -> String {
    path.split_whitespace().collect()
}

/// Whether `source` names the crate `name` at all.
pub(super) fn crate_named(source: &Source, name: &str) -> Option<usize> {
    words(&source.code, name).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let source = Source::new("crates/a/src/b.rs".into(), text.into());
        named(&source).into_iter().map(|named| named.path).collect()
    }

    #[test]
    fn a_use_tree_is_read_to_its_leaves() {
        assert_eq!(
            paths("use std::{net::{IpAddr, TcpStream as Stream}, time::{self, Duration}, fs::*};"),
            [
                "std::net::IpAddr",
                "std::net::TcpStream",
                "std::time",
                "std::time::Duration",
                "std::fs::*"
            ]
        );
    }

    #[test]
    fn an_imported_module_is_spelled_out_where_it_is_used() {
        assert_eq!(
            paths("use std::time as clock; fn f() { clock::Instant::now() }"),
            ["std::time", "std::time::Instant::now"]
        );
    }

    #[test]
    fn a_path_may_be_written_out_or_come_from_core() {
        assert_eq!(
            paths("fn f(a: ::std::fs::File) -> core::net::IpAddr { 1u8 }"),
            ["std::fs::File", "std::net::IpAddr"]
        );
    }

    #[test]
    fn the_place_of_a_leaf_is_its_own() {
        let text = "use std::{\n    fmt,\n    fs::File,\n};";
        let source = Source::new("crates/a/src/b.rs".into(), text.into());
        let lines: Vec<_> = named(&source).iter().map(|named| source.line(named.at)).collect();
        assert_eq!(lines, [2, 3]);
    }
}
