//! The handles of this machine's sockets.

#[cfg(target_os = "linux")]
pub(crate) use std::os::fd::OwnedFd as OwnedHandle;
#[cfg(windows)]
pub(crate) use std::os::windows::io::OwnedSocket as OwnedHandle;

use crate::handle::SocketHandle;
use crate::sys;

impl SocketHandle for OwnedHandle {
    fn refuse(self: Box<Self>) {
        sys::reset_at_close(&self);
    }
}

/// Returns the system's own handle.
pub(crate) fn owned(handle: Box<dyn SocketHandle>) -> OwnedHandle {
    handle.downcast().expect("a handle of this machine, not of a simulated network")
}
