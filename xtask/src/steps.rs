//! A list of steps, run one after the other until one fails, and the table that says how it went.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::tally::Tally;
use crate::{Outcome, workspace};

pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) work: Work,
}

pub(crate) enum Work {
    /// A program that succeeds or fails.
    Program(Command),
    /// A program that runs tests and says in its output how many.
    Tests(Command),
    /// A chore of this program.
    Chore(fn() -> Outcome),
}

/// How a list of steps went.
pub(crate) struct Report {
    rows: Vec<Row>,
    tally: Tally,
    /// What the failing step said.
    failure: Option<String>,
}

struct Row {
    name: String,
    took: Option<Duration>,
    result: &'static str,
}

/// Runs the steps in order; those after a failed one are not run.
pub(crate) fn run(steps: Vec<Step>) -> Report {
    let mut report = Report { rows: Vec::new(), tally: Tally::default(), failure: None };
    for step in steps {
        if report.failure.is_some() {
            report.rows.push(Row { name: step.name, took: None, result: "not run" });
            continue;
        }
        println!("== {}", step.name);
        let started = Instant::now();
        let outcome = match step.work {
            Work::Program(mut command) => workspace::succeed(&mut command),
            Work::Tests(mut command) => run_tests(&mut command, &mut report.tally),
            Work::Chore(chore) => chore(),
        };
        let took = started.elapsed();
        let result = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("== {}: {result}, {:.1} s\n", step.name, took.as_secs_f64());
        report.rows.push(Row { name: step.name, took: Some(took), result });
        report.failure = outcome.err();
    }
    report
}

impl Report {
    pub(crate) fn succeeded(&self) -> bool {
        self.failure.is_none() && self.tally.failed == 0
    }

    /// The table, what failed, the `notes`, and last, alone on its line, the count of the tests.
    pub(crate) fn text(&self, notes: &[String]) -> String {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(4);
        let mut text = format!("{:width$}  seconds  result\n", "step");
        for row in &self.rows {
            let took = row.took.map_or("-".into(), |took| format!("{:.1}", took.as_secs_f64()));
            let _ = writeln!(text, "{:width$}  {took:>7}  {}", row.name, row.result);
        }
        if let Some(failure) = &self.failure {
            let _ = writeln!(text, "\n{failure}");
        }
        if !notes.is_empty() {
            let _ = writeln!(text, "\n{}", notes.join("\n"));
        }
        let _ = writeln!(text, "\n{} passed, {} failed", self.tally.passed, self.tally.failed);
        text
    }
}

/// Runs a test runner, shows its output as it comes and reads the summaries in it.
fn run_tests(command: &mut Command, tally: &mut Tally) -> Outcome {
    let name = workspace::shown(command);
    let before = *tally;
    if std::io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run `{name}`: {error}"))?;
    let counted = Mutex::new(&mut *tally);
    let streams: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|stream| Box::new(stream) as _),
        child.stderr.take().map(|stream| Box::new(stream) as _),
    ];
    thread::scope(|scope| {
        for stream in streams.into_iter().flatten() {
            scope.spawn(|| show_and_count(stream, &counted));
        }
    });
    match child.wait() {
        Ok(status) if status.success() && *tally == before => {
            Err(format!("`{name}` ran no test, or its summary is not understood"))
        }
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{name}` failed: {status}")),
        Err(error) => Err(format!("cannot wait for `{name}`: {error}")),
    }
}

fn show_and_count(stream: Box<dyn Read + Send>, tally: &Mutex<&mut Tally>) {
    for line in BufReader::new(stream).split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Ok(mut tally) = tally.lock() {
            tally.read(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chore(name: &str, chore: fn() -> Outcome) -> Step {
        Step { name: name.into(), work: Work::Chore(chore) }
    }

    #[test]
    fn a_failed_step_ends_the_run_and_the_rest_is_named_as_not_run() {
        let report = run(vec![
            chore("first", || Ok(())),
            chore("second", || Err("the second is broken".into())),
            chore("third", || panic!("must not run")),
        ]);
        let results: Vec<_> = report.rows.iter().map(|row| row.result).collect();
        assert_eq!(results, ["ok", "FAILED", "not run"]);
        assert!(!report.succeeded());
        assert!(report.text(&[]).contains("the second is broken"));
    }

    #[test]
    fn the_last_line_is_the_count_and_stands_alone() {
        let mut report = run(vec![chore("only", || Ok(()))]);
        report.tally = Tally { passed: 12, failed: 0 };
        let text = report.text(&["a note".into()]);
        assert_eq!(text.lines().last(), Some("12 passed, 0 failed"));
        assert!(text.contains("a note"));
        assert!(report.succeeded());
    }

    #[test]
    fn a_failed_test_fails_the_run_whatever_the_runner_returned() {
        let report =
            Report { rows: Vec::new(), tally: Tally { passed: 3, failed: 1 }, failure: None };
        assert!(!report.succeeded());
    }

    #[cfg(unix)]
    #[test]
    fn a_runner_that_ran_no_test_has_failed() {
        let runs = [("echo 'test result: ok. 0 passed; 0 failed;'", false), ("", false)];
        for (script, succeeded) in [runs[0], runs[1], ("echo 'test result: ok. 1 passed;'", true)] {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            let report = run(vec![Step { name: "tests".into(), work: Work::Tests(command) }]);
            assert_eq!(report.succeeded(), succeeded, "{script}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn tests_are_counted_from_both_streams_of_the_runner() {
        let mut command = Command::new("sh");
        let script = "echo 'test result: ok. 2 passed; 0 failed;'
                      echo '     Summary [ 0.1s] 4 tests run: 3 passed, 1 failed' >&2
                      exit 4";
        command.args(["-c", script]);
        let report = run(vec![Step { name: "tests".into(), work: Work::Tests(command) }]);
        assert_eq!(report.tally, Tally { passed: 5, failed: 1 });
        assert!(!report.succeeded());
    }
}
