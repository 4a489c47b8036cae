//! The reason for the end of a connection.

use std::fmt;
use std::time::Duration;

use posthouse_io::Failure;
use posthouse_wire::{Bye, Escaped};

/// The side that caused the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The peer ended or reset the connection, broke the protocol, was too slow or went silent.
    Peer,
    /// This program closed the connection, shut the endpoint down or sent an invalid message, or
    /// one of its callbacks panicked.
    Local,
    /// The network or a resource of the system failed, or a bound of the endpoint was reached.
    System,
}

/// The reason for the end of a connection, and the number of unsent bytes. Its `Display` text is
/// one line, fit for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisconnectReason {
    pub(crate) kind: DisconnectKind,
    pub(crate) detail: Box<str>,
    pub(crate) unsent_bytes: u64,
    /// The peer's goodbye.
    pub(crate) bye: Option<Box<Bye>>,
    /// The system's error number; zero if there is none.
    pub(crate) os_error: i32,
    pub(crate) fault: Fault,
}

/// The event that ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DisconnectKind {
    /// The peer ended its side of the stream, or said goodbye.
    Ended,
    /// The peer reset the connection.
    Reset,
    /// The peer broke the protocol: its frame was too large, unknown or out of order.
    Protocol,
    /// The peer did not prove that it knows the key, or the handler did not admit the peer in time.
    NotAdmitted,
    /// The peer was not admitted yet, and others needed its place
    /// ([`max_unadmitted`](crate::EndpointOptions::max_unadmitted), `max_connections`,
    /// `max_connections_per_address`).
    Evicted,
    /// The peer was silent for longer than the heartbeat allows.
    Silent,
    /// The peer was too slow: in sending a frame, in taking this side's output, or in taking a file
    /// while others waited for the memory or the open file of its transfer
    /// ([`file_memory_bytes`](crate::EndpointOptions::file_memory_bytes)).
    TooSlow,
    /// The peer did not read, and the send queue reached its bound.
    QueueFull,
    /// A bound of the endpoint was reached: the memory for partly received frames
    /// ([`assembly_bytes`](crate::EndpointOptions::assembly_bytes)).
    Busy,
    /// The program closed the connection.
    Closed,
    /// The endpoint shuts down.
    Shutdown,
    /// A callback sent an invalid message: too large, or with a forbidden kind or delimiter.
    Unsendable,
    /// The system failed. The `Display` text of the [`DisconnectReason`] contains the system's
    /// error.
    System,
    /// No address of the target accepted a connection in time.
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
            Kind::System | Kind::Unreachable | Kind::Busy | Kind::Evicted => Fault::System,
        }
    }
}

impl DisconnectReason {
    pub(crate) fn new(kind: DisconnectKind, detail: impl Into<Box<str>>) -> Self {
        let (detail, fault) = (detail.into(), kind.fault());
        Self { kind, detail, unsent_bytes: 0, bye: None, os_error: 0, fault }
    }

    /// Returns the reason for the end of a connection whose operation failed.
    pub(crate) fn of_failure(error: posthouse_io::Error) -> Self {
        let kind = match error.failure {
            Failure::Reset | Failure::NotConnected => DisconnectKind::Reset,
            Failure::TimedOut => DisconnectKind::Silent,
            _ => DisconnectKind::System,
        };
        let text = if kind == DisconnectKind::Reset { String::new() } else { error.to_string() };
        Self { os_error: error.code, ..Self::new(kind, text) }
    }

    /// The peer said goodbye.
    pub(crate) fn goodbye(bye: Bye) -> Self {
        // `Display` escapes the text.
        let colon = if bye.text.is_empty() { "" } else { ": " };
        let text = format!("goodbye with code {}{colon}{}", bye.code, bye.text);
        Self { bye: Some(Box::new(bye)), ..Self::new(DisconnectKind::Ended, text) }
    }

    /// Returns the event that ended the connection.
    pub fn kind(&self) -> DisconnectKind {
        self.kind
    }

    /// Returns the side that caused the end.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// Returns the code of the peer's goodbye, if it sent one. Codes from 1000 are the
    /// application's own; PROTOCOL.md lists the others.
    pub fn code(&self) -> Option<u16> {
        self.bye.as_ref().map(|bye| bye.code)
    }

    /// Returns the text of the peer's goodbye, if it sent one: at most 512 bytes, unchanged and not
    /// escaped.
    pub fn text(&self) -> Option<&str> {
        self.bye.as_ref().map(|bye| bye.text.as_str())
    }

    /// Returns the time that the peer's goodbye asks this side to wait before it reconnects, if the
    /// goodbye has one.
    pub fn retry_after(&self) -> Option<Duration> {
        self.bye.as_ref().and_then(|bye| bye.retry_after)
    }

    /// Returns the system's error number, if an operation of the system failed: `errno` on Linux, a
    /// Windows error code such as 10054 or 64 on Windows. The numbers vary between systems and for
    /// one cause; decide by [`kind`](Self::kind), and use the number to search for the cause.
    pub fn os_error(&self) -> Option<i32> {
        (self.os_error != 0).then_some(self.os_error)
    }

    /// Returns the number of bytes that were queued for the peer and never passed to the system.
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
            Kind::Evicted => "the peer was not admitted yet, and others needed its place",
            Kind::Silent => "the peer went silent",
            Kind::TooSlow => "the peer was too slow",
            Kind::QueueFull => "the peer does not read and the send queue is full",
            Kind::Busy => "a bound of the endpoint was reached",
            Kind::Closed => "closed by the program",
            Kind::Shutdown => "the endpoint shut down",
            Kind::Unsendable => "the program sent an invalid message",
            Kind::System => "the system failed",
            Kind::Unreachable => "the target could not be reached",
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

    /// The numbers that the operations on an established connection end with.
    #[test]
    fn each_number_of_the_system_has_its_reason() {
        use DisconnectKind::{Reset, Silent, System};
        #[cfg(windows)]
        let table = [
            // A call that fails at once, an operation that fails later.
            (10_054, Reset),
            (64, Reset),
            // The local system has aborted the connection: the same two.
            (10_053, System),
            (1236, System),
            (10_060, Silent),
            (121, Silent),
            (10_052, Silent),
            (10_057, Reset),
            (10_058, Reset),
            (10_050, System),
            (10_065, System),
            (1450, System),
        ];
        #[cfg(not(windows))]
        let table = [
            (104, Reset),
            (32, Reset),
            (107, Reset),
            (103, System),
            (110, Silent),
            (100, System),
            (101, System),
            (113, System),
            (12, System),
        ];
        for (code, kind) in table {
            let reason = DisconnectReason::of_failure(posthouse_io::Error::from_os(code));
            assert_eq!((reason.kind(), reason.os_error()), (kind, Some(code)));
            let is_peers = matches!(kind, Reset | Silent);
            assert_eq!(reason.fault() == Fault::Peer, is_peers, "{code}: {reason}");
            let is_named = reason.to_string().contains(&format!("(os error {code})"));
            assert_eq!(is_named, kind != Reset, "{code}: {reason}");
        }
    }

    #[test]
    fn a_reason_cannot_forge_a_line_of_the_log_and_reads_well() {
        let text = "\"bye\"\r\nERROR \u{202e}x\u{1b}[2J";
        let reason = DisconnectReason::new(DisconnectKind::Ended, text);
        let text = "the peer ended the connection: \"bye\"\\r\\nERROR \\u{202e}x\\u{1b}[2J";
        assert_eq!(reason.to_string(), text);
    }
}
