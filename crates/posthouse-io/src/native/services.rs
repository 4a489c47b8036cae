//! The services of a port that its lanes use: time, buffers, look-ups, files, threads.

use std::time::{Duration, Instant};

use crate::buffer::BufferPool;
use crate::native::file_pool::FilePool;
use crate::native::resolver::Resolver;
use crate::native::threads::Threads;
use crate::sync::Arc;

/// The part of a port that its lanes share. It knows no lane.
#[derive(Debug)]
pub(crate) struct Services {
    started: Instant,
    pub(crate) buffers: Arc<BufferPool>,
    pub(crate) resolver: Resolver,
    pub(crate) files: FilePool,
    pub(super) threads: Threads,
}

impl Services {
    pub(super) fn new(buffers: Arc<BufferPool>) -> Self {
        Self {
            started: Instant::now(),
            buffers,
            resolver: Resolver::default(),
            files: FilePool::default(),
            threads: Threads::default(),
        }
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the remaining time of a sleep that a step requested at the time `then`.
    pub(crate) fn left_of(&self, sleep: Option<Duration>, then: Duration) -> Option<Duration> {
        let until = then.checked_add(sleep?)?;
        Some(until.saturating_sub(self.now()))
    }

    /// Detaches the caller's thread: the thread ends when the system lets it, and nobody waits for
    /// that.
    #[cfg(target_os = "linux")]
    pub(crate) fn detach_current_thread(&self) {
        self.threads.detach(std::thread::current().id());
    }
}
