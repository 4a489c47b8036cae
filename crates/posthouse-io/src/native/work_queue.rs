//! The work queue of a lane with several workers: completions, injected items, and the sockets to
//! poll.

use std::collections::VecDeque;

#[cfg(target_os = "linux")]
use crate::native::completion_queue::Totals;
use crate::native::completion_queue::{CompletionQueue, WorkerCounters};
use crate::native::wake::{Wait, WaitEnd, Wake, WakeState};
use crate::op::Completion;
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// The queue, and the waker for the workers that wait on it. A thread that holds its lock takes no
/// other lock.
#[derive(Debug)]
pub(crate) struct WorkQueue<W, T = Completion> {
    waker: W,
    state: Mutex<State<T>>,
    counters: Mutex<Vec<Arc<WorkerCounters>>>,
}

#[derive(Debug)]
struct State<T> {
    completions: VecDeque<Completion>,
    /// The items from other threads.
    injected: VecDeque<T>,
    /// The keys of the sockets to poll, each at most once.
    ready: VecDeque<u64>,
    wake: WakeState,
}

/// One item of work.
pub(crate) enum WorkItem<T> {
    Completion(Completion),
    /// An item from another thread.
    Injected(T),
    Poll(u64),
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self {
            completions: VecDeque::new(),
            injected: VecDeque::new(),
            ready: VecDeque::new(),
            wake: WakeState::RUNNING,
        }
    }
}

impl<T> State<T> {
    fn len(&self) -> usize {
        self.completions.len() + self.injected.len() + self.ready.len()
    }
}

impl<W: Wake, T> WorkQueue<W, T> {
    pub(crate) fn new(waker: W) -> Self {
        Self { waker, state: Mutex::default(), counters: Mutex::default() }
    }

    /// Makes a worker run a step that begins after this call.
    pub(crate) fn wake(&self) {
        self.change(|state| state.wake.on_wake());
    }

    /// Adds an item from another thread.
    fn post(&self, injected: T) {
        self.change(|state| {
            state.injected.push_back(injected);
            state.wake.on_work()
        });
    }

    /// Takes the next item of work.
    pub(crate) fn take(&self) -> Option<WorkItem<T>> {
        let mut state = lock(&self.state);
        (state.completions.pop_front().map(WorkItem::Completion))
            .or_else(|| state.injected.pop_front().map(WorkItem::Injected))
            .or_else(|| state.ready.pop_front().map(WorkItem::Poll))
    }

    /// Adds completions, and the key of a socket that is ready. The caller is a worker, and takes a
    /// single item itself when it asks for more work: a wake-up would add a system call to each
    /// send that completes at once. If there is more than one item, `add` wakes a waiting worker.
    pub(crate) fn add(&self, done: &mut CompletionQueue, ready: Option<u64>) {
        if done.is_empty() && ready.is_none() {
            return;
        }
        self.change(|state| {
            done.move_to(&mut state.completions);
            state.ready.extend(ready);
            state.len() > 1 && state.wake.on_work()
        });
    }

    /// Registers a worker that is about to wait, unless there is work. Work is either added before
    /// this check, or its adder finds the worker registered.
    pub(crate) fn begin_wait(&self) -> Wait {
        let mut state = lock(&self.state);
        if state.len() == 0 { state.wake.begin_wait() } else { Wait::Look }
    }

    /// Ends a worker's wait and adds the keys of the sockets that are ready now. This worker takes
    /// a single item itself. If there is more than one, it wakes another worker, which does the
    /// same.
    pub(crate) fn end_wait(&self, wait: Wait, end: WaitEnd, ready: &[u64]) {
        self.change(|state| {
            state.wake.end_wait(wait, end);
            state.ready.extend(ready);
            state.len() > 1 && state.wake.on_work()
        });
    }

    /// Removes a worker that ends, even by a panic. It may have been woken for work that it did not
    /// take, so another worker is woken.
    pub(crate) fn leave(&self) {
        self.change(|state| state.len() > 0 && state.wake.on_work());
    }

    /// Returns the counters of the workers.
    pub(crate) fn worker_counters(&self) -> MutexGuard<'_, Vec<Arc<WorkerCounters>>> {
        lock(&self.counters)
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn totals(&self) -> Totals {
        Totals::of(self.worker_counters().iter().map(|counters| &**counters))
    }

    /// Changes the queue and then, if `change` returns true, wakes a worker.
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
