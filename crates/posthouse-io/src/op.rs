//! What can be submitted and what comes back: declared once for every backend.

use crate::address::{Address, Name};
use crate::buffer::Buffer;
use crate::error::Error;
use crate::file_op::{FileOp, FileOutcome};
use crate::gather::Gather;
use crate::handle::NewSocket;
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
    /// in part on Windows, and where it was of a file: nothing that makes sense can follow it.
    ///
    /// What lies in a file ([`FilePart`](crate::FilePart)) takes the system's way from a file to a
    /// socket, and no memory of this process: `sendfile` on readiness, by a thread that may wait
    /// for the disk; `TransmitFile` on Windows, less than 2^31 bytes at a time; a read and a send
    /// of the ring on io_uring. Memory and a part of a file leave in different sends.
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

/// What to cancel on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// Pending receives only. Bytes that were already received are still delivered.
    Receives,
    /// Everything that is in flight on the socket.
    Everything,
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
