//! The handler of a courier: what happens on its connection, told to the thread that waits.

use std::sync::mpsc::Sender;

use posthouse::{
    Endpoint, FileEntry, Handler, Message, Outcome, Peer, PeerId, Progress, Reason, Target,
    Transfer, TransferError,
};

/// What happened, in the order in which it did.
#[derive(Debug)]
pub(super) enum Event {
    /// The connection is up.
    Up,
    /// It is not, or did not come up.
    Down(Reason),
    /// A parcel with this number was handed over.
    Begun(u64, Progress),
    /// A file got across, or did not.
    Over(Transfer),
    /// A page of what files there are.
    Listed(Result<Vec<FileEntry>, TransferError>),
    /// A person wants it to end.
    Interrupted,
}

/// Tells everything and decides nothing.
pub(super) struct Rider(pub(super) Sender<Event>);

impl Rider {
    fn tell(&self, event: Event) {
        // Refused where nobody waits any more: then it is of no use either.
        let _ = self.0.send(event);
    }
}

impl Handler for Rider {
    type State = ();

    fn connected(&self, _: &mut Peer<'_, ()>) -> Outcome {
        self.tell(Event::Up);
        Ok(())
    }

    fn received(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Outcome {
        if let Some(ticket) = message.ticket() {
            peer.refuse(ticket, "this side only carries files");
        }
        Ok(())
    }

    fn transferred(&self, _: &mut Peer<'_, ()>, transfer: &Transfer) -> Outcome {
        self.tell(Event::Over(transfer.clone()));
        Ok(())
    }

    fn disconnected(&self, _: &mut Peer<'_, ()>, why: &Reason) {
        self.tell(Event::Down(why.clone()));
    }

    fn unreachable(&self, _: &Endpoint<()>, _: PeerId, _: &Target, why: &Reason) {
        self.tell(Event::Down(why.clone()));
    }
}
