//! SIGINT and SIGTERM: the first one asks for the end, a second one is the end.

use crate::failure::Outcome;

/// Runs `first` at the first SIGINT or SIGTERM; the second ends the process at once, with 128 and
/// the signal's number as its exit code.
#[cfg(unix)]
pub(crate) fn on_interrupt(first: impl FnOnce() + Send + 'static) -> Outcome {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    use crate::failure::Failure;

    let failed = |error| Failure::runtime(format!("cannot catch SIGINT and SIGTERM: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let watch = move || {
        let mut caught = signals.forever();
        if caught.next().is_some() {
            first();
        }
        if let Some(signal) = caught.next() {
            std::process::exit(128 + signal);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch).map_err(failed)?;
    Ok(())
}

/// Without signals there is no first one: an interrupt ends the process.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "where there are signals it can fail")]
pub(crate) fn on_interrupt(_: impl FnOnce() + Send + 'static) -> Outcome {
    Ok(())
}
