//! A worker's queue of completions, and its counters.

use std::collections::VecDeque;

use crate::error::Error;
use crate::op::{Completion, Outcome};
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::token::Tag;

/// The running totals of one worker. Only that worker writes them, so an addition is a plain load
/// and store. All threads may read them.
#[derive(Debug, Default)]
pub(crate) struct WorkerCounters {
    submitted: AtomicU64,
    completed: AtomicU64,
    opened: AtomicU64,
    closed: AtomicU64,
}

/// The totals of all workers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) submitted: u64,
    pub(crate) completed: u64,
    /// In the shared layout one worker opens a socket and another closes it, so only the difference
    /// of the sums has a meaning.
    opened: u64,
    closed: u64,
}

impl WorkerCounters {
    pub(crate) fn submitted(&self) {
        add_one(&self.submitted);
    }

    pub(crate) fn completed(&self) {
        add_one(&self.completed);
    }

    pub(crate) fn opened(&self) {
        add_one(&self.opened);
    }

    pub(crate) fn closed(&self) {
        add_one(&self.closed);
    }
}

impl Totals {
    pub(crate) fn of<'a>(workers: impl Iterator<Item = &'a WorkerCounters> + Clone) -> Self {
        let mut totals = Self::default();
        // Ends are read before beginnings, so a sum taken while workers run never has more ends.
        for counters in workers.clone() {
            totals.completed += counters.completed.load(Ordering::Acquire);
            totals.closed += counters.closed.load(Ordering::Acquire);
        }
        for counters in workers {
            totals.submitted += counters.submitted.load(Ordering::Relaxed);
            totals.opened += counters.opened.load(Ordering::Relaxed);
        }
        totals
    }

    pub(crate) fn sockets(&self) -> usize {
        (self.opened - self.closed) as usize
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.submitted - self.completed
    }
}

fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Release);
}

/// The completions in the order of their creation. The queue counts them as they are added.
#[derive(Debug)]
pub(crate) struct CompletionQueue {
    queue: VecDeque<Completion>,
    counters: Arc<WorkerCounters>,
}

impl CompletionQueue {
    pub(crate) fn new(counters: Arc<WorkerCounters>) -> Self {
        Self { queue: VecDeque::new(), counters }
    }

    /// Adds the one terminal completion of an operation.
    pub(crate) fn end(&mut self, tag: Tag, outcome: Outcome) {
        self.put(Completion { tag, more: false, outcome });
    }

    /// Adds a terminal failure.
    pub(crate) fn fail(&mut self, tag: Tag, error: Error) {
        self.end(tag, Outcome::Failed(error));
    }

    /// Adds a completion, which may have others of its operation after it.
    pub(crate) fn put(&mut self, completion: Completion) {
        if !completion.more {
            self.counters.completed();
        }
        self.queue.push_back(completion);
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn pop(&mut self) -> Option<Completion> {
        self.queue.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Moves all completions to another queue.
    pub(crate) fn move_to(&mut self, other: &mut VecDeque<Completion>) {
        other.append(&mut self.queue);
    }

    pub(crate) fn counters(&self) -> &WorkerCounters {
        &self.counters
    }
}
