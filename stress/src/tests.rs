//! A short stress run on every backend of this machine; `cargo xtask stress` does long ones.

use std::sync::{Mutex, PoisonError};

use crate::campaign::{self, Count, Plan, Settings};
use posthouse_io::{Backend, Layout, ReadMode};

/// A campaign counts the descriptors of the whole process, so only one runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn stress(backend: Backend, layout: Layout, connections: u32, guarded: bool) {
    stress_in(ReadMode::ZeroByte, backend, layout, connections, guarded);
}

fn stress_in(
    read_mode: ReadMode,
    backend: Backend,
    layout: Layout,
    connections: u32,
    guarded: bool,
) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let files = !posthouse_process::is_wine();
    if !files {
        eprintln!(
            "NOT TESTED: in Wine a TransmitFile begun after the peer disconnected never ends"
        );
    }
    let report = campaign::run(Settings {
        connections,
        backend,
        layout,
        read_mode,
        plan: Plan { seed: 3, resets_percent: 0 },
        guarded,
        files,
        workers: 3,
        at_once: 256,
        max_time: None,
    });
    let report = report.unwrap_or_else(|what| panic!("{what}"));
    println!("{}in {:?}, memory in KiB {:?}", report.counts, report.took, report.memory_kib);
    assert_ne!(report.holdings.opened, 0, "the compared number is known");
    for count_of in [
        Count::Served,
        Count::Refused,
        Count::ConnectsEnded,
        Count::TurnedAway,
        Count::CheckedBytes,
        Count::ReceivesCancelled,
        Count::FailedByReset,
        Count::Left,
        Count::HalfCloses,
    ] {
        assert!(report.counts.get(count_of) > 0, "{count_of:?} has happened");
    }
    assert_eq!(report.counts.get(Count::FileParts) > 0, files);
}

#[cfg(target_os = "linux")]
#[test]
fn a_stress_run_leaves_nothing_on_uring() {
    stress(Backend::Uring, Layout::Pinned, 2000, false);
}

/// Runs fewer connections, because each receive buffer is a new mapping.
#[cfg(target_os = "linux")]
#[test]
fn a_stress_run_leaves_nothing_on_uring_and_writes_nothing_late() {
    stress(Backend::Uring, Layout::Pinned, 500, true);
}

#[cfg(target_os = "linux")]
#[test]
fn a_stress_run_leaves_nothing_on_readiness_pinned() {
    stress(Backend::Readiness, Layout::Pinned, 2000, false);
}

#[cfg(target_os = "linux")]
#[test]
fn a_stress_run_leaves_nothing_on_readiness_shared() {
    stress(Backend::Readiness, Layout::Shared, 2000, false);
}

#[cfg(windows)]
#[test]
fn a_stress_run_leaves_nothing_on_iocp_shared() {
    stress(Backend::Iocp, Layout::Shared, 600, false);
}

#[cfg(windows)]
#[test]
fn a_stress_run_leaves_nothing_on_iocp_pinned() {
    stress(Backend::Iocp, Layout::Pinned, 600, false);
}

/// Receives wait with memory; accessing a released buffer ends the process.
#[cfg(windows)]
#[test]
fn a_stress_run_leaves_nothing_on_iocp_with_receives_posted_ahead() {
    // Wine sometimes loses the end of such a receive if several workers use one port.
    for (layout, connections) in [(Layout::Shared, 150), (Layout::Pinned, 400)] {
        stress_in(ReadMode::Pending, Backend::Iocp, layout, connections, true);
    }
}
