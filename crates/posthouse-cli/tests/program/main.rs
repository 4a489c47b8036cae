//! The built program, used as its user uses it.
#![forbid(unsafe_code)]

mod bench;
mod commands;
mod echo;
mod files;
mod foreign;
mod link;
mod resuming;
mod serve;
mod support;
