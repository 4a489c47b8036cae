//! Requests from outside to end the process: signals on Unix, console events on Windows.

use std::io;

/// A request to end the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownSignal {
    /// SIGINT, Ctrl-C or Ctrl-Break.
    Interrupt,
    /// SIGTERM; on Windows the console is closed, or the system goes down.
    Terminate,
}

impl ShutdownSignal {
    /// Returns the exit code by which a shell recognises a program that the signal has ended: 130
    /// or 143.
    pub fn exit_code(self) -> u8 {
        match self {
            ShutdownSignal::Interrupt => 130,
            ShutdownSignal::Terminate => 143,
        }
    }
}

/// Calls `first` at the first request to end the process, on a thread of its own; the second
/// request ends the process at once, with the signal's [`exit_code`](ShutdownSignal::exit_code).
///
/// On Unix these are SIGINT and SIGTERM. On Windows they are Ctrl-C and Ctrl-Break; if the console
/// is closed or the system goes down, `first` is called as well, and Windows waits some seconds
/// (5 and 20) before it ends the process. A user who logs off changes nothing.
///
/// A process calls it once. It is for the main program: a library leaves signals alone.
///
/// # Errors
///
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if it was called before; otherwise the system's
/// error.
pub fn on_shutdown_signal(first: impl FnOnce(ShutdownSignal) + Send + 'static) -> io::Result<()> {
    static CALLED: crate::sync::AtomicBool = crate::sync::AtomicBool::new(false);
    if CALLED.swap(true, crate::sync::Ordering::Relaxed) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    watch(first)
}

#[cfg(unix)]
fn watch(first: impl FnOnce(ShutdownSignal) + Send + 'static) -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let named = |signal| match signal {
        SIGINT => ShutdownSignal::Interrupt,
        _ => ShutdownSignal::Terminate,
    };
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let watch = move || {
        let mut caught = signals.forever().map(named);
        if let Some(signal) = caught.next() {
            first(signal);
        }
        if let Some(signal) = caught.next() {
            std::process::exit(signal.exit_code().into());
        }
    };
    std::thread::Builder::new().name("posthouse-signals".into()).spawn(watch)?;
    Ok(())
}

#[cfg(windows)]
fn watch(first: impl FnOnce(ShutdownSignal) + Send + 'static) -> io::Result<()> {
    use crate::sync::{Mutex, lock};
    use crate::sys::{ConsoleEvent, on_console_event};

    let first = Mutex::new(Some(first));
    let take = move || lock(&first).take();
    on_console_event(move |event| match event {
        ConsoleEvent::Logoff => {}
        ConsoleEvent::Interrupt | ConsoleEvent::Break => match take() {
            Some(first) => first(ShutdownSignal::Interrupt),
            None => std::process::exit(ShutdownSignal::Interrupt.exit_code().into()),
        },
        ConsoleEvent::Close | ConsoleEvent::Shutdown => {
            if let Some(first) = take() {
                first(ShutdownSignal::Terminate);
            }
            // Windows ends the process when this returns; the program ends it earlier.
            loop {
                std::thread::park();
            }
        }
    })
}
