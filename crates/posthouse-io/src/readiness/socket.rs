//! The state of one registered socket: its readiness, its pending operations, and the calls that
//! serve them.
//!
//! It is the same in both layouts: a pinned lane owns its states; in the shared layout each state
//! has a lock.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::poller::{Poller, Readiness};
use super::sendfile::{SendfileDone, SendfileJob, SendfilePayload};
use crate::address::Address;
use crate::buffer::LanePool;
use crate::error::{Error, Failure};
use crate::gather::Gather;
use crate::handle::NewSocket;
use crate::native::completion_queue::CompletionQueue;
use crate::native::receives::Receive;
use crate::native::socket_core::{Input, Link, SocketCore, SocketParts, Stage, Started, Watching};
use crate::op::{Cancel, Completion, Op, Outcome, ReceiveMode};
use crate::sync::Arc;
use crate::sys::{self, Connecting};
use crate::token::{Socket, Tag};

/// The maximum number of peers that one poll accepts before other sockets have their turn.
const ACCEPTS_PER_POLL: usize = 16;

/// A slot of the table of sockets.
pub(super) type SocketState = SocketCore<ReadinessParts>;

/// The part of a socket's state that only this backend has.
#[derive(Debug, Default)]
pub(super) struct ReadinessParts {
    /// The readiness of the socket, in flags. `READABLE`: a read may return something; no read has
    /// come back empty since the last event. `WRITABLE`: there may be room to send, or a connect
    /// may have ended. `NOT_ONLY_DATA`: a short read does not prove that the socket is empty; this
    /// flag is never removed. `ENDED`: the peer has ended its stream; this flag is never removed.
    /// `HUNG_UP`: no look has found the connection to be alive since the last event.
    ready: Readiness,
    /// True exactly when the socket is queued to be polled.
    queued: bool,
    sendfile: Sendfile,
    watching: Watching,
}

const _: () = assert!(size_of::<SocketState>() <= 48, "the I/O state of an idle connection");

impl SocketParts for ReadinessParts {
    type Connect = Tag;
    type Accept = Tag;
    type Receive = ();
    /// A waiting send. It is boxed, because few sockets have one.
    type Send = Box<WaitingSend>;

    fn watching(&mut self) -> &mut Watching {
        &mut self.watching
    }
}

/// A waiting send.
#[derive(Debug)]
pub(super) struct WaitingSend {
    tag: Tag,
    waits: Waits,
}

#[derive(Debug)]
enum Waits {
    /// The gather waits for room, or for the thread that still performs an earlier send.
    Here(Gather),
    /// The payload waits for the thread of the file pool that performs the send.
    ForThread(Arc<SendfilePayload>),
}

impl WaitingSend {
    fn here(tag: Tag, gather: Gather) -> Self {
        Self { tag, waits: Waits::Here(gather) }
    }
}

/// The send of this socket that a thread of the file pool performs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sendfile {
    #[default]
    None,
    /// A thread performs a send, which may have been cancelled meanwhile.
    InFlight,
    /// A thread performs a send, and meanwhile a read saw the end of the peer's stream, or a watch
    /// a failure without its error. The end is real only if the thread gets no error: the system
    /// reports an error to one call only, and shows the others a clean end.
    InFlightAtEnd,
}

/// The methods that record the readiness that the system reports, and poll the socket.
impl SocketState {
    /// Gives the socket its handle, and registers it. A failure is kept for the first operation,
    /// because this function reports none.
    pub(super) fn adopt(&mut self, socket: Socket, fd: OwnedFd, poller: &Poller) {
        self.error = poller.add(&fd, socket.key()).err().map(sys::error);
        self.link = Link::Open(Stage::Connected, fd);
    }

    /// Merges the readiness that an event reports.
    pub(super) fn on_event(&mut self, readiness: Readiness) {
        self.own.ready.add(readiness);
    }

    /// Marks the socket as queued if it is ready and not queued yet. Returns whether the caller
    /// must queue it.
    pub(super) fn mark_queued(&mut self) -> bool {
        let connecting = matches!(self.input, Input::Connect(_));
        let reading = matches!(self.input, Input::Accept(_) | Input::Receives(_));
        let writing = connecting || self.output.is_some() && self.own.sendfile == Sendfile::None;
        let seen = self.is_watch_due();
        let ready = (self.is_readable() && reading) || (self.is_writable() && writing) || seen;
        let enqueue = ready && !self.own.queued;
        self.own.queued |= enqueue;
        enqueue
    }

    /// Performs the operations that are ready, for at most one buffer or a few accepted peers. A
    /// socket that has more to do goes to the back of the queue.
    pub(super) fn poll(&mut self, buffers: &mut LanePool, done: &mut CompletionQueue) {
        self.own.queued = false;
        if self.is_writable() {
            if let Input::Connect(tag) = self.input {
                self.finish_connect(tag, sys::connected(self.handle()), done);
            } else if self.own.sendfile == Sendfile::None
                && let Some(output) = self.output.take()
            {
                let WaitingSend { tag, waits: Waits::Here(gather) } = *output else {
                    unreachable!("a thread that has a send performs it")
                };
                self.send(tag, gather, done);
            }
        }
        if self.is_readable() {
            match self.input {
                Input::Nothing | Input::Connect(_) | Input::Watch(_) | Input::Close(_) => {}
                Input::Accept(tag) => self.accept_some(tag, done),
                Input::Receives(_) => self.receive_one(buffers, done),
            }
        }
        if self.is_watch_due() {
            self.look(done);
        }
    }

    /// Returns whether an event may end the watch. An end that may be a failure is none yet.
    fn is_watch_due(&self) -> bool {
        let ended = self.own.watching == Watching::End
            && self.own.ready.has(Readiness::ENDED)
            && self.own.sendfile != Sendfile::InFlightAtEnd;
        self.is_watched() && (ended || self.own.ready.has(Readiness::HUNG_UP))
    }

    /// Ends the watch if the connection has failed, or if the watched end is there.
    fn look(&mut self, done: &mut CompletionQueue) {
        if self.own.ready.has(Readiness::HUNG_UP) {
            let sending = self.own.sendfile != Sendfile::None;
            self.learn_failure(sending);
            if let Some(error) = self.error {
                return self.end_watch(|| Outcome::Failed(error), done);
            }
            self.own.ready.remove(Readiness::HUNG_UP);
            if sending {
                self.own.sendfile = Sendfile::InFlightAtEnd;
            }
        }
        if self.is_watch_due() {
            self.end_watch(|| Outcome::Ended, done);
        }
    }

    fn is_readable(&self) -> bool {
        self.own.ready.has(Readiness::READABLE)
    }

    fn is_writable(&self) -> bool {
        self.own.ready.has(Readiness::WRITABLE)
    }
}

/// The methods that start operations, and those that end them early (cancel, shutdown, reset).
impl SocketState {
    /// Starts an operation on this socket.
    pub(super) fn submit(
        &mut self,
        socket: Socket,
        tag: Tag,
        op: Op,
        poller: &Poller,
        done: &mut CompletionQueue,
    ) {
        let started = match op {
            Op::Accept(_) => self.check_accept().map(|()| self.input = Input::Accept(tag)),
            Op::Connect(_, address) => self.start_connect(socket, tag, address, poller, done),
            Op::Receive(_, mode) => self.start_receive(tag, mode),
            Op::Watch(_, mode) => self.start_watch(tag, mode),
            Op::Send(_, gather) => self.start_send(tag, gather, done),
            Op::Close(_) | Op::Resolve(_) | Op::File(_) => {
                unreachable!("done by the lane, not by the socket")
            }
        };
        if let Err(error) = started {
            done.fail(tag, error);
        }
    }

    pub(super) fn cancel(&mut self, what: Cancel, done: &mut CompletionQueue) {
        self.fail_all(Error::new(Failure::Cancelled), what, done);
    }

    pub(super) fn shutdown(&mut self) {
        self.set_half_closed();
        if let Some(fd) = self.link.handle() {
            sys::shutdown_write(fd);
        }
    }

    pub(super) fn reset(&mut self, done: &mut CompletionQueue) {
        let error = *self.error.insert(sys::error(Errno::CONNRESET));
        if let Some(fd) = self.link.handle() {
            sys::reset(fd);
        }
        self.fail_all(error, Cancel::Everything, done);
    }

    fn start_connect(
        &mut self,
        socket: Socket,
        tag: Tag,
        address: Address,
        poller: &Poller,
        done: &mut CompletionQueue,
    ) -> Started {
        self.check_connect()?;
        let (fd, state) = sys::connect(address)?;
        // The registration must follow the connect: epoll reports an unconnected socket as hung up.
        poller.add(&fd, socket.key())?;
        self.link = Link::Open(Stage::Unconnected, fd);
        match state {
            Connecting::Done => self.finish_connect(tag, Ok(()), done),
            Connecting::InProgress => self.input = Input::Connect(tag),
        }
        Ok(())
    }

    fn finish_connect(&mut self, tag: Tag, result: Result<(), Errno>, done: &mut CompletionQueue) {
        self.input = Input::Nothing;
        match result.map_err(sys::error).and_then(|()| self.check_ends()) {
            Ok(()) => {
                self.link.set_stage(Stage::Connected);
                done.end(tag, Outcome::Connected);
            }
            Err(error) => {
                // The failed handle would report to a receive that the peer has ended its stream.
                self.link = Link::Unopened;
                self.error = Some(sys::not_connected());
                done.fail(tag, error);
            }
        }
    }

    fn start_receive(&mut self, tag: Tag, mode: ReceiveMode) -> Started {
        if !self.is_connected() {
            return Err(sys::not_connected());
        }
        self.push_receive(Receive::new(tag, mode, ()));
        if self.error.is_some() {
            // No further event will come, but a read returns the remaining bytes and then the end.
            self.own.ready.add(Readiness::READABLE);
        }
        Ok(())
    }

    fn start_send(&mut self, tag: Tag, gather: Gather, done: &mut CompletionQueue) -> Started {
        self.check_send(&gather)?;
        self.send(tag, gather, done);
        Ok(())
    }

    fn fail_all(&mut self, error: Error, what: Cancel, done: &mut CompletionQueue) {
        self.end_receives(|| Outcome::Failed(error), done);
        if what == Cancel::Receives {
            return;
        }
        if let Input::Connect(tag) | Input::Accept(tag) = self.input {
            self.input = Input::Nothing;
            done.fail(tag, error);
        }
        if let Some(output) = self.output.take() {
            if let Waits::ForThread(payload) = &output.waits
                && payload.take().is_some()
            {
                self.end_sendfile(); // no thread has begun with it
            }
            done.fail(output.tag, error);
        }
    }
}

/// The methods that make the system calls of waiting operations: accept, receive, send.
impl SocketState {
    fn accept_some(&mut self, tag: Tag, done: &mut CompletionQueue) {
        for _ in 0..ACCEPTS_PER_POLL {
            match sys::accept(self.handle()) {
                Ok((fd, peer)) => {
                    let new = NewSocket { peer, handle: Box::new(fd) };
                    let outcome = Outcome::Accepted(Box::new(new));
                    done.put(Completion { tag, more: true, outcome });
                }
                Err(Errno::AGAIN) => return self.own.ready.remove(Readiness::READABLE),
                Err(errno) if sys::is_per_connection(errno) => {}
                Err(errno) => {
                    self.input = Input::Nothing;
                    return done.fail(tag, sys::error(errno));
                }
            }
        }
    }

    fn receive_one(&mut self, buffers: &mut LanePool, done: &mut CompletionQueue) {
        let mut buffer = buffers.take();
        let received = sys::receive(self.handle(), buffer.storage_mut());
        if let Ok(bytes @ 1..) = received {
            if bytes < buffer.capacity() && !self.own.ready.has(Readiness::NOT_ONLY_DATA) {
                self.own.ready.remove(Readiness::READABLE);
            }
            buffer.set_filled(bytes);
            return self.give(0, Outcome::Received(buffer), done);
        }
        buffers.give_back(buffer);
        match (received, self.error) {
            (Ok(_), None) if self.own.sendfile != Sendfile::None => {
                self.own.ready.remove(Readiness::READABLE);
                self.own.sendfile = Sendfile::InFlightAtEnd;
            }
            (Err(Errno::AGAIN), None) => self.own.ready.remove(Readiness::READABLE),
            (other, _) => self.end_stream(other.map(drop).map_err(sys::error), done),
        }
    }

    fn send(&mut self, tag: Tag, gather: Gather, done: &mut CompletionQueue) {
        if self.own.sendfile != Sendfile::None || gather.file_ahead().is_some() {
            // Checked before the next wait for events, so no event that reports room is missed.
            if sys::has_room(self.handle()) {
                self.own.ready.add(Readiness::WRITABLE);
            } else {
                self.own.ready.remove(Readiness::WRITABLE);
            }
            self.output = Some(Box::new(WaitingSend::here(tag, gather)));
            return;
        }
        let result = sys::send(self.handle(), &gather);
        self.sent(tag, gather, result, done);
    }

    /// Completes a send, or makes it wait for room.
    fn sent(
        &mut self,
        tag: Tag,
        gather: Gather,
        result: Result<usize, Errno>,
        done: &mut CompletionQueue,
    ) {
        match result {
            Err(Errno::AGAIN) => self.wait_for_room(tag, gather),
            other => self.end_send(tag, gather, other.map_err(sys::error), done),
        }
    }

    fn wait_for_room(&mut self, tag: Tag, gather: Gather) {
        self.own.ready.remove(Readiness::WRITABLE);
        self.output = Some(Box::new(WaitingSend::here(tag, gather)));
    }
}

/// The methods that pass a send to a thread of the file pool, and take its result.
impl SocketState {
    /// Takes the send for a thread of the file pool if its next segment lies in a file and the
    /// socket has room.
    pub(super) fn take_sendfile_job(
        &mut self,
        socket: Socket,
        done: &mut CompletionQueue,
    ) -> Option<SendfileJob> {
        let writable = self.is_writable();
        let WaitingSend { tag, waits } = &mut **self.output.as_mut()?;
        let Waits::Here(gather) = waits else { return None };
        if self.own.sendfile != Sendfile::None || !writable || gather.file_ahead().is_none() {
            return None;
        }
        let gather = std::mem::take(gather);
        let Some(to) = self.link.handle().and_then(|fd| fd.try_clone().ok()) else {
            // No descriptor is free.
            done.end(*tag, Outcome::Sent { bytes: 0, gather });
            self.output = None;
            return None;
        };
        let payload = SendfilePayload::new(gather, to);
        *waits = Waits::ForThread(payload.clone());
        self.own.sendfile = Sendfile::InFlight;
        Some(SendfileJob { socket, payload })
    }

    /// Handles the end of a send on a thread of the file pool.
    pub(super) fn on_sendfile_done(&mut self, sent: SendfileDone, done: &mut CompletionQueue) {
        let SendfileDone { gather, result, .. } = sent;
        self.end_sendfile();
        let error = match result.map_err(sys::error) {
            Err(error) if result != Err(Errno::AGAIN) && !error.is_transient() => {
                Some(self.error.unwrap_or_else(|| self.set_error(error)))
            }
            _ => None,
        };
        let Some(output) = self.output.take() else { return }; // it was cancelled
        match (*output, error.or(self.error)) {
            // A later send waits already.
            (WaitingSend { tag, waits: Waits::Here(next) }, _) => {
                if let Err(error) = self.start_send(tag, next, done) {
                    done.fail(tag, error);
                }
            }
            (WaitingSend { tag, .. }, error) => match (result, error) {
                (Ok(1..), _) => self.sent(tag, gather, result, done),
                (_, Some(error)) => done.fail(tag, error),
                (Ok(0), None) => self.send(tag, gather, done),
                // Room in the socket is not the reason.
                (Err(_), None) if self.link.handle().is_some_and(sys::has_room) => {
                    done.end(tag, Outcome::Sent { bytes: 0, gather });
                }
                (Err(_), None) => self.wait_for_room(tag, gather),
            },
        }
    }

    /// Records that no thread performs a send of this socket any more.
    fn end_sendfile(&mut self) {
        if std::mem::take(&mut self.own.sendfile) == Sendfile::InFlightAtEnd {
            self.own.ready.add(Readiness::READABLE);
            self.own.ready.add(Readiness::HUNG_UP);
        }
    }
}

#[cfg(test)]
mod tests;
