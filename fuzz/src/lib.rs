//! The targets of the fuzzer. Each target turns the bytes of an input into a run: a configuration,
//! then one step after the other, with frames of a peer, results of the disk, grants of memory and
//! the time. The checks are in the runs, so a run that breaks a promise panics.
//!
//! `cargo xtask fuzz` looks for such inputs. The tests of this package replay the kept ones, the
//! corpora, and some thousand random ones.
#![forbid(unsafe_code)]

mod content;
mod frames;
mod input;
mod receiver;
mod sender;
mod session;

pub use input::random_input;

/// A part of the protocol that the fuzzer runs.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name, also of the fuzzer's program.
    pub name: &'static str,
    /// Performs the run of an input. Panics if the run breaks a promise.
    pub run: fn(&[u8]),
    /// The kept inputs, one a line, in hexadecimal digits.
    pub corpus: &'static str,
}

/// Performs the run of an input of the target with this name. Panics if the run breaks a promise.
pub fn run(name: &str, input: &[u8]) {
    (target(name).run)(input);
}

/// Returns the target with this name. Panics if there is none.
pub fn target(name: &str) -> &'static Target {
    let target = TARGETS.iter().find(|target| target.name == name);
    target.unwrap_or_else(|| panic!("{name} is no target"))
}

/// The targets.
pub static TARGETS: [Target; 3] = [
    Target { name: "session", run: session::run, corpus: include_str!("../corpus/session.txt") },
    Target { name: "sender", run: sender::run, corpus: include_str!("../corpus/sender.txt") },
    Target { name: "receiver", run: receiver::run, corpus: include_str!("../corpus/receiver.txt") },
];
