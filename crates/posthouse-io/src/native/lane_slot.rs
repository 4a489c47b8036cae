//! The slot of a pinned lane, until its worker starts.

use std::io;

use rustix::net::SocketFlags;

use crate::address::Address;
use crate::handle::Listener;
use crate::native::completion_queue::Totals;
use crate::native::lane_remote::LaneRemote;
use crate::native::native_lanes::NativeLanes;
use crate::native::services::Services;
use crate::options::ListenOptions;
use crate::sync::{Arc, Mutex, lock};
use crate::sys;
use crate::token::LaneId;

/// The system object that the worker of a pinned lane waits on.
pub(crate) trait LaneSource: Send + 'static {
    /// The items that other threads inject into the lane.
    type Injected: Send + 'static;
    type Lane;
    /// The flags that decide whether calls on a listener block.
    const BLOCKING: SocketFlags;

    /// Returns the lane, made on the worker's thread.
    fn open(
        self,
        lane: LaneId,
        services: Arc<Services>,
        remote: Arc<LaneRemote<Self::Injected>>,
    ) -> Self::Lane;
}

/// A pinned lane's slot for its worker.
#[derive(Debug)]
pub(crate) struct LaneSlot<S: LaneSource> {
    remote: Arc<LaneRemote<S::Injected>>,
    /// The object to wait on, until the worker takes it.
    source: Mutex<Option<S>>,
}

impl<S: LaneSource> LaneSlot<S> {
    pub(crate) fn new(remote: LaneRemote<S::Injected>, source: S) -> Self {
        Self { remote: Arc::new(remote), source: Mutex::new(Some(source)) }
    }
}

impl<S: LaneSource> NativeLanes for Vec<LaneSlot<S>> {
    type Lane = S::Lane;
    type Seat = (Arc<LaneRemote<S::Injected>>, S);

    fn count(&self) -> usize {
        self.len()
    }

    fn listen(&self, address: Address, options: ListenOptions) -> io::Result<Listener> {
        let (fd, local) = sys::listen(address, options, S::BLOCKING)?;
        Ok(Listener { handle: Box::new(fd), local })
    }

    fn take(&self, lane: LaneId) -> Self::Seat {
        let LaneSlot { remote, source } = &self[lane.index()];
        let source = lock(source).take().expect("one worker to a pinned lane");
        (remote.clone(), source)
    }

    fn open((remote, source): Self::Seat, lane: LaneId, services: Arc<Services>) -> Self::Lane {
        source.open(lane, services, remote)
    }

    fn wake(&self, lane: LaneId) {
        self[lane.index()].remote.wake();
    }

    fn totals(&self) -> Totals {
        Totals::of(self.iter().map(|slot| &*slot.remote.counters))
    }
}
