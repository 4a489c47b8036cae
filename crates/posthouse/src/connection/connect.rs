//! How a connection comes up: accepted, or connected after a look-up, then hello where it is due.

use posthouse_io::{Address, Error, NewSocket, Op, Outcome as IoOutcome};

use super::{Context, Phase, Strand};
use crate::close::Close;
use crate::disconnect::{DisconnectKind, DisconnectReason};
use crate::gate::SendTerms;
use crate::id::Operation;
use crate::registry::ConnectionStats;
use crate::sync::Arc;
use crate::target::Target;
use std::time::Duration;

/// The plan of an outgoing connection: its target and the addresses to try.
pub(crate) struct ConnectPlan {
    target: Target,
    addresses: Vec<Address>,
    /// The address to try next.
    next: usize,
    /// The error of the last attempt.
    error: Option<Error>,
}

impl ConnectPlan {
    pub(super) fn into_target(self) -> Target {
        self.target
    }
}

impl Strand {
    /// Takes an accepted socket over.
    pub(super) fn adopt(&mut self, cx: &mut Context<'_>, new: NewSocket) {
        let peer = new.peer;
        let socket = cx.lane.adopt(new);
        self.socket = Some(socket);
        self.register(cx, peer);
        let awaits_hello =
            self.config.is_native() && !self.session.is_established(&self.config.session);
        if awaits_hello {
            self.phase = Phase::Opening;
            self.phase_deadline = Some(cx.now + self.config.close_timeout());
        } else {
            self.open(cx);
        }
    }

    /// Begins an outgoing connection.
    pub(super) fn connect(&mut self, cx: &mut Context<'_>, target: Target) {
        let timeout = Duration::from_millis(self.config.options.connect_timeout_ms);
        self.phase_deadline = Some(cx.now + timeout);
        let name = target.address.clone().expect("checked when the connection was begun");
        let address = name.as_address();
        let addresses = address.into_iter().collect();
        self.cold().plan = Some(ConnectPlan { target, addresses, next: 0, error: None });
        if address.is_some() {
            self.attempt(cx);
        } else {
            self.phase = Phase::Resolving;
            self.resolving = true;
            self.submit(cx, Operation::Resolve, 0, Op::Resolve(name));
        }
    }

    fn plan(&mut self) -> &mut ConnectPlan {
        self.cold().plan.as_mut().expect("an outgoing connection has a plan")
    }

    pub(super) fn on_resolved(&mut self, cx: &mut Context<'_>, outcome: IoOutcome) {
        self.resolving = false;
        if self.phase != Phase::Resolving {
            return; // closed meanwhile
        }
        match outcome {
            IoOutcome::Resolved(addresses) => {
                self.plan().addresses = addresses;
                self.attempt(cx);
            }
            IoOutcome::Failed(error) => {
                self.plan().error = Some(error);
                self.fail_connect();
            }
            other => unreachable!("a look-up ended in {other:?}"),
        }
    }

    /// Tries the next address; with none left the connection has failed.
    fn attempt(&mut self, cx: &mut Context<'_>) {
        let plan = self.plan();
        let Some(address) = plan.addresses.get(plan.next).copied() else {
            return self.fail_connect();
        };
        plan.next += 1;
        let socket = cx.lane.socket();
        self.socket = Some(socket);
        self.phase = Phase::Connecting;
        self.submit(cx, Operation::Connect, 0, Op::Connect(socket, address));
    }

    fn fail_connect(&mut self) {
        let plan = self.plan();
        let text = plan.error.map(|error| error.to_string()).unwrap_or_default();
        self.reason = Some(Box::new(DisconnectReason::new(DisconnectKind::Unreachable, text)));
        self.phase = Phase::Joining;
    }

    pub(super) fn on_connect(&mut self, cx: &mut Context<'_>, outcome: IoOutcome) {
        if self.phase != Phase::Connecting {
            return; // cancelled: it is being joined
        }
        match outcome {
            IoOutcome::Connected => self.on_connected(cx),
            IoOutcome::Failed(error) => {
                self.plan().error = Some(error);
                let socket = self.socket.take().expect("a connect has a socket");
                self.phase = Phase::Retrying;
                self.submit(cx, Operation::Close, 0, Op::Close(socket));
            }
            other => unreachable!("a connect ended in {other:?}"),
        }
    }

    /// The failed attempt's socket is closed.
    pub(super) fn on_attempt_closed(&mut self, cx: &mut Context<'_>) {
        self.attempt(cx);
    }

    fn on_connected(&mut self, cx: &mut Context<'_>) {
        let plan = self.plan();
        let address = plan.addresses[plan.next - 1];
        self.register(cx, address);
        self.phase = Phase::Opening;
        if self.config.is_native() {
            let mut control = std::mem::take(&mut cx.worker.control);
            let nonce = crate::shared::nonce(&cx.shared.port);
            self.session.start(&self.config.session, nonce, &mut control);
            self.send_control(cx, control);
        }
        if !self.config.is_native() || self.session.is_established(&self.config.session) {
            self.open(cx);
        }
    }

    /// The socket is up: from here on it is counted, and can be asked about.
    fn register(&mut self, cx: &mut Context<'_>, peer: Address) {
        let socket = self.socket.expect("a connection that is up has a socket");
        let addresses = (peer, cx.lane.local_address(socket));
        let stats = Arc::new(ConnectionStats::new(self.id, addresses, self.outgoing, cx.now));
        cx.shared.registry.set_stats(stats.clone());
        self.stats = Some(stats);
    }

    /// Hello, and its proof, are done.
    pub(super) fn on_established(&mut self, cx: &mut Context<'_>) {
        match self.phase {
            Phase::Opening => self.open(cx),
            Phase::Open => self.set_gate(cx),
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

    /// Tells the handler, and lets messages through.
    pub(super) fn open(&mut self, cx: &mut Context<'_>) {
        self.phase = Phase::Open;
        self.notified = true;
        self.unadmitted = !self.outgoing && self.config.options.admission_timeout_ms > 0;
        let admission = Duration::from_millis(self.config.options.admission_timeout_ms);
        self.phase_deadline = match self.unadmitted {
            true => Some(cx.now + admission),
            false => self.first_message_deadline(cx.now),
        };
        self.set_gate(cx);
        self.gate(cx).open();
        cx.shared.everyone.join(self.id);
        cx.shared.stats.connected.add(1);
        self.run_callback(cx, |callbacks, output| callbacks.connected(output));
    }

    /// The handler has admitted the peer.
    pub(crate) fn admit(&mut self, now: Duration) {
        if std::mem::take(&mut self.unadmitted) {
            self.phase_deadline = self.first_message_deadline(now);
        }
    }

    /// Until when the first message must be there, where it is not and where that is asked for.
    fn first_message_deadline(&self, now: Duration) -> Option<Duration> {
        let ms = self.config.options.first_message_timeout_ms;
        let silent = self.stats.as_ref().is_some_and(|r| r.messages_received() == 0);
        (ms > 0 && silent && !self.outgoing).then(|| now + Duration::from_millis(ms))
    }

    /// Nothing answered in time.
    pub(super) fn connect_timed_out(&mut self, cx: &mut Context<'_>) {
        let text = match self.phase {
            Phase::Resolving => "the name was not looked up in time",
            Phase::Opening => "connected, but no hello came in time (see Target::without_hello)",
            _ => "no answer in time",
        };
        self.close(cx, Close::abort(), DisconnectReason::new(DisconnectKind::Unreachable, text));
    }
}
