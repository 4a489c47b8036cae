//! The work queue of a lane that several workers take from: completions, injected items, and the
//! sockets to poll.

use std::collections::VecDeque;

use crate::native::completion_queue::{CompletionQueue, WorkerCounters};
use crate::op::Completion;
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// Ends the wait of one worker, from any thread.
pub(crate) trait Wake {
    /// Ends one worker's wait.
    fn wake(&self);
}

/// The queue and the waker of those who wait for it. No other lock is taken while its own is held.
#[derive(Debug)]
pub(crate) struct WorkQueue<W, T = Completion> {
    waker: W,
    state: Mutex<State<T>>,
    counters: Mutex<Vec<Arc<WorkerCounters>>>,
}

#[derive(Debug)]
struct State<T> {
    completions: VecDeque<Completion>,
    /// From other threads.
    injected: VecDeque<T>,
    /// Keys of the sockets to poll, each at most once.
    ready: VecDeque<u64>,
    /// Workers that wait, or are about to: they have seen the queue empty.
    waiters: usize,
    /// True exactly when a wake-up has come and no step has begun since.
    notified: bool,
    /// True exactly when a worker has been woken (or is about to be) and has not come back yet. It
    /// looks at the queue next.
    wake_pending: bool,
}

/// A piece of work.
pub(crate) enum WorkItem<T> {
    Completion(Completion),
    /// From another thread.
    Injected(T),
    Poll(u64),
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self {
            completions: VecDeque::new(),
            injected: VecDeque::new(),
            ready: VecDeque::new(),
            waiters: 0,
            notified: false,
            wake_pending: false,
        }
    }
}

impl<T> State<T> {
    fn len(&self) -> usize {
        self.completions.len() + self.injected.len() + self.ready.len()
    }

    /// Returns whether the caller must wake a worker for the work that is here: one waits, and none
    /// has been woken yet.
    fn must_wake(&mut self) -> bool {
        let must_wake = self.waiters > 0 && !self.wake_pending;
        self.wake_pending |= must_wake;
        must_wake
    }
}

impl<W: Wake, T> WorkQueue<W, T> {
    pub(crate) fn new(waker: W) -> Self {
        Self { waker, state: Mutex::default(), counters: Mutex::default() }
    }

    /// Makes a worker run a step that begins after this call.
    pub(crate) fn wake(&self) {
        self.change(|state| {
            state.notified = true;
            state.must_wake()
        });
    }

    /// From another thread.
    fn post(&self, injected: T) {
        self.change(|state| {
            state.injected.push_back(injected);
            state.must_wake()
        });
    }

    /// The next piece of work.
    pub(crate) fn take(&self) -> Option<WorkItem<T>> {
        let mut state = lock(&self.state);
        (state.completions.pop_front().map(WorkItem::Completion))
            .or_else(|| state.injected.pop_front().map(WorkItem::Injected))
            .or_else(|| state.ready.pop_front().map(WorkItem::Poll))
    }

    /// Adds completions, and the key of a socket that is ready. A single item the caller, a worker,
    /// takes itself when it comes back for more (a wake-up would add a system call to each send
    /// that completes at once); for more than one it wakes a waiting worker.
    pub(crate) fn add(&self, done: &mut CompletionQueue, ready: Option<u64>) {
        if done.is_empty() && ready.is_none() {
            return;
        }
        self.change(|state| {
            done.move_to(&mut state.completions);
            state.ready.extend(ready);
            state.len() > 1 && state.must_wake()
        });
    }

    /// Registers a worker that is about to wait. Returns true if there is nothing to do and it may
    /// wait: work is added before this check, or finds the worker among the waiters.
    pub(crate) fn begin_wait(&self) -> bool {
        let mut state = lock(&self.state);
        let waiting = state.len() == 0 && !state.notified;
        state.waiters += usize::from(waiting);
        waiting
    }

    /// Ends a worker's wait. `waiting`: it was registered as a waiter. `woken`: the waker ended the
    /// wait. `ready`: keys of the sockets that are ready now. A single item this worker takes
    /// itself; for more it wakes another, which does the same.
    pub(crate) fn end_wait(&self, waiting: bool, woken: bool, ready: &[u64]) {
        self.change(|state| {
            state.waiters -= usize::from(waiting);
            state.wake_pending &= !woken;
            state.notified = false;
            state.ready.extend(ready);
            state.len() > 1 && state.must_wake()
        });
    }

    /// Ends a worker, be it by a panic: it may have been woken for work that it did not take.
    pub(crate) fn leave(&self) {
        self.change(|state| state.len() > 0 && state.must_wake());
    }

    /// The counters of the workers.
    pub(crate) fn worker_counters(&self) -> MutexGuard<'_, Vec<Arc<WorkerCounters>>> {
        lock(&self.counters)
    }

    /// Changes the queue, and wakes a worker if `change` returns true.
    fn change(&self, change: impl FnOnce(&mut State<T>) -> bool) {
        let call = change(&mut lock(&self.state));
        if call {
            self.waker.wake();
        }
    }
}

/// Returns a function that injects a completion from another thread; it does nothing once the port
/// is gone.
pub(crate) fn completion_injector<C, W, T>(
    core: &Arc<C>,
    queue: impl Fn(&C) -> &WorkQueue<W, T> + Send + 'static,
) -> impl FnOnce(Completion) + Send + 'static
where
    C: Send + Sync + 'static,
    W: Wake + 'static,
    T: From<Completion> + Send + 'static,
{
    let post = injector(core, queue);
    move |completion| post(completion.into())
}

/// Returns a function that injects from another thread; it does nothing once the port is gone.
pub(crate) fn injector<C, W, T>(
    core: &Arc<C>,
    queue: impl Fn(&C) -> &WorkQueue<W, T> + Send + 'static,
) -> impl FnOnce(T) + Send + 'static
where
    C: Send + Sync + 'static,
    W: Wake + 'static,
    T: Send + 'static,
{
    let core = Arc::downgrade(core);
    move |injected| {
        if let Some(core) = core.upgrade() {
            queue(&core).post(injected);
        }
    }
}
