//! A worker's end of the completion port.

use std::time::Duration;

use crate::address::Address;
use crate::buffer::Buffer;
#[cfg(windows)]
use crate::iocp;
use crate::operation::{Completion, NewSocket, Op};
use crate::port::Listener;
#[cfg(target_os = "linux")]
use crate::readiness;
use crate::sim;
use crate::token::{LaneId, Socket, Tag};
#[cfg(target_os = "linux")]
use crate::uring;
#[cfg(any(target_os = "linux", windows))]
use crate::worker::{IoStep, Turn, run_step};

/// What to cancel on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// Pending receives only. Bytes that were already received are still delivered.
    Receives,
    /// Everything that is in flight on the socket.
    Everything,
}

/// From so many bytes on a system's own way from a file to a socket is worth its calls. (Measured:
/// 10 KiB are sent from memory in as much time, or a little less.)
#[cfg(any(target_os = "linux", windows))]
const FILE_PART_WORTH: usize = 32 * 1024;

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
    #[expect(clippy::should_implement_trait, reason = "a lane is no iterator: more comes later")]
    pub fn next(&mut self) -> Option<Completion> {
        each!(self, lane => lane.next())
    }

    /// Whether the step should end here although it has more to do. Only the simulation says so, to
    /// let other workers interleave at places where real threads would; ask between two units of
    /// work, and answer with [`Turn::Again`](crate::Turn::Again).
    pub fn yields(&mut self) -> bool {
        match &mut self.kind {
            LaneKind::Simulated(lane) => lane.yields(),
            #[cfg(target_os = "linux")]
            LaneKind::Pinned(_) | LaneKind::Shared(_) | LaneKind::Uring(_) => false,
            #[cfg(windows)]
            LaneKind::Iocp(_) => false,
        }
    }

    /// Whether so many bytes of a file are better sent as a [`FilePart`](crate::FilePart) than read
    /// and sent as memory, where they are wanted for nothing else. On readiness and on server
    /// editions of Windows they are, unless they are few. On io_uring they are not: it is the same
    /// work. Nor on other editions of Windows, which carry out two such sends at a time, in the
    /// whole system, and let the rest wait. The simulation draws lots each time.
    pub fn prefers_file(&mut self, bytes: usize) -> bool {
        match &mut self.kind {
            #[cfg(target_os = "linux")]
            LaneKind::Pinned(_) | LaneKind::Shared(_) => bytes >= FILE_PART_WORTH,
            #[cfg(target_os = "linux")]
            LaneKind::Uring(_) => false,
            #[cfg(windows)]
            LaneKind::Iocp(lane) => bytes >= FILE_PART_WORTH && lane.prefers_files(),
            LaneKind::Simulated(lane) => lane.prefers_files(),
        }
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

    /// Says that an operation on files, or a look-up, is awaited no longer. A request, not an
    /// operation: its completion may still come, and is taken as any other; but a lane that goes
    /// does not wait for it, and a simulation does not ask for it. What the operation owns stays
    /// its own: it is leaked if the system never ends it.
    pub fn give_up(&mut self, tag: Tag) {
        match &mut self.kind {
            // They wait for nothing when they go: the disk's threads have these operations.
            #[cfg(target_os = "linux")]
            LaneKind::Pinned(_) | LaneKind::Shared(_) => {}
            #[cfg(target_os = "linux")]
            LaneKind::Uring(lane) => lane.give_up(tag),
            #[cfg(windows)]
            LaneKind::Iocp(lane) => lane.give_up(),
            LaneKind::Simulated(lane) => lane.give_up(tag),
        }
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
        each!(self, lane => lane.adopt(new))
    }

    /// Registers a listener with this lane.
    pub fn adopt_listener(&mut self, listener: Listener) -> Socket {
        each!(self, lane => lane.adopt_listener(listener))
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
            match &mut self.kind {
                #[cfg(target_os = "linux")]
                LaneKind::Pinned(lane) => lane.wait(sleep),
                #[cfg(target_os = "linux")]
                LaneKind::Shared(lane) => lane.wait(sleep),
                #[cfg(target_os = "linux")]
                LaneKind::Uring(lane) => lane.wait(sleep),
                #[cfg(windows)]
                LaneKind::Iocp(lane) => lane.wait(sleep),
                LaneKind::Simulated(_) => unreachable!("a simulated lane has no thread"),
            }
        }
    }
}
