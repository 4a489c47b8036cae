//! A completion port of the system, which delivers packets; a waker can post one.

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::time::Duration;

use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE, WAIT_TIMEOUT};
use windows_sys::Win32::Storage::FileSystem::SetFileCompletionNotificationModes;
use windows_sys::Win32::System::IO::{
    CreateIoCompletionPort, GetQueuedCompletionStatusEx, OVERLAPPED_ENTRY,
    PostQueuedCompletionStatus,
};
use windows_sys::Win32::System::Threading::INFINITE;
use windows_sys::Win32::System::WindowsProgramming::{
    FILE_SKIP_COMPLETION_PORT_ON_SUCCESS, FILE_SKIP_SET_EVENT_ON_HANDLE,
};

use super::operation::{Ended, Operation};
use crate::error::Error;
use crate::native::wake::Wake;
use crate::sync::{Arc, AtomicUsize, Ordering};
use crate::sys;

/// The completion key of a packet that reports the end of an operation.
const OPERATION: usize = 0;
const WAKER: usize = 1;

/// A completion port.
#[derive(Clone, Debug)]
pub(super) struct Port {
    handle: Arc<OwnedHandle>,
    /// The number of the port. It is not zero, and no other port of this process ever has it. (The
    /// value of a handle can later belong to another port.)
    number: usize,
}

/// The means to end the wait of one worker of the port: it posts a packet with a key of its own.
#[derive(Debug)]
pub(crate) struct Waker {
    port: Port,
}

/// The content of a packet.
pub(super) enum Event {
    Ended(Ended),
    Waker,
}

/// Opens a port for this number of workers, and its waker.
pub(super) fn open(workers: usize) -> io::Result<(Port, Waker)> {
    static PORTS: AtomicUsize = AtomicUsize::new(1);
    let at_once = u32::try_from(workers).unwrap_or(u32::MAX);
    // SAFETY: the call names no memory.
    let handle =
        unsafe { CreateIoCompletionPort(INVALID_HANDLE_VALUE, ptr::null_mut(), 0, at_once) };
    if handle.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system has just made the handle, and nobody else has it.
    let handle = Arc::new(unsafe { OwnedHandle::from_raw_handle(handle) });
    let port = Port { handle, number: PORTS.fetch_add(1, Ordering::Relaxed) };
    Ok((port.clone(), Waker { port }))
}

impl Port {
    fn raw(&self) -> HANDLE {
        self.handle.as_raw_handle()
    }

    /// Returns the number of the port, which never changes.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Associates `handle` (of a socket or a file) with this port, at which its operations then
    /// end. If `at_once`, an operation that succeeds in the call that begins it has no packet. The
    /// association is permanent.
    pub(super) fn associate(&self, handle: HANDLE, at_once: bool) -> Result<(), Error> {
        // SAFETY: the call names no memory.
        if unsafe { CreateIoCompletionPort(handle, self.raw(), OPERATION, 0) }.is_null() {
            return Err(sys::last_error());
        }
        let at_once = if at_once { FILE_SKIP_COMPLETION_PORT_ON_SUCCESS } else { 0 };
        let modes = (FILE_SKIP_SET_EVENT_ON_HANDLE | at_once) as u8;
        // SAFETY: the call names no memory.
        match unsafe { SetFileCompletionNotificationModes(handle, modes) } {
            0 => Err(sys::last_error()),
            _ => Ok(()),
        }
    }

    /// Waits for packets, for at most `limit`, takes at most `N` of them, and calls `tell` with
    /// each. Returns their number.
    pub(super) fn wait<const N: usize>(
        &self,
        limit: Option<Duration>,
        mut tell: impl FnMut(Event),
    ) -> io::Result<usize> {
        let mut entries = [OVERLAPPED_ENTRY::default(); N];
        let mut count = 0;
        // SAFETY: the call writes at most `N` entries to memory for `N`, and their number.
        let taken = unsafe {
            GetQueuedCompletionStatusEx(
                self.raw(),
                entries.as_mut_ptr(),
                N as u32,
                &raw mut count,
                milliseconds(limit),
                0,
            )
        };
        if taken == 0 {
            return match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(WAIT_TIMEOUT.cast_signed()) => Ok(0),
                error => Err(error),
            };
        }
        for entry in &entries[..count as usize] {
            match entry.lpCompletionKey {
                WAKER => tell(Event::Waker),
                // SAFETY: only operations are given to the system for the handles of this port.
                // Each gets one packet, and this is it.
                _ => tell(Event::Ended(unsafe { Operation::dequeued(entry) })),
            }
        }
        Ok(count as usize)
    }
}

/// Returns the limit of a wait in milliseconds, rounded up. No limit becomes `INFINITE`.
fn milliseconds(limit: Option<Duration>) -> u32 {
    let Some(limit) = limit else { return INFINITE };
    let rounded = limit.as_nanos().div_ceil(1_000_000);
    u32::try_from(rounded).unwrap_or(INFINITE - 1).min(INFINITE - 1)
}

impl Wake for Waker {
    /// Posts the packet. The call fails only if the system has no memory for a packet; then it is
    /// repeated, because a lost wake-up would be a hang.
    fn wake(&self) {
        // SAFETY: the packet names no memory.
        until(|| unsafe {
            PostQueuedCompletionStatus(self.port.raw(), 0, WAKER, ptr::null()) != 0
        });
    }
}

/// Repeats a call until it succeeds. Locks are held meanwhile, and the thread that could free the
/// missing memory must run. So this thread yields after each try, and later sleeps.
fn until(mut succeeds: impl FnMut() -> bool) {
    const MAKING_WAY: usize = 64;
    let mut tries = 0_usize;
    while !succeeds() {
        tries = tries.saturating_add(1);
        if tries <= MAKING_WAY {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_for_a_while_is_tried_until_it_succeeds() {
        for failures in [0, 1, 10, 100] {
            let mut tries = 0;
            until(|| {
                tries += 1;
                tries > failures
            });
            assert_eq!(tries, failures + 1);
        }
    }

    #[test]
    fn a_wait_is_never_shorter_than_it_should_be() {
        assert_eq!(milliseconds(None), INFINITE);
        assert_eq!(milliseconds(Some(Duration::ZERO)), 0);
        assert_eq!(milliseconds(Some(Duration::from_nanos(1))), 1);
        assert_eq!(milliseconds(Some(Duration::from_millis(7))), 7);
        assert_eq!(milliseconds(Some(Duration::MAX)), INFINITE - 1);
    }
}
