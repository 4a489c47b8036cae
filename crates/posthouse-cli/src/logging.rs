//! The log: what the framework tells through `tracing`, on stderr.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::failure::{Failure, Outcome};

const VARIABLE: &str = "POSTHOUSE_LOG";

/// Starts the log: `--log` before `POSTHOUSE_LOG` before `warn`; everything where `traced`.
///
/// A traced log has no times, so that two of them can be compared line by line.
pub(crate) fn start(option: Option<&str>, traced: bool) -> Outcome {
    let environment = std::env::var(VARIABLE).ok().filter(|filter| !filter.is_empty());
    let (filter, source) = match (option, environment.as_deref()) {
        (Some(filter), _) => (filter, "--log"),
        (None, _) if traced => ("trace", "--trace"),
        (None, Some(filter)) => (filter, VARIABLE),
        (None, None) => ("warn", "the default"),
    };
    let filter: EnvFilter = filter.parse().map_err(|error| {
        Failure::usage(format!(
            "{source} {filter:?} is no log filter ({error}): write error, warn, info, debug, \
             trace, or for example posthouse=debug"
        ))
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    let started = if traced { log.without_time().try_init() } else { log.try_init() };
    started.map_err(|error| Failure::runtime(format!("cannot start the log: {error}")))
}
