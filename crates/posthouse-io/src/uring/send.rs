//! A send in flight: the memory that the kernel reads, in one box that does not move. A part of a
//! file is first read into memory and then sent from there.

use std::os::fd::AsRawFd;

use io_uring::types::Fd;
use io_uring::{opcode, squeue};
use rustix::io::Errno;

use crate::gather::{FileFault, Gather};
use crate::token::Tag;

/// The maximum number of segments in one request; a longer gather leaves in several.
const MAX_SEGMENTS: usize = 64;
/// The maximum number of bytes of a file that are read and sent at a time.
const MAX_LOADED: usize = 256 * 1024;
/// The maximum number of boxes of finished [`SendRequest`]s that a lane keeps for later sends.
const MAX_FREE: usize = 256;

/// A send, with all memory that the kernel needs for its requests.
pub(super) struct SendRequest {
    tag: Tag,
    gather: Gather,
    /// True exactly when the cancellation of the send has been requested.
    cancel_requested: bool,
    stage: Stage,
    header: libc::msghdr,
    segments: [libc::iovec; MAX_SEGMENTS],
}

/// The present request of a send to the kernel.
enum Stage {
    /// The kernel sends from memory.
    Sending,
    /// The kernel reads a part of a file into this memory, without waiting.
    Loading(Vec<u8>),
    /// The read could not finish without waiting; a thread of the kernel must perform it.
    Waiting,
    /// A thread of the kernel, which may wait, reads into this memory.
    LoadingByThread(Vec<u8>),
}

/// The free boxes of finished sends.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the list keeps boxes because the kernel knows their address")]
pub(super) struct FreeList {
    boxes: Vec<Box<SendRequest>>,
}

impl SendRequest {
    fn new() -> Box<Self> {
        let nothing = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: `msghdr` is plain data; zero lengths and null pointers are an empty message.
        let header = unsafe { std::mem::zeroed() };
        let segments = [nothing; MAX_SEGMENTS];
        Box::new(Self {
            tag: Tag(0),
            gather: Gather::default(),
            cancel_requested: false,
            stage: Stage::Sending,
            header,
            segments,
        })
    }

    /// Requests the cancellation of the send. Returns whether this is the first request, in which
    /// case the caller must submit a cancel to the kernel.
    pub(super) fn request_cancel(&mut self) -> bool {
        !std::mem::replace(&mut self.cancel_requested, true)
    }

    pub(super) fn is_cancel_requested(&self) -> bool {
        self.cancel_requested
    }

    /// Returns the request that sends the next memory on `fd`, or reads the next part of a file. It
    /// refers to memory of this box and of its gather.
    pub(super) fn entry(&mut self, fd: Fd) -> squeue::Entry {
        if let Some((file, offset, bytes)) = self.gather.file_ahead() {
            let bytes = bytes.min(MAX_LOADED);
            let mut memory = Vec::with_capacity(bytes);
            let file = Fd(file.descriptor().as_raw_fd());
            let read = opcode::Read::new(file, memory.as_mut_ptr(), bytes as u32);
            let entry = read.offset(offset).build();
            return if matches!(self.stage, Stage::Waiting) {
                self.stage = Stage::LoadingByThread(memory);
                entry.flags(squeue::Flags::ASYNC)
            } else {
                self.stage = Stage::Loading(memory);
                entry
            };
        }
        self.point();
        // More data follows soon: one packet may contain the beginning of it, too.
        let more = if self.gather.file_follows() { libc::MSG_MORE } else { 0 };
        let flags = libc::MSG_NOSIGNAL | more;
        if self.header.msg_iovlen == 1 {
            let only = self.segments[0];
            // A longer segment leaves in several requests.
            let len = u32::try_from(only.iov_len).unwrap_or(u32::MAX);
            let entry = opcode::Send::new(fd, only.iov_base.cast_const().cast(), len);
            return entry.flags(flags).build();
        }
        let entry = opcode::SendMsg::new(fd, &raw const self.header);
        entry.flags(flags.cast_unsigned()).build()
    }

    /// Fills the header and the segments with the memory that is sent next.
    fn point(&mut self) {
        let Self { gather, header, segments, .. } = self;
        let mut used = 0;
        for (place, bytes) in segments.iter_mut().zip(gather.slices()) {
            place.iov_base = bytes.as_ptr().cast_mut().cast();
            place.iov_len = bytes.len();
            used += 1;
        }
        header.msg_iov = segments.as_mut_ptr();
        header.msg_iovlen = used;
    }

    /// Takes the result of a read, if the request that has ended was a read; returns whether it
    /// was. The next data is then the memory that was read. If the kernel could not read without
    /// waiting, or was interrupted, the next request is another read, by a thread of the kernel.
    pub(super) fn on_loaded(&mut self, result: Result<usize, Errno>) -> bool {
        let (mut memory, by_thread) = match std::mem::replace(&mut self.stage, Stage::Sending) {
            Stage::Sending | Stage::Waiting => return false,
            Stage::Loading(memory) => (memory, false),
            Stage::LoadingByThread(memory) => (memory, true),
        };
        match result {
            Ok(0) => self.gather.pad_file(FileFault::Short),
            Ok(bytes) => {
                assert!(bytes <= memory.capacity(), "more bytes read than there was room for");
                // SAFETY: the kernel has written `bytes` bytes to the beginning of the vector.
                unsafe { memory.set_len(bytes) };
                self.gather.load(memory);
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::CANCELED) if !by_thread => {
                self.stage = Stage::Waiting;
            }
            Err(errno) => self.gather.pad_file(FileFault::Failed(errno.into())),
        }
        true
    }
}

impl FreeList {
    /// Returns a box for this send.
    pub(super) fn take(&mut self, tag: Tag, gather: Gather) -> Box<SendRequest> {
        let mut sending = self.boxes.pop().unwrap_or_else(SendRequest::new);
        sending.tag = tag;
        sending.gather = gather;
        sending.cancel_requested = false;
        sending.stage = Stage::Sending;
        sending
    }

    /// Takes the tag and the gather out of a finished send, and keeps its box.
    pub(super) fn keep(&mut self, mut sending: Box<SendRequest>) -> (Tag, Gather) {
        let whose = (sending.tag, std::mem::take(&mut sending.gather));
        if self.boxes.len() < MAX_FREE {
            self.boxes.push(sending);
        }
        whose
    }
}

impl std::fmt::Debug for SendRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SendRequest({:?}, {} bytes)", self.tag, self.gather.len())
    }
}
