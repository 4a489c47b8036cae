//! The table of records that grows under the feet of several workers.

use std::os::fd::OwnedFd;

use super::poller::Poller;
use super::record::Record;
use crate::sync::{Mutex, MutexGuard, OnceLock, lock};
use crate::table::{STALE, Slot};
use crate::token::Socket;

/// Records of the first segment; each further segment has twice as many as the one before.
const FIRST_SEGMENT: u32 = 64;
/// Together as many records as a u32 counts.
const SEGMENTS: usize = 27;

/// The records that the workers of the shared layout have in common: each behind its own lock, and
/// none ever moved, so that the table itself needs no lock to be looked into.
#[derive(Debug)]
pub(super) struct SharedTable {
    segments: [OnceLock<Box<[Mutex<Record>]>>; SEGMENTS],
    vacant: Mutex<Vacant>,
}

#[derive(Debug, Default)]
struct Vacant {
    free: Vec<u32>,
    /// Slots from here on have never been used.
    unused_from: u32,
}

impl SharedTable {
    pub(super) fn new() -> Self {
        Self { segments: [const { OnceLock::new() }; SEGMENTS], vacant: Mutex::default() }
    }

    /// A record for a socket without a handle.
    pub(super) fn socket(&self) -> Socket {
        let slot = self.free_slot();
        lock(self.slot(slot)).occupy(slot)
    }

    /// A record for a handle.
    pub(super) fn adopt(&self, fd: OwnedFd, poller: &Poller) -> Socket {
        let slot = self.free_slot();
        let mut record = lock(self.slot(slot));
        let socket = record.occupy(slot);
        record.adopt(socket, fd, poller);
        socket
    }

    /// The record of `socket`, which the caller believes to be open.
    pub(super) fn get(&self, socket: Socket) -> MutexGuard<'_, Record> {
        self.find(socket).expect(STALE)
    }

    /// The record of `socket`, unless it has been closed meanwhile.
    pub(super) fn find(&self, socket: Socket) -> Option<MutexGuard<'_, Record>> {
        let (segment, index) = place(socket.slot);
        let record = lock(self.segments[segment].get()?.get(index)?);
        record.is(socket).then_some(record)
    }

    /// Closes the handle; the name is stale from now on.
    pub(super) fn close(&self, socket: Socket) {
        let fd = self.get(socket).vacate();
        drop(fd);
        lock(&self.vacant).free.push(socket.slot);
    }

    fn slot(&self, slot: u32) -> &Mutex<Record> {
        let (segment, index) = place(slot);
        let records = self.segments[segment]
            .get_or_init(|| (0..FIRST_SEGMENT << segment).map(|_| Mutex::default()).collect());
        &records[index]
    }

    fn free_slot(&self) -> u32 {
        let mut vacant = lock(&self.vacant);
        vacant.free.pop().unwrap_or_else(|| {
            let slot = vacant.unused_from;
            vacant.unused_from = slot.checked_add(1).expect("fewer than 2^32 sockets");
            slot
        })
    }
}

/// Segment and index of a slot. Segment `k` begins at slot `FIRST_SEGMENT * (2^k - 1)`.
fn place(slot: u32) -> (usize, usize) {
    let segment = (slot / FIRST_SEGMENT + 1).ilog2();
    let begin = FIRST_SEGMENT * ((1 << segment) - 1);
    (segment as usize, (slot - begin) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_its_own_place() {
        let mut expected = (0, 0);
        for slot in 0..100_000 {
            assert_eq!(place(slot), expected, "slot {slot}");
            expected.1 += 1;
            if expected.1 == (FIRST_SEGMENT as usize) << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
        assert!(place(u32::MAX - 1).0 < SEGMENTS, "the last slot has a segment");
    }

    #[test]
    fn a_slot_is_used_again_under_another_name() {
        let table = SharedTable::new();
        let (first, other) = (table.socket(), table.socket());
        table.close(first);
        let second = table.socket();
        assert_eq!(second.slot, first.slot);
        assert!(table.find(first).is_none(), "the old name leads nowhere");
        assert!(table.find(second).is_some() && table.find(other).is_some());
    }

    #[test]
    #[should_panic(expected = "a stale socket")]
    fn a_socket_closed_twice_is_a_bug_of_the_caller() {
        let table = SharedTable::new();
        let socket = table.socket();
        table.close(socket);
        table.close(socket);
    }
}
