//! The built program, used as its user uses it.
#![deny(unsafe_code)]

mod bench;
mod commands;
#[cfg(windows)]
mod console;
mod echo;
mod files;
mod foreign;
mod link;
mod resuming;
mod serve;
mod support;
