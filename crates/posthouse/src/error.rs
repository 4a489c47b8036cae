//! The errors of the calls, sorted by call.

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

/// The reason why a message was not sent. Nothing was queued, and the connection is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection is gone, closing, or not up yet.
    #[error("not connected")]
    NotConnected,
    /// The peer does not read fast enough: the send queue has no room for this message now.
    /// [`Handler::writable`](crate::Handler::writable) is called when there is room again.
    #[error("the send queue is full ({queued_bytes} bytes): the peer reads too slowly")]
    QueueFull {
        /// The bytes in the queue.
        queued_bytes: usize,
    },
    /// Too much posted work waits on the lane
    /// ([`max_posts`](crate::Tuning::max_posts)); try again when it has caught up.
    #[error("too much posted work waits: try again later")]
    Busy,
    /// The payload is longer than the peer, the configuration or the framing allows.
    #[error("the message cannot be sent: {bytes} bytes, at most {max_bytes} are allowed")]
    TooLarge {
        /// The bytes of the payload, with its head for a request or a reply.
        bytes: usize,
        /// The largest number allowed.
        max_bytes: usize,
    },
    /// Kinds 4 to 31 are reserved for the protocol once hello is agreed, and in groups.
    #[error(
        "the message cannot be sent: kind {0} is reserved for the protocol once hello is \
             agreed; use 0 to 3 or 32 to 255"
    )]
    ReservedKind(u8),
    /// Requests and replies need an agreed hello: the peer opened without one, or the framing has
    /// none.
    #[error("requests need an agreed hello: the peer opened without one, or the framing has none")]
    NoHello,
    /// The framing cannot carry this payload or this kind.
    #[error("the message cannot be sent: {0}")]
    InvalidPayload(#[source] EncodeError),
    /// The connection belongs to another handler of the endpoint.
    #[error("the connection belongs to another handler of the endpoint")]
    WrongHandler,
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

/// The reason why a task was not posted: see [`Endpoint::run`](crate::Endpoint::run).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The connection is gone, or not up yet.
    #[error("not connected")]
    NotConnected,
    /// The connection belongs to another handler of the endpoint.
    #[error("the connection belongs to another handler of the endpoint")]
    WrongHandler,
    /// Too much posted work waits on the lane
    /// ([`max_posts`](crate::Tuning::max_posts)); try again when it has caught up.
    #[error("too much posted work waits: try again later")]
    Busy,
    /// The endpoint shuts down.
    #[error("the endpoint shuts down")]
    Shutdown,
}

/// The reason why an endpoint did not start, or a handler was not attached. Nothing is left
/// running.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A listener was not opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// An option is out of its bounds: the text says which, and what to do.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The completion port, or a worker, could not be made.
    #[error("cannot start: {0}")]
    System(#[source] io::Error),
    /// The endpoint has as many handlers as it can have (32,767 in its life).
    #[error("the endpoint has too many handlers")]
    TooManyHandlers,
    /// The endpoint shuts down.
    #[error("the endpoint shuts down")]
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
        /// The option, and what to do.
        #[source]
        error: OptionsError,
    },
    /// The endpoint has as many listeners as it can have (65,535 at a time).
    #[error("the endpoint has too many listeners")]
    TooMany,
    /// The endpoint shuts down.
    #[error("the endpoint shuts down")]
    Shutdown,
    /// A host name cannot be looked up in a callback, where nothing may wait.
    #[error("a callback cannot wait for a name's look-up: listen on an IP address there")]
    WouldBlock,
}

/// Adds the usual remedy to the system's error.
fn bind_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another program listens there; choose another port)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need a privilege)",
        io::ErrorKind::AddrNotAvailable => " (not an address of this machine)",
        _ => "",
    }
}

/// The reason why a connection was not begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The target's address could not be parsed.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The endpoint has [`max_connections`](crate::EndpointOptions::max_connections) already.
    #[error("the endpoint has as many connections as max_connections allows")]
    TooMany,
    /// The endpoint shuts down.
    #[error("the endpoint shuts down")]
    Shutdown,
    /// The credential is longer than 1 KiB.
    #[error("a credential has at most 1024 bytes")]
    CredentialTooLong,
    /// An option of the target is out of its bounds.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

/// The reason why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No reply came within the time given.
    #[error("no reply in time")]
    TimedOut,
    /// The connection ended first.
    #[error("the connection ended before the reply")]
    Disconnected,
    /// The peer rejected the request: its text.
    #[error("the peer rejected the request: {}", Escaped(&**.0))]
    Rejected(Box<str>),
    /// The request could not be sent.
    #[error("the request was not sent: {0}")]
    NotSent(#[source] SendError),
    /// The connection has [`max_requests`](crate::ConnectionOptions::max_requests) requests
    /// waiting.
    #[error("too many requests wait for their replies")]
    TooMany,
}

/// Waiting for an endpoint's end in one of its own callbacks would never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a callback cannot wait for the end of its own endpoint: it would wait for itself")]
pub struct WouldDeadlock;
