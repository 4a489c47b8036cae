//! The state of one registered socket, its operations, and their requests in flight.

use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use io_uring::types::Fd;
use io_uring::{opcode, squeue};
use rustix::io::Errno;
use rustix::net::SocketAddrAny;

use super::group::GROUP;
use super::request::{Request, RequestKind};
use super::ring::{Cqe, Ring};
use super::send::{FreeList, SendRequest};
use crate::address::Address;
use crate::error::{Error, Failure};
use crate::gather::Gather;
use crate::handle::NewSocket;
use crate::native::completion_queue::CompletionQueue;
use crate::native::receives::Receive;
use crate::native::socket_core::{Input, Link, SocketCore, SocketParts, Stage, Started, Watching};
use crate::op::{Cancel, Completion, Op, Outcome, ReceiveMode};
use crate::sys;
use crate::token::{Socket, Tag};

/// A slot of the table of sockets.
pub(super) type SocketState = SocketCore<UringParts>;

/// The part of a socket's state that only this backend has.
#[derive(Debug, Default)]
pub(super) struct UringParts {
    /// The number of requests in flight that refer to this socket, cancels included.
    requests: u16,
    /// The state of the request that serves the input of the socket.
    pub(super) serving: Serving,
    /// The state of the request that watches the socket in place of the input.
    pub(super) watching: Watching,
}

const _: () = assert!(size_of::<SocketState>() <= 48, "the I/O state of an idle connection");

/// The state of the one request that serves the input of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Serving {
    /// The kernel has no request for the input of the socket.
    #[default]
    Nothing,
    /// The kernel has a request for the input of the socket.
    Armed,
    /// The kernel has a request for the input of the socket, and its cancellation has been
    /// requested.
    Cancelling,
    /// The kernel has no request for the input of the socket, because the group had no buffers; the
    /// socket is queued to wait for buffers.
    Starved,
}

impl SocketParts for UringParts {
    type Connect = Box<Connect>;
    type Accept = Tag;
    /// The kernel serves the first receive; the others have no state.
    type Receive = ();
    /// The send in flight, with its memory.
    type Send = Box<SendRequest>;

    fn watching(&mut self) -> &mut Watching {
        &mut self.watching
    }
}

#[derive(Debug)]
pub(super) struct Connect {
    tag: Tag,
    address: SocketAddrAny,
}

/// The parts of the lane that a call on a socket uses.
pub(super) struct LaneCx<'a> {
    pub(super) socket: Socket,
    pub(super) ring: &'a mut Ring,
    pub(super) done: &'a mut CompletionQueue,
    pub(super) free_list: &'a mut FreeList,
    /// True exactly when a receive of a stream may be multishot.
    pub(super) multishot: bool,
}

/// The methods that pass requests about a socket to the kernel, and cancel them.
impl SocketState {
    /// Counts a completion, and checks that it belongs to this socket. Returns the socket.
    pub(super) fn count(&mut self, completed: Cqe) -> Socket {
        let socket = self.socket(completed.request.slot);
        let alive = !matches!(self.link, Link::Vacant) && completed.request.is_for(socket);
        assert!(alive, "a completion for a socket that is gone");
        self.own.requests -= u16::from(!completed.more);
        socket
    }

    pub(super) fn raw(&self) -> Fd {
        Fd(self.handle().as_raw_fd())
    }

    /// Queues a request that refers to this socket.
    ///
    /// # Safety
    ///
    /// The memory that `entry` names must stay until its last completion. (The handle stays: it is
    /// closed only when no request refers to it.)
    pub(super) unsafe fn push(
        &mut self,
        kind: RequestKind,
        entry: squeue::Entry,
        cx: &mut LaneCx<'_>,
    ) {
        self.own.requests += 1;
        // SAFETY: the memory stays by this function's own contract, the handle by the note there.
        unsafe { cx.ring.push(Request::new(kind, cx.socket), entry) };
    }

    /// Requests the cancellation of everything that the kernel has in flight for this socket.
    fn cancel_all(&mut self, cx: &mut LaneCx<'_>) {
        if self.own.serving == Serving::Armed {
            self.cancel_input(cx);
        }
        if self.output.as_mut().is_some_and(|sending| sending.request_cancel()) {
            self.push_cancel(RequestKind::Send, RequestKind::CancelSend, cx);
        }
    }

    /// Requests the cancellation of the request that serves `input`.
    pub(super) fn cancel_input(&mut self, cx: &mut LaneCx<'_>) {
        self.own.serving = Serving::Cancelling;
        let which = match self.input {
            Input::Accept(_) => RequestKind::Accept,
            Input::Connect(_) => RequestKind::Connect,
            Input::Watch(_) => RequestKind::Watch,
            _ => RequestKind::Receive,
        };
        self.push_cancel(which, RequestKind::CancelInput, cx);
    }

    /// Requests the cancellation of a request by the request's own number, which the kernel looks
    /// up. A cancel for a whole descriptor would search all requests of the ring (measured: 270 µs
    /// per cancel with 9,000 requests).
    fn push_cancel(&mut self, which: RequestKind, cancel: RequestKind, cx: &mut LaneCx<'_>) {
        let entry = opcode::AsyncCancel::new(Request::new(which, cx.socket).to_bits()).build();
        // SAFETY: a cancel names no memory.
        unsafe { self.push(cancel, entry, cx) };
    }

    /// Handles the end of a cancel. The kernel does not find a request that it is about to retry,
    /// so the cancel is repeated as long as the request has not ended.
    fn on_cancel(&mut self, completed: Cqe, cx: &mut LaneCx<'_>) {
        if !matches!(completed.result, Err(Errno::NOENT | Errno::ALREADY)) {
            return;
        }
        let sending = self.output.as_ref();
        match completed.request.kind {
            RequestKind::CancelInput if self.own.serving == Serving::Cancelling => {
                self.cancel_input(cx);
            }
            RequestKind::CancelSend if sending.is_some_and(|it| it.is_cancel_requested()) => {
                self.push_cancel(RequestKind::Send, RequestKind::CancelSend, cx);
            }
            _ => {}
        }
    }
}

/// The methods that start operations, and those that end them early (cancel, close, shutdown,
/// reset).
impl SocketState {
    /// Starts an operation on this socket.
    pub(super) fn submit(&mut self, tag: Tag, op: Op, cx: &mut LaneCx<'_>) {
        let started = match op {
            Op::Accept(_) => self.start_accept(tag, cx),
            Op::Connect(_, address) => self.start_connect(tag, address, cx),
            Op::Receive(_, mode) => self.start_receive(tag, mode, cx),
            Op::Watch(_, mode) => {
                let started = self.start_watch(tag, mode);
                self.arm_watch(cx);
                started
            }
            Op::Send(_, gather) => self.start_send(tag, gather, cx),
            Op::Close(_) => {
                self.start_close(tag);
                self.close_when_free(cx);
                Ok(())
            }
            Op::Resolve(_) | Op::File(_) => unreachable!("done by the lane, not by the socket"),
        };
        if let Err(error) = started {
            cx.done.fail(tag, error);
        }
    }

    fn start_accept(&mut self, tag: Tag, cx: &mut LaneCx<'_>) -> Started {
        self.check_accept()?;
        self.input = Input::Accept(tag);
        self.arm_accept(cx);
        Ok(())
    }

    fn start_connect(&mut self, tag: Tag, address: Address, cx: &mut LaneCx<'_>) -> Started {
        self.check_connect()?;
        let address = address.socket_addr();
        let fd = sys::connecting_socket(&address, sys::BLOCKING)?;
        self.link = Link::Open(Stage::Unconnected, fd);
        let connect = Box::new(Connect { tag, address: address.into() });
        let start = connect.address.as_ptr().cast();
        let len = connect.address.addr_len();
        self.input = Input::Connect(connect);
        self.own.serving = Serving::Armed;
        let entry = opcode::Connect::new(self.raw(), start, len).build();
        // SAFETY: the address is in a box that the socket's state keeps until the completion.
        unsafe { self.push(RequestKind::Connect, entry, cx) };
        Ok(())
    }

    fn start_receive(&mut self, tag: Tag, mode: ReceiveMode, cx: &mut LaneCx<'_>) -> Started {
        if !self.is_connected() {
            return Err(sys::not_connected());
        }
        self.push_receive(Receive::new(tag, mode, ()));
        self.arm_receive(cx);
        Ok(())
    }

    fn start_send(&mut self, tag: Tag, gather: Gather, cx: &mut LaneCx<'_>) -> Started {
        self.check_send(&gather)?;
        let sending = cx.free_list.take(tag, gather);
        self.send_on(sending, cx);
        Ok(())
    }

    /// Submits the next request of the send, and keeps the send until that request has ended.
    fn send_on(&mut self, mut sending: Box<SendRequest>, cx: &mut LaneCx<'_>) {
        let entry = sending.entry(self.raw());
        self.output = Some(sending);
        // SAFETY: all memory that the entry names is in the box, or owned by a value in it. The
        // state keeps the box until the completion and changes nothing in it.
        unsafe { self.push(RequestKind::Send, entry, cx) };
    }

    /// Closes the handle if it is to be closed and no request refers to it any more.
    fn close_when_free(&mut self, cx: &mut LaneCx<'_>) {
        if self.own.requests == 0
            && let Some(fd) = self.take_closing()
        {
            let entry = opcode::Close::new(Fd(fd.into_raw_fd())).build();
            // SAFETY: the request names no memory, and owns the handle from here on.
            unsafe { self.push(RequestKind::Close, entry, cx) };
        }
    }

    /// Returns the tag of the close operation if the handle is closed; the slot is then vacant.
    pub(super) fn closed(&mut self) -> Option<Tag> {
        if self.own.requests == 0 { self.end_close() } else { None }
    }

    pub(super) fn cancel(&mut self, what: Cancel, cx: &mut LaneCx<'_>) {
        self.receives().for_each(|receive| receive.cancelled = true);
        self.own.watching = Watching::Cancelled;
        let reads = self.is_receiving() || self.is_watched();
        match what {
            Cancel::Everything => self.cancel_all(cx),
            Cancel::Receives if reads && self.own.serving == Serving::Armed => {
                self.cancel_input(cx);
            }
            Cancel::Receives => {}
        }
        self.end_cancelled(cx.done);
    }

    pub(super) fn shutdown(&mut self, ring: &mut Ring) {
        self.set_half_closed();
        if self.output.is_some() {
            // Queued bytes leave before the end of the stream.
            ring.submit();
        }
        if let Some(fd) = self.link.handle() {
            sys::shutdown_write(fd);
        }
    }

    pub(super) fn reset(&mut self, cx: &mut LaneCx<'_>) {
        let error = *self.error.insert(sys::error(Errno::CONNRESET));
        let Some(fd) = self.link.handle() else { return };
        sys::reset(fd);
        self.cancel_all(cx);
        if !self.is_served() {
            self.end_receives(|| Outcome::Failed(error), cx.done);
        }
    }
}

/// The methods that submit and end the one request that serves the input of the socket.
impl SocketState {
    /// Returns whether the kernel has the request that serves the input.
    pub(super) fn is_served(&self) -> bool {
        matches!(self.own.serving, Serving::Armed | Serving::Cancelling)
    }

    /// Records a completion of the request that serves the input. Returns `None` if the request
    /// continues. After its last completion, returns whether its cancellation had been requested.
    pub(super) fn end_serving(&mut self, completed: Cqe) -> Option<bool> {
        if completed.more {
            return None;
        }
        Some(std::mem::take(&mut self.own.serving) == Serving::Cancelling)
    }

    fn arm_accept(&mut self, cx: &mut LaneCx<'_>) {
        self.own.serving = Serving::Armed;
        let entry = opcode::AcceptMulti::new(self.raw()).flags(libc::SOCK_CLOEXEC).build();
        // SAFETY: the request names no memory.
        unsafe { self.push(RequestKind::Accept, entry, cx) };
    }

    /// Restarts the receive of a socket that waited for buffers, because there are some now.
    pub(super) fn end_starving(&mut self, cx: &mut LaneCx<'_>) {
        // A watch may have begun meanwhile.
        if self.own.serving == Serving::Starved {
            self.own.serving = Serving::Nothing;
            self.arm_receive(cx);
        }
    }

    /// Submits a request for the first receive, unless the kernel already has one.
    fn arm_receive(&mut self, cx: &mut LaneCx<'_>) {
        if self.own.serving != Serving::Nothing {
            return;
        }
        let Some(first) = self.receive(0) else { return };
        let entry = match first.mode {
            ReceiveMode::Stream if cx.multishot => {
                opcode::RecvMulti::new(self.raw(), GROUP).build()
            }
            ReceiveMode::Stream | ReceiveMode::Once => {
                let anywhere = std::ptr::null_mut();
                let all = 0;
                let entry = opcode::Recv::new(self.raw(), anywhere, all).buf_group(GROUP).build();
                entry.flags(squeue::Flags::BUFFER_SELECT)
            }
        };
        self.own.serving = Serving::Armed;
        // SAFETY: the memory belongs to the buffer group, and stays until a completion names it.
        unsafe { self.push(RequestKind::Receive, entry, cx) };
    }

    /// Ends the cancelled receives, or the cancelled watch, that the kernel does not serve.
    pub(super) fn end_cancelled(&mut self, done: &mut CompletionQueue) {
        if !self.is_served() && self.is_watched() && self.own.watching == Watching::Cancelled {
            self.end_watch(|| Outcome::Failed(Error::new(Failure::Cancelled)), done);
        }
        while !self.is_served() && self.receive(0).is_some_and(|first| first.cancelled) {
            self.end_receive(0, Outcome::Failed(Error::new(Failure::Cancelled)), done);
        }
    }
}

/// The methods that handle the completions of the socket's requests.
impl SocketState {
    /// Handles a completion of a request of this socket. Returns whether the socket now waits for
    /// buffers.
    pub(super) fn complete(&mut self, completed: Cqe, cx: &mut LaneCx<'_>) -> bool {
        let mut starves = false;
        match completed.request.kind {
            RequestKind::Accept => self.on_accept(completed, cx),
            RequestKind::Connect => self.on_connect(completed, cx),
            RequestKind::Receive => starves = self.on_receive(completed, cx),
            RequestKind::Watch => self.on_watch(completed, cx),
            RequestKind::Send => self.on_send(completed, cx),
            RequestKind::CancelInput | RequestKind::CancelSend => self.on_cancel(completed, cx),
            RequestKind::Close => {}
            RequestKind::Waker | RequestKind::CancelAll | RequestKind::File => {
                unreachable!("a request for no socket")
            }
        }
        if !completed.more {
            self.close_when_free(cx);
        }
        starves
    }

    fn on_accept(&mut self, completed: Cqe, cx: &mut LaneCx<'_>) {
        let cancelled = self.end_serving(completed);
        let Input::Accept(tag) = self.input else {
            unreachable!("the kernel accepts where an accept waits")
        };
        if let Some(fd) = accepted(completed) {
            // A peer without an address has already disconnected.
            if let Some(peer) = sys::peer_address(&fd) {
                let new = NewSocket { peer, handle: Box::new(fd) };
                let outcome = Outcome::Accepted(Box::new(new));
                cx.done.put(Completion { tag, more: true, outcome });
            }
        }
        let Some(cancelled) = cancelled else { return };
        match completed.result {
            _ if cancelled => {
                self.input = Input::Nothing;
                cx.done.fail(tag, Error::new(Failure::Cancelled));
            }
            Err(errno) if !sys::is_per_connection(errno) => {
                self.input = Input::Nothing;
                cx.done.fail(tag, failure(errno));
            }
            _ => self.arm_accept(cx),
        }
    }

    fn on_connect(&mut self, completed: Cqe, cx: &mut LaneCx<'_>) {
        self.own.serving = Serving::Nothing;
        let Input::Connect(connect) = std::mem::take(&mut self.input) else {
            unreachable!("the kernel connects where a connect waits")
        };
        let result = completed.result.map_err(failure);
        let result = match self.error {
            None => result.and_then(|_| self.check_ends()),
            Some(_) => result.map(drop),
        };
        let error = match (result, self.error) {
            (Ok(()), None) => {
                self.link.set_stage(Stage::Connected);
                return cx.done.end(connect.tag, Outcome::Connected);
            }
            (result, Some(error)) => {
                // The socket was reset while it connected.
                if let (Ok(()), Some(fd)) = (result, self.link.handle()) {
                    sys::reset(fd);
                }
                error
            }
            (Err(error), None) => error,
        };
        self.error.get_or_insert(sys::not_connected());
        cx.done.fail(connect.tag, error);
    }

    /// Handles a completion of a receive request. Returns whether the socket now waits for buffers.
    fn on_receive(&mut self, completed: Cqe, cx: &mut LaneCx<'_>) -> bool {
        let ended = self.end_serving(completed).is_some();
        let (group, pool) = cx.ring.buffers();
        let filled = completed.result.unwrap_or(0);
        let memory = completed.buffer.map(|number| group.take(number, filled));
        match (filled, memory) {
            (1.., Some(memory)) => {
                assert!(self.is_receiving(), "the kernel receives where a receive waits");
                self.give(0, Outcome::Received(pool.lend(memory, filled)), cx.done);
            }
            (_, memory) => {
                if let Some(memory) = memory {
                    pool.give_back_memory(memory);
                }
                self.on_receive_without_data(completed.result, cx.done);
            }
        }
        if !ended {
            return false;
        }
        self.end_cancelled(cx.done);
        if completed.result == Err(Errno::NOBUFS) && self.is_receiving() {
            self.own.serving = Serving::Starved;
            return true;
        }
        self.arm_receive(cx);
        false
    }

    fn on_receive_without_data(
        &mut self,
        result: Result<usize, Errno>,
        done: &mut CompletionQueue,
    ) {
        match (result, self.error) {
            // The receive is restarted if a caller still awaits it.
            (Err(Errno::NOBUFS), _) | (Err(Errno::INTR | Errno::AGAIN | Errno::CANCELED), None) => {
            }
            (result, _) => self.end_stream(result.map(drop).map_err(sys::error), done),
        }
    }

    fn on_send(&mut self, completed: Cqe, cx: &mut LaneCx<'_>) {
        let Some(mut sending) = self.output.take() else {
            unreachable!("the kernel sends what a send gave it")
        };
        if sending.on_loaded(completed.result) {
            if !sending.is_cancel_requested() {
                return self.send_on(sending, cx);
            }
            let error = self.error.unwrap_or(Error::new(Failure::Cancelled));
            cx.done.fail(cx.free_list.keep(sending).0, error);
            return self.rearm_watch(cx);
        }
        let (tag, gather) = cx.free_list.keep(sending);
        match (completed.result, self.error) {
            (Err(Errno::INTR | Errno::AGAIN), None) => {
                cx.done.end(tag, Outcome::Sent { bytes: 0, gather });
            }
            (Err(Errno::CANCELED), None) => cx.done.fail(tag, failure(Errno::CANCELED)),
            (result, _) => self.end_send(tag, gather, result.map_err(sys::error), cx.done),
        }
        // A watch that saw the socket hang up waits for this send, which may have got the error.
        self.rearm_watch(cx);
    }
}

/// Returns the descriptor of a completed accept.
pub(super) fn accepted(completed: Cqe) -> Option<OwnedFd> {
    if completed.request.kind != RequestKind::Accept {
        return None;
    }
    let descriptor = i32::try_from(completed.result.ok()?).ok()?;
    // SAFETY: the kernel has just made the descriptor for this process, and reports it only once.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Converts an error number of the kernel to an error of this crate.
fn failure(errno: Errno) -> Error {
    match errno {
        Errno::CANCELED => Error::new(Failure::Cancelled),
        errno => sys::error(errno),
    }
}
