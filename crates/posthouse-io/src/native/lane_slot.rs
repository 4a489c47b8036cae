//! The slot of a pinned lane, until its worker starts.

use crate::native::lane_remote::LaneRemote;
use crate::op::Completion;
use crate::sync::{Arc, Mutex, lock};

/// A pinned lane's slot for its worker.
#[derive(Debug)]
pub(crate) struct LaneSlot<S, T = Completion> {
    remote: Arc<LaneRemote<T>>,
    /// What the worker waits with, until it takes it.
    source: Mutex<Option<S>>,
}

impl<S, T> LaneSlot<S, T> {
    pub(crate) fn new(remote: LaneRemote<T>, source: S) -> Self {
        Self { remote: Arc::new(remote), source: Mutex::new(Some(source)) }
    }

    /// Takes the source, for the one worker of the lane.
    pub(super) fn take(&self) -> (Arc<LaneRemote<T>>, S) {
        let source = lock(&self.source).take().expect("one worker to a pinned lane");
        (self.remote.clone(), source)
    }

    pub(super) fn remote(&self) -> &LaneRemote<T> {
        &self.remote
    }
}
