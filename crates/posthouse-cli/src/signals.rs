//! Requests from outside to end the program.

use posthouse::shutdown_signal::on_shutdown_signal;

use crate::failure::{CommandResult, Failure};

/// Runs `first` at the first request to end the program; the second one ends it at once.
pub(crate) fn on_interrupt(first: impl FnOnce() + Send + 'static) -> CommandResult {
    on_shutdown_signal(|_| first())
        .map_err(|error| Failure::runtime(format!("cannot handle interruptions: {error}")))
}
