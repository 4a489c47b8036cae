//! Ctrl-C for one program. Windows sends it to all processes on a console, so each gets its own.

#![expect(unsafe_code, reason = "std has no such call, and the program needs none")]

use std::io;
use std::os::windows::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::Mutex;

use windows_sys::Win32::Foundation::TRUE;
use windows_sys::Win32::System::Console::{
    AttachConsole, CTRL_C_EVENT, FreeConsole, GenerateConsoleCtrlEvent, SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::Threading::CREATE_NO_WINDOW;
use windows_sys::core::BOOL;

/// Makes a program start with a hidden console of its own.
pub(super) fn set_own_console(command: &mut Command) {
    command.creation_flags(CREATE_NO_WINDOW);
}

/// Presses Ctrl-C on the program's console.
pub(super) fn press_ctrl_c(program: &Child) {
    // A process is on one console at a time.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    let _one = ONE_AT_A_TIME.lock().expect("no thread panics under this lock");
    // SAFETY: these calls take numbers, and a function that lives as long as the process. Nothing
    // else in this process depends on its console: its streams are pipes.
    let pressed = unsafe {
        FreeConsole();
        let attached = AttachConsole(program.id()) != 0;
        // Both calls reset the handlers ("SetConsoleCtrlHandler" in Microsoft's documentation).
        SetConsoleCtrlHandler(Some(ignore), TRUE);
        let pressed = attached && GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0) != 0;
        let error = io::Error::last_os_error();
        FreeConsole();
        // The event may still be on its way to this process, which must ignore it.
        SetConsoleCtrlHandler(Some(ignore), TRUE);
        pressed.then_some(()).ok_or(error)
    };
    pressed.expect("the process still runs");
}

/// Ignores an event for the program, whose console this process shares. (The system's own way to
/// ignore Ctrl-C is inherited by the programs that are started later.)
unsafe extern "system" fn ignore(_: u32) -> BOOL {
    TRUE
}
