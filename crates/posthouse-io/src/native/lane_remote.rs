//! The remote side of a pinned lane: other threads inject completions through it and wake the
//! lane's worker.

use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::native::completion_queue::WorkerCounters;
use crate::native::wake::{AtomicWakeState, Wait, Wake};
use crate::op::Completion;
use crate::sync::{Arc, Mutex, lock};

/// The part of a lane that other threads use to inject `T`, which is a completion on most backends.
#[derive(Debug)]
pub(crate) struct LaneRemote<T = Completion> {
    state: AtomicWakeState,
    waker: Waker,
    /// The items from other threads, in the order of their injection.
    injected: Mutex<Vec<T>>,
    pub(crate) counters: Arc<WorkerCounters>,
}

impl<T: Send + 'static> LaneRemote<T> {
    pub(crate) fn new(waker: Waker) -> Self {
        let state = AtomicWakeState::new();
        Self { state, waker, injected: Mutex::default(), counters: Arc::default() }
    }

    /// Makes the worker run a step that begins after this call.
    pub(crate) fn wake(&self) {
        if self.state.on_wake() {
            self.waker.wake();
        }
    }

    fn post(&self, injected: T) {
        lock(&self.injected).push(injected);
        self.wake();
    }

    /// Returns a function that injects a completion from another thread; it does nothing once the
    /// lane is gone.
    pub(crate) fn completion_injector(
        remote: &Arc<Self>,
    ) -> impl FnOnce(Completion) + Send + 'static
    where
        T: From<Completion>,
    {
        let post = Self::injector(remote);
        move |completion| post(completion.into())
    }

    /// Returns a function that injects from another thread; it does nothing once the lane is gone.
    pub(crate) fn injector(remote: &Arc<Self>) -> impl FnOnce(T) + Send + 'static {
        let remote = Arc::downgrade(remote);
        move |injected| {
            if let Some(remote) = remote.upgrade() {
                remote.post(injected);
            }
        }
    }

    /// Registers that the worker, which has nothing to do, is about to wait.
    pub(crate) fn begin_wait(&self) -> Wait {
        self.state.begin_wait()
    }

    /// Ends the worker's wait. Returns whether a wake-up has come. Code after this call sees
    /// everything that the waking thread did before it called `wake`.
    pub(crate) fn end_wait(&self) -> bool {
        self.state.end_wait()
    }

    /// Removes all items that other threads have injected and calls `each` with them.
    pub(crate) fn drain_injected(&self, mut each: impl FnMut(T)) {
        lock(&self.injected).drain(..).for_each(&mut each);
    }

    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }
}

/// Ends a wait, from any thread, through an eventfd that belongs to the wait.
#[derive(Debug)]
pub(crate) struct Waker {
    eventfd: OwnedFd,
}

impl Waker {
    pub(crate) fn new() -> Result<Self, Errno> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { eventfd })
    }

    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.eventfd
    }
}

impl Wake for Waker {
    /// Writes to the eventfd. Each write is an edge, so nobody has to read the counter back.
    /// Filling the counter would take 2^64 writes, so the write cannot fail.
    fn wake(&self) {
        let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }
}
