//! How a connection ends: nothing new is started, what is in flight is awaited, the handle is
//! closed, the handler is told once.

use std::panic::{AssertUnwindSafe, catch_unwind};

use posthouse_io::{Cancel, Error, Failure, Op};

use super::{ColdState, Connection, Context, Phase, Strand};
use crate::close::{Close, How};
use crate::disconnect::{DisconnectKind, DisconnectReason, Fault};
use crate::error::RequestError;
use crate::id::Operation;
use crate::target::ConnectFailure;

impl Connection {
    /// Takes the steps of closing that can be taken now, and keeps receiving.
    pub(super) fn progress(&mut self, cx: &mut Context<'_>) {
        if let Some(wanted) = self.strand.requested_close.take() {
            self.strand.close(cx, wanted.0, wanted.1);
        }
        if let (Phase::Opening | Phase::Open, Some(end)) = (self.strand.phase, self.input.end) {
            let failed = matches!(end, super::input::End::Failed(_));
            let stopped = !self.strand.takes_messages();
            if self.input.held_chunks() == 0 && !self.strand.paused || failed && stopped {
                self.on_end_delivered(cx, end);
            }
        }
        if self.strand.phase > Phase::Open {
            self.strand.end_transfers(cx);
        }
        let strand = &mut self.strand;
        strand.submit_send(cx);
        if strand.phase == Phase::Draining && strand.output.queued_bytes() == 0 {
            let socket = strand.socket.expect("a draining connection has a socket");
            cx.lane.shutdown(socket);
            strand.phase = Phase::Lingering;
        }
        if strand.phase == Phase::Lingering && self.input.end.is_some() {
            strand.join(cx);
        }
        if self.strand.phase > Phase::Open {
            self.discard_input(cx);
        }
        self.submit_receives(cx);
        self.strand.close_when_joined(cx);
    }
}

impl Strand {
    /// Begins the end. The first reason stays; an abort overtakes a graceful close.
    pub(crate) fn close(&mut self, cx: &mut Context<'_>, close: Close, reason: DisconnectReason) {
        if self.phase >= Phase::Joining {
            return;
        }
        if self.reason.is_none() {
            self.reason = Some(Box::new(reason));
        }
        self.gate(cx).shut();
        match (self.phase, close.how) {
            (Phase::Draining | Phase::Lingering, How::Gracefully { .. }) => {}
            (Phase::Opening | Phase::Open, How::Gracefully { code, text, retry_after }) => {
                if self.config.is_native() {
                    let mut control = std::mem::take(&mut cx.worker.control);
                    self.session.bye(code, &text, retry_after, &mut control);
                    self.send_control(cx, control);
                }
                self.phase = Phase::Draining;
                self.phase_deadline = Some(cx.now + self.config.close_timeout());
            }
            _ => self.abort(cx),
        }
    }

    /// Ends everything at once.
    fn abort(&mut self, cx: &mut Context<'_>) {
        if let Some(socket) = self.socket
            && self.stats.is_some()
        {
            cx.lane.reset(socket);
        }
        self.join(cx);
    }

    /// Waits for what is in flight, after asking for its end.
    pub(super) fn join(&mut self, cx: &mut Context<'_>) {
        if let Some(socket) = self.socket
            && self.in_flight > 0
        {
            cx.lane.cancel(socket, Cancel::Everything);
        }
        self.phase = Phase::Joining;
        self.phase_deadline = None;
    }

    fn close_when_joined(&mut self, cx: &mut Context<'_>) {
        if self.phase != Phase::Joining || self.in_flight > 0 && !self.abandon_if_due(cx) {
            return;
        }
        match self.socket.take() {
            Some(socket) => {
                self.phase = Phase::Closing;
                self.submit(cx, Operation::Close, 0, Op::Close(socket));
            }
            None => self.finish(cx),
        }
    }

    pub(super) fn on_closed(&mut self, cx: &mut Context<'_>) {
        match self.phase {
            Phase::Retrying => self.on_attempt_closed(cx),
            Phase::Closing => self.finish(cx),
            // An attempt's socket was being closed when the connection was abandoned.
            Phase::Joining => {}
            phase => unreachable!("closed while {phase:?}"),
        }
    }

    /// The system failed an operation.
    pub(super) fn fail(&mut self, cx: &mut Context<'_>, error: Error) {
        let kind = match error.failure {
            Failure::Reset | Failure::NotConnected | Failure::Aborted => DisconnectKind::Reset,
            Failure::TimedOut => DisconnectKind::Silent,
            _ => DisconnectKind::System,
        };
        let text = if kind == DisconnectKind::Reset { String::new() } else { error.to_string() };
        self.close(cx, Close::abort(), DisconnectReason::new(kind, text));
    }

    /// Closes where the endpoint shuts down. A connection that is made after the others were told
    /// asks by itself.
    pub(super) fn on_shutdown(&mut self, cx: &mut Context<'_>) {
        let Some(deadline) = cx.shared.lifecycle.shutdown_deadline() else { return };
        let close = match cx.now >= deadline {
            true => Close::abort(),
            false => {
                Close::with_code(posthouse_wire::bye_code::GOING_AWAY, "the server shuts down")
            }
        };
        self.close(cx, close, DisconnectReason::new(DisconnectKind::Shutdown, ""));
    }

    /// What accepted peers do wrong is worth a warning, as often as peers may cause one.
    fn log_end(&self, cx: &Context<'_>, why: &DisconnectReason) {
        let address = self.stats.as_ref().map(|stats| tracing::field::display(stats.peer));
        let wrong = !matches!(why.kind(), DisconnectKind::Ended | DisconnectKind::Reset)
            && matches!(why.fault(), Fault::Peer | Fault::System);
        if wrong
            && !self.outgoing
            && let Some(suppressed) = cx.shared.faults_logged.may_log(cx.now)
        {
            let peer = self.id;
            tracing::warn!(%peer, address, reason = %why, suppressed, "connection given up");
        } else {
            tracing::debug!(peer = %self.id, address, reason = %why, "connection ended");
        }
    }

    /// The join is done. Everything that waits for this connection is told, the handler last.
    fn finish(&mut self, cx: &mut Context<'_>) {
        assert_eq!(self.in_flight, 0, "{}: gone with operations in flight", self.id);
        self.phase = Phase::Gone;
        let unspecified = || Box::new(DisconnectReason::new(DisconnectKind::Closed, ""));
        let mut why = self.reason.take().unwrap_or_else(unspecified);
        // What other threads reserved and what has not come yet will not come any more.
        let reserved = self.gate(cx).queued_bytes() - self.gated_bytes;
        why.unsent_bytes = (self.output.discard() + reserved) as u64 + self.late_bytes;
        let mut cold = self.cold.take().unwrap_or_default();
        while let Some((_, pending)) = cold.requests.pop_first() {
            let reply = Err(RequestError::Disconnected);
            self.run_callback(cx, |callbacks, output| (pending.then)(callbacks, output, reply));
        }
        for group in &cold.groups {
            group.remove(self.id);
        }
        cx.shared.everyone.remove(self.id);
        if let Some(stats) = self.stats.as_ref().filter(|stats| !stats.outgoing) {
            cx.shared.listeners.release_address(stats.peer.ip());
        }
        cx.shared.stats.ended(&why, self.notified);
        self.log_end(cx, &why);
        if std::mem::take(&mut self.notified) {
            self.run_callback(cx, |callbacks, output| {
                callbacks.disconnected(output, &why);
                Ok(())
            });
        } else if let Some(plan) = cold.plan.take() {
            let failure = ConnectFailure { id: self.id, target: plan.into_target(), reason: *why };
            self.run_callback(cx, |callbacks, _| {
                callbacks.connect_failed(&failure);
                Ok(())
            });
        }
        self.cold = None;
        self.drop_callbacks(cx, cold);
    }

    /// Drops the user's values. What they do when they are dropped is contained like a callback.
    fn drop_callbacks(&mut self, cx: &mut Context<'_>, cold: Box<ColdState>) {
        let callbacks = self.callbacks.take();
        cx.worker.marker.enter(self.id);
        let dropped = catch_unwind(AssertUnwindSafe(|| drop((callbacks, cold))));
        cx.worker.marker.leave();
        if let Err(panic) = dropped {
            self.on_panic(cx, &*panic);
        }
    }
}
