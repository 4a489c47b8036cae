//! What ends the program from outside: the first time it asks for the end, the second time it is
//! the end.

use crate::failure::{CommandResult, Failure};

/// Runs `first` at the first SIGINT or SIGTERM; the second ends the process at once, with 128 and
/// the signal's number as its exit code.
#[cfg(unix)]
pub(crate) fn on_interrupt(first: impl FnOnce() + Send + 'static) -> CommandResult {
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
/// Where the console is closed, or the system goes down, `first` is run as well, and Windows waits
/// for the end some seconds (5 and 20): what is not done then is as after a kill, and the next run
/// goes on with it. That somebody logs off, which is told to what runs as a service, changes
/// nothing.
#[cfg(windows)]
pub(crate) fn on_interrupt(first: impl FnOnce() + Send + 'static) -> CommandResult {
    use std::sync::{Mutex, PoisonError};

    use posthouse::console::{ConsoleEvent, on_console_event};

    let first = Mutex::new(Some(first));
    let take = move || first.lock().unwrap_or_else(PoisonError::into_inner).take();
    let told = move |event| match event {
        ConsoleEvent::Logoff => {}
        ConsoleEvent::Interrupt | ConsoleEvent::Break => match take() {
            Some(first) => first(),
            None => std::process::exit(130),
        },
        ConsoleEvent::Close | ConsoleEvent::Shutdown => {
            if let Some(first) = take() {
                first();
            }
            // Whoever returns from here is ended.
            loop {
                std::thread::park();
            }
        }
    };
    on_console_event(told)
        .map_err(|error| Failure::runtime(format!("cannot catch Ctrl-C: {error}")))
}
