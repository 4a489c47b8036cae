//! The programs that some steps use. They are optional, except in CI.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::steps::Step;
use crate::{Result, wine, workspace};

struct Part {
    /// The name of the program.
    program: &'static str,
    without_it: &'static str,
    to_get_it: &'static str,
}

const NEXTEST: &str = "cargo-nextest";
const DENY: &str = "cargo-deny";
const TYPOS: &str = "typos";

const PARTS: &[Part] = &[
    Part {
        program: NEXTEST,
        without_it: "the tests run through `cargo test`, which has no time limit per test",
        to_get_it: "cargo install --locked cargo-nextest",
    },
    Part {
        program: DENY,
        without_it: "licences, versions and origins of the dependencies are not checked",
        to_get_it: "cargo install --debug --locked cargo-deny",
    },
    Part {
        program: TYPOS,
        without_it: "the spelling is not checked",
        to_get_it: "pip install typos",
    },
    Part {
        program: "nc",
        without_it: "the integration tests that talk to Posthouse with netcat are skipped",
        to_get_it: "apt-get install netcat-openbsd",
    },
    Part {
        program: "python3",
        without_it: "the integration tests that run a client written in Python are skipped",
        to_get_it: "apt-get install python3",
    },
];

/// The variable that forbids tests to skip anything.
pub(crate) const NEED_ALL: &str = "POSTHOUSE_TESTS_NEED_ALL";

/// Returns a line if this machine does not allow io_uring. The program `posthouse` finds out by
/// trying it.
pub(crate) fn without_uring(root: &Path) -> Option<String> {
    let mut doctor = workspace::cargo(root, &["run", "--quiet", "-p", "posthouse-cli", "--"]);
    let output = doctor.arg("doctor").output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let takes = said.lines().find(|line| line.contains("auto takes"))?.trim();
    (!takes.contains("auto takes uring")).then(|| {
        format!(
            "the tests of the io_uring backend were skipped ({takes}). `posthouse doctor` says more"
        )
    })
}

pub(crate) fn nextest_is_present() -> bool {
    is_present(NEXTEST)
}

/// Returns the step that checks the spelling, if its program is present.
pub(crate) fn spelling(root: &Path) -> Option<Step> {
    let mut typos = Command::new(TYPOS);
    typos.current_dir(root);
    is_present(TYPOS).then(|| Step::program("spelling", typos))
}

/// Returns the step that checks the dependencies, if its program is present. The step checks known
/// vulnerabilities only if their database can be reached.
pub(crate) fn dependencies(root: &Path, notes: &mut Vec<String>) -> Option<Step> {
    if !is_present(DENY) {
        return None;
    }
    let mut check = workspace::cargo(root, &["deny", "check", "licenses", "bans", "sources"]);
    let mut fetch = workspace::cargo(root, &["deny", "fetch", "db"]);
    let fetched = fetch.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if fetched.is_ok_and(|status| status.success()) {
        check.arg("advisories");
    } else {
        notes.push(
            "known vulnerabilities of the dependencies were not checked: \
             `cargo deny fetch db` cannot reach their database"
                .into(),
        );
    }
    Some(Step::program("dependencies", check))
}

/// Returns one line for each part that is missing.
pub(crate) fn missing() -> Vec<String> {
    PARTS
        .iter()
        .filter(|part| !is_present(part.program))
        .map(|part| {
            format!(
                "{} is not installed (optional): {}. To get it: {}",
                part.program, part.without_it, part.to_get_it
            )
        })
        .chain(wine::missing())
        .collect()
}

/// Fails if a part is missing.
pub(crate) fn require_all() -> Result {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("with --ci every optional part must be installed:\n  {}", missing.join("\n  ")))
}

/// Fails if the fuzzer is missing. No other chore needs it.
pub(crate) fn require_fuzzer() -> Result {
    for (program, to_get_it) in
        [("cargo-fuzz", "cargo install --locked cargo-fuzz"), ("c++", "apt-get install g++")]
    {
        if !is_present(program) {
            return Err(format!("{program} is not installed. To get it: {to_get_it}"));
        }
    }
    Ok(())
}

fn is_present(program: &str) -> bool {
    let name = format!("{program}{}", env::consts::EXE_SUFFIX);
    let search = env::var_os("PATH").unwrap_or_default();
    // Cargo also finds its own commands in its own directory.
    let beside_cargo =
        env::var_os("CARGO").and_then(|cargo| Some(Path::new(&cargo).parent()?.into()));
    let home = env::var_os("CARGO_HOME").map(|home| Path::new(&home).join("bin"));
    env::split_paths(&search)
        .chain(beside_cargo)
        .chain(home)
        .any(|directory| directory.join(&name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_exists_is_present_and_one_that_does_not_is_missing() {
        assert!(is_present("git"));
        assert!(!is_present("no-program-has-this-name"));
    }
}
