//! Output to stdout. A closed pipe (`posthouse demo | head -1`) is not a failure.

use std::fmt;
use std::io::{self, Write as _};

use clap::Args;
use serde::Serialize;

use crate::failure::{CommandResult, Failure};

/// Writes a text unchanged.
pub(crate) fn write(text: &str) -> CommandResult {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::runtime(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// The flag of the commands that print one report.
#[derive(Debug, Args)]
pub(crate) struct ReportFlags {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl ReportFlags {
    /// Writes the report of a command, as one JSON object or as text.
    pub(crate) fn write(&self, report: &(impl Serialize + fmt::Display)) -> CommandResult {
        if !self.json {
            return write(&report.to_string());
        }
        let text = serde_json::to_string_pretty(report).map_err(|error| json_failure(&error))?;
        write(&format!("{text}\n"))
    }
}

/// Writes a value as one line of JSON.
pub(crate) fn write_json_line(value: &impl Serialize) -> CommandResult {
    let line = serde_json::to_string(value).map_err(|error| json_failure(&error))?;
    write(&format!("{line}\n"))
}

fn json_failure(error: &serde_json::Error) -> Failure {
    Failure::runtime(format!("cannot write JSON: {error}"))
}
