//! A list of steps, run one after the other until one fails, and the table of their results.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Result, workspace};

pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) work: Work,
}

pub(crate) enum Work {
    /// A program that succeeds or fails.
    Program(Command),
    /// A chore of this program.
    Chore(fn() -> Result),
}

impl Step {
    pub(crate) fn program(name: &str, command: Command) -> Self {
        Self { name: name.into(), work: Work::Program(command) }
    }

    pub(crate) fn chore(name: &str, chore: fn() -> Result) -> Self {
        Self { name: name.into(), work: Work::Chore(chore) }
    }
}

/// The results of a list of steps.
pub(crate) struct Report {
    rows: Vec<Row>,
    /// The error of the step that failed.
    failure: Option<String>,
}

struct Row {
    name: String,
    took: Option<Duration>,
    result: &'static str,
}

/// Runs the steps in order; those after a failed one are not run.
pub(crate) fn run(steps: Vec<Step>) -> Report {
    let mut report = Report { rows: Vec::new(), failure: None };
    for step in steps {
        if report.failure.is_some() {
            report.rows.push(Row { name: step.name, took: None, result: "not run" });
            continue;
        }
        println!("== {}", step.name);
        let started = Instant::now();
        let outcome = match step.work {
            Work::Program(mut command) => workspace::succeed(&mut command),
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
        self.failure.is_none()
    }

    /// Returns the table, then the failure, then the `notes`.
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
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_ends_the_run_and_the_rest_is_named_as_not_run() {
        let report = run(vec![
            Step::chore("first", || Ok(())),
            Step::chore("second", || Err("the second is broken".into())),
            Step::chore("third", || panic!("must not run")),
        ]);
        let results: Vec<_> = report.rows.iter().map(|row| row.result).collect();
        assert_eq!(results, ["ok", "FAILED", "not run"]);
        assert!(!report.succeeded());
        let text = report.text(&["a note".into()]);
        assert!(text.ends_with("the second is broken\n\na note\n"), "{text}");
    }
}
