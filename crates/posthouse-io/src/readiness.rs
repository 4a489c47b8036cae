//! The readiness backend: epoll, edge-triggered, and non-blocking calls.
//!
//! A socket is registered once for its life; after that only its state changes: its readiness
//! ([`socket::SocketState::on_event`]) and its pending operations. A socket that has both is polled
//! from [`Lane::next_completion`](crate::Lane::next_completion), for one buffer at a time. Receive
//! buffers are taken when there is something to read, so an idle connection holds none.
//!
//! | file | content |
//! |---|---|
//! | `socket` | one socket: its readiness, its operations, the calls that serve them |
//! | `pinned`, `shared` | the two layouts, which differ in the owner of the sockets and the queue |
//! | `poller` | epoll |

mod pinned;
mod poller;
mod sendfile;
mod shared;
mod socket;

use std::io;

use rustix::net::SocketFlags;

use crate::native::lane_remote::LaneRemote;
use crate::native::lane_slot::{LaneSlot, LaneSource};
use crate::native::services::Services;
use crate::sync::Arc;
use crate::sys;
use crate::token::LaneId;

pub(crate) use self::pinned::PinnedLane;
pub(crate) use self::poller::Poller;
use self::sendfile::Injected;
pub(crate) use self::shared::{ReadinessCore, SharedLane};

/// Opens the slots of `count` pinned lanes.
pub(crate) fn lane_slots(count: usize) -> io::Result<Vec<LaneSlot<Poller>>> {
    let lane_slot = |_| {
        let (poller, waker) = poller::open()?;
        Ok(LaneSlot::new(LaneRemote::new(waker), poller))
    };
    (0..count).map(lane_slot).collect()
}

impl LaneSource for Poller {
    type Injected = Injected;
    type Lane = PinnedLane;
    const BLOCKING: SocketFlags = sys::NON_BLOCKING;

    fn open(
        self,
        lane: LaneId,
        services: Arc<Services>,
        remote: Arc<LaneRemote<Injected>>,
    ) -> PinnedLane {
        PinnedLane::new(lane, services, remote, self)
    }
}
