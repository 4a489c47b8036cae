//! The deadlines of a worker: one entry per connection, re-armed lazily.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::id::PeerId;

/// The maximum number of deadlines that a worker handles before it takes completions again.
const MAX_TURN_DEADLINES: usize = 256;

/// The deadlines of a worker. Almost every message moves a connection's deadline later (the
/// heartbeat), but its entry stays. When the entry fires, the connection checks its deadlines and
/// arms again. So the set changes once per interval, not once per message.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    armed: BTreeSet<(Duration, PeerId)>,
}

impl Timers {
    pub(crate) fn arm(&mut self, at: Duration, peer: PeerId) {
        self.armed.insert((at, peer));
    }

    /// Returns the earliest deadline.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.armed.first().map(|(at, _)| *at)
    }

    /// Takes the deadlines that have passed, at most [`MAX_TURN_DEADLINES`]. Connections that arm
    /// one again for a time that has passed have their turn behind the others.
    pub(crate) fn take_due(&mut self, now: Duration) -> Vec<(Duration, PeerId)> {
        let mut due = Vec::new();
        while due.len() < MAX_TURN_DEADLINES
            && self.next().is_some_and(|at| at <= now)
            && let Some(first) = self.armed.pop_first()
        {
            due.push(first);
        }
        due
    }
}
