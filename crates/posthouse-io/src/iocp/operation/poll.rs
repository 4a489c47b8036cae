//! The poll of a socket, which ends when one of its events occurs.

use std::cell::UnsafeCell;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::Networking::WinSock::SOCKET;
use windows_sys::Win32::System::IO::DeviceIoControl;

use super::{Ended, FreeList, Functions, Operation, OperationKind, Submitted, code, overlapped};
use crate::error::Error;
use crate::token::Socket;

/// Polls sockets (`IOCTL_AFD_POLL`), the control of the system's socket driver beneath `select`.
const AFD_POLL: u32 = 0x0001_2024;

/// The events of a poll of a socket: a set of bits of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::iocp) struct SocketEvents(u32);

impl SocketEvents {
    /// The peer has ended its stream.
    pub(in crate::iocp) const ENDED: Self = Self(0x08);
    /// The connection was reset or given up, or the handle was closed. (The last of the bits is
    /// that of a failed connect, which Wine reports in the place of the first.)
    pub(in crate::iocp) const FAILED: Self = Self(0x10 | 0x20 | 0x100);

    pub(in crate::iocp) fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    pub(in crate::iocp) fn has_one_of(self, events: Self) -> bool {
        self.0 & events.0 != 0
    }
}

/// The memory of a poll (`AFD_POLL_INFO` for one socket), which the system reads and writes.
#[repr(C)]
pub(in crate::iocp) struct SocketPoll {
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
    pub(in crate::iocp) fn events(&self) -> SocketEvents {
        SocketEvents(if self.handles == 0 { 0 } else { self.events })
    }
}

impl Functions {
    /// Polls the socket until one of the events occurs. The driver is that of the socket itself, so
    /// the request goes to the socket's own handle and ends at its port.
    pub(in crate::iocp) fn poll(
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
}
