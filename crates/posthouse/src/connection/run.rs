//! Runs of messages: the short way from a chunk to the handler, for frames that lie whole in the
//! chunk and are not the protocol's. The handler's own code loops over them
//! (`Callbacks::received_run`), so the overhead of a callback is paid once for all of them.

use posthouse_wire::Reader;

use super::input::{Chunk, Input};
use super::receive::DeliveryBudget;
use super::{Context, Strand};
use crate::message::Message;
use crate::watchdog::CallbackMarker;

/// A run of messages of one chunk.
pub(crate) struct MessageRun<'a> {
    reader: &'a mut Reader,
    /// The rest of the chunk.
    rest: &'a [u8],
    /// The limit at the start of the run. The handler can only raise it.
    max_payload_bytes: usize,
    budget: &'a mut DeliveryBudget,
    marker: &'a CallbackMarker,
}

impl<'a> MessageRun<'a> {
    /// Returns the next message, if the connection still takes messages and the budget allows it.
    /// The phase is not checked, because it changes only after the callback.
    #[inline]
    pub(crate) fn next(&mut self, strand: &Strand) -> Option<Message<'a>> {
        if self.budget.messages == 0 || self.budget.bytes == 0 || !strand.wants_another() {
            return None;
        }
        let before = self.rest.len();
        let config = &strand.config.wire;
        let max = self.max_payload_bytes;
        let accepts = |kind| !strand.config.is_native() || strand.session.is_message(kind);
        let frame = self.reader.next_whole(config, max, accepts, &mut self.rest)?;
        self.budget.messages -= 1;
        self.budget.bytes = self.budget.bytes.saturating_sub(before - self.rest.len());
        if let Some(stats) = &strand.stats {
            stats.received_message();
        }
        self.marker.next(frame.kind);
        Some(Message { kind: frame.kind, payload: frame.payload })
    }
}

impl Strand {
    /// Passes the messages at the beginning of the chunk to the handler. Returns whether there was
    /// one.
    pub(super) fn run_messages(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut Input,
        chunk: &mut Chunk,
        budget: &mut DeliveryBudget,
    ) -> bool {
        if !self.is_open() {
            return false;
        }
        let marker = cx.worker.marker.clone();
        let rest = chunk.plain_bytes();
        let max_payload_bytes = self.max_payload_bytes();
        let reader = &mut input.reader;
        let mut run = MessageRun { reader, rest, max_payload_bytes, budget, marker: &marker };
        let Some(first) = run.next(self) else { return false };
        input.frame_rate = None;
        self.on_first_message();
        self.run_callback(cx, |callbacks, output| callbacks.received_run(output, first, &mut run));
        let left = run.rest.len();
        chunk.keep_last(left);
        true
    }

    /// Returns whether the connection takes another message after a callback of the run.
    #[inline]
    fn wants_another(&self) -> bool {
        self.requested_close.is_none() && self.may_read()
    }
}
