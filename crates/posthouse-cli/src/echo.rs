//! The handler of an echo server.

use posthouse::{Handler, HandlerResult, Message, Peer, Responder};

/// Sends back every message, and answers every request with its payload.
pub(crate) struct Echo;

impl Handler for Echo {
    type State = ();

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        peer.send(message.kind(), message.payload());
        Ok(())
    }

    fn requested(
        &self,
        _: &mut Peer<'_, Self>,
        message: Message<'_>,
        responder: &mut Responder<'_>,
    ) -> HandlerResult {
        responder.reply(message.kind(), message.payload());
        Ok(())
    }
}
