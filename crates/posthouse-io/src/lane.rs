//! A worker's access to the completion port.

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

/// The step of an I/O worker.
pub(crate) type IoStep = Box<dyn FnMut(&mut Lane) -> Turn + Send>;
#[cfg(target_os = "linux")]
use crate::uring;

/// A worker's access to the port during a step: it takes completions and submits operations.
///
/// In the shared layout each worker has a `Lane` of its own, and all of them use the same queue.
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
    /// Returns the lane's number.
    pub fn id(&mut self) -> LaneId {
        each!(self, lane => lane.id())
    }

    /// Returns the time since the port was opened, read once per step.
    pub fn now(&mut self) -> Duration {
        each!(self, lane => lane.now())
    }

    /// Returns the next completion, from the lane's local queue first, then from the system.
    /// Returns `None` if there is none, or if this step has taken its maximum (256; 16 in the
    /// shared layout).
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
    /// than read and sent from memory, if the caller needs the bytes for nothing else. Readiness
    /// and server editions of Windows return true for 32 KiB or more. io_uring returns false,
    /// because the work is the same. Other editions of Windows return false, because the whole
    /// system performs only two such sends at a time and the rest wait. The simulation chooses at
    /// random.
    pub fn prefers_sendfile(&mut self, bytes: usize) -> bool {
        each!(self, lane => lane.prefers_sendfile(bytes))
    }

    /// Submits an operation. It never blocks and never fails: a failure arrives as the operation's
    /// completion.
    pub fn submit(&mut self, tag: Tag, op: Op) {
        each!(self, lane => lane.submit(tag, op));
    }

    /// Requests the end of operations in flight on the socket. This is a request, not an operation:
    /// an operation that it ends completes with [`Failure::Cancelled`](crate::Failure::Cancelled),
    /// and an operation that was already done keeps its result.
    pub fn cancel(&mut self, socket: Socket, what: Cancel) {
        each!(self, lane => lane.cancel(socket, what));
    }

    /// Requests the end of the look-up with this tag: it completes at once with
    /// [`Failure::Cancelled`](crate::Failure::Cancelled), unless it has its result already. The
    /// look-up of the system, which cannot be cancelled, owns nothing of the operation, and its
    /// late answer is dropped.
    pub fn cancel_look_up(&mut self, tag: Tag) {
        each!(self, lane => lane.cancel_look_up(tag));
    }

    /// Abandons a file operation: nobody awaits it any more. This is a request, not an operation.
    /// The completion may still come, and is taken like any other. But a lane that is dropped does
    /// not wait for it, and a simulation does not require it. The operation keeps what it owns,
    /// which is leaked if the system never ends the operation.
    pub fn abandon(&mut self, tag: Tag) {
        each!(self, lane => lane.abandon(tag));
    }

    /// Ends this side's stream after all bytes that have been sent. The peer sees a clean end.
    pub fn shutdown(&mut self, socket: Socket) {
        each!(self, lane => lane.shutdown(socket));
    }

    /// Resets the connection: the peer sees a reset, unsent bytes are discarded, and operations in
    /// flight fail. The socket must still be closed.
    pub fn reset(&mut self, socket: Socket) {
        each!(self, lane => lane.reset(socket));
    }

    /// Returns a new socket to connect. It has no handle of the system before [`Op::Connect`] is
    /// submitted.
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

    /// Returns the local address of the socket, or `None` if the system does not report one (the
    /// connection is gone).
    pub fn local_address(&mut self, socket: Socket) -> Option<Address> {
        each!(self, lane => lane.local_address(socket))
    }

    /// Returns a buffer to this lane without a lock. Dropping the buffer is also correct.
    pub fn recycle(&mut self, buffer: Buffer) {
        each!(self, lane => lane.recycle(buffer));
    }
}

#[cfg(any(target_os = "linux", windows))]
impl Lane {
    /// Runs the loop of an I/O worker until its step returns [`Turn::Done`].
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

/// Implements `From` to make a [`Lane`] of the lane of a backend.
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
