//! What happens to the connections of a load. Nothing here is on the path of a message.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use posthouse::{Fault, PeerId, Reason};

/// Different reasons, or mismatches, that are told one by one; the rest is counted.
const EXAMPLES_MAX: usize = 8;

/// Counts of connections, and whoever waits for them to change.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Connections that came up, those that ended since included.
    pub(crate) up: Vec<PeerId>,
    /// Connections that ended since they came up.
    pub(crate) ended: u64,
    /// Connections that are up, have no echo in flight and send no more.
    pub(crate) idle: u64,
    /// Connections that did not come up, by reason.
    pub(crate) unreachable: Reasons,
    /// Connections that ended before the load did, by reason.
    pub(crate) lost: Reasons,
    /// Of those: by the peer's fault.
    pub(crate) lost_by_peer: u64,
    /// Echoes that were not what was sent.
    pub(crate) mismatches: u64,
    /// What was wrong with the first of them.
    pub(crate) examples: Vec<String>,
    /// True once the user asked for the end.
    pub(crate) interrupted: bool,
}

/// How often each reason was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reasons {
    pub(crate) total: u64,
    pub(crate) texts: BTreeMap<String, u64>,
}

impl Reasons {
    fn add(&mut self, text: &str) {
        self.total += 1;
        if let Some(count) = self.texts.get_mut(text) {
            *count += 1;
        } else if self.texts.len() < EXAMPLES_MAX {
            self.texts.insert(text.to_owned(), 1);
        }
    }
}

impl Counts {
    /// Connections that came up or failed to.
    pub(crate) fn settled(&self) -> u64 {
        self.up.len() as u64 + self.unreachable.total
    }

    /// Connections that are up.
    pub(crate) fn alive(&self) -> u64 {
        self.up.len() as u64 - self.ended
    }

    pub(crate) fn failed_to_connect(&mut self, why: &str) {
        self.unreachable.add(why);
    }

    /// A connection ended.
    pub(crate) fn gone(&mut self, was_idle: bool) {
        self.ended += 1;
        self.idle -= u64::from(was_idle);
    }

    /// One that should not have ended yet did.
    pub(crate) fn lost(&mut self, why: &Reason) {
        self.lost.add(&why.to_string());
        self.lost_by_peer += u64::from(why.fault() == Fault::Peer);
    }

    pub(crate) fn mismatch(&mut self, what: String) {
        self.mismatches += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(what);
        }
    }
}

impl Progress {
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Counts) -> T) -> T {
        look(&self.lock())
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    pub(crate) fn interrupt(&self) {
        self.change(|counts| counts.interrupted = true);
    }

    /// Waits until `ready`, or until the time is over.
    pub(crate) fn wait(&self, timeout: Option<Duration>, ready: impl Fn(&Counts) -> bool) {
        let waits = |counts: &mut Counts| !ready(counts);
        let counts = self.lock();
        // Whoever waits looks at what it waited for itself.
        match timeout {
            Some(timeout) => drop(self.changed.wait_timeout_while(counts, timeout, waits)),
            None => drop(self.changed.wait_while(counts, waits)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counts are right after every statement that changes them.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_only_the_first_few_are_kept() {
        let mut reasons = Reasons::default();
        for number in 0..20 {
            reasons.add(&format!("reason {number}"));
            reasons.add("reason 0");
        }
        assert_eq!(reasons.total, 40);
        assert_eq!(reasons.texts.len(), EXAMPLES_MAX);
        assert_eq!(reasons.texts["reason 0"], 21);
    }
}
