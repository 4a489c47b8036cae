//! From a handler to a running endpoint.

use std::time::Duration;

use posthouse_io::sim::Network;
use posthouse_io::{CompletionPort, LaneId};

use crate::core::Core;
use crate::endpoint::Endpoint;
use crate::error::StartError;
use crate::handler::Handler;
use crate::listener::Listener;
use crate::options::{EndpointOptions, Tuning};
use crate::sync::Arc;
use crate::watch::{Watch, Watchdog};
use crate::worker::{PinnedWorker, SharedWorker};

/// An endpoint to be started. From [`Endpoint::builder`](crate::Endpoint::builder).
#[derive(Debug)]
pub struct Builder<H> {
    handler: H,
    listeners: Vec<Listener>,
    options: EndpointOptions,
    tuning: Tuning,
    network: Option<Network>,
}

impl<H: Handler> Builder<H> {
    pub(crate) fn new(handler: H) -> Self {
        let (options, tuning) = <(EndpointOptions, Tuning)>::default();
        Self { handler, listeners: Vec::new(), options, tuning, network: None }
    }

    /// Listens on an address with the native framing (`"127.0.0.1:9990"`), or as a [`Listener`]
    /// says. It can be called several times; an endpoint without a listener is a client. More can
    /// be added while it runs: [`Endpoint::listen`].
    #[must_use]
    pub fn listen(mut self, listener: impl Into<Listener>) -> Self {
        self.listeners.push(listener.into());
        self
    }

    /// Sets the options. Default: [`EndpointOptions::default`].
    #[must_use]
    pub fn options(mut self, options: EndpointOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the options for tuners. Default: [`Tuning::default`].
    #[must_use]
    pub fn tuning(mut self, tuning: Tuning) -> Self {
        self.tuning = tuning;
        self
    }

    /// Runs in a simulated network.
    pub(crate) fn network(mut self, network: Network) -> Self {
        self.network = Some(network);
        self
    }

    /// Starts: binds the listeners and starts the workers.
    ///
    /// # Errors
    ///
    /// An option out of its bounds, an address that cannot be bound, or a system without room for
    /// the workers. Then nothing is left running.
    pub fn start(self) -> Result<Endpoint<H>, StartError> {
        self.options.validate()?;
        self.tuning.validate()?;
        let (backend, io) = (self.options.backend(self.network), self.options.io(&self.tuning));
        let (port, choice) = CompletionPort::open(backend, &io).map_err(StartError::System)?;
        tracing::info!(
            backend = choice.backend,
            layout = %choice.layout,
            io_workers = choice.io_workers,
            reason = choice.reason,
            "completion port open"
        );
        let core = Arc::new(Core::new((port, choice), self.options, self.tuning));
        let started = start(&core, self.handler, self.listeners);
        if started.is_err() {
            core.accepting.clear();
        }
        started
    }
}

fn start<H: Handler>(
    core: &Arc<Core>,
    handler: H,
    listeners: Vec<Listener>,
) -> Result<Endpoint<H>, StartError> {
    let endpoint = Endpoint::first(core.clone(), handler);
    for listener in listeners {
        endpoint.listen(listener)?;
    }
    let endpoint = endpoint.guarded();
    spawn_workers(core)?;
    Ok(endpoint)
}

/// Starts the workers. If one cannot be started, those that run are ended and awaited.
fn spawn_workers(core: &Arc<Core>) -> Result<(), StartError> {
    let workers = core.choice.io_workers;
    let watches: Vec<Arc<Watch>> = (0..workers).map(|_| Arc::default()).collect();
    for (number, watch) in watches.iter().enumerate() {
        let name = format!("posthouse-io-{number}");
        let (core, watch) = (core.clone(), watch.clone());
        let port = core.port.clone();
        let spawned = if core.strands.is_some() {
            let mut worker = SharedWorker::new(core.clone(), watch);
            port.spawn(LaneId(0), &name, move |lane| worker.step(lane))
        } else {
            let lane = LaneId(number as u16);
            let mut worker = PinnedWorker::new(core.clone(), lane, watch);
            port.spawn(lane, &name, move |lane| worker.step(lane))
        };
        if let Err(error) = spawned {
            core.begin_shutdown(Duration::ZERO);
            (number..workers).for_each(|_| core.worker_ended());
            core.wait_for_end();
            return Err(StartError::System(error));
        }
    }
    // In simulation no time passes while a callback runs: there is nothing to watch.
    if core.options.handler_overrun_ms > 0 && core.choice.backend != "simulation" {
        let limit = Duration::from_millis(core.options.handler_overrun_ms);
        let over = core.life.over().clone();
        let mut watchdog = Watchdog::new(watches, limit, core.stats.clone(), over);
        let watching =
            core.port.spawn_background("posthouse-watchdog", move |now| watchdog.step(now));
        if let Err(error) = watching {
            tracing::warn!(%error, "no watchdog: callbacks that run too long are not named");
        }
    }
    Ok(())
}
