//! Receive buffers: pooled, safe, back in the pool when dropped.

use std::fmt;
use std::ops::Deref;

use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, lock};

/// Bytes that were received. Dropping it, on any thread, gives the memory back to its pool;
/// [`Lane::recycle`](crate::Lane::recycle) does the same without a lock.
pub struct Buffer {
    storage: Box<[u8]>,
    filled: usize,
    pool: Option<Arc<Pool>>,
}

impl Buffer {
    /// How many bytes of memory it holds, whatever number of them is filled.
    pub fn capacity(&self) -> usize {
        self.storage.len()
    }

    /// The whole memory, to receive into.
    pub(crate) fn storage_mut(&mut self) -> &mut [u8] {
        &mut self.storage
    }

    /// Says how many bytes have been received into it.
    pub(crate) fn set_filled(&mut self, filled: usize) {
        assert!(filled <= self.storage.len(), "more bytes received than the buffer holds");
        self.filled = filled;
    }

    fn into_storage(mut self) -> Box<[u8]> {
        if let Some(pool) = self.pool.take() {
            pool.outstanding.fetch_sub(1, Ordering::Relaxed);
        }
        std::mem::take(&mut self.storage)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.outstanding.fetch_sub(1, Ordering::Relaxed);
            pool.keep(std::mem::take(&mut self.storage));
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} of {} bytes)", self.filled, self.storage.len())
    }
}

/// The buffers that all lanes of a port share.
#[derive(Debug)]
pub(crate) struct Pool {
    buffer_bytes: usize,
    free_max: usize,
    free: Mutex<Vec<Box<[u8]>>>,
    outstanding: AtomicUsize,
}

impl Pool {
    pub(crate) fn new(buffer_bytes: usize, free_max: usize) -> Arc<Self> {
        Arc::new(Self {
            buffer_bytes,
            free_max,
            free: Mutex::new(Vec::new()),
            outstanding: AtomicUsize::new(0),
        })
    }

    /// Buffers that somebody holds now.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Buffers kept for later in the shared part.
    pub(crate) fn free(&self) -> usize {
        lock(&self.free).len()
    }

    fn keep(&self, storage: Box<[u8]>) {
        let mut free = lock(&self.free);
        if free.len() < self.free_max {
            free.push(storage);
        }
    }
}

/// A lane's own end of the pool: no lock while its few buffers go round.
#[derive(Debug)]
pub(crate) struct LanePool {
    pool: Arc<Pool>,
    free: Vec<Box<[u8]>>,
}

/// A lane keeps few and hot buffers; the rest goes to the shared pool.
const LANE_FREE_MAX: usize = 32;

impl LanePool {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, free: Vec::new() }
    }

    /// An empty buffer: from the lane, from the shared pool, or new.
    pub(crate) fn take(&mut self) -> Buffer {
        let storage = self
            .free
            .pop()
            .or_else(|| lock(&self.pool.free).pop())
            .unwrap_or_else(|| vec![0; self.pool.buffer_bytes].into_boxed_slice());
        self.pool.outstanding.fetch_add(1, Ordering::Relaxed);
        Buffer { storage, filled: 0, pool: Some(self.pool.clone()) }
    }

    pub(crate) fn give_back(&mut self, buffer: Buffer) {
        let ours = buffer.pool.as_ref().is_some_and(|pool| Arc::ptr_eq(pool, &self.pool));
        if ours && self.free.len() < LANE_FREE_MAX.min(self.pool.free_max) {
            self.free.push(buffer.into_storage());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_reused_and_the_pool_keeps_no_more_than_it_may() {
        let pool = Pool::new(16, 1);
        let mut lane = LanePool::new(pool.clone());
        let (a, b) = (lane.take(), lane.take());
        assert_eq!(pool.outstanding(), 2);
        drop(a);
        drop(b);
        assert_eq!((pool.outstanding(), pool.free()), (0, 1));
        let again = lane.take();
        assert_eq!((pool.outstanding(), pool.free()), (1, 0));
        lane.give_back(again);
        assert_eq!((pool.outstanding(), lane.free.len()), (0, 1));
    }
}
