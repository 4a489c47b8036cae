//! The I/O workers, in two layouts. Each is a step function that the completion port calls.

mod pinned;
mod shared;

pub(crate) use pinned::{HELD_UP, PinnedWorker};
pub(crate) use shared::SharedWorker;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use posthouse_io::{Lane, Turn};

use crate::connection::output::FreeList;
use crate::connection::{Connection, ConnectionEvent, FreeBacklogs, WorkerState};
use crate::contained::{self, contain};
use crate::id::PeerId;
use crate::mailbox::PeerPost;
use crate::shared::{Lifecycle, Shared};
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
    let callbacks = callbacks.take().expect("a connection begins once").into_inner();
    Some(Box::new(Connection::new(id, config.clone(), callbacks)))
}

/// A worker of one of the layouts.
pub(crate) trait Worker: Send + 'static {
    fn shared(&self) -> &Arc<Shared>;

    /// Runs one turn.
    fn step(&mut self, lane: &mut Lane) -> Turn;

    /// Gives up what the worker holds, after its step has panicked.
    fn abandon(&mut self);
}

/// Runs a step of a worker. Callbacks contain the panics of the program, so a panic of the step is
/// a bug of the framework, or comes from the program's log. It ends this worker and shuts the
/// endpoint down. In simulation it ends the run, which reports the seed.
pub(crate) fn run_step(worker: &mut impl Worker, lane: &mut Lane) -> Turn {
    let turn = catch_unwind(AssertUnwindSafe(|| worker.step(lane)));
    if let Some(caught) = contained::take_caught() {
        let message = "a value of the program panicked in its drop";
        worker.shared().stats.panics.add(caught.count - 1);
        worker.shared().count_panic(lane.now(), None, &caught.last, message);
    }
    let panic = match turn {
        Ok(turn) => return turn,
        Err(panic) => panic,
    };
    if worker.shared().selected.backend == "simulation" {
        resume_unwind(panic);
    }
    let shared = worker.shared().clone();
    contain(|| {
        tracing::error!(
            panic = contained::text(&*panic),
            "an I/O worker panicked outside of every callback and has ended: the endpoint shuts \
             down, and the worker's connections end without a callback"
        );
    });
    contained::drop_payload(panic);
    contain(|| shared.begin_shutdown(shared.shutdown_timeout()));
    worker.abandon();
    shared.timers.close();
    shared.worker_ended();
    Turn::Done
}

/// Gives up a connection of a worker that has panicked.
fn abandon_connection(shared: &Shared, connection: Box<Connection>) {
    let ended = (!connection.is_abandoned()).then(|| connection.strand.ended(shared));
    contain(|| drop(connection));
    contain(|| ended.map(|ended| shared.abandon(ended)));
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
