//! The figures that a port reports about itself.

/// The remainder after a [`drain`](crate::CompletionPort::drain).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// The number of workers that did not end in time.
    pub workers: usize,
    /// The number of operations that the system still holds. Their memory is leaked, never freed.
    pub leaked: u64,
}

/// The counters of a port. At rest `submitted == completed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The number of operations submitted.
    pub submitted: u64,
    /// The number of terminal completions taken or queued.
    pub completed: u64,
    /// The number of registered sockets and listeners.
    pub sockets: usize,
    /// The number of receive buffers in use.
    pub buffers_used: usize,
    /// The number of free receive buffers kept for reuse.
    pub buffers_free: usize,
}
