//! A value that several threads change and wait for.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A value behind a lock. Every change wakes the threads that wait. It is not used on the path of a
/// message.
#[derive(Debug, Default)]
pub(crate) struct Monitor<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Monitor<T> {
    pub(crate) fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&self.lock())
    }

    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `is_done` returns true or the timeout has passed. The caller reads the value to
    /// find out which.
    pub(crate) fn wait(&self, timeout: Option<Duration>, is_done: impl Fn(&T) -> bool) {
        let waits = |value: &mut T| !is_done(value);
        let value = self.lock();
        match timeout {
            Some(timeout) => drop(self.changed.wait_timeout_while(value, timeout, waits)),
            None => drop(self.changed.wait_while(value, waits)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        // The value is consistent after every statement that changes it, also after a panic.
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
