//! A send in flight: the memory that the kernel reads, in one box that does not move.

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use crate::operation::Gather;
use crate::token::Tag;

/// Segments that leave in one request; a longer gather leaves in several.
const SEGMENTS_MAX: usize = 64;
/// Boxes that a lane keeps for the next sends.
const SPARES_MAX: usize = 256;

/// One send.
pub(super) struct Sending {
    tag: Tag,
    gather: Gather,
    /// True exactly when its end has been asked for.
    asked_to_end: bool,
    header: libc::msghdr,
    segments: [libc::iovec; SEGMENTS_MAX],
}

/// Boxes of sends that are over.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the boxes are what is kept: the kernel knows their address")]
pub(super) struct Spares {
    boxes: Vec<Box<Sending>>,
}

impl Sending {
    fn new() -> Box<Self> {
        let nothing = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: `msghdr` is plain data: zero lengths and null pointers are an empty message.
        let header = unsafe { std::mem::zeroed() };
        let segments = [nothing; SEGMENTS_MAX];
        Box::new(Self {
            tag: Tag(0),
            gather: Gather::default(),
            asked_to_end: false,
            header,
            segments,
        })
    }

    /// Whether the caller is the first who asks for its end, and so must tell the kernel.
    pub(super) fn ask_to_end(&mut self) -> bool {
        !std::mem::replace(&mut self.asked_to_end, true)
    }

    pub(super) fn is_asked_to_end(&self) -> bool {
        self.asked_to_end
    }

    /// The request that sends it on `fd`. It names memory of this box and of the gather in it.
    pub(super) fn entry(&self, fd: Fd) -> squeue::Entry {
        if self.header.msg_iovlen == 1 {
            let only = self.segments[0];
            // A longer one leaves in several requests.
            let len = u32::try_from(only.iov_len).unwrap_or(u32::MAX);
            return opcode::Send::new(fd, only.iov_base.cast_const().cast(), len)
                .flags(libc::MSG_NOSIGNAL)
                .build();
        }
        let flags = libc::MSG_NOSIGNAL.cast_unsigned();
        opcode::SendMsg::new(fd, &raw const self.header).flags(flags).build()
    }
}

impl Spares {
    /// A box for this send.
    pub(super) fn take(&mut self, tag: Tag, gather: Gather) -> Box<Sending> {
        let mut sending = self.boxes.pop().unwrap_or_else(Sending::new);
        sending.tag = tag;
        sending.gather = gather;
        sending.asked_to_end = false;
        let Sending { gather, header, segments, .. } = &mut *sending;
        let mut used = 0;
        for (place, bytes) in segments.iter_mut().zip(gather.slices()) {
            place.iov_base = bytes.as_ptr().cast_mut().cast();
            place.iov_len = bytes.len();
            used += 1;
        }
        header.msg_iov = segments.as_mut_ptr();
        header.msg_iovlen = used;
        sending
    }

    /// Takes apart a send that is over.
    pub(super) fn keep(&mut self, mut sending: Box<Sending>) -> (Tag, Gather) {
        let whose = (sending.tag, std::mem::take(&mut sending.gather));
        if self.boxes.len() < SPARES_MAX {
            self.boxes.push(sending);
        }
        whose
    }
}

impl std::fmt::Debug for Sending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sending({:?}, {} bytes)", self.tag, self.gather.len())
    }
}
