//! The server of the demonstration.

use std::sync::Arc;

use posthouse::{
    Answer, Directory, Handler, Message, Offer, HandlerResult, Peer, DisconnectReason, DisconnectKind, Wanted,
};

use super::demo_counts::DemoCounts;
use super::kind;
use crate::monitor::Monitor;

/// Echoes messages, answers requests, adds clients to groups, receives and sends files.
pub(crate) struct DemoServer {
    pub(super) counts: Arc<Monitor<DemoCounts>>,
    pub(super) inbox: Directory,
}

impl Handler for DemoServer {
    type State = ();

    fn received(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> HandlerResult {
        match (message.kind(), message.ticket()) {
            (kind::ECHO, None) => peer.send(kind::ECHO, message.payload()),
            (kind::REVERSE, Some(ticket)) => {
                let reversed: Vec<u8> = message.payload().iter().rev().copied().collect();
                peer.reply(ticket, kind::REVERSE, &reversed);
            }
            (kind::JOIN, Some(ticket)) => {
                let name = std::str::from_utf8(message.payload())?;
                let group = peer.endpoint().group(name);
                peer.join(&group);
                peer.reply(ticket, kind::JOIN, b"");
            }
            (other, _) => self.counts.change(|counts| {
                counts.add_error(format!("the server got a message of kind {other}"));
            }),
        }
        Ok(())
    }

    fn offered(&self, _: &mut Peer<'_, ()>, _: &Offer<'_>) -> Answer {
        Answer::here(&self.inbox)
    }

    fn wanted(&self, _: &mut Peer<'_, ()>, _: &Wanted<'_>) -> Answer {
        Answer::here(&self.inbox)
    }

    fn disconnected(&self, _: &mut Peer<'_, ()>, why: &DisconnectReason) {
        self.counts.change(|counts| {
            counts.server_disconnects += 1;
            match why.kind() {
                DisconnectKind::Reset => counts.resets += 1,
                DisconnectKind::Ended => counts.ended += 1,
                _ => counts.add_error(format!("a client's end surprised the server: {why}")),
            }
        });
    }
}
