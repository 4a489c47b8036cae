//! What both sides of the demonstration saw.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Written to by the callbacks of both endpoints.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    counts: Mutex<Counts>,
    changed: Condvar,
}

/// Things that went wrong and are told one by one.
const WRONG_MAX: usize = 10;

#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Clients that came up, and so the number of the next one.
    pub(crate) arrived: u32,
    /// Echoes that were right.
    pub(crate) echoes: u64,
    /// Replies that were right.
    pub(crate) replies: u64,
    /// Clients that joined their group.
    pub(crate) joined: u64,
    /// Group messages that were right and in order.
    pub(crate) group_messages: u64,
    /// Files that the server confirmed.
    pub(crate) files_sent: u64,
    /// Clients that the clients' endpoint said goodbye to.
    pub(crate) gone_from_clients: u64,
    /// Clients that the server was told to be gone.
    pub(crate) gone_from_server: u64,
    /// Of those: which had reset the connection.
    pub(crate) resets: u64,
    /// Of those: which had ended it.
    pub(crate) ended: u64,
    /// What went wrong.
    pub(crate) wrong: Vec<String>,
}

impl Counts {
    pub(crate) fn wrong(&mut self, what: String) {
        if self.wrong.len() < WRONG_MAX {
            self.wrong.push(what);
        }
    }
}

impl Ledger {
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Counts) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// Waits until `ready`, or something went wrong, or the time is over.
    pub(crate) fn wait(&self, timeout: Duration, ready: impl Fn(&Counts) -> bool) {
        let waits = |counts: &mut Counts| counts.wrong.is_empty() && !ready(counts);
        // Whoever reads the report sees what is missing.
        drop(self.changed.wait_timeout_while(self.lock(), timeout, waits));
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counts are right after every statement that changes them.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
