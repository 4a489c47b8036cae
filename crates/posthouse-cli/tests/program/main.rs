//! The built program, used as its user uses it.
#![deny(unsafe_code)]

mod bench;
mod commands;
mod faulty_echo_server;
mod faulty_proxy;
mod files;
mod foreign_clients;
mod harness;
mod resume;
mod serve;
#[cfg(windows)]
mod windows_console;
