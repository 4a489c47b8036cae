//! The wake protocol between the workers of a lane and the threads that have work for them.
//!
//! No wake-up is lost: a worker declares that it is about to wait before it checks the queue for
//! the last time, and a thread that adds work checks the workers afterwards. No wake-up is wasted:
//! the waker, a system call, is called only if a worker waits, and not again before the woken
//! worker has returned.

use std::time::Duration;

#[cfg(target_os = "linux")]
use crate::sync::{AtomicUsize, Ordering};

/// A way to end the wait of one worker, from any thread.
pub(crate) trait Wake {
    /// Ends one worker's wait.
    fn wake(&self);
}

/// The number of workers of a lane that wait, and the wake-up on its way to one of them. The lock
/// of the lane's queue protects it.
///
/// A *wake-up* requests a step that begins after it, with or without work. `n` counts the workers
/// that wait or are about to wait; all of them have seen the queue empty.
///
/// | state | wake-up | work is added | a wait begins | ends by the waker | ends by itself |
/// |---|---|---|---|---|---|
/// | `Waiting(0)` | `Notified` | - | `Waiting(1)` | - | - |
/// | `Waiting(n)` | `Owed(n)`**!** | `Pending(n)`**!** | `Waiting(n+1)` | - | `Waiting(n-1)` |
/// | `Notified` | - | - | refused | `Waiting(0)` | `Waiting(0)` |
/// | `Pending(n)` | `Owed(n)` | - | `Pending(n+1)` | `Waiting(n-1)` | `Pending(n-1)` |
/// | `Owed(n)` | - | - | refused | `Waiting(n-1)` | `Pending(n-1)` |
///
/// **!**: the waker is called. A refused worker checks for events without waiting. It is not
/// counted, and its return does not change `n`. Every worker that returns begins a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WakeState {
    /// The given number of workers wait, the others run; nobody is being woken.
    Waiting(usize),
    /// All workers run, and a wake-up has come since the last step began.
    Notified,
    /// The waker has been called, and the worker that it wakes has not returned yet. That worker
    /// checks the queue next.
    Pending(usize),
    /// The same as `Pending`, and a wake-up has come since the last step began.
    Owed(usize),
}

/// The way in which a worker checks for events between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The worker takes the events that exist and does not wait, because it has work.
    Look,
    /// The worker waits, and is counted as waiting.
    Sleep,
}

/// The reason why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    /// The waker was called.
    Woken,
    /// Events came, or the time was over.
    ByItself,
}

impl WakeState {
    pub(crate) const RUNNING: Self = Self::Waiting(0);

    /// Records a wake-up. Returns whether the caller must call the waker.
    pub(crate) fn on_wake(&mut self) -> bool {
        let before = *self;
        *self = match before {
            Self::Waiting(0) => Self::Notified,
            Self::Waiting(n) | Self::Pending(n) => Self::Owed(n),
            Self::Notified | Self::Owed(_) => before,
        };
        matches!(before, Self::Waiting(1..))
    }

    /// Records work for one more worker. Returns whether the caller must call the waker.
    pub(crate) fn on_work(&mut self) -> bool {
        let Self::Waiting(n @ 1..) = *self else { return false };
        *self = Self::Pending(n);
        true
    }

    /// Registers a worker that has seen the queue empty and is about to wait.
    pub(crate) fn begin_wait(&mut self) -> Wait {
        match self {
            Self::Waiting(n) | Self::Pending(n) => {
                *n += 1;
                Wait::Sleep
            }
            Self::Notified | Self::Owed(_) => Wait::Look,
        }
    }

    /// Records that a worker has returned and begins a step.
    pub(crate) fn end_wait(&mut self, wait: Wait, end: WaitEnd) {
        let counted = usize::from(wait == Wait::Sleep);
        *self = match (*self, end) {
            (Self::Waiting(n), _) | (Self::Pending(n) | Self::Owed(n), WaitEnd::Woken) => {
                Self::Waiting(n - counted)
            }
            (Self::Pending(n) | Self::Owed(n), WaitEnd::ByItself) => Self::Pending(n - counted),
            (Self::Notified, _) => Self::RUNNING,
        };
    }
}

impl Wait {
    /// Returns the maximum duration of the wait, given the remaining time of the worker's sleep.
    pub(crate) fn limit(self, left: impl FnOnce() -> Option<Duration>) -> Option<Duration> {
        match self {
            Self::Look => Some(Duration::ZERO),
            Self::Sleep => left(),
        }
    }
}

/// The same protocol for a lane with one worker, without a lock. `Notified` and `Owed` are one
/// state, and so are the returns from both; work always comes with a wake-up.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(crate) struct AtomicWakeState(AtomicUsize);

#[cfg(target_os = "linux")]
impl AtomicWakeState {
    const RUNNING: usize = 0;
    /// The worker waits, or is about to wait.
    const WAITING: usize = 1;
    /// A wake-up has come since the last step began.
    const NOTIFIED: usize = 2;

    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(Self::RUNNING))
    }

    /// Records a wake-up. Returns whether the caller must call the waker.
    pub(crate) fn on_wake(&self) -> bool {
        self.0.swap(Self::NOTIFIED, Ordering::AcqRel) == Self::WAITING
    }

    /// Registers that the worker, which has nothing to do, is about to wait.
    pub(crate) fn begin_wait(&self) -> Wait {
        let ok = Ordering::AcqRel;
        let err = Ordering::Relaxed;
        match self.0.compare_exchange(Self::RUNNING, Self::WAITING, ok, err) {
            Ok(_) => Wait::Sleep,
            Err(_) => Wait::Look,
        }
    }

    /// Records that the worker has returned and begins a step. Returns whether a wake-up has come.
    /// Code after this call sees everything that the waking thread did before it called `on_wake`.
    pub(crate) fn end_wait(&self) -> bool {
        self.0.load(Ordering::Relaxed) != Self::RUNNING
            && self.0.swap(Self::RUNNING, Ordering::AcqRel) == Self::NOTIFIED
    }
}

#[cfg(test)]
mod tests {
    use super::WakeState::{Notified, Owed, Pending, Waiting};
    use super::*;

    #[test]
    fn the_waker_is_called_once_for_those_that_wait_and_never_for_nobody() {
        for (before, on_wake, on_work) in [
            (Waiting(0), (Notified, false), (Waiting(0), false)),
            (Waiting(2), (Owed(2), true), (Pending(2), true)),
            (Notified, (Notified, false), (Notified, false)),
            (Pending(2), (Owed(2), false), (Pending(2), false)),
            (Owed(2), (Owed(2), false), (Owed(2), false)),
        ] {
            let mut woken = before;
            let mut worked = before;
            let calls = (woken.on_wake(), worked.on_work());
            assert_eq!((woken, calls.0), on_wake, "a wake-up in {before:?}");
            assert_eq!((worked, calls.1), on_work, "work in {before:?}");
        }
    }

    #[test]
    fn nobody_waits_who_owes_a_step() {
        for (before, after, wait) in [
            (Waiting(0), Waiting(1), Wait::Sleep),
            (Notified, Notified, Wait::Look),
            (Pending(0), Pending(1), Wait::Sleep),
            (Owed(1), Owed(1), Wait::Look),
        ] {
            let mut state = before;
            assert_eq!(state.begin_wait(), wait, "in {before:?}");
            assert_eq!(state, after);
        }
    }

    /// A worker that returns by itself leaves the wake-up to the others.
    #[test]
    fn a_wake_up_is_on_its_way_until_somebody_comes_back_by_it() {
        use WaitEnd::{ByItself, Woken};
        for (before, wait, end, after) in [
            (Waiting(2), Wait::Sleep, ByItself, Waiting(1)),
            (Waiting(2), Wait::Look, ByItself, Waiting(2)),
            (Notified, Wait::Look, ByItself, Waiting(0)),
            (Pending(2), Wait::Sleep, Woken, Waiting(1)),
            (Pending(2), Wait::Sleep, ByItself, Pending(1)),
            (Pending(1), Wait::Look, Woken, Waiting(1)),
            (Owed(2), Wait::Sleep, Woken, Waiting(1)),
            (Owed(1), Wait::Look, ByItself, Pending(1)),
        ] {
            let mut state = before;
            state.end_wait(wait, end);
            assert_eq!(state, after, "{wait:?} in {before:?}, {end:?}");
        }
    }
}
