//! The built program, used as its user uses it.
#![forbid(unsafe_code)]

mod bench;
mod commands;
mod echo;
mod foreign;
mod serve;
mod support;
