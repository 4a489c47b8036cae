//! The endpoint's own timers, which run on a worker outside of every strand.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::mailbox::EndpointTask;
use crate::shared::Shared;

/// The waiting tasks, by the time at which they are due.
#[derive(Default)]
pub(super) struct Tasks {
    waiting: BTreeMap<(Duration, u64), EndpointTask>,
    next: u64,
}

impl Tasks {
    pub(super) fn add(&mut self, at: Duration, task: EndpointTask) {
        self.waiting.insert((at, self.next), task);
        self.next += 1;
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// Runs the tasks that are due. A panic is contained and counted.
    pub(super) fn run(&mut self, shared: &Shared, now: Duration) {
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            let task = first.remove();
            crate::sync::assert_none_held();
            if catch_unwind(AssertUnwindSafe(task)).is_err() {
                shared.stats.panics.add(1);
                if let Some(suppressed) = shared.panics_logged.may_log(now) {
                    let message = "a task of Endpoint::after or Endpoint::every panicked";
                    tracing::error!(suppressed, message);
                }
            }
        }
    }

    /// Drops the waiting tasks, because the endpoint shuts down.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}
