//! The events of the connection, forwarded to the thread of the command.

use std::sync::mpsc::Sender;

use posthouse::{
    Endpoint, FileEntry, Handler, Message, Outcome, Peer, PeerId, Progress, Reason, Target,
    Transfer, TransferError,
};

/// An event, in the order in which it happened.
#[derive(Debug)]
pub(super) enum Event {
    Connected,
    /// The connection ended, or could not be established.
    Disconnected(Reason),
    /// The transfer with this number has begun.
    Started(u64, Progress),
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

    fn connected(&self, _: &mut Peer<'_, ()>) -> Outcome {
        self.forward(Event::Connected);
        Ok(())
    }

    fn received(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Outcome {
        if let Some(ticket) = message.ticket() {
            peer.refuse(ticket, "this side only carries files");
        }
        Ok(())
    }

    fn transferred(&self, _: &mut Peer<'_, ()>, transfer: &Transfer) -> Outcome {
        self.forward(Event::Finished(transfer.clone()));
        Ok(())
    }

    fn disconnected(&self, _: &mut Peer<'_, ()>, why: &Reason) {
        self.forward(Event::Disconnected(why.clone()));
    }

    fn unreachable(&self, _: &Endpoint<()>, _: PeerId, _: &Target, why: &Reason) {
        self.forward(Event::Disconnected(why.clone()));
    }
}
