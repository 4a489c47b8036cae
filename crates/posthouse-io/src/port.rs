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
#[cfg(target_os = "linux")]
use crate::native::threads;
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

/// The system that performs the operations.
#[derive(Clone, Debug, Default)]
pub enum Backend {
    /// The backend that the environment variable `POSTHOUSE_BACKEND` names (`auto`, `iocp`,
    /// `uring`, `readiness`). Without the variable, or with `auto`, it is the best one that this
    /// machine offers, probed with a real operation.
    #[default]
    Auto,
    /// I/O completion ports (Windows).
    Iocp,
    /// io_uring (Linux), in the pinned layout only.
    Uring,
    /// epoll and non-blocking calls (Linux).
    Readiness,
    /// A simulated network in virtual time.
    Simulation(sim::Network),
}

/// The environment variable that names the backend if the caller leaves the choice to the port.
const VARIABLE: &str = "POSTHOUSE_BACKEND";

/// Returns the backend that the environment variable names.
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

/// Returns an error of the same kind with another text.
fn with_text(error: &io::Error, text: String) -> io::Error {
    io::Error::new(error.kind(), text)
}

fn selected(backend: &'static str, layout: Layout, options: &Options, reason: String) -> Selected {
    Selected { backend, layout, io_workers: options.io_workers, reason }
}

/// Returns the error for a backend that this system does not have.
fn unsupported(what: &str, needs: &str) -> io::Result<(CompletionPort, Selected)> {
    let text = format!("{what} needs {needs}: use \"auto\"");
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

/// The selected backend and the reason, for the log and for `posthouse doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The backend's name: `iocp`, `uring`, `readiness` or `simulation`.
    pub backend: &'static str,
    /// The layout.
    pub layout: Layout,
    /// The number of I/O workers.
    pub io_workers: usize,
    /// The reason for the selection, as a text for people.
    pub reason: String,
}

/// Returns the number of threads that this machine can run at once, at least 1.
pub fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A completion port. Clones are handles of the same port, and all threads may use them.
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
    /// Opens a port and returns it with the selected backend and the reason for the selection.
    ///
    /// [`Backend::Auto`] falls back from io_uring to readiness if io_uring is refused. A named
    /// backend does not fall back.
    ///
    /// # Errors
    ///
    /// The backend does not exist on this system, does not support the layout, or failed its probe.
    /// `POSTHOUSE_BACKEND` has an unknown value.
    ///
    /// # Panics
    ///
    /// Panics unless `options.io_workers` is 1 to 256 and `options.accepts` is at least 1.
    ///
    /// # Examples
    ///
    /// ```
    /// use posthouse_io::{Backend, CompletionPort, LaneId, Options, Turn, sim};
    /// use std::time::Duration;
    ///
    /// let network = sim::Network::new(1);
    /// let options = Options::default();
    /// let (port, selected) = CompletionPort::open(Backend::Simulation(network), &options)?;
    /// assert_eq!(selected.backend, "simulation");
    /// port.spawn(LaneId(0), "worker", |_lane| Turn::Done)?;
    /// assert_eq!(port.drain(Duration::from_secs(1)).workers, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn open(backend: Backend, options: &Options) -> io::Result<(Self, Selected)> {
        assert!((1..=256).contains(&options.io_workers), "1 to 256 I/O workers");
        assert!(options.accepts > 0, "a listener awaits at least one peer");
        if let Backend::Simulation(network) = &backend {
            let layout = options.layout.unwrap_or(Layout::Pinned);
            let kind = PortKind::Simulated(sim::SimPort::open(network.clone(), layout, options));
            let selected = selected("simulation", layout, options, "requested".to_owned());
            return Ok((Self { kind }, selected));
        }
        let by_environment = matches!(backend, Backend::Auto);
        let asked_for = if by_environment {
            format!("requested by {VARIABLE}")
        } else {
            "requested".to_owned()
        };
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
        let explained = |error: io::Error| {
            with_text(&error, format!("cannot use epoll: {}", sys::explained(&error)))
        };
        let host = NativePort::on_readiness(layout, options).map_err(explained)?;
        Ok((Self { kind: PortKind::Real(host) }, selected("readiness", layout, options, why)))
    }

    #[cfg(target_os = "linux")]
    fn on_uring(options: &Options, why: String) -> io::Result<(Self, Selected)> {
        if options.layout == Some(Layout::Shared) {
            let text = "the uring backend has no shared layout: use the pinned layout, or the \
                        readiness backend";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        // The end of a ring interrupts blocking calls of the thread that made the ring, so no ring
        // is made on the caller's thread.
        let open = || uring::probe().and_then(|()| NativePort::on_uring(options));
        let host = threads::on_own_thread("posthouse-setup", open)
            .map_err(|error| with_text(&error, format!("cannot use io_uring: {error}")))?;
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
            .map_err(|error| with_text(&error, format!("cannot use a completion port: {error}")))?;
        Ok((Self { kind: PortKind::Real(host) }, selected("iocp", layout, options, why)))
    }

    #[cfg(not(any(target_os = "linux", windows)))]
    fn open_best(_: &Options) -> io::Result<(Self, Selected)> {
        unsupported("every backend but the simulation", "Linux or Windows")
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

    /// Returns the number of lanes: one per I/O worker if pinned, one if shared.
    pub fn lanes(&self) -> usize {
        each!(self, port => port.lanes())
    }

    /// Binds a listener and starts listening. Register it with [`Lane::adopt_listener`].
    ///
    /// # Errors
    ///
    /// The system's error, for example [`AddrInUse`](io::ErrorKind::AddrInUse).
    pub fn listen(&self, address: Address, options: ListenOptions) -> io::Result<Listener> {
        each!(self, port => port.listen(address, options))
    }

    /// Looks up a name and blocks until the result is there, for the addresses of listeners.
    /// Connections use [`Op::Resolve`](crate::Op::Resolve).
    ///
    /// # Errors
    ///
    /// The system's error if the look-up failed, and [`TimedOut`](io::ErrorKind::TimedOut) if it
    /// lasts longer than 10 seconds.
    ///
    /// # Panics
    ///
    /// Panics on a worker, which must not block.
    pub fn look_up(&self, name: &Name) -> io::Result<Vec<Address>> {
        assert!(!crate::on_worker(), "a look-up blocks: do not call it on a worker");
        each!(self, port => port.look_up(name))
    }

    /// Starts an I/O worker on a lane: exactly one per lane if pinned, any number if shared.
    ///
    /// `name` is the name of the thread. The port calls `step` until it returns [`Turn::Done`].
    ///
    /// # Errors
    ///
    /// The system's error if it cannot start a thread.
    ///
    /// # Panics
    ///
    /// Panics if there is no such lane, or if the layout is pinned and the lane has a worker.
    pub fn spawn(
        &self,
        lane: LaneId,
        name: &str,
        step: impl FnMut(&mut Lane) -> Turn + Send + 'static,
    ) -> io::Result<()> {
        each!(self, port => port.spawn(lane, name, Box::new(step)))
    }

    /// Starts a background worker: a thread without a lane (for jobs and the watchdog). The port
    /// passes the present time to `step`. [`Turn::Sleep`] lasts until its time is over or
    /// [`wake_background`](Self::wake_background) is called.
    ///
    /// # Errors
    ///
    /// The system's error if it cannot start a thread.
    pub fn spawn_background(
        &self,
        name: &str,
        step: impl FnMut(Duration) -> Turn + Send + 'static,
    ) -> io::Result<()> {
        each!(self, port => port.spawn_background(name, Box::new(step)))
    }

    /// Checks that the caller may post to the port's workers. Every thread may, except in
    /// simulation.
    ///
    /// # Panics
    ///
    /// Panics in simulation if the world belongs to another thread.
    pub fn assert_owned(&self) {
        if let PortKind::Simulated(port) = &self.kind {
            port.assert_owned();
        }
    }

    /// Wakes the worker of a lane, or one of its workers if the lane is shared. Wake-ups are
    /// coalesced, and only one to a sleeping worker costs a system call. A wake-up during a step
    /// makes the worker's next sleep return at once.
    pub fn wake(&self, lane: LaneId) {
        each!(self, port => port.wake(lane));
    }

    /// Wakes all background workers.
    pub fn wake_background(&self) {
        each!(self, port => port.wake_background());
    }

    /// Returns the maximum number of descriptors of this process; `None` if there is no such limit
    /// (on Windows, in simulation).
    pub fn max_descriptors(&self) -> Option<u64> {
        match &self.kind {
            #[cfg(any(target_os = "linux", windows))]
            PortKind::Real(_) => crate::sys::max_descriptors(),
            PortKind::Simulated(_) => None,
        }
    }

    /// Returns the time since the port was opened.
    pub fn now(&self) -> Duration {
        each!(self, port => port.now())
    }

    /// Returns a random number, from the system or, in simulation, from the seed.
    pub fn random(&self) -> u64 {
        each!(self, port => port.random())
    }

    /// Returns a [`Notify`] with which threads outside of the workers wait.
    pub fn notify(&self) -> Notify {
        each!(self, port => port.notify())
    }

    /// Returns the port's counters: operations, sockets, buffers.
    pub fn counters(&self) -> Counters {
        each!(self, port => port.counters())
    }

    /// Waits until every worker has ended, and joins its thread, for at most `timeout`.
    ///
    /// # Panics
    ///
    /// Panics on a worker, which would wait for itself.
    pub fn drain(&self, timeout: Duration) -> Drained {
        assert!(!crate::on_worker(), "drain waits for all workers: do not call it on a worker");
        each!(self, port => port.drain(timeout))
    }
}
