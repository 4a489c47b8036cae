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

use super::operation::{self, Name, Work};
use super::record::{Hands, Input, Record};
use crate::buffer::Buffer;
use crate::completions::Completions;
use crate::error::{Error, Failure};
use crate::operation::{Completion, Outcome, ReceiveMode};
use crate::port::ReadMode;
use crate::receives::{Receive, Receives};
use crate::system;
use crate::token::{Socket, Tag};

/// Whose a receive is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The system has no memory for it.
    Waits,
    /// The system has this operation for it.
    Posted(Name),
}

impl Record {
    pub(super) fn start_receive(
        &mut self,
        socket: Socket,
        tag: Tag,
        mode: ReceiveMode,
        hands: &mut Hands<'_>,
    ) {
        if !self.is_connected() {
            let error = self.broken.unwrap_or(Error::new(Failure::NotConnected));
            return hands.done.fail(tag, error);
        }
        let before = match std::mem::take(&mut self.input) {
            Input::Nothing => None,
            Input::Receives(all) => Some(all),
            _ => panic!("a listener has no receives"),
        };
        self.input = Input::Receives(Receives::push(before, Receive::new(tag, mode, State::Waits)));
        // A read tells what is left and then the end.
        self.readable |= self.broken.is_some();
        if !self.readable && !self.probing {
            self.serve(socket, hands);
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
    pub(super) fn serve(&mut self, socket: Socket, hands: &mut Hands<'_>) {
        if self.can_take() {
            self.take_one(hands);
        }
        if !self.readable && !self.probing && self.wants_to_read() {
            match hands.core.read_mode {
                ReadMode::Pending if !self.posts_no_more => self.post_receives(socket, hands),
                ReadMode::Pending | ReadMode::ZeroByte => self.probe(socket, hands),
            }
        }
    }

    /// Whether something may be taken from the socket, for a receive that waits for it.
    pub(super) fn can_take(&mut self) -> bool {
        let posted = |receive: &mut Receive<State>| receive.state != State::Waits;
        self.readable && self.wants_to_read() && !self.receives().any(posted)
    }

    fn take_one(&mut self, hands: &mut Hands<'_>) {
        let handle = self.handle.as_ref().expect("a socket that receives has a handle");
        let mut buffer = hands.buffers.take();
        match (system::receive(handle, buffer.storage_mut()), self.broken) {
            (Ok(Some(bytes @ 1..)), _) => {
                self.readable = bytes == buffer.capacity() || self.broken.is_some();
                buffer.set_filled(bytes);
                let outcome = Outcome::Received(buffer);
                return self.give_to_first_unposted(outcome, hands.done);
            }
            (_, Some(error)) => self.fail_unposted(error, hands.done),
            (Ok(Some(_)), None) => self.end_unposted(hands.done),
            (Ok(None), None) => self.readable = false,
            (Err(error), None) if error.is_passing() => self.fail_unposted(error, hands.done),
            (Err(error), None) => {
                let error = self.remember(error);
                self.fail_unposted(error, hands.done);
            }
        }
        hands.buffers.give_back(buffer);
    }

    /// Asks the system to tell when there is something.
    fn probe(&mut self, socket: Socket, hands: &mut Hands<'_>) {
        let begun = hands.core.functions.probe((self.raw(), socket), hands.spares);
        match self.count(begun) {
            Ok(_) => self.probing = true,
            Err(ended) => {
                let (_, result) = hands.spares.keep(ended);
                self.on_probe(result.map(drop), hands);
            }
        }
    }

    /// There is something to receive, or the end, or an error: a read will tell.
    pub(super) fn on_probe(&mut self, result: Result<(), Error>, hands: &mut Hands<'_>) {
        self.probing = false;
        match result {
            Ok(()) => self.readable = true,
            // Of our own doing.
            Err(error) if error.failure == Failure::Cancelled => {}
            // It has no room even for that: whoever receives is told to come again.
            Err(error) if error.is_passing() => self.fail_unposted(error, hands.done),
            Err(error) => {
                self.remember(error);
                self.readable = true;
            }
        }
    }

    /// Gives the system memory for every receive, in their order. Where it has no room for that, a
    /// probe stands behind those that were posted.
    fn post_receives(&mut self, socket: Socket, hands: &mut Hands<'_>) {
        while !self.readable
            && let Some(index) = self.first_unposted()
        {
            let buffer = hands.buffers.take();
            let begun = hands.core.functions.receive((self.raw(), socket), buffer, hands.spares);
            match self.count(begun) {
                Ok(name) => self.at(index).state = State::Posted(name),
                Err(ended) => {
                    let (Work::Receive { buffer }, result) = hands.spares.keep(ended) else {
                        unreachable!("a receive")
                    };
                    let short = result.is_err_and(|error| error.is_passing());
                    if short {
                        hands.buffers.give_back(buffer);
                        return self.probe(socket, hands);
                    }
                    let is_stream = self.at(index).mode == ReceiveMode::Stream;
                    self.finish(index, buffer, result, hands);
                    if is_stream {
                        // It goes on, when others have had their turn.
                        self.goes_on = true;
                        return;
                    }
                }
            }
        }
    }

    /// A receive that the system had memory for has ended.
    pub(super) fn on_receive(
        &mut self,
        name: Name,
        buffer: Buffer,
        result: Result<usize, Error>,
        hands: &mut Hands<'_>,
    ) {
        let index = self.receives().position(|receive| receive.state == State::Posted(name));
        let index = index.expect("the system receives where a receive waits");
        self.at(index).state = State::Waits;
        self.finish(index, buffer, result, hands);
    }

    /// What came of a receive with memory.
    fn finish(
        &mut self,
        index: usize,
        mut buffer: Buffer,
        result: Result<usize, Error>,
        hands: &mut Hands<'_>,
    ) {
        let Receive { cancelled, mode, .. } = *self.at(index);
        if let Ok(bytes @ 1..) = result {
            buffer.set_filled(bytes);
            self.give(index, Outcome::Received(buffer), hands.done);
            let over = match self.broken {
                _ if cancelled => Some(Error::new(Failure::Cancelled)),
                // It came before the reset. Nothing is received behind that: the handle is to go.
                broken if self.closes_when_free => broken,
                _ => None,
            };
            if let (ReceiveMode::Stream, Some(error)) = (mode, over) {
                self.end(index, Outcome::Failed(error), hands.done);
            }
            return;
        }
        hands.buffers.give_back(buffer);
        let outcome = match (result, self.broken) {
            // Not by what broke the connection: what comes after it may have bytes.
            (Err(error), _) if cancelled && error.failure == Failure::Cancelled => {
                Outcome::Failed(Error::new(Failure::Cancelled))
            }
            (_, Some(error)) => Outcome::Failed(error),
            (Ok(_), None) if cancelled => Outcome::Failed(Error::new(Failure::Cancelled)),
            (Ok(_), None) => return self.post_no_more(),
            (Err(error), None) if error.failure == Failure::Cancelled && self.posts_no_more => {
                return;
            }
            (Err(error), None) if error.is_passing() => Outcome::Failed(error),
            (Err(error), None) => Outcome::Failed(self.remember(error)),
        };
        self.end(index, outcome, hands.done);
    }

    /// A posted receive came back empty: it, and those behind it, which are taken back, are for the
    /// socket itself to answer.
    fn post_no_more(&mut self) {
        self.readable = true;
        if !std::mem::replace(&mut self.posts_no_more, true) {
            self.cancel_posted();
        }
    }

    fn cancel_posted(&mut self) {
        let posted = |receive: &mut Receive<State>| match receive.state {
            State::Posted(name) => Some(name),
            State::Waits => None,
        };
        let names: Vec<Name> = self.receives().filter_map(posted).collect();
        for name in names {
            operation::cancel(self.raw(), Some(name));
        }
    }

    /// What the system has comes back by itself; the others end here.
    pub(super) fn cancel_receives(&mut self, hands: &mut Hands<'_>) {
        self.receives().for_each(|receive| receive.cancelled = true);
        self.cancel_posted();
        self.fail_unposted(Error::new(Failure::Cancelled), hands.done);
    }

    /// Fails every receive that the system has no memory for.
    pub(super) fn fail_unposted(&mut self, error: Error, done: &mut Completions) {
        self.each_unposted(|| Outcome::Failed(error), done);
    }

    fn end_unposted(&mut self, done: &mut Completions) {
        self.each_unposted(|| Outcome::Ended, done);
    }

    fn each_unposted(&mut self, outcome: impl Fn() -> Outcome, done: &mut Completions) {
        while let Some(index) = self.first_unposted() {
            self.end(index, outcome(), done);
        }
    }

    fn give_to_first_unposted(&mut self, outcome: Outcome, done: &mut Completions) {
        let index = self.first_unposted();
        self.give(index.expect("a receive that reads"), outcome, done);
    }

    /// Data for a receive; a stream goes on.
    fn give(&mut self, index: usize, outcome: Outcome, done: &mut Completions) {
        let receive = *self.at(index);
        match receive.mode {
            ReceiveMode::Stream => done.put(Completion { tag: receive.tag, more: true, outcome }),
            ReceiveMode::Once => self.end(index, outcome, done),
        }
    }

    fn end(&mut self, index: usize, outcome: Outcome, done: &mut Completions) {
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
