//! Files on their way to a socket that does not block, by a thread that may wait for the disk.

use std::os::fd::OwnedFd;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::SendFlags;

use super::{Disk, Opened};
use crate::error::Failure;
use crate::operation::{FileFault, Gather};
use crate::sync::{Arc, Mutex, lock};
use crate::system;
use crate::token::Socket;

/// What the system sends in one call, at most.
const BYTES_MAX: usize = 0x7fff_f000;
/// Bytes that are read and sent where the system has no way of its own.
const COPIED_MAX: usize = 256 * 1024;

/// A send whose file comes next, on its way to a thread of the disk.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) socket: Socket,
    pub(crate) gather: Gather,
    /// A descriptor of its own: no socket is closed under the thread.
    pub(crate) to: OwnedFd,
}

/// On its way back.
#[derive(Debug)]
pub(crate) struct FileSent {
    pub(crate) socket: Socket,
    pub(crate) gather: Gather,
    /// Bytes that left, or why none did. None left, and no error: the file was given up.
    pub(crate) result: Result<usize, Errno>,
}

impl Disk {
    /// Has a part of a file sent, and posts what came of it from another thread; or gives that at
    /// once, where there is no thread.
    pub(crate) fn send(
        &self,
        parcel: Parcel,
        post: impl FnOnce(FileSent) + Send + 'static,
    ) -> Option<FileSent> {
        let kept = Arc::new(Mutex::new(Some(parcel)));
        let taken = kept.clone();
        let work = move || {
            if let Some(parcel) = lock(&taken).take() {
                system::hold_off_signals();
                post(parcel.carry());
            }
        };
        if self.crew.take_on(work) {
            return None;
        }
        let parcel = lock(&kept).take()?;
        Some(parcel.back(Err(Errno::NOBUFS)))
    }
}

impl Parcel {
    fn back(self, result: Result<usize, Errno>) -> FileSent {
        let Self { socket, gather, to } = self;
        drop(to);
        FileSent { socket, gather, result }
    }

    fn carry(mut self) -> FileSent {
        let (file, offset, bytes) = self.gather.file_ahead().expect("a file comes next");
        let result = send(&self.to, file.opened(), offset, bytes);
        let result = match result {
            Ok(sent) => Ok(sent),
            Err(Wrong::Socket(errno)) => Err(errno),
            Err(Wrong::File(fault)) => {
                self.gather.give_up_file(fault);
                Ok(0)
            }
        };
        self.back(result)
    }
}

/// Why nothing was sent.
enum Wrong {
    Socket(Errno),
    File(FileFault),
}

/// Sends at least one byte, or says why not.
fn send(to: &OwnedFd, file: &Opened, offset: u64, bytes: usize) -> Result<usize, Wrong> {
    let mut position = offset;
    let bytes = bytes.min(BYTES_MAX);
    match retry_on_intr(|| rustix::fs::sendfile(to, file, Some(&mut position), bytes)) {
        Ok(0) => Err(Wrong::File(FileFault::Short)),
        Ok(sent) => Ok(sent),
        Err(Errno::AGAIN) => Err(Wrong::Socket(Errno::AGAIN)),
        Err(errno) => send_by_memory(to, file, offset, bytes, errno),
    }
}

/// Sends what the system does not send by itself; where it is the socket that failed, says so. It
/// has one number for both: whether the file can be read shows which.
fn send_by_memory(
    to: &OwnedFd,
    file: &Opened,
    offset: u64,
    bytes: usize,
    errno: Errno,
) -> Result<usize, Wrong> {
    let memory = super::read(file, offset, bytes.min(COPIED_MAX), Vec::new())
        .map_err(|error| Wrong::File(FileFault::Failed(error)))?;
    if memory.is_empty() {
        return Err(Wrong::File(FileFault::Short));
    }
    match system::error(errno).failure {
        Failure::Unsupported | Failure::Disk | Failure::Other => {
            let flags = SendFlags::NOSIGNAL;
            retry_on_intr(|| rustix::net::send(to, &memory, flags)).map_err(Wrong::Socket)
        }
        _ => Err(Wrong::Socket(errno)),
    }
}
