//! The way from received bytes to the handler: in order, one message at a time. Delivery can stop
//! between any two messages.

use posthouse_io::{Cancel, Op, Outcome as IoOutcome, ReceiveMode};
use posthouse_wire::{
    Frame, FrameError, FrameRate, ReplyStatus, SessionEvent, Violation, bye_code as code,
};

use super::input::{Chunk, End};
use super::phase::{Awaits, Open, Opening};
use super::{Connection, Context, Phase, Strand};
use crate::close::Close;
use crate::config::MAX_UNADMITTED_PAYLOAD_BYTES;
use crate::disconnect::{DisconnectKind, DisconnectReason};
use crate::error::RequestError;
use crate::id::Operation;
use crate::message::Message;
use crate::pace::{REJECTION, SMALL_PIECE_BYTES};
use crate::responder::Responder;
use crate::shared::ReceiveStrategy;

/// The number of waiting chunks at which a connection stops receiving.
const MAX_HELD_CHUNKS: usize = 2;

/// The cost of a waiting message, beside its payload.
const EARLY_MESSAGE_BYTES: usize = 64;

/// The rest of a turn's budget.
pub(super) struct DeliveryBudget {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// The result of delivering a chunk.
enum Delivered {
    /// All of it was delivered.
    Whole,
    /// Delivery stopped; the rest is kept.
    Stopped,
    /// The connection is ending, and delivers nothing more.
    Over,
}

impl Connection {
    pub(super) fn on_receive(
        &mut self,
        cx: &mut Context<'_>,
        sequence: u8,
        more: bool,
        outcome: IoOutcome,
    ) {
        if !more {
            self.input.pending -= 1;
            self.input.cancelled &= self.input.pending > 0;
        }
        let mut next = match cx.shared.receive_strategy {
            ReceiveStrategy::Stream => Some(outcome),
            ReceiveStrategy::Once(_) => {
                self.input.reorder(&mut cx.worker.free_backlogs, sequence, outcome)
            }
        };
        while let Some(outcome) = next {
            self.take_received(cx, outcome);
            next = self.input.next_early(&mut cx.worker.free_backlogs);
        }
    }

    fn take_received(&mut self, cx: &mut Context<'_>, outcome: IoOutcome) {
        match outcome {
            IoOutcome::Received(buffer) => {
                if self.strand.takes_messages() {
                    self.strand.session.on_activity(cx.now);
                }
                if let Some(stats) = &self.strand.stats {
                    stats.received_bytes(buffer.len(), cx.now);
                }
                if self.input.end.is_some() {
                    // The record layer has seen the end of the stream: nothing follows it.
                    return cx.lane.recycle(buffer);
                }
                let chunk = if self.strand.has_records() {
                    Chunk::of_records(buffer)
                } else {
                    Chunk::of_plain(buffer)
                };
                if self.input.held_chunks() == 0 {
                    self.deliver_from(cx, Some(chunk));
                } else {
                    self.input.push_chunk(&mut cx.worker.free_backlogs, chunk);
                }
            }
            IoOutcome::Ended => self.input.end = self.input.end.or(Some(End::Ended)),
            IoOutcome::Failed(error) if error.failure == posthouse_io::Failure::Cancelled => {}
            IoOutcome::Failed(error) if error.is_transient() => self.strand.retry_later(cx),
            IoOutcome::Failed(error) => self.on_input_failed(error),
            other => unreachable!("a receive ended in {other:?}"),
        }
    }

    /// Delivers the held chunks, as far as this turn's budget and the handler permit.
    pub(super) fn deliver(&mut self, cx: &mut Context<'_>) {
        self.deliver_from(cx, None);
    }

    pub(super) fn has_more_to_deliver(&self) -> bool {
        self.input.held_chunks() > 0 && self.strand.takes_messages()
    }

    fn deliver_from(&mut self, cx: &mut Context<'_>, mut first: Option<Chunk>) {
        let tuning = &cx.shared.tuning;
        let mut budget =
            DeliveryBudget { messages: tuning.turn_messages, bytes: tuning.turn_bytes };
        while let Some(mut chunk) =
            first.take().or_else(|| self.input.next_chunk(&mut cx.worker.free_backlogs))
        {
            match self.deliver_chunk(cx, &mut chunk, &mut budget) {
                Delivered::Whole => cx.lane.recycle(chunk.buffer),
                Delivered::Stopped => {
                    self.input.put_back(&mut cx.worker.free_backlogs, chunk);
                    break;
                }
                Delivered::Over => {
                    cx.lane.recycle(chunk.buffer);
                    self.input.discard(&mut cx.worker.free_backlogs);
                    break;
                }
            }
        }
        self.account_assembly(cx);
    }

    fn deliver_chunk(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &mut Chunk,
        budget: &mut DeliveryBudget,
    ) -> Delivered {
        loop {
            let strand = &mut self.strand;
            // A frame that needs no callback may have filled the queue.
            strand.close_if_requested(cx);
            if strand.phase.is_ending() {
                return Delivered::Over;
            }
            let more = !chunk.is_empty() || strand.has_early();
            // At the end of a chunk the reader only frees memory that it does not need.
            if !more && self.input.reader.allocated() == 0 {
                return Delivered::Whole;
            }
            let spent = budget.messages == 0 || budget.bytes == 0;
            if more && (spent || !strand.takes_messages()) {
                return Delivered::Stopped;
            }
            if strand.deliver_early(cx) {
                budget.messages -= 1;
                continue;
            }
            if chunk.plain.is_empty() && !chunk.rest.is_empty() {
                budget.messages -= 1;
                let opened = strand.open_record(chunk);
                self.on_opened(cx, chunk, opened);
                continue;
            }
            if strand.run_messages(cx, &mut self.input, chunk, budget) {
                continue;
            }
            let bytes = chunk.joined.as_deref().unwrap_or(&chunk.buffer);
            let mut input = &bytes[chunk.plain.clone()];
            let before = input.len();
            let limit = strand.max_payload_bytes();
            let next = self.input.reader.next(&strand.config.wire, limit, &mut input);
            let used = before - input.len();
            chunk.plain.start += used;
            budget.bytes = budget.bytes.saturating_sub(used);
            match next {
                Ok(Some(frame)) => {
                    budget.messages -= 1;
                    self.input.frame_rate = None;
                    strand.on_frame(cx, frame);
                }
                Ok(None) => {
                    if self.input.reader.is_partial() {
                        let is_first = self.input.frame_rate.is_none();
                        let begun = || Box::new(FrameRate::began(cx.now));
                        self.input.frame_rate.get_or_insert_with(begun).progress(used);
                        if bytes.len() < SMALL_PIECE_BYTES && !is_first {
                            strand.count_small_piece(cx);
                            self.check_pieces(cx);
                        }
                    }
                    if chunk.is_empty() {
                        return Delivered::Whole;
                    }
                }
                Err(error) => strand.on_bad_frame(cx, &error),
            }
        }
    }

    /// Counts the memory of the partial frame in the endpoint's budget. Over the budget the
    /// connection is closed.
    fn account_assembly(&mut self, cx: &mut Context<'_>) {
        let carried = self.strand.records().map_or(0, |records| records.carried_bytes());
        let held = self.input.reader.allocated() + carried;
        let known = std::mem::replace(&mut self.input.budgeted_bytes, held);
        if held != known
            && !cx.shared.assembly_budget.resize(known, held, cx.shared.options.assembly_bytes)
        {
            let text = "partly received frames would exceed assembly_bytes";
            self.strand.close(
                cx,
                Close::with_code(code::BUSY, "busy"),
                DisconnectReason::new(DisconnectKind::Busy, text),
            );
            self.input.discard(&mut cx.worker.free_backlogs);
            cx.shared.assembly_budget.resize(held, 0, usize::MAX);
            self.input.budgeted_bytes = 0;
        }
    }

    /// Frees the input and the memory of the partial frame.
    pub(super) fn discard_input(&mut self, cx: &mut Context<'_>) {
        self.input.discard(&mut cx.worker.free_backlogs);
        if let Some(records) = self.strand.records() {
            records.discard();
        }
        let known = std::mem::take(&mut self.input.budgeted_bytes);
        cx.shared.assembly_budget.resize(known, 0, usize::MAX);
    }

    /// Handles the end of the peer's stream, after all its input has been delivered.
    pub(super) fn on_end_delivered(&mut self, cx: &mut Context<'_>, end: End) {
        match end {
            End::Failed(error) => self.strand.fail(cx, error),
            End::Ended => {
                let strand = &mut self.strand;
                if let Some(last) = self.input.reader.finish(&strand.config.wire) {
                    strand.on_frame(cx, last);
                }
                // A peer may end its stream after a request; the answer has a deadline.
                let owes_answers = strand.owes_answers();
                if let Phase::Open(open) = &mut strand.phase
                    && owes_answers
                {
                    if open.awaits == Awaits::Nothing {
                        open.awaits = Awaits::Answers(cx.now + strand.config.close_timeout());
                    }
                    return;
                }
                let partial = self.input.reader.is_partial();
                let text = if partial { "in the middle of a frame" } else { "" };
                strand.close(
                    cx,
                    Close::graceful(),
                    DisconnectReason::new(DisconnectKind::Ended, text),
                );
            }
        }
    }

    /// Submits or cancels receives, so that the right number is in flight.
    pub(super) fn submit_receives(&mut self, cx: &mut Context<'_>) {
        if self.submit_watch(cx) {
            return;
        }
        let strand = &mut self.strand;
        let input = &mut self.input;
        let (socket, wants) = match &strand.phase {
            Phase::Opening(Opening { socket, .. }) | Phase::Open(Open { socket, .. }) => {
                (*socket, strand.takes_messages() && input.held_chunks() < MAX_HELD_CHUNKS)
            }
            Phase::Draining(ending) | Phase::Lingering(ending) => (ending.socket, true),
            _ => return,
        };
        if input.end.is_some() {
            return;
        }
        match cx.shared.receive_strategy {
            ReceiveStrategy::Stream if wants && input.pending == 0 && strand.retry_at.is_none() => {
                input.pending = 1;
                strand.submit(cx, Operation::Receive, 0, Op::Receive(socket, ReceiveMode::Stream));
            }
            ReceiveStrategy::Stream if !wants && input.pending > 0 && !input.cancelled => {
                input.cancelled = true;
                cx.lane.cancel(socket, Cancel::Receives);
            }
            ReceiveStrategy::Once(max_pending) if wants && strand.retry_at.is_none() => {
                while input.room(max_pending) > 0 {
                    let sequence = input.next_submitted;
                    input.next_submitted = sequence.wrapping_add(1);
                    input.pending += 1;
                    let op = Op::Receive(socket, ReceiveMode::Once);
                    strand.submit(cx, Operation::Receive, sequence.into(), op);
                }
            }
            ReceiveStrategy::Stream | ReceiveStrategy::Once(_) => {}
        }
    }
}

impl Strand {
    /// Returns the maximum payload of a message from the peer now.
    pub(super) fn max_payload_bytes(&self) -> usize {
        let max = self.config.wire.max_payload_bytes;
        let trusted = self.is_open() && !self.is_unadmitted();
        if trusted || self.connects() { max } else { max.min(MAX_UNADMITTED_PAYLOAD_BYTES) }
    }

    fn on_frame(&mut self, cx: &mut Context<'_>, frame: Frame<'_>) {
        if !self.config.is_native() {
            return self.on_message(cx, frame.kind, frame.payload);
        }
        let port = &cx.shared.port;
        let now = cx.now;
        let event = self.send_control(cx, |strand, out| {
            let nonce = &mut || crate::shared::nonce(port);
            strand.session.handle_frame(&strand.config.session, now, nonce, frame, out)
        });
        match event {
            Ok(SessionEvent::Message { kind, payload }) => self.on_message(cx, kind, payload),
            Ok(SessionEvent::Request { id, kind, payload }) => {
                self.on_request(cx, id, kind, payload);
            }
            Ok(SessionEvent::Reply { id, status, kind, payload }) => {
                self.on_reply(cx, id, status, kind, payload);
            }
            Ok(SessionEvent::Transfer(frame)) => self.on_transfer_frame(cx, frame),
            Ok(SessionEvent::Established) => self.on_established(cx),
            Ok(SessionEvent::Bye(bye)) => {
                self.close(cx, Close::graceful(), DisconnectReason::goodbye(bye));
            }
            Ok(SessionEvent::Nothing) => {}
            Err(violation) => self.on_violation(cx, &violation),
        }
    }

    fn on_message(&mut self, cx: &mut Context<'_>, kind: u8, payload: &[u8]) {
        if matches!(self.phase, Phase::Opening(_)) {
            return self.keep_early(cx, kind, payload);
        }
        if self.counts_message(cx, kind) {
            let message = Message { kind, payload };
            self.run_callback(cx, |callbacks, output| callbacks.received(output, message));
        }
    }

    /// Counts a message or a request. Returns whether the handler gets it.
    fn counts_message(&mut self, cx: &Context<'_>, kind: u8) -> bool {
        if !self.is_open() {
            return false;
        }
        self.on_first_message();
        if let Some(stats) = &self.stats {
            stats.received_message();
        }
        cx.worker.marker.set_kind(kind);
        true
    }

    /// Keeps a message of a server that greets before it has read this side's hello. `connected`
    /// promises a connection with all features of hello, so the greeting waits for the server's
    /// hello.
    fn keep_early(&mut self, cx: &mut Context<'_>, kind: u8, payload: &[u8]) {
        let max = self.config.wire.max_payload_bytes + EARLY_MESSAGE_BYTES;
        let cold = self.cold();
        cold.early_bytes += payload.len() + EARLY_MESSAGE_BYTES;
        if cold.early_bytes <= max {
            return cold.early.push_back((kind, payload.to_vec()));
        }
        let text = "it sent more than max_frame_bytes of messages before it answered the hello";
        self.close(cx, Close::abort(), DisconnectReason::new(DisconnectKind::Protocol, text));
    }

    /// Returns whether messages wait that arrived before the server's hello.
    fn has_early(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| !cold.early.is_empty())
    }

    /// Delivers the next message that arrived before the server's hello. Returns `false` if there
    /// is none.
    fn deliver_early(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.is_open() {
            return false;
        }
        let Some(early) = self.cold.as_mut().and_then(|cold| cold.early.pop_front()) else {
            return false;
        };
        self.on_message(cx, early.0, &early.1);
        true
    }

    fn on_request(&mut self, cx: &mut Context<'_>, id: u32, kind: u8, payload: &[u8]) {
        let max = self.config.options.max_requests;
        let limit = self.send_limits().max_payload_bytes;
        self.may_pause_again();
        let open = &mut self.cold().open_requests;
        if open.contains(&id) {
            let kind = posthouse_wire::REQUEST_KIND;
            return self.on_violation(cx, &Violation::OutOfState { kind });
        }
        if open.len() >= max {
            let refusal = b"too many requests wait for their replies";
            let _ = self.append(&mut cx.worker.free_list, |tail| {
                posthouse_wire::encode_reply(id, ReplyStatus::Refused, 0, refusal, limit, tail)
            });
            self.count_reply(cx, REJECTION);
            return;
        }
        open.insert(id);
        if !self.counts_message(cx, kind) {
            return;
        }
        let shared = cx.shared;
        let peer = self.id;
        let message = Message { kind, payload };
        let mut frame = std::mem::take(&mut cx.worker.control);
        self.run_callback(cx, |callbacks, mut output| {
            let mut responder = Responder::new(shared, (peer, id), limit, &mut frame);
            let result = callbacks.requested(output.reborrow(), message, &mut responder);
            let answer = responder.finish();
            output.answer(id, answer, &frame);
            result
        });
        frame.clear();
        cx.worker.control = frame;
    }

    fn on_reply(
        &mut self,
        cx: &mut Context<'_>,
        id: u32,
        status: ReplyStatus,
        kind: u8,
        payload: &[u8],
    ) {
        let cold = self.cold.as_mut();
        let Some(pending) = cold.and_then(|cold| cold.requests.remove(&id)) else {
            // The request has timed out, and its closure has run.
            cx.shared.stats.late_replies.add(1);
            return;
        };
        let reply = match status {
            ReplyStatus::Ok => Ok(Message { kind, payload }),
            ReplyStatus::Refused => {
                Err(RequestError::Rejected(String::from_utf8_lossy(payload).into()))
            }
        };
        cx.worker.marker.set_kind(kind);
        self.run_reply(cx, pending.then, reply);
    }

    fn on_bad_frame(&mut self, cx: &mut Context<'_>, error: &FrameError) {
        let kind = DisconnectKind::Protocol;
        let close = Close::with_code(error.code(), error.text_for_peer());
        self.close(cx, close, DisconnectReason::new(kind, error.to_string()));
    }

    pub(crate) fn on_violation(&mut self, cx: &mut Context<'_>, violation: &Violation) {
        let kind = match violation {
            Violation::Silent { .. } => DisconnectKind::Silent,
            _ if violation.code() == posthouse_wire::bye_code::NOT_ADMITTED => {
                DisconnectKind::NotAdmitted
            }
            _ if violation.code() == posthouse_wire::bye_code::TOO_SLOW => DisconnectKind::TooSlow,
            _ => DisconnectKind::Protocol,
        };
        let close = match kind {
            DisconnectKind::Silent => Close::abort(),
            _ => Close::with_code(violation.code(), violation.text_for_peer()),
        };
        self.close(cx, close, DisconnectReason::new(kind, violation.to_string()));
    }
}
