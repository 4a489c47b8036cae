//! The phases of a connection, each with what it has.

use std::time::Duration;

use posthouse_io::{Address, Error, Socket};

use crate::disconnect::DisconnectReason;
use crate::target::Target;

/// The phase of a connection. It only ever moves down this list, and only between callbacks: what
/// a callback asks for is a request until the callback has returned.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Nothing has been started.
    New,
    /// The target's name is being looked up, or its addresses are being tried.
    Connecting(Box<Connecting>),
    /// The socket is up; hello, or its proof, is awaited. The handler knows of nothing.
    Opening(Opening),
    /// The handler knows the connection.
    Open(Open),
    /// This side ends gracefully: what is queued goes out, what comes in is discarded.
    Draining(Ending),
    /// This side's stream has ended; the peer's end is awaited.
    Lingering(Ending),
    /// What is in flight has been cancelled and is awaited.
    Joining(Box<Joining>),
    /// The handles are being closed.
    Closing(Box<Farewell>),
    /// The handler has been told; the slot can be released.
    Gone,
    /// Gone, and it stays for the late ends of what it was abandoned for.
    Abandoned,
}

/// An outgoing connection that is not up yet.
#[derive(Debug)]
pub(crate) struct Connecting {
    pub(super) target: Target,
    /// The time at which the attempt as a whole has failed.
    pub(super) until: Duration,
    pub(super) stage: ConnectStage,
    /// The error of the last attempt that failed.
    pub(super) error: Option<Error>,
}

/// The stage of an outgoing connection.
#[derive(Debug)]
pub(crate) enum ConnectStage {
    /// The look-up is in flight.
    Resolving,
    /// Attempts are in flight.
    Trying {
        /// The addresses that have not been tried, in order.
        untried: std::vec::IntoIter<Address>,
        attempts: Vec<Attempt>,
        /// The number of the next attempt.
        begun: u8,
    },
}

/// A connect that is in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// The sequence number in the tag of its operations.
    pub(super) number: u8,
    pub(super) socket: Socket,
    pub(super) address: Address,
}

/// A connection that is up and has not said hello.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(super) socket: Socket,
    pub(super) until: Duration,
    /// The target, if this side connects.
    pub(super) target: Option<Box<Target>>,
}

/// A connection that the handler knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub(super) socket: Socket,
    pub(super) awaits: Awaits,
}

/// What an open connection must show, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaits {
    /// Nothing has a deadline.
    Nothing,
    /// The handler has yet to admit the peer.
    Admission(Duration),
    /// The peer has yet to send its first message.
    FirstMessage(Duration),
    /// The peer has ended its stream, and its last requests and files are seen to.
    Answers(Duration),
}

impl Connecting {
    pub(super) fn is_resolving(&self) -> bool {
        matches!(self.stage, ConnectStage::Resolving)
    }

    /// Takes the attempt of this number out of the list.
    pub(super) fn take_attempt(&mut self, number: u8) -> Option<Attempt> {
        let ConnectStage::Trying { attempts, .. } = &mut self.stage else { return None };
        let index = attempts.iter().position(|attempt| attempt.number == number)?;
        Some(attempts.swap_remove(index))
    }
}

impl Awaits {
    pub(super) fn until(self) -> Option<Duration> {
        match self {
            Awaits::Nothing => None,
            Awaits::Admission(at) | Awaits::FirstMessage(at) | Awaits::Answers(at) => Some(at),
        }
    }
}

/// A connection that ends gracefully.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(super) socket: Socket,
    /// The time at which the grace is over; `None` once it is.
    pub(super) until: Option<Duration>,
    pub(super) farewell: Box<Farewell>,
}

/// A connection that waits for its operations in flight.
#[derive(Debug)]
pub(crate) struct Joining {
    /// The sockets to close when nothing is in flight: one, or one for each attempt to connect.
    pub(super) sockets: Vec<Socket>,
    pub(super) farewell: Farewell,
}

/// What remains to be told at the end.
#[derive(Debug)]
pub(crate) struct Farewell {
    pub(super) reason: DisconnectReason,
    pub(super) report: Report,
}

/// Who hears of the end.
#[derive(Debug)]
pub(crate) enum Report {
    /// `connected` was called: `disconnected` follows.
    Disconnected,
    /// The target was not reached: `connect_failed` follows.
    ConnectFailed(Box<Target>),
    /// The handler never knew of the connection.
    Nobody,
}

impl Phase {
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Phase::Open(_))
    }

    /// Returns whether the peer's frames are read and mean something.
    pub(super) fn takes_frames(&self) -> bool {
        matches!(self, Phase::Opening(_) | Phase::Open(_))
    }

    /// Returns whether the end has begun.
    pub(super) fn is_ending(&self) -> bool {
        !matches!(self, Phase::New | Phase::Connecting(_) | Phase::Opening(_) | Phase::Open(_))
    }

    /// Returns the socket while output may leave on it.
    pub(super) fn sending_socket(&self) -> Option<Socket> {
        match self {
            Phase::Opening(Opening { socket, .. })
            | Phase::Open(Open { socket, .. })
            | Phase::Draining(Ending { socket, .. }) => Some(*socket),
            _ => None,
        }
    }

    /// Returns the time at which this phase has lasted too long.
    pub(super) fn until(&self) -> Option<Duration> {
        match self {
            Phase::Connecting(connecting) => Some(connecting.until),
            Phase::Opening(opening) => Some(opening.until),
            Phase::Open(open) => open.awaits.until(),
            Phase::Draining(ending) | Phase::Lingering(ending) => ending.until,
            Phase::New | Phase::Joining(_) | Phase::Closing(_) | Phase::Gone | Phase::Abandoned => {
                None
            }
        }
    }

    /// Returns who will hear of the end, and the sockets to close; the phase is over.
    pub(super) fn leave(self) -> (Vec<Socket>, Report) {
        match self {
            Phase::Connecting(connecting) => {
                let Connecting { target, stage, .. } = *connecting;
                let sockets = match stage {
                    ConnectStage::Resolving => Vec::new(),
                    ConnectStage::Trying { attempts, .. } => {
                        attempts.iter().map(|attempt| attempt.socket).collect()
                    }
                };
                (sockets, Report::ConnectFailed(Box::new(target)))
            }
            Phase::Opening(Opening { socket, target, .. }) => {
                (vec![socket], target.map_or(Report::Nobody, Report::ConnectFailed))
            }
            Phase::Open(Open { socket, .. }) => (vec![socket], Report::Disconnected),
            _ => (Vec::new(), Report::Nobody),
        }
    }
}
