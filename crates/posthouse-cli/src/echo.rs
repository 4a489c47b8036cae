//! The handler of an echo server.

use posthouse::{Handler, Message, HandlerResult, Peer};

/// Sends back every message, and answers every request with its payload.
pub(crate) struct Echo;

impl Handler for Echo {
    type State = ();

    fn received(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> HandlerResult {
        match message.ticket() {
            Some(ticket) => peer.reply(ticket, message.kind(), message.payload()),
            None => peer.send(message.kind(), message.payload()),
        }
        Ok(())
    }
}
