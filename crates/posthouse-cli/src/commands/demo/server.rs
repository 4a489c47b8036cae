//! The server of the demonstration.

use std::sync::Arc;

use posthouse::{
    Destination, Directory, DisconnectKind, DisconnectReason, Handler, HandlerResult, Message,
    Offer, OfferResponder, Peer, Reject, Responder, Source,
};

use super::demo_counts::DemoCounts;
use super::kind;
use crate::monitor::Monitor;

/// The handler of the server: it echoes messages, answers requests, adds clients to groups, and
/// receives and sends files.
pub(crate) struct DemoServer {
    pub(super) counts: Arc<Monitor<DemoCounts>>,
    pub(super) inbox: Directory,
}

impl Handler for DemoServer {
    type State = ();

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        match message.kind() {
            kind::ECHO => peer.send(kind::ECHO, message.payload()),
            other => self.on_unknown_kind("message", other),
        }
        Ok(())
    }

    fn requested(
        &self,
        peer: &mut Peer<'_, Self>,
        message: Message<'_>,
        responder: &mut Responder<'_>,
    ) -> HandlerResult {
        match message.kind() {
            kind::REVERSE => {
                let reversed: Vec<u8> = message.payload().iter().rev().copied().collect();
                responder.reply(kind::REVERSE, &reversed);
            }
            kind::JOIN => {
                let name = std::str::from_utf8(message.payload())?;
                let group = peer.endpoint().group(name);
                peer.join(&group);
                responder.reply(kind::JOIN, b"");
            }
            other => self.on_unknown_kind("request", other),
        }
        Ok(())
    }

    fn offered(
        &self,
        _: &mut Peer<'_, Self>,
        _: &Offer<'_>,
        _: &mut OfferResponder<'_>,
    ) -> Result<Option<Destination>, Reject> {
        Ok(Some(Destination::new(&self.inbox)))
    }

    fn download_requested(&self, _: &mut Peer<'_, Self>, name: &str) -> Result<Source, Reject> {
        Ok(Source::new(&self.inbox, name))
    }

    fn disconnected(&self, _: &mut Peer<'_, Self>, why: &DisconnectReason) {
        self.counts.change(|counts| {
            counts.server_disconnects += 1;
            match why.kind() {
                DisconnectKind::Reset => counts.resets += 1,
                DisconnectKind::Ended => counts.ended += 1,
                _ => counts
                    .add_error(format!("the server saw an unexpected end of a connection: {why}")),
            }
        });
    }
}

impl DemoServer {
    fn on_unknown_kind(&self, what: &str, kind: u8) {
        self.counts.change(|counts| {
            counts.add_error(format!("the server got a {what} of the unknown kind {kind}"));
        });
    }
}
