//! The readiness backend: epoll, edge-triggered, and non-blocking calls.
//!
//! A socket is registered once for its life, and then only its record changes: what the events
//! said ([`record::Record::note`]) and what waits on it. A record that has both is visited from
//! [`Lane::next`](crate::Lane::next), for one buffer at a time. Receive buffers are taken when
//! there is something to read, so an idle connection holds none.
//!
//! | file | what it holds |
//! |---|---|
//! | `record` | one socket: its state, its operations, where they meet |
//! | `pinned`, `shared` | the two layouts: whose the records and the queue are |
//! | `poller` | epoll |

mod pinned;
mod poller;
mod record;
mod shared;

use std::io;

use crate::door::Door;
use crate::host::Seat;

pub(crate) use self::pinned::PinnedLane;
pub(crate) use self::poller::Poller;
pub(crate) use self::shared::{Core, SharedLane};

/// The places of `count` pinned lanes.
pub(crate) fn seats(count: usize) -> io::Result<Vec<Seat<Poller>>> {
    let seat = |_| {
        let (poller, alarm) = poller::open()?;
        Ok(Seat::new(Door::new(alarm), poller))
    };
    (0..count).map(seat).collect()
}
