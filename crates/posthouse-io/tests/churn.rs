//! The churn in small, on every backend of this machine: `cargo xtask churn` is the same in large.

#[path = "../examples/churn/campaign.rs"]
mod campaign;

use std::sync::{Mutex, PoisonError};

use campaign::{Figure, Plan, Settings};
use posthouse_io::{Backend, Layout, ReadMode};

/// A campaign counts the descriptors of the whole process: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn churn(backend: Backend, layout: Layout, connections: u32, guarded: bool) {
    churn_in(ReadMode::ZeroByte, backend, layout, connections, guarded);
}

fn churn_in(
    read_mode: ReadMode,
    backend: Backend,
    layout: Layout,
    connections: u32,
    guarded: bool,
) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let files = !campaign::process::is_wine();
    if !files {
        eprintln!(
            "NOT TESTED: in Wine a TransmitFile that begins after the peer has left never ends"
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
    println!("{}in {:?}, memory in KiB {:?}", report.figures, report.took, report.memory_kib);
    assert_ne!(report.holdings.opened, 0, "what is compared is told");
    for figure in [
        Figure::Served,
        Figure::Refused,
        Figure::ConnectsEnded,
        Figure::TurnedAway,
        Figure::CheckedBytes,
        Figure::ReceivesCancelled,
        Figure::FailedByReset,
        Figure::Left,
        Figure::HalfCloses,
    ] {
        assert!(report.figures.get(figure) > 0, "{figure:?} has happened");
    }
    assert_eq!(report.figures.get(Figure::FileParts) > 0, files);
}

#[cfg(target_os = "linux")]
#[test]
fn a_churn_leaves_nothing_on_uring() {
    churn(Backend::Uring, Layout::Pinned, 2000, false);
}

/// Fewer, because each buffer that is received into is a new mapping.
#[cfg(target_os = "linux")]
#[test]
fn a_churn_leaves_nothing_on_uring_and_writes_nothing_late() {
    churn(Backend::Uring, Layout::Pinned, 500, true);
}

#[cfg(target_os = "linux")]
#[test]
fn a_churn_leaves_nothing_on_readiness_pinned() {
    churn(Backend::Readiness, Layout::Pinned, 2000, false);
}

#[cfg(target_os = "linux")]
#[test]
fn a_churn_leaves_nothing_on_readiness_shared() {
    churn(Backend::Readiness, Layout::Shared, 2000, false);
}

#[cfg(windows)]
#[test]
fn a_churn_leaves_nothing_on_iocp_shared() {
    churn(Backend::Iocp, Layout::Shared, 600, false);
}

#[cfg(windows)]
#[test]
fn a_churn_leaves_nothing_on_iocp_pinned() {
    churn(Backend::Iocp, Layout::Pinned, 600, false);
}

/// Receives wait with memory, which nobody may touch once it is given back.
#[cfg(windows)]
#[test]
fn a_churn_leaves_nothing_on_iocp_with_receives_posted_ahead() {
    // Wine loses the end of such a receive now and then, where several workers are at one port.
    for (layout, connections) in [(Layout::Shared, 150), (Layout::Pinned, 400)] {
        churn_in(ReadMode::Pending, Backend::Iocp, layout, connections, true);
    }
}
