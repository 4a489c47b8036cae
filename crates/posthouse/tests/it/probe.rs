//! A handler that records its callbacks, checks their order (contract C6), and runs the closures
//! that a test sets for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use posthouse::{
    ConnectFailure, DisconnectReason, Endpoint, Handler, HandlerResult, Message, OwnedResponder,
    Peer, PeerId, Responder,
};

/// The state of one connection.
#[derive(Debug, Default)]
pub struct Line {
    pub count: u64,
    pub responders: Vec<OwnedResponder>,
}

type OnPeer = Box<dyn Fn(&mut Peer<'_, Probe>) -> HandlerResult + Send + Sync>;
type OnMessage = Box<dyn Fn(&mut Peer<'_, Probe>, Message<'_>) -> HandlerResult + Send + Sync>;
type OnRequest = Box<
    dyn Fn(&mut Peer<'_, Probe>, Message<'_>, &mut Responder<'_>) -> HandlerResult + Send + Sync,
>;
type OnEnd = Box<dyn Fn(&mut Peer<'_, Probe>, &DisconnectReason) + Send + Sync>;
type OnConnectFailed = Box<dyn Fn(&Endpoint<Probe>) + Send + Sync>;

/// A callback that the handler has got, with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Connected(PeerId),
    Received(PeerId, u8, Vec<u8>),
    Writable(PeerId),
    Disconnected(PeerId, DisconnectReason),
    ConnectFailed(PeerId, DisconnectReason),
}

/// The callbacks that a [`Probe`] has got so far.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    told: Vec<Told>,
    stages: HashMap<PeerId, Stage>,
    faults: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Up,
    /// A callback of the connection runs.
    Inside,
    Gone,
}

#[derive(Default)]
pub struct Probe {
    seen: Seen,
    /// True exactly when messages are checked and not kept.
    forgets_messages: bool,
    connected: Option<OnPeer>,
    received: Option<OnMessage>,
    requested: Option<OnRequest>,
    writable: Option<OnPeer>,
    disconnected: Option<OnEnd>,
    connect_failed: Option<OnConnectFailed>,
}

impl Probe {
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a probe that sends each message back, and answers each request with its payload.
    pub fn echo() -> Self {
        Self::new()
            .on_received(|peer, message| {
                peer.send(message.kind(), message.payload());
                Ok(())
            })
            .on_requested(|_, message, responder| {
                responder.reply(message.kind(), message.payload());
                Ok(())
            })
    }

    pub fn seen(&self) -> Seen {
        self.seen.clone()
    }

    /// Checks messages but does not keep them, for scenarios with many of them.
    pub fn forgetting_messages(mut self) -> Self {
        self.forgets_messages = true;
        self
    }

    pub fn on_connected(
        mut self,
        call: impl Fn(&mut Peer<'_, Probe>) -> HandlerResult + Send + Sync + 'static,
    ) -> Self {
        self.connected = Some(Box::new(call));
        self
    }

    pub fn on_received(
        mut self,
        call: impl Fn(&mut Peer<'_, Probe>, Message<'_>) -> HandlerResult + Send + Sync + 'static,
    ) -> Self {
        self.received = Some(Box::new(call));
        self
    }

    pub fn on_requested(
        mut self,
        call: impl Fn(&mut Peer<'_, Probe>, Message<'_>, &mut Responder<'_>) -> HandlerResult
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.requested = Some(Box::new(call));
        self
    }

    pub fn on_writable(
        mut self,
        call: impl Fn(&mut Peer<'_, Probe>) -> HandlerResult + Send + Sync + 'static,
    ) -> Self {
        self.writable = Some(Box::new(call));
        self
    }

    pub fn on_disconnected(
        mut self,
        call: impl Fn(&mut Peer<'_, Probe>, &DisconnectReason) + Send + Sync + 'static,
    ) -> Self {
        self.disconnected = Some(Box::new(call));
        self
    }

    pub fn on_connect_failed(
        mut self,
        call: impl Fn(&Endpoint<Probe>) + Send + Sync + 'static,
    ) -> Self {
        self.connect_failed = Some(Box::new(call));
        self
    }
}

impl Handler for Probe {
    type State = Line;

    fn connected(&self, peer: &mut Peer<'_, Self>) -> HandlerResult {
        let _inside = self.seen.enter(peer.id(), Some(Told::Connected(peer.id())), true);
        self.connected.as_ref().map_or(Ok(()), |call| call(peer))
    }

    fn received(&self, peer: &mut Peer<'_, Probe>, message: Message<'_>) -> HandlerResult {
        let told = || Told::Received(peer.id(), message.kind(), message.to_vec());
        let told = (!self.forgets_messages).then(told);
        let _inside = self.seen.enter(peer.id(), told, false);
        self.received.as_ref().map_or(Ok(()), |call| call(peer, message))
    }

    fn requested(
        &self,
        peer: &mut Peer<'_, Probe>,
        message: Message<'_>,
        responder: &mut Responder<'_>,
    ) -> HandlerResult {
        let told = || Told::Received(peer.id(), message.kind(), message.to_vec());
        let told = (!self.forgets_messages).then(told);
        let _inside = self.seen.enter(peer.id(), told, false);
        self.requested.as_ref().map_or(Ok(()), |call| call(peer, message, responder))
    }

    fn writable(&self, peer: &mut Peer<'_, Self>) -> HandlerResult {
        let _inside = self.seen.enter(peer.id(), Some(Told::Writable(peer.id())), false);
        self.writable.as_ref().map_or(Ok(()), |call| call(peer))
    }

    fn disconnected(&self, peer: &mut Peer<'_, Probe>, why: &DisconnectReason) {
        let told = Told::Disconnected(peer.id(), why.clone());
        let mut inside = self.seen.enter(peer.id(), Some(told), false);
        inside.after = Stage::Gone;
        if let Some(call) = &self.disconnected {
            call(peer, why);
        }
    }

    fn connect_failed(&self, endpoint: &Endpoint<Probe>, failure: &ConnectFailure) {
        let told = Told::ConnectFailed(failure.id(), failure.reason().clone());
        let mut inside = self.seen.enter(failure.id(), Some(told), true);
        inside.after = Stage::Gone;
        if let Some(call) = &self.connect_failed {
            call(endpoint);
        }
    }
}

/// A callback that is running. When this value is dropped, the callback has returned.
struct Inside {
    seen: Seen,
    id: PeerId,
    after: Stage,
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.seen.lock().stages.insert(self.id, self.after);
    }
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, id: PeerId, told: Option<Told>, is_first: bool) -> Inside {
        let mut record = self.lock();
        let stage = record.stages.insert(id, Stage::Inside);
        if stage != if is_first { None } else { Some(Stage::Up) } {
            record.faults.push(format!("{told:?} of {id} while it is {stage:?}"));
        }
        record.told.extend(told);
        Inside { seen: self.clone(), id, after: Stage::Up }
    }

    /// Returns the results of `pick` for the callbacks so far, in order. Panics if the order of the
    /// callbacks of any connection was wrong.
    fn pick<T>(&self, pick: impl Fn(&Told) -> Option<T>) -> Vec<T> {
        let record = self.lock();
        assert!(record.faults.is_empty(), "callbacks in the wrong order (C6): {:?}", record.faults);
        record.told.iter().filter_map(pick).collect()
    }

    /// Returns all callbacks so far.
    pub fn told(&self) -> Vec<Told> {
        self.pick(|told| Some(told.clone()))
    }

    /// Returns the number of callbacks so far.
    pub fn len(&self) -> usize {
        self.lock().told.len()
    }

    pub fn connected(&self) -> Vec<PeerId> {
        self.pick(|told| if let Told::Connected(id) = told { Some(*id) } else { None })
    }

    /// Returns the kind and the payload of each message so far.
    pub fn messages(&self) -> Vec<(u8, Vec<u8>)> {
        self.pick(|told| match told {
            Told::Received(_, kind, payload) => Some((*kind, payload.clone())),
            _ => None,
        })
    }

    pub fn writable(&self) -> usize {
        self.pick(|told| matches!(told, Told::Writable(_)).then_some(())).len()
    }

    /// Returns the reasons of the connections that have ended so far.
    pub fn ends(&self) -> Vec<DisconnectReason> {
        self.pick(
            |told| if let Told::Disconnected(_, why) = told { Some(why.clone()) } else { None },
        )
    }

    /// Returns the reasons of the failed connection attempts so far.
    pub fn connect_failures(&self) -> Vec<DisconnectReason> {
        self.pick(
            |told| if let Told::ConnectFailed(_, why) = told { Some(why.clone()) } else { None },
        )
    }
}
