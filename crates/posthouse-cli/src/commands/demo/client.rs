//! The clients of the demonstration: one handler for all of them.

use std::sync::Arc;
use std::time::Duration;

use posthouse::{
    Close, ConnectFailure, DisconnectKind, DisconnectReason, Endpoint, FinishedTransfer, Handler,
    HandlerResult, Message, Peer, RequestError, Source,
};

use super::demo_counts::DemoCounts;
use super::sample_files::{self, SampleFiles};
use super::{
    ECHOES, ECHOES_IN_FLIGHT, FILES, GROUP_MESSAGES, REQUESTS, aborts, group_message, group_name,
    group_of, kind,
};
use crate::monitor::Monitor;
use crate::pattern::{self, Pattern};

/// The time that a reply may take.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// The handler of all clients. Each client checks echoes, sends requests, joins its group, and
/// closes its connection; some abort it half-way. The first clients also send a file and get it
/// back.
pub(crate) struct DemoClient {
    counts: Arc<Monitor<DemoCounts>>,
    pattern: Pattern,
    files: Arc<SampleFiles>,
}

/// The state of one client.
#[derive(Default)]
pub(crate) struct ClientState {
    number: u32,
    echoes_sent: u64,
    echoes_received: u64,
    group_messages: u64,
    /// The number of transfers of its file that are not finished. The file is sent, then received
    /// back.
    transfers_left: u32,
}

impl ClientState {
    fn is_done(&self) -> bool {
        self.group_messages == GROUP_MESSAGES && self.transfers_left == 0
    }
}

impl DemoClient {
    pub(crate) fn new(
        counts: Arc<Monitor<DemoCounts>>,
        pattern: Pattern,
        files: Arc<SampleFiles>,
    ) -> Self {
        Self { counts, pattern, files }
    }
}

impl Handler for DemoClient {
    type State = ClientState;

    fn connected(&self, peer: &mut Peer<'_, Self>) -> HandlerResult {
        let number = self.counts.change(|counts| {
            counts.connected += 1;
            counts.connected - 1
        });
        peer.state_mut().number = number;
        if number < FILES {
            peer.state_mut().transfers_left = 2;
            peer.offer_file(Source::new(&self.files.outbox, sample_files::name(number)));
        }
        self.send_echoes(peer);
        Ok(())
    }

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        match message.kind() {
            kind::ECHO => self.on_echo(peer, message.payload()),
            kind::GROUP => self.on_group_message(peer, message.payload()),
            other => self.fail(peer, &format!("got a message of the unknown kind {other}")),
        }
    }

    fn transferred(&self, peer: &mut Peer<'_, Self>, transfer: &FinishedTransfer) -> HandlerResult {
        let name = transfer.name();
        let number = peer.state().number;
        if let Err(error) = transfer.result() {
            return self.fail(peer, &format!("could not transfer {name}: {error}"));
        }
        peer.state_mut().transfers_left -= 1;
        if !transfer.is_incoming() {
            self.counts.change(|counts| counts.files_sent += 1);
            peer.fetch_file(&sample_files::name(number), &self.files.back);
        }
        if peer.state().is_done() { Err(Close::graceful()) } else { Ok(()) }
    }

    fn disconnected(&self, peer: &mut Peer<'_, Self>, why: &DisconnectReason) {
        self.counts.change(|counts| {
            counts.client_disconnects += 1;
            if why.kind() != DisconnectKind::Closed {
                counts.add_error(format!(
                    "client {} lost its connection: {why}",
                    peer.state().number
                ));
            }
        });
    }

    fn connect_failed(&self, _: &Endpoint<Self>, failure: &ConnectFailure) {
        let target = failure.target();
        let why = failure.reason();
        self.counts.change(|counts| counts.add_error(format!("cannot connect to {target}: {why}")));
    }
}

impl DemoClient {
    fn send_echoes(&self, peer: &mut Peer<'_, Self>) {
        let mut message = Vec::new();
        loop {
            let client = peer.state_mut();
            let in_flight = client.echoes_sent - client.echoes_received;
            if client.echoes_sent == ECHOES || in_flight == ECHOES_IN_FLIGHT {
                return;
            }
            self.pattern.write(client.number, client.echoes_sent, &mut message);
            client.echoes_sent += 1;
            peer.send(kind::ECHO, &message);
        }
    }

    fn on_echo(&self, peer: &mut Peer<'_, Self>, payload: &[u8]) -> HandlerResult {
        let client = peer.state_mut();
        let mut expected = Vec::new();
        self.pattern.write(client.number, client.echoes_received, &mut expected);
        if let Some(difference) = pattern::difference(&expected, payload) {
            let text =
                format!("got a wrong echo of message {}: {difference}", client.echoes_received);
            return self.fail(peer, &text);
        }
        client.echoes_received += 1;
        let number = client.number;
        let received = client.echoes_received;
        self.counts.change(|counts| counts.echoes += 1);
        if aborts(number) && received == ECHOES / 2 {
            return Err(Close::abort().log("aborts its connection, as it should"));
        }
        self.send_echoes(peer);
        if received == ECHOES {
            Self::send_requests(peer, number);
        }
        Ok(())
    }

    /// Sends all requests at once. The replies arrive in the same order.
    fn send_requests(peer: &mut Peer<'_, Self>, number: u32) {
        for question in 0..REQUESTS {
            let question = format!("client {number}, question {question}").into_bytes();
            let expected: Vec<u8> = question.iter().rev().copied().collect();
            peer.request(kind::REVERSE, &question, REPLY_TIMEOUT, move |peer, reply| {
                peer.handler().on_reply(peer, reply, &expected)
            });
        }
        let group = group_name(group_of(number));
        peer.request(kind::JOIN, group.as_bytes(), REPLY_TIMEOUT, |peer, reply| match reply {
            Ok(_) => {
                peer.handler().counts.change(|counts| counts.joined += 1);
                Ok(())
            }
            Err(error) => peer.handler().fail(peer, &format!("could not join its group: {error}")),
        });
    }

    fn on_reply(
        &self,
        peer: &mut Peer<'_, Self>,
        reply: Result<Message<'_>, RequestError>,
        expected: &[u8],
    ) -> HandlerResult {
        match reply {
            Ok(reply) if reply.payload() == expected => {
                self.counts.change(|counts| counts.replies += 1);
                Ok(())
            }
            Ok(_) => self.fail(peer, "got a wrong reply"),
            Err(error) => self.fail(peer, &format!("got no reply: {error}")),
        }
    }

    fn on_group_message(&self, peer: &mut Peer<'_, Self>, payload: &[u8]) -> HandlerResult {
        let client = peer.state_mut();
        let expected = group_message(group_of(client.number), client.group_messages);
        if payload != expected {
            let expected = String::from_utf8_lossy(&expected);
            let got = String::from_utf8_lossy(payload);
            return self.fail(peer, &format!("got {got:?} in place of {expected:?}"));
        }
        client.group_messages += 1;
        let all = client.is_done();
        self.counts.change(|counts| counts.group_messages += 1);
        if all { Err(Close::graceful()) } else { Ok(()) }
    }

    fn fail(&self, peer: &mut Peer<'_, Self>, what: &str) -> HandlerResult {
        let number = peer.state().number;
        self.counts.change(|counts| counts.add_error(format!("client {number} {what}")));
        Err(Close::abort().log(what))
    }
}
