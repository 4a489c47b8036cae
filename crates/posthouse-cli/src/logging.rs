//! The log: what the framework tells through `tracing`, on stderr.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::failure::{Failure, Outcome};

const VARIABLE: &str = "POSTHOUSE_LOG";

/// What a command logs where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    /// By this filter.
    Plain(&'static str),
    /// Everything, and without times, so that two logs can be compared line by line.
    Traced,
}

/// Starts the log: `--log` before `POSTHOUSE_LOG` before what is usual for the command.
pub(crate) fn start(option: Option<&str>, usual: Log) -> Outcome {
    let environment = std::env::var(VARIABLE).ok().filter(|filter| !filter.is_empty());
    let (filter, source) = match (option, usual, environment.as_deref()) {
        (Some(filter), ..) => (filter, "--log"),
        (None, Log::Traced, _) => ("trace", "--trace"),
        (None, _, Some(filter)) => (filter, VARIABLE),
        (None, Log::Plain(filter), None) => (filter, "the default"),
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
        .with_ansi(io::stderr().is_terminal() && understands_colors());
    let started = match usual {
        Log::Traced => log.without_time().try_init(),
        Log::Plain(_) => log.try_init(),
    };
    started.map_err(|error| Failure::runtime(format!("cannot start the log: {error}")))
}

/// Whether the console on stderr shows colors where they are sent to it: on Windows it does when it
/// was asked to.
fn understands_colors() -> bool {
    #[cfg(windows)]
    return anstyle_query::windows::enable_ansi_colors() == Some(true);
    #[cfg(not(windows))]
    true
}
