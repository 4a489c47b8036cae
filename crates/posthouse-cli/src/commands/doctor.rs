//! `posthouse doctor`: the backends that work on this machine, and its limits.

mod backends;
mod machine;

use std::fmt;

use clap::Args;
use serde::Serialize;

use crate::failure::{CommandResult, Failure};
use crate::term::stdout::ReportFlags;
use backends::Backends;

/// Check this machine: the backends that work, and the limits that matter.
///
/// Each backend is tested with a real connection over loopback. Limits are read and never changed.
/// The exit code is 0 if Posthouse can run on this machine.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  posthouse doctor
  posthouse doctor --json")]
pub(crate) struct Doctor {
    #[command(flatten)]
    report: ReportFlags,
}

#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    backends: Backends,
    machine: Vec<Finding>,
}

/// A property of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    what: &'static str,
    value: String,
    verdict: Verdict,
    /// The meaning of the value, and a remedy if the value is too low.
    advice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    Low,
    Unknown,
}

impl Doctor {
    pub(crate) fn run(&self) -> CommandResult {
        let report = Report {
            version: env!("CARGO_PKG_VERSION"),
            backends: Backends::test(),
            machine: machine::findings(),
        };
        self.report.write(&report)?;
        match report.backends.auto() {
            Ok(_) => Ok(()),
            Err(why) => Err(Failure::runtime(format!("no backend works here: {why}"))),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "posthouse {}\n\nBackends\n{}", self.version, self.backends)?;
        writeln!(f, "\nThis machine")?;
        for Finding { what, value, verdict, advice } in &self.machine {
            let verdict = match verdict {
                Verdict::Good => "good",
                Verdict::Low => "LOW",
                Verdict::Unknown => "unknown",
            };
            let line = format!("  {what:<14} {value:<38} {verdict:<8} {advice}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
