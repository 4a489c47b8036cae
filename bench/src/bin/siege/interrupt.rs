//! The end of the measurement by a signal. The measurement then fails, so that it removes its
//! files, its processes and its control group.

use std::sync::atomic::{AtomicBool, Ordering};

use posthouse::shutdown_signal::on_shutdown_signal;

static IS_REQUESTED: AtomicBool = AtomicBool::new(false);

/// Makes SIGINT and SIGTERM set what [`check`] reads. A second signal ends the process at once.
pub(crate) fn listen() -> Result<(), String> {
    on_shutdown_signal(|_| IS_REQUESTED.store(true, Ordering::Relaxed))
        .map_err(|error| format!("signals: {error}"))
}

/// Fails if a signal has requested the end.
pub(crate) fn check() -> Result<(), String> {
    if IS_REQUESTED.load(Ordering::Relaxed) { Err("interrupted".to_owned()) } else { Ok(()) }
}
