//! The io_uring backend: one ring for each I/O worker, in the pinned layout.
//!
//! A worker submits and waits in one system call. One request accepts many peers, and one request
//! receives many times (multishot). Received bytes arrive in buffers that were provided to the
//! ring. Four rules here keep memory and handles safe:
//!
//! - The memory that a request uses does not move before the request's last completion. It belongs
//!   to the state of the socket (a send), to the operation on a file, or to the buffer group.
//! - A socket is closed only when no request refers to it any more; cancels count as requests.
//! - Requests are performed in the order in which they were queued. A request that finds the queue
//!   full waits in the lane; none is lost.
//! - A ring is drained before it is dropped. A plain `drop` is not safe: the kernel wrote into a
//!   buffer after the ring was dropped (Linux 6.18, in 8 to 27 of 600 trials).
//!
//! | file | content |
//! |---|---|
//! | `lane` | a worker's access to the ring: operations in, completions out |
//! | `socket` | the state of one socket and its requests in flight |
//! | `watching` | the watch of a socket that is not received from |
//! | `send` | the memory of a send |
//! | `file_ops` | reads, writes and syncs of files, and their memory |
//! | `ring` | the queues that are shared with the kernel |
//! | `group` | the buffers that the kernel receives into |
//! | `request` | the identification of completions |
//! | `probe` | the test whether this machine supports the backend |

mod file_ops;
mod group;
mod lane;
mod probe;
mod request;
mod ring;
mod send;
mod socket;
mod watching;

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

/// Opens the slots of `count` lanes.
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
