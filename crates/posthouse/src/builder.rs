//! The builder of an endpoint.

use std::time::Duration;

use posthouse_io::sim::Network;
use posthouse_io::{CompletionPort, LaneId};

use crate::endpoint::Endpoint;
use crate::error::StartError;
use crate::handler::Handler;
use crate::listener::Listener;
use crate::options::{EndpointOptions, Tuning};
use crate::shared::Shared;
use crate::sync::Arc;
use crate::watchdog::{CallbackMarker, Watchdog};
use crate::worker::{PinnedWorker, SharedWorker, run_step};

/// The listeners and options of an endpoint that has not started.
/// [`Endpoint::builder`](crate::Endpoint::builder) makes it.
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

    /// Adds a listener: an address with the native framing (`"127.0.0.1:9990"`), or a [`Listener`].
    /// Each call adds another listener. An endpoint without a listener is a client.
    /// [`Endpoint::listen`] adds listeners while the endpoint runs.
    #[must_use]
    pub fn listen(mut self, listener: impl Into<Listener>) -> Self {
        self.listeners.push(listener.into());
        self
    }

    /// Sets the options of the endpoint. Default: [`EndpointOptions::default`].
    #[must_use]
    pub fn options(mut self, options: EndpointOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the tuning options of the endpoint. Default: [`Tuning::default`].
    #[must_use]
    pub fn tuning(mut self, tuning: Tuning) -> Self {
        self.tuning = tuning;
        self
    }

    /// Runs the endpoint in a simulated network.
    pub(crate) fn network(mut self, network: Network) -> Self {
        self.network = Some(network);
        self
    }

    /// Binds the listeners and starts the workers.
    ///
    /// # Errors
    ///
    /// [`StartError::Options`] for an option out of its bounds, [`StartError::Listen`] for a
    /// listener that cannot be opened, [`StartError::System`] if the system has no resources for
    /// the completion port or the workers. After an error nothing is left running.
    pub fn start(self) -> Result<Endpoint<H>, StartError> {
        self.options.validate()?;
        self.tuning.validate()?;
        let backend = self.options.io_backend(self.network);
        let io = self.options.io(&self.tuning);
        let (port, selected) = CompletionPort::open(backend, &io).map_err(StartError::System)?;
        tracing::info!(
            backend = selected.backend,
            layout = %selected.layout,
            io_workers = selected.io_workers,
            reason = selected.reason,
            "completion port open"
        );
        let shared = Arc::new_cyclic(|shared| {
            Shared::new((port, selected), self.options, self.tuning, shared)
        });
        let started = start(&shared, self.handler, self.listeners);
        if started.is_err() {
            shared.listeners.clear();
        }
        started
    }
}

fn start<H: Handler>(
    shared: &Arc<Shared>,
    handler: H,
    listeners: Vec<Listener>,
) -> Result<Endpoint<H>, StartError> {
    let endpoint = Endpoint::first(shared.clone(), handler);
    for listener in listeners {
        endpoint.listen(listener)?;
    }
    let endpoint = endpoint.guarded();
    spawn_workers(shared)?;
    Ok(endpoint)
}

/// Starts the workers. If one cannot be started, ends those that run and waits for their end.
fn spawn_workers(shared: &Arc<Shared>) -> Result<(), StartError> {
    let workers = shared.selected.io_workers;
    let markers: Vec<Arc<CallbackMarker>> = (0..workers).map(|_| Arc::default()).collect();
    for (number, marker) in markers.iter().enumerate() {
        let name = format!("posthouse-io-{number}");
        let shared = shared.clone();
        let marker = marker.clone();
        let port = shared.port.clone();
        let spawned = if shared.strands.is_some() {
            let mut worker = SharedWorker::new(shared.clone(), marker);
            port.spawn(LaneId(0), &name, move |lane| run_step(&mut worker, lane))
        } else {
            let lane = LaneId(number as u16);
            let mut worker = PinnedWorker::new(shared.clone(), lane, marker);
            port.spawn(lane, &name, move |lane| run_step(&mut worker, lane))
        };
        if let Err(error) = spawned {
            shared.begin_shutdown(Duration::ZERO);
            (number..workers).for_each(|_| shared.worker_ended());
            shared.wait_for_end();
            return Err(StartError::System(error));
        }
    }
    // In simulation no time passes while a callback runs, so no callback can run too long. A
    // watchdog that logs nothing still lets other workers run the timers of the endpoint.
    let logs = shared.options.handler_overrun_ms > 0;
    if (logs || workers > 1) && shared.selected.backend != "simulation" {
        let limit = Duration::from_millis(shared.options.handler_overrun_ms);
        let limit = if logs { limit } else { Duration::MAX };
        let mut watchdog = Watchdog::new(markers, limit, Arc::downgrade(shared));
        let watching =
            shared.port.spawn_background("posthouse-watchdog", move |now| watchdog.step(now));
        if let Err(error) = watching {
            tracing::warn!(%error, "cannot start the watchdog: slow callbacks are not logged");
        }
    }
    Ok(())
}
