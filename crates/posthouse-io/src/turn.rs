//! Workers: the port owns the loop and calls a worker's step.

use std::cell::Cell;
pub use std::thread::ThreadId;
use std::time::Duration;

/// The result of a step, which tells the port when to call it next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Call the step again at once: it has more to do.
    Again,
    /// Call the step again after a completion, a wake-up, or this much time, counted from the
    /// step's `now`; `None` sets no time limit. Submitting and waiting are one system call if the
    /// system has such a call.
    Sleep(Option<Duration>),
    /// The worker has ended. The port drops its closure and does not call it again.
    Done,
}

/// The step of a background worker. It receives the present time and has no lane.
pub(crate) type BackgroundStep = Box<dyn FnMut(Duration) -> Turn + Send>;

thread_local! {
    /// True exactly while this thread runs a worker's step.
    static ON_WORKER: Cell<bool> = const { Cell::new(false) };

    /// The id of this thread, once it was requested: the system's own look-up costs more.
    static THREAD: Cell<Option<ThreadId>> = const { Cell::new(None) };
}

/// Returns the id of the caller's thread.
pub fn current_thread() -> ThreadId {
    THREAD.get().unwrap_or_else(|| {
        let id = std::thread::current().id();
        THREAD.set(Some(id));
        id
    })
}

/// Returns whether the caller runs inside a worker's step, where waiting for workers would never
/// end.
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
