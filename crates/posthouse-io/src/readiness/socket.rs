//! The state of one registered socket: its readiness, its pending operations, and the calls that
//! serve them.
//!
//! The same for both layouts: a pinned lane owns its states, in the shared layout each has a lock.

use std::collections::VecDeque;
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
use crate::native::slot_table::Slot;
use crate::op::{Cancel, Completion, Op, Outcome, ReceiveMode};
use crate::sync::Arc;
use crate::sys::{self, Connecting};
use crate::token::{Socket, Tag};

/// Peers that one poll takes from an accept queue before other sockets have their turn.
const ACCEPTS_PER_POLL: usize = 16;

/// A slot of the table of sockets.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about one socket, and the state must stay small"
)]
pub(super) struct SocketState {
    /// None: a socket that has not begun to connect, or a vacant slot.
    fd: Option<OwnedFd>,
    generation: u32,
    input: Input,
    /// The send that waits; boxed, because few sockets have one.
    output: Option<Box<Output>>,
    /// What ended the connection. The system tells it to one call only, be it a send or a receive,
    /// and shows the others a clean end or a broken pipe: kept so that all are told the same.
    error: Option<Error>,
    /// True exactly when the slot is taken.
    live: bool,
    /// True exactly when a read may yield something: no read has come back empty since the last
    /// event.
    readable: bool,
    /// True exactly when room to send may be there, or a connect may have ended.
    writable: bool,
    /// True exactly when a short read does not show that the socket is empty: see
    /// [`Readiness::not_only_data`]. Never forgotten.
    read_until_empty: bool,
    /// True exactly when the socket is queued to be polled.
    queued: bool,
    /// True exactly when this side has ended its stream.
    write_shutdown: bool,
    /// True exactly while a thread of the file pool performs a send, cancelled since or not.
    sendfile_in_flight: bool,
    /// True exactly when the end of the peer's stream was seen meanwhile. It is one only if the
    /// thread has met no error: the system tells that to one call only, and shows the others a
    /// clean end.
    ended_during_sendfile: bool,
}

const _: () = assert!(size_of::<SocketState>() <= 48, "the I/O state of an idle connection");

/// A send that waits.
#[derive(Debug)]
struct Output {
    tag: Tag,
    waits: Waits,
}

#[derive(Debug)]
enum Waits {
    /// For room, or for the thread that is still at one before it.
    Here(Gather),
    /// For the thread of the file pool that performs it.
    ForThread(Arc<SendfilePayload>),
}

impl Output {
    fn here(tag: Tag, gather: Gather) -> Self {
        Self { tag, waits: Waits::Here(gather) }
    }
}

/// What waits for a socket to become readable (or connected). These exclude each other.
#[derive(Debug, Default)]
enum Input {
    #[default]
    Nothing,
    Connect(Tag),
    Accept(Tag),
    Stream(Tag),
    Once(Tag),
    /// At least one, in the order of their submission; there have been more.
    #[expect(clippy::box_collection, reason = "the state must stay small, and this is rare")]
    Several(Box<VecDeque<Tag>>),
}

impl Slot for SocketState {
    fn occupy(&mut self, slot: u32) -> Socket {
        assert!(!self.live, "a slot taken twice");
        *self = Self { generation: self.generation, live: true, ..Self::default() };
        Socket { slot, generation: self.generation }
    }

    fn is(&self, socket: Socket) -> bool {
        self.live && self.generation == socket.generation
    }
}

/// The handle.
impl SocketState {
    /// Gives the socket its handle, and registers it. A failure to do so is kept for the first
    /// operation: this is not the place where a failure is told.
    pub(super) fn adopt(&mut self, socket: Socket, fd: OwnedFd, poller: &Poller) {
        self.error = poller.add(&fd, socket.key()).err().map(sys::error);
        self.fd = Some(fd);
    }

    /// Vacates the slot; the handle is closed when it is dropped.
    pub(super) fn vacate(&mut self) -> Option<OwnedFd> {
        assert!(
            matches!(self.input, Input::Nothing) && self.output.is_none(),
            "a socket closed with operations in flight: cancel, await, then close"
        );
        self.live = false;
        self.generation = self.generation.wrapping_add(1);
        self.fd.take()
    }

    pub(super) fn local_address(&self) -> Option<Address> {
        self.fd.as_ref().and_then(sys::local_address)
    }
}

/// Polling.
impl SocketState {
    /// Merges the readiness that an event reports.
    pub(super) fn on_event(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable;
        self.writable |= readiness.writable;
        self.read_until_empty |= readiness.not_only_data;
    }

    /// Marks the socket as queued if it is ready and not queued yet. Returns whether the caller
    /// must queue it.
    pub(super) fn mark_queued(&mut self) -> bool {
        let connecting = matches!(self.input, Input::Connect(_));
        let reading = !connecting && !matches!(self.input, Input::Nothing);
        let writing = connecting || self.output.is_some() && !self.sendfile_in_flight;
        let ready = (self.readable && reading) || (self.writable && writing);
        let enqueue = ready && !self.queued;
        self.queued |= enqueue;
        enqueue
    }

    /// Does what is ready, for at most one buffer or a few accepted peers: a socket that has more
    /// goes to the back of the queue.
    pub(super) fn poll(&mut self, buffers: &mut LanePool, done: &mut CompletionQueue) {
        self.queued = false;
        if self.writable {
            if let Input::Connect(tag) = self.input {
                self.finish_connect(tag, done);
            } else if !self.sendfile_in_flight
                && let Some(output) = self.output.take()
            {
                let Output { tag, waits: Waits::Here(gather) } = *output else {
                    unreachable!("a thread that has a send performs it")
                };
                self.send(tag, gather, done);
            }
        }
        if self.readable {
            match self.input {
                Input::Nothing | Input::Connect(_) => {}
                Input::Accept(tag) => self.accept_some(tag, done),
                Input::Stream(_) | Input::Once(_) | Input::Several(_) => {
                    self.receive_one(buffers, done);
                }
            }
        }
    }
}

/// Operations, and what ends them early.
impl SocketState {
    /// Starts an operation on this socket.
    pub(super) fn submit(
        &mut self,
        tag: Tag,
        op: Op,
        (socket, poller): (Socket, &Poller),
        done: &mut CompletionQueue,
    ) {
        match op {
            Op::Accept(_) => self.start_accept(tag, done),
            Op::Connect(_, address) => self.start_connect(tag, address, (socket, poller), done),
            Op::Receive(_, mode) => self.start_receive(tag, mode, done),
            Op::Send(_, gather) => self.start_send(tag, gather, done),
            Op::Close(_) | Op::Resolve(_) | Op::File(_) => {
                unreachable!("done by the lane, not by the socket")
            }
        }
    }

    pub(super) fn cancel(&mut self, what: Cancel, done: &mut CompletionQueue) {
        self.fail_all(Error::new(Failure::Cancelled), what, done);
    }

    pub(super) fn shutdown(&mut self) {
        self.write_shutdown = true;
        if let Some(fd) = &self.fd {
            sys::shutdown_write(fd);
        }
    }

    pub(super) fn reset(&mut self, done: &mut CompletionQueue) {
        let error = *self.error.insert(sys::error(Errno::CONNRESET));
        if let Some(fd) = &self.fd {
            sys::reset(fd);
        }
        self.fail_all(error, Cancel::Everything, done);
    }

    fn start_accept(&mut self, tag: Tag, done: &mut CompletionQueue) {
        assert!(matches!(self.input, Input::Nothing), "one accept at a time");
        if let Some(error) = self.error {
            return done.fail(tag, error);
        }
        self.input = Input::Accept(tag);
    }

    fn start_connect(
        &mut self,
        tag: Tag,
        address: Address,
        (socket, poller): (Socket, &Poller),
        done: &mut CompletionQueue,
    ) {
        assert!(self.fd.is_none(), "a socket connects once");
        if let Some(error) = self.error {
            return done.fail(tag, error);
        }
        let connected = sys::connect(address).and_then(|(fd, state)| {
            // Not before connect: an unconnected socket is reported as hung up.
            poller.add(&fd, socket.key())?;
            Ok((fd, state))
        });
        match connected {
            Ok((fd, Connecting::Done)) => {
                self.fd = Some(fd);
                done.end(tag, Outcome::Connected);
            }
            Ok((fd, Connecting::InProgress)) => {
                self.fd = Some(fd);
                self.input = Input::Connect(tag);
            }
            Err(errno) => done.fail(tag, sys::error(errno)),
        }
    }

    fn finish_connect(&mut self, tag: Tag, done: &mut CompletionQueue) {
        self.input = Input::Nothing;
        let fd = self.fd.as_ref().expect("a socket that connects has a handle");
        match sys::connected(fd) {
            Ok(()) => done.end(tag, Outcome::Connected),
            Err(errno) => {
                // What is left of the handle would tell a receive that the peer has ended.
                self.fd = None;
                self.error = Some(sys::error(Errno::NOTCONN));
                done.fail(tag, sys::error(errno));
            }
        }
    }

    fn start_receive(&mut self, tag: Tag, mode: ReceiveMode, done: &mut CompletionQueue) {
        if !self.is_connected() {
            return done.fail(tag, sys::error(Errno::NOTCONN));
        }
        self.input = match (std::mem::take(&mut self.input), mode) {
            (Input::Nothing, ReceiveMode::Stream) => Input::Stream(tag),
            (Input::Nothing, ReceiveMode::Once) => Input::Once(tag),
            (Input::Once(first), ReceiveMode::Once) => {
                Input::Several(Box::new(VecDeque::from([first, tag])))
            }
            (Input::Several(mut tags), ReceiveMode::Once) => {
                tags.push_back(tag);
                Input::Several(tags)
            }
            _ => panic!("a stream of receives is alone on its socket, and a listener has none"),
        };
        // No event will come any more, but a read tells what is left and then the end.
        self.readable |= self.error.is_some();
    }

    fn start_send(&mut self, tag: Tag, gather: Gather, done: &mut CompletionQueue) {
        assert!(!gather.is_empty(), "a send without bytes");
        assert!(self.output.is_none(), "one send at a time on a socket");
        match self.error {
            Some(error) => done.fail(tag, error),
            None if self.is_connected() => self.send(tag, gather, done),
            None => done.fail(tag, sys::error(Errno::NOTCONN)),
        }
    }

    fn is_connected(&self) -> bool {
        self.fd.is_some() && !matches!(self.input, Input::Connect(_))
    }
}

/// Where an operation meets the system.
impl SocketState {
    fn accept_some(&mut self, tag: Tag, done: &mut CompletionQueue) {
        let listener = self.fd.as_ref().expect("a listener has a handle");
        for _ in 0..ACCEPTS_PER_POLL {
            match sys::accept(listener) {
                Ok((fd, peer)) => {
                    let new = NewSocket { peer, handle: Box::new(fd) };
                    let outcome = Outcome::Accepted(Box::new(new));
                    done.put(Completion { tag, more: true, outcome });
                }
                Err(Errno::AGAIN) => {
                    self.readable = false;
                    return;
                }
                Err(errno) if sys::is_per_connection(errno) => {}
                Err(errno) => {
                    self.input = Input::Nothing;
                    return done.fail(tag, sys::error(errno));
                }
            }
        }
    }

    fn receive_one(&mut self, buffers: &mut LanePool, done: &mut CompletionQueue) {
        let fd = self.fd.as_ref().expect("a socket that receives has a handle");
        let mut buffer = buffers.take();
        let received = sys::receive(fd, buffer.storage_mut());
        if let Ok(bytes @ 1..) = received {
            if bytes < buffer.capacity() && !self.read_until_empty {
                self.readable = false;
            }
            buffer.set_filled(bytes);
            return self.give_to_first_receive(Outcome::Received(buffer), done);
        }
        buffers.give_back(buffer);
        match (received, self.error) {
            (_, Some(error)) => self.fail_all(error, Cancel::Receives, done),
            (Ok(_), None) if self.sendfile_in_flight => {
                (self.readable, self.ended_during_sendfile) = (false, true);
            }
            (Ok(_), None) => {
                while self.is_receiving() {
                    self.end_first_receive(Outcome::Ended, done);
                }
            }
            (Err(Errno::AGAIN), None) => self.readable = false,
            (Err(errno), None) => {
                let error = self.set_error(sys::error(errno));
                self.fail_all(error, Cancel::Receives, done);
            }
        }
    }

    fn send(&mut self, tag: Tag, gather: Gather, done: &mut CompletionQueue) {
        let fd = self.fd.as_ref().expect("a socket that sends has a handle");
        if self.sendfile_in_flight || gather.file_ahead().is_some() {
            // Before the next look at the events: no event that tells of room is missed.
            self.writable = sys::has_room(fd);
            self.output = Some(Box::new(Output::here(tag, gather)));
            return;
        }
        let result = sys::send(fd, &gather);
        self.sent(tag, gather, result, done);
    }

    /// Takes the send if its next segment lies in a file and the socket has room: a thread of the
    /// file pool performs it.
    pub(super) fn take_sendfile_job(
        &mut self,
        socket: Socket,
        done: &mut CompletionQueue,
    ) -> Option<SendfileJob> {
        let output = self.output.as_mut()?;
        let Waits::Here(gather) = &mut output.waits else { return None };
        if self.sendfile_in_flight || !self.writable || gather.file_ahead().is_none() {
            return None;
        }
        let gather = std::mem::take(gather);
        let fd = self.fd.as_ref().expect("a socket that sends has a handle");
        let Ok(to) = fd.try_clone() else {
            // No descriptor is free.
            done.end(output.tag, Outcome::Sent { bytes: 0, gather });
            self.output = None;
            return None;
        };
        let payload = SendfilePayload::new(gather, to);
        output.waits = Waits::ForThread(payload.clone());
        self.sendfile_in_flight = true;
        Some(SendfileJob { socket, payload })
    }

    /// Handles the end of a send on a thread of the file pool.
    pub(super) fn on_sendfile_done(&mut self, sent: SendfileDone, done: &mut CompletionQueue) {
        let SendfileDone { gather, result, .. } = sent;
        self.end_sendfile();
        let error = result.err().filter(|errno| *errno != Errno::AGAIN);
        let error = error.and_then(|errno| self.send_error(errno));
        let Some(output) = self.output.take() else { return }; // it was cancelled
        match (*output, error) {
            // And another came.
            (Output { tag, waits: Waits::Here(next) }, _) => self.start_send(tag, next, done),
            (Output { tag, .. }, Some(error)) => done.fail(tag, error),
            (Output { tag, .. }, None) => match (result, self.error) {
                (Ok(1..), _) => self.sent(tag, gather, result, done),
                (_, Some(error)) => done.fail(tag, error),
                (Ok(0), None) => self.send(tag, gather, done),
                // It is not the socket's room that is missing.
                (Err(_), None) if self.has_room() => {
                    done.end(tag, Outcome::Sent { bytes: 0, gather });
                }
                (Err(_), None) => {
                    self.writable = false;
                    self.output = Some(Box::new(Output::here(tag, gather)));
                }
            },
        }
    }

    /// Notes that no thread performs a send of this socket any more.
    fn end_sendfile(&mut self) {
        self.sendfile_in_flight = false;
        self.readable |= std::mem::take(&mut self.ended_during_sendfile);
    }

    fn has_room(&self) -> bool {
        self.fd.as_ref().is_some_and(sys::has_room)
    }

    /// What the failure of a send means; kept, where the connection does not survive it. `None`: it
    /// passes.
    fn send_error(&mut self, errno: Errno) -> Option<Error> {
        let error = sys::error(errno);
        if error.is_transient() {
            return None;
        }
        Some(match self.error {
            Some(error) => error,
            // The peer's reset came after its end.
            None if errno == Errno::PIPE && !self.write_shutdown => {
                self.set_error(Error { failure: Failure::Reset, ..error })
            }
            None => self.set_error(error),
        })
    }

    /// What came of a send.
    fn sent(
        &mut self,
        tag: Tag,
        gather: Gather,
        result: Result<usize, Errno>,
        done: &mut CompletionQueue,
    ) {
        match result {
            Ok(bytes) => done.end(tag, Outcome::Sent { bytes, gather }),
            Err(Errno::AGAIN) => {
                self.writable = false;
                self.output = Some(Box::new(Output::here(tag, gather)));
            }
            Err(errno) => match self.send_error(errno) {
                None => done.end(tag, Outcome::Sent { bytes: 0, gather }),
                Some(error) => done.fail(tag, error),
            },
        }
    }

    /// Keeps an error that ends the connection.
    fn set_error(&mut self, error: Error) -> Error {
        if !error.is_transient() && error.failure != Failure::NotConnected {
            self.error = Some(error);
        }
        error
    }

    fn fail_all(&mut self, error: Error, what: Cancel, done: &mut CompletionQueue) {
        while self.is_receiving() {
            self.end_first_receive(Outcome::Failed(error), done);
        }
        if what == Cancel::Everything {
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

    fn is_receiving(&self) -> bool {
        matches!(self.input, Input::Stream(_) | Input::Once(_) | Input::Several(_))
    }

    /// Data for the first receive; a stream goes on.
    fn give_to_first_receive(&mut self, outcome: Outcome, done: &mut CompletionQueue) {
        if let Input::Stream(tag) = self.input {
            done.put(Completion { tag, more: true, outcome });
        } else {
            self.end_first_receive(outcome, done);
        }
    }

    fn end_first_receive(&mut self, outcome: Outcome, done: &mut CompletionQueue) {
        let (tag, rest) = match std::mem::take(&mut self.input) {
            Input::Stream(tag) | Input::Once(tag) => (tag, Input::Nothing),
            Input::Several(mut tags) => {
                let first = tags.pop_front().expect("at least one receive");
                (first, if tags.is_empty() { Input::Nothing } else { Input::Several(tags) })
            }
            Input::Nothing | Input::Connect(_) | Input::Accept(_) => unreachable!("no receive"),
        };
        self.input = rest;
        done.end(tag, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::BufferPool;

    /// The state of a connected socket, and what it works with.
    struct Rig {
        poller: Poller,
        /// The waker, and the listener.
        kept: (crate::native::lane_remote::Waker, OwnedFd),
        state: SocketState,
        socket: Socket,
        done: CompletionQueue,
    }

    impl Rig {
        fn new() -> Self {
            let (poller, waker) = super::super::poller::open().expect("a poller");
            let any = "127.0.0.1:0".parse().expect("an address");
            let options = crate::ListenOptions::default();
            let (listener, address) =
                sys::listen(any, options, sys::NON_BLOCKING).expect("a listener");
            let (near, _) = sys::connect(address).expect("a connection");
            let mut state = SocketState::default();
            let socket = state.occupy(0);
            state.adopt(socket, near, &poller);
            let done = CompletionQueue::new(Arc::default());
            Self { poller, kept: (waker, listener), state, socket, done }
        }

        /// Sends, and gives what is for a thread.
        fn send(&mut self, tag: u64, segment: crate::Segment) -> Option<Arc<SendfilePayload>> {
            let Self { poller, state, socket, done, .. } = self;
            let mut gather = Gather::default();
            gather.push(segment);
            state.submit(Tag(tag), Op::Send(*socket, gather), (*socket, poller), done);
            state.take_sendfile_job(*socket, done).map(|job| job.payload)
        }

        /// Sends a file, and a thread is at it.
        fn begin(&mut self, tag: u64) -> Gather {
            self.send(tag, file()).expect("for a thread").take().expect("it is there").0
        }

        fn back(&mut self, gather: Gather, result: Result<usize, Errno>) {
            let sent = SendfileDone { socket: self.socket, gather, result };
            self.state.on_sendfile_done(sent, &mut self.done);
        }

        /// How the only send that has ended did.
        fn end(&mut self) -> (u64, Result<usize, Failure>) {
            let Completion { tag, outcome, .. } = self.done.pop().expect("a completion");
            assert!(self.done.pop().is_none(), "there is one");
            match outcome {
                Outcome::Sent { bytes, .. } => (tag.0, Ok(bytes)),
                Outcome::Failed(error) => (tag.0, Err(error.failure)),
                other => panic!("a send came to {other:?}"),
            }
        }
    }

    fn file() -> crate::Segment {
        crate::Segment::File(Box::new(crate::FilePart::new(crate::handle::no_file(), 0, 10)))
    }

    fn memory() -> crate::Segment {
        crate::Segment::Owned(b"next".to_vec())
    }

    /// A thread that a disk holds up holds up nobody else.
    #[test]
    fn a_send_that_is_away_is_cancelled_at_once() {
        let mut rig = Rig::new();
        let payload = rig.send(1, file()).expect("for a thread");
        assert!(rig.done.pop().is_none() && !rig.state.mark_queued(), "it is away");
        rig.state.cancel(Cancel::Everything, &mut rig.done);
        assert_eq!(rig.end(), (1, Err(Failure::Cancelled)));
        assert!(payload.take().is_none(), "no thread begins with it");
        assert!(rig.send(2, memory()).is_none());
        assert_eq!(rig.end(), (2, Ok(4)));

        let of_thread = rig.begin(3);
        rig.state.cancel(Cancel::Everything, &mut rig.done);
        assert_eq!(rig.end(), (3, Err(Failure::Cancelled)));
        assert!(rig.send(4, memory()).is_none());
        assert!(rig.done.pop().is_none(), "the bytes of two sends do not mix");
        rig.back(of_thread, Ok(4));
        assert_eq!(rig.end(), (4, Ok(4)));
    }

    #[test]
    fn a_send_that_comes_back_ends_goes_on_or_waits() {
        let mut rig = Rig::new();
        let gather = rig.begin(1);
        rig.back(gather, Ok(7));
        assert_eq!(rig.end(), (1, Ok(7)));
        // The disk, and not the socket, says that it is not the time.
        let gather = rig.begin(2);
        rig.back(gather, Err(Errno::AGAIN));
        assert_eq!(rig.end(), (2, Ok(0)));
        // A reset that was seen meanwhile.
        let gather = rig.begin(3);
        rig.state.error = Some(sys::error(Errno::CONNRESET));
        rig.back(gather, Err(Errno::AGAIN));
        assert_eq!(rig.end(), (3, Err(Failure::Reset)));
        rig.state.error = None;
        // One that the thread met for a send that was cancelled.
        let gather = rig.begin(4);
        rig.state.cancel(Cancel::Everything, &mut rig.done);
        rig.back(gather, Err(Errno::PIPE));
        assert_eq!(rig.end(), (4, Err(Failure::Cancelled)));
        assert!(rig.send(5, memory()).is_none());
        assert_eq!(rig.end(), (5, Err(Failure::Reset)));
        // One that is over does not keep the socket.
        rig.state.error = None;
        rig.begin(6);
        rig.state.reset(&mut rig.done);
        assert_eq!(rig.end(), (6, Err(Failure::Reset)));
        drop(rig.state.vacate());
    }

    /// The system tells a reset to one call, here the thread's, and shows a receive a clean end.
    #[test]
    fn an_end_that_is_seen_while_a_send_is_away_may_be_a_reset() {
        for (result, end) in [(Ok(4), Ok(4)), (Err(Errno::CONNRESET), Err(Failure::Reset))] {
            let mut rig = Rig::new();
            let far = loop {
                match sys::accept(&rig.kept.1) {
                    Ok((far, _)) => break far,
                    Err(errno) => assert_eq!(errno, Errno::AGAIN),
                }
            };
            let gather = rig.begin(1);
            rig.state.start_receive(Tag(2), ReceiveMode::Once, &mut rig.done);
            drop(far);
            let near = rig.state.fd.as_ref().expect("connected");
            let mut looked_at = [rustix::event::PollFd::new(near, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut looked_at, None).expect("it ends");
            let mut buffers = LanePool::new(BufferPool::of(&crate::Options::default()));
            rig.state.readable = true;
            rig.state.poll(&mut buffers, &mut rig.done);
            assert!(
                rig.done.pop().is_none() && !rig.state.mark_queued(),
                "it waits for the thread"
            );
            rig.back(gather, result);
            assert_eq!(rig.end(), (1, end));
            assert!(rig.state.mark_queued(), "now it is looked at again");
            rig.state.poll(&mut buffers, &mut rig.done);
            let told = rig.done.pop().expect("a completion").outcome;
            match end {
                Ok(_) => assert!(matches!(told, Outcome::Ended), "{told:?}"),
                Err(why) => {
                    assert!(matches!(told, Outcome::Failed(it) if it.failure == why), "{told:?}");
                }
            }
            drop(rig.state.vacate());
        }
    }

    #[test]
    fn what_could_not_be_registered_fails_its_first_operation() {
        let (poller, _alarm) = super::super::poller::open().expect("a poller");
        let any = "127.0.0.1:0".parse().expect("an address");
        let (listener, address) =
            sys::listen(any, crate::ListenOptions::default(), sys::NON_BLOCKING).expect("one");
        let (near, _) = sys::connect(address).expect("a connection");
        let twin = near.try_clone().expect("a descriptor");
        drop(listener);

        // The system refuses to register a descriptor twice.
        poller.add(&near, 1).expect("registered");
        let mut buffers = LanePool::new(BufferPool::of(&crate::Options::default()));
        let mut done = CompletionQueue::new(Arc::default());
        let mut state = SocketState::default();
        let socket = state.occupy(0);
        state.adopt(socket, near, &poller);
        state.submit(Tag(1), Op::Receive(socket, ReceiveMode::Once), (socket, &poller), &mut done);
        assert!(state.mark_queued(), "no event will come: it must be polled without");
        state.poll(&mut buffers, &mut done);
        let failed = done.pop().expect("a completion");
        assert!(matches!(failed.outcome, Outcome::Failed(_)) && !failed.more, "{failed:?}");
        assert!(done.pop().is_none() && !state.mark_queued());
        drop((state.vacate(), twin));
    }
}
