//! `cargo xtask api`: compares the public interface of each library crate with its committed
//! listing, so that a change is seen in review and never happens by accident.
//!
//! The crate `public-api` makes the listing from the JSON of rustdoc, which the stable rustdoc
//! writes if `RUSTC_BOOTSTRAP` is set. If it were set for the whole build, build scripts that watch
//! it would run again, and most dependencies would be compiled again. Therefore this program stands
//! in for rustdoc and sets it for rustdoc alone.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::{Result, workspace};

/// The crates whose interface others use. An item that a crate re-exports from another is one line
/// (`pub use`) in its listing; the other crate's listing has the details.
const CRATES: [&str; 3] = ["posthouse-wire", "posthouse-io", "posthouse"];
/// The traits that every type implements, and those that a user cannot name.
const SILENT: [&str; 6] =
    ["Freeze", "Unpin", "UnsafeUnpin", "UnwindSafe", "RefUnwindSafe", "StructuralPartialEq"];
/// The variable with the path of the real rustdoc while this program stands in for it.
const STAND_IN: &str = "POSTHOUSE_XTASK_RUSTDOC";

/// Compares each listing with the interface, or with `bless` writes it.
///
/// # Errors
///
/// The lines that differ, as the message.
pub(crate) fn run(bless: bool) -> Result {
    let root = workspace::root();
    document(&root)?;
    let mut differences = Vec::new();
    for name in CRATES {
        let path = listing_path(name);
        let current = listing(&root, name)?;
        let committed = fs::read_to_string(root.join(&path)).unwrap_or_default();
        let difference = difference(&committed, &current);
        if bless {
            fs::write(root.join(&path), current.join("\n") + "\n")
                .map_err(|error| format!("cannot write {path}: {error}"))?;
            print!("{difference}");
        } else if !difference.is_empty() {
            differences.push(format!("{path}:\n{difference}"));
            continue;
        }
        println!("{path}: {} items", current.len());
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the public interface differs from the committed listings.\n{}\
         If the change is intended, run `cargo xtask api --bless` and commit the listings.",
        differences.concat()
    ))
}

fn listing_path(name: &str) -> String {
    format!("crates/{name}/api.txt")
}

/// Returns the rustdoc to run, if this process was started in its place.
pub(crate) fn rustdoc_to_stand_in_for() -> Option<OsString> {
    std::env::var_os(STAND_IN)
}

/// Runs rustdoc with its unstable options unlocked.
pub(crate) fn stand_in(rustdoc: &OsStr, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut command = Command::new(rustdoc);
    command.args(arguments).env("RUSTC_BOOTSTRAP", "1").env_remove(STAND_IN);
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        // rustdoc has printed the reason.
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cannot run {}: {error}", rustdoc.display());
            ExitCode::FAILURE
        }
    }
}

/// Makes rustdoc write its JSON. It reuses the dependencies that the lints have compiled.
fn document(root: &Path) -> Result {
    let this = std::env::current_exe()
        .map_err(|error| format!("cannot find this program to stand in for rustdoc: {error}"))?;
    let rustdoc = std::env::var_os("RUSTDOC").unwrap_or_else(|| "rustdoc".into());
    let mut command =
        workspace::cargo(root, &["doc", "--quiet", "--workspace", "--lib", "--no-deps"]);
    command
        .env("RUSTDOC", this)
        .env(STAND_IN, rustdoc)
        .env("RUSTDOCFLAGS", "-Zunstable-options --output-format json --cap-lints allow");
    workspace::succeed(&mut command)
}

/// Returns one line for each public item.
fn listing(root: &Path, name: &str) -> Result<Vec<String>> {
    let json = format!("doc/{}.json", name.replace('-', "_"));
    let interface =
        public_api::Builder::from_rustdoc_json(workspace::target_directory(root)?.join(json))
            .omit_blanket_impls(true)
            .include_function_parameter_names(true)
            .build()
            .map_err(|error| format!("cannot read the JSON of rustdoc for {name}: {error}"))?;
    Ok(without_noise(interface.items().map(ToString::to_string)))
}

/// Leaves out traits of [`SILENT`], and the functions of each trait that a type implements, because
/// the line of the implementation implies them.
fn without_noise(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut function = None;
    let mut kept = Vec::new();
    for line in lines {
        if line.starts_with("impl") {
            let for_type = line.split_once(" for ").map(|(_, of)| of.split(" where ").next());
            function = for_type.flatten().map(|of| format!("pub fn {of}::"));
        }
        let is_implied = function.as_ref().is_some_and(|function| line.starts_with(function));
        if !is_implied && !is_silent(&line) {
            kept.push(line);
        }
    }
    kept
}

/// Returns whether the line implements a trait of [`SILENT`].
fn is_silent(line: &str) -> bool {
    let Some((head, _)) = line.strip_prefix("impl").and_then(|rest| rest.split_once(" for "))
    else {
        return false;
    };
    head.rsplit("::").next().is_some_and(|name| SILENT.contains(&name))
}

/// Returns the removed lines, then the added lines.
fn difference(before: &str, after: &[String]) -> String {
    let old: BTreeSet<_> = before.lines().collect();
    let new: BTreeSet<_> = after.iter().map(String::as_str).collect();
    let gone = before.lines().filter(|line| !new.contains(line)).map(|line| format!("- {line}\n"));
    let came = after.iter().filter(|line| !old.contains(line.as_str()));
    gone.chain(came.map(|line| format!("+ {line}\n"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_the_lines_that_went_and_those_that_came() {
        let after = ["pub fn a()".to_owned(), "pub fn c()".to_owned()];
        assert_eq!(difference("pub fn a()\npub fn b()\n", &after), "- pub fn b()\n+ pub fn c()\n");
        assert_eq!(difference("pub fn a()\r\npub fn c()\r\n", &after), "");
    }

    #[test]
    fn functions_of_implemented_traits_are_left_out_and_those_of_the_type_are_not() {
        let kept =
            ["impl<T> a::B<T>", "pub fn a::B<T>::c(&self)", "impl<T> a::D for a::B<T> where T: E"];
        let listed = kept.iter().chain(&["pub fn a::B<T>::clone(&self)"]).chain(&["pub fn a::f()"]);
        let lines = without_noise(listed.map(ToString::to_string));
        assert_eq!(lines, [kept[0], kept[1], kept[2], "pub fn a::f()"]);
    }

    #[test]
    fn traits_that_say_nothing_are_left_out() {
        for line in
            ["impl core::marker::Unpin for a::B", "impl<T> !core::marker::Freeze for a::B<T>"]
        {
            assert!(is_silent(line), "{line}");
        }
        for line in ["impl core::marker::Send for a::B", "pub struct a::Unpin for", "impl a::B"] {
            assert!(!is_silent(line), "{line}");
        }
    }
}
