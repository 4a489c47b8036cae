//! The sending half of a strand: appending to the queue, sending it, and reporting room in it.

use std::time::Duration;

use posthouse_io::{Gather, Op, Outcome as IoOutcome};

use super::output::FreeList;
use super::{Connection, Context, OwesWritable, Phase, Strand};
use crate::close::Close;
use crate::disconnect::{DisconnectKind, DisconnectReason};
use crate::error::SendError;
use crate::id::Operation;
use crate::send_config::SendLimits;
use crate::sync::Arc;

/// The maximum number of replies of the protocol in a send queue: rejected requests, aborts,
/// listings. A peer that asks for more and reads nothing is not read, or its connection is closed.
pub(super) const MAX_REPLIES: u16 = 1024;
/// The number of bytes that the native framing adds to a payload.
const FRAME_OVERHEAD_BYTES: usize = 5;

impl Connection {
    pub(super) fn on_send(&mut self, cx: &mut Context<'_>, outcome: IoOutcome) {
        let strand = &mut self.strand;
        match outcome {
            IoOutcome::Sent { bytes, gather } => {
                if let Some(stats) = &strand.stats {
                    stats.sent_bytes(bytes);
                }
                let before = strand.output.queued_bytes();
                let sent = strand.output.sent(&mut cx.worker.free_list, bytes, gather);
                strand.count_replies_anew(before - strand.output.queued_bytes());
                if bytes == 0 {
                    strand.retry_later(cx);
                } else {
                    strand.session.on_sent(cx.now);
                }
                if sent.sendfile_bytes > 0 {
                    cx.shared.stats.sendfile_bytes.add(sent.sendfile_bytes as u64);
                }
                if let Some(fault) = sent.fault {
                    strand.on_chunk_fault(cx, fault);
                }
                if sent.all && strand.output.queued_bytes() == 0 {
                    strand.stall = None;
                }
            }
            IoOutcome::Failed(error) => {
                strand.output.failed();
                strand.fail(cx, error);
            }
            other => unreachable!("a send ended in {other:?}"),
        }
    }

    /// Publishes the queue's size to the gate. If the queue is below its low mark after it exceeded
    /// the high one or rejected a send, calls `writable` and resumes reading, and returns `true`.
    pub(super) fn notify_writable(&mut self, cx: &mut Context<'_>) -> bool {
        let strand = &mut self.strand;
        if matches!(strand.phase, Phase::Gone) {
            return false;
        }
        let refused = strand.publish(cx);
        let low = cx.shared.tuning.queue_low_bytes;
        let is_low = strand.output.message_bytes() <= low && strand.replies < MAX_REPLIES;
        if !(strand.owes_writable != OwesWritable::No || refused) || !is_low {
            return false;
        }
        strand.owes_writable = OwesWritable::No;
        strand.gate(cx).clear_refused();
        if strand.is_open() {
            strand.run_callback(cx, |callbacks, output| callbacks.writable(output));
        }
        true
    }
}

impl Strand {
    /// Handles room that is free although nothing was sent: a thread had reserved it, and could not
    /// post its message. Another thread's message may have found no room meanwhile.
    pub(super) fn on_room_freed(&mut self, cx: &Context<'_>) {
        if self.gate(cx).take_told() && self.owes_writable == OwesWritable::No {
            self.owes_writable = OwesWritable::Refused;
        }
    }

    /// Appends to the send queue, and counts the appended bytes. All messages, replies and protocol
    /// frames that this strand encodes are appended here.
    #[inline]
    pub(crate) fn append<T>(
        &mut self,
        free_list: &mut FreeList,
        encode: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> T {
        let before = self.output.queued_bytes();
        let result = self.output.append(free_list, encode);
        self.check_queue(self.output.queued_bytes() - before);
        result
    }

    /// Appends a message of the program.
    #[inline]
    pub(crate) fn append_message(
        &mut self,
        free_list: &mut FreeList,
        kind: u8,
        payload: &[u8],
    ) -> Result<(), SendError> {
        let limits = self.send_limits();
        let before = self.output.queued_bytes();
        let send = &self.config.send;
        let encode = |tail: &mut Vec<u8>| send.encode(kind, payload, limits, tail);
        let result = self.output.append(free_list, encode);
        self.check_queue(self.output.queued_bytes() - before);
        result
    }

    /// Lets the session write frames, and queues them.
    pub(super) fn send_control<T>(
        &mut self,
        cx: &mut Context<'_>,
        answer: impl FnOnce(&mut Self, &mut Vec<u8>) -> T,
    ) -> T {
        let mut control = std::mem::take(&mut cx.worker.control);
        let result = answer(self, &mut control);
        if !control.is_empty() {
            self.append(&mut cx.worker.free_list, |tail| tail.extend_from_slice(&control));
            control.clear();
        }
        cx.worker.control = control;
        result
    }

    /// Returns whether requests, replies and goodbyes can be sent.
    pub(crate) fn has_hello(&self) -> bool {
        self.config.is_native() && self.session.may_use_reserved_kinds()
    }

    /// Returns the limits of a message to the peer.
    #[inline]
    pub(crate) fn send_limits(&self) -> SendLimits {
        let native = self.config.is_native();
        SendLimits {
            hello: native && self.session.kinds_are_reserved(),
            max_payload_bytes: if native {
                self.session.send_limit(&self.config.session)
            } else {
                self.config.wire.max_payload_bytes
            },
        }
    }

    pub(crate) fn sent_message(&mut self) {
        if let Some(stats) = &self.stats {
            stats.sent_message();
        }
    }

    /// Queues a frame that another thread encoded and for which it reserved room.
    pub(super) fn send_posted(&mut self, cx: &mut Context<'_>, frame: Vec<u8>) {
        self.gated_bytes += frame.len();
        if !self.is_open() {
            self.late_bytes += frame.len() as u64;
            return;
        }
        let limits = self.send_limits();
        let too_large = frame.len() > limits.max_payload_bytes + FRAME_OVERHEAD_BYTES;
        let reserved = limits.hello && posthouse_wire::is_reserved_kind(frame[4]);
        if self.config.is_native() && (too_large || reserved) {
            // The frame was valid when it was encoded; the hello since has changed the limits.
            let text = "a message was posted before the hello, whose limits do not allow it";
            return self.close_unsendable(text);
        }
        self.output.push_owned(&mut cx.worker.free_list, frame);
        self.sent_message();
        // Its sender has reserved room for it, so the bound holds.
        self.check_queue(usize::MAX);
    }

    /// Queues a frame of a group.
    pub(crate) fn send_shared(&mut self, cx: &mut Context<'_>, frame: &Arc<[u8]>) {
        let too_large = frame.len() > self.send_limits().max_payload_bytes + FRAME_OVERHEAD_BYTES;
        if self.config.is_native() && too_large {
            // The peer's hello has a smaller limit. The other members get the message.
            return cx.shared.stats.group_skips.add(1);
        }
        if self.is_open() {
            self.output.push_shared(&mut cx.worker.free_list, frame);
            self.sent_message();
            self.check_queue(frame.len());
        }
    }

    /// Queues the answer to a request, which another thread encoded.
    pub(super) fn send_reply(&mut self, cx: &mut Context<'_>, id: u32, frame: Vec<u8>) {
        self.gated_bytes += frame.len();
        let open = self.cold.as_mut().is_some_and(|e| e.open_requests.remove(&id));
        if !self.is_open() || !open {
            self.late_bytes += frame.len() as u64;
            return;
        }
        // A reply reserved its room at the gate; the place of a rejection was reserved before.
        self.output.push_owned(&mut cx.worker.free_list, frame);
        self.sent_message();
        self.check_queue(usize::MAX);
    }

    /// Compares the queue with its marks, after a message of this size was appended.
    #[inline]
    pub(crate) fn check_queue(&mut self, last_bytes: usize) {
        let queued = self.output.message_bytes();
        if queued > self.config.queue_high_bytes {
            self.on_high_queue(queued, last_bytes);
        }
    }

    /// Counts the replies anew once all that was queued when the last count began has been sent:
    /// the queue of a busy connection may never be empty.
    fn count_replies_anew(&mut self, sent_bytes: usize) {
        let sent_bytes = u32::try_from(sent_bytes).unwrap_or(u32::MAX);
        self.replies_until = self.replies_until.saturating_sub(sent_bytes);
        if self.replies_until == 0 {
            self.replies = 0;
            self.session.flushed();
            self.replies_until = u32::try_from(self.output.queued_bytes()).unwrap_or(u32::MAX);
        }
    }

    /// Counts a queued reply of the protocol, and the units of work that it stands for. An accepted
    /// peer that reads none of many replies is not read. A connecting side continues to read its
    /// server, so it closes at twice the number.
    pub(crate) fn count_reply(&mut self, cx: &Context<'_>, units: u64) {
        self.count_work(cx, units);
        self.replies = self.replies.saturating_add(1);
        if self.replies >= MAX_REPLIES {
            self.owes_writable = OwesWritable::OverHigh;
        }
        if self.replies >= 2 * MAX_REPLIES && self.connects() {
            let text = format!("{} replies queued, and the peer reads none", self.replies);
            let reason = DisconnectReason::new(DisconnectKind::QueueFull, text);
            self.request_close(Close::abort(), reason);
        }
    }

    /// Handles a queue over its high mark. An accepted peer is not read then. A connecting side
    /// continues to read, because two sides that both stop would wait for each other for ever. Over
    /// the maximum the connection is closed, unless the queue has only this message.
    #[cold]
    fn on_high_queue(&mut self, queued: usize, last_bytes: usize) {
        self.owes_writable = OwesWritable::OverHigh;
        if queued > last_bytes && queued > self.config.options.send_queue_bytes {
            let text = format!("{queued} bytes queued");
            let reason = DisconnectReason::new(DisconnectKind::QueueFull, text);
            self.request_close(Close::abort(), reason);
        }
    }

    /// Returns whether the last send requires nothing but an update of the gate: the queue is
    /// empty, and nothing waits for that.
    pub(super) fn has_sent_all(&self) -> bool {
        self.takes_output()
            && self.output.queued_bytes() == 0
            && !self.wants_send()
            && self.owes_writable == OwesWritable::No
            && self.retry_at.is_none()
            && self.cold.as_ref().is_none_or(|cold| cold.transfers.is_none())
    }

    pub(super) fn submit_send(&mut self, cx: &mut Context<'_>) {
        let Some(socket) = self.phase.sending_socket() else { return };
        if !self.wants_send() || self.retry_at.is_some() {
            return;
        }
        let Some(gather) = self.seal(cx) else { return };
        if self.stall.is_none() {
            let until = cx.now + Duration::from_millis(self.config.options.stall_timeout_ms);
            let sent = self.stats.as_ref().map_or(0, |stats| stats.bytes_sent());
            self.stall = Some((until, sent));
        }
        self.submit(cx, Operation::Send, 0, Op::Send(socket, gather));
    }

    /// Returns whether the send queue has passed its high mark, or has too many unread replies, and
    /// has not come below the low mark.
    pub(crate) fn is_over_high(&self) -> bool {
        self.owes_writable == OwesWritable::OverHigh
    }

    /// Seals the next send: records if the connection has a record layer, otherwise the whole queue
    /// unchanged.
    fn seal(&mut self, cx: &mut Context<'_>) -> Option<Gather> {
        let free_list = &mut cx.worker.free_list;
        let Some(records) = self.cold.as_mut().and_then(|cold| cold.records.as_deref_mut()) else {
            return Some(self.output.start(free_list));
        };
        match self.output.start_records(free_list, &mut *records.layer) {
            Ok(gather) => gather,
            Err(error) => {
                let reason = DisconnectReason::new(DisconnectKind::System, error.to_string());
                self.close(cx, Close::abort(), reason);
                None
            }
        }
    }

    /// Schedules another attempt after a temporary shortage. Nothing is lost.
    pub(super) fn retry_later(&mut self, cx: &mut Context<'_>) {
        const RETRY: Duration = Duration::from_millis(10);
        self.retry_at = Some(cx.now + RETRY);
        cx.shared.stats.shortages.add(1);
    }

    /// Publishes the queue's size to the gate. Returns whether bytes have been sent since the gate
    /// rejected a send.
    pub(super) fn publish(&mut self, cx: &Context<'_>) -> bool {
        let queued = self.output.message_bytes();
        let known = std::mem::replace(&mut self.gated_bytes, queued);
        if queued > known {
            self.gate(cx).add(queued - known);
        }
        known > queued && self.gate(cx).release(known - queued)
    }
}
