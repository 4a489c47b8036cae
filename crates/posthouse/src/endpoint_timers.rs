//! The timers of an endpoint, which run on a worker, outside of every strand.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::contained::{Contained, drop_payload, text};
use crate::error::RunError;
use crate::shared::Shared;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::watchdog::CallbackMarker;

/// The work of a timer.
pub(crate) enum TimerTask {
    /// A task that runs once.
    Once(Contained<Box<dyn FnOnce() + Send>>),
    /// A task that runs again one period after it has returned, until it returns `Break`.
    Every(Duration, Contained<Repeated>),
}

/// A task that runs repeatedly.
pub(crate) type Repeated = Box<dyn FnMut() -> ControlFlow<()> + Send>;

/// The waiting timers of an endpoint.
pub(crate) struct EndpointTimers {
    state: Mutex<State>,
    /// The time of the first timer in nanoseconds, for workers that do not hold the lock.
    next_ns: AtomicU64,
}

#[derive(Default)]
struct State {
    /// The timers by their time. Timers for the same time run in the order of the calls.
    waiting: BTreeMap<(Duration, u64), TimerTask>,
    next_number: u64,
    /// True exactly when the endpoint shuts down and takes no more timers.
    closed: bool,
}

/// The value of `next_ns` without a timer.
const NEVER: u64 = u64::MAX;

impl Default for EndpointTimers {
    fn default() -> Self {
        Self { state: Mutex::default(), next_ns: AtomicU64::new(NEVER) }
    }
}

impl EndpointTimers {
    /// Adds a timer, unless `max` timers wait. Returns whether it is the first to run, so that a
    /// worker must be woken for it.
    pub(crate) fn add(&self, at: Duration, task: TimerTask, max: usize) -> Result<bool, RunError> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(RunError::Shutdown);
        }
        if state.waiting.len() >= max {
            return Err(RunError::Busy);
        }
        Ok(self.insert(&mut state, at, task))
    }

    fn insert(&self, state: &mut State, at: Duration, task: TimerTask) -> bool {
        let number = state.next_number;
        state.next_number += 1;
        state.waiting.insert((at, number), task);
        self.publish(state);
        state.waiting.keys().next() == Some(&(at, number))
    }

    /// Publishes the time of the first timer.
    fn publish(&self, state: &State) {
        let first = state.waiting.keys().next().map(|(at, _)| at.as_nanos());
        let ns = first.map(|ns| u64::try_from(ns).unwrap_or(NEVER - 1));
        self.next_ns.store(ns.unwrap_or(NEVER), Ordering::Release);
    }

    /// Returns the time of the first timer.
    pub(crate) fn next(&self) -> Option<Duration> {
        match self.next_ns.load(Ordering::Acquire) {
            NEVER => None,
            ns => Some(Duration::from_nanos(ns)),
        }
    }

    /// Takes a timer that is due.
    fn take_due(&self, now: Duration) -> Option<TimerTask> {
        self.next().filter(|at| *at <= now)?;
        let mut state = lock(&self.state);
        let first = state.waiting.first_entry().filter(|first| first.key().0 <= now)?;
        let task = first.remove();
        self.publish(&state);
        Some(task)
    }

    /// Runs the timers that are due, as many as a connection may handle messages in a turn. A panic
    /// is contained, logged and counted; it does not end a repetition.
    pub(crate) fn run(&self, shared: &Shared, now: Duration, marker: &CallbackMarker) {
        for _ in 0..shared.tuning.turn_messages {
            let Some(task) = self.take_due(now) else { return };
            crate::sync::assert_none_held();
            marker.enter_timer();
            let (panic, again) = match task {
                TimerTask::Once(task) => (caught(|| task.into_inner()()).err(), None),
                TimerTask::Every(period, task) => {
                    let mut run = task.into_inner();
                    let result = caught(&mut run);
                    let again = (period, Contained::new(run));
                    match result {
                        Ok(ControlFlow::Break(())) => (None, None),
                        Ok(ControlFlow::Continue(())) => (None, Some(again)),
                        Err(panic) => (Some(panic), Some(again)),
                    }
                }
            };
            marker.leave();
            if let Some(panic) = panic {
                shared.count_panic(now, None, text(&*panic), "a timer of the endpoint panicked");
                drop_payload(panic);
            }
            if let Some((period, task)) = again {
                self.repeat(shared.port.now().saturating_add(period), period, task);
            }
        }
    }

    /// Adds the next run of a repetition, which keeps its place, unless the endpoint shuts down.
    fn repeat(&self, at: Duration, period: Duration, task: Contained<Repeated>) {
        let mut state = lock(&self.state);
        if !state.closed {
            self.insert(&mut state, at, TimerTask::Every(period, task));
        }
    }

    /// Drops the waiting timers, because the endpoint shuts down. No timer can be added any more.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        self.publish(&state);
        drop(state);
        drop(waiting);
    }
}

fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Box<dyn std::any::Any + Send>> {
    catch_unwind(AssertUnwindSafe(run))
}
