//! The threads that perform file operations, which block.

use std::time::Duration;

use crate::error::{Error, Failure};
use crate::file_op::FileOp;
use crate::fs;
use crate::native::blocking_pool::{BlockingPool, PoolLimits};
use crate::op::{Completion, Outcome};
use crate::token::Tag;

/// Operations that run at a time; each has a thread. A disk does several at once faster than one
/// after the other, and one that waits for a slow sync does not hold up the others.
const MAX_THREADS: usize = 4;
/// So many where they hang: one disk that does not answer must not hold up the others, as long as
/// no more than this is asked of it.
const MAX_THREADS_HUNG: usize = 64;
/// Operations hang when none of them has ended for so long: a slow disk does not take it.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How many wait is for whoever submits them to bound: each holds memory and a place in a transfer
/// already, and a part that could not be removed for want of room here would stay.
const MAX_WAITING: usize = usize::MAX;

/// The threads that perform file operations.
#[derive(Debug)]
pub(crate) struct FilePool {
    pool: BlockingPool,
}

impl Default for FilePool {
    fn default() -> Self {
        let pool = BlockingPool::new(PoolLimits {
            name: "posthouse-disk",
            max_threads: MAX_THREADS,
            max_threads_hung: MAX_THREADS_HUNG,
            stall_timeout: STALL_TIMEOUT,
            max_waiting: MAX_WAITING,
        });
        Self { pool }
    }
}

impl FilePool {
    /// Performs the operation on a thread of the pool, which injects the completion; returns it at
    /// once if there is no thread. An invalid operation panics here, on the submitter's thread.
    pub(crate) fn start(
        &self,
        tag: Tag,
        op: Box<FileOp>,
        post: impl FnOnce(Completion) + Send + 'static,
    ) -> Option<Completion> {
        fs::check(&op);
        let task = move || {
            #[cfg(target_os = "linux")]
            crate::sys::block_signals();
            let outcome = match fs::perform(*op) {
                Ok(outcome) => Outcome::File(Box::new(outcome)),
                Err(error) => Outcome::Failed(error),
            };
            post(Completion { tag, more: false, outcome });
        };
        if self.pool.try_spawn(task) {
            return None;
        }
        let outcome = Outcome::Failed(Error::new(Failure::NoBuffers));
        Some(Completion { tag, more: false, outcome })
    }

    /// Runs `task` on a thread of the pool. Returns false if it will not run.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub(crate) fn try_spawn(&self, task: impl FnOnce() + Send + 'static) -> bool {
        self.pool.try_spawn(task)
    }
}
