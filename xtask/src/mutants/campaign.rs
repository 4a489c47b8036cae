//! A simulation campaign of a built program, and its verdict.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{Result, workspace};

/// The time limit of one campaign. A mistake that makes the program run for ever counts as not
/// found.
const CAMPAIGN_MAX: Duration = Duration::from_mins(15);

pub(super) struct Campaign<'a> {
    pub(super) program: &'a Path,
    /// The arguments of the program, without the seeds.
    pub(super) command: &'a [String],
    pub(super) seeds: u64,
    /// The first seed.
    pub(super) from: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Found {
        /// The seed that failed.
        seed: u64,
        /// The number of seeds up to and with it.
        took: u64,
    },
    NotFound,
    /// The program neither passed nor failed within [`CAMPAIGN_MAX`].
    Hung,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Found { seed, took } => format!("found after {took} seeds (seed {seed})"),
            Self::NotFound => "not found".into(),
            Self::Hung => format!("not found: hung for {} s", CAMPAIGN_MAX.as_secs()),
        };
        f.pad(&text)
    }
}

pub(super) fn run(campaign: &Campaign<'_>) -> Result<Verdict> {
    let Campaign { program, command, seeds, from } = campaign;
    let failed = |error| format!("cannot run {}: {error}", program.display());
    // A file takes any amount of output; a pipe would need a thread that drains it.
    let path = program.with_extension("output");
    let output = File::create(&path).map_err(failed)?;
    let mut child = Command::new(program)
        .args(*command)
        .args(["--seeds", &seeds.to_string(), "--from", &from.to_string()])
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(failed)?)
        .stderr(output)
        .spawn()
        .map_err(failed)?;
    let Some(status) = workspace::wait_within(&mut child, CAMPAIGN_MAX)? else {
        workspace::kill(&mut child)?;
        return Ok(Verdict::Hung);
    };
    let output = fs::read(&path).map_err(failed)?;
    judge(status.success(), &String::from_utf8_lossy(&output), *from)
}

fn judge(passed: bool, output: &str, from: u64) -> Result<Verdict> {
    if passed {
        return Ok(Verdict::NotFound);
    }
    match failed_seed(output) {
        Some(seed) => Ok(Verdict::Found { seed, took: seed.saturating_sub(from) + 1 }),
        None => Err(format!("the campaign failed without naming a seed:\n{output}")),
    }
}

/// Returns the number after the word `seed`, from the first line that has one.
fn failed_seed(output: &str) -> Option<u64> {
    output.lines().find_map(|line| {
        let mut words = line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
        words.find(|word| *word == "seed")?;
        words.next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failed_seed_is_read_from_the_line_that_names_it() {
        let output =
            "2000 seeds from 0\nfailed: seed 417, echo under resets\nreplay: sim --from 417";
        assert_eq!(failed_seed(output), Some(417));
        assert_eq!(failed_seed("all 20000 seeds passed"), None);
    }

    #[test]
    fn a_verdict_needs_a_failure_and_its_seed() {
        let found = Verdict::Found { seed: 41, took: 2 };
        assert_eq!(judge(false, "seed 41: told twice", 40), Ok(found));
        assert_eq!(judge(true, "seed 5 ok", 0), Ok(Verdict::NotFound));
        assert!(judge(false, "error: unknown option --from", 0).is_err());
    }
}
