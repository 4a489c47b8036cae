//! The queue that completions go into as they come to be, and the figures about them.

use std::collections::VecDeque;

#[cfg(target_os = "linux")]
use crate::disk::FileSent;
use crate::error::Error;
use crate::operation::{Completion, Outcome};
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::token::Tag;

/// Running totals of one worker. Only that worker writes them, so an addition is a plain load and
/// store; anybody may read.
#[derive(Debug, Default)]
pub(crate) struct Figures {
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
    /// In the shared layout one worker opens a socket and another closes it: only the difference
    /// of the sums means something.
    opened: u64,
    closed: u64,
}

impl Figures {
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
    pub(crate) fn of<'a>(workers: impl Iterator<Item = &'a Figures> + Clone) -> Self {
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

    pub(crate) fn sockets(&self) -> usize {
        usize::try_from(self.opened - self.closed).expect("no more sockets than memory")
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.submitted - self.completed
    }
}

fn add_one(figure: &AtomicU64) {
    figure.store(figure.load(Ordering::Relaxed) + 1, Ordering::Release);
}

/// What another thread posts to a lane.
#[derive(Debug)]
pub(crate) enum Letter {
    /// Not yet counted.
    Completion(Completion),
    /// What a thread of the disk did for a send.
    #[cfg(target_os = "linux")]
    FileSent(Box<FileSent>),
}

/// Completions in the order in which they came to be, counted as they go in.
#[derive(Debug)]
pub(crate) struct Completions {
    queue: VecDeque<Completion>,
    figures: Arc<Figures>,
}

impl Completions {
    pub(crate) fn new(figures: Arc<Figures>) -> Self {
        Self { queue: VecDeque::new(), figures }
    }

    /// The one terminal completion of an operation.
    pub(crate) fn end(&mut self, tag: Tag, outcome: Outcome) {
        self.put(Completion { tag, more: false, outcome });
    }

    /// A terminal failure.
    pub(crate) fn fail(&mut self, tag: Tag, error: Error) {
        self.end(tag, Outcome::Failed(error));
    }

    /// A completion that may have others after it.
    pub(crate) fn put(&mut self, completion: Completion) {
        if !completion.more {
            self.figures.completed();
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

    /// Hands everything over to another queue.
    pub(crate) fn move_to(&mut self, other: &mut VecDeque<Completion>) {
        other.append(&mut self.queue);
    }

    pub(crate) fn figures(&self) -> &Figures {
        &self.figures
    }
}
