//! Files on their way to a socket that does not block, by a thread that may wait for the disk.

use std::os::fd::OwnedFd;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::SendFlags;

use super::{Disk, Opened};
use crate::operation::{FileFault, Gather};
use crate::sync::{Arc, Mutex, lock};
use crate::system;
use crate::token::Socket;

/// What the system sends in one call, at most.
const BYTES_MAX: usize = 0x7fff_f000;
/// Bytes that are read and sent where the system has no way of its own.
const COPIED_MAX: usize = 256 * 1024;

/// A send whose file comes next, for a thread of the disk.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) socket: Socket,
    pub(crate) content: Arc<Content>,
}

/// What is in it, until a thread begins with it, or nobody wants it sent any more.
#[derive(Debug)]
pub(crate) struct Content(Mutex<Option<(Gather, OwnedFd)>>);

/// On its way back.
#[derive(Debug)]
pub(crate) struct FileSent {
    pub(crate) socket: Socket,
    pub(crate) gather: Gather,
    /// Bytes that left, or why none did. None left, and no error: the file was given up.
    pub(crate) result: Result<usize, Errno>,
}

impl Content {
    /// With a descriptor of its own: no socket is closed under the thread.
    pub(crate) fn new(gather: Gather, to: OwnedFd) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some((gather, to)))))
    }

    /// Takes it out. `None`: somebody else has.
    pub(crate) fn take(&self) -> Option<(Gather, OwnedFd)> {
        lock(&self.0).take()
    }
}

impl Disk {
    /// Has a part of a file sent, and posts what came of it from another thread; or gives that at
    /// once, where there is no thread.
    pub(crate) fn send(
        &self,
        parcel: Parcel,
        post: impl FnOnce(FileSent) + Send + 'static,
    ) -> Option<FileSent> {
        let Parcel { socket, content } = parcel;
        let taken = content.clone();
        let work = move || {
            let Some((gather, to)) = taken.take() else { return };
            system::hold_off_signals();
            let sent = carry(socket, gather, &to);
            // Before anybody hears of it: who then closes the socket closes it for good.
            drop(to);
            post(sent);
        };
        if self.crew.take_on(work) {
            return None;
        }
        let (gather, _) = content.take()?;
        Some(FileSent { socket, gather, result: Err(Errno::NOBUFS) })
    }
}

fn carry(socket: Socket, mut gather: Gather, to: &OwnedFd) -> FileSent {
    let (file, offset, bytes) = gather.file_ahead().expect("a file comes next");
    let result = match send(to, file.opened(), offset, bytes) {
        Ok(sent) => Ok(sent),
        Err(Wrong::Socket(errno)) => Err(errno),
        Err(Wrong::File(fault)) => {
            gather.give_up_file(fault);
            Ok(0)
        }
    };
    FileSent { socket, gather, result }
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
        Err(errno @ (Errno::AGAIN | Errno::PIPE | Errno::CONNRESET)) => Err(Wrong::Socket(errno)),
        Err(_) => send_by_memory(to, file, offset, bytes),
    }
}

/// Sends what the system does not send by itself, or finds out which of the two is wrong: it has
/// one number for both.
fn send_by_memory(to: &OwnedFd, file: &Opened, offset: u64, bytes: usize) -> Result<usize, Wrong> {
    let memory = super::read(file, offset, bytes.min(COPIED_MAX), Vec::new())
        .map_err(|error| Wrong::File(FileFault::Failed(error)))?;
    if memory.is_empty() {
        return Err(Wrong::File(FileFault::Short));
    }
    let flags = SendFlags::NOSIGNAL;
    retry_on_intr(|| rustix::net::send(to, &memory, flags)).map_err(Wrong::Socket)
}
