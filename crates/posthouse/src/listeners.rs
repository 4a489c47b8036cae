//! The listeners of a running endpoint. A shortage pauses accepting but never ends it, and a peer
//! over a limit is reset, counted and logged.

use std::fmt;
use std::time::Duration;

use posthouse_io::{
    Address, Cancel, Error, Failure, Lane, LaneId, Listener as IoListener, NewSocket, Op, Outcome,
    Socket,
};

use crate::admissions::{Ended, Evicted, Newcomer, Place};
use crate::callbacks::ErasedHandler;
use crate::config::ConnectionConfig;
use crate::contained::{Contained, contain};
use crate::error::ListenError;
use crate::id::{Operation, TAG_GENERATION_MASK, TagOwner, pack};
use crate::mailbox::PeerPost;
use crate::rate_limited_log::RateLimitedLog;
use crate::shared::Shared;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, Weak, lock};

/// The pause of accepting after a shortage of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// The maximum number of listeners at a time.
const MAX_LISTENERS: usize = 65_535;

/// The listeners of an endpoint. They belong to the first lane. The lock is taken when a peer is
/// accepted, never for a message.
#[derive(Default)]
pub(crate) struct Listeners {
    state: Mutex<State>,
    refusals_logged: RateLimitedLog,
    pauses_logged: RateLimitedLog,
    /// The time at which a worker of the first lane polls the listeners, in nanoseconds.
    poll_at_ns: AtomicU64,
}

#[derive(Default)]
struct State {
    slots: Vec<Slot>,
    /// True exactly when the shutdown has closed the listeners, so that no other can be added.
    shut: bool,
}

/// A slot, which one listener after the other uses.
struct Slot {
    generation: u32,
    listening: Listening,
}

enum Listening {
    Free,
    /// The listener is bound, and not yet registered with a lane.
    Bound(IoListener, Accepted),
    Open(Open),
    /// The handle of the listener is being closed.
    Closing,
}

/// The configuration and the handler of accepted connections.
#[derive(Clone)]
pub(crate) struct Accepted {
    pub(crate) config: Arc<ConnectionConfig>,
    pub(crate) handler: Arc<dyn ErasedHandler>,
}

struct Open {
    socket: Socket,
    address: Address,
    accepted: Accepted,
    accept: Accept,
    /// True exactly when the program has stopped the listener.
    stopping: bool,
}

/// The accept of an open listener.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accept {
    InFlight,
    /// The accept will be submitted at this time.
    Due(Duration),
}

const NEVER: u64 = u64::MAX;

impl Listeners {
    /// Adds a bound listener, which a worker then registers.
    pub(crate) fn add(
        &self,
        shared: &Arc<Shared>,
        listener: IoListener,
        accepted: Accepted,
    ) -> Result<ListenerHandle, ListenError> {
        let local_address = listener.local_address();
        let mut state = lock(&self.state);
        if state.shut || shared.lifecycle.shutdown_deadline().is_some() {
            return Err(ListenError::Shutdown);
        }
        let free = state.slots.iter().position(|slot| matches!(slot.listening, Listening::Free));
        let index = match free {
            Some(index) => index,
            None if state.slots.len() >= MAX_LISTENERS => return Err(ListenError::TooMany),
            None => {
                state.slots.push(Slot { generation: 0, listening: Listening::Free });
                state.slots.len() - 1
            }
        };
        let slot = &mut state.slots[index];
        slot.listening = Listening::Bound(listener, accepted);
        let id = ListenerId { slot: index as u32, generation: slot.generation };
        self.poll_at_ns.store(0, Ordering::Release);
        drop(state);
        shared.port.wake(LaneId(0));
        Ok(ListenerHandle { shared: Arc::downgrade(shared), id, local_address })
    }

    /// Stops a listener, unless it is already stopped.
    pub(crate) fn stop(&self, shared: &Shared, id: ListenerId) {
        let mut state = lock(&self.state);
        let slot = &mut state.slots[id.slot as usize];
        if slot.generation != id.generation {
            return;
        }
        match &mut slot.listening {
            Listening::Bound(..) => {
                let bound = slot.free();
                drop(state);
                return bound.drop_contained();
            }
            Listening::Open(open) => open.stopping = true,
            Listening::Free | Listening::Closing => return,
        }
        self.poll_at_ns.store(0, Ordering::Release);
        drop(state);
        shared.port.wake(LaneId(0));
    }

    /// Returns the addresses of the listeners, in the order of their slots.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let state = lock(&self.state);
        let address = |slot: &Slot| match &slot.listening {
            Listening::Bound(listener, _) => Some(listener.local_address()),
            Listening::Open(open) => Some(open.address),
            Listening::Free | Listening::Closing => None,
        };
        state.slots.iter().filter_map(address).collect()
    }

    /// Returns the time at which [`poll`](Self::poll) should be called next.
    pub(crate) fn next_poll_at(&self) -> Option<Duration> {
        match self.poll_at_ns.load(Ordering::Acquire) {
            NEVER => None,
            ns => Some(Duration::from_nanos(ns)),
        }
    }

    /// Registers new listeners, submits due accepts, and closes stopped listeners. In a shutdown it
    /// closes all listeners.
    pub(crate) fn poll(&self, shared: &Shared, lane: &mut Lane) {
        let now = lane.now();
        let shutdown = shared.lifecycle.shutdown_deadline().is_some();
        let mut state = lock(&self.state);
        state.shut |= shutdown;
        let mut next = NEVER;
        let mut closed = Vec::new();
        for (index, slot) in state.slots.iter_mut().enumerate() {
            match slot.poll(index as u32, lane, now, shutdown) {
                Polled::Again(at) => next = next.min(at.as_nanos() as u64),
                Polled::Closed(listening) => closed.push(listening),
                Polled::Nothing => {}
            }
        }
        self.poll_at_ns.store(next, Ordering::Release);
        drop(state);
        closed.into_iter().for_each(Listening::drop_contained);
    }

    /// Handles the completion of a listener's operation.
    pub(crate) fn complete(
        &self,
        shared: &Shared,
        lane: &mut Lane,
        (id, operation): (TagOwner, Operation),
        more: bool,
        outcome: Outcome,
    ) {
        match outcome {
            Outcome::Accepted(new) => self.accept(shared, lane.now(), id, *new),
            Outcome::Failed(error) if operation == Operation::Accept => {
                self.on_failed(shared, lane, id, error);
            }
            Outcome::Closed => drop(Self::slot(&mut lock(&self.state), id).free()),
            other => unreachable!("an accept ended with {other:?}"),
        }
        if !more {
            self.poll(shared, lane);
        }
    }

    /// Returns the slot of a terminal completion. The slot is not reused before the listener is
    /// closed.
    fn slot(state: &mut State, id: TagOwner) -> &mut Slot {
        let slot = &mut state.slots[id.slot as usize];
        assert_eq!(
            slot.generation, id.generation,
            "a listener's slot was reused before its operation ended"
        );
        slot
    }

    fn on_failed(&self, shared: &Shared, lane: &mut Lane, id: TagOwner, error: Error) {
        let mut state = lock(&self.state);
        let Listening::Open(open) = &mut Self::slot(&mut state, id).listening else { return };
        if error.failure == Failure::Cancelled {
            open.accept = Accept::Due(Duration::ZERO);
            return;
        }
        open.accept = Accept::Due(lane.now() + PAUSE);
        drop(state);
        shared.stats.accept_pauses.add(1);
        if let Some(suppressed) = self.pauses_logged.may_log(lane.now()) {
            let pause_ms = PAUSE.as_millis();
            tracing::warn!(%error, pause_ms, suppressed, "cannot accept: accepting pauses");
        }
    }

    fn accept(&self, shared: &Shared, now: Duration, id: TagOwner, new: NewSocket) {
        let peer = new.peer;
        let mut evicted = Vec::new();
        let accepted = self.place(shared, id, peer, &mut evicted);
        shared.evict(&evicted);
        match accepted {
            Ok((Place { id, ticket }, Accepted { config, handler })) => {
                shared.stats.accepted.add(1);
                let callbacks = Some(Contained::new(handler.callbacks()));
                let adopt = PeerPost::Adopt { new, ticket, config, callbacks };
                if shared.post_bounded(id, adopt).is_err() {
                    // The lane has ended, and dropping the post has closed the socket.
                    let accepted_from = Some(shared.prefix_of(peer));
                    shared.release(Ended { id, accepted_from, ticket });
                }
            }
            Err(why) => {
                shared.stats.refused.add(1);
                new.refuse();
                if let Some(suppressed) = self.refusals_logged.may_log(now) {
                    tracing::warn!(%peer, why, suppressed, "refused a new connection");
                }
            }
        }
    }

    /// Gives a peer of a listener a place, or says why not.
    fn place(
        &self,
        shared: &Shared,
        id: TagOwner,
        peer: Address,
        evicted: &mut Vec<Evicted>,
    ) -> Result<(Place, Accepted), &'static str> {
        let state = lock(&self.state);
        if shared.lifecycle.shutdown_deadline().is_some() {
            return Err("the endpoint is shutting down");
        }
        // In the shared layout another worker may have closed the listener since this worker took
        // the completion.
        let slot = state.slots.get(id.slot as usize);
        let slot = slot.filter(|slot| slot.generation == id.generation);
        let accepted = match slot.map(|slot| &slot.listening) {
            Some(Listening::Open(open)) if !open.stopping => open.accepted.clone(),
            _ => return Err("the listener was stopped"),
        };
        let newcomer = Newcomer {
            prefix: shared.prefix_of(peer),
            is_unadmitted: !accepted.config.admits_at_once(),
            is_loopback: peer.is_loopback(),
        };
        let allocate = |spare| shared.registry.allocate(spare);
        let place = shared.admissions.accept(newcomer, evicted, allocate)?;
        Ok((place, accepted))
    }

    /// Returns whether every listener is closed and no other can be added.
    pub(crate) fn is_closed(&self) -> bool {
        let state = lock(&self.state);
        state.shut && state.slots.iter().all(|slot| matches!(slot.listening, Listening::Free))
    }

    /// Drops all listeners of an endpoint that did not start.
    pub(crate) fn clear(&self) {
        let slots = std::mem::take(&mut lock(&self.state).slots);
        for slot in slots {
            slot.listening.drop_contained();
        }
    }
}

/// The result of polling a listener.
enum Polled {
    Nothing,
    /// It must be polled at this time.
    Again(Duration),
    /// It is no longer open. The caller drops what is left of it, without a lock.
    Closed(Listening),
}

impl Listening {
    /// Drops a listener without a lock, because its handler is a value of the program.
    fn drop_contained(self) {
        contain(|| drop(self));
    }
}

impl Slot {
    /// Frees the slot, and returns what was in it.
    #[must_use]
    fn free(&mut self) -> Listening {
        self.generation = (self.generation + 1) & TAG_GENERATION_MASK;
        std::mem::replace(&mut self.listening, Listening::Free)
    }

    /// Takes the steps that are due.
    fn poll(&mut self, index: u32, lane: &mut Lane, now: Duration, shutdown: bool) -> Polled {
        let id = TagOwner { slot: index, generation: self.generation };
        let tag = |operation| pack(id, operation, 0);
        if let Listening::Bound(..) = self.listening {
            let Listening::Bound(listener, accepted) =
                std::mem::replace(&mut self.listening, Listening::Free)
            else {
                unreachable!("just seen");
            };
            if shutdown {
                return Polled::Closed(Listening::Bound(listener, accepted));
            }
            let address = listener.local_address();
            let socket = lane.adopt_listener(listener);
            let accept = Accept::Due(Duration::ZERO);
            self.listening =
                Listening::Open(Open { socket, address, accepted, accept, stopping: false });
        }
        let Listening::Open(open) = &mut self.listening else { return Polled::Nothing };
        match (shutdown || open.stopping, open.accept) {
            (true, Accept::InFlight) => lane.cancel(open.socket, Cancel::Everything),
            (true, Accept::Due(_)) => {
                lane.submit(tag(Operation::CloseListener), Op::Close(open.socket));
                let open = std::mem::replace(&mut self.listening, Listening::Closing);
                return Polled::Closed(open);
            }
            (false, Accept::Due(at)) if at > now => return Polled::Again(at),
            (false, Accept::Due(_)) => {
                open.accept = Accept::InFlight;
                lane.submit(tag(Operation::Accept), Op::Accept(open.socket));
            }
            (false, Accept::InFlight) => {}
        }
        Polled::Nothing
    }
}

/// The handle of a listener of a running endpoint. It does not keep the endpoint running, and
/// dropping it does not stop the listener.
#[derive(Clone)]
pub struct ListenerHandle {
    pub(crate) shared: Weak<Shared>,
    pub(crate) id: ListenerId,
    pub(crate) local_address: Address,
}

/// The slot of a listener and the slot's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl ListenerHandle {
    /// Returns the bound address. If port 0 was requested, it has the port that the system chose.
    pub fn local_address(&self) -> Address {
        self.local_address
    }

    /// Stops listening, from any thread and any callback, without waiting. Accepted connections
    /// continue; peers in the system's queue are reset. A second call has no effect.
    pub fn stop(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.listeners.stop(&shared, self.id);
        }
    }
}

impl fmt::Debug for ListenerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerHandle")
            .field("local_address", &self.local_address)
            .finish_non_exhaustive()
    }
}
