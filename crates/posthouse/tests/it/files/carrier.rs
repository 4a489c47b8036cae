//! A handler that takes files, gives files, and keeps what it was told of them.

use std::sync::{Arc, Mutex};

use posthouse::{
    Answer, Directory, Endpoint, Handler, Message, Offer, Options, Outcome, Peer, Reason, Transfer,
    TransferErrorKind, Wanted,
};

use crate::bed::{Bed, target};

type OnPeer = Box<dyn Fn(&mut Peer<'_, ()>) -> Outcome + Send + Sync>;

/// What of a carrier's is known from outside.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    transfers: Vec<Transfer>,
    /// Messages and ends of transfers, in order.
    order: Vec<String>,
    ends: Vec<Reason>,
}

pub struct Carrier {
    pub log: Log,
    takes: Option<Directory>,
    gives: Option<Directory>,
    connected: Option<OnPeer>,
    received: Option<OnPeer>,
}

impl Carrier {
    pub fn new() -> Self {
        Self { log: Log::default(), takes: None, gives: None, connected: None, received: None }
    }

    /// Offers go into this directory.
    pub fn taking(mut self, directory: Directory) -> Self {
        self.takes = Some(directory);
        self
    }

    /// Wishes are met from this directory.
    pub fn giving(mut self, directory: Directory) -> Self {
        self.gives = Some(directory);
        self
    }

    pub fn on_connected(
        mut self,
        call: impl Fn(&mut Peer<'_, ()>) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        self.connected = Some(Box::new(call));
        self
    }

    /// What each message makes it do.
    pub fn on_received(
        mut self,
        call: impl Fn(&mut Peer<'_, ()>) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        self.received = Some(Box::new(call));
        self
    }
}

impl Handler for Carrier {
    type State = ();

    fn connected(&self, peer: &mut Peer<'_, ()>) -> Outcome {
        self.connected.as_ref().map_or(Ok(()), |call| call(peer))
    }

    fn received(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Outcome {
        let text = String::from_utf8_lossy(message.payload()).into_owned();
        self.log.0.lock().unwrap().order.push(text);
        self.received.as_ref().map_or(Ok(()), |call| call(peer))
    }

    fn offered(&self, _: &mut Peer<'_, ()>, offer: &Offer<'_>) -> Answer {
        match &self.takes {
            Some(directory) => Answer::here(directory),
            None => Answer::refuse(format!("no room for {}", offer.name())),
        }
    }

    fn wanted(&self, _: &mut Peer<'_, ()>, wanted: &Wanted<'_>) -> Answer {
        match &self.gives {
            Some(directory) => Answer::here(directory),
            None => Answer::refuse(format!("nothing for {wanted:?}")),
        }
    }

    fn transferred(&self, _: &mut Peer<'_, ()>, transfer: &Transfer) -> Outcome {
        let mut kept = self.log.0.lock().unwrap();
        kept.order.push(format!("transferred {}", transfer.name()));
        kept.transfers.push(transfer.clone());
        Ok(())
    }

    fn disconnected(&self, _: &mut Peer<'_, ()>, why: &Reason) {
        self.log.0.lock().unwrap().ends.push(why.clone());
    }
}

impl Log {
    pub fn transfers(&self) -> Vec<Transfer> {
        self.0.lock().unwrap().transfers.clone()
    }

    pub fn order(&self) -> Vec<String> {
        self.0.lock().unwrap().order.clone()
    }

    pub fn ends(&self) -> Vec<Reason> {
        self.0.lock().unwrap().ends.clone()
    }

    /// Keeps only what came in.
    pub fn forget_outgoing(&self) {
        self.0.lock().unwrap().transfers.retain(Transfer::is_incoming);
    }

    /// Waits until so many transfers are over; the last of them.
    pub fn wait(&self, bed: &Bed<'_>, count: usize) -> Transfer {
        let over = || self.0.lock().unwrap().transfers.len() >= count;
        bed.wait_for(&format!("{count} transfers"), over);
        self.transfers()[count - 1].clone()
    }
}

/// Whether and how a transfer failed.
pub fn failed(transfer: &Transfer) -> Option<TransferErrorKind> {
    transfer.result().err().map(posthouse::TransferError::kind)
}

/// A server that takes files into this directory and gives files out of it.
pub fn serve(bed: &Bed<'_>, directory: &Directory) -> (Endpoint, Log) {
    serve_with(bed, directory, bed.options())
}

pub fn serve_with(bed: &Bed<'_>, directory: &Directory, options: Options) -> (Endpoint, Log) {
    let carrier = Carrier::new().taking(directory.clone()).giving(directory.clone());
    let log = carrier.log.clone();
    (bed.serve_with(carrier, options), log)
}

/// An endpoint that connects to it and does this.
pub fn visit(
    bed: &Bed<'_>,
    server: &Endpoint,
    call: impl Fn(&mut Peer<'_, ()>) -> Outcome + Send + Sync + 'static,
) -> (Endpoint, Log) {
    let carrier = Carrier::new().on_connected(call);
    let log = carrier.log.clone();
    let visitor = bed.client_side(carrier);
    visitor.connect(target(server)).expect("there is room");
    (visitor, log)
}
