//! A worker's deadlines: one entry per connection, re-armed lazily.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::id::PeerId;

/// The deadlines that a worker keeps. A connection's deadline moves later with almost every
/// message (a heartbeat); its entry stays where it is, and when it fires the connection looks what
/// is due and arms again. So the set is touched once per interval, not once per message.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    armed: BTreeSet<(Duration, PeerId)>,
}

impl Timers {
    pub(crate) fn arm(&mut self, at: Duration, peer: PeerId) {
        self.armed.insert((at, peer));
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.armed.first().map(|(at, _)| *at)
    }

    /// Takes a deadline that is over: when it was and whose it is.
    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<(Duration, PeerId)> {
        self.next().filter(|at| *at <= now)?;
        self.armed.pop_first()
    }
}
