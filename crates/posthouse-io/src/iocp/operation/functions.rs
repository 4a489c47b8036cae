//! The functions of Winsock, and the calls that begin an operation on a socket.

use std::cell::UnsafeCell;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::windows::io::{AsRawHandle, OwnedSocket};
use std::ptr;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::Networking::WinSock as net;
use windows_sys::Win32::Networking::WinSock::{
    LPFN_ACCEPTEX, LPFN_CONNECTEX, LPFN_TRANSMITFILE, SOCKET, WSABUF,
};
use windows_sys::core::GUID;

use super::{
    ADDRESS_BYTES, FreeList, Operation, OperationKind, Submitted, code, overlapped, place,
};
use crate::buffer::Buffer;
use crate::error::Error;
use crate::gather::Gather;
use crate::handle::File;
use crate::sys::{self, RawAddress};
use crate::token::{Socket, Tag};

/// The maximum number of segments in one operation; a longer gather leaves in several.
const MAX_SEGMENTS: usize = 64;

/// The type of a function behind a pointer that may be null.
trait Nullable {
    type Function;
}

impl<F> Nullable for Option<F> {
    type Function = F;
}

/// The functions of Winsock that are found at run time.
#[derive(Clone, Copy)]
pub(in crate::iocp) struct Functions {
    accept: <LPFN_ACCEPTEX as Nullable>::Function,
    connect: <LPFN_CONNECTEX as Nullable>::Function,
    transmit: <LPFN_TRANSMITFILE as Nullable>::Function,
    /// True exactly when operations of sockets may end in the call that begins them, without a
    /// packet.
    pub(in crate::iocp) at_once: bool,
    /// True exactly when this is a server edition of Windows, which does not limit the number of
    /// simultaneous file sends.
    pub(in crate::iocp) on_server: bool,
    #[cfg(test)]
    pub(in crate::iocp) faults: crate::iocp::tests::TestFaults,
}

impl Functions {
    /// Requests the functions from the system.
    pub(in crate::iocp) fn find() -> Result<Self, Error> {
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
        let at_once = at_once && !crate::iocp::tests::TestFaults::now().layered;
        Ok(Self {
            accept,
            connect,
            transmit,
            at_once,
            on_server: sys::is_server(),
            #[cfg(test)]
            faults: crate::iocp::tests::TestFaults::now(),
        })
    }
}

/// The calls. Each moves everything that it needs into the box.
impl Functions {
    pub(in crate::iocp) fn connect(
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

    pub(in crate::iocp) fn accept(
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
            return Submitted::Ended(crate::iocp::tests::refused(operation, failure));
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
    pub(in crate::iocp) fn probe(
        &self,
        handle: SOCKET,
        socket: Socket,
        free_list: &mut FreeList,
    ) -> Submitted {
        let operation = free_list.take(Some(socket), OperationKind::Probe);
        let nothing = WSABUF { len: 0, buf: ptr::null_mut() };
        self.receive_into(handle, operation, nothing)
    }

    pub(in crate::iocp) fn receive(
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
            return Submitted::Ended(crate::iocp::tests::refused(
                operation,
                crate::Failure::NoBuffers,
            ));
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
    pub(in crate::iocp) fn send(
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

    /// Sends `range` of the part of a file that comes next in the gather.
    pub(in crate::iocp) fn transmit(
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
            return Submitted::Ended(crate::iocp::tests::refused(
                operation,
                crate::Failure::Unsupported,
            ));
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
pub(in crate::iocp) struct FileRange {
    file: HANDLE,
    offset: u64,
    bytes: u32,
}

impl FileRange {
    pub(in crate::iocp) fn new(file: &File, offset: u64, bytes: u32) -> Self {
        Self { file: file.handle().as_raw_handle(), offset, bytes }
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Functions").field("at_once", &self.at_once).finish_non_exhaustive()
    }
}
