//! Workers: the port owns the loop, a worker is a step that it calls.

use std::cell::Cell;
use std::time::Duration;

/// What a step asks for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Call again: there is more to do.
    Again,
    /// Nothing to do until a completion or a wake-up comes, or this much time (from the step's
    /// `now`) has passed. Submitting and waiting are one system call where the system can.
    Sleep(Option<Duration>),
    /// The worker has ended. It is not called again, and its closure is dropped.
    Done,
}

/// A background worker's step: it is given the time, and has no lane.
pub(crate) type BackgroundStep = Box<dyn FnMut(Duration) -> Turn + Send>;

thread_local! {
    /// True exactly while this thread runs a worker's step.
    static ON_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller is inside a worker's step (so that waiting for workers would hang).
pub fn on_worker() -> bool {
    ON_WORKER.get()
}

/// Runs one step with [`on_worker`] true.
pub(crate) fn run_step<T>(step: impl FnOnce() -> T) -> T {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            ON_WORKER.set(self.0);
        }
    }
    let _reset = Reset(ON_WORKER.replace(true));
    step()
}
