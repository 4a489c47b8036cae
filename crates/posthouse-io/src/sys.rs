//! System calls that several backends use, and the meaning of system errors: one file per system.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub(crate) use self::linux::*;
#[cfg(windows)]
pub(crate) use self::windows::*;
#[cfg(windows)]
pub(crate) use self::windows::{ConsoleEvent, on_console_event};
