//! The part of a socket's state that is the same on every backend.

use std::fmt::Debug;

use crate::address::Address;
use crate::error::{Error, Failure};
use crate::gather::Gather;
use crate::native::completion_queue::CompletionQueue;
use crate::native::receives::{Receive, Receives};
use crate::native::slot_table::Slot;
use crate::native::socket_handle::OwnedHandle;
use crate::op::{Completion, Outcome, ReceiveMode, WatchMode};
use crate::sys;
use crate::token::{Socket, Tag};

/// The result of starting an operation. An error is the operation's own result.
pub(crate) type Started = Result<(), Error>;

/// The types of a backend: the part of a socket's state that it adds, and its operations in
/// progress.
pub(crate) trait SocketParts: Debug + Default {
    /// A connect in progress.
    type Connect: Debug;
    /// An accept in progress.
    type Accept: Debug;
    /// The backend's own state of a waiting receive.
    type Receive: Copy + Debug;
    /// A send in progress.
    type Send: Debug;

    /// Returns the state of the watch. (It is here, where it takes no memory of its own.)
    fn watching(&mut self) -> &mut Watching;
}

/// A slot of the table of sockets.
#[derive(Debug)]
pub(crate) struct SocketCore<B: SocketParts> {
    pub(crate) link: Link,
    generation: u32,
    /// The error that ended the connection. The system reports it to one call only, a send or a
    /// receive, and shows the others a clean end or a broken pipe. It is kept here so that all of
    /// them report the same error.
    pub(crate) error: Option<Error>,
    pub(crate) input: Input<B>,
    pub(crate) output: Option<B::Send>,
    /// The part that only this backend has.
    pub(crate) own: B,
}

/// The handle of a socket, with the stage of its connection.
#[derive(Debug, Default)]
pub(crate) enum Link {
    /// The slot is vacant.
    #[default]
    Vacant,
    /// The socket has no handle: it has not begun to connect, or could not connect.
    Unopened,
    /// The socket has a handle.
    Open(Stage, OwnedHandle),
    /// The handle is closed, or the system has received the request to close it.
    Closed,
}

/// The stage of a connection that has a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The socket is connecting, or could not connect. On Windows this is also the stage of a
    /// listener.
    Unconnected,
    /// The socket has or had a connection. On Linux this is also the stage of a listener.
    Connected,
    /// The sending side of the connection has ended, or ends with the send in flight.
    HalfClosed,
    /// The handle is closed as soon as the system has nothing in flight on it.
    Closing,
}

/// The operations that wait for input from the socket. They exclude each other.
#[derive(Debug, Default)]
pub(crate) enum Input<B: SocketParts> {
    #[default]
    Nothing,
    Connect(B::Connect),
    Accept(B::Accept),
    Receives(Receives<B::Receive>),
    /// A watch, whose state is in `own`.
    Watch(Tag),
    Close(Tag),
}

/// The events that the watch waits for. Without a watch it has no meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Watching {
    /// The end of the peer's stream, or the failure of the connection.
    #[default]
    End,
    /// The failure of the connection.
    Failure,
    /// None: the watch was cancelled.
    Cancelled,
}

impl Link {
    pub(crate) fn handle(&self) -> Option<&OwnedHandle> {
        match self {
            Self::Open(_, handle) => Some(handle),
            Self::Vacant | Self::Unopened | Self::Closed => None,
        }
    }

    pub(crate) fn stage(&self) -> Option<Stage> {
        match self {
            Self::Open(stage, _) => Some(*stage),
            Self::Vacant | Self::Unopened | Self::Closed => None,
        }
    }

    /// Moves an open handle to a stage.
    pub(crate) fn set_stage(&mut self, next: Stage) {
        if let Self::Open(stage, _) = self {
            *stage = next;
        }
    }
}

impl<B: SocketParts> Default for SocketCore<B> {
    fn default() -> Self {
        Self {
            link: Link::Vacant,
            generation: 0,
            error: None,
            input: Input::Nothing,
            output: None,
            own: B::default(),
        }
    }
}

impl<B: SocketParts> Slot for SocketCore<B> {
    fn occupy(&mut self, slot: u32) -> Socket {
        assert!(matches!(self.link, Link::Vacant), "a slot taken twice");
        let generation = self.generation;
        *self = Self { generation, link: Link::Unopened, ..Self::default() };
        self.socket(slot)
    }

    fn is(&self, socket: Socket) -> bool {
        self.generation == socket.generation && !matches!(self.link, Link::Vacant)
    }
}

/// The methods that access the handle of the socket.
impl<B: SocketParts> SocketCore<B> {
    /// Returns the socket that occupies the slot now.
    pub(crate) fn socket(&self, slot: u32) -> Socket {
        Socket { slot, generation: self.generation }
    }

    /// Returns the handle of the socket. Panics if the socket has none; a socket with an operation
    /// in progress always has one.
    pub(crate) fn handle(&self) -> &OwnedHandle {
        self.link.handle().expect("a socket in use has a handle")
    }

    pub(crate) fn local_address(&self) -> Option<Address> {
        self.link.handle().and_then(sys::local_address)
    }

    /// Resets the new connection and reports it as refused if both of its ends are this socket. If
    /// a connect to a local port finds no listener, and the system chooses that very port for this
    /// end, TCP connects the socket to itself. The port could then not be bound by its server;
    /// after a close without a reset it could not even be bound while the system remembers the
    /// connection. The target is not compared, because a connect to `0.0.0.0` or `::` leads to this
    /// machine, too.
    pub(crate) fn check_ends(&self) -> Started {
        let handle = self.handle();
        let local = sys::local_address(handle);
        if local.is_none() || local != sys::peer_address(handle) {
            return Ok(());
        }
        sys::reset(handle);
        Err(Error::new(Failure::Refused))
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.link.stage(), Some(Stage::Connected | Stage::HalfClosed))
    }

    pub(crate) fn is_half_closed(&self) -> bool {
        self.link.stage() == Some(Stage::HalfClosed)
    }

    /// Records that the sending side has ended, or ends with the send in flight.
    pub(crate) fn set_half_closed(&mut self) {
        if self.is_connected() {
            self.link.set_stage(Stage::HalfClosed);
        }
    }

    /// Takes the handle if it is to be closed.
    pub(crate) fn take_closing(&mut self) -> Option<OwnedHandle> {
        if self.link.stage() != Some(Stage::Closing) {
            return None;
        }
        match std::mem::replace(&mut self.link, Link::Closed) {
            Link::Open(_, handle) => Some(handle),
            Link::Vacant | Link::Unopened | Link::Closed => None,
        }
    }

    /// Begins a close operation.
    pub(crate) fn start_close(&mut self, tag: Tag) {
        self.assert_idle();
        self.input = Input::Close(tag);
        self.link.set_stage(Stage::Closing);
    }

    /// Returns the tag of the close operation if the handle is closed; the slot is then vacant.
    pub(crate) fn end_close(&mut self) -> Option<Tag> {
        let Input::Close(tag) = self.input else { return None };
        if self.link.handle().is_some() {
            return None;
        }
        self.input = Input::Nothing;
        drop(self.vacate());
        Some(tag)
    }

    /// Vacates the slot. If the caller drops the returned link, that closes the handle.
    pub(crate) fn vacate(&mut self) -> Link {
        self.assert_idle();
        self.generation = self.generation.wrapping_add(1);
        std::mem::take(&mut self.link)
    }

    fn assert_idle(&self) {
        assert!(
            matches!(self.input, Input::Nothing) && self.output.is_none(),
            "a socket closed with operations in flight: cancel, await, then close"
        );
    }
}

/// The methods that check an operation before it starts, and those that record and report the error
/// that ended the connection.
impl<B: SocketParts> SocketCore<B> {
    pub(crate) fn check_connect(&self) -> Started {
        assert!(matches!(self.link, Link::Unopened), "a socket connects once");
        self.error.map_or(Ok(()), Err)
    }

    pub(crate) fn check_accept(&self) -> Started {
        assert!(matches!(self.input, Input::Nothing), "one accept at a time");
        self.error.map_or(Ok(()), Err)
    }

    pub(crate) fn check_send(&self, gather: &Gather) -> Started {
        assert!(!gather.is_empty(), "a send without bytes");
        assert!(self.output.is_none(), "one send at a time on a socket");
        match self.error {
            Some(error) => Err(error),
            None if self.is_connected() => Ok(()),
            None => Err(sys::not_connected()),
        }
    }

    /// Records an error if it ends the connection. Returns the error in the terms of a connection.
    pub(crate) fn set_error(&mut self, error: Error) -> Error {
        let error = sys::of_connection(error, self.is_half_closed());
        if !error.is_transient() && error.failure != Failure::NotConnected {
            self.error = Some(error);
        }
        error
    }

    /// Completes a send with the result of its call. If the connection had ended before, its error
    /// is reported instead.
    pub(crate) fn end_send(
        &mut self,
        tag: Tag,
        gather: Gather,
        result: Result<usize, Error>,
        done: &mut CompletionQueue,
    ) {
        match (result, self.error) {
            (Ok(bytes), _) => done.end(tag, Outcome::Sent { bytes, gather }),
            (Err(_), Some(error)) => done.fail(tag, error),
            (Err(error), None) if error.is_transient() => {
                done.end(tag, Outcome::Sent { bytes: 0, gather });
            }
            (Err(error), None) => done.fail(tag, self.set_error(error)),
        }
    }
}

/// The methods that serve the waiting receives.
impl<B: SocketParts> SocketCore<B> {
    /// Returns the waiting receives, in the order of their submission.
    pub(crate) fn receives(&mut self) -> impl Iterator<Item = &mut Receive<B::Receive>> {
        let all = match &mut self.input {
            Input::Receives(all) => Some(all.iter_mut()),
            _ => None,
        };
        all.into_iter().flatten()
    }

    pub(crate) fn receive(&self, index: usize) -> Option<&Receive<B::Receive>> {
        match &self.input {
            Input::Receives(all) => all.get(index),
            _ => None,
        }
    }

    pub(crate) fn is_receiving(&self) -> bool {
        matches!(self.input, Input::Receives(_))
    }

    pub(crate) fn push_receive(&mut self, receive: Receive<B::Receive>) {
        let before = match std::mem::take(&mut self.input) {
            Input::Nothing => None,
            Input::Receives(all) => Some(all),
            Input::Watch(_) => panic!("a receive on a watched socket: cancel, await, then receive"),
            _ => panic!("a listener has no receives"),
        };
        self.input = Input::Receives(Receives::push(before, receive));
    }

    /// Completes a receive with data. A streaming receive continues.
    pub(crate) fn give(&mut self, index: usize, outcome: Outcome, done: &mut CompletionQueue) {
        match self.receive(index) {
            Some(&Receive { tag, mode: ReceiveMode::Stream, .. }) => {
                done.put(Completion { tag, more: true, outcome });
            }
            _ => self.end_receive(index, outcome, done),
        }
    }

    /// Ends a receive, which must exist.
    pub(crate) fn end_receive(
        &mut self,
        index: usize,
        outcome: Outcome,
        done: &mut CompletionQueue,
    ) {
        let Input::Receives(all) = std::mem::take(&mut self.input) else {
            unreachable!("no receive")
        };
        let (ended, rest) = all.remove(index);
        self.input = rest.map_or(Input::Nothing, Input::Receives);
        done.end(ended.tag, outcome);
    }

    /// Ends all receives with the result of a read that returned no data. If the connection had
    /// ended before, its error is reported instead.
    pub(crate) fn end_stream(&mut self, result: Result<(), Error>, done: &mut CompletionQueue) {
        match (result, self.error) {
            (_, Some(error)) => self.end_receives(|| Outcome::Failed(error), done),
            (Ok(()), None) => self.end_receives(|| Outcome::Ended, done),
            (Err(error), None) => {
                let error = self.set_error(error);
                self.end_receives(|| Outcome::Failed(error), done);
            }
        }
    }

    /// Ends all receives, or the watch, with the same outcome.
    pub(crate) fn end_receives(
        &mut self,
        outcome: impl Fn() -> Outcome,
        done: &mut CompletionQueue,
    ) {
        self.receives().for_each(|receive| done.end(receive.tag, outcome()));
        if self.is_receiving() {
            self.input = Input::Nothing;
        }
        self.end_watch(outcome, done);
    }
}

/// The watch.
impl<B: SocketParts> SocketCore<B> {
    /// Begins a watch. The backend arms it.
    pub(crate) fn start_watch(&mut self, tag: Tag, mode: WatchMode) -> Started {
        assert!(matches!(self.input, Input::Nothing), "a watch is alone on its socket");
        match self.error {
            Some(error) => return Err(error),
            None if !self.is_connected() => return Err(sys::not_connected()),
            None => {}
        }
        self.input = Input::Watch(tag);
        *self.own.watching() = match mode {
            WatchMode::End => Watching::End,
            WatchMode::Failure => Watching::Failure,
        };
        Ok(())
    }

    pub(crate) fn is_watched(&self) -> bool {
        matches!(self.input, Input::Watch(_))
    }

    /// Ends the watch, if there is one.
    pub(crate) fn end_watch(
        &mut self,
        outcome: impl FnOnce() -> Outcome,
        done: &mut CompletionQueue,
    ) {
        if let Input::Watch(tag) = self.input {
            self.input = Input::Nothing;
            done.end(tag, outcome());
        }
    }

    /// Sets the error of a connection that the system reports as hung up or failed, if it has
    /// failed. `sending` is true exactly while the system has a send, which may get the error in
    /// the place of this call: then the error is known when that send has ended.
    #[cfg(target_os = "linux")]
    pub(crate) fn learn_failure(&mut self, sending: bool) {
        let Some(handle) = self.link.handle() else { return };
        let failure = match sys::take_error(handle) {
            _ if self.error.is_some() => return,
            Some(errno) => sys::error(errno),
            // Both streams have ended, or an earlier call has handled the error.
            None if sending || self.is_half_closed() || !sys::has_hung_up(handle) => return,
            None => sys::error(rustix::io::Errno::CONNRESET),
        };
        self.set_error(failure);
    }
}
