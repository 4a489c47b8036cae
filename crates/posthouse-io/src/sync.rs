//! The synchronisation primitives of this crate, in one place, so that a model checker or a
//! lock-counting build can put its own in.

#[cfg(target_os = "linux")]
pub(crate) use std::sync::atomic::AtomicU16;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, Weak};

/// Locks; a panic elsewhere does not make the data behind the lock unusable, because every critical
/// section in this crate leaves it consistent at each step.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
