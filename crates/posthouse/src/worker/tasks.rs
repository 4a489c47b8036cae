//! The endpoint's own timers: what runs on a worker, off every strand.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::mailbox::EndpointTask;
use crate::shared::Shared;

/// Tasks by the time when they are due.
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

    /// Runs what is due. A panic is contained and counted.
    pub(super) fn run(&mut self, shared: &Shared, now: Duration) {
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            let task = first.remove();
            crate::sync::assert_none_held();
            if catch_unwind(AssertUnwindSafe(task)).is_err() {
                shared.stats.panics.add(1);
                tracing::error!("a task of Endpoint::after or every panicked");
            }
        }
    }

    /// The endpoint shuts down: what still waits is dropped unrun.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}
