//! The deadlines of a worker: one entry per connection, re-armed lazily.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::id::PeerId;

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

    /// Takes a deadline that has passed: its time and its connection.
    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<(Duration, PeerId)> {
        self.next().filter(|at| *at <= now)?;
        self.armed.pop_first()
    }
}
