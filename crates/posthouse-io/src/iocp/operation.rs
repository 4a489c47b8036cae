//! An operation while the system has it.
//!
//! The box holds everything that the system reads and writes: its own state (the `OVERLAPPED`), the
//! buffers, the addresses, and the numbers that it fills in. The call that begins the operation
//! gives the box to the system. The box comes back when its packet is dequeued, or from the call
//! itself if the operation ends there. In between nobody touches it; only its address is kept, to
//! name it in a cancel.

use std::cell::UnsafeCell;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::windows::io::{AsRawHandle, OwnedSocket};
use std::ptr::{self, NonNull};

use windows_sys::Win32::Foundation::{
    ERROR_IO_PENDING, ERROR_NOT_FOUND, FALSE, GetLastError, HANDLE,
};
use windows_sys::Win32::Networking::WinSock as net;
use windows_sys::Win32::Networking::WinSock::{
    LPFN_ACCEPTEX, LPFN_CONNECTEX, LPFN_TRANSMITFILE, SOCKET, WSABUF,
};
use windows_sys::Win32::Storage::FileSystem as fs;
use windows_sys::Win32::System::IO::{
    CancelIoEx, DeviceIoControl, OVERLAPPED, OVERLAPPED_0_0, OVERLAPPED_ENTRY,
};
use windows_sys::core::GUID;

use crate::buffer::Buffer;
use crate::error::Error;
use crate::file_op::FileOp;
use crate::gather::Gather;
use crate::handle::File;
use crate::sys::{self, RawAddress};
use crate::token::{Socket, Tag};

/// The maximum number of segments in one operation; a longer gather leaves in several.
const MAX_SEGMENTS: usize = 64;
/// The bytes of one of an accepted peer's two addresses, with the sixteen extra ones that the call
/// requires.
const ADDRESS_BYTES: u32 = 64 + 16;

/// Polls sockets (`IOCTL_AFD_POLL`), the control of the system's socket driver beneath `select`.
const AFD_POLL: u32 = 0x0001_2024;

/// The maximum number of bytes of a file that one operation moves: data that is in memory already
/// is copied within the call.
const MAX_FILE_BYTES: usize = 4 << 20;

/// The box of an operation. The system knows it by the address of its first field.
#[repr(C)]
pub(super) struct Operation {
    overlapped: UnsafeCell<OVERLAPPED>,
    /// The socket of the operation; `None` for an operation on a file.
    pub(super) socket: Option<Socket>,
    pub(super) work: OperationKind,
    /// The number that the system writes: an output that nobody reads, or flags that it also reads.
    number: UnsafeCell<u32>,
}

/// The kind of an operation, with the memory that it uses.
pub(super) enum OperationKind {
    Connect {
        address: RawAddress,
    },
    Accept {
        new: OwnedSocket,
        addresses: UnsafeCell<[u8; 2 * ADDRESS_BYTES as usize]>,
    },
    /// A receive without memory. It ends when there is something to receive.
    Probe,
    Receive {
        buffer: Buffer,
    },
    Send {
        tag: Tag,
        gather: Gather,
    },
    File {
        tag: Tag,
        op: Box<FileOp>,
    },
    /// A poll of the socket, without memory for bytes. It ends when one of its events occurs.
    Poll {
        poll: UnsafeCell<SocketPoll>,
    },
}

/// The events of a poll of a socket: a set of bits of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketEvents(u32);

impl SocketEvents {
    /// The peer has ended its stream.
    pub(super) const ENDED: Self = Self(0x08);
    /// The connection was reset or given up, or the handle was closed. (The last of the bits is
    /// that of a failed connect, which Wine reports in the place of the first.)
    pub(super) const FAILED: Self = Self(0x10 | 0x20 | 0x100);

    pub(super) fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    pub(super) fn has_one_of(self, events: Self) -> bool {
        self.0 & events.0 != 0
    }
}

/// The memory of a poll (`AFD_POLL_INFO` for one socket), which the system reads and writes.
#[repr(C)]
pub(super) struct SocketPoll {
    timeout: i64,
    handles: u32,
    exclusive: u32,
    handle: SOCKET,
    events: u32,
    status: i32,
}

impl SocketPoll {
    fn new(handle: SOCKET, SocketEvents(events): SocketEvents) -> Self {
        // The greatest time never passes.
        Self { timeout: i64::MAX, handles: 1, exclusive: 0, handle, events, status: 0 }
    }

    /// Returns the events that occurred, after the end of the operation.
    pub(super) fn events(&self) -> SocketEvents {
        SocketEvents(if self.handles == 0 { 0 } else { self.events })
    }
}

impl OperationKind {
    /// Returns the memory of a send.
    pub(super) fn into_gather(self) -> Gather {
        match self {
            Self::Send { gather, .. } => gather,
            _ => unreachable!("an operation that sends comes back as one"),
        }
    }
}

// SAFETY: the pointers in an `OVERLAPPED` belong to the system; the box has one owner at a time.
unsafe impl Send for Operation {}

/// An operation that has ended, with its result.
pub(super) struct Ended {
    pub(super) operation: Box<Operation>,
    /// The number of bytes moved, or the error.
    pub(super) result: Result<usize, Error>,
}

impl Ended {
    /// Takes the result of the operation, which was begun on this socket, from Winsock. A layered
    /// provider without handles of the system's kind ends an operation through
    /// `WPUCompleteOverlappedRequest`. The packet of that call always reports success; the provider
    /// reports the error only to `WSAGetOverlappedResult`.
    pub(super) fn look_up(&mut self, handle: SOCKET) {
        let mut bytes = 0;
        let mut flags = 0;
        let at = self.operation.overlapped.get();
        // SAFETY: the operation is over, so the call does not wait and keeps no pointer: it reads
        // the OVERLAPPED, which is in the box, and writes two numbers of this function.
        let succeeded = unsafe {
            net::WSAGetOverlappedResult(handle, at, &raw mut bytes, FALSE, &raw mut flags)
        };
        self.result = match succeeded {
            FALSE => Err(sys::last_error()),
            _ => Ok(bytes as usize),
        };
    }
}

/// The result of a call that begins an operation.
pub(super) enum Submitted {
    /// The system has the operation, and a packet will come.
    InFlight(OverlappedId),
    /// The operation has ended in the call, and no packet will come.
    Ended(Ended),
}

/// Identifies an operation that the system has. It is never dereferenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OverlappedId(NonNull<Operation>);

impl OverlappedId {
    /// Returns the id that the operation had while the system had it.
    pub(super) fn of(operation: &Operation) -> Self {
        Self(NonNull::from(operation))
    }
}

// SAFETY: the pointer is compared and given to the system, never dereferenced.
unsafe impl Send for OverlappedId {}

/// The type of a function behind a pointer that may be null.
trait Nullable {
    type Function;
}

impl<F> Nullable for Option<F> {
    type Function = F;
}

/// The functions of Winsock that are found at run time.
#[derive(Clone, Copy)]
pub(super) struct Functions {
    accept: <LPFN_ACCEPTEX as Nullable>::Function,
    connect: <LPFN_CONNECTEX as Nullable>::Function,
    transmit: <LPFN_TRANSMITFILE as Nullable>::Function,
    /// True exactly when operations of sockets may end in the call that begins them, without a
    /// packet.
    pub(super) at_once: bool,
    /// True exactly when this is a server edition of Windows, which does not limit the number of
    /// simultaneous file sends.
    pub(super) on_server: bool,
    #[cfg(test)]
    pub(super) faults: super::tests::TestFaults,
}

impl Functions {
    /// Requests the functions from the system.
    pub(super) fn find() -> Result<Self, Error> {
        // The providers of both families must allow it; one of the two may not exist.
        let v6 = sys::stream_socket(Ipv6Addr::LOCALHOST.into());
        let v6_at_once = v6.as_ref().map_or(true, sys::is_the_systems_own);
        let socket = sys::stream_socket(Ipv4Addr::LOCALHOST.into()).or(v6)?;
        let find = |id: &GUID| {
            let mut function = [0usize];
            let code = net::SIO_GET_EXTENSION_FUNCTION_POINTER;
            sys::control(&socket, code, id, &mut function).map(|()| function[0])
        };
        let accept = find(&net::WSAID_ACCEPTEX)?;
        let connect = find(&net::WSAID_CONNECTEX)?;
        let transmit = find(&net::WSAID_TRANSMITFILE)?;
        // SAFETY: the system returns the functions of these names, which have the documented types.
        // An `Option` of a function is as wide as its address.
        let (accept, connect, transmit) = unsafe {
            (
                std::mem::transmute::<usize, LPFN_ACCEPTEX>(accept),
                std::mem::transmute::<usize, LPFN_CONNECTEX>(connect),
                std::mem::transmute::<usize, LPFN_TRANSMITFILE>(transmit),
            )
        };
        let (Some(accept), Some(connect), Some(transmit)) = (accept, connect, transmit) else {
            return Err(Error::new(crate::Failure::Unsupported));
        };
        let at_once = v6_at_once && sys::is_the_systems_own(&socket);
        #[cfg(test)]
        let at_once = at_once && !super::tests::TestFaults::now().layered;
        Ok(Self {
            accept,
            connect,
            transmit,
            at_once,
            on_server: sys::is_server(),
            #[cfg(test)]
            faults: super::tests::TestFaults::now(),
        })
    }
}

/// The free boxes of finished operations, which a lane keeps for later ones.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the list keeps boxes because the system knows their address")]
pub(super) struct FreeList {
    boxes: Vec<Box<Operation>>,
}

/// The maximum number of free boxes that a lane keeps.
const MAX_FREE: usize = 256;

impl FreeList {
    /// Returns a box with this operation.
    pub(super) fn take(&mut self, socket: Option<Socket>, work: OperationKind) -> Box<Operation> {
        let overlapped = UnsafeCell::default();
        let number = UnsafeCell::new(0);
        let operation = Operation { overlapped, socket, work, number };
        match self.boxes.pop() {
            Some(mut spare) => {
                *spare = operation;
                spare
            }
            None => Box::new(operation),
        }
    }

    /// Takes the kind and the result out of an ended operation, and keeps its box.
    pub(super) fn keep(&mut self, ended: Ended) -> (OperationKind, Result<usize, Error>) {
        let Ended { mut operation, result } = ended;
        let work = std::mem::replace(&mut operation.work, OperationKind::Probe);
        if self.boxes.len() < MAX_FREE {
            self.boxes.push(operation);
        }
        (work, result)
    }
}

impl Operation {
    /// Returns the operation of a packet.
    ///
    /// # Safety
    ///
    /// The packet belongs to an operation that was begun here and is in flight, and is its only
    /// packet.
    pub(super) unsafe fn dequeued(entry: &OVERLAPPED_ENTRY) -> Ended {
        // SAFETY: `begin` took the address from a box and gave it to the system, and the system no
        // longer uses it.
        let operation = unsafe { Box::from_raw(entry.lpOverlapped.cast::<Operation>()) };
        // The system's status from the packet. The field is documented as reserved, and has been
        // the same since the first completion ports. A call that looks up the result needs the
        // socket, and is made only if it must be (`Ended::look_up`).
        let status = (entry.Internal as u32).cast_signed();
        let bytes = entry.dwNumberOfBytesTransferred as usize;
        Ended { operation, result: sys::of_status(status).map(|()| bytes) }
    }

    /// Gives the box to the system by a call that returns zero or an error number.
    ///
    /// # Safety
    ///
    /// `call` begins one overlapped operation with the pointer that it gets, on a handle that is
    /// associated with a port. The operation uses no memory but that owned by the box. `at_once` is
    /// the mode of the handle's association.
    unsafe fn begin(
        self: Box<Self>,
        at_once: bool,
        call: impl FnOnce(*mut Operation) -> u32,
    ) -> Submitted {
        let id = NonNull::from(Box::leak(self));
        let raw = id.as_ptr();
        let result = match call(raw) {
            0 if at_once => {
                // SAFETY: after a success without a packet, the box belongs to this function again,
                // and the system has written the number of bytes moved.
                let bytes = unsafe { (*(*raw).overlapped.get()).InternalHigh };
                Ok(bytes)
            }
            0 | ERROR_IO_PENDING => return Submitted::InFlight(OverlappedId(id)),
            // A call that fails at once queues no packet.
            code => Err(sys::error(code)),
        };
        // SAFETY: the system no longer uses the box, and sends no packet for it.
        Submitted::Ended(Ended { operation: unsafe { Box::from_raw(raw) }, result })
    }
}

/// Returns the address of the `OVERLAPPED` in a box.
fn overlapped(raw: *mut Operation) -> *mut OVERLAPPED {
    raw.cast()
}

/// Returns the error number of a call on sockets, or zero.
fn code(result: i32) -> u32 {
    // SAFETY: the call reads a value of this thread.
    if result == 0 { 0 } else { unsafe { GetLastError() } }
}

/// The calls. Each moves everything that it needs into the box.
impl Functions {
    pub(super) fn connect(
        &self,
        handle: SOCKET,
        socket: Socket,
        to: RawAddress,
        free_list: &mut FreeList,
    ) -> Submitted {
        let operation = free_list.take(Some(socket), OperationKind::Connect { address: to });
        let connect = self.connect;
        let call = |raw: *mut Operation| {
            // SAFETY: the box is complete, and belongs to this function until the call takes it.
            let OperationKind::Connect { address } = (unsafe { &(*raw).work }) else {
                unreachable!()
            };
            // SAFETY: the address, the number and the OVERLAPPED are in the box.
            unsafe {
                let number = (*raw).number.get();
                let start = address.start();
                let len = address.len();
                let submitted =
                    connect(handle, start, len, ptr::null(), 0, number, overlapped(raw));
                code(i32::from(submitted == 0))
            }
        };
        // SAFETY: as argued in the call.
        unsafe { operation.begin(self.at_once, call) }
    }

    pub(super) fn accept(
        &self,
        listener: SOCKET,
        socket: Socket,
        new: OwnedSocket,
        free_list: &mut FreeList,
    ) -> Submitted {
        let addresses = UnsafeCell::new([0; 2 * ADDRESS_BYTES as usize]);
        let operation = free_list.take(Some(socket), OperationKind::Accept { new, addresses });
        #[cfg(test)]
        if let Some(failure) = self.faults.no_peer {
            return Submitted::Ended(super::tests::refused(operation, failure));
        }
        let accept = self.accept;
        let call = |raw: *mut Operation| {
            // SAFETY: the box is complete, and belongs to this function until the call takes it.
            let OperationKind::Accept { new, addresses } = (unsafe { &(*raw).work }) else {
                unreachable!()
            };
            let room = addresses.get().cast();
            let bytes = ADDRESS_BYTES;
            // SAFETY: the new socket, the memory for the addresses, the number and the OVERLAPPED
            // are in the box. No data is awaited, so a peer that sends nothing delays nobody.
            unsafe {
                let new = sys::raw(new);
                let number = (*raw).number.get();
                let at = overlapped(raw);
                let submitted = accept(listener, new, room, 0, bytes, bytes, number, at);
                code(i32::from(submitted == 0))
            }
        };
        // SAFETY: as argued in the call.
        unsafe { operation.begin(self.at_once, call) }
    }

    /// Waits, without memory, until there is something to receive or the stream ends.
    pub(super) fn probe(
        &self,
        handle: SOCKET,
        socket: Socket,
        free_list: &mut FreeList,
    ) -> Submitted {
        let operation = free_list.take(Some(socket), OperationKind::Probe);
        let nothing = WSABUF { len: 0, buf: ptr::null_mut() };
        self.receive_into(handle, operation, nothing)
    }

    pub(super) fn receive(
        &self,
        handle: SOCKET,
        socket: Socket,
        mut buffer: Buffer,
        free_list: &mut FreeList,
    ) -> Submitted {
        let storage = buffer.storage_mut();
        let len = u32::try_from(storage.len()).unwrap_or(u32::MAX);
        let room = WSABUF { len, buf: storage.as_mut_ptr() };
        let operation = free_list.take(Some(socket), OperationKind::Receive { buffer });
        #[cfg(test)]
        if self.faults.no_memory {
            return Submitted::Ended(super::tests::refused(operation, crate::Failure::NoBuffers));
        }
        self.receive_into(handle, operation, room)
    }

    fn receive_into(&self, handle: SOCKET, operation: Box<Operation>, room: WSABUF) -> Submitted {
        let call = |raw: *mut Operation| {
            // SAFETY: the memory, the flags and the OVERLAPPED are in the box; the description of
            // the memory is read before the call returns.
            unsafe {
                let flags = (*raw).number.get();
                let at = overlapped(raw);
                code(net::WSARecv(handle, &raw const room, 1, ptr::null_mut(), flags, at, None))
            }
        };
        // SAFETY: as argued in the call; memory behind a pointer does not move with the box.
        unsafe { operation.begin(self.at_once, call) }
    }

    /// Sends at most `max_bytes` bytes from the beginning of the gather.
    pub(super) fn send(
        &self,
        handle: SOCKET,
        socket: Socket,
        tag: Tag,
        gather: Gather,
        max_bytes: u32,
        free_list: &mut FreeList,
    ) -> Submitted {
        let mut segments = [WSABUF { len: 0, buf: ptr::null_mut() }; MAX_SEGMENTS];
        let mut count = 0;
        let mut left = max_bytes;
        for (place, bytes) in segments.iter_mut().zip(gather.slices()) {
            if left == 0 {
                break;
            }
            let len = u32::try_from(bytes.len()).map_or(left, |len| len.min(left));
            left -= len;
            count += 1;
            *place = WSABUF { len, buf: bytes.as_ptr().cast_mut() };
        }
        let operation = free_list.take(Some(socket), OperationKind::Send { tag, gather });
        let call = |raw: *mut Operation| {
            // SAFETY: the gather in the box owns the bytes, which are on the heap and only read.
            // The OVERLAPPED is in the box. The description of the bytes is read before the call
            // returns.
            unsafe {
                let start = segments.as_ptr();
                let at = overlapped(raw);
                code(net::WSASend(handle, start, count, ptr::null_mut(), 0, at, None))
            }
        };
        // SAFETY: as argued in the call.
        unsafe { operation.begin(self.at_once, call) }
    }
}

impl Functions {
    /// Polls the socket until one of the events occurs. The driver is that of the socket itself, so
    /// the request goes to the socket's own handle and ends at its port.
    pub(super) fn poll(
        &self,
        handle: SOCKET,
        socket: Socket,
        events: SocketEvents,
        free_list: &mut FreeList,
    ) -> Submitted {
        let poll = UnsafeCell::new(SocketPoll::new(handle, events));
        let operation = free_list.take(Some(socket), OperationKind::Poll { poll });
        // A socket of a layered provider may be unknown to the driver.
        let refused = !self.at_once;
        #[cfg(test)]
        let refused = refused || self.faults.no_poll;
        if refused {
            let result = Err(Error::new(crate::Failure::Unsupported));
            return Submitted::Ended(Ended { operation, result });
        }
        let call = |raw: *mut Operation| {
            // SAFETY: the box is complete, and belongs to this function until the call takes it.
            let OperationKind::Poll { poll } = (unsafe { &(*raw).work }) else { unreachable!() };
            let memory = poll.get().cast();
            let len = size_of::<SocketPoll>() as u32;
            // SAFETY: the memory of the poll, which the call reads and the system writes, the
            // number and the OVERLAPPED are in the box.
            unsafe {
                let number = (*raw).number.get();
                let at = overlapped(raw);
                let handle = handle as HANDLE;
                let submitted =
                    DeviceIoControl(handle, AFD_POLL, memory, len, memory, len, number, at);
                code(i32::from(submitted == 0))
            }
        };
        // SAFETY: as argued in the call.
        unsafe { operation.begin(self.at_once, call) }
    }

    /// Sends `range` of the part of a file that comes next in the gather.
    pub(super) fn transmit(
        &self,
        handle: SOCKET,
        socket: Socket,
        tag: Tag,
        gather: Gather,
        range: FileRange,
        free_list: &mut FreeList,
    ) -> Submitted {
        let operation = free_list.take(Some(socket), OperationKind::Send { tag, gather });
        #[cfg(test)]
        if self.faults.no_files {
            return Submitted::Ended(super::tests::refused(operation, crate::Failure::Unsupported));
        }
        let transmit = self.transmit;
        let call = |raw: *mut Operation| {
            let FileRange { file, offset, bytes } = range;
            // SAFETY: the gather in the box owns the file and keeps it open; the OVERLAPPED is in
            // the box, and no call has it yet.
            unsafe {
                (*(*raw).overlapped.get()).Anonymous.Anonymous = place(offset);
                let at = overlapped(raw);
                let submitted = transmit(handle, file, bytes, 0, at, ptr::null(), 0);
                code(i32::from(submitted == 0))
            }
        };
        // SAFETY: as argued in the call.
        unsafe { operation.begin(self.at_once, call) }
    }
}

/// A range of the part of a file that comes next in a gather.
#[derive(Clone, Copy)]
pub(super) struct FileRange {
    file: HANDLE,
    offset: u64,
    bytes: u32,
}

impl FileRange {
    pub(super) fn new(file: &File, offset: u64, bytes: u32) -> Self {
        Self { file: file.handle().as_raw_handle(), offset, bytes }
    }
}

/// Begins the read or write of a file.
pub(super) fn on_file(operation: Box<Operation>) -> Submitted {
    let call = |raw: *mut Operation| {
        // SAFETY: the box is complete, and belongs to this function until the call takes it.
        let OperationKind::File { op, .. } = (unsafe { &mut (*raw).work }) else { unreachable!() };
        let at = |offset: u64| {
            // SAFETY: no call has the OVERLAPPED yet.
            unsafe { (*(*raw).overlapped.get()).Anonymous.Anonymous = place(offset) };
            overlapped(raw)
        };
        // SAFETY: the operation owns the handle. The operation in the box also owns the memory,
        // which is on the heap, and the OVERLAPPED is in the box. The memory has room for all bytes
        // that are read, and contains all bytes that are written.
        let submitted = unsafe {
            match &mut **op {
                FileOp::Read { file, offset, bytes, memory } => {
                    memory.clear();
                    memory.reserve(*bytes);
                    let bytes = (*bytes).min(MAX_FILE_BYTES) as u32;
                    let handle = file.handle().as_raw_handle();
                    let room = memory.as_mut_ptr();
                    fs::ReadFile(handle, room, bytes, ptr::null_mut(), at(*offset))
                }
                // The system gathers only whole pages, so one call writes one segment.
                FileOp::Write { file, offset, data } => {
                    let first = data.slices().next().unwrap_or_default();
                    let bytes = first.len().min(MAX_FILE_BYTES) as u32;
                    let handle = file.handle().as_raw_handle();
                    let from = first.as_ptr();
                    fs::WriteFile(handle, from, bytes, ptr::null_mut(), at(*offset))
                }
                _ => unreachable!("no other operation is given to the port"),
            }
        };
        code(i32::from(submitted == 0))
    };
    // SAFETY: as argued in the call. Files are associated in the mode in which success in the call
    // has no packet.
    unsafe { operation.begin(true, call) }
}

/// Returns the present length of a file.
pub(super) fn length(file: &File) -> Result<u64, Error> {
    let mut length = 0;
    // SAFETY: the call writes only one number.
    let told = unsafe { fs::GetFileSizeEx(file.handle().as_raw_handle(), &raw mut length) };
    if told == 0 {
        // SAFETY: the call reads a value of this thread.
        return Err(sys::error(unsafe { GetLastError() }));
    }
    Ok(length.cast_unsigned())
}

fn place(offset: u64) -> OVERLAPPED_0_0 {
    OVERLAPPED_0_0 { Offset: offset as u32, OffsetHigh: (offset >> 32) as u32 }
}

/// Requests the cancellation of one operation, or of all operations of a socket. Every cancelled
/// operation still has its packet.
pub(super) fn cancel(handle: SOCKET, which: Option<OverlappedId>) {
    let which = which.map_or(ptr::null(), |id| id.0.as_ptr().cast_const().cast());
    // SAFETY: the address is only compared with those of operations in flight on this handle.
    let asked = unsafe { CancelIoEx(handle as HANDLE, which) };
    // SAFETY: the call reads a value of this thread.
    let error = if asked == 0 { unsafe { GetLastError() } } else { 0 };
    if !matches!(error, 0 | ERROR_NOT_FOUND) {
        tracing::debug!(error, "a cancel was refused: the operation ends by itself");
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.work {
            OperationKind::Connect { .. } => "connect",
            OperationKind::Accept { .. } => "accept",
            OperationKind::Probe => "probe",
            OperationKind::Receive { .. } => "receive",
            OperationKind::Send { .. } => "send",
            OperationKind::File { .. } => "file",
            OperationKind::Poll { .. } => "poll",
        };
        write!(f, "Operation({what} on {:?})", self.socket)
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Functions").field("at_once", &self.at_once).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use windows_sys::Win32::Foundation::{ERROR_DISK_FULL, ERROR_HANDLE_EOF};

    use super::super::file_ops::{self, FileEnd};
    use super::*;
    use crate::error::Failure;
    use crate::file_op::FileOutcome;

    fn a_read(free_list: &mut FreeList) -> Box<Operation> {
        let (_, file) = crate::iocp::tests::file_ops::file_with(b"");
        let op = Box::new(FileOp::Read { file, offset: 0, bytes: 10, memory: Vec::new() });
        free_list.take(None, OperationKind::File { tag: Tag(7), op })
    }

    /// Fills the memory of a read, as the system does if it has the bytes already.
    fn fill(raw: *mut Operation, bytes: &[u8]) {
        // SAFETY: the box is complete, and belongs to the call.
        let OperationKind::File { op, .. } = (unsafe { &mut (*raw).work }) else { unreachable!() };
        let FileOp::Read { memory, .. } = &mut **op else { unreachable!() };
        memory.reserve(10);
        // SAFETY: there is room for ten bytes; nobody else has the OVERLAPPED.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), memory.as_mut_ptr(), bytes.len());
            (*(*raw).overlapped.get()).InternalHigh = bytes.len();
        }
    }

    /// Windows reads cached data within the call, Wine never does.
    #[test]
    fn what_ends_in_its_call_has_what_the_call_has_moved() {
        let free_list = &mut FreeList::default();
        let call = |raw| {
            fill(raw, b"at once");
            0
        };
        // SAFETY: the system gets nothing.
        let submitted = unsafe { a_read(free_list).begin(true, call) };
        let Submitted::Ended(ended) = submitted else { panic!("there will be no packet") };
        assert_eq!(ended.result, Ok(7));
        let FileEnd::Completed(Tag(7), FileOutcome::Read { memory }) =
            file_ops::end(ended, free_list)
        else {
            panic!("a read")
        };
        assert_eq!(memory, b"at once");
    }

    #[test]
    fn a_read_that_fails_in_its_call_is_at_the_end_or_is_tried_again() {
        let free_list = &mut FreeList::default();
        // SAFETY: the system gets nothing.
        let submitted = unsafe { a_read(free_list).begin(true, |_| ERROR_HANDLE_EOF) };
        let Submitted::Ended(ended) = submitted else { panic!("there will be no packet") };
        let told = file_ops::end(ended, free_list);
        assert!(
            matches!(told, FileEnd::Completed(_, FileOutcome::Read { memory }) if memory.is_empty())
        );

        // SAFETY: the system gets nothing.
        let submitted = unsafe { a_read(free_list).begin(true, |_| ERROR_DISK_FULL) };
        let Submitted::Ended(ended) = submitted else { panic!("there will be no packet") };
        assert_eq!(ended.result.map_err(|error| error.failure), Err(Failure::NoSpace));
        assert!(matches!(file_ops::end(ended, free_list), FileEnd::Retry(Tag(7), _)));
    }

    /// The first operation has ended but its packet is still to come; the second has not ended.
    #[test]
    fn what_has_a_packet_to_come_is_in_flight() {
        let free_list = &mut FreeList::default();
        for (at_once, code) in [(false, 0), (true, ERROR_IO_PENDING), (false, ERROR_IO_PENDING)] {
            let call = |raw| {
                fill(raw, b"later");
                code
            };
            // SAFETY: the system gets nothing.
            let submitted = unsafe { a_read(free_list).begin(at_once, call) };
            let Submitted::InFlight(id) = submitted else { panic!("in flight: {at_once}, {code}") };
            let packet = OVERLAPPED_ENTRY {
                lpOverlapped: id.0.as_ptr().cast(),
                dwNumberOfBytesTransferred: 5,
                ..Default::default()
            };
            // SAFETY: the operation is in flight, and this is its one packet.
            let ended = unsafe { Operation::dequeued(&packet) };
            assert_eq!(OverlappedId::of(&ended.operation), id);
            let end = file_ops::end(ended, free_list);
            let FileEnd::Completed(_, FileOutcome::Read { memory }) = end else {
                panic!("a read that has ended")
            };
            assert_eq!(memory, b"later");
        }
    }
}
