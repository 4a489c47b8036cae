//! Counts work in tests, so that linear time is shown by counting and not by a clock.

#[cfg(test)]
thread_local! {
    static DONE: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// `units` bytes were compared or copied. Costs nothing outside tests.
#[inline]
pub(crate) fn count(units: usize) {
    #[cfg(test)]
    DONE.set(DONE.get() + units as u64);
    #[cfg(not(test))]
    let _ = units;
}

/// The work counted on this thread while `run` runs.
#[cfg(test)]
pub(crate) fn counted(run: impl FnOnce()) -> u64 {
    let before = DONE.get();
    run();
    DONE.get() - before
}
