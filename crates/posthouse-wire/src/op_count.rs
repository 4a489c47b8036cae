//! Counts byte operations in tests, which show linear time by the count and not by a clock.

#[cfg(test)]
thread_local! {
    static COUNT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Counts `bytes` that were compared or copied. Costs nothing outside tests.
#[inline]
pub(crate) fn add(bytes: usize) {
    #[cfg(test)]
    COUNT.set(COUNT.get() + bytes as u64);
    #[cfg(not(test))]
    let _ = bytes;
}

/// Returns what this thread counts while `run` runs.
#[cfg(test)]
pub(crate) fn during(run: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    run();
    COUNT.get() - before
}
