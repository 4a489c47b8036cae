//! The state of one registered socket, its operations, and what the system has in flight for them.

use std::net::{IpAddr, SocketAddr};
use std::os::windows::io::OwnedSocket;
use std::time::Duration;

use windows_sys::Win32::Foundation::ERROR_HANDLE_EOF;
use windows_sys::Win32::Networking::WinSock as net;
use windows_sys::Win32::Networking::WinSock::SOCKET;

use super::accepting::Accepting;
use super::lane::IocpCore;
use super::operation::{self, Ended, FreeList, OperationKind, OverlappedId, Submitted};
use super::receiving::State;
use crate::address::Address;
use crate::buffer::LanePool;
use crate::error::{Error, Failure};
use crate::gather::{FileFault, Gather};
use crate::native::completion_queue::CompletionQueue;
use crate::native::receives::Receives;
use crate::native::shared_slot_table::SharedSlotTable;
use crate::native::slot_table::Slot;
use crate::op::{Cancel, Op, Outcome};
use crate::sys::{self, RawAddress};
use crate::token::{Socket, Tag};

/// Bytes that one send takes to the system, at most and at least. The system tells of a send only
/// when all of it is in its hands, so what a slow peer takes is seen in steps of this size: it is
/// halved after a send that took long, and doubled after one that did not.
const MAX_SEND_BYTES: u32 = 64 * 1024;
const MIN_SEND_BYTES: u32 = 4 * 1024;
const LONG: Duration = Duration::from_secs(1);
/// Of a file, so many times as much: no memory is held for it.
const FILE_FACTOR: u32 = 4;
const _: () = assert!(
    (MAX_SEND_BYTES as u64 * FILE_FACTOR as u64) < i32::MAX as u64,
    "what one TransmitFile takes"
);

/// The sockets of a port.
pub(super) type Sockets = SharedSlotTable<SocketState>;

/// A slot of the table of sockets.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about one socket, and the state must stay small"
)]
pub(super) struct SocketState {
    /// None: a socket that has not begun to connect, one that is reset or closed, or a vacant slot.
    pub(super) handle: Option<OwnedSocket>,
    generation: u32,
    pub(super) input: Input,
    sending: Option<OverlappedId>,
    /// What ended the connection. The system tells it to one call only, be it a send or a receive,
    /// and shows the others a clean end or a broken pipe: kept so that all are told the same.
    pub(super) error: Option<Error>,
    /// Operations that the system has.
    in_flight: u32,
    /// What one send takes at most now, and when the last one began.
    send_bytes: u32,
    send_began: Duration,
    /// True exactly when the slot is taken.
    live: bool,
    /// True exactly when the socket has a connection, or had one.
    connected: bool,
    /// True exactly when a read may yield something: a probe has ended, and no read has come back
    /// empty since.
    pub(super) readable: bool,
    /// True exactly when a posted receive has come back empty: no more are posted.
    pub(super) posted_receives_off: bool,
    /// True exactly while the system has a probe.
    pub(super) probing: bool,
    /// True exactly when the socket must be polled although nothing has come: what ended at once
    /// goes on when others have had their turn.
    pub(super) needs_poll: bool,
    /// True exactly when the socket is queued to be polled.
    queued: bool,
    /// True exactly when this side has ended its stream, or will when the send in flight ends.
    write_shutdown: bool,
    /// True exactly when the send in flight was to end early.
    send_cancelled: bool,
    /// True exactly when the handle is to go as soon as the system has nothing in flight on it.
    pub(super) closes_when_free: bool,
}

/// What waits for something to come from the socket. These exclude each other.
#[derive(Debug, Default)]
pub(super) enum Input {
    #[default]
    Nothing,
    Connect {
        tag: Tag,
        cancelled: bool,
    },
    Accept(Box<Accepting>),
    Receives(Receives<State>),
    Close(Tag),
}

/// The parts of the lane that a call on a socket uses.
pub(super) struct LaneCx<'a> {
    pub(super) core: &'a IocpCore,
    pub(super) done: &'a mut CompletionQueue,
    pub(super) buffers: &'a mut LanePool,
    pub(super) free_list: &'a mut FreeList,
    pub(super) now: Duration,
}

impl Slot for SocketState {
    fn occupy(&mut self, slot: u32) -> Socket {
        assert!(!self.live, "a slot taken twice");
        let send_bytes = MAX_SEND_BYTES;
        *self = Self { generation: self.generation, live: true, send_bytes, ..Self::default() };
        Socket { slot, generation: self.generation }
    }

    fn is(&self, socket: Socket) -> bool {
        self.live && self.generation == socket.generation
    }
}

/// The handle.
impl SocketState {
    /// Gives the socket its handle. What fails is kept for the first operation: this is not the
    /// place where a failure is told.
    pub(super) fn adopt(&mut self, handle: OwnedSocket, is_listener: bool, core: &IocpCore) {
        self.error = core.associate(&handle).err();
        self.handle = Some(handle);
        self.connected = !is_listener;
    }

    pub(super) fn local_address(&self) -> Option<Address> {
        self.handle.as_ref().and_then(sys::local_address)
    }

    /// The handle as the calls take it, which a socket in use has.
    pub(super) fn raw(&self) -> SOCKET {
        sys::raw(self.handle.as_ref().expect("a socket in use has a handle"))
    }

    /// Counts an operation that was begun; what has ended in the call is handed back.
    pub(super) fn count(&mut self, submitted: Submitted) -> Result<OverlappedId, Ended> {
        match submitted {
            Submitted::InFlight(id) => {
                self.in_flight += 1;
                Ok(id)
            }
            Submitted::Ended(ended) => Err(ended),
        }
    }

    /// Lets the handle go, where it is to go and nothing is in flight on it.
    fn close_when_free(&mut self) {
        if self.closes_when_free && self.in_flight == 0 {
            self.handle = None;
        }
    }

    /// The terminal completion of a close, where the handle is closed; then the slot is vacant.
    pub(super) fn closed(&mut self) -> Option<Tag> {
        let Input::Close(tag) = self.input else { return None };
        if self.in_flight > 0 || self.handle.is_some() {
            return None;
        }
        self.input = Input::Nothing;
        self.live = false;
        self.generation = self.generation.wrapping_add(1);
        Some(tag)
    }

    /// Whether the system has operations on this socket.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// An operation of a socket that was left behind has ended.
    pub(super) fn count_ended(&mut self) {
        self.in_flight -= 1;
    }

    /// Leaves the handle open for ever.
    pub(super) fn leak(&mut self) {
        if self.in_flight > 0 {
            std::mem::forget(self.handle.take());
        }
    }

    /// Has the handle closed as soon as the system has nothing in flight on it, and asks it to end
    /// what it has.
    pub(super) fn begin_close(&mut self) {
        self.closes_when_free = true;
        if let Some(handle) = &self.handle
            && self.in_flight > 0
        {
            operation::cancel(sys::raw(handle), None);
        }
        self.close_when_free();
    }
}

/// Polling.
impl SocketState {
    /// Marks the socket as queued if it is ready and not queued yet. Returns whether the caller
    /// must queue it.
    pub(super) fn mark_queued(&mut self) -> bool {
        let ready = self.needs_poll || self.can_take();
        let enqueue = ready && !self.queued;
        self.queued |= enqueue;
        enqueue
    }

    /// Does what is ready, for at most one buffer or a few accepted peers: a socket that has more
    /// goes to the back of the queue.
    pub(super) fn poll(&mut self, socket: Socket, cx: &mut LaneCx<'_>) {
        self.queued = false;
        self.needs_poll = false;
        match self.input {
            Input::Accept(_) => self.arm_accepts(socket, cx),
            Input::Receives(_) => self.serve(socket, cx),
            Input::Nothing | Input::Connect { .. } | Input::Close(_) => {}
        }
    }
}

/// Operations, and what ends them early.
impl SocketState {
    /// Starts an operation on this socket.
    pub(super) fn submit(&mut self, socket: Socket, tag: Tag, op: Op, cx: &mut LaneCx<'_>) {
        match op {
            Op::Accept(_) => self.start_accept(socket, tag, cx),
            Op::Connect(_, address) => self.start_connect(socket, tag, address, cx),
            Op::Receive(_, mode) => self.start_receive(socket, tag, mode, cx),
            Op::Send(_, gather) => self.start_send(socket, tag, gather, cx),
            Op::Close(_) => self.start_close(tag),
            Op::Resolve(_) | Op::File(_) => unreachable!("done by the lane, not by the socket"),
        }
    }

    fn start_connect(&mut self, socket: Socket, tag: Tag, address: Address, cx: &mut LaneCx<'_>) {
        assert!(self.handle.is_none() && !self.connected, "a socket connects once");
        if let Some(error) = self.error {
            return cx.done.fail(tag, error);
        }
        // Sockets for IPv6 do not speak IPv4 here.
        let to = match address.ip() {
            IpAddr::V4(ip) => SocketAddr::from((ip, address.port())),
            IpAddr::V6(_) => address.socket_addr(),
        };
        let opened = sys::stream_socket(to.ip()).and_then(|handle| {
            sys::bind_anywhere(&handle, to.ip())?;
            sys::prepare(&handle, true)?;
            if to.ip().is_loopback() {
                sys::ask_once(&handle);
            }
            cx.core.associate(&handle)?;
            Ok(handle)
        });
        match opened {
            Ok(handle) => self.handle = Some(handle),
            Err(error) => return cx.done.fail(tag, error),
        }
        self.input = Input::Connect { tag, cancelled: false };
        let at = (self.raw(), socket);
        let submitted = cx.core.functions.connect(at, RawAddress::of(to), cx.free_list);
        if let Err(ended) = self.count(submitted) {
            let (_, result) = cx.free_list.keep(ended);
            self.on_connect(result.map(drop), cx);
        }
    }

    fn start_send(&mut self, socket: Socket, tag: Tag, gather: Gather, cx: &mut LaneCx<'_>) {
        assert!(!gather.is_empty(), "a send without bytes");
        assert!(self.sending.is_none(), "one send at a time on a socket");
        if let Some(error) = self.error {
            return cx.done.fail(tag, error);
        }
        if !self.is_connected() || self.write_shutdown {
            return cx.done.fail(tag, Error::new(Failure::NotConnected));
        }
        self.send_cancelled = false;
        self.send_began = cx.now;
        match gather.file_ahead().is_some() {
            true => self.send_file(socket, tag, gather, cx),
            false => self.send_memory(socket, tag, gather, cx),
        }
    }

    fn send_memory(&mut self, socket: Socket, tag: Tag, gather: Gather, cx: &mut LaneCx<'_>) {
        let max_bytes = self.send_bytes as usize;
        let (at, what) = ((self.raw(), socket), (tag, gather));
        let submitted = cx.core.functions.send(at, what, max_bytes, cx.free_list);
        match self.count(submitted) {
            Ok(id) => self.sending = Some(id),
            Err(ended) => {
                let (work, result) = cx.free_list.keep(ended);
                self.on_send(work, result, cx);
            }
        }
    }

    /// Sends what the file has now. (Asked for more than it has, the system would send what there
    /// is, fail, and not tell how much that was.)
    fn send_file(&mut self, socket: Socket, tag: Tag, mut gather: Gather, cx: &mut LaneCx<'_>) {
        let (file, offset, bytes) = gather.file_ahead().expect("a file comes next");
        let left = operation::length(file).map(|length| length.saturating_sub(offset));
        let max_bytes = self.send_bytes * FILE_FACTOR;
        let bytes = bytes.min(max_bytes as usize) as u32;
        let fault = match left {
            Ok(0) => FileFault::Short,
            Ok(left) => {
                let bytes = u32::try_from(left).map_or(bytes, |left| left.min(bytes));
                let (at, what) = ((self.raw(), socket), (tag, gather));
                let submitted = cx.core.functions.transmit(at, what, bytes, cx.free_list);
                let ended = match self.count(submitted) {
                    Ok(id) => return self.sending = Some(id),
                    Err(ended) => ended,
                };
                let (work, result) = cx.free_list.keep(ended);
                let fault = result.err().filter(|_| self.error.is_none());
                match (work, fault.and_then(fault_of_file_at_once)) {
                    // The system does not take this file: nothing has left.
                    (OperationKind::Send { gather: back, .. }, Some(fault)) => {
                        gather = back;
                        fault
                    }
                    (work, _) => return self.on_send(work, result, cx),
                }
            }
            Err(error) => FileFault::Failed(error),
        };
        gather.pad_file(fault);
        self.send_memory(socket, tag, gather, cx);
    }

    fn start_close(&mut self, tag: Tag) {
        assert!(
            matches!(self.input, Input::Nothing) && self.sending.is_none(),
            "a socket closed with operations in flight: cancel, await, then close"
        );
        self.input = Input::Close(tag);
        self.begin_close();
    }

    pub(super) fn cancel(&mut self, what: Cancel, cx: &mut LaneCx<'_>) {
        self.cancel_receives(cx);
        if what == Cancel::Receives {
            return;
        }
        match &mut self.input {
            Input::Connect { cancelled, .. } => {
                *cancelled = true;
                operation::cancel(self.raw(), None);
            }
            Input::Accept(_) => self.cancel_accepts(cx),
            _ => {}
        }
        if let Some(id) = self.sending {
            self.send_cancelled = true;
            operation::cancel(self.raw(), Some(id));
        }
    }

    /// Ends the stream after what has been sent: the system has taken a send over when it ends.
    pub(super) fn shutdown(&mut self) {
        self.write_shutdown = true;
        if self.sending.is_none()
            && let Some(handle) = &self.handle
        {
            sys::shutdown_write(handle);
        }
    }

    /// The reset goes out when the handle is closed, and that is when the system has nothing in
    /// flight on it.
    pub(super) fn reset(&mut self, cx: &mut LaneCx<'_>) {
        let error = *self.error.insert(Error::new(Failure::Reset));
        if let Some(handle) = &self.handle {
            sys::reset_at_close(handle);
        }
        self.fail_unposted(error, cx.done);
        self.begin_close();
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected && self.handle.is_some() && !self.closes_when_free
    }
}

/// What operations came to.
impl SocketState {
    /// An operation that was in flight has ended.
    pub(super) fn complete(&mut self, socket: Socket, mut ended: Ended, cx: &mut LaneCx<'_>) {
        self.in_flight -= 1;
        if !cx.core.functions.at_once {
            #[cfg(test)]
            cx.core.functions.faults.hide(&mut ended);
            ended.look_up(self.raw());
        }
        #[cfg(test)]
        cx.core.functions.faults.distort(&mut ended);
        let id = OverlappedId::of(&ended.operation);
        let (work, result) = cx.free_list.keep(ended);
        match work {
            OperationKind::Connect { .. } => self.on_connect(result.map(drop), cx),
            OperationKind::Accept { new, .. } => {
                self.on_accept(new, result.map(drop), cx);
                self.arm_accepts(socket, cx);
            }
            OperationKind::Probe => self.on_probe(result.map(drop), cx),
            OperationKind::File { .. } => unreachable!("done by the lane, not by the socket"),
            OperationKind::Receive { buffer } => self.on_receive(id, buffer, result, cx),
            work @ OperationKind::Send { .. } => {
                self.sending = None;
                match (work, result) {
                    (OperationKind::Send { tag, gather }, Err(error))
                        if gather.file_ahead().is_some() =>
                    {
                        self.on_file_cut((tag, gather), error, cx);
                    }
                    (work, result) => self.on_send(work, result, cx),
                }
                if self.write_shutdown && !self.closes_when_free {
                    self.shutdown();
                }
            }
        }
        if !self.probing && !self.readable && self.wants_to_read() {
            self.serve(socket, cx);
        }
        self.close_when_free();
    }

    fn on_connect(&mut self, result: Result<(), Error>, cx: &mut LaneCx<'_>) {
        let Input::Connect { tag, cancelled } = std::mem::take(&mut self.input) else {
            unreachable!("the system connects where a connect waits")
        };
        let handle = self.handle.as_ref().expect("a socket that connects has a handle");
        let result = result.and_then(|()| sys::now_connected(handle));
        let result = match (result, self.error) {
            (Ok(()), Some(error)) => {
                // Reset while it connected: the system would not know of it.
                sys::reset_at_close(handle);
                Err(error)
            }
            (result, _) => result,
        };
        match result {
            Ok(()) => {
                self.connected = true;
                cx.done.end(tag, Outcome::Connected);
            }
            Err(error) => {
                let error = self.error.unwrap_or(match cancelled {
                    true => Error::new(Failure::Cancelled),
                    false => error,
                });
                self.error.get_or_insert(Error::new(Failure::NotConnected));
                cx.done.fail(tag, error);
            }
        }
    }

    fn on_send(&mut self, work: OperationKind, result: Result<usize, Error>, cx: &mut LaneCx<'_>) {
        let OperationKind::Send { tag, gather } = work else { unreachable!("a send") };
        match (result, self.error) {
            (Ok(bytes), _) => {
                self.send_bytes = match cx.now.saturating_sub(self.send_began) < LONG {
                    true => (self.send_bytes * 2).min(MAX_SEND_BYTES),
                    false => (self.send_bytes / 2).max(MIN_SEND_BYTES),
                };
                cx.done.end(tag, Outcome::Sent { bytes, gather });
            }
            (Err(_), Some(error)) => cx.done.fail(tag, error),
            (Err(_), None) if self.send_cancelled => {
                cx.done.fail(tag, Error::new(Failure::Cancelled));
            }
            (Err(error), None) if error.is_transient() => {
                cx.done.end(tag, Outcome::Sent { bytes: 0, gather });
            }
            (Err(error), None) => {
                let error = self.set_error(error);
                cx.done.fail(tag, error);
            }
        }
    }

    /// A part of a file has failed on its way, and how much of it has left nobody tells: the system
    /// counts what succeeds. The stream is out of step, so nothing may follow, not even where room
    /// would return. Where it is the file's fault, whoever sends it is told that first.
    fn on_file_cut(&mut self, send: (Tag, Gather), error: Error, cx: &mut LaneCx<'_>) {
        let (tag, mut gather) = send;
        if self.error.is_some() || self.send_cancelled {
            return self.on_send(OperationKind::Send { tag, gather }, Err(error), cx);
        }
        let failure = if error.is_transient() { Failure::Reset } else { error.failure };
        let kept = self.set_error(Error { failure, ..error });
        match fault_of_file(error) {
            Some(fault) => {
                gather.pad_file(fault);
                // What is left is refused when it is submitted again.
                cx.done.end(tag, Outcome::Sent { bytes: 0, gather });
            }
            None => cx.done.fail(tag, kept),
        }
    }

    /// Keeps an error that ends the connection, as the failure that is the same on every system:
    /// however the peer's reset showed, it is a reset.
    pub(super) fn set_error(&mut self, error: Error) -> Error {
        let ours = self.write_shutdown && error.code == net::WSAESHUTDOWN;
        let failure = match error.failure {
            Failure::Aborted | Failure::Cancelled => Failure::Reset,
            Failure::NotConnected if !ours => Failure::Reset,
            failure => failure,
        };
        let error = Error { failure, ..error };
        if !error.is_transient() && failure != Failure::NotConnected {
            self.error = Some(error);
        }
        error
    }
}

/// What an error of a call that sends a file says of the file, where it is about the file.
fn fault_of_file(error: Error) -> Option<FileFault> {
    use Failure::{Denied, Disk, Locked, NotAFile};
    match error.failure {
        // It was cut since its length was asked for.
        _ if error.code.cast_unsigned() == ERROR_HANDLE_EOF => Some(FileFault::Short),
        Denied | Disk | Locked | NotAFile => Some(FileFault::Failed(error)),
        _ => None,
    }
}

/// The same of a call that has not begun to send it: more is about the file then. (A connection
/// that is up is neither refused nor out of reach: that is the machine that has the file.)
fn fault_of_file_at_once(error: Error) -> Option<FileFault> {
    use Failure::{Other, Refused, Unreachable, Unsupported};
    let is_a_files = matches!(error.failure, Other | Refused | Unreachable | Unsupported);
    fault_of_file(error).or(is_a_files.then_some(FileFault::Failed(error)))
}
