//! The options of a port and of its listeners.

use std::fmt;

/// How connections and workers come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// One lane per I/O worker; a connection stays on its lane.
    Pinned,
    /// All I/O workers take from one lane.
    Shared,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::Pinned => "pinned",
            Layout::Shared => "shared",
        })
    }
}

/// How receives wait, where the system can have memory for them (Windows; elsewhere there is one
/// way, which holds none while idle).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReadMode {
    /// A receive of zero bytes waits, and what it tells of is then taken: an idle connection holds
    /// no buffer, in no pages that the system has locked.
    #[default]
    ZeroByte,
    /// Every receive has a buffer from the beginning on. Where the system has no room for one
    /// (`WSAENOBUFS`), a receive of zero bytes stands in for it and those behind it.
    Pending,
}

/// The options of a port, whatever its backend.
#[derive(Clone, Debug)]
pub struct Options {
    /// `None`: what suits the backend (iocp: shared, the others: pinned).
    pub layout: Option<Layout>,
    /// I/O workers, 1 to 256. Pinned: as many lanes.
    pub io_workers: usize,
    /// Bytes of a receive buffer.
    pub buffer_bytes: usize,
    /// Free receive buffers kept for later, at most.
    pub max_free_buffers: usize,
    /// How receives wait.
    pub read_mode: ReadMode,
    /// Peers that a listener awaits at a time, at least 1, where each is an operation of its own
    /// (Windows: a socket and 200 bytes each).
    pub accepts: usize,
    /// For tests: every receive buffer is on pages of its own, a released one is never used again
    /// and cannot be touched, not even by the kernel. Slow; two pages or more for each buffer.
    pub guard_buffers: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            layout: None,
            io_workers: 1,
            buffer_bytes: 64 * 1024,
            max_free_buffers: 1024,
            read_mode: ReadMode::ZeroByte,
            accepts: 64,
            guard_buffers: false,
        }
    }
}

/// How a listener is bound.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Connections that the system queues before they are accepted.
    pub backlog: u32,
    /// Disable Nagle's algorithm on accepted sockets.
    pub no_delay: bool,
    /// Take IPv4 peers on an IPv6 address, too.
    pub dual_stack: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 4096, no_delay: true, dual_stack: false }
    }
}
