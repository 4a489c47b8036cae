//! I/O workers: a step that the completion port calls, in two layouts.

mod pinned;
mod shared;
mod tasks;

pub(crate) use pinned::PinnedWorker;
pub(crate) use shared::{SharedWorker, Strands};

use std::time::Duration;

use posthouse_io::Turn;

use crate::connection::{Connection, HeldSpares, Local, Work};
use crate::core::Life;
use crate::id::PeerId;
use crate::mailbox::PeerPost;
use crate::output::Spares;
use crate::sync::Arc;
use crate::timers::Timers;
use crate::watch::Watch;

impl Local {
    fn new(watch: Arc<Watch>) -> Self {
        let (spares, held, timers) = <(Spares, HeldSpares, Timers)>::default();
        Self { spares, held, timers, watch, control: Vec::new() }
    }
}

/// The connection that a post begins, if it begins one.
fn begun(id: PeerId, work: &mut Work) -> Option<Box<Connection>> {
    let (config, callbacks, outgoing) = match work {
        Work::Post(PeerPost::Adopt { config, .. }) => {
            (config.clone(), config.handler.clone().callbacks(), false)
        }
        Work::Post(PeerPost::Connect { config, callbacks, .. }) => {
            (config.clone(), callbacks.take().expect("a connection begins once"), true)
        }
        _ => return None,
    };
    Some(Box::new(Connection::new(id, config, callbacks, outgoing)))
}

/// Sleeps until the earliest of these.
fn sleep(now: Duration, deadlines: impl IntoIterator<Item = Option<Duration>>) -> Turn {
    match deadlines.into_iter().flatten().min() {
        Some(at) if at <= now => Turn::Again,
        Some(at) => Turn::Sleep(Some(at.saturating_sub(now))),
        None => Turn::Sleep(None),
    }
}

/// How far a worker is with the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shutdown {
    No,
    /// Its connections have been told to close gracefully.
    Graceful,
    /// The deadline is over: they have been aborted.
    Abort,
    /// So is the time for what cannot be cancelled: they have been given up.
    GiveUp,
}

impl Shutdown {
    /// How far it should be, and when it goes further by itself.
    fn at(now: Duration, life: &Life) -> (Self, Option<Duration>) {
        match (life.shutdown_deadline(), life.gives_up_at()) {
            (Some(deadline), _) if now < deadline => (Shutdown::Graceful, Some(deadline)),
            (_, Some(end)) if now < end => (Shutdown::Abort, Some(end)),
            (Some(_), _) => (Shutdown::GiveUp, None),
            (None, _) => (Shutdown::No, None),
        }
    }
}
