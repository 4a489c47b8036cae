//! A running instance: it can listen and connect at once.

use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use posthouse_io::{Address, LaneId};

use crate::builder::Builder;
use crate::close::{Close, Outcome};
use crate::core::Core;
use crate::error::{ConnectError, SendError, WouldDeadlock};
use crate::group::Group;
use crate::handler::Handler;
use crate::id::PeerId;
use crate::mailbox::{PeerPost, Post};
use crate::message::Ticket;
use crate::options::{Layout, Options};
use crate::peer::Peer;
use crate::registry::PeerInfo;
use crate::stats::Stats;
use crate::sync::{Arc, Weak};
use crate::target::Target;

/// A handle on a running instance: `Clone + Send + Sync`. Every call is safe from every thread and
/// from every callback.
///
/// When the last handle is dropped the endpoint shuts down by itself, and nobody waits for it.
pub struct Endpoint<S = ()> {
    core: Arc<Core<S>>,
    /// `None`: a handle made while the last one was being dropped; it keeps nothing running.
    guard: Option<Arc<Guard<S>>>,
}

/// Dropped with the last handle.
pub(crate) struct Guard<S> {
    core: Weak<Core<S>>,
    close_timeout: Duration,
    shut: fn(&Core<S>, Duration),
}

impl<S> Drop for Guard<S> {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            (self.shut)(&core, self.close_timeout);
        }
    }
}

impl<S> Clone for Endpoint<S> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), guard: self.guard.clone() }
    }
}

impl<S> fmt::Debug for Endpoint<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("backend", &self.core.choice.backend)
            .field("listening", &self.core.accepting.addresses())
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Begins to build an endpoint around a handler.
    pub fn builder<H: Handler>(handler: H) -> Builder<H> {
        Builder::new(handler)
    }
}

impl<S: Default + Send + 'static> Endpoint<S> {
    /// The first handle.
    pub(crate) fn first(core: Arc<Core<S>>) -> Self {
        let guard = Arc::new(Guard {
            core: Arc::downgrade(&core),
            close_timeout: core.close_timeout(),
            shut: Core::begin_shutdown,
        });
        let set = core.guard.set(Arc::downgrade(&guard));
        assert!(set.is_ok(), "an endpoint has one first handle");
        Self { core, guard: Some(guard) }
    }

    /// A handle made inside.
    pub(crate) fn of(core: &Arc<Core<S>>) -> Self {
        Self { core: core.clone(), guard: core.guard.get().and_then(Weak::upgrade) }
    }

    /// The addresses that it listens on, in the order in which they were given, with the ports
    /// that the system chose where 0 was asked for.
    pub fn addresses(&self) -> &[Address] {
        self.core.accepting.addresses()
    }

    /// The name of the backend that does the I/O.
    pub fn backend(&self) -> &'static str {
        self.core.choice.backend
    }

    /// Why this backend does it.
    pub fn backend_reason(&self) -> &str {
        &self.core.choice.reason
    }

    /// How connections and workers come together: pinned or shared.
    pub fn layout(&self) -> Layout {
        match self.core.choice.layout {
            posthouse_io::Layout::Pinned => Layout::Pinned,
            posthouse_io::Layout::Shared => Layout::Shared,
        }
    }

    /// The options that it runs with.
    pub fn options(&self) -> &Options {
        &self.core.options
    }

    /// Begins a connection. It comes up, or does not, later: the handler's
    /// [`connected`](Handler::connected) or [`unreachable`](Handler::unreachable) tells. The id
    /// names it from now on, so that it can also be given up with [`close`](Self::close).
    pub fn connect(&self, target: Target) -> Result<PeerId, ConnectError> {
        if target.credential.len() > posthouse_wire::MAX_CREDENTIAL_BYTES {
            return Err(ConnectError::CredentialTooLong);
        }
        let id = self.core.registry.allocate().ok_or(ConnectError::TooMany)?;
        // Asked after the slot was taken: a shutdown that begins later waits for this connection.
        if self.core.life.shutdown_deadline().is_some() {
            self.core.registry.release(id);
            self.core.wake_all(); // a worker may have waited for this slot
            return Err(ConnectError::Shutdown);
        }
        let rules = self.core.rules.for_target(&target, &self.core.options);
        let connect = PeerPost::Connect { target: Box::new(target), rules };
        if self.core.post_bounded(id, connect).is_err() {
            self.core.registry.release(id);
            return Err(ConnectError::Shutdown);
        }
        Ok(id)
    }

    /// Sends a message to a connection. For one connection, what one thread sends leaves in the
    /// order of its calls.
    ///
    /// # Errors
    ///
    /// At once, and then nothing was sent: the connection is not (or no longer) up, its queue is
    /// full, or the message cannot be sent on it.
    pub fn send(&self, peer: PeerId, kind: u8, payload: &[u8]) -> Result<(), SendError> {
        let gate = self.core.registry.gate(peer).ok_or(SendError::NotConnected)?;
        let spoken = gate.spoken(peer.generation())?;
        let rules = self.core.rules.get(spoken.rules).ok_or(SendError::NotConnected)?;
        let mut frame = Vec::with_capacity(payload.len() + 16);
        rules.encode(kind, payload, (spoken.hello, spoken.payload_bytes_max), &mut frame)?;
        let bytes = frame.len();
        gate.reserve(peer.generation(), bytes, self.core.options.send_queue_bytes)?;
        let posted = self.core.post(peer, PeerPost::Frame(frame));
        if posted.is_err() {
            gate.give_back(peer.generation(), bytes);
        }
        posted
    }

    /// Runs something on a connection's strand, where its state can be reached: to give it a
    /// request ([`Peer::request`]), to look at its state, to do two things in one turn.
    ///
    /// **A connection that ends before it is its turn drops the task unrun**, with everything that
    /// was moved into it: do not move in what must not be lost.
    ///
    /// # Errors
    ///
    /// [`SendError::NotConnected`] where the connection is not up, [`SendError::Busy`] where too
    /// much posted work waits.
    #[doc(alias = "spawn")]
    pub fn run(
        &self,
        peer: PeerId,
        task: impl FnOnce(&mut Peer<'_, S>) -> Outcome + Send + 'static,
    ) -> Result<(), SendError> {
        let gate = self.core.registry.gate(peer).ok_or(SendError::NotConnected)?;
        gate.spoken(peer.generation())?;
        self.core.post(peer, PeerPost::Run(Box::new(task)))
    }

    /// Answers a request, from any thread and any callback: what [`Peer::reply`] does on the strand
    /// of the connection that asked.
    ///
    /// # Errors
    ///
    /// [`SendError::NotConnected`] where the connection that asked is gone, [`SendError::Busy`]
    /// where too much posted work waits.
    pub fn reply(&self, ticket: Ticket, kind: u8, payload: &[u8]) -> Result<(), SendError> {
        let payload = payload.to_vec();
        self.run(ticket.peer(), move |peer| {
            peer.reply(ticket, kind, &payload);
            Ok(())
        })
    }

    /// Refuses a request, from any thread and any callback.
    ///
    /// # Errors
    ///
    /// As [`reply`](Self::reply).
    pub fn refuse(&self, ticket: Ticket, text: &str) -> Result<(), SendError> {
        let text = text.to_owned();
        self.run(ticket.peer(), move |peer| {
            peer.refuse(ticket, &text);
            Ok(())
        })
    }

    /// Closes a connection, or gives up one that is being made.
    ///
    /// # Errors
    ///
    /// [`SendError::NotConnected`] where it is gone already, [`SendError::Busy`] where too much
    /// posted work waits.
    pub fn close(&self, peer: PeerId, close: Close) -> Result<(), SendError> {
        if !self.core.registry.is_current(peer) {
            return Err(SendError::NotConnected);
        }
        self.core.post(peer, PeerPost::Close(close))
    }

    /// What is known of a connection that is up.
    pub fn peer(&self, peer: PeerId) -> Option<PeerInfo> {
        self.core.registry.info(peer, self.core.port.now())
    }

    /// All connections that are up: a snapshot.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.core.registry.infos(self.core.port.now())
    }

    /// The group of this name; it is made where there is none.
    pub fn group(&self, name: &str) -> Group<S> {
        Group { core: self.core.clone(), members: self.core.groups.named(name) }
    }

    /// The group of all connections.
    pub fn everyone(&self) -> Group<S> {
        Group { core: self.core.clone(), members: self.core.everyone.clone() }
    }

    /// Runs something after this time, on an I/O worker, off every strand.
    ///
    /// # Errors
    ///
    /// [`SendError::NotConnected`] once the endpoint shuts down, [`SendError::Busy`] where too much
    /// posted work waits.
    pub fn after(
        &self,
        delay: Duration,
        task: impl FnOnce(&Endpoint<S>) + Send + 'static,
    ) -> Result<(), SendError> {
        if self.core.life.shutdown_deadline().is_some() {
            return Err(SendError::NotConnected);
        }
        let at = self.core.port.now().saturating_add(delay);
        let post = Post::At(at, Box::new(task));
        self.core.post_to_lane(LaneId(0), post, self.core.options.tuning.max_posts)
    }

    /// Runs something again and again, the first time after one period, until it says
    /// [`ControlFlow::Break`] or the endpoint shuts down. The next period begins when the run ends.
    ///
    /// # Errors
    ///
    /// As [`after`](Self::after).
    #[doc(alias = "timer")]
    #[doc(alias = "interval")]
    pub fn every(
        &self,
        period: Duration,
        mut task: impl FnMut(&Endpoint<S>) -> ControlFlow<()> + Send + 'static,
    ) -> Result<(), SendError> {
        self.after(period, move |endpoint| {
            if task(endpoint).is_continue() {
                // Refused only when the endpoint shuts down, which ends the repetition as well.
                let _ = endpoint.every(period, task);
            }
        })
    }

    /// The time since the endpoint started. In simulation it is virtual.
    pub fn now(&self) -> Duration {
        self.core.port.now()
    }

    /// Figures.
    pub fn stats(&self) -> Stats {
        let core = &self.core;
        let (counters, connections) = (core.port.counters(), core.registry.connections());
        Stats::new(&core.stats, counters, connections, core.assembly.bytes())
    }

    /// Begins the end, from anywhere, and returns: accepting stops, every connection is closed
    /// gracefully, and what is left when the time is over is aborted. A later call can only bring
    /// the end forward.
    ///
    /// A connection that a disk holds, or a look-up, is given up ten seconds after that: its
    /// handler is told, and the system may keep what it was asked for (see [`wait`](Self::wait)).
    pub fn shutdown(&self, timeout: Duration) {
        self.core.begin_shutdown(timeout);
    }

    /// Waits until the endpoint has ended and nothing of it is left: no thread, no handle.
    ///
    /// Only where a disk hangs (a file server that is gone) something is: operations that do not
    /// end, with their memory, their file and the thread that waits for each. They are logged as
    /// leaked, and they are what [`operations_completed`](Stats::operations_completed) lacks.
    ///
    /// # Errors
    ///
    /// In a callback, where it would wait for itself.
    pub fn wait(&self) -> Result<(), WouldDeadlock> {
        if posthouse_io::on_worker() {
            return Err(WouldDeadlock);
        }
        let life = &self.core.life;
        life.bell.wait(None, || life.is_over().then_some(()));
        let drained = self.core.port.drain(Duration::from_secs(10));
        if drained.leaked > 0 || drained.workers > 0 {
            tracing::error!(?drained, "the system still holds something: it is leaked");
        }
        Ok(())
    }

    /// Whether everything of it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.core.life.is_over()
    }

    pub(crate) fn bell(&self) -> &posthouse_io::Bell {
        &self.core.life.bell
    }
}
