//! The synchronisation primitives of the framework, in one place, so that a model checker or an
//! instrumented build can replace them.
//!
//! With debug assertions every held lock is counted, and [`assert_none_held`] runs before each
//! callback, because no lock of the framework may be held over one.

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
pub(crate) use std::sync::{Arc, Mutex, OnceLock, RwLock, Weak};

use std::ops::{Deref, DerefMut};
use std::sync::MutexGuard;

/// A held lock.
pub(crate) struct LockGuard<'a, T: ?Sized> {
    guard: MutexGuard<'a, T>,
}

/// Locks a mutex, even if it is poisoned. No callback runs under a lock of the framework, so only
/// a bug of the framework poisons one; and the guarded data is consistent at every step.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> LockGuard<'_, T> {
    count(1);
    LockGuard { guard: mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner) }
}

impl<T: ?Sized> Drop for LockGuard<'_, T> {
    fn drop(&mut self) {
        count(-1);
    }
}

impl<T: ?Sized> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

#[cfg(debug_assertions)]
thread_local! {
    static HELD: std::cell::Cell<i32> = const { std::cell::Cell::new(0) };
}

#[cfg(debug_assertions)]
fn count(change: i32) {
    HELD.set(HELD.get() + change);
}

#[cfg(not(debug_assertions))]
fn count(_: i32) {}

/// Panics if this thread holds a lock of the framework.
pub(crate) fn assert_none_held() {
    #[cfg(debug_assertions)]
    assert_eq!(HELD.get(), 0, "a lock is held over a callback");
}
