//! The completion port, and the one place where a backend is chosen.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::address::Address;
use crate::bell::Bell;
use crate::lane::Lane;
use crate::operation::NewHandle;
#[cfg(target_os = "linux")]
use crate::readiness;
use crate::sim;
use crate::sync::Arc;
use crate::token::LaneId;
use crate::worker::Turn;

/// Which system does the work.
#[derive(Clone, Debug, Default)]
pub enum Backend {
    /// The best that this machine offers, probed with a real operation.
    #[default]
    Auto,
    /// epoll and non-blocking calls.
    Readiness,
    /// A network in virtual time.
    Simulation(sim::Network),
}

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

/// How to open a port.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which system does the work.
    pub backend: Backend,
    /// `None`: what suits the backend (pinned for readiness and simulation).
    pub layout: Option<Layout>,
    /// I/O workers, 1 to 256. Pinned: as many lanes.
    pub io_workers: usize,
    /// Bytes of a receive buffer.
    pub buffer_bytes: usize,
    /// Free receive buffers kept for later, at most.
    pub buffers_free_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            backend: Backend::Auto,
            layout: None,
            io_workers: 1,
            buffer_bytes: 64 * 1024,
            buffers_free_max: 1024,
        }
    }
}

/// What was chosen, and why: for the log and for `posthouse doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The backend's name.
    pub backend: &'static str,
    /// The layout.
    pub layout: Layout,
    /// I/O workers.
    pub io_workers: usize,
    /// Why this backend.
    pub reason: String,
}

/// How a listener is bound.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Connections that the system queues before they are accepted.
    pub backlog: u32,
    /// Disable Nagle's algorithm on accepted sockets.
    pub no_delay: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 4096, no_delay: true }
    }
}

/// A bound listener, not yet registered with a lane. Dropping it closes it.
#[derive(Debug)]
pub struct Listener {
    pub(crate) handle: NewHandle,
    pub(crate) local: Address,
}

impl Listener {
    /// The address it is bound to, with the port that the system chose where zero was asked for.
    pub fn local_address(&self) -> Address {
        self.local
    }
}

/// What is left after a [`drain`](CompletionPort::drain).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Workers that did not end in time.
    pub workers: usize,
    /// Operations that the system still holds: their memory is leaked, never freed.
    pub leaked: u64,
}

/// Figures of a port. When it is at rest, `submitted == completed`.
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

/// How many workers this machine can run at once.
pub fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The completion port: `Clone + Send + Sync`; clones name the same port.
#[derive(Clone, Debug)]
pub struct CompletionPort {
    kind: PortKind,
}

#[derive(Clone, Debug)]
enum PortKind {
    #[cfg(target_os = "linux")]
    Readiness(Arc<readiness::Port>),
    Simulated(Arc<sim::SimPort>),
}

macro_rules! each {
    ($self:expr, $port:ident => $call:expr) => {
        match &$self.kind {
            #[cfg(target_os = "linux")]
            PortKind::Readiness($port) => $call,
            PortKind::Simulated($port) => $call,
        }
    };
}

impl CompletionPort {
    /// Opens a port, and says which backend it got and why.
    #[expect(clippy::needless_pass_by_value, reason = "options are made for one port")]
    pub fn open(options: Options) -> io::Result<(Self, Choice)> {
        assert!((1..=256).contains(&options.io_workers), "1 to 256 I/O workers");
        let layout = options.layout.unwrap_or(Layout::Pinned);
        let (kind, backend, reason) = match &options.backend {
            Backend::Simulation(network) => {
                let port = sim::SimPort::open(network.clone(), layout, &options);
                (PortKind::Simulated(port), "simulation", "asked for".to_owned())
            }
            #[cfg(target_os = "linux")]
            Backend::Auto | Backend::Readiness => {
                let port = readiness::Port::open(layout, &options)?;
                let reason = match options.backend {
                    Backend::Auto => "the only backend of this version for this system",
                    _ => "asked for",
                };
                (PortKind::Readiness(port), "readiness", reason.to_owned())
            }
            #[cfg(not(target_os = "linux"))]
            Backend::Auto | Backend::Readiness => {
                let text = "this version has no backend for this system but simulation";
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
        };
        let choice = Choice { backend, layout, io_workers: options.io_workers, reason };
        Ok((Self { kind }, choice))
    }

    /// How many lanes there are: the I/O workers when pinned, one when shared.
    pub fn lanes(&self) -> usize {
        each!(self, port => port.lanes())
    }

    /// Binds a listener. Register it with [`Lane::adopt_listener`].
    pub fn listen(&self, address: Address, options: ListenOptions) -> io::Result<Listener> {
        each!(self, port => port.listen(address, options))
    }

    /// Starts an I/O worker on a lane: one per lane when pinned (asserted), any number when shared.
    ///
    /// `name` is the thread's name. The port calls `step` until it says [`Turn::Done`].
    pub fn spawn(
        &self,
        lane: LaneId,
        name: &str,
        step: impl FnMut(&mut Lane) -> Turn + Send + 'static,
    ) -> io::Result<()> {
        each!(self, port => port.spawn(lane, name, Box::new(step)))
    }

    /// Starts a side worker: a thread with no lane (jobs, the watchdog). It is given the time, and
    /// sleeps until its time is over or [`wake_sides`](Self::wake_sides) is called.
    pub fn spawn_side(
        &self,
        name: &str,
        step: impl FnMut(Duration) -> Turn + Send + 'static,
    ) -> io::Result<()> {
        each!(self, port => port.spawn_side(name, Box::new(step)))
    }

    /// Wakes a lane's worker (shared: one of them). Coalesced; a system call only where it sleeps.
    /// A wake-up that comes while the worker runs makes its next sleep return at once.
    pub fn wake(&self, lane: LaneId) {
        each!(self, port => port.wake(lane));
    }

    /// Wakes all side workers.
    pub fn wake_sides(&self) {
        each!(self, port => port.wake_sides());
    }

    /// Time since the port was opened.
    pub fn now(&self) -> Duration {
        each!(self, port => port.now())
    }

    /// A random number: from the system, in simulation from the seed.
    pub fn random(&self) -> u64 {
        each!(self, port => port.random())
    }

    /// A bell to wait with, outside of workers.
    pub fn bell(&self) -> Bell {
        each!(self, port => port.bell())
    }

    /// Figures: operations, sockets, buffers.
    pub fn counters(&self) -> Counters {
        each!(self, port => port.counters())
    }

    /// Waits until every worker has ended and joins its thread, for at most `timeout`. Must not be
    /// called on a worker (asserted).
    pub fn drain(&self, timeout: Duration) -> Drained {
        assert!(!crate::on_worker(), "drain waits for workers: it cannot be called on one");
        each!(self, port => port.drain(timeout))
    }
}
