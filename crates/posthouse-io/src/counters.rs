//! What a port reports of itself.

/// What is left after a [`drain`](crate::CompletionPort::drain).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Workers that did not end in time.
    pub workers: usize,
    /// Operations that the system still holds: their memory is leaked, never freed.
    pub leaked: u64,
}

/// The counters of a port. When it is at rest, `submitted == completed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Operations submitted.
    pub submitted: u64,
    /// Terminal completions taken or queued.
    pub completed: u64,
    /// Sockets and listeners that are registered.
    pub sockets: usize,
    /// Receive buffers that somebody holds.
    pub buffers_used: usize,
    /// Receive buffers kept for later.
    pub buffers_free: usize,
}
