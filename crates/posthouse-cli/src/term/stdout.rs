//! Output to stdout. A closed pipe (`posthouse demo | head -1`) is not a failure.

use std::fmt;
use std::io::{self, Write as _};

use serde::Serialize;

use crate::failure::{CommandResult, Failure};

/// Writes text as it is.
pub(crate) fn write(text: &str) -> CommandResult {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::runtime(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes the report of a command, as one JSON object or as text.
pub(crate) fn report(report: &(impl Serialize + fmt::Display), as_json: bool) -> CommandResult {
    if !as_json {
        return write(&report.to_string());
    }
    let text = serde_json::to_string_pretty(report)
        .map_err(|error| Failure::runtime(format!("cannot write JSON: {error}")))?;
    write(&format!("{text}\n"))
}
