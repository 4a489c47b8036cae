//! The completion port, and the one place where a backend is chosen.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::address::Address;
use crate::bell::Bell;
#[cfg(target_os = "linux")]
use crate::host::Host;
use crate::lane::Lane;
use crate::operation::NewHandle;
use crate::sim;
use crate::sync::Arc;
#[cfg(target_os = "linux")]
use crate::system;
use crate::token::LaneId;
#[cfg(target_os = "linux")]
use crate::uring;
use crate::worker::Turn;

/// Which system does the work.
#[derive(Clone, Debug, Default)]
pub enum Backend {
    /// What the environment variable `POSTHOUSE_BACKEND` names (`auto`, `uring`, `readiness`);
    /// without it the best that this machine offers, probed with a real operation.
    #[default]
    Auto,
    /// io_uring (Linux), in the pinned layout only.
    Uring,
    /// epoll and non-blocking calls (Linux).
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
    /// `None`: what suits the backend (pinned).
    pub layout: Option<Layout>,
    /// I/O workers, 1 to 256. Pinned: as many lanes.
    pub io_workers: usize,
    /// Bytes of a receive buffer.
    pub buffer_bytes: usize,
    /// Free receive buffers kept for later, at most.
    pub buffers_free_max: usize,
    /// For tests: every receive buffer is on pages of its own, a released one is never used again
    /// and cannot be touched, not even by the kernel. Slow; two pages or more for each buffer.
    pub guard_buffers: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            backend: Backend::Auto,
            layout: None,
            io_workers: 1,
            buffer_bytes: 64 * 1024,
            buffers_free_max: 1024,
            guard_buffers: false,
        }
    }
}

/// Names the backend where the options leave it to the port.
#[cfg(target_os = "linux")]
const VARIABLE: &str = "POSTHOUSE_BACKEND";

/// What the environment asks for.
#[cfg(target_os = "linux")]
fn environment() -> io::Result<Backend> {
    let Some(value) = std::env::var_os(VARIABLE) else { return Ok(Backend::Auto) };
    match value.to_str() {
        Some("auto" | "") => Ok(Backend::Auto),
        Some("uring") => Ok(Backend::Uring),
        Some("readiness") => Ok(Backend::Readiness),
        _ => {
            let value = value.display();
            let text = format!("{VARIABLE}={value}: must be auto, uring or readiness");
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

/// The error, told in other words.
#[cfg(target_os = "linux")]
fn with_text(error: &io::Error, text: String) -> io::Error {
    io::Error::new(error.kind(), text)
}

impl Options {
    fn choice(&self, backend: &'static str, reason: String) -> Choice {
        let layout = self.layout.unwrap_or(Layout::Pinned);
        Choice { backend, layout, io_workers: self.io_workers, reason }
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
    Real(Arc<Host>),
    Simulated(Arc<sim::SimPort>),
}

macro_rules! each {
    ($self:expr, $port:ident => $call:expr) => {
        match &$self.kind {
            #[cfg(target_os = "linux")]
            PortKind::Real($port) => $call,
            PortKind::Simulated($port) => $call,
        }
    };
}

impl CompletionPort {
    /// Opens a port, and says which backend it got and why.
    #[expect(clippy::needless_pass_by_value, reason = "options are made for one port")]
    pub fn open(options: Options) -> io::Result<(Self, Choice)> {
        assert!((1..=256).contains(&options.io_workers), "1 to 256 I/O workers");
        if let Backend::Simulation(network) = &options.backend {
            let layout = options.layout.unwrap_or(Layout::Pinned);
            let kind = PortKind::Simulated(sim::SimPort::open(network.clone(), layout, &options));
            return Ok((Self { kind }, options.choice("simulation", "asked for".to_owned())));
        }
        Self::open_real(&options)
    }

    #[cfg(target_os = "linux")]
    fn open_real(options: &Options) -> io::Result<(Self, Choice)> {
        let layout = options.layout.unwrap_or(Layout::Pinned);
        let forced = match &options.backend {
            Backend::Auto => environment()?,
            forced => forced.clone(),
        };
        let by_environment = matches!(options.backend, Backend::Auto);
        let asked_for = match by_environment {
            true => format!("{VARIABLE} asks for it"),
            false => "asked for".to_owned(),
        };
        let named = |error: io::Error| match by_environment {
            true => with_text(&error, format!("{error} ({asked_for})")),
            false => error,
        };
        match (forced, layout) {
            (Backend::Readiness, _) => {
                Self::on_readiness(options, asked_for.clone()).map_err(named)
            }
            (Backend::Uring, _) => Self::on_uring(options, asked_for.clone()).map_err(named),
            (Backend::Auto, Layout::Shared) => {
                Self::on_readiness(options, "io_uring has no shared layout".to_owned())
            }
            (Backend::Auto, Layout::Pinned) => {
                Self::on_uring(options, "probed: it works".to_owned()).or_else(|why| {
                    Self::on_readiness(options, why.to_string())
                        .map_err(|error| with_text(&error, format!("{error}; {why}")))
                })
            }
            (Backend::Simulation(_), _) => unreachable!("not a real one"),
        }
    }

    #[cfg(target_os = "linux")]
    fn on_readiness(options: &Options, why: String) -> io::Result<(Self, Choice)> {
        let layout = options.layout.unwrap_or(Layout::Pinned);
        let explained = |error: io::Error| {
            with_text(&error, format!("no epoll: {}", system::explained(&error)))
        };
        let host = Host::on_readiness(layout, options).map_err(explained)?;
        Ok((Self { kind: PortKind::Real(host) }, options.choice("readiness", why)))
    }

    #[cfg(target_os = "linux")]
    fn on_uring(options: &Options, why: String) -> io::Result<(Self, Choice)> {
        if options.layout == Some(Layout::Shared) {
            let text = "the uring backend has no shared layout: ask for the pinned one, or for \
                        the readiness backend";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let host = uring::probe()
            .and_then(|()| Host::on_uring(options))
            .map_err(|error| with_text(&error, format!("no io_uring: {error}")))?;
        Ok((Self { kind: PortKind::Real(host) }, options.choice("uring", why)))
    }

    #[cfg(not(target_os = "linux"))]
    fn open_real(_: &Options) -> io::Result<(Self, Choice)> {
        let text = "this version has no backend for this system but simulation";
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
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
