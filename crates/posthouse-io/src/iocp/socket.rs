//! The state of one registered socket, its operations, and their overlapped calls in flight.

use std::os::windows::io::OwnedSocket;
use std::time::Duration;

use windows_sys::Win32::Foundation::ERROR_HANDLE_EOF;
use windows_sys::Win32::Networking::WinSock::SOCKET;

use super::accepting::Accepting;
use super::lane::IocpCore;
use super::operation::{self, Ended, FileRange, FreeList, OperationKind, OverlappedId, Submitted};
use super::receiving::State;
use super::watching::{PeekEntry, Watcher};
use crate::address::Address;
use crate::buffer::LanePool;
use crate::error::{Error, Failure};
use crate::gather::{FileFault, Gather};
use crate::native::completion_queue::CompletionQueue;
use crate::native::shared_slot_table::SharedSlotTable;
use crate::native::socket_core::{Input, Link, SocketCore, SocketParts, Stage, Started, Watching};
use crate::op::{Cancel, Op, Outcome};
use crate::sys::{self, RawAddress};
use crate::token::{Socket, Tag};

/// The maximum number of bytes that one send gives to the system, and the number of times that it
/// may be halved. The system reports a send only when it has taken all of it, so the progress of a
/// slow peer is seen in steps of this size. It is halved after a slow send and doubled after a fast
/// one.
const MAX_SEND_BYTES: u32 = 64 * 1024;
const MAX_HALVINGS: u32 = 4;
const LONG: Duration = Duration::from_secs(1);
/// The factor by which a send of bytes of a file may be larger: no memory is held for them.
const FILE_FACTOR: u32 = 4;
const _: () = assert!(
    (MAX_SEND_BYTES as u64 * FILE_FACTOR as u64) < i32::MAX as u64,
    "what one TransmitFile takes"
);

/// The sockets of a port.
pub(super) type Sockets = SharedSlotTable<SocketState>;

/// A slot of the table of sockets.
pub(super) type SocketState = SocketCore<IocpParts>;

/// The part of a socket's state that only this backend has.
#[derive(Debug, Default)]
pub(super) struct IocpParts {
    /// The number of operations that the system has.
    in_flight: u32,
    /// The present number of halvings of the maximum send, and the time at which the last send
    /// began.
    send_halvings: u32,
    send_began: Duration,
    /// True exactly when a read may return something: a probe has ended, and no read has come back
    /// empty since.
    pub(super) readable: bool,
    /// True exactly when a posted receive has come back empty; then no more receives are posted.
    pub(super) posted_receives_off: bool,
    /// True exactly while the system has a probe of this socket.
    pub(super) probing: bool,
    pub(super) poll: Poll,
    pub(super) watching: Watching,
    pub(super) watcher: Watcher,
    pub(super) peek_entry: PeekEntry,
}

/// The reason why a socket is to be polled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Poll {
    /// The socket is polled if a read may return something.
    #[default]
    IfReady,
    /// The socket must be polled although nothing has come: an operation that ended at once
    /// continues when other sockets have had their turn.
    Needed,
    /// The socket is queued to be polled.
    Queued,
}

impl SocketParts for IocpParts {
    type Connect = Connect;
    type Accept = Box<Accepting>;
    type Receive = State;
    type Send = Sending;

    fn watching(&mut self) -> &mut Watching {
        &mut self.watching
    }
}

#[derive(Debug)]
pub(super) struct Connect {
    tag: Tag,
    cancelled: bool,
}

/// A send in flight.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sending {
    Wanted(OverlappedId),
    /// The early end of the send was requested.
    Cancelled(OverlappedId),
}

/// The parts of the lane that a call on a socket uses.
pub(super) struct LaneCx<'a> {
    pub(super) socket: Socket,
    pub(super) core: &'a IocpCore,
    pub(super) done: &'a mut CompletionQueue,
    pub(super) buffers: &'a mut LanePool,
    pub(super) free_list: &'a mut FreeList,
    pub(super) now: Duration,
}

/// The methods that access the handle of the socket and count its operations.
impl SocketState {
    /// Gives the socket its handle and associates it. A failure is kept for the first operation,
    /// because this function reports none.
    pub(super) fn adopt(&mut self, handle: OwnedSocket, stage: Stage, core: &IocpCore) {
        self.error = core.associate(&handle).err();
        self.link = Link::Open(stage, handle);
    }

    /// Returns the handle in the form that the calls take. Every socket in use has one.
    pub(super) fn raw(&self) -> SOCKET {
        sys::raw(self.handle())
    }

    /// Counts an operation that was begun. Returns the operation if it has ended in the call.
    pub(super) fn count(&mut self, submitted: Submitted) -> Result<OverlappedId, Ended> {
        match submitted {
            Submitted::InFlight(id) => {
                self.own.in_flight += 1;
                Ok(id)
            }
            Submitted::Ended(ended) => Err(ended),
        }
    }

    /// Closes the handle if it is to be closed and nothing is in flight on it.
    fn close_when_free(&mut self) {
        if self.own.in_flight == 0 {
            drop(self.take_closing());
        }
    }

    /// Returns the tag of the close operation if the handle is closed; the slot is then vacant.
    pub(super) fn closed(&mut self) -> Option<Tag> {
        if self.own.in_flight == 0 { self.end_close() } else { None }
    }

    /// Returns whether the system has operations on this socket.
    pub(super) fn is_in_flight(&self) -> bool {
        self.own.in_flight > 0
    }

    /// Counts the end of an operation after the last worker has gone.
    pub(super) fn count_ended(&mut self) {
        self.own.in_flight -= 1;
    }

    /// Leaves the handle open forever if the system has operations on it.
    pub(super) fn leak(&mut self) {
        if self.own.in_flight > 0 {
            std::mem::forget(std::mem::take(&mut self.link));
        }
    }

    /// Marks the handle to be closed as soon as the system has nothing in flight on it, and cancels
    /// the operations in flight.
    pub(super) fn begin_close(&mut self) {
        self.link.set_stage(Stage::Closing);
        if let Some(handle) = self.link.handle()
            && self.own.in_flight > 0
        {
            operation::cancel(sys::raw(handle), None);
        }
        self.close_when_free();
    }
}

/// The methods that put the socket into the queue of sockets to poll, and poll it.
impl SocketState {
    /// Marks the socket as queued if it is ready and not queued yet. Returns whether the caller
    /// must queue it.
    pub(super) fn mark_queued(&mut self) -> bool {
        let enqueue = match self.own.poll {
            Poll::IfReady => self.can_take(),
            Poll::Needed => true,
            Poll::Queued => false,
        };
        if enqueue {
            self.own.poll = Poll::Queued;
        }
        enqueue
    }

    /// Requests a poll of the socket although nothing has come.
    pub(super) fn need_poll(&mut self) {
        if self.own.poll == Poll::IfReady {
            self.own.poll = Poll::Needed;
        }
    }

    /// Performs the operations that are ready, for at most one buffer or a few accepted peers. A
    /// socket that has more to do goes to the back of the queue.
    pub(super) fn poll(&mut self, cx: &mut LaneCx<'_>) {
        self.own.poll = Poll::IfReady;
        match self.input {
            Input::Accept(_) => self.arm_accepts(cx),
            Input::Receives(_) => self.serve(cx),
            Input::Nothing | Input::Connect(_) | Input::Watch(_) | Input::Close(_) => {}
        }
    }
}

/// The methods that start operations, and those that end them early (cancel, shutdown, reset).
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
                self.begin_close();
                Ok(())
            }
            Op::Resolve(_) | Op::File(_) => unreachable!("done by the lane, not by the socket"),
        };
        if let Err(error) = started {
            cx.done.fail(tag, error);
        }
    }

    fn start_connect(&mut self, tag: Tag, address: Address, cx: &mut LaneCx<'_>) -> Started {
        self.check_connect()?;
        let to = address.socket_addr();
        let handle = sys::stream_socket(to.ip())?;
        sys::bind_anywhere(&handle, to.ip())?;
        sys::prepare(&handle, true)?;
        if to.ip().is_loopback() {
            sys::ask_once(&handle);
        }
        cx.core.associate(&handle)?;
        self.link = Link::Open(Stage::Unconnected, handle);
        self.input = Input::Connect(Connect { tag, cancelled: false });
        let functions = &cx.core.functions;
        let to = RawAddress::of(to);
        let submitted = functions.connect(self.raw(), cx.socket, to, cx.free_list);
        if let Err(ended) = self.count(submitted) {
            let (_, result) = cx.free_list.keep(ended);
            self.on_connect(result.map(drop), cx);
        }
        Ok(())
    }

    fn start_send(&mut self, tag: Tag, gather: Gather, cx: &mut LaneCx<'_>) -> Started {
        self.check_send(&gather)?;
        if self.is_half_closed() {
            return Err(sys::not_connected());
        }
        self.own.send_began = cx.now;
        self.send(tag, gather, cx);
        Ok(())
    }

    /// Sends the next segment: memory, or as much of a part of a file as the file has now. (If the
    /// call requested more than the file has, the system would send the existing bytes, fail, and
    /// not report their number.)
    fn send(&mut self, tag: Tag, mut gather: Gather, cx: &mut LaneCx<'_>) {
        let Some((file, offset, bytes)) = gather.file_ahead() else {
            return self.send_memory(tag, gather, cx);
        };
        let max_bytes = self.max_send_bytes() * FILE_FACTOR;
        let bytes = bytes.min(max_bytes as usize) as u32;
        let left = operation::length(file).map(|length| length.saturating_sub(offset));
        let fault = match left {
            Ok(0) => FileFault::Short,
            Ok(left) => {
                let bytes = u32::try_from(left).map_or(bytes, |left| left.min(bytes));
                let range = FileRange::new(file, offset, bytes);
                let functions = &cx.core.functions;
                let at = self.raw();
                let submitted = functions.transmit(at, cx.socket, tag, gather, range, cx.free_list);
                let (work, result) = match self.count(submitted) {
                    Ok(id) => return self.output = Some(Sending::Wanted(id)),
                    Err(ended) => cx.free_list.keep(ended),
                };
                gather = work.into_gather();
                let error = result.err().filter(|_| self.error.is_none());
                match error.and_then(fault_of_file_at_once) {
                    // The system cannot send this file; no byte has left.
                    Some(fault) => fault,
                    None => return self.on_send(tag, gather, result, cx),
                }
            }
            Err(error) => FileFault::Failed(error),
        };
        gather.pad_file(fault);
        self.send_memory(tag, gather, cx);
    }

    fn max_send_bytes(&self) -> u32 {
        MAX_SEND_BYTES >> self.own.send_halvings
    }

    fn send_memory(&mut self, tag: Tag, gather: Gather, cx: &mut LaneCx<'_>) {
        let functions = &cx.core.functions;
        let max_bytes = self.max_send_bytes();
        let submitted = functions.send(self.raw(), cx.socket, tag, gather, max_bytes, cx.free_list);
        match self.count(submitted) {
            Ok(id) => self.output = Some(Sending::Wanted(id)),
            Err(ended) => {
                let (work, result) = cx.free_list.keep(ended);
                self.on_send(tag, work.into_gather(), result, cx);
            }
        }
    }

    pub(super) fn cancel(&mut self, what: Cancel, cx: &mut LaneCx<'_>) {
        self.cancel_receives(cx);
        self.cancel_watch(cx);
        if what == Cancel::Receives {
            return;
        }
        match &mut self.input {
            Input::Connect(connect) => {
                connect.cancelled = true;
                operation::cancel(self.raw(), None);
            }
            Input::Accept(_) => self.cancel_accepts(cx),
            _ => {}
        }
        if let Some(Sending::Wanted(id) | Sending::Cancelled(id)) = self.output {
            self.output = Some(Sending::Cancelled(id));
            operation::cancel(self.raw(), Some(id));
        }
    }

    /// Ends the stream after the send in flight. A send ends when the system has taken all of it.
    pub(super) fn shutdown(&mut self) {
        self.set_half_closed();
        if self.output.is_none()
            && let Some(handle) = self.link.handle()
        {
            sys::shutdown_write(handle);
        }
    }

    /// Resets the connection. The reset leaves when the handle is closed, which happens when the
    /// system has nothing in flight on it.
    pub(super) fn reset(&mut self, cx: &mut LaneCx<'_>) {
        let error = *self.error.insert(Error::new(Failure::Reset));
        if let Some(handle) = self.link.handle() {
            sys::reset_at_close(handle);
        }
        self.fail_unposted(error, cx.done);
        self.fail_peeking(error, cx.done);
        self.begin_close();
    }
}

/// The methods that handle the end of an operation that was in flight, and complete it or continue
/// it.
impl SocketState {
    /// Handles the end of an operation that was in flight.
    pub(super) fn complete(&mut self, mut ended: Ended, cx: &mut LaneCx<'_>) {
        self.own.in_flight -= 1;
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
                self.arm_accepts(cx);
            }
            OperationKind::Probe => self.on_probe(result.map(drop), cx),
            OperationKind::Poll { poll } => {
                self.on_poll(poll.into_inner().events(), result.map(drop), cx);
            }
            OperationKind::File { .. } => unreachable!("done by the lane, not by the socket"),
            OperationKind::Receive { buffer } => self.on_receive(id, buffer, result, cx),
            OperationKind::Send { gather, tag } => {
                let cancelled = matches!(self.output.take(), Some(Sending::Cancelled(_)));
                match result {
                    Err(_) if cancelled => {
                        let error = self.error.unwrap_or(Error::new(Failure::Cancelled));
                        cx.done.fail(tag, error);
                    }
                    Err(error) if self.error.is_none() && gather.file_ahead().is_some() => {
                        self.on_file_cut(tag, gather, error, cx);
                    }
                    result => self.on_send(tag, gather, result, cx),
                }
                if self.is_half_closed() {
                    self.shutdown();
                }
            }
        }
        if !self.own.probing && !self.own.readable && self.wants_to_read() {
            self.serve(cx);
        }
        self.close_when_free();
    }

    fn on_connect(&mut self, result: Result<(), Error>, cx: &mut LaneCx<'_>) {
        let Input::Connect(Connect { tag, cancelled }) = std::mem::take(&mut self.input) else {
            unreachable!("the system connects where a connect waits")
        };
        let result = result.and_then(|()| sys::now_connected(self.handle()));
        let result = match self.error {
            None => result.and_then(|()| self.check_ends()),
            Some(_) => result,
        };
        let error = match (result, self.error) {
            (Ok(()), None) => {
                self.link.set_stage(Stage::Connected);
                return cx.done.end(tag, Outcome::Connected);
            }
            (result, Some(error)) => {
                if result.is_ok() {
                    // The socket was reset while it connected, which the system would not know.
                    sys::reset_at_close(self.handle());
                }
                error
            }
            (Err(_), None) if cancelled => Error::new(Failure::Cancelled),
            (Err(error), None) => error,
        };
        self.error.get_or_insert(sys::not_connected());
        cx.done.fail(tag, error);
    }

    fn on_send(
        &mut self,
        tag: Tag,
        gather: Gather,
        result: Result<usize, Error>,
        cx: &mut LaneCx<'_>,
    ) {
        if result.is_ok() {
            let halvings = self.own.send_halvings;
            let fast = cx.now.saturating_sub(self.own.send_began) < LONG;
            self.own.send_halvings =
                if fast { halvings.saturating_sub(1) } else { MAX_HALVINGS.min(halvings + 1) };
        }
        self.end_send(tag, gather, result, cx.done);
    }

    /// Handles the failure of a part of a file under way. The system reports only successful bytes,
    /// so nobody knows how many have left. The stream is out of step, and nothing may follow, even
    /// after a transient error. If the file is at fault, the sender learns that first.
    fn on_file_cut(&mut self, tag: Tag, mut gather: Gather, error: Error, cx: &mut LaneCx<'_>) {
        let failure = if error.is_transient() { Failure::Reset } else { error.failure };
        let kept = self.set_error(Error { failure, ..error });
        match fault_of_file(error) {
            Some(fault) => {
                gather.pad_file(fault);
                // The remaining bytes are rejected when they are submitted again.
                cx.done.end(tag, Outcome::Sent { bytes: 0, gather });
            }
            None => cx.done.fail(tag, kept),
        }
    }
}

/// Returns the fault of the file, if an error of a call that sends a file is about the file.
fn fault_of_file(error: Error) -> Option<FileFault> {
    use Failure::{Denied, Disk, Locked, NotAFile};
    match error.failure {
        // The file was truncated after its length was read.
        _ if error.code.cast_unsigned() == ERROR_HANDLE_EOF => Some(FileFault::Short),
        Denied | Disk | Locked | NotAFile => Some(FileFault::Failed(error)),
        _ => None,
    }
}

/// Returns the fault of the file, if an error of a call that sends a file and has not begun to send
/// is about the file. More errors are about the file then than in [`fault_of_file`]: an established
/// connection is neither refused nor unreachable, but the machine with the file can be.
fn fault_of_file_at_once(error: Error) -> Option<FileFault> {
    use Failure::{Other, Refused, Unreachable, Unsupported};
    let is_a_files = matches!(error.failure, Other | Refused | Unreachable | Unsupported);
    fault_of_file(error).or(is_a_files.then_some(FileFault::Failed(error)))
}
