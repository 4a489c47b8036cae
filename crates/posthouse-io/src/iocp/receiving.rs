//! Receiving, with or without memory in the system's hands while nothing comes.
//!
//! The receives of a socket are a queue. The receives at its beginning are posted: the system has
//! memory for them. The others wait for a probe, a receive of zero bytes, to report that there is
//! something. When no posted receive is left, the lane reads from the socket for them. A probe
//! stands behind the posted receives, and no receive is posted behind a probe. So every read
//! returns the bytes that come next.
//!
//! A posted receive that comes back empty is only a hint, not the end of the stream: Wine returns
//! all posted receives when both streams have ended, even if bytes are left. From then on no
//! receive is posted, and reads from the socket return the remaining bytes and then the end.

use super::operation::{self, OperationKind, OverlappedId};
use super::socket::{LaneCx, SocketState};
use crate::buffer::Buffer;
use crate::error::{Error, Failure};
use crate::native::completion_queue::CompletionQueue;
use crate::native::receives::Receive;
use crate::native::socket_core::{Stage, Started};
use crate::op::{Outcome, ReceiveMode};
use crate::options::ReadMode;
use crate::sys;
use crate::token::Tag;

/// The holder of a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The system has no memory for the receive.
    Waits,
    /// The system has this operation for the receive.
    Posted(OverlappedId),
}

impl SocketState {
    pub(super) fn start_receive(
        &mut self,
        tag: Tag,
        mode: ReceiveMode,
        cx: &mut LaneCx<'_>,
    ) -> Started {
        if !self.is_connected() {
            return Err(self.error.unwrap_or(sys::not_connected()));
        }
        self.push_receive(Receive::new(tag, mode, State::Waits));
        // A read returns the remaining bytes and then the end.
        self.own.readable |= self.error.is_some();
        if !self.own.readable && !self.own.probing {
            self.serve(cx);
        }
        Ok(())
    }

    /// Returns whether there is a receive that is not posted.
    pub(super) fn wants_to_read(&mut self) -> bool {
        self.first_unposted().is_some()
    }

    fn first_unposted(&mut self) -> Option<usize> {
        self.receives().position(|receive| receive.state == State::Waits)
    }

    /// Reads from the socket, at most one buffer. If nothing is there, posts receives or a probe.
    pub(super) fn serve(&mut self, cx: &mut LaneCx<'_>) {
        if self.can_take() {
            self.take_one(cx);
        }
        if !self.own.readable && !self.own.probing && self.wants_to_read() {
            match cx.core.read_mode {
                ReadMode::Pending if !self.own.posted_receives_off => {
                    self.post_receives(cx);
                }
                ReadMode::Pending | ReadMode::ZeroByte => self.probe(cx),
            }
        }
    }

    /// Returns whether a read from the socket may serve a waiting receive.
    pub(super) fn can_take(&mut self) -> bool {
        let posted = |receive: &mut Receive<State>| receive.state != State::Waits;
        self.own.readable && self.wants_to_read() && !self.receives().any(posted)
    }

    fn take_one(&mut self, cx: &mut LaneCx<'_>) {
        let Some(index) = self.first_unposted() else { return };
        let mut buffer = cx.buffers.take();
        match (sys::receive(self.handle(), buffer.storage_mut()), self.error) {
            (Ok(Some(bytes @ 1..)), _) => {
                self.own.readable = bytes == buffer.capacity() || self.error.is_some();
                buffer.set_filled(bytes);
                return self.give(index, Outcome::Received(buffer), cx.done);
            }
            (Ok(None), None) => self.own.readable = false,
            (result, _) => self.end_stream(result.map(drop), cx.done),
        }
        cx.buffers.give_back(buffer);
    }

    /// Begins a probe, a receive without memory: it ends when there is something to receive or the
    /// stream ends.
    fn probe(&mut self, cx: &mut LaneCx<'_>) {
        let submitted = cx.core.functions.probe(self.raw(), cx.socket, cx.free_list);
        match self.count(submitted) {
            Ok(_) => self.own.probing = true,
            Err(ended) => {
                let (_, result) = cx.free_list.keep(ended);
                self.on_probe(result.map(drop), cx);
            }
        }
    }

    /// Handles the end of a probe: there are bytes to read, or the stream has ended, or an error
    /// occurred. The next read returns which of them it is.
    pub(super) fn on_probe(&mut self, result: Result<(), Error>, cx: &mut LaneCx<'_>) {
        self.own.probing = false;
        match result {
            Ok(()) => self.own.readable = true,
            // The lane's own cancel.
            Err(error) if error.failure == Failure::Cancelled => {}
            // The system has no room even for a probe, so the receivers must try again.
            Err(error) if error.is_transient() => self.fail_unposted(error, cx.done),
            Err(error) => {
                self.set_error(error);
                self.own.readable = true;
            }
        }
    }

    /// Posts every waiting receive to the system, in order. If the system lacks memory for one, a
    /// receive of zero bytes (a probe) is placed behind the posted ones; its completion says that
    /// there are bytes to receive.
    fn post_receives(&mut self, cx: &mut LaneCx<'_>) {
        while !self.own.readable
            && let Some(index) = self.first_unposted()
        {
            let buffer = cx.buffers.take();
            let functions = &cx.core.functions;
            let submitted = functions.receive(self.raw(), cx.socket, buffer, cx.free_list);
            match self.count(submitted) {
                Ok(id) => self.at(index).state = State::Posted(id),
                Err(ended) => {
                    let (work, result) = cx.free_list.keep(ended);
                    let OperationKind::Receive { buffer } = work else { unreachable!("a receive") };
                    let short = result.is_err_and(|error| error.is_transient());
                    if short {
                        cx.buffers.give_back(buffer);
                        return self.probe(cx);
                    }
                    let is_stream = self.at(index).mode == ReceiveMode::Stream;
                    self.finish(index, buffer, result, cx);
                    if is_stream {
                        // The stream continues when other sockets have had their turn.
                        self.need_poll();
                        return;
                    }
                }
            }
        }
    }

    /// Handles the end of a posted receive.
    pub(super) fn on_receive(
        &mut self,
        id: OverlappedId,
        buffer: Buffer,
        result: Result<usize, Error>,
        cx: &mut LaneCx<'_>,
    ) {
        let mut receives = self.receives().enumerate();
        let posted = receives.find(|(_, receive)| receive.state == State::Posted(id));
        let Some((index, receive)) = posted else {
            unreachable!("the system receives where a receive waits")
        };
        receive.state = State::Waits;
        drop(receives);
        self.finish(index, buffer, result, cx);
    }

    /// Handles the result of a receive with memory.
    fn finish(
        &mut self,
        index: usize,
        mut buffer: Buffer,
        result: Result<usize, Error>,
        cx: &mut LaneCx<'_>,
    ) {
        let Receive { cancelled, mode, .. } = *self.at(index);
        if let Ok(bytes @ 1..) = result {
            buffer.set_filled(bytes);
            self.give(index, Outcome::Received(buffer), cx.done);
            let over = match self.error {
                _ if cancelled => Some(Error::new(Failure::Cancelled)),
                // The bytes came before the reset. Nothing is received after them, because the
                // handle will be closed.
                error if self.link.stage() == Some(Stage::Closing) => error,
                _ => None,
            };
            if let (ReceiveMode::Stream, Some(error)) = (mode, over) {
                self.end_receive(index, Outcome::Failed(error), cx.done);
            }
            return;
        }
        cx.buffers.give_back(buffer);
        let outcome = match (result, self.error) {
            // The cancel, not the broken connection, is reported: a later receive may still get
            // bytes.
            (Err(error), _) if cancelled && error.failure == Failure::Cancelled => {
                Outcome::Failed(Error::new(Failure::Cancelled))
            }
            (_, Some(error)) => Outcome::Failed(error),
            (Ok(_), None) if cancelled => Outcome::Failed(Error::new(Failure::Cancelled)),
            (Ok(_), None) => return self.stop_posting(),
            (Err(error), None)
                if error.failure == Failure::Cancelled && self.own.posted_receives_off =>
            {
                return;
            }
            (Err(error), None) if error.is_transient() => Outcome::Failed(error),
            (Err(error), None) => Outcome::Failed(self.set_error(error)),
        };
        self.end_receive(index, outcome, cx.done);
    }

    /// Stops posting after a posted receive came back empty. It and those behind it, which are
    /// taken back, are served by reads from the socket.
    fn stop_posting(&mut self) {
        self.own.readable = true;
        if !std::mem::replace(&mut self.own.posted_receives_off, true) {
            self.cancel_posted();
        }
    }

    fn cancel_posted(&mut self) {
        let posted = |receive: &mut Receive<State>| match receive.state {
            State::Posted(id) => Some(id),
            State::Waits => None,
        };
        let ids: Vec<OverlappedId> = self.receives().filter_map(posted).collect();
        for id in ids {
            operation::cancel(self.raw(), Some(id));
        }
    }

    /// Cancels all receives. Posted ones end with their packets; the others end here.
    pub(super) fn cancel_receives(&mut self, cx: &mut LaneCx<'_>) {
        self.receives().for_each(|receive| receive.cancelled = true);
        self.cancel_posted();
        self.fail_unposted(Error::new(Failure::Cancelled), cx.done);
    }

    /// Fails every receive that is not posted.
    pub(super) fn fail_unposted(&mut self, error: Error, done: &mut CompletionQueue) {
        while let Some(index) = self.first_unposted() {
            self.end_receive(index, Outcome::Failed(error), done);
        }
    }

    fn at(&mut self, index: usize) -> &mut Receive<State> {
        self.receives().nth(index).expect("a receive that waits")
    }
}
