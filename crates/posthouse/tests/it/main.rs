//! The framework through its public interface: what it does, what it promises, what it withstands.
//!
//! A scenario takes a [`harness::Harness`] and is run on each: every backend of this system in its
//! layouts, and, where no real socket has to be there, the simulation in both layouts with twenty
//! seeds each.

#![deny(unsafe_code)]
#![allow(unreachable_pub, reason = "a test program has no interface; `pub` is between its files")]
#![allow(
    clippy::duration_suboptimal_units,
    clippy::unchecked_time_subtraction,
    clippy::large_stack_arrays,
    clippy::needless_for_each,
    clippy::single_match_else,
    reason = "a test says times and sizes in the units of what it tests"
)]

mod harness;
#[path = "../../../posthouse-io/tests/shared/log.rs"]
mod log;
#[cfg(target_os = "linux")]
#[path = "../../../posthouse-io/tests/contract/namespace.rs"]
mod namespace;
#[cfg(target_os = "linux")]
#[path = "../../../posthouse-io/tests/contract/own_process.rs"]
mod own_process;
mod probe;
mod raw;
mod store;

mod behaviour;
mod contracts;
mod files;
mod threats;

use posthouse_process as process;
