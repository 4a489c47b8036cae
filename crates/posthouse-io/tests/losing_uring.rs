//! Every way in which a machine can refuse io_uring: the port then runs on readiness and says why,
//! or, where io_uring was asked for by name, fails with the same words.
//!
//! What is refused is refused by a sandbox (seccomp), in a process that each test has to itself.
//! A sandbox sees the numbers of a call, not the memory that they point to: it cannot make a kernel
//! that knows no multishot receive, since the request that asks for one lies in the queue. What
//! the probe says to such a kernel is tested next to it, in `src/uring/probe.rs`.
#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a test program has no interface; `pub` is between its files")]

#[allow(dead_code, reason = "the harness of the contract, which uses all of it")]
#[path = "contract/driver.rs"]
mod driver;
#[path = "losing_uring/environment.rs"]
mod environment;
#[allow(dead_code, reason = "the harness of the contract, which uses all of it")]
#[path = "contract/harness.rs"]
mod harness;
#[path = "losing_uring/limits.rs"]
mod limits;
#[allow(dead_code, reason = "only the contract tests use all of it")]
#[path = "contract/own_process.rs"]
mod own_process;
#[path = "losing_uring/refused.rs"]
mod refused;

use posthouse_io::{Backend, CompletionPort, Layout, Options};

use harness::Harness;
use posthouse_process::{Holdings, opened, ring_mappings};

/// The error of a port that is to run on io_uring and on nothing else, of which nothing is left.
fn forced() -> String {
    let before = Holdings::now();
    let opened = CompletionPort::open(Backend::Uring, &Options::default());
    let error = opened.expect_err("no io_uring");
    assert_eq!(Holdings::now(), before, "a failed open left resources");
    error.to_string()
}

/// The reason of a port that is to take the best there is and takes readiness, of which it is seen
/// that it works and that nothing is left of the probe.
fn fallen_back() -> String {
    let before = opened();
    let harness = Harness::new(Backend::Auto, Layout::Pinned, 2);
    assert_eq!(harness.selected.backend, "readiness");
    assert_eq!(harness.selected.layout, Layout::Pinned);
    assert_eq!(ring_mappings(), 0);
    works(&harness);
    let reason = harness.selected.reason.clone();
    harness.finish();
    assert_eq!(opened(), before, "a dropped port left resources");
    reason
}

/// Accepts, connects, and sends and receives both ways.
fn works(harness: &Harness) {
    let (near, far) = harness.pair();
    for (from, to) in [(near, far), (far, near)] {
        harness.send_all(from, b"round trip");
        assert_eq!(harness.read(to, 10), b"round trip");
    }
    harness.close_all([near, far]);
}

/// Fails unless the text has all of these in it.
#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
}
