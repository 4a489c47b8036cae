//! One simulation campaign of a built program, and what it found.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;

/// How long one campaign may take; a mistake that makes the program run for ever is not found.
const CAMPAIGN_MAX: Duration = Duration::from_mins(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Found {
        /// The seed that failed.
        seed: u64,
        /// How many seeds were run up to and with it.
        took: u64,
    },
    NotFound,
    /// The program neither passed nor failed within [`CAMPAIGN_MAX`].
    Hung,
}

impl Verdict {
    pub(super) fn is_found(self) -> bool {
        matches!(self, Self::Found { .. })
    }
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

/// Runs `program sim` over `seeds` seeds of that kind, the first of which is `from`.
pub(super) fn run(program: &Path, what: &str, seeds: u64, from: u64) -> Outcome<Verdict> {
    let mut command = Command::new(program);
    command.args(["sim", "--what", what]);
    command.args(["--seeds", &seeds.to_string(), "--from", &from.to_string()]);
    let Some((status, output)) = finish(&mut command, program, CAMPAIGN_MAX)? else {
        return Ok(Verdict::Hung);
    };
    judge(status.success(), &output, from)
}

fn judge(passed: bool, output: &str, from: u64) -> Outcome<Verdict> {
    if passed {
        return Ok(Verdict::NotFound);
    }
    match failed_seed(output) {
        Some(seed) => Ok(Verdict::Found { seed, took: seed.saturating_sub(from) + 1 }),
        None => Err(format!("the campaign failed without naming a seed:\n{}", tail(output))),
    }
}

/// The number after the word `seed`, in the first line that has one.
fn failed_seed(output: &str) -> Option<u64> {
    output.lines().find_map(|line| {
        let mut words = line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
        words.find(|word| *word == "seed")?;
        words.next()?.parse().ok()
    })
}

/// Runs `command` to its end and returns all it wrote, or `None` if it did not end in time.
fn finish(
    command: &mut Command,
    program: &Path,
    limit: Duration,
) -> Outcome<Option<(ExitStatus, String)>> {
    let failed = |error: std::io::Error| format!("cannot run {}: {error}", program.display());
    // A file takes any amount of output without a second thread to drain it.
    let path = program.with_extension("output");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .map_err(failed)?;
    let stdout = file.try_clone().map_err(failed)?;
    let stderr = file.try_clone().map_err(failed)?;
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let mut child = command.spawn().map_err(failed)?;
    let Some(status) = wait(&mut child, limit).map_err(failed)? else { return Ok(None) };
    let mut output = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut output)).map_err(failed)?;
    Ok(Some((status, String::from_utf8_lossy(&output).into_owned())))
}

/// Waits for the child, and ends it when `limit` is over.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
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
    fn the_seeds_it_took_are_counted_from_the_first_one_run() {
        let verdict = judge(false, "seed 41: told twice", 40);
        assert_eq!(verdict, Ok(Verdict::Found { seed: 41, took: 2 }));
    }

    #[test]
    fn a_campaign_that_passes_found_nothing_even_if_it_names_seeds() {
        assert_eq!(judge(true, "seed 5 ok", 0), Ok(Verdict::NotFound));
    }

    #[test]
    fn a_failure_without_a_seed_is_an_error_not_a_find() {
        assert!(judge(false, "error: unknown option --from", 0).is_err());
    }

    #[cfg(unix)]
    fn shell(script: &str, limit: Duration) -> Option<(ExitStatus, String)> {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("campaign");
        finish(Command::new("sh").args(["-c", script]), &program, limit).unwrap()
    }

    #[cfg(unix)]
    #[test]
    fn both_streams_of_the_program_are_read() {
        let (status, output) =
            shell("echo one; echo 'seed 3' >&2; exit 1", Duration::from_mins(1)).unwrap();
        assert!(!status.success());
        assert!(output.contains("one") && failed_seed(&output) == Some(3), "{output}");
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_runs_for_ever_is_ended() {
        assert!(shell("while :; do :; done", Duration::from_millis(50)).is_none());
    }
}
