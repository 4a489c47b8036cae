//! Listeners: accepting goes on whatever happens, and what is too much is refused visibly.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use posthouse_io::{
    Address, Cancel, Error, Failure, Lane, Listener, NewSocket, Op, Outcome, Socket,
};

use crate::core::Core;
use crate::id::{Operation, PeerId, pack};
use crate::log_limit::LogLimit;
use crate::mailbox::PeerPost;
use crate::rules::ConnectionRules;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, lock};

/// After a shortage of descriptors accepting pauses for so long.
const PAUSE: Duration = Duration::from_millis(100);

/// The listeners of an endpoint. They belong to the first lane; the lock is taken when a peer
/// comes, never for a message.
pub(crate) struct Accepting {
    addresses: Vec<Address>,
    rules: Vec<Arc<ConnectionRules>>,
    state: Mutex<State>,
    refusals_logged: LogLimit,
    pauses_logged: LogLimit,
    /// When a worker of the first lane should look at the listeners, in nanoseconds.
    look_ns: AtomicU64,
}

struct State {
    listeners: Vec<Listening>,
    by_address: BTreeMap<IpAddr, usize>,
}

enum Listening {
    /// Bound, and not yet registered.
    Bound(Listener),
    /// True with `armed` exactly while an accept is in flight.
    Open {
        socket: Socket,
        armed: bool,
        retry_at: Duration,
    },
    Closing,
    Closed,
}

const NEVER: u64 = u64::MAX;

impl Accepting {
    pub(crate) fn new(listeners: Vec<(Listener, Arc<ConnectionRules>)>) -> Self {
        let addresses = listeners.iter().map(|(listener, _)| listener.local_address()).collect();
        let (listeners, rules) =
            listeners.into_iter().map(|(l, r)| (Listening::Bound(l), r)).unzip();
        let by_address = BTreeMap::new();
        let state = Mutex::new(State { listeners, by_address });
        Self {
            addresses,
            rules,
            state,
            refusals_logged: LogLimit::default(),
            pauses_logged: LogLimit::default(),
            look_ns: AtomicU64::new(0),
        }
    }

    pub(crate) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// When [`look`](Self::look) should be called next.
    pub(crate) fn next_look(&self) -> Option<Duration> {
        match self.look_ns.load(Ordering::Acquire) {
            NEVER => None,
            ns => Some(Duration::from_nanos(ns)),
        }
    }

    /// Registers, arms again, and at the shutdown closes.
    pub(crate) fn look<S>(&self, core: &Core<S>, lane: &mut Lane) {
        let now = lane.now();
        let shutdown = core.life.shutdown_deadline().is_some();
        let mut state = lock(&self.state);
        let mut next = NEVER;
        for (number, listening) in state.listeners.iter_mut().enumerate() {
            if let Some(at) = listening.look(number as u32, lane, now, shutdown) {
                next = next.min(at.as_nanos() as u64);
            }
        }
        self.look_ns.store(next, Ordering::Release);
    }

    /// A completion of a listener's operation.
    pub(crate) fn complete<S: Default + Send + 'static>(
        &self,
        core: &Core<S>,
        lane: &mut Lane,
        (id, operation): (PeerId, Operation),
        more: bool,
        outcome: Outcome,
    ) {
        let number = id.slot() as usize;
        match outcome {
            Outcome::Accepted(new) => self.accept(core, lane.now(), number, *new),
            Outcome::Failed(error) if operation == Operation::Accept => {
                self.on_failed(core, lane, number, error);
            }
            Outcome::Closed => lock(&self.state).listeners[number] = Listening::Closed,
            other => unreachable!("a listener's operation ended in {other:?}"),
        }
        if !more && core.life.shutdown_deadline().is_some() {
            self.look(core, lane);
        }
    }

    fn on_failed<S>(&self, core: &Core<S>, lane: &mut Lane, number: usize, error: Error) {
        let mut state = lock(&self.state);
        let Listening::Open { armed, retry_at, .. } = &mut state.listeners[number] else { return };
        *armed = false;
        if error.failure == Failure::Cancelled {
            return;
        }
        *retry_at = lane.now() + PAUSE;
        self.look_ns.fetch_min(retry_at.as_nanos() as u64, Ordering::AcqRel);
        drop(state);
        core.stats.accept_pauses.add(1);
        if let Some(others_since) = self.pauses_logged.may_log(lane.now()) {
            let pause_ms = PAUSE.as_millis();
            tracing::warn!(%error, pause_ms, others_since, "accepting pauses");
        }
    }

    fn accept<S: Default + Send + 'static>(
        &self,
        core: &Core<S>,
        now: Duration,
        number: usize,
        new: NewSocket,
    ) {
        let ip = new.peer.ip();
        let per_address = core.options.max_connections_per_address;
        let mut state = lock(&self.state);
        let here = state.by_address.get(&ip).copied().unwrap_or(0);
        let why = if core.life.shutdown_deadline().is_some() {
            Some("the endpoint shuts down")
        } else if per_address > 0 && here >= per_address && !ip.is_loopback() {
            Some("max_connections_per_address")
        } else {
            None
        };
        let id = match why {
            Some(why) => Err(why),
            None => core.registry.allocate().ok_or("max_connections"),
        };
        match id {
            Ok(id) => {
                *state.by_address.entry(ip).or_default() += 1;
                drop(state);
                core.stats.accepted.add(1);
                let rules = self.rules[number].clone();
                let adopt = PeerPost::Adopt { new, rules };
                if core.post_bounded(id, adopt).is_err() {
                    // The lane has ended: the socket was closed with the post.
                    core.registry.release(id);
                    self.left(ip);
                }
            }
            Err(why) => {
                drop(state);
                core.stats.refused.add(1);
                let peer = new.peer;
                new.refuse();
                if let Some(others_since) = self.refusals_logged.may_log(now) {
                    tracing::warn!(%peer, why, others_since, "a peer was refused");
                }
            }
        }
    }

    /// Whether every listener is closed.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.state).listeners.iter().all(|listening| matches!(listening, Listening::Closed))
    }

    /// An accepted connection from this address is gone.
    pub(crate) fn left(&self, ip: IpAddr) {
        let mut state = lock(&self.state);
        if let Some(count) = state.by_address.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                state.by_address.remove(&ip);
            }
        }
    }
}

impl Listening {
    /// Does what is due; returns when to look again.
    fn look(
        &mut self,
        number: u32,
        lane: &mut Lane,
        now: Duration,
        shutdown: bool,
    ) -> Option<Duration> {
        let tag = |operation| pack(PeerId::new(number, 0), operation, 0);
        if let Listening::Bound(_) = self {
            let Listening::Bound(listener) = std::mem::replace(self, Listening::Closed) else {
                unreachable!("just seen");
            };
            if shutdown {
                return None;
            }
            let socket = lane.adopt_listener(listener);
            *self = Listening::Open { socket, armed: false, retry_at: Duration::ZERO };
        }
        let Listening::Open { socket, armed, retry_at } = self else { return None };
        let socket = *socket;
        match (shutdown, *armed) {
            (true, true) => lane.cancel(socket, Cancel::Everything),
            (true, false) => {
                *self = Listening::Closing;
                lane.submit(tag(Operation::CloseListener), Op::Close(socket));
            }
            (false, false) if *retry_at > now => return Some(*retry_at),
            (false, false) => {
                *armed = true;
                lane.submit(tag(Operation::Accept), Op::Accept(socket));
            }
            (false, true) => {}
        }
        None
    }
}
