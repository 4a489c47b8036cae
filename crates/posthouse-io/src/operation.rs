//! What can be submitted and what comes back: declared once for every backend.

use std::sync::Arc;
#[cfg(unix)]
use std::time::Duration;

use crate::address::{Address, Name};
use crate::buffer::Buffer;
use crate::error::Error;
use crate::file::{FileOp, FileOutcome};
use crate::sim;
use crate::token::{Socket, Tag};

/// One operation. It owns its memory until its terminal completion.
#[derive(Debug)]
pub enum Op {
    /// Accept on a listener until cancelled or failed: [`Outcome::Accepted`] with `more`, again and
    /// again, then one terminal [`Outcome::Failed`]. A passing failure (no descriptor) ends it too;
    /// the submitter arms it again when it sees fit.
    Accept(Socket),
    /// Connect a socket from [`Lane::socket`](crate::Lane::socket): [`Outcome::Connected`] or
    /// [`Outcome::Failed`]. Ended early by cancelling the socket.
    Connect(Socket, Address),
    /// Receive: [`Outcome::Received`] with data, [`Outcome::Ended`] where the peer has ended its
    /// stream, or [`Outcome::Failed`]. Several `Once` may be pending on one socket: the i-th
    /// submitted gets the i-th bytes, whatever the order in which their completions are taken.
    Receive(Socket, ReceiveMode),
    /// Send the segments in order: [`Outcome::Sent`] with the number of bytes that went out, which
    /// may be fewer than given, or [`Outcome::Failed`]. Zero bytes: the system has no room now
    /// (`ENOBUFS`), nothing is lost, submit the gather again later. At most one is in flight per
    /// socket (asserted). The gather is not empty (asserted). One that is cancelled may have left
    /// in part on Windows, which does not tell how much: nothing that makes sense can follow it.
    Send(Socket, Gather),
    /// Close the handle: [`Outcome::Closed`], always. Nothing else may be in flight on the socket
    /// (asserted): cancel, await, then close.
    Close(Socket),
    /// Look a name up: [`Outcome::Resolved`] with at least one address, or [`Outcome::Failed`].
    Resolve(Name),
    /// Do something with files: [`Outcome::File`], or [`Outcome::Failed`].
    File(Box<FileOp>),
}

/// How to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveMode {
    /// Until the end, a failure or a cancel: every completion but the last has `more`.
    Stream,
    /// One buffer.
    Once,
}

/// One result.
#[derive(Debug)]
pub struct Completion {
    /// The tag that the operation was submitted with.
    pub tag: Tag,
    /// `false`: this is the operation's one terminal completion. It is taken last; in the shared
    /// layout another worker can still be busy with one that it took before.
    pub more: bool,
    /// What happened.
    pub outcome: Outcome,
}

const _: () = assert!(size_of::<Completion>() <= 64, "a completion fits a cache line");

/// What an operation came to.
#[derive(Debug)]
pub enum Outcome {
    /// A peer was accepted.
    Accepted(Box<NewSocket>),
    /// The connection is up.
    Connected,
    /// Bytes, at least one.
    Received(Buffer),
    /// The peer has ended its stream: nothing follows.
    Ended,
    /// So many bytes left; the memory comes back.
    Sent {
        /// Bytes handed to the system, from the first segment on. Zero: try again later.
        bytes: usize,
        /// The operation's memory.
        gather: Gather,
    },
    /// The handle is closed and the socket's name is free.
    Closed,
    /// The addresses of a name.
    Resolved(Vec<Address>),
    /// What came of an operation on files.
    File(Box<FileOutcome>),
    /// It failed, or was cancelled. Memory that it owned has been let go.
    Failed(Error),
}

/// A socket that has been accepted and is not yet registered with a lane. It can be moved to
/// another thread; dropping it closes it.
#[derive(Debug)]
pub struct NewSocket {
    /// The address of the other end.
    pub peer: Address,
    pub(crate) handle: NewHandle,
}

impl NewSocket {
    /// Closes it so that the peer sees a reset; dropping it shows the peer a clean end.
    pub fn refuse(self) {
        match self.handle {
            #[cfg(unix)]
            NewHandle::Descriptor(fd) => {
                // Where it fails the connection is gone already.
                let _ = rustix::net::sockopt::set_socket_linger(&fd, Some(Duration::ZERO));
            }
            #[cfg(windows)]
            NewHandle::Socket(socket) => crate::system::reset_at_close(&socket),
            NewHandle::Simulated(stream) => stream.refuse(),
        }
    }
}

#[derive(Debug)]
pub(crate) enum NewHandle {
    #[cfg(unix)]
    Descriptor(std::os::fd::OwnedFd),
    #[cfg(windows)]
    Socket(std::os::windows::io::OwnedSocket),
    Simulated(sim::NewStream),
}

/// Memory to send: segments in order, with the part of the first that has already left.
#[derive(Debug, Default)]
pub struct Gather {
    segments: Vec<Segment>,
    /// Bytes of the first segment that have left already.
    offset: usize,
    bytes: usize,
}

/// A piece of memory to send.
#[derive(Debug)]
pub enum Segment {
    /// Memory of this operation only.
    Owned(Vec<u8>),
    /// Memory that several operations send (a message to a group).
    Shared(Arc<[u8]>),
}

impl Segment {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Segment::Owned(bytes) => bytes,
            Segment::Shared(bytes) => bytes,
        }
    }
}

impl Gather {
    /// Adds a segment at the end; an empty one is dropped.
    pub fn push(&mut self, segment: Segment) {
        let len = segment.bytes().len();
        if len > 0 {
            self.bytes += len;
            self.segments.push(segment);
        }
    }

    /// Takes all segments out, in order. Nothing of the first may have left (asserted).
    pub fn drain(&mut self, take: impl FnMut(Segment)) {
        assert!(self.offset == 0, "a gather that has partly left is not taken apart");
        self.bytes = 0;
        self.segments.drain(..).for_each(take);
    }

    /// Bytes that have not left.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether everything has left.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// What has not left, in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let skip = |i| if i == 0 { self.offset } else { 0 };
        self.segments.iter().enumerate().map(move |(i, s)| &s.bytes()[skip(i)..])
    }

    /// Notes that `bytes` have left, and hands each segment that is done to `done`, so that its
    /// memory can be used again.
    pub fn advance(&mut self, bytes: usize, mut done: impl FnMut(Segment)) {
        assert!(bytes <= self.bytes, "more bytes sent than there were");
        self.bytes -= bytes;
        let mut left = self.offset + bytes;
        let mut whole = 0;
        while whole < self.segments.len() && left >= self.segments[whole].bytes().len() {
            left -= self.segments[whole].bytes().len();
            whole += 1;
        }
        self.segments.drain(..whole).for_each(&mut done);
        self.offset = left;
        assert!(left == 0 || !self.segments.is_empty(), "an offset without a segment");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gather_advances_over_segment_borders() {
        let mut gather = Gather::default();
        gather.push(Segment::Owned(b"abc".to_vec()));
        gather.push(Segment::Owned(Vec::new()));
        gather.push(Segment::Shared(Arc::from(&b"defg"[..])));
        assert_eq!(gather.len(), 7);
        let mut done = 0;
        gather.advance(4, |_| done += 1);
        assert_eq!((gather.len(), done), (3, 1));
        assert_eq!(gather.slices().collect::<Vec<_>>(), [b"efg"]);
        gather.advance(3, |_| done += 1);
        assert_eq!((gather.is_empty(), done, gather.slices().count()), (true, 2, 0));
    }

    #[test]
    #[should_panic(expected = "more bytes sent than there were")]
    fn a_gather_refuses_to_advance_past_its_end() {
        let mut gather = Gather::default();
        gather.push(Segment::Owned(b"abc".to_vec()));
        gather.advance(4, drop);
    }
}
