//! The I/O workers, in two layouts. Each is a step function that the completion port calls.

mod pinned;
mod shared;
mod tasks;

pub(crate) use pinned::PinnedWorker;
pub(crate) use shared::SharedWorker;

use std::time::Duration;

use posthouse_io::Turn;

use crate::connection::output::FreeList;
use crate::connection::{Connection, ConnectionEvent, FreeBacklogs, WorkerState};
use crate::id::PeerId;
use crate::mailbox::PeerPost;
use crate::shared::Lifecycle;
use crate::sync::Arc;
use crate::timers::Timers;
use crate::watchdog::CallbackMarker;

impl WorkerState {
    fn new(marker: Arc<CallbackMarker>) -> Self {
        let (free_list, free_backlogs, timers) = <(FreeList, FreeBacklogs, Timers)>::default();
        Self { free_list, free_backlogs, timers, marker, control: Vec::new() }
    }
}

/// Makes the connection that a post begins, if it begins one.
fn new_connection(id: PeerId, event: &mut ConnectionEvent) -> Option<Box<Connection>> {
    let ConnectionEvent::Post(
        PeerPost::Adopt { config, callbacks, .. } | PeerPost::Connect { config, callbacks, .. },
    ) = event
    else {
        return None;
    };
    let callbacks = callbacks.take().expect("a connection begins once");
    Some(Box::new(Connection::new(id, config.clone(), callbacks)))
}

/// Sleeps until the earliest of these deadlines.
fn sleep(now: Duration, deadlines: impl IntoIterator<Item = Option<Duration>>) -> Turn {
    match deadlines.into_iter().flatten().min() {
        Some(at) if at <= now => Turn::Again,
        Some(at) => Turn::Sleep(Some(at.saturating_sub(now))),
        None => Turn::Sleep(None),
    }
}

/// A worker's stage of the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ShutdownStage {
    No,
    /// The connections are closing gracefully.
    Graceful,
    /// The deadline has passed, and the connections have been aborted.
    Abort,
    /// The grace period for operations that cannot be cancelled has passed, and the connections
    /// have been abandoned.
    Abandon,
}

impl ShutdownStage {
    /// Returns the stage that is due, and the time of the next stage.
    fn at(now: Duration, lifecycle: &Lifecycle) -> (Self, Option<Duration>) {
        match (lifecycle.shutdown_deadline(), lifecycle.abandon_at()) {
            (Some(deadline), _) if now < deadline => (ShutdownStage::Graceful, Some(deadline)),
            (_, Some(end)) if now < end => (ShutdownStage::Abort, Some(end)),
            (Some(_), _) => (ShutdownStage::Abandon, None),
            (None, _) => (ShutdownStage::No, None),
        }
    }
}
