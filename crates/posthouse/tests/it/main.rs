//! The framework through its public interface: what it does, what it promises, what it withstands.
//!
//! A scenario takes a [`bed::Bed`] and is run on each: readiness in both layouts, and, where no
//! real socket has to be there, the simulation in both layouts with twenty seeds each.

#![allow(unreachable_pub, reason = "a test program has no interface; `pub` is between its files")]

mod bed;
mod log;
mod probe;
mod raw;

mod behaviour;
mod contracts;
mod threats;
