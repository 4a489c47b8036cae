//! The requests of a console and of the system to a process on Windows.

use std::io;

use windows_sys::Win32::Foundation::{FALSE, TRUE};
use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT,
    SetConsoleCtrlHandler,
};
use windows_sys::core::BOOL;

use crate::sync::OnceLock;

/// A request to end the process. Microsoft's documentation of `HandlerRoutine` has the meaning of
/// the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConsoleEvent {
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Break.
    Break,
    /// The console is closed. Windows ends the process when the handler returns, or after about 5
    /// s.
    Close,
    /// A user, any user, logs off. Only processes that a service started receive it, and they keep
    /// running.
    Logoff,
    /// The system shuts down. It acts as [`Close`](Self::Close), but only processes that a service
    /// started receive it, and they have about 20 s.
    Shutdown,
}

type Handler = Box<dyn Fn(ConsoleEvent) + Send + Sync>;

static HANDLER: OnceLock<Handler> = OnceLock::new();

/// Runs the handler at each event, on a thread of the system, instead of ending the process. Events
/// may come while the handler runs for another event. A panic of the handler ends the process.
///
/// # Errors
///
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if a handler is set: a process has one, until it
/// ends. Otherwise the system's error.
pub(crate) fn on_console_event(
    handler: impl Fn(ConsoleEvent) + Send + Sync + 'static,
) -> io::Result<()> {
    if HANDLER.set(Box::new(handler)).is_err() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: the function exists as long as the process.
    match unsafe { SetConsoleCtrlHandler(Some(told), TRUE) } {
        FALSE => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

unsafe extern "system" fn told(event: u32) -> BOOL {
    let Some(event) = of_number(event) else { return FALSE };
    HANDLER.get().map_or(FALSE, |handler| {
        handler(event);
        TRUE
    })
}

fn of_number(event: u32) -> Option<ConsoleEvent> {
    Some(match event {
        CTRL_C_EVENT => ConsoleEvent::Interrupt,
        CTRL_BREAK_EVENT => ConsoleEvent::Break,
        CTRL_CLOSE_EVENT => ConsoleEvent::Close,
        CTRL_LOGOFF_EVENT => ConsoleEvent::Logoff,
        CTRL_SHUTDOWN_EVENT => ConsoleEvent::Shutdown,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn each_event_is_told_by_its_name_and_what_is_unknown_is_left_to_the_system() {
        static TOLD: Mutex<Vec<ConsoleEvent>> = Mutex::new(Vec::new());
        on_console_event(|event| TOLD.lock().unwrap().push(event)).unwrap();
        let again = on_console_event(|_| {}).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        // The numbers of the Windows headers.
        // SAFETY: the system calls this function, which accepts every number.
        let passed_on = [0, 1, 2, 5, 6, 3].map(|event| unsafe { told(event) });
        assert_eq!(passed_on, [TRUE, TRUE, TRUE, TRUE, TRUE, FALSE]);
        let names = [
            ConsoleEvent::Interrupt,
            ConsoleEvent::Break,
            ConsoleEvent::Close,
            ConsoleEvent::Logoff,
            ConsoleEvent::Shutdown,
        ];
        assert_eq!(*TOLD.lock().unwrap(), names);
    }
}
