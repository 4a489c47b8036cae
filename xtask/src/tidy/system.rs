//! Sockets, clocks, threads, files and chance belong to posthouse-io.

use super::paths::{self, Named};
use super::source::Source;
use super::tree::Tree;
use super::{Finding, Rule};

pub(super) const WIRE: Rule = Rule {
    name: "wire-without-system",
    says: "posthouse-wire has no socket, clock, thread, file or chance in it",
    check: wire,
};

pub(super) const FRAMEWORK: Rule = Rule {
    name: "system-through-io",
    says: "posthouse reaches sockets, clocks, threads, files and chance through posthouse-io; \
           address types are free, and files are read in src/options only",
    check: framework,
};

/// What must not be named, and what to do instead.
const BANNED: &[(&str, &str)] = &[
    ("std::net", "sockets belong to posthouse-io"),
    ("std::os", "the system belongs to posthouse-io"),
    ("std::time::Instant", "time is a Duration since the start: take it as an argument"),
    ("std::time::SystemTime", "time is a Duration since the start: take it as an argument"),
    ("std::time::UNIX_EPOCH", "time is a Duration since the start: take it as an argument"),
    ("std::thread", "threads are started by posthouse-io"),
    ("std::process", "processes belong to the program"),
    ("std::fs", "files are operations of posthouse-io"),
    ("std::io::Read", "input and output belong to posthouse-io"),
    ("std::io::Write", "input and output belong to posthouse-io"),
    ("std::io::BufRead", "input and output belong to posthouse-io"),
    ("std::io::BufReader", "input and output belong to posthouse-io"),
    ("std::io::BufWriter", "input and output belong to posthouse-io"),
    ("std::io::Seek", "input and output belong to posthouse-io"),
    ("std::io::copy", "input and output belong to posthouse-io"),
    ("std::io::prelude", "input and output belong to posthouse-io"),
    ("std::io::stdin", "input and output belong to the program"),
    ("std::io::stdout", "input and output belong to the program"),
    ("std::io::stderr", "input and output belong to the program"),
    ("std::hash::RandomState", "its seeds are chance: a run would not repeat"),
    ("std::collections::HashMap", "its order is chance: take a BTreeMap, or a seeded hasher"),
    ("std::collections::HashSet", "its order is chance: take a BTreeSet, or a seeded hasher"),
    ("std::collections::hash_map", "its order is chance: take a BTreeMap, or a seeded hasher"),
    ("std::collections::hash_set", "its order is chance: take a BTreeSet, or a seeded hasher"),
    ("rand", "chance comes from posthouse-io, or as an argument"),
    ("getrandom", "chance comes from posthouse-io, or as an argument"),
    ("fastrand", "chance comes from posthouse-io, or as an argument"),
    ("rustix", "the system belongs to posthouse-io"),
    ("libc", "the system belongs to posthouse-io"),
];

/// What of `std::net` is a name and no socket.
const ADDRESSES: &[&str] = &[
    "IpAddr",
    "Ipv4Addr",
    "Ipv6Addr",
    "SocketAddr",
    "SocketAddrV4",
    "SocketAddrV6",
    "AddrParseError",
];

fn wire(tree: &Tree) -> Vec<Finding> {
    tree.below("crates/posthouse-wire/src/").flat_map(|s| findings(s, |_| false)).collect()
}

fn framework(tree: &Tree) -> Vec<Finding> {
    tree.below("crates/posthouse/src/")
        .flat_map(|source| {
            let reads_files = source.path.starts_with("crates/posthouse/src/options");
            findings(source, move |path| {
                is_address(path) || (reads_files && is_below(path, "std::fs"))
            })
        })
        .collect()
}

fn findings(source: &Source, allowed: impl Fn(&str) -> bool) -> Vec<Finding> {
    let named = paths::named(source);
    let mut told_imports: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    // Imports come first in `named`.
    for Named { path, at, imported } in &named {
        if source.is_test(*at) || allowed(path) {
            continue;
        }
        let banned = BANNED.iter().find(|(banned, _)| is_banned(path, banned, *imported));
        let Some((_, instead)) = banned else { continue };
        if *imported {
            told_imports.push(path);
        } else if told_imports.iter().any(|import| is_below(path, import)) {
            // Told where it was imported, not again wherever it is used.
            continue;
        }
        let text = format!("`{path}` here: {instead}");
        found.push(Finding { path: source.path.clone(), line: source.line(*at), text });
    }
    found
}

/// Whether naming `path` reaches `banned`: it is it, is in it, or takes everything beside it.
fn is_banned(path: &str, banned: &str, imported: bool) -> bool {
    let everything = imported
        && path.strip_suffix("::*").is_some_and(|module| {
            banned.rsplit_once("::").is_some_and(|(parent, _)| parent == module)
        });
    everything || is_below(path, banned)
}

fn is_below(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The module alone is allowed too: what is taken from it is looked at where it is used.
fn is_address(path: &str) -> bool {
    path == "std::net"
        || path
            .strip_prefix("std::net::")
            .is_some_and(|rest| ADDRESSES.contains(&rest.split("::").next().unwrap_or(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_wire(text: &str) -> usize {
        wire(&Tree::of(&[("crates/posthouse-wire/src/frame.rs", text)])).len()
    }

    fn in_framework(file: &str, text: &str) -> usize {
        framework(&Tree::of(&[(&format!("crates/posthouse/src/{file}"), text)])).len()
    }

    #[test]
    fn wire_may_not_name_the_system() {
        for text in [
            "use std::net::IpAddr;",
            "use std::time::{Duration, Instant};",
            "use std::time; fn f() { time::SystemTime::now(); }",
            "fn f() { std::thread::spawn(|| ()); }",
            "use std::{fmt, fs};",
            "use std::io::Read;",
            "use std::collections::{BTreeMap, HashMap};",
            "use std::collections::*;",
            "use std::*;",
            "fn f() -> u64 { rand::random() }",
            "use std::hash::RandomState;",
            "use std::time::Instant as Clock; fn f() { Clock::now(); }",
        ] {
            assert_eq!(in_wire(text), 1, "{text}");
        }
    }

    #[test]
    fn wire_may_name_time_spans_errors_and_trees() {
        for text in [
            "use std::time::Duration; use std::collections::BTreeMap; use std::io::ErrorKind;",
            "// std::fs::read\nconst S: &str = \"std::net::TcpStream\";",
            "use crate::rand::Mix; fn f() { crate::fs::g(); }",
            "#[cfg(test)]\nmod tests { use std::collections::HashSet; use std::fs; }",
        ] {
            assert_eq!(in_wire(text), 0, "{text}");
        }
    }

    #[test]
    fn the_framework_may_name_addresses_and_no_sockets() {
        assert_eq!(in_framework("peer.rs", "use std::net::{IpAddr, SocketAddr};"), 0);
        assert_eq!(in_framework("peer.rs", "use std::net; type A = net::IpAddr;"), 0);
        assert_eq!(in_framework("peer.rs", "use std::net::{IpAddr, TcpStream};"), 1);
        assert_eq!(in_framework("peer.rs", "use std::net; type S = net::UdpSocket;"), 1);
        assert_eq!(in_framework("peer.rs", "use std::net::ToSocketAddrs;"), 1);
    }

    #[test]
    fn the_framework_reads_files_in_its_options_only() {
        let text = "fn f() { std::fs::read_to_string(p); }";
        assert_eq!(in_framework("options.rs", text), 0);
        assert_eq!(in_framework("options/file.rs", text), 0);
        assert_eq!(in_framework("endpoint.rs", text), 1);
        assert_eq!(in_framework("options.rs", "use std::thread;"), 1);
    }

    #[test]
    fn tests_and_examples_of_the_framework_are_free() {
        let text = "use std::net::TcpStream;";
        assert_eq!(
            framework(&Tree::of(&[
                ("crates/posthouse/tests/echo.rs", text),
                ("crates/posthouse/examples/echo.rs", text),
            ])),
            []
        );
    }
}
