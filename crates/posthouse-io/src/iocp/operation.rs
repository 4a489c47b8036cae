//! An operation while the system has it.
//!
//! The box holds everything that the system reads and writes: its own state (the `OVERLAPPED`), the
//! buffers, the addresses, and the numbers that it fills in. The call that begins the operation
//! gives the box to the system. The box comes back when its packet is dequeued, or from the call
//! itself if the operation ends there. In between nobody touches it; only its address is kept, to
//! name it in a cancel.

mod file_calls;
mod functions;
mod poll;

use std::cell::UnsafeCell;
use std::fmt;
use std::os::windows::io::OwnedSocket;
use std::ptr::{self, NonNull};

use windows_sys::Win32::Foundation::{
    ERROR_IO_PENDING, ERROR_NOT_FOUND, FALSE, GetLastError, HANDLE,
};
use windows_sys::Win32::Networking::WinSock as net;
use windows_sys::Win32::Networking::WinSock::SOCKET;
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED, OVERLAPPED_0_0, OVERLAPPED_ENTRY};

use crate::buffer::Buffer;
use crate::error::Error;
use crate::file_op::FileOp;
use crate::gather::Gather;
use crate::sys::{self, RawAddress};
use crate::token::{Socket, Tag};

pub(super) use file_calls::{length, on_file};
pub(super) use functions::{FileRange, Functions};
pub(super) use poll::{SocketEvents, SocketPoll};

/// The bytes of one of an accepted peer's two addresses, with the sixteen extra ones that the call
/// requires.
const ADDRESS_BYTES: u32 = 64 + 16;

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

/// The free boxes of finished operations, which a lane keeps for later ones.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the list keeps boxes because the system knows their address")]
pub(super) struct FreeList {
    boxes: Vec<Box<Operation>>,
}

/// The maximum number of boxes of finished operations that a lane keeps for later ones.
const MAX_FREE: usize = 256;

impl FreeList {
    /// Returns a box that contains this operation: a free box, or else a new one.
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

/// Returns the error number of a call on sockets or files, or zero.
fn code(result: i32) -> u32 {
    // SAFETY: the call reads a value of this thread.
    if result == 0 { 0 } else { unsafe { GetLastError() } }
}

/// Returns the part of an `OVERLAPPED` that says where in a file the operation begins.
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
        tracing::debug!(error, "cannot cancel an operation: it ends by itself");
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

#[cfg(test)]
mod tests;
