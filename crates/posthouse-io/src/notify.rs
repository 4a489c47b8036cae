//! Waiting, on a thread outside of the port, for an event inside.

use std::fmt;
use std::time::Duration;

use crate::sync::Arc;

/// Lets a thread wait for a condition that workers bring about: change the state, then call
/// [`notify_all`](Notify::notify_all). In simulation the waiting thread drives the world.
#[derive(Clone)]
pub struct Notify {
    waiting: Arc<dyn Waiting>,
}

/// The waiting mechanism of a port.
pub(crate) trait Waiting: Send + Sync {
    /// Wakes every waiter to check its condition again.
    fn notify_all(&self);

    /// Waits until `is_ready` returns true, for at most `timeout` (without a limit if `None`).
    fn wait_until(&self, timeout: Option<Duration>, is_ready: &mut dyn FnMut() -> bool);
}

impl Notify {
    pub(crate) fn new(waiting: impl Waiting + 'static) -> Self {
        Self { waiting: Arc::new(waiting) }
    }

    /// Wakes every waiter to check its condition again.
    pub fn notify_all(&self) {
        self.waiting.notify_all();
    }

    /// Waits until `ready` returns a value, for at most `timeout` (without a limit if `None`).
    ///
    /// Returns `None` if the time is over, and in simulation also if no further event is possible.
    pub fn wait_until<T>(
        &self,
        timeout: Option<Duration>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let mut value = None;
        self.waiting.wait_until(timeout, &mut || {
            value = ready();
            value.is_some()
        });
        value
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").finish_non_exhaustive()
    }
}
