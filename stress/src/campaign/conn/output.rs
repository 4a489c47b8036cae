//! The sends of one end.

use posthouse_io::{Failure, Gather, Op, Outcome, Segment};

use super::{Check, Conn, WorkerCx};
use crate::campaign::counts::Count;
use crate::campaign::tags::OpKind;

impl Conn {
    /// Sends the next bytes. Returns false if not everything has been sent.
    pub(super) fn send(&mut self, cx: &mut WorkerCx<'_>) -> bool {
        if self.outgoing.ended {
            return true;
        }
        let waits = self.part.replies_last && !self.summary.ended;
        if self.outgoing.in_flight.is_some() || waits {
            return false;
        }
        if self.summary.sent == self.outgoing.message_end {
            if self.outgoing.messages == self.part.messages {
                return true;
            }
            self.outgoing.message_end += self.part.message_bytes(self.outgoing.messages);
            self.outgoing.messages += 1;
            cx.counts.count(Count::Messages);
        }
        let rest = self.outgoing.rest.take();
        self.outgoing.stalled = rest.is_some();
        let gather = rest.unwrap_or_else(|| self.gather(cx));
        self.outgoing.in_flight = Some(gather.len());
        self.outgoing.cancelled = false;
        self.submit(OpKind::Send, 0, Op::Send(self.socket, gather), cx);
        false
    }

    /// Returns the unsent part of the message, in one segment or in several.
    fn gather(&mut self, cx: &mut WorkerCx<'_>) -> Gather {
        let from = self.summary.sent;
        let until = self.outgoing.message_end;
        let mut gather = Gather::default();
        self.outgoing.of_file = false;
        let pieces = match self.random.below(32) {
            0 => 100,
            1..4 => self.random.between(2, 5),
            4..12 if cx.campaign.settings.files => {
                // The first bytes come from memory, the rest from the file.
                let middle = from + self.random.below(until - from);
                let offset = self.outgoing.pattern.in_row(middle);
                if let Some(part) = cx.campaign.file_source.part(offset, until - middle) {
                    let first = self.outgoing.pattern.bytes(from, middle);
                    gather.push(Segment::Owned(first));
                    gather.push(part);
                    self.outgoing.of_file = true;
                    return gather;
                }
                1
            }
            _ => 1,
        };
        let bytes = self.outgoing.pattern.bytes(from, until);
        if pieces == 1 {
            gather.push(Segment::Owned(bytes));
            return gather;
        }
        for piece in bytes.chunks(bytes.len().div_ceil(pieces as usize)) {
            gather.push(if self.random.one_in(2) {
                Segment::Shared(piece.into())
            } else {
                Segment::Owned(piece.to_vec())
            });
        }
        gather
    }

    /// Returns whether the send may have left in part if it fails.
    pub(super) fn is_send_doubtful(&self, cx: &WorkerCx<'_>) -> bool {
        self.outgoing.of_file || cx.campaign.settings.failed_sends_are_doubtful()
    }

    pub(super) fn sent(&mut self, outcome: Outcome, cx: &mut WorkerCx<'_>) -> Check {
        let Some(length) = self.outgoing.in_flight.take() else {
            return Err("a send completed, and none was in flight".to_owned());
        };
        match outcome {
            Outcome::Sent { bytes, mut gather } => {
                if gather.len() != length || bytes > length {
                    return Err(format!(
                        "{bytes} of {length} bytes sent, and a gather of {} bytes came back",
                        gather.len()
                    ));
                }
                let mut fault = None;
                gather.advance(bytes, |segment| {
                    if let Segment::File(part) = segment {
                        cx.counts.count(Count::FileParts);
                        fault = part.fault();
                    }
                });
                if let Some(fault) = fault {
                    return Err(format!("zeros were sent in place of the file: {fault:?}"));
                }
                self.summary.sent += bytes as u32;
                cx.counts.add(Count::SentBytes, bytes as u64);
                if gather.is_empty() {
                    return Ok(());
                }
                cx.counts.count(Count::SendsPartly);
                let mut at = self.summary.sent;
                for piece in gather.slices() {
                    if self.outgoing.pattern.first_difference(at, piece).is_some() {
                        return Err(
                            "a send returned different memory from that submitted".to_owned()
                        );
                    }
                    at += piece.len() as u32;
                }
                self.outgoing.rest = Some(gather);
                Ok(())
            }
            // If no byte of a cancelled send has left, it is sent again; otherwise the other end
            // would see these bytes twice.
            Outcome::Failed(error) => {
                if self.is_send_doubtful(cx) {
                    self.summary.doubtful = length as u32;
                }
                let cancelled = error.failure == Failure::Cancelled;
                cx.counts.add(Count::SendsCancelled, cancelled.into());
                self.failed(error, self.outgoing.cancelled)
            }
            other => Err(format!("a send completed with {other:?}")),
        }
    }

    pub(super) fn end_stream(&mut self, cx: &mut WorkerCx<'_>) {
        if !self.outgoing.ended && (self.summary.ended || !self.part.ends_last) {
            self.shut_down(cx);
        }
    }

    pub(super) fn shut_down(&mut self, cx: &mut WorkerCx<'_>) {
        self.outgoing.ended = true;
        cx.counts.add(Count::HalfCloses, (!self.summary.ended).into());
        cx.lane.shutdown(self.socket);
    }
}
