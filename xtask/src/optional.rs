//! Parts of the machine that some steps use and that need not be there, except in CI.

use std::env;
use std::path::Path;

use crate::{Outcome, wine, workspace};

struct Part {
    /// The program that has to be found.
    program: &'static str,
    without_it: &'static str,
    to_get_it: &'static str,
}

const PARTS: &[Part] = &[
    Part {
        program: "cargo-nextest",
        without_it: "the tests run through `cargo test`, which has no time limit per test",
        to_get_it: "cargo install --locked cargo-nextest",
    },
    Part {
        program: "nc",
        without_it: "the integration tests that talk to Posthouse with netcat pass over it",
        to_get_it: "apt-get install netcat-openbsd",
    },
    Part {
        program: "python3",
        without_it: "the integration tests that run a client written in Python pass over it",
        to_get_it: "apt-get install python3",
    },
];

/// Set where tests may pass nothing over.
pub(crate) const NEED_ALL: &str = "POSTHOUSE_TESTS_NEED_ALL";

/// A line where io_uring cannot be used here: found out by the program, which tries it.
pub(crate) fn without_uring(root: &Path) -> Option<String> {
    let mut doctor = workspace::cargo(root, &["run", "--quiet", "-p", "posthouse-cli", "--"]);
    let output = doctor.arg("doctor").output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let takes = said.lines().find(|line| line.contains("auto takes"))?.trim();
    (!takes.contains("auto takes uring")).then(|| {
        format!(
            "the tests of the io_uring backend passed over it ({takes}). `posthouse doctor` helps"
        )
    })
}

/// Whether the better test runner is there.
pub(crate) fn nextest_is_present() -> bool {
    is_present("cargo-nextest")
}

/// One line for each part that is missing, or nothing.
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

/// In CI nothing may be passed over.
pub(crate) fn require_all() -> Outcome {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("with --ci every optional part must be there:\n  {}", missing.join("\n  ")))
}

fn is_present(program: &str) -> bool {
    let name = format!("{program}{}", env::consts::EXE_SUFFIX);
    let search = env::var_os("PATH").unwrap_or_default();
    // Cargo finds its own commands beside itself too.
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
