//! Operations and their completions, declared once for every backend.

use crate::address::{Address, Name};
use crate::buffer::Buffer;
use crate::error::Error;
use crate::file_op::{FileOp, FileOutcome};
use crate::gather::Gather;
use crate::handle::NewSocket;
use crate::token::{Socket, Tag};

/// An operation on a socket, a name or a file. It owns its memory until its terminal completion.
#[derive(Debug)]
pub enum Op {
    /// Accepts peers on a listener until the operation is cancelled or fails. Each peer is an
    /// [`Outcome::Accepted`] with `more`; the last completion is a terminal [`Outcome::Failed`]. A
    /// transient failure (no free descriptor) ends the operation, too; the submitter decides when
    /// to submit it again.
    Accept(Socket),
    /// Connects a socket from [`Lane::socket`](crate::Lane::socket). The outcome is
    /// [`Outcome::Connected`] or [`Outcome::Failed`]. Cancelling the socket ends the attempt early.
    Connect(Socket, Address),
    /// Receives bytes. The outcome is [`Outcome::Received`] with data, [`Outcome::Ended`] if the
    /// peer has ended its stream, or [`Outcome::Failed`]. Several `Once` may be pending on one
    /// socket: the i-th submitted one gets the i-th bytes, in whatever order the workers take the
    /// completions.
    Receive(Socket, ReceiveMode),
    /// Watches a socket that is not received from: the operation takes no byte. The outcome is
    /// [`Outcome::Ended`] if the peer has ended its stream (bytes before the end may wait to be
    /// received) and the mode is [`WatchMode::End`], or [`Outcome::Failed`] if the connection has
    /// failed. A reset or the peer's end that came before the submission counts. A socket has one
    /// watch or receives, not both (asserted): the one must have ended before the other is
    /// submitted. Nothing is lost in between. A transient failure
    /// ([`Error::is_transient`](crate::Error::is_transient)) says nothing about the connection:
    /// submit the watch again later.
    ///
    /// If Windows does not allow the poll, the socket is looked at every 5 seconds, and an end
    /// behind bytes that were not received is not seen.
    Watch(Socket, WatchMode),
    /// Sends the segments in order. The outcome is [`Outcome::Sent`] with the number of bytes that
    /// left, which may be fewer than given, or [`Outcome::Failed`]. Zero bytes mean that the system
    /// has no room now (`ENOBUFS`): nothing is lost; submit the gather again later. At most one
    /// send is in flight per socket (asserted). The gather is not empty (asserted). On Windows, and
    /// if the gather contains a part of a file, a cancelled send may have left in part; nothing
    /// meaningful can follow it on the stream.
    ///
    /// A part of a file ([`FilePart`](crate::FilePart)) leaves by the system's file-to-socket call.
    /// Readiness calls `sendfile` on a thread that may wait for the disk. Windows calls
    /// `TransmitFile` with less than 2^31 bytes at a time. Neither needs memory of this process.
    /// io_uring submits a read and a send to the ring. Memory and a part of a file leave in
    /// different sends.
    Send(Socket, Gather),
    /// Closes the handle. The outcome is always [`Outcome::Closed`]. Nothing else may be in flight
    /// on the socket (asserted): cancel, await, then close.
    Close(Socket),
    /// Looks up a name. The outcome is [`Outcome::Resolved`] with at least one address, or
    /// [`Outcome::Failed`]. A port looks up at most 64 hosts at a time; if none of these look-ups
    /// has ended for 5 seconds, a further one fails with
    /// [`NamesHang`](crate::Failure::NamesHang).
    Resolve(Name),
    /// Performs an operation on files. The outcome is [`Outcome::File`] or [`Outcome::Failed`].
    File(Box<FileOp>),
}

/// The number of completions that a receive may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveMode {
    /// Receives until the stream ends, the receive fails or is cancelled. Every completion but the
    /// last has `more`.
    Stream,
    /// Receives one buffer.
    Once,
}

/// The events that end a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchMode {
    /// The end of the peer's stream, or the failure of the connection.
    End,
    /// The failure of the connection only, for a peer that has ended its stream.
    Failure,
}

/// The operations on a socket that a cancel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// A cancel ends only the pending receives, or the watch in their place. Bytes that were
    /// already received are still delivered.
    Receives,
    /// A cancel ends all operations in flight on the socket.
    Everything,
}

/// One result of an operation.
#[derive(Debug)]
pub struct Completion {
    /// The tag that the operation was submitted with.
    pub tag: Tag,
    /// True exactly when other completions of the operation follow. The one terminal completion of
    /// an operation has `false`, and a lane hands it out last; in the shared layout another worker
    /// may still be busy with an earlier completion of the same operation.
    pub more: bool,
    /// The result itself.
    pub outcome: Outcome,
}

const _: () = assert!(size_of::<Completion>() <= 64, "a completion fits a cache line");

/// The result of an operation.
#[derive(Debug)]
pub enum Outcome {
    /// The listener accepted a peer.
    Accepted(Box<NewSocket>),
    /// The connection is established.
    Connected,
    /// Received bytes, at least one.
    Received(Buffer),
    /// The peer has ended its stream; after a receive no more bytes follow.
    Ended,
    /// The system took bytes of a send, and the memory comes back.
    Sent {
        /// The number of bytes handed to the system, counted from the first segment. Zero: try
        /// again later.
        bytes: usize,
        /// The operation's memory, as submitted. [`Gather::advance`] removes the bytes that left.
        gather: Gather,
    },
    /// The handle is closed and the socket's name is free.
    Closed,
    /// The addresses of a name, at least one.
    Resolved(Vec<Address>),
    /// The result of an operation on files.
    File(Box<FileOutcome>),
    /// The operation failed or was cancelled. Memory that it owned has been released.
    Failed(Error),
}
