//! The threads that run workers, and waiting for their end.

#[cfg(target_os = "linux")]
use std::panic::resume_unwind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::notify::Waiting;
use crate::sync::{Arc, Condvar, Mutex, lock};
use crate::turn::{BackgroundStep, Turn, run_step};

/// The threads of a port.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The number of threads whose work has not ended.
    working: usize,
    /// The handles of all threads that are to be joined.
    handles: Vec<JoinHandle<()>>,
    /// The threads among them that the system holds; nobody awaits their end.
    detached: Vec<ThreadId>,
}

/// A guard that reports the end of a thread's work, even after a panic.
struct Ended {
    shared: Arc<Shared>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        lock(&self.shared.state).working -= 1;
        self.shared.ended.notify_all();
    }
}

impl Threads {
    /// Starts a thread. Everything that `work` owns is dropped before the work counts as ended.
    pub(crate) fn start(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let worker = name.to_owned();
        lock(&self.shared.state).working += 1;
        let ended = Ended { shared: self.shared.clone() };
        let handle = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ended = ended;
            if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                let text = PanicText(&*panic);
                tracing::error!(worker, "the worker panicked, which is a bug, and ended: {text}");
                // A payload whose drop panics, too, is left.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(panic))).map_err(std::mem::forget);
            }
        })?;
        let mut state = lock(&self.shared.state);
        // Workers (of jobs) start and end while the port lives, so the handles of ended threads are
        // dropped here.
        state.handles.retain(|handle| !handle.is_finished());
        state.handles.push(handle);
        Ok(())
    }

    /// Detaches a thread: it will not be joined.
    #[cfg(target_os = "linux")]
    pub(crate) fn detach(&self, thread: ThreadId) {
        lock(&self.shared.state).detached.push(thread);
    }

    /// Waits until all threads have ended, for at most `timeout`, and joins them. Returns the
    /// number of threads that have not ended.
    pub(crate) fn join(&self, timeout: Duration) -> usize {
        let state = lock(&self.shared.state);
        let (mut state, _) = self
            .shared
            .ended
            .wait_timeout_while(state, timeout, |state| state.working > 0)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let working = state.working;
        // A thread that has reported the end of its work is a few instructions from its own end.
        let ended = |handle: &mut JoinHandle<()>| working == 0 || handle.is_finished();
        let mut handles: Vec<_> = state.handles.extract_if(.., ended).collect();
        handles.retain(|handle| !state.detached.contains(&handle.thread().id()));
        drop(state);
        for handle in handles {
            handle.join().expect("panics are caught inside the thread");
        }
        working
    }
}

/// Runs a function on a thread of its own, and waits for the end of that thread.
#[cfg(target_os = "linux")]
pub(crate) fn on_own_thread<T: Send>(
    name: &str,
    run: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, run)?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// The text of a panic, if it has one.
struct PanicText<'a>(&'a (dyn std::any::Any + Send));

impl fmt::Display for PanicText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.downcast_ref::<&str>().copied();
        let text = text.or_else(|| self.0.downcast_ref::<String>().map(String::as_str));
        f.write_str(text.unwrap_or("(no text)"))
    }
}

/// The wake-ups of background workers.
#[derive(Debug, Default)]
pub(crate) struct Background {
    wakes: Mutex<u64>,
    changed: Condvar,
}

impl Background {
    pub(crate) fn wake(&self) {
        *lock(&self.wakes) += 1;
        self.changed.notify_all();
    }

    /// Runs a background worker until it ends.
    pub(crate) fn run(&self, started: Instant, mut step: BackgroundStep) {
        loop {
            // Read before the step, so that a wake-up during the step ends the sleep at once.
            let seen = *lock(&self.wakes);
            let now = started.elapsed();
            match run_step(|| step(now)) {
                Turn::Again => {}
                Turn::Sleep(limit) => {
                    let spent = started.elapsed().saturating_sub(now);
                    self.sleep(seen, limit.map(|limit| limit.saturating_sub(spent)));
                }
                Turn::Done => return,
            }
        }
    }

    fn sleep(&self, seen: u64, limit: Option<Duration>) {
        let wakes = lock(&self.wakes);
        let waiting = |wakes: &mut u64| *wakes == seen;
        match limit {
            None => drop(self.changed.wait_while(wakes, waiting)),
            Some(limit) => drop(self.changed.wait_timeout_while(wakes, limit, waiting)),
        }
    }
}

/// The condition variable behind the [`Notify`](crate::Notify) of a port.
#[derive(Debug, Default)]
pub(crate) struct Notified {
    /// The number of notifications so far.
    count: Mutex<u64>,
    changed: Condvar,
}

impl Waiting for Notified {
    fn notify_all(&self) {
        *lock(&self.count) += 1;
        self.changed.notify_all();
    }

    fn wait_until(&self, timeout: Option<Duration>, is_ready: &mut dyn FnMut() -> bool) {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            // Read before the check, so that a notification during the check is not missed. No lock
            // is held during the check, which takes locks that notifying threads may hold.
            let seen = *lock(&self.count);
            if is_ready() {
                return;
            }
            let unchanged = |count: &mut u64| *count == seen;
            let count = lock(&self.count);
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => drop(self.changed.wait_while(count, unchanged)),
                Some(Duration::ZERO) => return,
                Some(left) => drop(self.changed.wait_timeout_while(count, left, unchanged)),
            }
        }
    }
}
