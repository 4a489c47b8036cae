//! The end of a connection: it starts no operation, waits for the operations in flight, closes the
//! handle and calls the handler once.

use posthouse_io::{Cancel, Error, Op, Socket};

use super::phase::{Ending, Farewell, Joining, Report};
use super::{ColdState, Connection, Context, Phase, Strand};
use crate::admissions::Ended;
use crate::close::{Close, How};
use crate::contained::contain;
use crate::disconnect::{DisconnectKind, DisconnectReason, Fault};
use crate::error::RequestError;
use crate::id::{Operation, pack};
use crate::shared::Shared;
use crate::target::ConnectFailure;

impl Connection {
    /// Takes the steps of closing that are possible now, and keeps the receives in flight.
    pub(super) fn progress(&mut self, cx: &mut Context<'_>) {
        self.strand.close_if_requested(cx);
        self.strand.run_transfers(cx);
        self.strand.close_if_requested(cx);
        if self.strand.phase.takes_frames()
            && let Some(end) = self.input.end
        {
            let failed = matches!(end, super::input::End::Failed(_));
            let stopped = !self.strand.takes_messages();
            if self.input.held_chunks() == 0 && !self.strand.paused || failed && stopped {
                self.on_end_delivered(cx, end);
            }
        }
        if self.strand.phase.is_ending() {
            self.strand.end_transfers(cx);
        }
        self.strand.end_records();
        self.strand.submit_send(cx);
        self.strand.end_stream_if_drained(cx);
        if matches!(self.strand.phase, Phase::Lingering(_)) && self.input.end.is_some() {
            self.strand.join(cx);
        }
        if self.strand.phase.is_ending() {
            self.discard_input(cx);
        }
        self.note_reading(cx.now);
        self.submit_receives(cx);
        self.update_untold_end(cx);
        self.strand.close_when_joined(cx);
    }
}

impl Strand {
    /// Begins the end. The first reason stays. An abort overrides a graceful close.
    pub(crate) fn close(&mut self, cx: &mut Context<'_>, close: Close, reason: DisconnectReason) {
        match (&self.phase, close.how) {
            (Phase::Joining(_) | Phase::Closing(_) | Phase::Gone | Phase::Abandoned, _)
            | (Phase::Draining(_) | Phase::Lingering(_), How::Gracefully { .. }) => {}
            (Phase::Opening(_) | Phase::Open(_), How::Gracefully { code, text, retry_after }) => {
                self.gate(cx).shut();
                if self.config.is_native() {
                    self.send_control(cx, |strand, out| {
                        strand.session.bye(code, &text, retry_after, out);
                    });
                }
                self.drain(cx, reason);
            }
            _ => {
                self.gate(cx).shut();
                self.abort(cx, reason);
            }
        }
    }

    /// Enters the phase in which the queued output is sent.
    fn drain(&mut self, cx: &Context<'_>, reason: DisconnectReason) {
        let Some(socket) = self.phase.sending_socket() else { return };
        let (_, report) = std::mem::replace(&mut self.phase, Phase::Gone).leave();
        let until = Some(cx.now + self.config.close_timeout());
        // The goodbye may have filled the queue beyond its bound, which must not abort the close.
        self.requested_close = None;
        let farewell = Box::new(Farewell { reason, report });
        self.phase = Phase::Draining(Ending { socket, until, farewell });
    }

    /// Ends this side's stream once all output has been sent.
    fn end_stream_if_drained(&mut self, cx: &mut Context<'_>) {
        if !matches!(self.phase, Phase::Draining(_)) || !self.has_drained() {
            return;
        }
        if let Phase::Draining(ending) = std::mem::replace(&mut self.phase, Phase::Gone) {
            cx.lane.shutdown(ending.socket);
            // A peer that has proved nothing must not hold its place by not ending its stream.
            let is_unproven = matches!(ending.farewell.report, Report::Nobody);
            self.phase = Phase::Lingering(ending);
            if is_unproven {
                self.join(cx);
            }
        }
    }

    /// Ends the connection of an unadmitted peer whose place was given to another.
    pub(super) fn on_evicted(&mut self, cx: &mut Context<'_>) {
        self.close(cx, Close::abort(), DisconnectReason::new(DisconnectKind::Evicted, ""));
    }

    /// Returns what the end of this connection releases.
    pub(crate) fn ended(&self, shared: &Shared) -> Ended {
        let stats = self.stats.as_ref().filter(|stats| !stats.outgoing);
        let accepted_from = stats.map(|stats| shared.prefix_of(stats.peer));
        Ended { id: self.id, accepted_from, ticket: self.ticket }
    }

    /// Resets the connection.
    fn abort(&mut self, cx: &mut Context<'_>, reason: DisconnectReason) {
        let phase = std::mem::replace(&mut self.phase, Phase::Gone);
        let is_up = self.stats.is_some();
        if let Phase::Connecting(connecting) = &phase
            && connecting.is_resolving()
        {
            cx.lane.cancel_look_up(pack(self.id, Operation::Resolve, 0));
        }
        let (sockets, farewell) = match phase {
            Phase::Draining(ending) | Phase::Lingering(ending) => {
                (vec![ending.socket], *ending.farewell)
            }
            phase => {
                let (sockets, report) = phase.leave();
                (sockets, Farewell { reason, report })
            }
        };
        for socket in sockets.iter().filter(|_| is_up) {
            cx.lane.reset(*socket);
        }
        self.await_in_flight(cx, sockets, farewell);
    }

    /// Begins to wait for the operations in flight, after the peer has ended its stream or the
    /// deadline has passed.
    pub(super) fn join(&mut self, cx: &mut Context<'_>) {
        match std::mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Lingering(ending) => {
                self.await_in_flight(cx, vec![ending.socket], *ending.farewell);
            }
            phase => self.phase = phase,
        }
    }

    fn await_in_flight(&mut self, cx: &mut Context<'_>, sockets: Vec<Socket>, farewell: Farewell) {
        for socket in sockets.iter().filter(|_| self.in_flight > 0) {
            cx.lane.cancel(*socket, Cancel::Everything);
        }
        self.phase = Phase::Joining(Box::new(Joining { sockets, farewell }));
    }

    fn close_when_joined(&mut self, cx: &mut Context<'_>) {
        let joined = matches!(self.phase, Phase::Joining(_))
            && (self.in_flight == 0 || self.abandon_if_due(cx));
        if !joined {
            return;
        }
        let Phase::Joining(joining) = std::mem::replace(&mut self.phase, Phase::Gone) else {
            return;
        };
        let Joining { sockets, farewell } = *joining;
        self.phase = Phase::Closing(Box::new(farewell));
        for socket in sockets {
            self.submit(cx, Operation::Close, 0, Op::Close(socket));
        }
        self.finish_when_closed(cx);
    }

    /// Ends the connection if its last socket is closed.
    pub(super) fn finish_when_closed(&mut self, cx: &mut Context<'_>) {
        if self.in_flight > 0 || !matches!(self.phase, Phase::Closing(_)) {
            return;
        }
        if let Phase::Closing(farewell) = std::mem::replace(&mut self.phase, Phase::Gone) {
            self.finish(cx, *farewell);
        }
    }

    /// Closes because an operation failed.
    pub(super) fn fail(&mut self, cx: &mut Context<'_>, error: Error) {
        self.close(cx, Close::abort(), DisconnectReason::of_failure(error));
    }

    /// Closes if the endpoint shuts down. A new connection calls this, too, because the shutdown
    /// may have been announced before it began.
    pub(super) fn on_shutdown(&mut self, cx: &mut Context<'_>) {
        let Some(deadline) = cx.shared.lifecycle.shutdown_deadline() else { return };
        let close = if cx.now >= deadline {
            Close::abort()
        } else {
            Close::with_code(posthouse_wire::bye_code::GOING_AWAY, "the server shuts down")
        };
        self.close(cx, close, DisconnectReason::new(DisconnectKind::Shutdown, ""));
    }

    /// Logs the end. Three kinds of ends have a rate-limited line: a warning if a callback sent an
    /// invalid message, which is a mistake of the program; an information if a callback closed the
    /// connection and gave a cause; a warning if an accepted connection ended by the fault of its
    /// peer or the system. Other ends have a debug line.
    fn log_end(&self, cx: &Context<'_>, why: &DisconnectReason) {
        use DisconnectKind as Kind;
        let (peer, now) = (self.id, cx.now);
        let address = self.stats.as_ref().map(|stats| tracing::field::display(stats.peer));
        let logged = &cx.shared.ends_logged;
        let is_fault = matches!(why.fault(), Fault::Peer | Fault::System) && !self.connects();
        match why.kind() {
            Kind::Unsendable if let Some(suppressed) = logged.mistakes.may_log(now) => {
                tracing::warn!(%peer, address, reason = %why, suppressed, "invalid message sent");
            }
            Kind::Closed
                if !why.detail.is_empty()
                    && let Some(suppressed) = logged.causes.may_log(now) =>
            {
                tracing::info!(%peer, address, reason = %why, suppressed, "connection closed");
            }
            // Evictions have a line of their own.
            Kind::Closed | Kind::Unsendable | Kind::Ended | Kind::Reset | Kind::Evicted => {
                tracing::debug!(%peer, address, reason = %why, "connection ended");
            }
            _ if is_fault && let Some(suppressed) = logged.faults.may_log(now) => {
                tracing::warn!(%peer, address, reason = %why, suppressed, "connection failed");
            }
            _ => tracing::debug!(%peer, address, reason = %why, "connection ended"),
        }
    }

    /// Ends the connection after the join: fails its requests, leaves its groups, and calls the
    /// handler last.
    fn finish(&mut self, cx: &mut Context<'_>, farewell: Farewell) {
        let Farewell { reason: mut why, report } = farewell;
        // The reservations of other threads whose messages have not arrived: they never will.
        let reserved = self.gate(cx).queued_bytes() - self.gated_bytes;
        why.unsent_bytes = (self.output.discard() + reserved) as u64 + self.late_bytes;
        let mut cold = self.cold.take().unwrap_or_default();
        while let Some((_, pending)) = cold.requests.pop_first() {
            let reply = Err(RequestError::Disconnected);
            self.run_reply(cx, pending.then, reply);
        }
        for group in &cold.groups {
            group.remove(self.id);
        }
        cx.shared.everyone.remove(self.id);
        cx.shared.stats.ended(&why, matches!(report, Report::Disconnected));
        self.log_end(cx, &why);
        match report {
            Report::Disconnected => self.run_callback(cx, |callbacks, output| {
                callbacks.disconnected(output, &why);
                Ok(())
            }),
            Report::ConnectFailed(target) => {
                let failure = ConnectFailure { id: self.id, target: *target, reason: why };
                self.run_callback(cx, |callbacks, _| {
                    callbacks.connect_failed(&failure);
                    Ok(())
                });
            }
            Report::Nobody => {}
        }
        self.cold = None;
        self.drop_callbacks(cx, cold);
    }

    /// Drops the values of the program. A panic in a drop is contained, as in a callback.
    fn drop_callbacks(&mut self, cx: &mut Context<'_>, cold: Box<ColdState>) {
        let callbacks = self.callbacks.take();
        cx.worker.marker.enter(self.id);
        contain(|| drop(callbacks));
        drop(cold);
        cx.worker.marker.leave();
    }
}
