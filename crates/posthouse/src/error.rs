//! What a call can answer at once, sorted by call.

use std::fmt;
use std::io;

use posthouse_io::AddressError;
use posthouse_wire::EncodeError;

/// Why a message was not taken. Nothing was sent, and the connection is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The connection is gone, closing, or not up yet.
    NotConnected,
    /// The peer does not read fast enough: the send queue has no room for this message now.
    /// [`Handler::writable`](crate::Handler::writable) tells when to try again.
    QueueFull {
        /// Bytes in the queue.
        queued_bytes: usize,
    },
    /// The endpoint has too much posted work waiting; try again when it has caught up.
    Busy,
    /// The message cannot be put into a frame of this connection.
    Unsendable(Unsendable),
}

/// What about a message cannot be put into a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsendable {
    /// The framing cannot carry it: see the text.
    Frame(EncodeError),
    /// Kinds 4 to 31 are the protocol's own once hello is agreed.
    OwnKind(u8),
    /// Requests and replies need an agreed hello.
    NoHello,
}

impl fmt::Display for Unsendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsendable::Frame(error) => error.fmt(f),
            Unsendable::OwnKind(kind) => write!(
                f,
                "kind {kind} is the protocol's own once hello is agreed: use 0 to 3 or 32 to 255"
            ),
            Unsendable::NoHello => f.write_str(
                "requests need an agreed hello: the peer opened without one, or the framing has \
                 none",
            ),
        }
    }
}

impl From<EncodeError> for SendError {
    fn from(error: EncodeError) -> Self {
        SendError::Unsendable(Unsendable::Frame(error))
    }
}

impl From<Unsendable> for SendError {
    fn from(error: Unsendable) -> Self {
        SendError::Unsendable(error)
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::NotConnected => f.write_str("not connected"),
            SendError::QueueFull { queued_bytes } => {
                write!(
                    f,
                    "the send queue is full ({queued_bytes} bytes): the peer reads too slowly"
                )
            }
            SendError::Busy => f.write_str("too much posted work waits: try again later"),
            SendError::Unsendable(what) => write!(f, "the message cannot be sent: {what}"),
        }
    }
}

impl std::error::Error for SendError {}

/// Why an endpoint did not start. Nothing is left running.
#[non_exhaustive]
pub enum StartError {
    /// A listen address that is none.
    Address(AddressError),
    /// A listener could not be bound.
    Listen {
        /// The address as it was given.
        address: String,
        /// The system's answer.
        error: io::Error,
    },
    /// An option out of its bounds: which, and what to do.
    Options(crate::options::OptionsError),
    /// The completion port, or a worker, could not be made.
    System(io::Error),
}

/// As `Display`: it is what `fn main() -> Result` prints.
impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Address(error) => error.fmt(f),
            StartError::Listen { address, error } => {
                write!(f, "cannot listen on {address}: {error}")?;
                match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        f.write_str(" (another program listens there; choose another port)")
                    }
                    io::ErrorKind::PermissionDenied => {
                        f.write_str(" (ports below 1024 need a privilege)")
                    }
                    io::ErrorKind::AddrNotAvailable => {
                        f.write_str(" (not an address of this machine)")
                    }
                    _ => Ok(()),
                }
            }
            StartError::Options(error) => error.fmt(f),
            StartError::System(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Why a connection was not begun.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The endpoint has [`max_connections`](crate::Options::max_connections) already.
    TooMany,
    /// The endpoint shuts down.
    Shutdown,
    /// The credential is longer than 1 KiB.
    CredentialTooLong,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectError::TooMany => {
                "the endpoint has as many connections as max_connections allows"
            }
            ConnectError::Shutdown => "the endpoint shuts down",
            ConnectError::CredentialTooLong => "a credential has at most 1024 bytes",
        })
    }
}

impl std::error::Error for ConnectError {}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// No reply within the time given.
    TimedOut,
    /// The connection ended first.
    Disconnected,
    /// The peer refused: its text.
    Refused(Box<str>),
    /// The request could not be sent.
    NotSent(SendError),
    /// The connection has [`requests_max`](crate::Options::requests_max) requests waiting.
    TooMany,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::TimedOut => f.write_str("no reply in time"),
            RequestError::Disconnected => f.write_str("the connection ended before the reply"),
            RequestError::Refused(text) => {
                write!(f, "the peer refused: {}", crate::close::Escaped(text))
            }
            RequestError::NotSent(error) => write!(f, "the request was not sent: {error}"),
            RequestError::TooMany => f.write_str("too many requests wait for their replies"),
        }
    }
}

impl std::error::Error for RequestError {}

/// Waiting for an endpoint's end, from one of its own callbacks, would never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WouldDeadlock;

impl fmt::Display for WouldDeadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a callback cannot wait for the end of its own endpoint: it would wait for itself",
        )
    }
}

impl std::error::Error for WouldDeadlock {}
