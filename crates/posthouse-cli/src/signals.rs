//! The signals and console events that ask the program to end.

use posthouse::shutdown_signal::on_shutdown_signal;

use crate::failure::{CommandResult, Failure};

/// Runs `first` when the user or the system first asks the program to end. The second request ends
/// the program at once.
pub(crate) fn on_interrupt(first: impl FnOnce() + Send + 'static) -> CommandResult {
    on_shutdown_signal(|_| first())
        .map_err(|error| Failure::runtime(format!("cannot handle interruptions: {error}")))
}
