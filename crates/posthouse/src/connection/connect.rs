//! The establishment of a connection: it is accepted, or connected after a look-up, and then says
//! hello if the framing has one.

use std::time::Duration;

use posthouse_io::{Address, NewSocket, Op, Outcome as IoOutcome, Socket};

use super::phase::{Attempt, Awaits, ConnectStage, Connecting, Farewell, Joining, Open, Opening};
use super::{Context, Phase, Strand};
use crate::admissions::Ticket;
use crate::close::Close;
use crate::disconnect::{DisconnectKind, DisconnectReason};
use crate::gate::SendTerms;
use crate::id::Operation;
use crate::registry::ConnectionStats;
use crate::shared::Shared;
use crate::sync::Arc;
use crate::target::Target;

impl Strand {
    /// Takes over an accepted socket.
    pub(super) fn adopt(&mut self, cx: &mut Context<'_>, new: NewSocket, ticket: Option<Ticket>) {
        self.ticket = ticket;
        let peer = new.peer;
        let socket = cx.lane.adopt(new);
        self.register(cx, socket, peer);
        let until = cx.now + self.config.close_timeout();
        self.phase = Phase::Opening(Opening { socket, until, target: None });
        if ticket
            .is_some_and(|ticket| !cx.shared.admissions.holds(cx.shared.prefix_of(peer), ticket))
        {
            // The post that evicts it may have come before the one that begins it.
            return self.on_evicted(cx);
        }
        self.begin_stream(cx, socket);
    }

    /// Begins an outgoing connection.
    pub(super) fn connect(&mut self, cx: &mut Context<'_>, target: Target) {
        let until = cx.now + Duration::from_millis(self.config.options.connect_timeout_ms);
        let name = target.address.clone().expect("checked when the connection was begun");
        let stage = ConnectStage::Resolving;
        let error = None;
        self.phase = Phase::Connecting(Box::new(Connecting { target, until, stage, error }));
        if let Some(address) = name.as_address() {
            self.try_addresses(cx, vec![address]);
        } else {
            self.submit(cx, Operation::Resolve, 0, Op::Resolve(name));
        }
    }

    pub(super) fn on_resolved(&mut self, cx: &mut Context<'_>, outcome: IoOutcome) {
        let Phase::Connecting(connecting) = &mut self.phase else { return }; // closed meanwhile
        match outcome {
            IoOutcome::Resolved(addresses) => self.try_addresses(cx, addresses),
            IoOutcome::Failed(error) => {
                connecting.error = Some(error);
                self.fail_connect();
            }
            other => unreachable!("a look-up ended in {other:?}"),
        }
    }

    /// Tries the addresses one after the other.
    fn try_addresses(&mut self, cx: &mut Context<'_>, addresses: Vec<Address>) {
        if let Phase::Connecting(connecting) = &mut self.phase {
            let untried = addresses.into_iter();
            connecting.stage = ConnectStage::Trying { untried, attempts: Vec::new(), begun: 0 };
        }
        self.attempt(cx);
    }

    /// Tries the next address. If none is left and no attempt is in flight, the connection has
    /// failed.
    fn attempt(&mut self, cx: &mut Context<'_>) {
        let Phase::Connecting(connecting) = &mut self.phase else { return };
        let ConnectStage::Trying { untried, attempts, begun } = &mut connecting.stage else {
            return;
        };
        let Some(address) = untried.next() else {
            if attempts.is_empty() {
                self.fail_connect();
            }
            return;
        };
        let number = *begun;
        let socket = cx.lane.socket();
        *begun = begun.wrapping_add(1);
        attempts.push(Attempt { number, socket, address });
        self.submit(cx, Operation::Connect, number.into(), Op::Connect(socket, address));
    }

    fn fail_connect(&mut self) {
        let phase = std::mem::replace(&mut self.phase, Phase::Gone);
        let error = match &phase {
            Phase::Connecting(connecting) => connecting.error,
            _ => None,
        };
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        let reason = DisconnectReason::new(DisconnectKind::Unreachable, text);
        let (sockets, report) = phase.leave();
        let farewell = Farewell { reason, report };
        self.phase = Phase::Joining(Box::new(Joining { sockets, farewell }));
    }

    pub(super) fn on_connect(&mut self, cx: &mut Context<'_>, number: u8, outcome: IoOutcome) {
        // In any other phase the attempt was cancelled, and the join closes its socket.
        let Phase::Connecting(connecting) = &mut self.phase else { return };
        let Some(attempt) = connecting.take_attempt(number) else { return };
        match outcome {
            IoOutcome::Connected => self.on_connected(cx, attempt),
            IoOutcome::Failed(error) => {
                connecting.error = Some(error);
                self.submit(cx, Operation::CloseAttempt, number.into(), Op::Close(attempt.socket));
                self.attempt(cx);
            }
            other => unreachable!("a connect ended in {other:?}"),
        }
    }

    fn on_connected(&mut self, cx: &mut Context<'_>, attempt: Attempt) {
        let Attempt { socket, address, .. } = attempt;
        self.register(cx, socket, address);
        if let Phase::Connecting(connecting) = std::mem::replace(&mut self.phase, Phase::New) {
            let Connecting { target, until, .. } = *connecting;
            let target = Some(Box::new(target));
            self.phase = Phase::Opening(Opening { socket, until, target });
        }
        self.begin_stream(cx, socket);
    }

    /// Begins the plain stream: sends this side's hello, and opens the connection if no hello of
    /// the peer is awaited.
    pub(super) fn on_plain_stream(&mut self, cx: &mut Context<'_>, socket: Socket) {
        if self.config.is_native() && self.connects() {
            let nonce = crate::shared::nonce(&cx.shared.port);
            self.send_control(cx, |strand, out| {
                strand.session.start(&strand.config.session, nonce, out);
            });
        }
        if !self.config.is_native() || self.session.is_established(&self.config.session) {
            self.open(cx, socket);
        }
    }

    /// Registers the connected socket: from now on it has counts, which other threads can read.
    fn register(&mut self, cx: &mut Context<'_>, socket: Socket, peer: Address) {
        let addresses = (peer, cx.lane.local_address(socket));
        let stats = Arc::new(ConnectionStats::new(self.id, addresses, self.connects(), cx.now));
        cx.shared.registry.set_stats(stats.clone());
        self.stats = Some(stats);
    }

    /// Continues after hello and its proof.
    pub(super) fn on_established(&mut self, cx: &mut Context<'_>) {
        match &self.phase {
            Phase::Opening(opening) => self.open(cx, opening.socket),
            Phase::Open(_) => self.set_gate(cx),
            _ => {}
        }
    }

    fn set_gate(&self, cx: &Context<'_>) {
        self.gate(cx).set_send_terms(SendTerms {
            send: self.config.send.index,
            handler: self.config.handler,
            limits: self.send_limits(),
        });
    }

    /// Opens the gate for messages and calls `connected`.
    fn open(&mut self, cx: &mut Context<'_>, socket: Socket) {
        let admission = self.config.options.admission_timeout_ms;
        let awaits = if !self.connects() && admission > 0 {
            Awaits::Admission(cx.now + Duration::from_millis(admission))
        } else {
            if !self.leave_budget(cx.shared) {
                return self.on_evicted(cx);
            }
            self.awaits_first_message(cx.now)
        };
        self.phase = Phase::Open(Open { socket, awaits });
        self.set_gate(cx);
        self.gate(cx).open();
        cx.shared.everyone.join(self.id);
        cx.shared.stats.connected.add(1);
        self.run_callback(cx, |callbacks, output| callbacks.connected(output));
    }

    /// Admits the peer.
    pub(crate) fn admit(&mut self, shared: &Shared, now: Duration) {
        if !self.is_unadmitted() {
            return;
        }
        if !self.leave_budget(shared) {
            let reason = DisconnectReason::new(DisconnectKind::Evicted, "");
            return self.request_close(Close::abort(), reason);
        }
        let awaits = self.awaits_first_message(now);
        if let Phase::Open(open) = &mut self.phase {
            open.awaits = awaits;
        }
    }

    /// Takes the connection out of the budget of unadmitted peers. Returns `false` if it was
    /// evicted, so that it must end; it keeps its ticket then.
    fn leave_budget(&mut self, shared: &Shared) -> bool {
        if let Some(ticket) = self.ticket
            && let Some(stats) = &self.stats
        {
            if !shared.admissions.admit(shared.prefix_of(stats.peer), ticket) {
                return false;
            }
            self.ticket = None;
        }
        true
    }

    /// Ends the wait for the first message, because the peer has sent a message or a frame of a
    /// transfer.
    pub(crate) fn on_first_message(&mut self) {
        if let Phase::Open(open) = &mut self.phase
            && let Awaits::FirstMessage(_) | Awaits::Answers(_) = open.awaits
        {
            open.awaits = Awaits::Nothing;
        }
    }

    /// Returns the deadline of the first message, if there is one and no message has arrived.
    fn awaits_first_message(&self, now: Duration) -> Awaits {
        let ms = self.config.options.first_message_timeout_ms;
        let silent = self.stats.as_ref().is_some_and(|stats| stats.messages_received() == 0);
        if ms > 0 && silent && !self.connects() {
            Awaits::FirstMessage(now + Duration::from_millis(ms))
        } else {
            Awaits::Nothing
        }
    }

    /// Ends the attempt to connect at its deadline.
    pub(super) fn connect_timed_out(&mut self, cx: &mut Context<'_>) {
        let text = match &self.phase {
            Phase::Opening(_) => "connected, but no hello came in time (see Target::without_hello)",
            Phase::Connecting(connecting) if connecting.is_resolving() => {
                "the host name could not be looked up in time"
            }
            _ => "no answer in time",
        };
        self.close(cx, Close::abort(), DisconnectReason::new(DisconnectKind::Unreachable, text));
    }
}
