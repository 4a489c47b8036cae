//! Ctrl-C for one program, which on Windows is sent to all on a console: each has one of its own.

#![expect(unsafe_code, reason = "std cannot do this, and the program itself has no use for it")]

use std::io;
use std::os::windows::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::{Mutex, OnceLock};

use posthouse::console::on_console_event;
use windows_sys::Win32::System::Console::{
    AttachConsole, CTRL_C_EVENT, FreeConsole, GenerateConsoleCtrlEvent,
};
use windows_sys::Win32::System::Threading::CREATE_NO_WINDOW;

/// Gives a program that is to be started a console of its own, which nobody sees.
pub(super) fn give_one(command: &mut Command) {
    command.creation_flags(CREATE_NO_WINDOW);
}

/// Presses Ctrl-C on the program's console.
pub(super) fn press_ctrl_c(program: &Child) {
    // A process is on one console at a time.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    static PASSED_OVER_HERE: OnceLock<()> = OnceLock::new();

    let _one = ONE_AT_A_TIME.lock().expect("nothing under this lock panics");
    PASSED_OVER_HERE.get_or_init(|| on_console_event(|_| {}).expect("the only handler"));
    // SAFETY: these calls take numbers only. Which console this process is on is no business of
    // anything else in it: its streams are pipes.
    let pressed = unsafe {
        FreeConsole();
        let pressed =
            AttachConsole(program.id()) != 0 && GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0) != 0;
        let error = io::Error::last_os_error();
        FreeConsole();
        pressed.then_some(()).ok_or(error)
    };
    pressed.expect("it still runs");
}
