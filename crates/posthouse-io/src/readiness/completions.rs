//! The queue that completions go into as they come to be, and the figures about them.

use std::collections::VecDeque;

use crate::error::Error;
use crate::operation::{Completion, Outcome};
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::token::Tag;

/// Running totals of one worker. Only that worker writes them, so an addition is a plain load and
/// store; anybody may read.
#[derive(Debug, Default)]
pub(super) struct Figures {
    submitted: AtomicU64,
    completed: AtomicU64,
    opened: AtomicU64,
    closed: AtomicU64,
}

/// The totals of all workers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) submitted: u64,
    pub(super) completed: u64,
    /// In the shared layout one worker opens a socket and another closes it: only the difference
    /// of the sums means something.
    opened: u64,
    closed: u64,
}

impl Figures {
    pub(super) fn submitted(&self) {
        add_one(&self.submitted);
    }

    pub(super) fn completed(&self) {
        add_one(&self.completed);
    }

    pub(super) fn opened(&self) {
        add_one(&self.opened);
    }

    pub(super) fn closed(&self) {
        add_one(&self.closed);
    }
}

impl Totals {
    pub(super) fn of<'a>(workers: impl Iterator<Item = &'a Figures> + Clone) -> Self {
        let mut totals = Self::default();
        // Ends before beginnings: a sum taken while workers run never shows more ends.
        for figures in workers.clone() {
            totals.completed += figures.completed.load(Ordering::Acquire);
            totals.closed += figures.closed.load(Ordering::Acquire);
        }
        for figures in workers {
            totals.submitted += figures.submitted.load(Ordering::Relaxed);
            totals.opened += figures.opened.load(Ordering::Relaxed);
        }
        totals
    }

    pub(super) fn sockets(&self) -> usize {
        usize::try_from(self.opened - self.closed).expect("no more sockets than memory")
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.submitted - self.completed
    }
}

fn add_one(figure: &AtomicU64) {
    figure.store(figure.load(Ordering::Relaxed) + 1, Ordering::Release);
}

/// Completions in the order in which they came to be, counted as they go in.
#[derive(Debug)]
pub(super) struct Completions {
    queue: VecDeque<Completion>,
    figures: Arc<Figures>,
}

impl Completions {
    pub(super) fn new(figures: Arc<Figures>) -> Self {
        Self { queue: VecDeque::new(), figures }
    }

    /// The one terminal completion of an operation.
    pub(super) fn end(&mut self, tag: Tag, outcome: Outcome) {
        self.put(Completion { tag, more: false, outcome });
    }

    /// A terminal failure.
    pub(super) fn fail(&mut self, tag: Tag, error: Error) {
        self.end(tag, Outcome::Failed(error));
    }

    /// A completion that may have others after it.
    pub(super) fn put(&mut self, completion: Completion) {
        if !completion.more {
            self.figures.completed();
        }
        self.queue.push_back(completion);
    }

    pub(super) fn pop(&mut self) -> Option<Completion> {
        self.queue.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Hands everything over to another queue.
    pub(super) fn move_to(&mut self, other: &mut VecDeque<Completion>) {
        other.append(&mut self.queue);
    }

    pub(super) fn figures(&self) -> &Figures {
        &self.figures
    }
}
