//! A pool of threads for tasks that block. Each thread starts when it is first needed.
//!
//! A task can hang (a file server is gone). If all threads hung, no other task would ever run. So
//! while tasks wait, a watcher checks whether any task ends. If none does, the watcher starts one
//! more thread, up to a bound.

use std::collections::VecDeque;
use std::fmt;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use crate::sync::{Arc, Condvar, Mutex, lock};

/// A pool of threads that runs tasks in the order of their submission. Dropping the pool ends its
/// threads, each after the task that it runs (no system call interrupts a task). One of the threads
/// drops the tasks that have not begun, because dropping a task may block, too.
#[derive(Debug)]
pub(crate) struct BlockingPool {
    shared: Arc<Shared>,
}

/// The bounds of a pool.
#[derive(Debug)]
pub(crate) struct PoolLimits {
    /// The name of the pool's threads.
    pub(crate) name: &'static str,
    /// The maximum number of tasks that run at a time.
    pub(crate) max_threads: usize,
    /// The maximum number of tasks that run at a time while tasks hang.
    pub(crate) max_threads_hung: usize,
    /// The time after which running tasks count as hung if none of them has ended.
    pub(crate) stall_timeout: Duration,
    /// The maximum number of tasks that wait for a thread.
    pub(crate) max_waiting: usize,
}

#[derive(Debug)]
struct Shared {
    limits: PoolLimits,
    state: Mutex<State>,
    changed: Condvar,
    /// Notified when the pool is dropped, for the watcher.
    gone: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Task>,
    threads: usize,
    /// The number of threads that wait for a task.
    idle: usize,
    /// The number of tasks that have ended.
    ended: u64,
    /// True exactly while a watcher checks whether tasks end.
    watched: bool,
    closed: bool,
}

type Task = Box<dyn FnOnce() + Send>;

impl BlockingPool {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        let (state, changed, gone) = Default::default();
        Self { shared: Arc::new(Shared { limits, state, changed, gone }) }
    }

    /// Runs `task` on a thread. Returns false if it will not run: too many tasks wait, or no thread
    /// can be started.
    #[must_use]
    pub(crate) fn try_spawn(&self, task: impl FnOnce() + Send + 'static) -> bool {
        let shared = &self.shared;
        let mut state = lock(&shared.state);
        if state.waiting.len() >= shared.limits.max_waiting {
            return false;
        }
        if state.idle <= state.waiting.len() && state.threads < shared.limits.max_threads {
            shared.start_thread(&mut state);
        }
        if state.threads == 0 {
            return false;
        }
        state.waiting.push_back(Box::new(task));
        if state.idle < state.waiting.len() && !state.watched {
            shared.start_watching(&mut state);
        }
        drop(state);
        shared.changed.notify_one();
        true
    }
}

impl Drop for BlockingPool {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.closed = true;
        drop(state);
        self.shared.changed.notify_all();
        self.shared.gone.notify_all();
    }
}

impl Shared {
    fn start_thread(self: &Arc<Self>, state: &mut State) {
        let shared = self.clone();
        let name = format!("{}-{}", self.limits.name, state.threads);
        match thread::Builder::new().name(name).spawn(move || shared.run()) {
            Ok(_) => state.threads += 1,
            Err(error) => tracing::warn!("cannot start a thread of {}: {error}", self.limits.name),
        }
    }

    fn run(&self) {
        while let Some(task) = self.next() {
            task();
            lock(&self.state).ended += 1;
        }
    }

    /// Returns the next task, or `None` if the pool is being dropped or has enough threads without
    /// this one.
    fn next(&self) -> Option<Task> {
        let mut state = lock(&self.state);
        let spare = state.threads > self.limits.max_threads && state.idle > 0;
        if !spare {
            state.idle += 1;
            while state.waiting.is_empty() && !state.closed {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.idle -= 1;
            if !state.closed {
                return state.waiting.pop_front();
            }
        }
        state.threads -= 1;
        let forgotten =
            if state.closed { std::mem::take(&mut state.waiting) } else { VecDeque::new() };
        drop(state);
        drop(forgotten);
        None
    }

    fn start_watching(self: &Arc<Self>, state: &mut State) {
        let shared = self.clone();
        let name = format!("watch-{}", self.limits.name);
        // A failure changes nothing: the next task tries again.
        state.watched = thread::Builder::new().name(name).spawn(move || shared.watch()).is_ok();
    }

    /// Starts one more thread whenever no task has ended for a time, as long as tasks wait.
    fn watch(self: &Arc<Self>) {
        let PoolLimits { name, max_threads_hung, stall_timeout, .. } = self.limits;
        let mut state = lock(&self.state);
        while !state.closed && !state.waiting.is_empty() {
            let ended = state.ended;
            let waited = self.gone.wait_timeout_while(state, stall_timeout, |state| !state.closed);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let hangs = state.ended == ended && !state.waiting.is_empty() && !state.closed;
            if hangs && state.threads < max_threads_hung {
                let threads = state.threads;
                tracing::warn!("all {threads} threads of {name} are blocked: starting one more");
                self.start_thread(&mut state);
            }
        }
        state.watched = false;
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({} threads, {} waiting)", self.threads, self.waiting.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    const MAX_THREADS: usize = 2;
    const MAX_WAITING: usize = 10;

    /// Returns a pool whose threads are all occupied until the other end of the channel is dropped.
    fn occupied() -> (BlockingPool, Sender<()>) {
        occupied_with(Duration::MAX)
    }

    fn occupied_with(stall_timeout: Duration) -> (BlockingPool, Sender<()>) {
        let pool = BlockingPool::new(PoolLimits {
            name: "pool",
            max_threads: MAX_THREADS,
            max_threads_hung: MAX_THREADS + 2,
            stall_timeout,
            max_waiting: MAX_WAITING,
        });
        let (release, released) = channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let (tell, told) = channel();
        for _ in 0..MAX_THREADS {
            let tell = tell.clone();
            let released = released.clone();
            assert!(pool.try_spawn(move || {
                let _ = tell.send(());
                let _ = lock(&released).recv();
            }));
            assert_eq!(told.recv(), Ok(()), "a thread takes it");
        }
        (pool, release)
    }

    #[test]
    fn work_beyond_the_bound_is_not_taken_on_and_the_rest_is_done() {
        let (pool, release) = occupied();
        let (post, posted) = channel();
        for n in 0..MAX_WAITING {
            let post = post.clone();
            assert!(
                pool.try_spawn(move || {
                    let _ = post.send(n);
                }),
                "there is room for {n}"
            );
        }
        assert!(!pool.try_spawn(|| panic!("not done")));
        drop((release, post));
        assert_eq!(posted.iter().count(), MAX_WAITING, "each is done once");
    }

    #[test]
    fn dropping_the_crew_ends_its_threads_and_forgets_what_waits() {
        let (pool, release) = occupied();
        let (post, posted) = channel::<()>();
        assert!(pool.try_spawn(move || {
            let _ = post.send(());
        }));
        let shared = Arc::downgrade(&pool.shared);
        drop(pool);
        drop(release);
        assert!(posted.recv().is_err(), "what waits is dropped, not done");
        while shared.strong_count() > 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn work_behind_work_that_hangs_is_done_and_the_threads_go_when_they_are_not_needed() {
        let (pool, release) = occupied_with(Duration::from_millis(1));
        let (post, posted) = channel();
        for n in 0..MAX_WAITING {
            let post = post.clone();
            assert!(pool.try_spawn(move || {
                let _ = post.send(n);
            }));
        }
        drop(post);
        assert_eq!(posted.iter().count(), MAX_WAITING, "though all the others hang");
        let threads = || lock(&pool.shared.state).threads;
        assert!((MAX_THREADS + 1..=MAX_THREADS + 2).contains(&threads()), "{}", threads());
        drop(release);
        while threads() > MAX_THREADS {
            thread::yield_now();
        }
    }

    #[test]
    fn however_much_hangs_there_are_no_more_threads_than_there_may_be() {
        let (pool, release) = occupied_with(Duration::from_millis(1));
        let released = Arc::new(Mutex::new(()));
        let held = lock(&released);
        let (tell, told) = channel();
        for _ in 0..MAX_WAITING {
            let tell = tell.clone();
            let released = released.clone();
            assert!(pool.try_spawn(move || {
                let _ = tell.send(());
                drop(lock(&released));
            }));
        }
        assert_eq!((told.recv(), told.recv()), (Ok(()), Ok(())), "a third thread and a fourth");
        assert_eq!(lock(&pool.shared.state).threads, MAX_THREADS + 2);
        drop((held, release, tell));
        assert_eq!(told.iter().count(), MAX_WAITING - 2, "the rest when they go on");
    }
}
