//! The completion port, and the one place where a backend is chosen.

use std::io;
use std::time::Duration;

use crate::address::{Address, Name};
use crate::counters::{Counters, Drained};
use crate::handle::Listener;
#[cfg(windows)]
use crate::iocp;
use crate::lane::Lane;
#[cfg(any(target_os = "linux", windows))]
use crate::native::native_port::NativePort;
use crate::notify::Notify;
use crate::options::{Layout, ListenOptions, Options};
use crate::sim;
use crate::sync::Arc;
#[cfg(target_os = "linux")]
use crate::sys;
use crate::token::LaneId;
use crate::turn::Turn;
#[cfg(target_os = "linux")]
use crate::uring;

/// Which system does the work.
#[derive(Clone, Debug, Default)]
pub enum Backend {
    /// What the environment variable `POSTHOUSE_BACKEND` names (`auto`, `iocp`, `uring`,
    /// `readiness`); without it the best that this machine offers, probed with a real operation.
    #[default]
    Auto,
    /// I/O completion ports (Windows).
    Iocp,
    /// io_uring (Linux), in the pinned layout only.
    Uring,
    /// epoll and non-blocking calls (Linux).
    Readiness,
    /// A network in virtual time.
    Simulation(sim::Network),
}

/// The environment variable that names the backend if the caller leaves it to the port.
const VARIABLE: &str = "POSTHOUSE_BACKEND";

/// The backend that the environment asks for.
fn environment() -> io::Result<Backend> {
    let Some(value) = std::env::var_os(VARIABLE) else { return Ok(Backend::Auto) };
    match value.to_str() {
        Some("auto" | "") => Ok(Backend::Auto),
        Some("iocp") => Ok(Backend::Iocp),
        Some("uring") => Ok(Backend::Uring),
        Some("readiness") => Ok(Backend::Readiness),
        _ => {
            let value = value.display();
            let text = format!("{VARIABLE}={value}: must be auto, iocp, uring or readiness");
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

/// The error with another text.
fn with_text(error: &io::Error, text: String) -> io::Error {
    io::Error::new(error.kind(), text)
}

fn selected(backend: &'static str, layout: Layout, options: &Options, reason: String) -> Selected {
    Selected { backend, layout, io_workers: options.io_workers, reason }
}

/// The error for a backend that this system does not have.
fn unsupported(what: &str, needs: &str) -> io::Result<(CompletionPort, Selected)> {
    let text = format!("{what} needs {needs}: ask for \"auto\"");
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

/// The backend that was selected, and why: for the log and for `posthouse doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The backend's name.
    pub backend: &'static str,
    /// The layout.
    pub layout: Layout,
    /// I/O workers.
    pub io_workers: usize,
    /// Why this backend.
    pub reason: String,
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
    #[cfg(any(target_os = "linux", windows))]
    Real(Arc<NativePort>),
    Simulated(Arc<sim::SimPort>),
}

macro_rules! each {
    ($self:expr, $port:ident => $call:expr) => {
        match &$self.kind {
            #[cfg(any(target_os = "linux", windows))]
            PortKind::Real($port) => $call,
            PortKind::Simulated($port) => $call,
        }
    };
}

impl CompletionPort {
    /// Opens a port, and says which backend it got and why.
    pub fn open(backend: Backend, options: &Options) -> io::Result<(Self, Selected)> {
        assert!((1..=256).contains(&options.io_workers), "1 to 256 I/O workers");
        assert!(options.accepts > 0, "a listener awaits one peer at least");
        if let Backend::Simulation(network) = &backend {
            let layout = options.layout.unwrap_or(Layout::Pinned);
            let kind = PortKind::Simulated(sim::SimPort::open(network.clone(), layout, options));
            let selected = selected("simulation", layout, options, "asked for".to_owned());
            return Ok((Self { kind }, selected));
        }
        let by_environment = matches!(backend, Backend::Auto);
        let asked_for =
            if by_environment { format!("{VARIABLE} asks for it") } else { "asked for".to_owned() };
        let forced = match backend {
            Backend::Auto => environment()?,
            forced => forced,
        };
        let named = |error: io::Error| {
            if by_environment { with_text(&error, format!("{error} ({asked_for})")) } else { error }
        };
        match forced {
            Backend::Auto => Self::open_best(options),
            Backend::Iocp => Self::on_iocp(options, asked_for.clone()).map_err(named),
            Backend::Uring => Self::on_uring(options, asked_for.clone()).map_err(named),
            Backend::Readiness => Self::on_readiness(options, asked_for.clone()).map_err(named),
            Backend::Simulation(_) => unreachable!("not a real one"),
        }
    }

    #[cfg(target_os = "linux")]
    fn open_best(options: &Options) -> io::Result<(Self, Selected)> {
        if options.layout == Some(Layout::Shared) {
            return Self::on_readiness(options, "io_uring has no shared layout".to_owned());
        }
        Self::on_uring(options, "probed: it works".to_owned()).or_else(|why| {
            Self::on_readiness(options, why.to_string())
                .map_err(|error| with_text(&error, format!("{error}; {why}")))
        })
    }

    #[cfg(target_os = "linux")]
    fn on_readiness(options: &Options, why: String) -> io::Result<(Self, Selected)> {
        let layout = options.layout.unwrap_or(Layout::Pinned);
        let explained =
            |error: io::Error| with_text(&error, format!("no epoll: {}", sys::explained(&error)));
        let host = NativePort::on_readiness(layout, options).map_err(explained)?;
        Ok((Self { kind: PortKind::Real(host) }, selected("readiness", layout, options, why)))
    }

    #[cfg(target_os = "linux")]
    fn on_uring(options: &Options, why: String) -> io::Result<(Self, Selected)> {
        if options.layout == Some(Layout::Shared) {
            let text = "the uring backend has no shared layout: ask for the pinned one, or for \
                        the readiness backend";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let host = uring::probe()
            .and_then(|()| NativePort::on_uring(options))
            .map_err(|error| with_text(&error, format!("no io_uring: {error}")))?;
        Ok((Self { kind: PortKind::Real(host) }, selected("uring", Layout::Pinned, options, why)))
    }

    #[cfg(windows)]
    fn open_best(options: &Options) -> io::Result<(Self, Selected)> {
        Self::on_iocp(options, "probed: it works".to_owned())
    }

    #[cfg(windows)]
    fn on_iocp(options: &Options, why: String) -> io::Result<(Self, Selected)> {
        let layout = options.layout.unwrap_or(Layout::Shared);
        let host = iocp::probe()
            .and_then(|()| NativePort::on_iocp(layout, options))
            .map_err(|error| with_text(&error, format!("no completion port: {error}")))?;
        Ok((Self { kind: PortKind::Real(host) }, selected("iocp", layout, options, why)))
    }

    #[cfg(not(any(target_os = "linux", windows)))]
    fn open_best(_: &Options) -> io::Result<(Self, Selected)> {
        unsupported("a backend but simulation", "another system")
    }

    #[cfg(not(windows))]
    fn on_iocp(_: &Options, _: String) -> io::Result<(Self, Selected)> {
        unsupported("the iocp backend", "Windows")
    }

    #[cfg(not(target_os = "linux"))]
    fn on_uring(_: &Options, _: String) -> io::Result<(Self, Selected)> {
        unsupported("the uring backend", "Linux")
    }

    #[cfg(not(target_os = "linux"))]
    fn on_readiness(_: &Options, _: String) -> io::Result<(Self, Selected)> {
        unsupported("the readiness backend", "Linux")
    }

    /// How many lanes there are: the I/O workers when pinned, one when shared.
    pub fn lanes(&self) -> usize {
        each!(self, port => port.lanes())
    }

    /// Binds a listener. Register it with [`Lane::adopt_listener`].
    pub fn listen(&self, address: Address, options: ListenOptions) -> io::Result<Listener> {
        each!(self, port => port.listen(address, options))
    }

    /// Looks a name up and waits for it, outside of workers (asserted): for listeners. Connections
    /// use [`Op::Resolve`](crate::Op::Resolve).
    pub fn look_up(&self, name: &Name) -> io::Result<Vec<Address>> {
        assert!(!crate::on_worker(), "a look-up blocks: it cannot be made on a worker");
        each!(self, port => port.look_up(name))
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

    /// Starts a background worker: a thread without a lane (jobs, the watchdog). Its step is given
    /// the time, and it sleeps until its time is over or [`wake_background`](Self::wake_background)
    /// is called.
    pub fn spawn_background(
        &self,
        name: &str,
        step: impl FnMut(Duration) -> Turn + Send + 'static,
    ) -> io::Result<()> {
        each!(self, port => port.spawn_background(name, Box::new(step)))
    }

    /// Wakes a lane's worker (shared: one of them). Coalesced; a system call only where it sleeps.
    /// A wake-up that comes while the worker runs makes its next sleep return at once.
    pub fn wake(&self, lane: LaneId) {
        each!(self, port => port.wake(lane));
    }

    /// Wakes all background workers.
    pub fn wake_background(&self) {
        each!(self, port => port.wake_background());
    }

    /// Time since the port was opened.
    pub fn now(&self) -> Duration {
        each!(self, port => port.now())
    }

    /// A random number: from the system, in simulation from the seed.
    pub fn random(&self) -> u64 {
        each!(self, port => port.random())
    }

    /// Returns a [`Notify`], to wait with outside of workers.
    pub fn notify(&self) -> Notify {
        each!(self, port => port.notify())
    }

    /// Returns the port's counters: operations, sockets, buffers.
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
