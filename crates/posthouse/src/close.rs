//! How a connection is ended, and why one has ended.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// What a callback returns: `Ok(())` to go on, a [`Close`] to end the connection.
///
/// `?` on any error closes, too, as [`Close::telling`] would with the code for an internal error:
/// the error's text goes to the log, never to the peer.
pub type Outcome = Result<(), Close>;

/// How to end a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    pub(crate) how: How,
    /// For the log.
    pub(crate) cause: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Gracefully { code: u16, text: Box<str>, retry_after: Option<Duration> },
    Abort,
}

impl Close {
    /// Send what is queued, say goodbye, end the stream and wait for the peer's end, all within
    /// [`close_timeout_ms`](crate::Options::close_timeout_ms).
    pub fn gracefully() -> Self {
        Self::telling(0, "")
    }

    /// As [`gracefully`](Self::gracefully), with a code and a text that the peer is told, where
    /// hello was agreed. Codes of applications are 1000 and above; PROTOCOL.md lists the others.
    /// Of the text at most 512 bytes are sent.
    pub fn telling(code: u16, text: impl Into<Box<str>>) -> Self {
        let how = How::Gracefully { code, text: text.into(), retry_after: None };
        Self { how, cause: None }
    }

    /// The same, and asks the peer to come back no sooner than after this time.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        if let How::Gracefully { retry_after, .. } = &mut self.how {
            *retry_after = Some(time);
        }
        self
    }

    /// Reset the connection at once: what is queued is discarded, the peer sees a reset.
    pub fn abort() -> Self {
        Self { how: How::Abort, cause: None }
    }

    /// The same with a cause for the log.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<str>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl<E: Error> From<E> for Close {
    fn from(error: E) -> Self {
        Close::telling(8, "internal error").because(error.to_string())
    }
}

/// Whose doing the end of a connection was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The peer's: it ended, reset, broke the protocol, was too slow or went silent.
    Peer,
    /// Yours: the handler or the program closed it, or sent what cannot be sent.
    You,
    /// The system's: a network or resource failure.
    System,
    /// A bug: a handler's panic.
    Bug,
}

/// Why a connection ended, and what was left unsent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub(crate) kind: ReasonKind,
    pub(crate) detail: Box<str>,
    pub(crate) unsent_bytes: u64,
    /// The code of the peer's goodbye.
    pub(crate) code: Option<u16>,
}

/// What ended a connection, for code that decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReasonKind {
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
    /// A callback sent what cannot be sent: too large, or a kind or delimiter not allowed.
    Unsendable,
    /// The system failed: see the text.
    System,
    /// Nobody answered at the address, or not in time.
    Unreachable,
    /// A callback panicked.
    Panicked,
}

impl Reason {
    pub(crate) fn new(kind: ReasonKind, detail: impl Into<Box<str>>) -> Self {
        Self { kind, detail: detail.into(), unsent_bytes: 0, code: None }
    }

    /// What ended it.
    pub fn kind(&self) -> ReasonKind {
        self.kind
    }

    /// Whose doing it was.
    pub fn fault(&self) -> Fault {
        match self.kind {
            ReasonKind::Ended
            | ReasonKind::Reset
            | ReasonKind::Protocol
            | ReasonKind::NotAdmitted
            | ReasonKind::Silent
            | ReasonKind::TooSlow
            | ReasonKind::QueueFull => Fault::Peer,
            ReasonKind::Closed | ReasonKind::Shutdown | ReasonKind::Unsendable => Fault::You,
            ReasonKind::System | ReasonKind::Unreachable | ReasonKind::Busy => Fault::System,
            ReasonKind::Panicked => Fault::Bug,
        }
    }

    /// The code of the goodbye that the peer said, where it said one: see PROTOCOL.md, or the
    /// application's own from 1000 on.
    pub fn code(&self) -> Option<u16> {
        self.code
    }

    /// Bytes that were queued for the peer and never handed to the system.
    pub fn unsent_bytes(&self) -> u64 {
        self.unsent_bytes
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.kind {
            ReasonKind::Ended => "the peer ended the connection",
            ReasonKind::Reset => "the peer reset the connection",
            ReasonKind::Protocol => "the peer broke the protocol",
            ReasonKind::NotAdmitted => "the peer was not admitted",
            ReasonKind::Silent => "the peer went silent",
            ReasonKind::TooSlow => "the peer was too slow",
            ReasonKind::QueueFull => "the peer does not read and the send queue is full",
            ReasonKind::Busy => "a bound of the endpoint was reached",
            ReasonKind::Closed => "closed by the program",
            ReasonKind::Shutdown => "the endpoint shuts down",
            ReasonKind::Unsendable => "the program sent what cannot be sent",
            ReasonKind::System => "the system failed",
            ReasonKind::Unreachable => "the address could not be reached",
            ReasonKind::Panicked => "a callback panicked",
        };
        f.write_str(text)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", Escaped(&self.detail))?;
        }
        if self.unsent_bytes > 0 {
            write!(f, " ({} bytes unsent)", self.unsent_bytes)?;
        }
        Ok(())
    }
}

/// A text of somebody else's, for a log: what could move the cursor, or turn the direction of
/// writing, is escaped; the rest, quotes included, stays as it is.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            c if c.is_control() => write!(f, "{}", c.escape_default()),
            // Marks, embeddings, overrides and isolates of bidirectional text.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                write!(f, "{}", c.escape_unicode())
            }
            c => write!(f, "{c}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_cannot_forge_a_line_of_the_log_and_reads_well() {
        let reason = Reason::new(ReasonKind::Ended, "\"bye\"\r\nERROR \u{202e}x\u{1b}[2J");
        let text = "the peer ended the connection: \"bye\"\\r\\nERROR \\u{202e}x\\u{1b}[2J";
        assert_eq!(reason.to_string(), text);
    }
}
