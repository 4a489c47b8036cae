//! A handler that accepts and serves files, and records its callbacks about them.

use std::sync::{Arc, Mutex};

use posthouse::{
    Destination, Directory, DisconnectReason, Endpoint, FinishedTransfer, Handler, HandlerResult,
    Message, Offer, OfferResponder, OwnedOfferResponder, Peer, Reject, Source, TransferErrorKind,
};

use crate::harness::{Harness, Options, target};

type OnPeer = Box<dyn Fn(&mut Peer<'_, FileHandler>) -> HandlerResult + Send + Sync>;

/// The record of a file handler, which the test reads.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    transfers: Vec<FinishedTransfer>,
    /// The messages and the ends of transfers, in order.
    order: Vec<String>,
    ends: Vec<DisconnectReason>,
}

pub struct FileHandler {
    pub log: Log,
    takes: Option<Directory>,
    keeps: Option<Arc<Mutex<Vec<OwnedOfferResponder>>>>,
    gives: Option<Directory>,
    connected: Option<OnPeer>,
    received: Option<OnPeer>,
}

impl FileHandler {
    pub fn new() -> Self {
        Self {
            log: Log::default(),
            takes: None,
            keeps: None,
            gives: None,
            connected: None,
            received: None,
        }
    }

    /// Accepts offers into this directory.
    pub fn taking(mut self, directory: Directory) -> Self {
        self.takes = Some(directory);
        self
    }

    /// Keeps the responders of offers, so that the test answers them later. Three names are
    /// exceptions. The callback answers an offer of `now...` at once. It keeps the responder of
    /// `refuse`, and also rejects the offer. It neither keeps the responder of `forget` nor answers
    /// the offer.
    pub fn keeping(mut self, kept: Arc<Mutex<Vec<OwnedOfferResponder>>>) -> Self {
        self.keeps = Some(kept);
        self
    }

    /// Serves file and listing requests from this directory.
    pub fn giving(mut self, directory: Directory) -> Self {
        self.gives = Some(directory);
        self
    }

    pub fn on_connected(
        mut self,
        call: impl Fn(&mut Peer<'_, Self>) -> HandlerResult + Send + Sync + 'static,
    ) -> Self {
        self.connected = Some(Box::new(call));
        self
    }

    /// Sets the closure that the handler calls for each message.
    pub fn on_received(
        mut self,
        call: impl Fn(&mut Peer<'_, Self>) -> HandlerResult + Send + Sync + 'static,
    ) -> Self {
        self.received = Some(Box::new(call));
        self
    }
}

impl Handler for FileHandler {
    type State = ();

    fn connected(&self, peer: &mut Peer<'_, Self>) -> HandlerResult {
        self.connected.as_ref().map_or(Ok(()), |call| call(peer))
    }

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        let text = String::from_utf8_lossy(message.payload()).into_owned();
        self.log.0.lock().unwrap().order.push(text);
        self.received.as_ref().map_or(Ok(()), |call| call(peer))
    }

    fn offered(
        &self,
        _: &mut Peer<'_, Self>,
        offer: &Offer<'_>,
        answer: &mut OfferResponder<'_>,
    ) -> Result<Option<Destination>, Reject> {
        if let Some(kept) = self.keeps.as_ref().filter(|_| !offer.name().starts_with("now")) {
            if offer.name() == "forget" {
                return Ok(None);
            }
            kept.lock().unwrap().extend(answer.take());
            assert!(answer.take().is_none(), "a responder was taken twice");
            return if offer.name() == "refuse" { Err("at once".into()) } else { Ok(None) };
        }
        match &self.takes {
            Some(directory) => Ok(Some(directory.into())),
            None => Err(Reject::new(format!("no room for {}", offer.name()))),
        }
    }

    fn download_requested(&self, _: &mut Peer<'_, Self>, name: &str) -> Result<Source, Reject> {
        match &self.gives {
            Some(directory) => Ok(Source::new(directory, name)),
            None => Err(Reject::new(format!("nothing for File {name:?}"))),
        }
    }

    fn list_requested(&self, _: &mut Peer<'_, Self>, after: &str) -> Result<Directory, Reject> {
        let none = || Reject::new(format!("nothing for List {after:?}"));
        self.gives.clone().ok_or_else(none)
    }

    fn transferred(&self, _: &mut Peer<'_, Self>, transfer: &FinishedTransfer) -> HandlerResult {
        let mut kept = self.log.0.lock().unwrap();
        kept.order.push(format!("transferred {}", transfer.name()));
        kept.transfers.push(transfer.clone());
        Ok(())
    }

    fn disconnected(&self, _: &mut Peer<'_, Self>, why: &DisconnectReason) {
        self.log.0.lock().unwrap().ends.push(why.clone());
    }
}

impl Log {
    pub fn transfers(&self) -> Vec<FinishedTransfer> {
        self.0.lock().unwrap().transfers.clone()
    }

    pub fn order(&self) -> Vec<String> {
        self.0.lock().unwrap().order.clone()
    }

    pub fn ends(&self) -> Vec<DisconnectReason> {
        self.0.lock().unwrap().ends.clone()
    }

    /// Removes the outgoing transfers from the log.
    pub fn forget_outgoing(&self) {
        self.0.lock().unwrap().transfers.retain(FinishedTransfer::is_incoming);
    }

    /// Waits until `count` transfers have ended, and returns the last of them.
    pub fn wait(&self, harness: &Harness<'_>, count: usize) -> FinishedTransfer {
        let over = || self.0.lock().unwrap().transfers.len() >= count;
        harness.wait_for(&format!("{count} transfers"), over);
        self.transfers()[count - 1].clone()
    }
}

/// Returns the kind of the failure of a transfer, or `None` if it succeeded.
pub fn failed(transfer: &FinishedTransfer) -> Option<TransferErrorKind> {
    transfer.result().err().map(posthouse::TransferError::kind)
}

/// Starts a server that accepts files into this directory and serves files from it.
pub fn serve(harness: &Harness<'_>, directory: &Directory) -> (Endpoint<FileHandler>, Log) {
    serve_with(harness, directory, harness.options())
}

pub fn serve_with(
    harness: &Harness<'_>,
    directory: &Directory,
    options: Options,
) -> (Endpoint<FileHandler>, Log) {
    let handler = FileHandler::new().taking(directory.clone()).giving(directory.clone());
    let log = handler.log.clone();
    (harness.serve_with(handler, options), log)
}

/// Starts an endpoint that connects to the server, and calls `call` when the connection is
/// established.
pub fn visit(
    harness: &Harness<'_>,
    server: &Endpoint<FileHandler>,
    call: impl Fn(&mut Peer<'_, FileHandler>) -> HandlerResult + Send + Sync + 'static,
) -> (Endpoint<FileHandler>, Log) {
    let handler = FileHandler::new().on_connected(call);
    let log = handler.log.clone();
    let visitor = harness.client_side(handler);
    visitor.connect(target(server), ()).expect("no limit is reached");
    (visitor, log)
}
