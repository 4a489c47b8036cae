//! The options of a port and of its listeners.

use std::fmt;
use std::time::Duration;

/// The maximum number of hosts that a port looks up at a time, each on a thread.
pub(crate) const MAX_LOOK_UPS: usize = 64;
/// The maximum time that [`CompletionPort::look_up`](crate::CompletionPort::look_up) waits.
pub(crate) const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// The assignment of connections to workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// One lane per I/O worker; a connection stays on its lane.
    Pinned,
    /// All I/O workers take completions from one lane.
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

/// The way in which a waiting receive holds memory, on systems that can hold memory for it
/// (Windows). Elsewhere the option has no effect: a waiting receive never holds memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReadMode {
    /// A receive of zero bytes waits; when it completes, the bytes are received. An idle connection
    /// holds no buffer and no pages that the system has locked.
    #[default]
    ZeroByte,
    /// Every receive has a buffer from its submission on, 64 KiB by default. If the system has no
    /// room for it (`WSAENOBUFS`), a receive of zero bytes replaces it and those behind it.
    Pending,
}

/// The options of a port, for every backend.
#[derive(Clone, Debug)]
pub struct Options {
    /// The layout. `None`, the default, selects the one that suits the backend (iocp: shared, the
    /// others: pinned).
    pub layout: Option<Layout>,
    /// The number of I/O workers, 1 to 256, by default 1. The pinned layout has as many lanes.
    pub io_workers: usize,
    /// The size of a receive buffer in bytes, by default 64 KiB.
    pub buffer_bytes: usize,
    /// The maximum number of free receive buffers kept for reuse, by default 1024, together at most
    /// `max_free_buffers * buffer_bytes`, by default 64 MiB. Each lane keeps up to 32 more.
    pub max_free_buffers: usize,
    /// The way in which waiting receives hold memory, by default without memory.
    pub read_mode: ReadMode,
    /// The number of peers that a listener awaits at a time, at least 1, by default 64. It matters
    /// only if each peer is an operation of its own (Windows: a socket and 200 bytes each).
    pub accepts: usize,
    /// True exactly when every receive buffer is on pages of its own, which are never used again
    /// after the buffer's release, and which even the kernel cannot touch then. For tests: it is
    /// slow and costs two pages or more per buffer.
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

/// The options of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// The number of connections that the system queues before they are accepted, by default 4096.
    pub backlog: u32,
    /// True exactly when Nagle's algorithm is off on accepted sockets, by default true.
    pub no_delay: bool,
    /// True exactly when a listener on an IPv6 address also accepts IPv4 peers, by default false.
    pub dual_stack: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 4096, no_delay: true, dual_stack: false }
    }
}
