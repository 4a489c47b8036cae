//! The clients of the demonstration: one handler for all of them.

use std::sync::Arc;
use std::time::Duration;

use posthouse::{
    Close, Endpoint, Handler, Message, Outcome, Peer, PeerId, Reason, ReasonKind, RequestError,
    Target, Transfer,
};

use super::files::{self, Files};
use super::ledger::Ledger;
use super::{
    ECHOES, ECHOES_IN_FLIGHT, FILES, GROUP_MESSAGES, REQUESTS, group_message, group_name, group_of,
    kind, leaves,
};
use crate::pattern::{self, Pattern};

/// How long a reply may take.
const REPLY_TIME: Duration = Duration::from_secs(10);

/// Each connection echoes, then asks, then joins its group, then leaves; some leave half-way. The
/// first ones send a file and get it back meanwhile.
pub(crate) struct Visitor(Arc<Shared>);

struct Shared {
    ledger: Arc<Ledger>,
    pattern: Pattern,
    files: Arc<Files>,
}

/// One client.
#[derive(Default)]
pub(crate) struct Visit {
    number: u32,
    echoes_sent: u64,
    echoes_back: u64,
    group_messages: u64,
    /// True exactly while a file of its is on its way.
    has_file: bool,
}

impl Visit {
    fn is_done(&self) -> bool {
        self.group_messages == GROUP_MESSAGES && !self.has_file
    }
}

impl Visitor {
    pub(crate) fn new(ledger: Arc<Ledger>, pattern: Pattern, files: Arc<Files>) -> Self {
        Self(Arc::new(Shared { ledger, pattern, files }))
    }
}

impl Handler for Visitor {
    type State = Visit;

    fn connected(&self, peer: &mut Peer<'_, Visit>) -> Outcome {
        peer.state().number = self.0.ledger.change(|counts| {
            counts.arrived += 1;
            counts.arrived - 1
        });
        let number = peer.state().number;
        if number < FILES {
            peer.state().has_file = true;
            peer.offer(&self.0.files.outbox, &files::name(number));
        }
        self.0.send_echoes(peer);
        Ok(())
    }

    fn received(&self, peer: &mut Peer<'_, Visit>, message: Message<'_>) -> Outcome {
        match message.kind() {
            kind::ECHO => Shared::echoed(&self.0, peer, message.payload()),
            kind::GROUP => self.0.group_said(peer, message.payload()),
            other => self.0.wrong(peer, &format!("got a message of kind {other}")),
        }
    }

    fn transferred(&self, peer: &mut Peer<'_, Visit>, transfer: &Transfer) -> Outcome {
        let (name, number) = (transfer.name(), peer.state().number);
        if let Err(error) = transfer.result() {
            return self.0.wrong(peer, &format!("did not get {name} across: {error}"));
        }
        if transfer.is_incoming() {
            peer.state().has_file = false;
        } else {
            self.0.ledger.change(|counts| counts.files_sent += 1);
            peer.get(&self.0.files.back, &files::name(number));
        }
        if peer.state().is_done() { Err(Close::gracefully()) } else { Ok(()) }
    }

    fn disconnected(&self, peer: &mut Peer<'_, Visit>, why: &Reason) {
        self.0.ledger.change(|counts| {
            counts.gone_from_clients += 1;
            if why.kind() != ReasonKind::Closed {
                counts.wrong(format!("client {} lost its connection: {why}", peer.state().number));
            }
        });
    }

    fn unreachable(&self, _: &Endpoint<Visit>, _: PeerId, target: &Target, why: &Reason) {
        self.0.ledger.change(|c| c.wrong(format!("no connection to {target} came up: {why}")));
    }
}

impl Shared {
    fn send_echoes(&self, peer: &mut Peer<'_, Visit>) {
        let mut message = Vec::new();
        loop {
            let visit = peer.state();
            let in_flight = visit.echoes_sent - visit.echoes_back;
            if visit.echoes_sent == ECHOES || in_flight == ECHOES_IN_FLIGHT {
                return;
            }
            self.pattern.write(visit.number, visit.echoes_sent, &mut message);
            visit.echoes_sent += 1;
            peer.send(kind::ECHO, &message);
        }
    }

    fn echoed(shared: &Arc<Self>, peer: &mut Peer<'_, Visit>, payload: &[u8]) -> Outcome {
        let visit = peer.state();
        let mut expected = Vec::new();
        shared.pattern.write(visit.number, visit.echoes_back, &mut expected);
        if let Some(difference) = pattern::difference(&expected, payload) {
            let text = format!("got a wrong echo of message {}: {difference}", visit.echoes_back);
            return shared.wrong(peer, &text);
        }
        visit.echoes_back += 1;
        let (number, back) = (visit.number, visit.echoes_back);
        shared.ledger.change(|counts| counts.echoes += 1);
        if leaves(number) && back == ECHOES / 2 {
            return Err(Close::abort().because("leaves abruptly, as it should"));
        }
        shared.send_echoes(peer);
        if back == ECHOES {
            Self::ask(shared, peer, number);
        }
        Ok(())
    }

    /// Asks everything at once; the answers come in their order.
    fn ask(shared: &Arc<Self>, peer: &mut Peer<'_, Visit>, number: u32) {
        for question in 0..REQUESTS {
            let question = format!("client {number}, question {question}").into_bytes();
            let expected: Vec<u8> = question.iter().rev().copied().collect();
            let shared = shared.clone();
            peer.request(kind::REVERSE, &question, REPLY_TIME, move |peer, reply| {
                shared.answered(peer, reply, &expected)
            });
        }
        let (group, shared) = (group_name(group_of(number)), shared.clone());
        peer.request(kind::JOIN, group.as_bytes(), REPLY_TIME, move |peer, reply| match reply {
            Ok(_) => {
                shared.ledger.change(|counts| counts.joined += 1);
                Ok(())
            }
            Err(error) => shared.wrong(peer, &format!("could not join its group: {error}")),
        });
    }

    fn answered(
        &self,
        peer: &mut Peer<'_, Visit>,
        reply: Result<Message<'_>, RequestError>,
        expected: &[u8],
    ) -> Outcome {
        match reply {
            Ok(reply) if reply.payload() == expected => {
                self.ledger.change(|counts| counts.replies += 1);
                Ok(())
            }
            Ok(_) => self.wrong(peer, "got a wrong reply"),
            Err(error) => self.wrong(peer, &format!("got no reply: {error}")),
        }
    }

    fn group_said(&self, peer: &mut Peer<'_, Visit>, payload: &[u8]) -> Outcome {
        let visit = peer.state();
        let expected = group_message(group_of(visit.number), visit.group_messages);
        if payload != expected {
            let (expected, got) =
                (String::from_utf8_lossy(&expected), String::from_utf8_lossy(payload));
            return self.wrong(peer, &format!("should get {expected:?} and got {got:?}"));
        }
        visit.group_messages += 1;
        let all = visit.is_done();
        self.ledger.change(|counts| counts.group_messages += 1);
        if all { Err(Close::gracefully()) } else { Ok(()) }
    }

    fn wrong(&self, peer: &mut Peer<'_, Visit>, what: &str) -> Outcome {
        let number = peer.state().number;
        self.ledger.change(|counts| counts.wrong(format!("client {number} {what}")));
        Err(Close::abort().because(what))
    }
}
