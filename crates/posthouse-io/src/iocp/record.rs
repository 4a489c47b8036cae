//! One registered socket: its state, its operations, and what the system has in flight for them.

use std::net::{IpAddr, SocketAddr};
use std::os::windows::io::OwnedSocket;
use std::time::Duration;

use windows_sys::Win32::Foundation::ERROR_HANDLE_EOF;
use windows_sys::Win32::Networking::WinSock as net;
use windows_sys::Win32::Networking::WinSock::SOCKET;

use super::accepting::Accepting;
use super::lane::Core;
use super::operation::{self, Begun, Ended, Name, Spares, Work};
use super::receiving::State;
use crate::address::Address;
use crate::buffer::LanePool;
use crate::completions::Completions;
use crate::error::{Error, Failure};
use crate::lane::Cancel;
use crate::operation::{FileFault, Gather, Op, Outcome};
use crate::receives::Receives;
use crate::shared_table::SharedTable;
use crate::system::{self, RawAddress};
use crate::table::Slot;
use crate::token::{Socket, Tag};

/// Bytes that one send takes to the system, at most and at least. The system tells of a send only
/// when all of it is in its hands, so what a slow peer takes is seen in steps of this size: it is
/// halved after a send that took long, and doubled after one that did not.
const SEND_BYTES_MAX: u32 = 64 * 1024;
const SEND_BYTES_MIN: u32 = 4 * 1024;
const LONG: Duration = Duration::from_secs(1);
/// Of a file, so many times as much: no memory is held for it.
const FILE_FACTOR: u32 = 4;
const _: () = assert!(
    (SEND_BYTES_MAX as u64 * FILE_FACTOR as u64) < i32::MAX as u64,
    "what one TransmitFile takes"
);

/// The records of the sockets of a port.
pub(super) type Table = SharedTable<Record>;

/// A slot of the table of sockets.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about one socket, and a record must stay small"
)]
pub(super) struct Record {
    /// None: a socket that has not begun to connect, one that is reset or closed, or a vacant slot.
    pub(super) handle: Option<OwnedSocket>,
    generation: u32,
    pub(super) input: Input,
    sending: Option<Name>,
    /// What ended the connection. The system tells it to one call only, be it a send or a receive,
    /// and shows the others a clean end or a broken pipe: kept so that all are told the same.
    pub(super) broken: Option<Error>,
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
    /// True exactly when a posted receive has come back empty.
    pub(super) posts_no_more: bool,
    /// True exactly while the system has a probe.
    pub(super) probing: bool,
    /// True exactly when the record must be visited although nothing has come: what ended at once
    /// goes on when others have had their turn.
    pub(super) goes_on: bool,
    /// True exactly when the record is on the list of those to visit.
    listed: bool,
    /// True exactly when this side has ended its stream, or will when the send in flight ends.
    sending_ended: bool,
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

/// What a record works with.
pub(super) struct Hands<'a> {
    pub(super) core: &'a Core,
    pub(super) done: &'a mut Completions,
    pub(super) buffers: &'a mut LanePool,
    pub(super) spares: &'a mut Spares,
    pub(super) now: Duration,
}

impl Slot for Record {
    fn occupy(&mut self, slot: u32) -> Socket {
        assert!(!self.live, "a slot taken twice");
        let send_bytes = SEND_BYTES_MAX;
        *self = Self { generation: self.generation, live: true, send_bytes, ..Self::default() };
        Socket { slot, generation: self.generation }
    }

    fn is(&self, socket: Socket) -> bool {
        self.live && self.generation == socket.generation
    }
}

/// The handle.
impl Record {
    /// Gives the socket its handle. What fails is kept for the first operation: this is not the
    /// place where a failure is told.
    pub(super) fn adopt(&mut self, handle: OwnedSocket, is_listener: bool, core: &Core) {
        self.broken = core.associate(&handle).err();
        self.handle = Some(handle);
        self.connected = !is_listener;
    }

    pub(super) fn local_address(&self) -> Option<Address> {
        self.handle.as_ref().and_then(system::local_address)
    }

    /// The handle as the calls take it, which a socket in use has.
    pub(super) fn raw(&self) -> SOCKET {
        system::raw(self.handle.as_ref().expect("a socket in use has a handle"))
    }

    /// Counts an operation that was begun; what has ended in the call is handed back.
    pub(super) fn count(&mut self, begun: Begun) -> Result<Name, Ended> {
        match begun {
            Begun::InFlight(name) => {
                self.in_flight += 1;
                Ok(name)
            }
            Begun::Ended(ended) => Err(ended),
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
    pub(super) fn count_abandoned(&mut self) {
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
    pub(super) fn abandon(&mut self) {
        self.closes_when_free = true;
        if let Some(handle) = &self.handle
            && self.in_flight > 0
        {
            operation::cancel(system::raw(handle), None);
        }
        self.close_when_free();
    }
}

/// When to visit.
impl Record {
    /// Whether to put the record on the list of those to visit: there is something to do, and it
    /// is not on it.
    pub(super) fn list(&mut self) -> bool {
        let due = self.goes_on || self.can_take();
        let list = due && !self.listed;
        self.listed |= list;
        list
    }

    /// Does what is due, for at most one buffer or a few accepted peers: whoever has more goes to
    /// the back of the list.
    pub(super) fn visit(&mut self, socket: Socket, hands: &mut Hands<'_>) {
        self.listed = false;
        self.goes_on = false;
        match self.input {
            Input::Accept(_) => self.arm_accepts(socket, hands),
            Input::Receives(_) => self.serve(socket, hands),
            Input::Nothing | Input::Connect { .. } | Input::Close(_) => {}
        }
    }
}

/// Operations, and what ends them early.
impl Record {
    /// Starts an operation on this socket.
    pub(super) fn submit(&mut self, socket: Socket, tag: Tag, op: Op, hands: &mut Hands<'_>) {
        match op {
            Op::Accept(_) => self.start_accept(socket, tag, hands),
            Op::Connect(_, address) => self.start_connect(socket, tag, address, hands),
            Op::Receive(_, mode) => self.start_receive(socket, tag, mode, hands),
            Op::Send(_, gather) => self.start_send(socket, tag, gather, hands),
            Op::Close(_) => self.start_close(tag),
            Op::Resolve(_) | Op::File(_) => unreachable!("done by the lane, not by the record"),
        }
    }

    fn start_connect(&mut self, socket: Socket, tag: Tag, address: Address, hands: &mut Hands<'_>) {
        assert!(self.handle.is_none() && !self.connected, "a socket connects once");
        if let Some(error) = self.broken {
            return hands.done.fail(tag, error);
        }
        // Sockets for IPv6 do not speak IPv4 here.
        let to = match address.ip() {
            IpAddr::V4(ip) => SocketAddr::from((ip, address.port())),
            IpAddr::V6(_) => address.socket_addr(),
        };
        let opened = system::stream_socket(to.ip()).and_then(|handle| {
            system::bind_anywhere(&handle, to.ip())?;
            system::prepare(&handle, true)?;
            if to.ip().is_loopback() {
                system::ask_once(&handle);
            }
            hands.core.associate(&handle)?;
            Ok(handle)
        });
        match opened {
            Ok(handle) => self.handle = Some(handle),
            Err(error) => return hands.done.fail(tag, error),
        }
        self.input = Input::Connect { tag, cancelled: false };
        let at = (self.raw(), socket);
        let begun = hands.core.functions.connect(at, RawAddress::of(to), hands.spares);
        if let Err(ended) = self.count(begun) {
            let (_, result) = hands.spares.keep(ended);
            self.on_connect(result.map(drop), hands);
        }
    }

    fn start_send(&mut self, socket: Socket, tag: Tag, gather: Gather, hands: &mut Hands<'_>) {
        assert!(!gather.is_empty(), "a send without bytes");
        assert!(self.sending.is_none(), "one send at a time on a socket");
        if let Some(error) = self.broken {
            return hands.done.fail(tag, error);
        }
        if !self.is_connected() || self.sending_ended {
            return hands.done.fail(tag, Error::new(Failure::NotConnected));
        }
        self.send_cancelled = false;
        self.send_began = hands.now;
        match gather.file_ahead().is_some() {
            true => self.send_file(socket, tag, gather, hands),
            false => self.send_memory(socket, tag, gather, hands),
        }
    }

    fn send_memory(&mut self, socket: Socket, tag: Tag, gather: Gather, hands: &mut Hands<'_>) {
        let bytes_max = self.send_bytes as usize;
        let (at, what) = ((self.raw(), socket), (tag, gather));
        let begun = hands.core.functions.send(at, what, bytes_max, hands.spares);
        match self.count(begun) {
            Ok(name) => self.sending = Some(name),
            Err(ended) => {
                let (work, result) = hands.spares.keep(ended);
                self.on_send(work, result, hands);
            }
        }
    }

    /// Sends what the file has now. (Asked for more than it has, the system would send what there
    /// is, fail, and not tell how much that was.)
    fn send_file(&mut self, socket: Socket, tag: Tag, mut gather: Gather, hands: &mut Hands<'_>) {
        let (file, offset, bytes) = gather.file_ahead().expect("a file comes next");
        let left = operation::length(file).map(|length| length.saturating_sub(offset));
        let bytes_max = self.send_bytes * FILE_FACTOR;
        let bytes = bytes.min(bytes_max as usize) as u32;
        let fault = match left {
            Ok(0) => FileFault::Short,
            Ok(left) => {
                let bytes = u32::try_from(left).map_or(bytes, |left| left.min(bytes));
                let (at, what) = ((self.raw(), socket), (tag, gather));
                let begun = hands.core.functions.transmit(at, what, bytes, hands.spares);
                let ended = match self.count(begun) {
                    Ok(name) => return self.sending = Some(name),
                    Err(ended) => ended,
                };
                let (work, result) = hands.spares.keep(ended);
                let fault = result.err().filter(|_| self.broken.is_none());
                match (work, fault.and_then(fault_of_file_at_once)) {
                    // The system does not take this file: nothing has left.
                    (Work::Send { gather: back, .. }, Some(fault)) => {
                        gather = back;
                        fault
                    }
                    (work, _) => return self.on_send(work, result, hands),
                }
            }
            Err(error) => FileFault::Failed(error),
        };
        gather.give_up_file(fault);
        self.send_memory(socket, tag, gather, hands);
    }

    fn start_close(&mut self, tag: Tag) {
        assert!(
            matches!(self.input, Input::Nothing) && self.sending.is_none(),
            "a socket closed with operations in flight: cancel, await, then close"
        );
        self.input = Input::Close(tag);
        self.abandon();
    }

    pub(super) fn cancel(&mut self, what: Cancel, hands: &mut Hands<'_>) {
        self.cancel_receives(hands);
        if what == Cancel::Receives {
            return;
        }
        match &mut self.input {
            Input::Connect { cancelled, .. } => {
                *cancelled = true;
                operation::cancel(self.raw(), None);
            }
            Input::Accept(_) => self.cancel_accepts(hands),
            _ => {}
        }
        if let Some(name) = self.sending {
            self.send_cancelled = true;
            operation::cancel(self.raw(), Some(name));
        }
    }

    /// Ends the stream after what has been sent: the system has taken a send over when it ends.
    pub(super) fn shutdown(&mut self) {
        self.sending_ended = true;
        if self.sending.is_none()
            && let Some(handle) = &self.handle
        {
            system::end_sending(handle);
        }
    }

    /// The reset goes out when the handle is closed, and that is when the system has nothing in
    /// flight on it.
    pub(super) fn reset(&mut self, hands: &mut Hands<'_>) {
        let error = *self.broken.insert(Error::new(Failure::Reset));
        if let Some(handle) = &self.handle {
            system::reset_at_close(handle);
        }
        self.fail_unposted(error, hands.done);
        self.abandon();
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected && self.handle.is_some() && !self.closes_when_free
    }
}

/// What operations came to.
impl Record {
    /// An operation that was in flight has ended.
    pub(super) fn complete(&mut self, socket: Socket, mut ended: Ended, hands: &mut Hands<'_>) {
        self.in_flight -= 1;
        if !hands.core.functions.at_once {
            #[cfg(test)]
            hands.core.functions.oddities.hide(&mut ended);
            ended.look_up(self.raw());
        }
        #[cfg(test)]
        hands.core.functions.oddities.distort(&mut ended);
        let name = Name::of(&ended.operation);
        let (work, result) = hands.spares.keep(ended);
        match work {
            Work::Connect { .. } => self.on_connect(result.map(drop), hands),
            Work::Accept { new, .. } => {
                self.on_accept(new, result.map(drop), hands);
                self.arm_accepts(socket, hands);
            }
            Work::Probe => self.on_probe(result.map(drop), hands),
            Work::File { .. } => unreachable!("done by the lane, not by the record"),
            Work::Receive { buffer } => self.on_receive(name, buffer, result, hands),
            work @ Work::Send { .. } => {
                self.sending = None;
                match (work, result) {
                    (Work::Send { tag, gather }, Err(error)) if gather.file_ahead().is_some() => {
                        self.on_file_cut((tag, gather), error, hands);
                    }
                    (work, result) => self.on_send(work, result, hands),
                }
                if self.sending_ended && !self.closes_when_free {
                    self.shutdown();
                }
            }
        }
        if !self.probing && !self.readable && self.wants_to_read() {
            self.serve(socket, hands);
        }
        self.close_when_free();
    }

    fn on_connect(&mut self, result: Result<(), Error>, hands: &mut Hands<'_>) {
        let Input::Connect { tag, cancelled } = std::mem::take(&mut self.input) else {
            unreachable!("the system connects where a connect waits")
        };
        let handle = self.handle.as_ref().expect("a socket that connects has a handle");
        let result = result.and_then(|()| system::now_connected(handle));
        let result = match (result, self.broken) {
            (Ok(()), Some(error)) => {
                // Reset while it connected: the system would not know of it.
                system::reset_at_close(handle);
                Err(error)
            }
            (result, _) => result,
        };
        match result {
            Ok(()) => {
                self.connected = true;
                hands.done.end(tag, Outcome::Connected);
            }
            Err(error) => {
                let error = self.broken.unwrap_or(match cancelled {
                    true => Error::new(Failure::Cancelled),
                    false => error,
                });
                self.broken.get_or_insert(Error::new(Failure::NotConnected));
                hands.done.fail(tag, error);
            }
        }
    }

    fn on_send(&mut self, work: Work, result: Result<usize, Error>, hands: &mut Hands<'_>) {
        let Work::Send { tag, gather } = work else { unreachable!("a send") };
        match (result, self.broken) {
            (Ok(bytes), _) => {
                self.send_bytes = match hands.now.saturating_sub(self.send_began) < LONG {
                    true => (self.send_bytes * 2).min(SEND_BYTES_MAX),
                    false => (self.send_bytes / 2).max(SEND_BYTES_MIN),
                };
                hands.done.end(tag, Outcome::Sent { bytes, gather });
            }
            (Err(_), Some(error)) => hands.done.fail(tag, error),
            (Err(_), None) if self.send_cancelled => {
                hands.done.fail(tag, Error::new(Failure::Cancelled));
            }
            (Err(error), None) if error.is_passing() => {
                hands.done.end(tag, Outcome::Sent { bytes: 0, gather });
            }
            (Err(error), None) => {
                let error = self.remember(error);
                hands.done.fail(tag, error);
            }
        }
    }

    /// A part of a file has failed on its way, and how much of it has left nobody tells: the system
    /// counts what succeeds. The stream is out of step, so nothing may follow, not even where room
    /// would return. Where it is the file's fault, whoever sends it is told that first.
    fn on_file_cut(&mut self, send: (Tag, Gather), error: Error, hands: &mut Hands<'_>) {
        let (tag, mut gather) = send;
        if self.broken.is_some() || self.send_cancelled {
            return self.on_send(Work::Send { tag, gather }, Err(error), hands);
        }
        let failure = if error.is_passing() { Failure::Reset } else { error.failure };
        let kept = self.remember(Error { failure, ..error });
        match fault_of_file(error) {
            Some(fault) => {
                gather.give_up_file(fault);
                // What is left is refused when it is submitted again.
                hands.done.end(tag, Outcome::Sent { bytes: 0, gather });
            }
            None => hands.done.fail(tag, kept),
        }
    }

    /// Keeps an error that the connection does not survive, in the words that are the same on every
    /// system: however the peer's reset showed, it is a reset.
    pub(super) fn remember(&mut self, error: Error) -> Error {
        let ours = self.sending_ended && error.code == net::WSAESHUTDOWN;
        let failure = match error.failure {
            Failure::Aborted | Failure::Cancelled => Failure::Reset,
            Failure::NotConnected if !ours => Failure::Reset,
            failure => failure,
        };
        let error = Error { failure, ..error };
        if !error.is_passing() && failure != Failure::NotConnected {
            self.broken = Some(error);
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
