//! The phases of a connection, each with its data.

use std::time::Duration;

use posthouse_io::{Address, Error, Socket};

use crate::disconnect::DisconnectReason;
use crate::target::Target;

/// The phase of a connection. It only ever moves down this list, and only between callbacks: the
/// close that a callback requests begins when the callback has returned.
#[derive(Debug)]
pub(crate) enum Phase {
    /// The connection is new: no operation of it has been submitted.
    New,
    /// The target's name is being looked up, or its addresses are being tried.
    Connecting(Box<Connecting>),
    /// The socket is connected, and this side waits for the peer's hello or proof. `connected` has
    /// not been called.
    Opening(Opening),
    /// `connected` has been called.
    Open(Open),
    /// This side closes gracefully: it sends the queued output and discards input.
    Draining(Ending),
    /// This side has ended its stream, and waits for the peer to end the other side.
    Lingering(Ending),
    /// The operations in flight have been cancelled, and their completions are awaited.
    Joining(Box<Joining>),
    /// The handles are being closed.
    Closing(Box<Farewell>),
    /// The last callback has run; the slot can be released.
    Gone,
    /// The connection has ended, and stays for the late completions of its abandoned operations.
    Abandoned,
}

/// An outgoing connection that is not established yet.
#[derive(Debug)]
pub(crate) struct Connecting {
    pub(super) target: Target,
    /// The deadline of the whole attempt.
    pub(super) until: Duration,
    pub(super) stage: ConnectStage,
    /// The error of the last attempt that failed.
    pub(super) error: Option<Error>,
}

/// The stage of an outgoing connection.
#[derive(Debug)]
pub(crate) enum ConnectStage {
    /// The look-up is in flight. It can be cancelled, and completes at once then.
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
    /// The sequence number in the tag of the attempt's operations.
    pub(super) number: u8,
    pub(super) socket: Socket,
    pub(super) address: Address,
}

/// A connection whose socket is connected, before the end of the hello exchange.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(super) socket: Socket,
    pub(super) until: Duration,
    /// The target, if this side connects.
    pub(super) target: Option<Box<Target>>,
}

/// A connection whose handler's `connected` has been called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub(super) socket: Socket,
    pub(super) awaits: Awaits,
}

/// The event that an open connection waits for, and its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaits {
    /// The connection waits for no event with a deadline.
    Nothing,
    /// The admission of the peer by the handler.
    Admission(Duration),
    /// The first message of the peer.
    FirstMessage(Duration),
    /// The answers to the last requests, and the ends of the last transfers, of a peer that has
    /// ended its stream.
    Answers(Duration),
}

impl Connecting {
    pub(super) fn is_resolving(&self) -> bool {
        matches!(self.stage, ConnectStage::Resolving)
    }

    /// Removes the attempt with this number from the list.
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

/// A connection that closes gracefully.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(super) socket: Socket,
    /// The deadline of the graceful close; `None` once it has passed.
    pub(super) until: Option<Duration>,
    pub(super) farewell: Box<Farewell>,
}

/// A connection that waits for its operations in flight to complete.
#[derive(Debug)]
pub(crate) struct Joining {
    /// The sockets to close when no operation is in flight: one, or one for each attempt to
    /// connect.
    pub(super) sockets: Vec<Socket>,
    pub(super) farewell: Farewell,
}

/// The reason of the end, and the callback that gets it.
#[derive(Debug)]
pub(crate) struct Farewell {
    pub(super) reason: DisconnectReason,
    pub(super) report: Report,
}

/// The last callback of a connection, which follows when its sockets are closed.
#[derive(Debug)]
pub(crate) enum Report {
    /// `connected` was called: `disconnected` follows.
    Disconnected,
    /// The target was not reached: `connect_failed` follows.
    ConnectFailed(Box<Target>),
    /// The connection was accepted and ended before `connected`: no callback follows.
    Nobody,
}

impl Phase {
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Phase::Open(_))
    }

    /// Returns whether the peer's frames are read and handled.
    pub(super) fn takes_frames(&self) -> bool {
        matches!(self, Phase::Opening(_) | Phase::Open(_))
    }

    /// Returns whether the connection has begun to end.
    pub(super) fn is_ending(&self) -> bool {
        !matches!(self, Phase::New | Phase::Connecting(_) | Phase::Opening(_) | Phase::Open(_))
    }

    /// Returns the socket if output may be sent on it.
    pub(super) fn sending_socket(&self) -> Option<Socket> {
        match self {
            Phase::Opening(Opening { socket, .. })
            | Phase::Open(Open { socket, .. })
            | Phase::Draining(Ending { socket, .. }) => Some(*socket),
            _ => None,
        }
    }

    /// Returns the deadline of this phase.
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

    /// Ends the phase. Returns the sockets to close, and the last callback of the connection:
    /// `disconnected`, `connect_failed` or none.
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
