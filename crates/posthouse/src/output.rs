//! The sending half of a connection, as its callbacks see it.

use std::fmt;
use std::time::Duration;

use crate::close::{Close, HandlerResult};
use crate::connection::Strand;
use crate::connection::output::FreeList;
use crate::disconnect::{DisconnectKind, DisconnectReason};
use crate::error::{RequestError, SendError};
use crate::responder::Answer;
use crate::shared::Shared;
use crate::sync::Arc;
use crate::transfers::driver::TransferCommand;

/// The sending half of a [`Peer`](crate::Peer), without the state of the connection. See
/// [`Peer::split`](crate::Peer::split).
pub struct Output<'a> {
    pub(crate) strand: &'a mut Strand,
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) free_list: &'a mut FreeList,
    pub(crate) now: Duration,
}

impl fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("id", &self.strand.id).finish_non_exhaustive()
    }
}

impl<'a> Output<'a> {
    pub(crate) fn new(
        strand: &'a mut Strand,
        shared: &'a Arc<Shared>,
        free_list: &'a mut FreeList,
        now: Duration,
    ) -> Self {
        Self { strand, shared, free_list, now }
    }

    /// Queues a message, as [`Peer::send`](crate::Peer::send) does.
    #[inline]
    pub fn send(&mut self, kind: u8, payload: &[u8]) {
        if !self.is_open() {
            return;
        }
        let result = self.strand.append_message(self.free_list, kind, payload);
        self.after_append(result);
    }

    /// Returns the number of bytes queued for the peer and not yet handed to the system.
    pub fn queued_bytes(&self) -> usize {
        self.strand.output.queued_bytes()
    }

    /// Returns whether messages can be sent: `false` once this connection is closing.
    pub fn is_open(&self) -> bool {
        self.strand.takes_output()
    }

    #[inline]
    fn after_append(&mut self, result: Result<(), SendError>) {
        match result {
            Ok(()) => self.strand.sent_message(),
            Err(error) => self.strand.close_unsendable(error.to_string()),
        }
    }

    pub(crate) fn try_request(&mut self, kind: u8, payload: &[u8]) -> Result<u32, RequestError> {
        if !self.is_open() {
            return Err(RequestError::NotSent(SendError::NotConnected));
        }
        if !self.strand.has_hello() {
            return Err(RequestError::NotSent(SendError::NoHello));
        }
        if self.strand.cold().requests.len() >= self.strand.config.options.max_requests {
            return Err(RequestError::TooMany);
        }
        let max = self.strand.send_limits().max_payload_bytes;
        let id = self.strand.cold().next_request();
        let encoded = self.strand.append(self.free_list, |tail| {
            posthouse_wire::encode_request(id, kind, payload, max, tail)
        });
        encoded.map_err(|error| RequestError::NotSent(error.into()))?;
        self.after_append(Ok(()));
        Ok(id)
    }

    pub(crate) fn reborrow(&mut self) -> Output<'_> {
        let Self { strand, shared, free_list, now } = self;
        Output { strand, shared, free_list, now: *now }
    }

    /// Queues the answer of a callback to a request.
    pub(crate) fn answer(&mut self, id: u32, answer: Answer, frame: &[u8]) {
        if answer != Answer::Taken
            && let Some(cold) = &mut self.strand.cold
        {
            cold.open_requests.remove(&id);
        }
        if !self.strand.is_open() {
            return;
        }
        match answer {
            Answer::Framed => {
                self.strand.append(self.free_list, |tail| tail.extend_from_slice(frame));
                self.after_append(Ok(()));
            }
            Answer::Failed(error) => self.after_append(Err(error)),
            Answer::None | Answer::Taken => {}
        }
    }

    pub(crate) fn push_command(&mut self, command: TransferCommand) {
        if self.is_open() {
            self.strand.cold().commands.push_back(command);
        }
    }

    pub(crate) fn apply_result(&mut self, result: HandlerResult) {
        if let Err(close) = result {
            let reason = close.reason();
            self.strand.request_close(close, reason);
        }
    }

    /// Logs, once per endpoint, that the handler does not implement a required method.
    pub(crate) fn missing(&self, method: &'static str) {
        if self.shared.missing_logged.swap(true, crate::sync::Ordering::Relaxed) {
            return;
        }
        tracing::error!(
            peer = %self.strand.id,
            origin = %self.strand.config.origin,
            method,
            "the handler does not implement this method: it closes every connection that needs it"
        );
    }
}

impl Strand {
    /// Closes because this program sent an invalid message.
    #[cold]
    pub(crate) fn close_unsendable(&mut self, text: impl Into<Box<str>>) {
        let reason = DisconnectReason::new(DisconnectKind::Unsendable, text);
        self.request_close(Close::internal_error(), reason);
    }
}
