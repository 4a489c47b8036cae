//! The ways of ending a connection, and the reasons for which one has ended.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use posthouse_wire::{Bye, Escaped, bye_code as code};

/// The result of a callback: `Ok(())` to go on, a [`Close`] to end the connection.
///
/// `?` works on any error and ends the connection **whose strand the callback runs on**: in a
/// continuation (of a timer, a reply, [`Endpoint::run`](crate::Endpoint::run)) that may be
/// another peer's than the one whose message caused it. It closes as [`Close::internal`] does: the
/// error's text goes to the log, never to the peer. [`Close::peer_fault`] says that the peer's
/// input was wrong. `Box<dyn Error>` and types that are no [`Error`] need [`OrClose::or_close`].
///
/// ```
/// use posthouse::{Close, HandlerResult};
///
/// fn parse(payload: &[u8]) -> HandlerResult {
///     let text = std::str::from_utf8(payload).map_err(|e| Close::peer_fault(1000, e))?;
///     let number: u32 = text.parse()?;
///     println!("{number}");
///     Ok(())
/// }
/// # assert!(parse(b"7").is_ok() && parse(b"x").is_err());
/// ```
pub type HandlerResult = Result<(), Close>;

/// A way of ending a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    pub(crate) how: How,
    /// The cause, for the log.
    pub(crate) cause: Option<Box<str>>,
    pub(crate) fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Gracefully { code: u16, text: Box<str>, retry_after: Option<Duration> },
    Abort,
}

impl Close {
    /// Sends what is queued, says goodbye, ends the stream and waits for the peer's end, all within
    /// [`close_timeout_ms`](crate::ConnectionOptions::close_timeout_ms).
    pub fn graceful() -> Self {
        Self::with_code(code::NORMAL, "")
    }

    /// Closes as [`graceful`](Self::graceful) does, with a code and a text for the peer, if hello
    /// was agreed. Codes of applications are 1000 and above; PROTOCOL.md lists the others. At most
    /// 512 bytes of the text are sent.
    pub fn with_code(code: u16, text: impl Into<Box<str>>) -> Self {
        let how = How::Gracefully { code, text: text.into(), retry_after: None };
        Self { how, cause: None, fault: Fault::Local }
    }

    /// Closes because the peer's input was wrong: gracefully, with this code and the error's text
    /// for the peer and for the log. [`DisconnectReason::fault`] is [`Fault::Peer`].
    pub fn peer_fault(code: u16, error: impl fmt::Display) -> Self {
        let text = error.to_string();
        Self { fault: Fault::Peer, ..Self::with_code(code, text.clone()).log(text) }
    }

    /// Closes because this program failed: gracefully, with the code for an internal error. The
    /// error's text goes to the log, never to the peer.
    pub fn internal(error: impl fmt::Display) -> Self {
        Self::internal_error().log(error.to_string())
    }

    pub(crate) fn internal_error() -> Self {
        Self::with_code(code::INTERNAL_ERROR, "internal error")
    }

    /// Asks the peer to come back no sooner than after this time. It has no effect on
    /// [`abort`](Self::abort), which says nothing to the peer.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        if let How::Gracefully { retry_after, .. } = &mut self.how {
            *retry_after = Some(time);
        }
        self
    }

    /// Resets the connection at once: what is queued is discarded, the peer sees a reset.
    pub fn abort() -> Self {
        Self { how: How::Abort, cause: None, fault: Fault::Local }
    }

    /// Adds a cause for the log.
    #[must_use]
    pub fn log(mut self, cause: impl Into<Box<str>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Returns the reason that the handler is told for it.
    pub(crate) fn reason(&self) -> DisconnectReason {
        let cause = self.cause.clone().unwrap_or_default();
        let fault = self.fault;
        DisconnectReason { fault, ..DisconnectReason::new(DisconnectKind::Closed, cause) }
    }
}

impl<E: Error> From<E> for Close {
    fn from(error: E) -> Self {
        Close::internal(error)
    }
}

/// Turns errors that `?` cannot convert into a [`Close`], as [`Close::internal`] does:
/// `Box<dyn Error>`, `anyhow::Error`, plain texts.
///
/// ```
/// use posthouse::{HandlerResult, OrClose};
///
/// fn load() -> Result<u32, Box<dyn std::error::Error>> {
///     Ok("7".parse()?)
/// }
///
/// fn callback() -> HandlerResult {
///     let number = load().or_close()?;
///     assert_eq!(number, 7);
///     Ok(())
/// }
/// # callback().unwrap();
/// ```
pub trait OrClose<T> {
    /// Returns the value, or a [`Close`] whose cause is the error's text.
    ///
    /// # Errors
    ///
    /// The [`Close`], if `self` is an error.
    fn or_close(self) -> Result<T, Close>;
}

impl<T, E: fmt::Display> OrClose<T> for Result<T, E> {
    fn or_close(self) -> Result<T, Close> {
        self.map_err(Close::internal)
    }
}

/// The side whose doing the end of a connection was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The peer ended, reset, broke the protocol, was too slow or went silent.
    Peer,
    /// This program closed the connection, sent what cannot be sent, or a callback panicked.
    Local,
    /// The network or a resource of the system failed.
    System,
}

/// The reason for which a connection ended, and what was left unsent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisconnectReason {
    pub(crate) kind: DisconnectKind,
    pub(crate) detail: Box<str>,
    pub(crate) unsent_bytes: u64,
    /// The peer's goodbye.
    pub(crate) bye: Option<Box<Bye>>,
    pub(crate) fault: Fault,
}

/// The event that ended a connection, for code that decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DisconnectKind {
    /// The peer ended its stream, or said goodbye.
    Ended,
    /// The peer reset the connection.
    Reset,
    /// The peer broke the protocol: a frame too large, an unknown one, one out of state.
    Protocol,
    /// The peer did not prove the key, or was not admitted in time.
    NotAdmitted,
    /// The peer was silent for longer than the heartbeat allows.
    Silent,
    /// The peer sent a frame, or took our output, too slowly.
    TooSlow,
    /// The peer did not read, and the send queue reached its bound.
    QueueFull,
    /// A bound of the endpoint was reached (memory for partial frames).
    Busy,
    /// The program closed it.
    Closed,
    /// The endpoint shuts down.
    Shutdown,
    /// A callback sent an invalid message: too large, or a kind or delimiter not allowed.
    Unsendable,
    /// The system failed: see the text.
    System,
    /// No connection was made to any address of the target, or not in time.
    Unreachable,
    /// A callback panicked.
    Panicked,
}

impl DisconnectKind {
    fn fault(self) -> Fault {
        use DisconnectKind as Kind;
        match self {
            Kind::Ended
            | Kind::Reset
            | Kind::Protocol
            | Kind::NotAdmitted
            | Kind::Silent
            | Kind::TooSlow
            | Kind::QueueFull => Fault::Peer,
            Kind::Closed | Kind::Shutdown | Kind::Unsendable | Kind::Panicked => Fault::Local,
            Kind::System | Kind::Unreachable | Kind::Busy => Fault::System,
        }
    }
}

impl DisconnectReason {
    pub(crate) fn new(kind: DisconnectKind, detail: impl Into<Box<str>>) -> Self {
        Self { kind, detail: detail.into(), unsent_bytes: 0, bye: None, fault: kind.fault() }
    }

    /// The peer said goodbye.
    pub(crate) fn goodbye(bye: Bye) -> Self {
        // Not escaped here: `Display` does it.
        let colon = if bye.text.is_empty() { "" } else { ": " };
        let text = format!("it said goodbye with code {}{colon}{}", bye.code, bye.text);
        Self { bye: Some(Box::new(bye)), ..Self::new(DisconnectKind::Ended, text) }
    }

    /// Returns the event that ended the connection.
    pub fn kind(&self) -> DisconnectKind {
        self.kind
    }

    /// Returns the side whose doing it was.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// Returns the code of the peer's goodbye, if it said one: see PROTOCOL.md, or the
    /// application's own from 1000 on.
    pub fn code(&self) -> Option<u16> {
        self.bye.as_ref().map(|bye| bye.code)
    }

    /// Returns the text of the peer's goodbye, if it said one: at most 512 bytes, in the peer's own
    /// words, not escaped.
    pub fn text(&self) -> Option<&str> {
        self.bye.as_ref().map(|bye| bye.text.as_str())
    }

    /// Returns the time for which the peer's goodbye asks this side to stay away, if it does.
    pub fn retry_after(&self) -> Option<Duration> {
        self.bye.as_ref().and_then(|bye| bye.retry_after)
    }

    /// Returns the number of bytes that were queued for the peer and never handed to the system.
    pub fn unsent_bytes(&self) -> u64 {
        self.unsent_bytes
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use DisconnectKind as Kind;
        f.write_str(match self.kind {
            Kind::Ended => "the peer ended the connection",
            Kind::Reset => "the peer reset the connection",
            Kind::Protocol => "the peer broke the protocol",
            Kind::NotAdmitted => "the peer was not admitted",
            Kind::Silent => "the peer went silent",
            Kind::TooSlow => "the peer was too slow",
            Kind::QueueFull => "the peer does not read and the send queue is full",
            Kind::Busy => "a bound of the endpoint was reached",
            Kind::Closed => "closed by the program",
            Kind::Shutdown => "the endpoint shuts down",
            Kind::Unsendable => "the program sent an invalid message",
            Kind::System => "the system failed",
            Kind::Unreachable => "the address could not be reached",
            Kind::Panicked => "a callback panicked",
        })?;
        if !self.detail.is_empty() {
            write!(f, ": {}", Escaped(&*self.detail))?;
        }
        if self.unsent_bytes > 0 {
            write!(f, " ({} bytes unsent)", self.unsent_bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_cannot_forge_a_line_of_the_log_and_reads_well() {
        let text = "\"bye\"\r\nERROR \u{202e}x\u{1b}[2J";
        let reason = DisconnectReason::new(DisconnectKind::Ended, text);
        let text = "the peer ended the connection: \"bye\"\\r\\nERROR \\u{202e}x\\u{1b}[2J";
        assert_eq!(reason.to_string(), text);
    }

    #[test]
    fn a_close_says_whose_fault_it_is_and_tells_the_peer_only_of_its_own() {
        let told = |close: &Close| match &close.how {
            How::Gracefully { code, text, .. } => (*code, text.to_string()),
            How::Abort => panic!("graceful"),
        };
        let peer = Close::peer_fault(1000, "no number");
        assert_eq!(peer.reason().fault(), Fault::Peer);
        assert_eq!(told(&peer), (1000, "no number".to_owned()));
        let internal: Close = "x".parse::<u8>().unwrap_err().into();
        assert_eq!(internal.reason().fault(), Fault::Local);
        assert!(internal.reason().to_string().contains("invalid digit"));
        assert_eq!(told(&internal), (code::INTERNAL_ERROR, "internal error".to_owned()));
    }
}
