//! `cargo xtask api`: the public interface of `posthouse`, held against a committed listing, so
//! that a change of it is seen in review and never happens by accident.
//!
//! rustdoc writes what it knows of a crate as JSON, also the stable one if `RUSTC_BOOTSTRAP` is
//! set. Were that set for the whole build, build scripts that watch it would run again and most
//! dependencies with them; so this program stands in for rustdoc and sets it for rustdoc alone.

mod listing;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::{Outcome, workspace};
use listing::Crates;

const CRATE: &str = "posthouse";
/// Crates whose items `posthouse` may show as its own.
const SHOWN: &[&str] = &["posthouse_io", "posthouse_wire"];
const LISTING: &str = "crates/posthouse/api.txt";
const HEADER: &str = "# The public interface of `posthouse`, one item a line. \
                      Written by `cargo xtask api --bless`.\n";
/// Holds the real rustdoc while this program stands in for it.
const STAND_IN: &str = "POSTHOUSE_XTASK_RUSTDOC";

/// Fails, with the differences, if the interface is not the committed one.
pub(crate) fn check() -> Outcome {
    let root = workspace::root();
    let current = current(&root)?;
    let committed = fs::read_to_string(root.join(LISTING)).map_err(|error| {
        format!("cannot read {LISTING}: {error}; write it with `cargo xtask api --bless`")
    })?;
    // Git may have changed the ends of the lines.
    if committed.lines().eq(current.lines()) {
        println!("{LISTING} is the interface: {} items", current.lines().count() - 1);
        return Ok(());
    }
    let difference = difference(&committed, &current);
    Err(format!(
        "the public interface is not the one in {LISTING}:\n{difference}\
         If this is meant, run `cargo xtask api --bless` and commit the listing."
    ))
}

/// Writes the listing anew.
pub(crate) fn bless() -> Outcome {
    let root = workspace::root();
    let path = root.join(LISTING);
    let current = current(&root)?;
    let before = fs::read_to_string(&path).unwrap_or_default();
    print!("{}", difference(&before, &current));
    fs::write(&path, &current).map_err(|error| format!("cannot write {LISTING}: {error}"))?;
    println!("{LISTING}: {} items", current.lines().count() - 1);
    Ok(())
}

/// The real rustdoc, if this process was started in its place.
pub(crate) fn rustdoc_to_stand_in_for() -> Option<OsString> {
    std::env::var_os(STAND_IN)
}

/// Runs the real rustdoc with the interface between it and tools unlocked.
pub(crate) fn stand_in(rustdoc: &OsStr, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut command = Command::new(rustdoc);
    command.args(arguments).env("RUSTC_BOOTSTRAP", "1").env_remove(STAND_IN);
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        // rustdoc has said why.
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cannot run {}: {error}", rustdoc.display());
            ExitCode::FAILURE
        }
    }
}

fn current(root: &Path) -> Outcome<String> {
    let this = std::env::current_exe()
        .map_err(|error| format!("cannot find this program to stand in for rustdoc: {error}"))?;
    let rustdoc = std::env::var_os("RUSTDOC").unwrap_or_else(|| "rustdoc".into());
    // The whole workspace, so that its dependencies are the ones that the lints were run with.
    let mut command =
        workspace::cargo(root, &["doc", "--quiet", "--workspace", "--lib", "--no-deps"]);
    command
        .env("RUSTDOC", this)
        .env(STAND_IN, rustdoc)
        .env("RUSTDOCFLAGS", "-Zunstable-options --output-format json --cap-lints allow");
    workspace::succeed(&mut command)?;

    let directory = workspace::target_directory(root)?.join("doc");
    let mut crates = Crates::default();
    for name in SHOWN.iter().chain([&CRATE]) {
        let path = directory.join(format!("{name}.json"));
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("rustdoc left no {}: {error}", path.display()))?;
        let json = serde_json::from_str(&text)
            .map_err(|error| format!("{} is no JSON: {error}", path.display()))?;
        crates.add(name, json);
    }
    Ok(format!("{HEADER}{}\n", crates.list(CRATE)?.join("\n")))
}

/// The lines that went, and those that came.
fn difference(before: &str, after: &str) -> String {
    let (old, new): (BTreeSet<_>, BTreeSet<_>) =
        (before.lines().collect(), after.lines().collect());
    let gone = before.lines().filter(|line| !new.contains(line)).map(|line| format!("- {line}\n"));
    let came = after.lines().filter(|line| !old.contains(line)).map(|line| format!("+ {line}\n"));
    gone.chain(came).collect()
}
