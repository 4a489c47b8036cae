//! The io_uring backend: one ring for each I/O worker, in the pinned layout.
//!
//! A worker submits and waits in one system call. Accepting and receiving are requests that go on
//! (multishot); received bytes come in buffers that the ring was provided with. What the system
//! needs to be right is kept here, in four rules:
//!
//! - Memory that a request uses stays where it is until the request's last completion. It belongs
//!   to the socket's state (a send), to the operation on a file, or to the buffer group.
//! - A socket is closed when no request names it any more: cancels are counted, too.
//! - Requests are carried out in the order in which they were queued. One that finds the queue
//!   full waits in the lane; none is lost.
//! - A ring is drained before it goes. `drop` alone is not safe: the kernel has been seen to write
//!   into a buffer after the ring was dropped (Linux 6.18, in 8 to 27 of 600 trials).
//!
//! | file | what it holds |
//! |---|---|
//! | `lane` | a worker's end: operations in, completions out |
//! | `socket` | one socket: its state and what is in flight on it |
//! | `send` | the memory of a send |
//! | `file_ops` | reads, writes and syncs of files, and their memory |
//! | `ring` | the queues that are shared with the kernel |
//! | `group` | the buffers that the kernel receives into |
//! | `request` | how completions find back |
//! | `probe` | whether this machine has what it takes |

mod file_ops;
mod group;
mod lane;
mod probe;
mod request;
mod ring;
mod send;
mod socket;

use std::io;

use rustix::net::SocketFlags;

use crate::buffer::BufferPool;
use crate::native::lane_remote::{LaneRemote, Waker};
use crate::native::lane_slot::{LaneSlot, LaneSource};
use crate::native::services::Services;
use crate::op::Completion;
use crate::sync::Arc;
use crate::sys;
use crate::token::LaneId;

pub(crate) use self::lane::UringLane;
pub(crate) use self::probe::probe;
pub(crate) use self::ring::Ring;
use self::ring::refused;

/// Makes the slots of `count` lanes.
pub(crate) fn lane_slots(count: usize, pool: &Arc<BufferPool>) -> io::Result<Vec<LaneSlot<Ring>>> {
    let waker = || Waker::new().map_err(|errno| refused("an eventfd", &errno.into()));
    let lane_slot = |_| Ok(LaneSlot::new(LaneRemote::new(waker()?), Ring::open(pool)?));
    (0..count).map(lane_slot).collect()
}

impl LaneSource for Ring {
    type Injected = Completion;
    type Lane = UringLane;
    const BLOCKING: SocketFlags = sys::BLOCKING;

    fn open(self, lane: LaneId, services: Arc<Services>, remote: Arc<LaneRemote>) -> UringLane {
        UringLane::new(lane, services, remote, self)
    }
}
