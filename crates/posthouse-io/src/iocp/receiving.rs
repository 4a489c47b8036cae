//! Receiving: without memory while nothing comes, or with memory in the system's hands.
//!
//! The receives of a socket are a queue. Those that the system has memory for (the posted ones) are
//! its beginning; the others wait for a probe, a receive of zero bytes, to say that there is
//! something, and then take it from the socket themselves, when none is posted any more. A probe
//! stands behind the posted ones, and nothing is posted behind a probe: so whatever is taken is
//! what comes next.
//!
//! A posted receive that comes back empty is taken for a word, not for the end: Wine gives back all
//! that are posted when both streams have ended, even where bytes are left. From then on nothing is
//! posted, and the socket itself says what is left, and when it is the end.

use super::operation::{self, OperationKind, OverlappedId};
use super::socket::{Input, LaneCx, SocketState};
use crate::buffer::Buffer;
use crate::error::{Error, Failure};
use crate::native::completion_queue::CompletionQueue;
use crate::native::receives::{Receive, Receives};
use crate::op::{Completion, Outcome, ReceiveMode};
use crate::options::ReadMode;
use crate::sys;
use crate::token::{Socket, Tag};

/// Whose a receive is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The system has no memory for it.
    Waits,
    /// The system has this operation for it.
    Posted(OverlappedId),
}

impl SocketState {
    pub(super) fn start_receive(
        &mut self,
        socket: Socket,
        tag: Tag,
        mode: ReceiveMode,
        cx: &mut LaneCx<'_>,
    ) {
        if !self.is_connected() {
            let error = self.error.unwrap_or(Error::new(Failure::NotConnected));
            return cx.done.fail(tag, error);
        }
        let before = match std::mem::take(&mut self.input) {
            Input::Nothing => None,
            Input::Receives(all) => Some(all),
            _ => panic!("a listener has no receives"),
        };
        self.input = Input::Receives(Receives::push(before, Receive::new(tag, mode, State::Waits)));
        // A read tells what is left and then the end.
        self.readable |= self.error.is_some();
        if !self.readable && !self.probing {
            self.serve(socket, cx);
        }
    }

    /// Whether there is a receive that the system has no memory for.
    pub(super) fn wants_to_read(&mut self) -> bool {
        self.first_unposted().is_some()
    }

    fn first_unposted(&mut self) -> Option<usize> {
        self.receives().position(|receive| receive.state == State::Waits)
    }

    /// Takes what is there, at most one buffer; where nothing is, has the system tell of it.
    pub(super) fn serve(&mut self, socket: Socket, cx: &mut LaneCx<'_>) {
        if self.can_take() {
            self.take_one(cx);
        }
        if !self.readable && !self.probing && self.wants_to_read() {
            match cx.core.read_mode {
                ReadMode::Pending if !self.posted_receives_off => self.post_receives(socket, cx),
                ReadMode::Pending | ReadMode::ZeroByte => self.probe(socket, cx),
            }
        }
    }

    /// Whether something may be taken from the socket, for a receive that waits for it.
    pub(super) fn can_take(&mut self) -> bool {
        let posted = |receive: &mut Receive<State>| receive.state != State::Waits;
        self.readable && self.wants_to_read() && !self.receives().any(posted)
    }

    fn take_one(&mut self, cx: &mut LaneCx<'_>) {
        let handle = self.handle.as_ref().expect("a socket that receives has a handle");
        let mut buffer = cx.buffers.take();
        match (sys::receive(handle, buffer.storage_mut()), self.error) {
            (Ok(Some(bytes @ 1..)), _) => {
                self.readable = bytes == buffer.capacity() || self.error.is_some();
                buffer.set_filled(bytes);
                let outcome = Outcome::Received(buffer);
                return self.give_to_first_unposted(outcome, cx.done);
            }
            (_, Some(error)) => self.fail_unposted(error, cx.done),
            (Ok(Some(_)), None) => self.end_unposted(cx.done),
            (Ok(None), None) => self.readable = false,
            (Err(error), None) if error.is_transient() => self.fail_unposted(error, cx.done),
            (Err(error), None) => {
                let error = self.set_error(error);
                self.fail_unposted(error, cx.done);
            }
        }
        cx.buffers.give_back(buffer);
    }

    /// Asks the system to tell when there is something.
    fn probe(&mut self, socket: Socket, cx: &mut LaneCx<'_>) {
        let submitted = cx.core.functions.probe((self.raw(), socket), cx.free_list);
        match self.count(submitted) {
            Ok(_) => self.probing = true,
            Err(ended) => {
                let (_, result) = cx.free_list.keep(ended);
                self.on_probe(result.map(drop), cx);
            }
        }
    }

    /// There is something to receive, or the end, or an error: a read will tell.
    pub(super) fn on_probe(&mut self, result: Result<(), Error>, cx: &mut LaneCx<'_>) {
        self.probing = false;
        match result {
            Ok(()) => self.readable = true,
            // Of our own doing.
            Err(error) if error.failure == Failure::Cancelled => {}
            // It has no room even for that: whoever receives is told to come again.
            Err(error) if error.is_transient() => self.fail_unposted(error, cx.done),
            Err(error) => {
                self.set_error(error);
                self.readable = true;
            }
        }
    }

    /// Gives the system memory for every receive, in their order. Where it has no room for that, a
    /// probe stands behind those that were posted.
    fn post_receives(&mut self, socket: Socket, cx: &mut LaneCx<'_>) {
        while !self.readable
            && let Some(index) = self.first_unposted()
        {
            let buffer = cx.buffers.take();
            let submitted = cx.core.functions.receive((self.raw(), socket), buffer, cx.free_list);
            match self.count(submitted) {
                Ok(id) => self.at(index).state = State::Posted(id),
                Err(ended) => {
                    let (OperationKind::Receive { buffer }, result) = cx.free_list.keep(ended)
                    else {
                        unreachable!("a receive")
                    };
                    let short = result.is_err_and(|error| error.is_transient());
                    if short {
                        cx.buffers.give_back(buffer);
                        return self.probe(socket, cx);
                    }
                    let is_stream = self.at(index).mode == ReceiveMode::Stream;
                    self.finish(index, buffer, result, cx);
                    if is_stream {
                        // It goes on, when others have had their turn.
                        self.needs_poll = true;
                        return;
                    }
                }
            }
        }
    }

    /// A receive that the system had memory for has ended.
    pub(super) fn on_receive(
        &mut self,
        id: OverlappedId,
        buffer: Buffer,
        result: Result<usize, Error>,
        cx: &mut LaneCx<'_>,
    ) {
        let index = self.receives().position(|receive| receive.state == State::Posted(id));
        let index = index.expect("the system receives where a receive waits");
        self.at(index).state = State::Waits;
        self.finish(index, buffer, result, cx);
    }

    /// What came of a receive with memory.
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
                // It came before the reset. Nothing is received behind that: the handle is to go.
                error if self.closes_when_free => error,
                _ => None,
            };
            if let (ReceiveMode::Stream, Some(error)) = (mode, over) {
                self.end(index, Outcome::Failed(error), cx.done);
            }
            return;
        }
        cx.buffers.give_back(buffer);
        let outcome = match (result, self.error) {
            // Not by what broke the connection: what comes after it may have bytes.
            (Err(error), _) if cancelled && error.failure == Failure::Cancelled => {
                Outcome::Failed(Error::new(Failure::Cancelled))
            }
            (_, Some(error)) => Outcome::Failed(error),
            (Ok(_), None) if cancelled => Outcome::Failed(Error::new(Failure::Cancelled)),
            (Ok(_), None) => return self.stop_posting(),
            (Err(error), None)
                if error.failure == Failure::Cancelled && self.posted_receives_off =>
            {
                return;
            }
            (Err(error), None) if error.is_transient() => Outcome::Failed(error),
            (Err(error), None) => Outcome::Failed(self.set_error(error)),
        };
        self.end(index, outcome, cx.done);
    }

    /// A posted receive came back empty: it, and those behind it, which are taken back, are for the
    /// socket itself to answer.
    fn stop_posting(&mut self) {
        self.readable = true;
        if !std::mem::replace(&mut self.posted_receives_off, true) {
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

    /// What the system has comes back by itself; the others end here.
    pub(super) fn cancel_receives(&mut self, cx: &mut LaneCx<'_>) {
        self.receives().for_each(|receive| receive.cancelled = true);
        self.cancel_posted();
        self.fail_unposted(Error::new(Failure::Cancelled), cx.done);
    }

    /// Fails every receive that the system has no memory for.
    pub(super) fn fail_unposted(&mut self, error: Error, done: &mut CompletionQueue) {
        self.each_unposted(|| Outcome::Failed(error), done);
    }

    fn end_unposted(&mut self, done: &mut CompletionQueue) {
        self.each_unposted(|| Outcome::Ended, done);
    }

    fn each_unposted(&mut self, outcome: impl Fn() -> Outcome, done: &mut CompletionQueue) {
        while let Some(index) = self.first_unposted() {
            self.end(index, outcome(), done);
        }
    }

    fn give_to_first_unposted(&mut self, outcome: Outcome, done: &mut CompletionQueue) {
        let index = self.first_unposted();
        self.give(index.expect("a receive that reads"), outcome, done);
    }

    /// Data for a receive; a stream goes on.
    fn give(&mut self, index: usize, outcome: Outcome, done: &mut CompletionQueue) {
        let receive = *self.at(index);
        match receive.mode {
            ReceiveMode::Stream => done.put(Completion { tag: receive.tag, more: true, outcome }),
            ReceiveMode::Once => self.end(index, outcome, done),
        }
    }

    fn end(&mut self, index: usize, outcome: Outcome, done: &mut CompletionQueue) {
        let Input::Receives(all) = std::mem::take(&mut self.input) else {
            unreachable!("no receive")
        };
        let (ended, rest) = all.remove(index);
        self.input = rest.map_or(Input::Nothing, Input::Receives);
        done.end(ended.tag, outcome);
    }

    fn at(&mut self, index: usize) -> &mut Receive<State> {
        self.receives().nth(index).expect("a receive that waits")
    }

    /// The receives, the first first.
    fn receives(&mut self) -> impl Iterator<Item = &mut Receive<State>> {
        let all = match &mut self.input {
            Input::Receives(all) => Some(all.iter_mut()),
            _ => None,
        };
        all.into_iter().flatten()
    }
}
