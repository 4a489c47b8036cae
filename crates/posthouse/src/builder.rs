//! From a handler to a running endpoint.

use posthouse_io::sim::Network;
use posthouse_io::{Address, CompletionPort, LaneId, ListenOptions, Listener};
use posthouse_wire::{Framing, Key};

use crate::accepting::Accepting;
use crate::core::{Assembly, Core, Life, Reads};
use crate::endpoint::Endpoint;
use crate::error::StartError;
use crate::group::{Groups, Members};
use crate::handler::Handler;
use crate::known_hashes::KnownHashes;
use crate::log_limit::LogLimit;
use crate::mailbox::Mailbox;
use crate::options::Options;
use crate::registry::Registry;
use crate::rules::{ConnectionRules, RulesTable};
use crate::sync::{Arc, OnceLock};
use crate::watch::{Watch, Watchdog};
use crate::worker::{PinnedWorker, SharedWorker, Strands};
use std::time::Duration;

/// What an endpoint will be. From [`Endpoint::builder`](crate::Endpoint::builder).
#[derive(Debug)]
pub struct Builder<H> {
    handler: H,
    listen: Vec<(String, Framing)>,
    options: Options,
    key: Option<Key>,
    network: Option<Network>,
}

impl<H: Handler> Builder<H> {
    pub(crate) fn new(handler: H) -> Self {
        let options = Options::default();
        Self { handler, listen: Vec::new(), options, key: None, network: None }
    }

    /// Listens on an address with the native framing: `"127.0.0.1:9990"`, `"[::]:9990"`, a
    /// `SocketAddr`. Port 0: the system chooses. It can be called several times; an endpoint
    /// without a listener is a client.
    #[must_use]
    pub fn listen(self, address: impl ToString) -> Self {
        self.listen_with(address, Framing::Native)
    }

    /// Listens on an address with this framing.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "takes what `listen` takes")]
    pub fn listen_with(mut self, address: impl ToString, framing: Framing) -> Self {
        self.listen.push((address.to_string(), framing));
        self
    }

    /// The options. Default: [`Options::default`].
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Demands that every accepted peer proves this key before the handler hears of it. Native
    /// listeners only: the other framings have no place for a proof.
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.key = Some(key);
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
    pub fn start(self) -> Result<Endpoint<H::State>, StartError> {
        self.options.validate().map_err(StartError::Options)?;
        if self.key.is_some()
            && let Some((address, _)) = self.listen.iter().find(|(_, f)| *f != Framing::Native)
        {
            let text = format!("{address}: a key needs the native framing, for its proof");
            return Err(StartError::Options(crate::options::OptionsError::new(text)));
        }
        let (backend, io) = (self.options.io_backend(self.network.clone()), self.options.io());
        let (port, choice) = CompletionPort::open(backend, &io).map_err(StartError::System)?;
        tracing::info!(
            backend = choice.backend,
            layout = %choice.layout,
            io_workers = choice.io_workers,
            reason = choice.reason,
            "completion port open"
        );
        let rules = RulesTable::default();
        let listeners = self.bind(&port, &rules)?;
        let shared = choice.layout == posthouse_io::Layout::Shared;
        let pending = self.options.tuning.pending_reads as u8;
        let (lanes, workers) = (port.lanes(), choice.io_workers);
        let core = Arc::new(Core {
            reads: if shared { Reads::Once(pending) } else { Reads::Stream },
            registry: Registry::new(lanes, self.options.max_connections),
            rules,
            mailboxes: (0..lanes).map(|_| Mailbox::default()).collect(),
            strands: shared.then(|| Strands::new(self.options.max_connections)),
            accepting: Accepting::new(listeners),
            groups: Groups::new(lanes),
            everyone: Members::new("everyone", lanes),
            stats: Arc::default(),
            assembly: Assembly::default(),
            known_hashes: KnownHashes::default(),
            life: Life::new(workers, port.notify()),
            faults_logged: LogLimit::default(),
            given_up_logged: LogLimit::default(),
            guard: OnceLock::new(),
            handler: Box::new(self.handler),
            options: self.options,
            choice,
            port,
        });
        spawn(&core, workers)
    }

    fn bind(
        &self,
        port: &CompletionPort,
        rules: &RulesTable,
    ) -> Result<Vec<(Listener, Arc<ConnectionRules>)>, StartError> {
        let mut listeners = Vec::new();
        for (text, framing) in &self.listen {
            let address: Address = text.parse().map_err(StartError::Address)?;
            let options =
                ListenOptions { backlog: self.options.tuning.backlog, ..ListenOptions::default() };
            let listener = port
                .listen(address, options)
                .map_err(|error| StartError::Listen { address: text.clone(), error })?;
            let rules = rules.for_listener(framing, self.key.as_ref(), &self.options);
            listeners.push((listener, rules));
        }
        Ok(listeners)
    }
}

/// Starts the workers. Where one cannot be started, those that run are ended and awaited.
fn spawn<S: Default + Send + 'static>(
    core: &Arc<Core<S>>,
    workers: usize,
) -> Result<Endpoint<S>, StartError> {
    let endpoint = Endpoint::first(core.clone());
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
            let _ = endpoint.wait();
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
    Ok(endpoint)
}
