//! The ring: its requests, and the meaning of its completions.

use std::io;

use io_uring::types::Fixed;
use io_uring::{
    CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue, types,
};

/// The buffer group of all receives.
pub(crate) const GROUP: u16 = 0;

const ENTRIES: u32 = 1024;
const COMPLETIONS: u32 = 8192;

/// The kinds in the upper half of `user_data`; the lower half is the slot.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const CLOSE: u64 = 3;
const OTHER: u64 = 4;

pub(crate) struct Ring(IoUring);

/// The submitting half of a ring.
pub(crate) struct Queue<'r> {
    submitter: Submitter<'r>,
    entries: SubmissionQueue<'r>,
}

/// A completion, by its kind.
pub(crate) enum Completion {
    Accepted { result: i32, more: bool },
    Received { slot: u32, result: i32, buffer: Option<u16>, more: bool },
    Sent { slot: u32, result: i32 },
    Closed { slot: u32 },
    Other,
}

impl Ring {
    pub(crate) fn new(direct_descriptors: u32) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_cqsize(COMPLETIONS)
            .build(ENTRIES)?;
        ring.submitter().register_files_sparse(direct_descriptors)?;
        Ok(Self(ring))
    }

    /// # Safety
    ///
    /// `address` is a page-aligned ring of `count` entries that lives as long as this ring.
    pub(crate) unsafe fn register_buffers(
        &self,
        address: u64,
        count: u16,
        group: u16,
    ) -> io::Result<()> {
        // SAFETY: the caller's promise is the requirement of the call.
        unsafe { self.0.submitter().register_buf_ring_with_flags(address, count, group, 0) }
    }

    pub(crate) fn split(&mut self) -> io::Result<(Queue<'_>, CompletionQueue<'_>)> {
        let (mut submitter, entries, completions) = self.0.split();
        submitter.register_ring_fd()?;
        Ok((Queue { submitter, entries }, completions))
    }
}

impl Queue<'_> {
    pub(crate) fn submit_and_wait(&mut self) -> io::Result<()> {
        self.entries.sync();
        match self.submitter.submit_and_wait(1) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Completions wait to be taken, or a signal came: the loop calls this again.
                Some(libc::EBUSY | libc::EINTR | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    pub(crate) fn accept(&mut self, listener: i32) {
        let entry = opcode::AcceptMulti::new(types::Fd(listener)).allocate_file_index(true);
        self.push(entry.build(), ACCEPT, 0);
    }

    pub(crate) fn receive(&mut self, slot: u32) {
        self.push(opcode::RecvMulti::new(Fixed(slot), GROUP).build(), RECEIVE, slot);
    }

    /// Sends `bytes`. The caller keeps them in place until the completion: in a lent receive
    /// buffer, or in a vector that it does not change.
    #[inline]
    pub(crate) fn send(&mut self, slot: u32, bytes: &[u8]) {
        let entry = opcode::Send::new(Fixed(slot), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL);
        self.push(entry.build(), SEND, slot);
    }

    pub(crate) fn cancel_receive(&mut self, slot: u32) {
        let entry = opcode::AsyncCancel::new(RECEIVE << 32 | u64::from(slot));
        self.push(entry.build(), OTHER, slot);
    }

    pub(crate) fn shutdown(&mut self, slot: u32) {
        self.push(opcode::Shutdown::new(Fixed(slot), libc::SHUT_RDWR).build(), OTHER, slot);
    }

    pub(crate) fn close(&mut self, slot: u32) {
        self.push(opcode::Close::new(Fixed(slot)).build(), CLOSE, slot);
    }

    #[inline]
    fn push(&mut self, entry: squeue::Entry, what: u64, slot: u32) {
        let entry = entry.user_data(what << 32 | u64::from(slot));
        // SAFETY: an entry names memory only if it is a send, and that memory stays in place by the
        // contract of `send`.
        while unsafe { self.entries.push(&entry) }.is_err() {
            self.entries.sync();
            // If the kernel takes nothing now, the next round tries again.
            let _ = self.submitter.submit();
            self.entries.sync();
        }
    }
}

impl From<cqueue::Entry> for Completion {
    #[inline]
    fn from(entry: cqueue::Entry) -> Self {
        let result = entry.result();
        let flags = entry.flags();
        let more = cqueue::more(flags);
        let slot = entry.user_data() as u32;
        match entry.user_data() >> 32 {
            ACCEPT => Self::Accepted { result, more },
            RECEIVE => Self::Received { slot, result, buffer: cqueue::buffer_select(flags), more },
            SEND => Self::Sent { slot, result },
            CLOSE => Self::Closed { slot },
            _ => Self::Other,
        }
    }
}
