//! The state of one registered socket, its operations, and what the kernel has in flight for them.

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
use crate::native::receives::{Receive, Receives};
use crate::native::slot_table::Slot;
use crate::op::{Cancel, Completion, Outcome, ReceiveMode};
use crate::sys;
use crate::token::{Socket, Tag};

/// A slot of the table of sockets.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about one socket, and the state must stay small"
)]
pub(super) struct SocketState {
    /// None: a socket that has not begun to connect, one that is being closed, or a vacant slot.
    fd: Option<OwnedFd>,
    generation: u32,
    input: Input,
    /// The send in flight, with the memory that it uses.
    sending: Option<Box<SendRequest>>,
    /// What ended the connection. The system tells it to one call only, be it a send or a receive,
    /// and shows the others a clean end or a broken pipe: kept so that all are told the same.
    error: Option<Error>,
    /// Requests in flight that name this socket, cancels included.
    requests: u16,
    /// True exactly when the slot is taken.
    live: bool,
    /// True exactly when the socket has a connection, or had one.
    connected: bool,
    /// True exactly while the kernel has a request that serves `input`.
    armed: bool,
    /// True exactly when the cancellation of that request has been requested.
    cancel_requested: bool,
    /// True exactly when this side has ended its stream.
    write_shutdown: bool,
    /// True exactly when the socket is queued to wait for buffers.
    pub(super) starved: bool,
}

const _: () = assert!(size_of::<SocketState>() <= 48, "the I/O state of an idle connection");

/// What waits for something to come from the socket. These exclude each other.
#[derive(Debug, Default)]
enum Input {
    #[default]
    Nothing,
    Connect(Box<Connect>),
    Accept(Tag),
    /// The kernel serves the first.
    Receives(Receives<()>),
    Close(Tag),
}

#[derive(Debug)]
struct Connect {
    tag: Tag,
    address: SocketAddrAny,
}

/// The parts of the lane that a call on a socket uses.
pub(super) struct LaneCx<'a> {
    pub(super) ring: &'a mut Ring,
    pub(super) done: &'a mut CompletionQueue,
    pub(super) free_list: &'a mut FreeList,
    /// Receives of a stream may go on by themselves.
    pub(super) multishot: bool,
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

/// The handle, and the requests that name it.
impl SocketState {
    pub(super) fn adopt(&mut self, fd: OwnedFd) {
        self.fd = Some(fd);
        self.connected = true;
    }

    pub(super) fn local_address(&self) -> Option<Address> {
        self.fd.as_ref().and_then(sys::local_address)
    }

    /// The socket that has the slot now.
    pub(super) fn socket(&self, slot: u32) -> Socket {
        Socket { slot, generation: self.generation }
    }

    /// A completion has come: counts it, and checks that it is this socket's.
    pub(super) fn count(&mut self, completed: Cqe) {
        assert!(
            self.live && completed.request.is_for(self.generation),
            "a completion for a socket that is gone"
        );
        self.requests -= u16::from(!completed.more);
    }

    fn raw(&self) -> Fd {
        Fd(self.fd.as_ref().expect("a socket in use has a handle").as_raw_fd())
    }

    /// Queues a request that names this socket.
    ///
    /// # Safety
    ///
    /// The memory that `entry` names must stay until its last completion. (The handle does: it is
    /// closed when no request names it.)
    unsafe fn push(
        &mut self,
        socket: Socket,
        kind: RequestKind,
        entry: squeue::Entry,
        ring: &mut Ring,
    ) {
        self.requests += 1;
        // SAFETY: the memory by this function's own contract, the handle by its note.
        unsafe { ring.push(Request::new(kind, socket), entry) };
    }

    /// Requests the cancellation of whatever the kernel has in flight for this socket.
    fn cancel_all(&mut self, socket: Socket, ring: &mut Ring) {
        if self.armed && !self.cancel_requested {
            self.cancel_input(socket, ring);
        }
        if self.sending.as_mut().is_some_and(|sending| sending.request_cancel()) {
            self.push_cancel(socket, RequestKind::Send, RequestKind::CancelSend, ring);
        }
    }

    /// Requests the cancellation of the request that serves `input`.
    fn cancel_input(&mut self, socket: Socket, ring: &mut Ring) {
        self.cancel_requested = true;
        let which = match self.input {
            Input::Accept(_) => RequestKind::Accept,
            Input::Connect(_) => RequestKind::Connect,
            _ => RequestKind::Receive,
        };
        self.push_cancel(socket, which, RequestKind::CancelInput, ring);
    }

    /// Requests the cancellation of a request. It is named by its own number, which the kernel
    /// looks up; for all of a descriptor it would go through every request of the ring (measured:
    /// with 9,000 of them, 270 µs for each cancel).
    fn push_cancel(
        &mut self,
        socket: Socket,
        which: RequestKind,
        cancel: RequestKind,
        ring: &mut Ring,
    ) {
        let entry = opcode::AsyncCancel::new(Request::new(which, socket).to_bits()).build();
        // SAFETY: a cancel names no memory.
        unsafe { self.push(socket, cancel, entry, ring) };
    }

    /// What a cancel came to. The kernel does not find a request that is about to be tried again:
    /// while it has not ended, it is looked for again.
    pub(super) fn on_cancel(&mut self, socket: Socket, completed: Cqe, ring: &mut Ring) {
        if !matches!(completed.result, Err(Errno::NOENT | Errno::ALREADY)) {
            return;
        }
        match completed.request.kind {
            RequestKind::CancelInput if self.armed && self.cancel_requested => {
                self.cancel_input(socket, ring);
            }
            RequestKind::CancelSend
                if self.sending.as_ref().is_some_and(|it| it.is_cancel_requested()) =>
            {
                self.push_cancel(socket, RequestKind::Send, RequestKind::CancelSend, ring);
            }
            _ => {}
        }
    }
}

/// Operations, and what ends them early.
impl SocketState {
    pub(super) fn start_accept(&mut self, socket: Socket, tag: Tag, cx: &mut LaneCx<'_>) {
        assert!(matches!(self.input, Input::Nothing), "one accept at a time");
        self.input = Input::Accept(tag);
        self.arm_accept(socket, cx);
    }

    pub(super) fn start_connect(
        &mut self,
        socket: Socket,
        tag: Tag,
        address: Address,
        cx: &mut LaneCx<'_>,
    ) {
        assert!(self.fd.is_none(), "a socket connects once");
        if let Some(error) = self.error {
            return cx.done.fail(tag, error);
        }
        let address = address.socket_addr();
        match sys::connecting_socket(&address, sys::BLOCKING) {
            Ok(fd) => self.fd = Some(fd),
            Err(errno) => return cx.done.fail(tag, sys::error(errno)),
        }
        let connect = Box::new(Connect { tag, address: address.into() });
        let (start, len) = (connect.address.as_ptr().cast(), connect.address.addr_len());
        self.input = Input::Connect(connect);
        self.armed = true;
        let entry = opcode::Connect::new(self.raw(), start, len).build();
        // SAFETY: the address is in a box that the socket's state keeps until the completion.
        unsafe { self.push(socket, RequestKind::Connect, entry, cx.ring) };
    }

    pub(super) fn start_receive(
        &mut self,
        socket: Socket,
        tag: Tag,
        mode: ReceiveMode,
        cx: &mut LaneCx<'_>,
    ) {
        if !self.connected {
            return cx.done.fail(tag, sys::error(Errno::NOTCONN));
        }
        let before = match std::mem::take(&mut self.input) {
            Input::Nothing => None,
            Input::Receives(all) => Some(all),
            _ => panic!("a listener has no receives"),
        };
        self.input = Input::Receives(Receives::push(before, Receive::new(tag, mode, ())));
        self.arm_receive(socket, cx);
    }

    pub(super) fn start_send(
        &mut self,
        socket: Socket,
        tag: Tag,
        gather: Gather,
        cx: &mut LaneCx<'_>,
    ) {
        assert!(!gather.is_empty(), "a send without bytes");
        assert!(self.sending.is_none(), "one send at a time on a socket");
        if let Some(error) = self.error {
            return cx.done.fail(tag, error);
        }
        if !self.connected {
            return cx.done.fail(tag, sys::error(Errno::NOTCONN));
        }
        self.sending = Some(cx.free_list.take(tag, gather));
        self.send_on(socket, false, cx.ring);
    }

    /// Has the kernel do what comes next for the send; `waiting`: by a thread that may wait.
    fn send_on(&mut self, socket: Socket, waiting: bool, ring: &mut Ring) {
        let fd = self.raw();
        let sending = self.sending.as_mut().expect("a send that goes on");
        let mut entry = sending.entry(fd);
        if waiting {
            entry = entry.flags(squeue::Flags::ASYNC);
        }
        // SAFETY: what the entry names is in the box, or owned by what is in it; the state keeps
        // the box until the completion and changes nothing in it.
        unsafe { self.push(socket, RequestKind::Send, entry, ring) };
    }

    /// Closes the handle, once no request names it any more.
    pub(super) fn start_close(&mut self, socket: Socket, tag: Tag, cx: &mut LaneCx<'_>) {
        assert!(
            matches!(self.input, Input::Nothing) && self.sending.is_none(),
            "a socket closed with operations in flight: cancel, await, then close"
        );
        self.input = Input::Close(tag);
        self.close_when_free(socket, cx.ring);
    }

    /// Closes the handle of a socket that is to be closed and that nothing names any more.
    pub(super) fn close_when_free(&mut self, socket: Socket, ring: &mut Ring) {
        if self.requests == 0
            && matches!(self.input, Input::Close(_))
            && let Some(fd) = self.fd.take()
        {
            let entry = opcode::Close::new(Fd(fd.into_raw_fd())).build();
            // SAFETY: it names no memory, and the handle is the request's own from here on.
            unsafe { self.push(socket, RequestKind::Close, entry, ring) };
        }
    }

    /// The terminal completion of a close, where the handle is closed; then the slot is vacant.
    pub(super) fn closed(&mut self) -> Option<Tag> {
        let Input::Close(tag) = self.input else { return None };
        if self.requests > 0 || self.fd.is_some() {
            return None;
        }
        self.input = Input::Nothing;
        self.live = false;
        self.generation = self.generation.wrapping_add(1);
        Some(tag)
    }

    pub(super) fn cancel(&mut self, socket: Socket, what: Cancel, cx: &mut LaneCx<'_>) {
        for receive in self.receives() {
            receive.cancelled = true;
        }
        let receiving = matches!(self.input, Input::Receives(_));
        match what {
            Cancel::Everything => self.cancel_all(socket, cx.ring),
            Cancel::Receives if self.armed && receiving && !self.cancel_requested => {
                self.cancel_input(socket, cx.ring);
            }
            Cancel::Receives => {}
        }
        self.end_cancelled(cx.done);
    }

    pub(super) fn shutdown(&mut self, ring: &mut Ring) {
        self.write_shutdown = true;
        if self.sending.is_some() {
            // What is queued goes out before the end.
            ring.submit().expect(super::ring::WORKS);
        }
        if let Some(fd) = &self.fd {
            sys::shutdown_write(fd);
        }
    }

    pub(super) fn reset(&mut self, socket: Socket, cx: &mut LaneCx<'_>) {
        let error = *self.error.insert(sys::error(Errno::CONNRESET));
        let Some(fd) = &self.fd else { return };
        sys::reset(fd);
        self.cancel_all(socket, cx.ring);
        if !self.armed {
            self.end_all(Outcome::Failed, error, cx.done);
        }
    }
}

/// Requests of the kernel, as the operations need them.
impl SocketState {
    fn arm_accept(&mut self, socket: Socket, cx: &mut LaneCx<'_>) {
        self.armed = true;
        self.cancel_requested = false;
        let entry = opcode::AcceptMulti::new(self.raw()).flags(libc::SOCK_CLOEXEC).build();
        // SAFETY: it names no memory.
        unsafe { self.push(socket, RequestKind::Accept, entry, cx.ring) };
    }

    /// Has the kernel serve the first receive, where it does not serve one already.
    pub(super) fn arm_receive(&mut self, socket: Socket, cx: &mut LaneCx<'_>) {
        if self.armed || self.starved {
            return;
        }
        let Some(first) = self.receives().next().copied() else { return };
        self.armed = true;
        self.cancel_requested = false;
        let entry = match first.mode {
            ReceiveMode::Stream if cx.multishot => {
                opcode::RecvMulti::new(self.raw(), GROUP).build()
            }
            ReceiveMode::Stream | ReceiveMode::Once => {
                let (anywhere, all) = (std::ptr::null_mut(), 0);
                let entry = opcode::Recv::new(self.raw(), anywhere, all).buf_group(GROUP).build();
                entry.flags(squeue::Flags::BUFFER_SELECT)
            }
        };
        // SAFETY: the memory is the buffer group's, and stays until a completion names it.
        unsafe { self.push(socket, RequestKind::Receive, entry, cx.ring) };
    }

    /// The receives, the first first.
    fn receives(&mut self) -> impl Iterator<Item = &mut Receive<()>> {
        let all = match &mut self.input {
            Input::Receives(all) => Some(all.iter_mut()),
            _ => None,
        };
        all.into_iter().flatten()
    }

    fn end_first_receive(&mut self, outcome: Outcome, done: &mut CompletionQueue) {
        let Input::Receives(all) = std::mem::take(&mut self.input) else {
            unreachable!("no receive")
        };
        let (first, rest) = all.remove(0);
        self.input = rest.map_or(Input::Nothing, Input::Receives);
        done.end(first.tag, outcome);
    }

    /// Ends the cancelled ones that the kernel does not serve.
    fn end_cancelled(&mut self, done: &mut CompletionQueue) {
        if !self.armed {
            while self.receives().next().is_some_and(|first| first.cancelled) {
                let error = Error::new(Failure::Cancelled);
                self.end_first_receive(Outcome::Failed(error), done);
            }
        }
    }

    /// Ends all receives in the same way.
    fn end_all<T: Copy>(
        &mut self,
        outcome: fn(T) -> Outcome,
        value: T,
        done: &mut CompletionQueue,
    ) {
        while self.receives().next().is_some() {
            self.end_first_receive(outcome(value), done);
        }
    }

    /// Keeps an error that ends the connection.
    fn set_error(&mut self, error: Error) -> Error {
        if !error.is_transient() && error.failure != Failure::NotConnected {
            self.error = Some(error);
        }
        error
    }
}

/// What requests came to.
impl SocketState {
    pub(super) fn on_accept(&mut self, socket: Socket, completed: Cqe, cx: &mut LaneCx<'_>) {
        self.armed = completed.more;
        let Input::Accept(tag) = self.input else {
            unreachable!("the kernel accepts where an accept waits")
        };
        if let Some(fd) = accepted(completed) {
            // A peer without an address has left already.
            if let Some(peer) = sys::peer_address(&fd) {
                let new = NewSocket { peer, handle: Box::new(fd) };
                let outcome = Outcome::Accepted(Box::new(new));
                cx.done.put(Completion { tag, more: true, outcome });
            }
        }
        if self.armed {
            return;
        }
        match completed.result {
            _ if self.cancel_requested => {
                self.input = Input::Nothing;
                cx.done.fail(tag, Error::new(Failure::Cancelled));
            }
            Err(errno) if !sys::is_per_connection(errno) => {
                self.input = Input::Nothing;
                cx.done.fail(tag, failure(errno));
            }
            _ => self.arm_accept(socket, cx),
        }
    }

    pub(super) fn on_connect(&mut self, completed: Cqe, cx: &mut LaneCx<'_>) {
        self.armed = false;
        let Input::Connect(connect) = std::mem::take(&mut self.input) else {
            unreachable!("the kernel connects where a connect waits")
        };
        let error = match (completed.result, self.error) {
            (Ok(_), None) => {
                self.connected = true;
                return cx.done.end(connect.tag, Outcome::Connected);
            }
            (result, Some(error)) => {
                // Reset while it connected.
                if let (Ok(_), Some(fd)) = (result, &self.fd) {
                    sys::reset(fd);
                }
                error
            }
            (Err(errno), None) => failure(errno),
        };
        self.error.get_or_insert(sys::error(Errno::NOTCONN));
        cx.done.fail(connect.tag, error);
    }

    /// Returns whether the socket waits for buffers.
    pub(super) fn on_receive(
        &mut self,
        socket: Socket,
        completed: Cqe,
        cx: &mut LaneCx<'_>,
    ) -> bool {
        self.armed = completed.more;
        let (group, pool) = cx.ring.buffers();
        let filled = completed.result.unwrap_or(0);
        let memory = completed.buffer.map(|number| group.take(number, filled));
        let mut out_of_buffers = false;
        match (completed.result, memory) {
            (Ok(filled @ 1..), Some(memory)) => {
                let outcome = Outcome::Received(pool.lend(memory, filled));
                self.give_to_first_receive(outcome, cx.done);
            }
            (result, memory) => {
                if let Some(memory) = memory {
                    pool.give_back_memory(memory);
                }
                out_of_buffers = self.on_receive_without_data(result, cx.done);
            }
        }
        if !self.armed {
            self.end_cancelled(cx.done);
            if out_of_buffers && self.receives().next().is_some() {
                self.starved = true;
                return true;
            }
            self.arm_receive(socket, cx);
        }
        false
    }

    /// Returns whether that was for want of a buffer.
    fn on_receive_without_data(
        &mut self,
        result: Result<usize, Errno>,
        done: &mut CompletionQueue,
    ) -> bool {
        match (result, self.error) {
            (Err(Errno::NOBUFS), _) => return true,
            (_, Some(error)) => self.end_all(Outcome::Failed, error, done),
            // It is asked again, as far as anybody still wants to know.
            (Err(Errno::INTR | Errno::AGAIN | Errno::CANCELED), None) => {}
            (Ok(_), None) => self.end_all(|()| Outcome::Ended, (), done),
            (Err(errno), None) => {
                let error = self.set_error(sys::error(errno));
                self.end_all(Outcome::Failed, error, done);
            }
        }
        false
    }

    /// Data for the first receive; a stream goes on.
    fn give_to_first_receive(&mut self, outcome: Outcome, done: &mut CompletionQueue) {
        let first = *self.receives().next().expect("the kernel receives where a receive waits");
        match first.mode {
            ReceiveMode::Stream => done.put(Completion { tag: first.tag, more: true, outcome }),
            ReceiveMode::Once => self.end_first_receive(outcome, done),
        }
    }

    pub(super) fn on_send(&mut self, socket: Socket, completed: Cqe, cx: &mut LaneCx<'_>) {
        let mut sending = self.sending.take().expect("the kernel sends what a send gave it");
        if sending.is_loading() {
            let again = sending.on_loaded(completed.result);
            if !sending.is_cancel_requested() {
                self.sending = Some(sending);
                return self.send_on(socket, again, cx.ring);
            }
            let error = self.error.unwrap_or(Error::new(Failure::Cancelled));
            return cx.done.fail(cx.free_list.keep(sending).0, error);
        }
        let (tag, gather) = cx.free_list.keep(sending);
        match (completed.result, self.error) {
            (Ok(bytes), _) => cx.done.end(tag, Outcome::Sent { bytes, gather }),
            (Err(_), Some(error)) => cx.done.fail(tag, error),
            (Err(Errno::INTR | Errno::AGAIN), None) => {
                cx.done.end(tag, Outcome::Sent { bytes: 0, gather });
            }
            (Err(errno), None) if failure(errno).is_transient() => {
                cx.done.end(tag, Outcome::Sent { bytes: 0, gather });
            }
            // The peer's reset came after its end.
            (Err(Errno::PIPE), None) if !self.write_shutdown => {
                let error = Error { failure: Failure::Reset, ..sys::error(Errno::PIPE) };
                cx.done.fail(tag, self.set_error(error));
            }
            (Err(Errno::CANCELED), None) => cx.done.fail(tag, failure(Errno::CANCELED)),
            (Err(errno), None) => cx.done.fail(tag, self.set_error(sys::error(errno))),
        }
    }
}

/// The descriptor that a completed accept brings.
pub(super) fn accepted(completed: Cqe) -> Option<OwnedFd> {
    if completed.request.kind != RequestKind::Accept {
        return None;
    }
    let descriptor = i32::try_from(completed.result.ok()?).expect("the kernel counts in i32");
    // SAFETY: the kernel has just made the descriptor for this process, and tells it once.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// What the kernel's error means.
fn failure(errno: Errno) -> Error {
    match errno {
        Errno::CANCELED => Error::new(Failure::Cancelled),
        errno => sys::error(errno),
    }
}
