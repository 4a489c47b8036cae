//! A pool of threads for tasks that block. Each thread starts when it is first needed.
//!
//! A task can hang (a file server is gone). If all threads hung, no other task would ever run. So
//! while tasks wait, a watcher checks whether any task ends. If none does, the watcher starts one
//! more thread, up to a bound.
//!
//! Some tasks are long, and get longer with what others store. Only a few of them run at a time, so
//! that the short ones always find a thread. If tasks wait because none of the long ones ends, the
//! watcher permits one more of them, on one more thread. The last threads are never for long tasks.

use std::collections::VecDeque;
use std::fmt;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use crate::sync::{Arc, Condvar, Mutex, lock};
#[cfg(test)]
use crate::sync::{AtomicBool, Ordering};

/// A pool of threads. It runs the short tasks in the order of their submission, and so the long
/// ones. Dropping the pool ends its threads, each after the task that it runs (no system call
/// interrupts a task). One of the threads drops the tasks that have not begun, because dropping a
/// task may block, too.
#[derive(Debug)]
pub(crate) struct BlockingPool {
    shared: Arc<Shared>,
}

/// The bounds of a pool.
#[derive(Debug)]
pub(crate) struct PoolLimits {
    /// The name of the pool's threads.
    pub(crate) name: &'static str,
    /// The maximum number of tasks that run at a time, without the long ones that hang.
    pub(crate) max_threads: usize,
    /// The maximum number of tasks that run at a time while tasks hang. Long tasks that count as
    /// hung leave `max_threads` of these places to the others.
    pub(crate) max_threads_hung: usize,
    /// The maximum number of long tasks that run at a time, without those that hang.
    pub(crate) max_long: usize,
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
    /// True exactly while the system refuses to start threads of the pool.
    #[cfg(test)]
    no_threads: AtomicBool,
}

#[derive(Default)]
struct State {
    /// The short tasks that wait.
    waiting: VecDeque<Task>,
    long: Long,
    threads: usize,
    /// The number of threads that wait for a task.
    idle: usize,
    /// The number of tasks that have ended.
    ended: u64,
    /// True exactly while a watcher checks whether tasks end.
    watched: bool,
    closed: bool,
}

/// The long tasks.
#[derive(Default)]
struct Long {
    waiting: VecDeque<Task>,
    running: usize,
    /// The number of running tasks that count as hung; as many more may run.
    hung: usize,
    /// The number of tasks that have ended.
    ended: u64,
    /// True exactly when a long task goes before the next short one.
    has_turn: bool,
}

type Task = Box<dyn FnOnce() + Send>;

/// The expected duration of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Short,
    Long,
}

impl BlockingPool {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        let shared = Shared {
            limits,
            state: Mutex::default(),
            changed: Condvar::default(),
            gone: Condvar::default(),
            #[cfg(test)]
            no_threads: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Runs `task` on a thread. Returns false if it will not run: too many tasks wait, or no thread
    /// can be started.
    #[must_use]
    pub(crate) fn try_spawn(&self, length: Length, task: impl FnOnce() + Send + 'static) -> bool {
        let shared = &self.shared;
        let limits = &shared.limits;
        let mut state = lock(&shared.state);
        if state.waiting.len() + state.long.waiting.len() >= limits.max_waiting {
            return false;
        }
        state.queue(length).push_back(Box::new(task));
        if state.idle < state.runnable(limits) && state.threads < state.max_threads(limits) {
            shared.start_thread(&mut state);
        }
        if state.threads == 0 {
            let task = state.queue(length).pop_back();
            drop(state);
            drop(task);
            return false;
        }
        let is_held_up = state.idle < state.runnable(limits)
            || state.long.waiting.len() > state.long.vacant(limits);
        if is_held_up && !state.watched {
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
    /// Starts a thread. Returns false if the system refuses it.
    fn start_thread(self: &Arc<Self>, state: &mut State) -> bool {
        #[cfg(test)]
        if self.no_threads.load(Ordering::Relaxed) {
            return false;
        }
        let shared = self.clone();
        let name = format!("{}-{}", self.limits.name, state.threads);
        let started = thread::Builder::new().name(name).spawn(move || shared.run());
        match &started {
            Ok(_) => state.threads += 1,
            Err(error) => tracing::warn!("cannot start a thread of {}: {error}", self.limits.name),
        }
        started.is_ok()
    }

    fn run(&self) {
        while let Some((length, task)) = self.next() {
            task();
            let mut state = lock(&self.state);
            state.end(length, &self.limits);
            let next_runs = state.runnable(&self.limits) > 0;
            drop(state);
            if next_runs {
                // This thread may be one too many, and end.
                self.changed.notify_one();
            }
        }
    }

    /// Returns the next task, or `None` if the pool is being dropped or has enough threads without
    /// this one.
    fn next(&self) -> Option<(Length, Task)> {
        let mut state = lock(&self.state);
        let spare = state.threads > state.max_threads(&self.limits) && state.idle > 0;
        if !spare {
            state.idle += 1;
            while state.runnable(&self.limits) == 0 && !state.closed {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.idle -= 1;
            if !state.closed {
                return state.take(&self.limits);
            }
        }
        state.threads -= 1;
        let forgotten = state
            .closed
            .then(|| (std::mem::take(&mut state.waiting), std::mem::take(&mut state.long.waiting)));
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

    /// Starts one more thread whenever no task, or no long one, has ended for a time, as long as
    /// such tasks wait.
    fn watch(self: &Arc<Self>) {
        let limits = &self.limits;
        let PoolLimits { name, max_threads_hung, stall_timeout, .. } = *limits;
        let mut state = lock(&self.state);
        while !(state.closed || state.waiting.is_empty() && state.long.waiting.is_empty()) {
            let ended = state.ended;
            let long_ended = state.long.ended;
            let waited = self.gone.wait_timeout_while(state, stall_timeout, |state| !state.closed);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.closed || state.threads >= max_threads_hung {
                continue;
            }
            let threads = state.threads;
            if state.long.ended == long_ended && state.long.needs_thread(limits) {
                let running = state.long.running;
                tracing::warn!("{running} long tasks of {name} are blocked: starting one more");
                if self.start_thread(&mut state) {
                    state.long.hung += 1;
                    self.changed.notify_one();
                }
            } else if state.ended == ended && state.runnable(limits) > 0 {
                tracing::warn!("all {threads} threads of {name} are blocked: starting one more");
                self.start_thread(&mut state);
            }
        }
        state.watched = false;
    }
}

impl State {
    fn queue(&mut self, length: Length) -> &mut VecDeque<Task> {
        match length {
            Length::Short => &mut self.waiting,
            Length::Long => &mut self.long.waiting,
        }
    }

    /// Returns the number of threads that start without a wait: each long task that hangs has one
    /// more thread, so that the short tasks keep theirs.
    fn max_threads(&self, limits: &PoolLimits) -> usize {
        limits.max_threads + self.long.hung
    }

    /// Returns the number of tasks that only wait for a thread.
    fn runnable(&self, limits: &PoolLimits) -> usize {
        self.waiting.len() + self.long.waiting.len().min(self.long.vacant(limits))
    }

    /// Takes the next task that may run: long ones and short ones in turn.
    fn take(&mut self, limits: &PoolLimits) -> Option<(Length, Task)> {
        let may_be_long = self.long.vacant(limits) > 0 && !self.long.waiting.is_empty();
        let length = match may_be_long && (self.long.has_turn || self.waiting.is_empty()) {
            true => Length::Long,
            false => Length::Short,
        };
        self.long.has_turn = length == Length::Short;
        self.long.running += usize::from(length == Length::Long);
        self.queue(length).pop_front().map(|task| (length, task))
    }

    fn end(&mut self, length: Length, limits: &PoolLimits) {
        self.ended += 1;
        if length == Length::Long {
            let long = &mut self.long;
            long.ended += 1;
            long.running -= 1;
            if long.hung > 0 && long.running + 1 < limits.max_long + long.hung {
                long.hung -= 1;
            }
        }
    }
}

impl Long {
    /// Returns true if one more task may count as hung, and a waiting task would then run.
    fn needs_thread(&self, limits: &PoolLimits) -> bool {
        let may_hang = limits.max_threads + self.hung < limits.max_threads_hung;
        may_hang && !self.waiting.is_empty() && self.vacant(limits) == 0
    }

    /// Returns the number of further long tasks that may run.
    fn vacant(&self, limits: &PoolLimits) -> usize {
        (limits.max_long + self.hung).saturating_sub(self.running)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.waiting.len() + self.long.waiting.len();
        write!(f, "State({} threads, {waiting} waiting)", self.threads)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    const MAX_THREADS: usize = 2;
    const MAX_LONG: usize = 1;
    const MAX_WAITING: usize = 10;

    /// Returns a pool whose threads are all occupied until the other end of the channel is dropped.
    fn occupied() -> (BlockingPool, Sender<()>) {
        occupied_with(Duration::MAX)
    }

    fn pool_with(stall_timeout: Duration) -> BlockingPool {
        BlockingPool::new(PoolLimits {
            name: "pool",
            max_threads: MAX_THREADS,
            max_threads_hung: MAX_THREADS + 2,
            max_long: MAX_LONG,
            stall_timeout,
            max_waiting: MAX_WAITING,
        })
    }

    fn occupied_with(stall_timeout: Duration) -> (BlockingPool, Sender<()>) {
        let pool = pool_with(stall_timeout);
        let (release, released) = channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let (tell, told) = channel();
        for _ in 0..MAX_THREADS {
            let tell = tell.clone();
            let released = released.clone();
            assert!(pool.try_spawn(Length::Short, move || {
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
                pool.try_spawn(Length::Short, move || {
                    let _ = post.send(n);
                }),
                "there is room for {n}"
            );
        }
        assert!(!pool.try_spawn(Length::Short, || panic!("not done")));
        drop((release, post));
        assert_eq!(posted.iter().count(), MAX_WAITING, "each is done once");
    }

    #[test]
    fn dropping_the_pool_ends_its_threads_and_forgets_what_waits() {
        let (pool, release) = occupied();
        let (post, posted) = channel::<()>();
        assert!(pool.try_spawn(Length::Short, move || {
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
            assert!(pool.try_spawn(Length::Short, move || {
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
            assert!(pool.try_spawn(Length::Short, move || {
                let _ = tell.send(());
                drop(lock(&released));
            }));
        }
        assert_eq!((told.recv(), told.recv()), (Ok(()), Ok(())), "a third thread and a fourth");
        assert_eq!(lock(&pool.shared.state).threads, MAX_THREADS + 2);
        drop((held, release, tell));
        assert_eq!(told.iter().count(), MAX_WAITING - 2, "the rest when they go on");
    }

    #[test]
    fn long_tasks_leave_threads_for_the_short_ones() {
        let pool = pool_with(Duration::MAX);
        let (release, released) = channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let (tell, told) = channel();
        for n in 0..5 {
            let tell = tell.clone();
            let released = released.clone();
            assert!(pool.try_spawn(Length::Long, move || {
                let _ = tell.send(n);
                let _ = lock(&released).recv();
                let _ = tell.send(n + 100);
            }));
        }
        assert_eq!(told.recv(), Ok(0));
        for n in 10..15 {
            let tell = tell.clone();
            assert!(pool.try_spawn(Length::Short, move || {
                let _ = tell.send(n);
            }));
        }
        drop(tell);
        let short: Vec<_> = told.iter().take(5).collect();
        assert_eq!(short, [10, 11, 12, 13, 14], "while a long task runs and others wait");
        drop(release);
        let rest: Vec<_> = told.iter().collect();
        assert_eq!(rest, [100, 1, 101, 2, 102, 3, 103, 4, 104], "one at a time, each once");
    }

    #[test]
    fn long_tasks_that_hang_take_no_thread_from_the_short_ones() {
        let pool = pool_with(Duration::from_millis(200));
        let (release, released) = channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let (tell, told) = channel();
        for n in 0..MAX_THREADS {
            let tell = tell.clone();
            let released = released.clone();
            assert!(pool.try_spawn(Length::Long, move || {
                let _ = tell.send(n);
                let _ = lock(&released).recv();
            }));
            assert_eq!(told.recv(), Ok(n), "the second one when the first one counts as hung");
        }
        let (end, ended) = channel();
        assert!(pool.try_spawn(Length::Short, move || {
            let _ = end.send(());
        }));
        assert_eq!(lock(&pool.shared.state).threads, MAX_THREADS + 1, "started at once");
        assert_eq!(ended.recv(), Ok(()));
        drop(release);
        while lock(&pool.shared.state).long.running > 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn however_many_long_tasks_hang_the_short_ones_run() {
        let pool = pool_with(Duration::from_millis(1));
        let released = Arc::new(Mutex::new(()));
        let held = lock(&released);
        let (tell, told) = channel();
        for n in 0..MAX_THREADS + 2 {
            let tell = tell.clone();
            let released = released.clone();
            assert!(pool.try_spawn(Length::Long, move || {
                let _ = tell.send(n);
                drop(lock(&released));
            }));
            if n <= MAX_LONG + 1 {
                assert_eq!(told.recv(), Ok(n), "alone, or when those before it count as hung");
            }
        }
        // The watcher has the time to start the fourth, which would take the last thread.
        let fourth = told.recv_timeout(Duration::from_millis(100));
        let (end, ended) = channel();
        assert!(pool.try_spawn(Length::Short, move || {
            let _ = end.send(());
        }));
        assert_eq!(ended.recv_timeout(Duration::from_secs(10)), Ok(()), "no long task ends");
        assert!(fourth.is_err(), "it waits for the others");
        drop((held, tell));
        assert_eq!(told.iter().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_long_task_counts_as_hung_only_if_another_thread_starts() {
        let pool = pool_with(Duration::from_millis(1));
        let (release, released) = channel::<()>();
        let (tell, told) = channel();
        let first = tell.clone();
        assert!(pool.try_spawn(Length::Long, move || {
            let _ = first.send(0);
            let _ = released.recv();
        }));
        assert_eq!(told.recv(), Ok(0));
        pool.shared.no_threads.store(true, Ordering::Relaxed);
        assert!(pool.try_spawn(Length::Long, move || {
            let _ = tell.send(1);
        }));
        assert!(told.recv_timeout(Duration::from_millis(100)).is_err(), "there is no thread");
        assert_eq!(lock(&pool.shared.state).long.hung, 0);
        pool.shared.no_threads.store(false, Ordering::Relaxed);
        assert_eq!(told.recv(), Ok(1), "when a thread starts");
        drop(release);
    }

    #[test]
    fn long_tasks_behind_one_that_hangs_are_done_although_short_ones_end_all_the_time() {
        let pool = pool_with(Duration::from_millis(1));
        let (release, released) = channel::<()>();
        let (tell, told) = channel();
        let hung = tell.clone();
        assert!(pool.try_spawn(Length::Long, move || {
            let _ = released.recv();
            let _ = hung.send(0);
        }));
        for n in 1..5 {
            let tell = tell.clone();
            assert!(pool.try_spawn(Length::Long, move || {
                let _ = tell.send(n);
            }));
        }
        drop(tell);
        let mut done = Vec::new();
        while done.len() < 4 {
            let (end, ended) = channel();
            assert!(pool.try_spawn(Length::Short, move || {
                let _ = end.send(());
            }));
            assert_eq!(ended.recv(), Ok(()));
            done.extend(told.try_iter());
        }
        assert_eq!(done, [1, 2, 3, 4], "though the first one hangs");
        drop(release);
        assert_eq!(told.iter().collect::<Vec<_>>(), [0]);
        while lock(&pool.shared.state).long.running > 0 {
            thread::yield_now();
        }
        assert_eq!(lock(&pool.shared.state).long.hung, 0);
    }
}
