//! A counter of byte operations. Tests show linear time with it instead of with a clock.

#[cfg(test)]
thread_local! {
    static COUNT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Adds `bytes` that were compared or copied. Outside tests it does nothing.
#[inline]
pub(crate) fn add(bytes: usize) {
    #[cfg(test)]
    COUNT.set(COUNT.get() + bytes as u64);
    #[cfg(not(test))]
    let _ = bytes;
}

/// Returns the number of byte operations of this thread during `run`.
#[cfg(test)]
pub(crate) fn during(run: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    run();
    COUNT.get() - before
}
