//! The errors of the public calls.

use std::io;

use posthouse_io::AddressError;
use posthouse_wire::EncodeError;

use crate::options::OptionsError;
use posthouse_wire::Escaped;

/// Makes `Debug` print what `Display` does: it is what `fn main() -> Result` prints.
macro_rules! debug_as_display {
    ($type:ty) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}
pub(crate) use debug_as_display;

debug_as_display!(StartError);
debug_as_display!(ListenError);

/// The reason why a message was not sent. Nothing of the message was queued, and the connection is
/// as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection has ended, is closing, or is not established yet.
    #[error("not connected")]
    NotConnected,
    /// The send queue has no room for this message, because the peer reads too slowly.
    /// [`Handler::writable`](crate::Handler::writable) is called when the queue has fallen to its
    /// low-water mark. The bound is
    /// [`send_queue_bytes`](crate::ConnectionOptions::send_queue_bytes).
    #[error("the send queue is full ({queued_bytes} bytes): the peer reads too slowly")]
    QueueFull {
        /// The number of bytes in the queue.
        queued_bytes: usize,
    },
    /// Too many posts wait ([`max_posts`](crate::Tuning::max_posts)): the I/O worker is behind. Try
    /// again later.
    #[error("too many posts wait (max_posts): try again later")]
    Busy,
    /// The payload is longer than the peer, the configuration or the framing allows.
    #[error("the message is too large: {bytes} bytes, at most {max_bytes} are allowed")]
    TooLarge {
        /// The length of the payload in bytes. For a request or a reply it includes the head of the
        /// request or reply.
        bytes: usize,
        /// The maximum length in bytes.
        max_bytes: usize,
    },
    /// The kind is reserved: kinds 4 to 31 belong to the protocol after both sides have said hello,
    /// and always in messages to groups.
    #[error(
        "the message cannot be sent: kind {0} is reserved for the protocol; use 0 to 3 or 32 to 255"
    )]
    ReservedKind(u8),
    /// Requests and replies need a hello of both sides, and one is missing: the peer sent none,
    /// this side connected [`without_hello`](crate::Target::without_hello), or the framing is not
    /// native.
    #[error("requests need a hello: the peer sent none, or the framing has none")]
    NoHello,
    /// The framing cannot carry this payload or this kind.
    #[error("the message cannot be sent: {0}")]
    InvalidPayload(#[source] EncodeError),
}

impl From<EncodeError> for SendError {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::TooLarge { len, max } => {
                SendError::TooLarge { bytes: len, max_bytes: max }
            }
            other => SendError::InvalidPayload(other),
        }
    }
}

/// The reason why a task was not posted. See [`Endpoint::run`](crate::Endpoint::run).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The connection has ended, or is not established yet.
    #[error("not connected")]
    NotConnected,
    /// The connection belongs to another handler of the endpoint.
    #[error("the connection belongs to another handler of the endpoint")]
    WrongHandler,
    /// Too many posts wait ([`max_posts`](crate::Tuning::max_posts)): the I/O worker is behind. Try
    /// again later. For a timer: too many posts and timers of the endpoint wait.
    #[error("too many posts or timers wait (max_posts): try again later")]
    Busy,
    /// The endpoint shuts down.
    #[error("the endpoint is shutting down")]
    Shutdown,
}

/// The reason why a timer was not added: as many timers of the connection wait as
/// [`max_timers`](crate::ConnectionOptions::max_timers) permits. See
/// [`Peer::after`](crate::Peer::after).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many timers of the connection wait (max_timers): at most {max_timers}")]
#[non_exhaustive]
pub struct Busy {
    /// The maximum number of waiting timers.
    pub max_timers: usize,
}

/// The reason why an endpoint did not start, or a handler was not attached. If an endpoint did not
/// start, nothing of it is left running.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A listener was not opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// An option is out of its bounds. The text has its name and its bounds.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The completion port or a worker could not be created.
    #[error("cannot start the I/O workers: {0}")]
    System(#[source] io::Error),
    /// The endpoint has had 32,767 attached handlers in its life, which is the maximum.
    #[error("too many handlers: an endpoint can have at most 32,767 attached in its life")]
    TooManyHandlers,
    /// The endpoint shuts down.
    #[error("the endpoint is shutting down")]
    Shutdown,
}

/// The reason why a listener was not opened.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The listen address could not be parsed.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The host name could not be looked up, or has no address.
    #[error("cannot listen on {address}: the name could not be looked up: {error}")]
    LookUp {
        /// The address as it was given.
        address: String,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// The address could not be bound.
    #[error("cannot listen on {address}: {error}{}", bind_hint(error))]
    Bind {
        /// The address as it was given.
        address: String,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// An option is out of its bounds, or does not fit the framing.
    #[error("cannot listen on {address}: {error}")]
    Options {
        /// The address as it was given.
        address: String,
        /// The invalid option.
        #[source]
        error: OptionsError,
    },
    /// The endpoint has 65,535 listeners, which is the maximum.
    #[error("the endpoint has too many listeners: at most 65,535 at a time")]
    TooMany,
    /// The endpoint shuts down.
    #[error("the endpoint is shutting down")]
    Shutdown,
    /// The address has a host name, and a callback must not wait for its look-up.
    #[error(
        "a callback cannot look up a host name: use an IP address, or listen on another thread"
    )]
    WouldBlock,
}

/// Returns the usual remedy for the system's error.
fn bind_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another program listens there; choose another port)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need a privilege)",
        io::ErrorKind::AddrNotAvailable => " (not an address of this machine)",
        _ => "",
    }
}

/// The reason why an attempt to connect was not begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The target's address could not be parsed.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The endpoint has [`max_connections`](crate::EndpointOptions::max_connections) connections,
    /// and none of them can be evicted.
    #[error("the endpoint has reached max_connections; close connections or raise it")]
    TooMany,
    /// The endpoint shuts down.
    #[error("the endpoint is shutting down")]
    Shutdown,
    /// The credential is longer than 1 KiB.
    #[error("the credential is too long: at most 1024 bytes are allowed")]
    CredentialTooLong,
    /// An option of the target is out of its bounds.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

/// The reason why a request has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No reply arrived within the time-out of the request.
    #[error("no reply in time")]
    TimedOut,
    /// The connection ended before the reply.
    #[error("the connection ended before the reply")]
    Disconnected,
    /// The peer rejected the request, with this text.
    #[error("the peer rejected the request: {}", Escaped(&**.0))]
    Rejected(Box<str>),
    /// The request could not be sent.
    #[error("the request was not sent: {0}")]
    NotSent(#[source] SendError),
    /// [`max_requests`](crate::ConnectionOptions::max_requests) requests wait for their replies.
    #[error("too many requests wait for their replies (max_requests)")]
    TooMany,
}

/// The error of a blocking call in a callback: [`Endpoint::wait`](crate::Endpoint::wait), or a call
/// of a [`Client`](crate::Client). The call could wait for ever, because the worker that runs the
/// callback may be the one that must do the awaited work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a callback cannot wait for the end of its own endpoint: it would wait for itself")]
pub struct WouldDeadlock;
