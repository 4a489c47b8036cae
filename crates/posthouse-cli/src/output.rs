//! What goes to stdout. A reader that went away (`posthouse demo | head -1`) is no failure.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::failure::{Failure, Outcome};

/// Writes text as it is.
pub(crate) fn write(text: &str) -> Outcome {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::runtime(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes one JSON object, and a line end.
pub(crate) fn json(value: &impl Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::runtime(format!("cannot write JSON: {error}")))?;
    write(&format!("{text}\n"))
}
