//! A worker's end of the completion port.

use std::time::Duration;

use crate::address::Address;
use crate::buffer::Buffer;
use crate::handle::{Listener, NewSocket};
#[cfg(windows)]
use crate::iocp;
use crate::lane_ops::LaneOps as _;
use crate::op::{Cancel, Completion, Op};
#[cfg(target_os = "linux")]
use crate::readiness;
use crate::sim;
use crate::token::{LaneId, Socket, Tag};
use crate::turn::Turn;
#[cfg(any(target_os = "linux", windows))]
use crate::turn::run_step;

/// An I/O worker's step.
pub(crate) type IoStep = Box<dyn FnMut(&mut Lane) -> Turn + Send>;
#[cfg(target_os = "linux")]
use crate::uring;

/// What an I/O worker holds while it runs a step: it takes completions and submits operations.
///
/// In the shared layout several workers have one each on the same queue.
#[derive(Debug)]
pub struct Lane {
    pub(crate) kind: LaneKind,
}

#[derive(Debug)]
#[cfg_attr(
    target_os = "linux",
    expect(clippy::large_enum_variant, reason = "there is one for each worker, and it stays put")
)]
pub(crate) enum LaneKind {
    #[cfg(target_os = "linux")]
    Pinned(readiness::PinnedLane),
    #[cfg(target_os = "linux")]
    Shared(readiness::SharedLane),
    #[cfg(target_os = "linux")]
    Uring(uring::UringLane),
    #[cfg(windows)]
    Iocp(iocp::IocpLane),
    Simulated(sim::SimLane),
}

macro_rules! each {
    ($self:expr, $lane:ident => $call:expr) => {
        match &mut $self.kind {
            #[cfg(target_os = "linux")]
            LaneKind::Pinned($lane) => $call,
            #[cfg(target_os = "linux")]
            LaneKind::Shared($lane) => $call,
            #[cfg(target_os = "linux")]
            LaneKind::Uring($lane) => $call,
            #[cfg(windows)]
            LaneKind::Iocp($lane) => $call,
            LaneKind::Simulated($lane) => $call,
        }
    };
}

impl Lane {
    /// Which lane this is.
    pub fn id(&mut self) -> LaneId {
        each!(self, lane => lane.id())
    }

    /// Time since the port was opened, read once per step.
    pub fn now(&mut self) -> Duration {
        each!(self, lane => lane.now())
    }

    /// The next completion: from the lane's local queue first, then from the system. `None`: there
    /// is none, or this step has had its share (256; in the shared layout 16).
    pub fn next_completion(&mut self) -> Option<Completion> {
        each!(self, lane => lane.next_completion())
    }

    /// Returns whether the step should end here although it has more to do. Only the simulation
    /// returns true, to let other workers interleave as real threads would. Ask between two units
    /// of work, and return [`Turn::Again`].
    pub fn should_yield(&mut self) -> bool {
        each!(self, lane => lane.should_yield())
    }

    /// Returns whether this many bytes of a file are better sent as a [`FilePart`](crate::FilePart)
    /// than read and sent from memory, if they are needed for nothing else. On readiness and on
    /// server editions of Windows they are, unless they are few. On io_uring they are not: the work
    /// is the same. Nor on other editions of Windows, which perform two such sends at a time, in
    /// the whole system, and let the rest wait. The simulation chooses at random.
    pub fn prefers_sendfile(&mut self, bytes: usize) -> bool {
        each!(self, lane => lane.prefers_sendfile(bytes))
    }

    /// Submits an operation. It never blocks and never fails: a failure is its completion.
    pub fn submit(&mut self, tag: Tag, op: Op) {
        each!(self, lane => lane.submit(tag, op));
    }

    /// Asks for the end of what is in flight on the socket. A request, not an operation: what it
    /// ends completes with [`Failure::Cancelled`](crate::Failure::Cancelled), what was already done
    /// completes as it did.
    pub fn cancel(&mut self, socket: Socket, what: Cancel) {
        each!(self, lane => lane.cancel(socket, what));
    }

    /// Abandons a file operation or a look-up: nobody awaits it any more. This is a request, not an
    /// operation. The completion may still come, and is taken like any other; but a lane that is
    /// dropped does not wait for it, and a simulation does not require it. The operation keeps what
    /// it owns, which is leaked if the system never ends it.
    pub fn abandon(&mut self, tag: Tag) {
        each!(self, lane => lane.abandon(tag));
    }

    /// Ends this side's stream after what has been sent (the peer sees a clean end).
    pub fn shutdown(&mut self, socket: Socket) {
        each!(self, lane => lane.shutdown(socket));
    }

    /// Resets the connection: the peer sees a reset, unsent bytes are discarded, what is in flight
    /// fails. The socket must still be closed.
    pub fn reset(&mut self, socket: Socket) {
        each!(self, lane => lane.reset(socket));
    }

    /// A new socket to connect with. It takes no handle before [`Op::Connect`] is submitted.
    pub fn socket(&mut self) -> Socket {
        each!(self, lane => lane.socket())
    }

    /// Registers an accepted socket with this lane.
    pub fn adopt(&mut self, new: NewSocket) -> Socket {
        each!(self, lane => lane.adopt(new.handle))
    }

    /// Registers a listener with this lane.
    pub fn adopt_listener(&mut self, listener: Listener) -> Socket {
        each!(self, lane => lane.adopt_listener(listener.handle))
    }

    /// This end's address; `None` where the system does not say (a socket that is gone).
    pub fn local_address(&mut self, socket: Socket) -> Option<Address> {
        each!(self, lane => lane.local_address(socket))
    }

    /// Gives a buffer back to this lane without a lock (dropping it is right, too).
    pub fn recycle(&mut self, buffer: Buffer) {
        each!(self, lane => lane.recycle(buffer));
    }
}

#[cfg(any(target_os = "linux", windows))]
impl Lane {
    /// The loop of an I/O worker.
    pub(crate) fn run(mut self, mut step: IoStep) {
        loop {
            let sleep = match run_step(|| step(&mut self)) {
                Turn::Again => Some(Duration::ZERO),
                Turn::Sleep(sleep) => sleep,
                Turn::Done => return,
            };
            each!(self, lane => lane.wait(sleep));
        }
    }
}

/// Makes the lane of a backend one of this port's.
macro_rules! from {
    ($lane:ty, $kind:ident) => {
        impl From<$lane> for Lane {
            fn from(lane: $lane) -> Self {
                Self { kind: LaneKind::$kind(lane) }
            }
        }
    };
}

#[cfg(target_os = "linux")]
from!(readiness::PinnedLane, Pinned);
#[cfg(target_os = "linux")]
from!(readiness::SharedLane, Shared);
#[cfg(target_os = "linux")]
from!(uring::UringLane, Uring);
#[cfg(windows)]
from!(iocp::IocpLane, Iocp);
