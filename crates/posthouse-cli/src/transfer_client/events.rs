//! The events of the connection, forwarded to the thread of the command.

use std::sync::mpsc::Sender;

use posthouse::{
    Endpoint, FileEntry, Handler, Message, HandlerResult, Peer, PeerId, TransferHandle, DisconnectReason, Target,
    FinishedTransfer, TransferError,
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
    Finished(Transfer),
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

    fn connected(&self, _: &mut Peer<'_, ()>) -> HandlerResult {
        self.forward(Event::Connected);
        Ok(())
    }

    fn received(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> HandlerResult {
        if let Some(ticket) = message.ticket() {
            peer.refuse(ticket, "this side only carries files");
        }
        Ok(())
    }

    fn transferred(&self, _: &mut Peer<'_, ()>, transfer: &FinishedTransfer) -> HandlerResult {
        self.forward(Event::Finished(transfer.clone()));
        Ok(())
    }

    fn disconnected(&self, _: &mut Peer<'_, ()>, why: &DisconnectReason) {
        self.forward(Event::Disconnected(why.clone()));
    }

    fn unreachable(&self, _: &Endpoint<()>, _: PeerId, _: &Target, why: &DisconnectReason) {
        self.forward(Event::Disconnected(why.clone()));
    }
}
