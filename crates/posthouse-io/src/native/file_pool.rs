//! The threads that perform file operations, which block.

use std::time::Duration;

use crate::error::{Error, Failure};
use crate::file_op::FileOp;
use crate::fs;
use crate::native::blocking_pool::{BlockingPool, Length, PoolLimits};
use crate::op::{Completion, Outcome};
use crate::token::Tag;

/// The number of operations that run at a time, each on a thread. A disk performs several at once
/// faster than one after the other, and a slow sync does not delay the others.
const MAX_THREADS: usize = 4;
/// The number of walks that run at a time, less than the threads. A walk of a large directory takes
/// seconds, and reads of other peers must not wait for it.
const MAX_WALKS: usize = 2;
const _: () = assert!(MAX_WALKS < MAX_THREADS);
/// The maximum number of threads while operations hang: a disk that does not answer must not delay
/// the others, as long as at most this many operations wait for it. At most
/// `MAX_THREADS_HUNG - MAX_THREADS + MAX_WALKS` of them are walks; the other threads are for reads
/// and writes.
const MAX_THREADS_HUNG: usize = 64;
/// The time after which operations count as hung if none of them has ended. A slow disk does not
/// take as long.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The submitters bound the number of waiting operations: each holds memory and a place in a
/// transfer already. A bound here could refuse the removal of a part, which would then stay.
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
            max_long: MAX_WALKS,
            stall_timeout: STALL_TIMEOUT,
            max_waiting: MAX_WAITING,
        });
        Self { pool }
    }
}

impl FilePool {
    /// Performs the operation on a thread of the pool, which injects the completion. Returns the
    /// completion at once if there is no thread. An invalid operation panics here, on the
    /// submitter's thread.
    pub(crate) fn start(
        &self,
        tag: Tag,
        op: Box<FileOp>,
        post: impl FnOnce(Completion) + Send + 'static,
    ) -> Option<Completion> {
        fs::check(&op);
        let length = if op.is_walk() { Length::Long } else { Length::Short };
        let task = move || {
            #[cfg(target_os = "linux")]
            crate::sys::block_signals();
            let outcome = match fs::perform(*op) {
                Ok(outcome) => Outcome::File(Box::new(outcome)),
                Err(error) => Outcome::Failed(error),
            };
            post(Completion { tag, more: false, outcome });
        };
        if self.pool.try_spawn(length, task) {
            return None;
        }
        let outcome = Outcome::Failed(Error::new(Failure::NoBuffers));
        Some(Completion { tag, more: false, outcome })
    }

    /// Runs `task` on a thread of the pool. Returns false if the pool will not run it.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub(crate) fn try_spawn(&self, task: impl FnOnce() + Send + 'static) -> bool {
        self.pool.try_spawn(Length::Short, task)
    }
}
