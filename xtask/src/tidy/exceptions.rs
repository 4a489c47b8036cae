//! Where a rule may be broken. Each entry says why; one that covers nothing is itself a finding.

pub(super) struct Exception {
    pub(super) rule: &'static str,
    /// The whole path of one file.
    pub(super) path: &'static str,
    pub(super) reason: &'static str,
}

pub(super) const EXCEPTIONS: &[Exception] = &[
    Exception {
        rule: "unsafe-only-in-io",
        path: "crates/posthouse-cli/tests/program/console.rs",
        reason: "a test presses Ctrl-C for the program on Windows; nothing of it is in the program",
    },
    Exception {
        rule: "unsafe-only-in-io",
        path: "crates/posthouse/tests/allocations.rs",
        reason: "an allocator that counts is an unsafe trait; nothing of it is in the crate",
    },
    Exception {
        rule: "unsafe-only-in-io",
        path: "bench/src/bin/baseline-uring/buffers.rs",
        reason: "the server by hand that Posthouse is measured against, built apart from it",
    },
    Exception {
        rule: "unsafe-only-in-io",
        path: "bench/src/bin/baseline-uring/ring.rs",
        reason: "the server by hand that Posthouse is measured against, built apart from it",
    },
];
