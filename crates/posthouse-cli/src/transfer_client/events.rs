//! The events of the connection, forwarded to the thread of the command.

use std::sync::mpsc::Sender;

use posthouse::{
    ConnectFailure, DisconnectReason, Endpoint, FileEntry, FinishedTransfer, Handler,
    HandlerResult, Message, Peer, Responder, TransferError, TransferHandle,
};

/// An event, in the order in which it happened.
#[derive(Debug)]
pub(super) enum Event {
    Connected,
    /// The connection ended, or could not be established.
    Disconnected(DisconnectReason),
    /// The transfer with this number has begun.
    Started(u64, TransferHandle),
    /// A transfer has ended, in success or failure.
    Finished(FinishedTransfer),
    /// A page of the server's list of files has arrived.
    Listed(Result<Vec<FileEntry>, TransferError>),
    /// The user asked for the end.
    Interrupted,
}

/// The handler of a file client: forwards every event and decides nothing.
pub(super) struct EventForwarder(pub(super) Sender<Event>);

impl EventForwarder {
    fn forward(&self, event: Event) {
        // Fails once the client is gone: then nothing needs the event.
        let _ = self.0.send(event);
    }
}

impl Handler for EventForwarder {
    type State = ();

    fn connected(&self, _: &mut Peer<'_, Self>) -> HandlerResult {
        self.forward(Event::Connected);
        Ok(())
    }

    fn received(&self, _: &mut Peer<'_, Self>, _: Message<'_>) -> HandlerResult {
        Ok(())
    }

    fn requested(
        &self,
        _: &mut Peer<'_, Self>,
        _: Message<'_>,
        responder: &mut Responder<'_>,
    ) -> HandlerResult {
        responder.reject("this side only carries files");
        Ok(())
    }

    fn transferred(&self, _: &mut Peer<'_, Self>, transfer: &FinishedTransfer) -> HandlerResult {
        self.forward(Event::Finished(transfer.clone()));
        Ok(())
    }

    fn disconnected(&self, _: &mut Peer<'_, Self>, why: &DisconnectReason) {
        self.forward(Event::Disconnected(why.clone()));
    }

    fn connect_failed(&self, _: &Endpoint<Self>, failure: &ConnectFailure) {
        self.forward(Event::Disconnected(failure.reason().clone()));
    }
}
