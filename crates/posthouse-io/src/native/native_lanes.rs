//! The trait that the lanes of each backend implement.

use std::io;

use crate::address::Address;
use crate::handle::Listener;
use crate::native::completion_queue::Totals;
use crate::native::services::Services;
use crate::options::ListenOptions;
use crate::sync::Arc;
use crate::token::LaneId;

/// The lanes of one backend.
pub(crate) trait NativeLanes {
    /// The access of a worker to its lane.
    type Lane;
    /// The part of a lane that its worker takes to its thread.
    type Seat: Send + 'static;

    fn count(&self) -> usize;

    fn listen(&self, address: Address, options: ListenOptions) -> io::Result<Listener>;

    /// Takes a seat for a worker that is about to start. A pinned lane has one seat (asserted).
    fn take(&self, lane: LaneId) -> Self::Seat;

    /// Returns the lane of a seat, made on the worker's thread.
    fn open(seat: Self::Seat, lane: LaneId, services: Arc<Services>) -> Self::Lane;

    fn wake(&self, lane: LaneId);

    fn totals(&self) -> Totals;
}
