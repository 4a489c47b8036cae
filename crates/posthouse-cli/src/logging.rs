//! The log: the `tracing` events of the framework, on stderr.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::failure::{CommandResult, Failure};
use crate::peer_lines::LogWriter;

const VARIABLE: &str = "POSTHOUSE_LOG";

/// The default log of every command except `sim`.
pub(crate) const DEFAULT: Log = Log::Plain("warn");

/// The log of a command by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    /// The events that pass this filter.
    Plain(&'static str),
    /// All events, without times, so that two logs can be compared line by line.
    Traced,
}

/// Starts the log. `--log` overrides `POSTHOUSE_LOG`, which overrides the default of the command.
pub(crate) fn start(option: Option<&str>, default: Log) -> CommandResult {
    let environment = std::env::var(VARIABLE).ok().filter(|filter| !filter.is_empty());
    let (filter, source) = match (option, default, environment.as_deref()) {
        (Some(filter), ..) => (filter, "--log"),
        (None, Log::Traced, _) => ("trace", "--trace"),
        (None, _, Some(filter)) => (filter, VARIABLE),
        (None, Log::Plain(filter), None) => (filter, "the default"),
    };
    let filter: EnvFilter = filter.parse().map_err(|error| {
        Failure::usage(format!(
            "{source} {filter:?} is not a valid log filter ({error}); write error, warn, info, \
             debug, trace, or a filter such as posthouse=debug"
        ))
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(LogWriter::new())
        .with_ansi(io::stderr().is_terminal() && understands_colors());
    let started = match default {
        Log::Traced => log.without_time().try_init(),
        Log::Plain(_) => log.try_init(),
    };
    started.map_err(|error| Failure::runtime(format!("cannot start the log: {error}")))
}

/// Returns true if stderr shows colors. On Windows the console must be asked to.
fn understands_colors() -> bool {
    #[cfg(windows)]
    return anstyle_query::windows::enable_ansi_colors() == Some(true);
    #[cfg(not(windows))]
    true
}
