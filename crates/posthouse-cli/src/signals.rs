//! What ends the program from outside: the first time it asks for the end, the second time it is
//! the end.

use crate::failure::{Failure, Outcome};

/// Runs `first` at the first SIGINT or SIGTERM; the second ends the process at once, with 128 and
/// the signal's number as its exit code.
#[cfg(unix)]
pub(crate) fn on_interrupt(first: impl FnOnce() + Send + 'static) -> Outcome {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

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

/// Runs `first` at the first Ctrl-C or Ctrl-Break; the second ends the process at once, with the
/// exit code of an interruption, 130.
///
/// Where the console is closed, or the user logs off, `first` is run as well, but Windows ends the
/// process as soon as it has been told: what is not done then is as after a kill, and the next run
/// goes on with it.
#[cfg(windows)]
pub(crate) fn on_interrupt(first: impl FnOnce() + Send + 'static) -> Outcome {
    let mut first = Some(first);
    let told = move || match first.take() {
        Some(first) => first(),
        None => std::process::exit(130),
    };
    ctrlc::set_handler(told)
        .map_err(|error| Failure::runtime(format!("cannot catch Ctrl-C: {error}")))
}
