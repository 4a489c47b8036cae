//! `sendfile` to a non-blocking socket, on a thread that may wait for the disk.

use std::os::fd::OwnedFd;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::SendFlags;

use crate::fs::{self, Opened};
use crate::gather::{FileFault, Gather};
use crate::native::file_pool::FilePool;
use crate::op::Completion;
use crate::sync::{Arc, Mutex, lock};
use crate::sys;
use crate::token::Socket;

/// The system's maximum number of bytes per call.
const MAX_BYTES: usize = 0x7fff_f000;
/// The maximum number of bytes that are read and sent if the system has no `sendfile` for the file.
const MAX_COPIED: usize = 256 * 1024;

/// A send whose next segment lies in a file, for a thread of the file pool.
#[derive(Debug)]
pub(super) struct SendfileJob {
    pub(super) socket: Socket,
    pub(super) payload: Arc<SendfilePayload>,
}

/// The gather and the socket's descriptor, until a thread takes them or the send is cancelled.
#[derive(Debug)]
pub(super) struct SendfilePayload(Mutex<Option<(Gather, OwnedFd)>>);

/// The result of a [`SendfileJob`], on its way back to the lane.
#[derive(Debug)]
pub(crate) struct SendfileDone {
    pub(super) socket: Socket,
    pub(super) gather: Gather,
    /// The number of bytes that left, or the error. After zero bytes, memory comes next, as after a
    /// file that could not be read and was padded.
    pub(super) result: Result<usize, Errno>,
}

/// An item that another thread injects into a lane.
#[derive(Debug)]
pub(crate) enum Injected {
    /// A completion that is not yet counted.
    Completion(Completion),
    SendfileDone(Box<SendfileDone>),
}

impl From<Completion> for Injected {
    fn from(completion: Completion) -> Self {
        Self::Completion(completion)
    }
}

impl SendfilePayload {
    /// Returns a payload with a descriptor of its own, so that no socket is closed while the thread
    /// uses it.
    pub(super) fn new(gather: Gather, to: OwnedFd) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some((gather, to)))))
    }

    /// Takes the payload. Returns `None` if it was taken before.
    pub(super) fn take(&self) -> Option<(Gather, OwnedFd)> {
        lock(&self.0).take()
    }
}

/// Sends a part of a file on a thread of the pool, which posts the result. Returns the result at
/// once if there is no thread.
pub(super) fn start(
    pool: &FilePool,
    job: SendfileJob,
    post: impl FnOnce(SendfileDone) + Send + 'static,
) -> Option<SendfileDone> {
    let SendfileJob { socket, payload } = job;
    let taken = payload.clone();
    let task = move || {
        let Some((gather, to)) = taken.take() else { return };
        sys::block_signals();
        let sent = run_sendfile(socket, gather, &to);
        // Closed before the result is posted, so that a later close of the socket is the last one.
        drop(to);
        post(sent);
    };
    if pool.try_spawn(task) {
        return None;
    }
    let (gather, _) = payload.take()?;
    Some(SendfileDone { socket, gather, result: Err(Errno::NOBUFS) })
}

fn run_sendfile(socket: Socket, mut gather: Gather, to: &OwnedFd) -> SendfileDone {
    let sent = match gather.file_ahead() {
        Some((file, offset, bytes)) => send(to, file.opened(), offset, bytes),
        None => Ok(0),
    };
    let result = sent.or_else(|error| match error {
        SendfileError::Socket(errno) => Err(errno),
        SendfileError::File(fault) => {
            gather.pad_file(fault);
            Ok(0)
        }
    });
    SendfileDone { socket, gather, result }
}

/// The reason why no byte was sent.
enum SendfileError {
    Socket(Errno),
    File(FileFault),
}

/// Sends at least one byte, or returns the reason why it cannot.
fn send(to: &OwnedFd, file: &Opened, offset: u64, bytes: usize) -> Result<usize, SendfileError> {
    let mut position = offset;
    let bytes = bytes.min(MAX_BYTES);
    match retry_on_intr(|| rustix::fs::sendfile(to, file, Some(&mut position), bytes)) {
        Ok(0) => Err(SendfileError::File(FileFault::Short)),
        Ok(sent) => Ok(sent),
        Err(errno @ (Errno::AGAIN | Errno::PIPE | Errno::CONNRESET)) => {
            Err(SendfileError::Socket(errno))
        }
        Err(_) => send_by_memory(to, file, offset, bytes),
    }
}

/// Sends data that the system cannot send itself, or determines whether the file or the socket
/// failed: `sendfile` has one error number for both.
fn send_by_memory(
    to: &OwnedFd,
    file: &Opened,
    offset: u64,
    bytes: usize,
) -> Result<usize, SendfileError> {
    let memory = fs::read(file, offset, bytes.min(MAX_COPIED), Vec::new())
        .map_err(|error| SendfileError::File(FileFault::Failed(error)))?;
    if memory.is_empty() {
        return Err(SendfileError::File(FileFault::Short));
    }
    let flags = SendFlags::NOSIGNAL;
    retry_on_intr(|| rustix::net::send(to, &memory, flags)).map_err(SendfileError::Socket)
}
