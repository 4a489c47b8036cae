//! A slot table that several workers share and that grows while they use it.

use crate::native::slot_table::{STALE, Slot};
use crate::sync::{Mutex, MutexGuard, OnceLock, lock};
use crate::token::Socket;

/// The slots of the first segment. Each further segment has twice as many as the one before.
const FIRST_SEGMENT: u32 = 64;
/// The number of segments; together they have as many slots as a u32 counts.
const SEGMENTS: usize = 27;

/// The socket states that the workers of the shared layout share. Each state has its own lock and
/// never moves, so a look-up in the table needs no lock.
#[derive(Debug)]
pub(crate) struct SharedSlotTable<R> {
    segments: [OnceLock<Box<[Mutex<R>]>>; SEGMENTS],
    vacant: Mutex<Vacant>,
}

#[derive(Debug, Default)]
struct Vacant {
    free: Vec<u32>,
    /// All slots from this one on have never been used.
    unused_from: u32,
}

impl<R: Slot> SharedSlotTable<R> {
    pub(crate) fn new() -> Self {
        Self { segments: [const { OnceLock::new() }; SEGMENTS], vacant: Mutex::default() }
    }

    /// Takes a slot for a new socket and calls `prepare` with its state, under the slot's lock.
    pub(crate) fn occupy(&self, prepare: impl FnOnce(&mut R, Socket)) -> Socket {
        let slot = self.free_slot();
        let mut state = lock(self.slot(slot));
        let socket = state.occupy(slot);
        prepare(&mut state, socket);
        socket
    }

    /// Returns the state of `socket`, which must not be closed (asserted).
    pub(crate) fn get(&self, socket: Socket) -> MutexGuard<'_, R> {
        self.find(socket).expect(STALE)
    }

    /// Returns the state of `socket`, or `None` if the socket has been closed.
    pub(crate) fn find(&self, socket: Socket) -> Option<MutexGuard<'_, R>> {
        let (segment, index) = place(socket.slot);
        let state = lock(self.segments[segment].get()?.get(index)?);
        state.is(socket).then_some(state)
    }

    /// Vacates the slot of a socket whose handle can be closed at once. The socket is stale from
    /// now on. The value that `vacate` returns is dropped while no lock is held.
    #[cfg(target_os = "linux")]
    pub(crate) fn release<T>(&self, socket: Socket, vacate: impl FnOnce(&mut R) -> T) {
        let taken = vacate(&mut self.get(socket));
        drop(taken);
        self.free(socket.slot);
    }

    /// Makes a vacated slot available again.
    pub(crate) fn free(&self, slot: u32) {
        lock(&self.vacant).free.push(slot);
    }

    /// Calls `each` with every state, including those of vacant slots.
    #[cfg(windows)]
    pub(crate) fn each(&self, mut each: impl FnMut(&mut R)) {
        let states = self.segments.iter().filter_map(OnceLock::get).flatten();
        states.for_each(|state| each(&mut lock(state)));
    }

    fn slot(&self, slot: u32) -> &Mutex<R> {
        let (segment, index) = place(slot);
        let states = self.segments[segment]
            .get_or_init(|| (0..FIRST_SEGMENT << segment).map(|_| Mutex::default()).collect());
        &states[index]
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

/// Returns the segment and the index of a slot. Segment `k` begins at slot `FIRST_SEGMENT * (2^k -
/// 1)`.
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

    #[derive(Debug, Default)]
    struct Plain {
        generation: u32,
        live: bool,
    }

    impl Slot for Plain {
        fn occupy(&mut self, slot: u32) -> Socket {
            self.live = true;
            Socket { slot, generation: self.generation }
        }

        fn is(&self, socket: Socket) -> bool {
            self.live && self.generation == socket.generation
        }
    }

    fn close(table: &SharedSlotTable<Plain>, socket: Socket) {
        let mut state = table.get(socket);
        state.live = false;
        state.generation += 1;
        drop(state);
        table.free(socket.slot);
    }

    #[test]
    fn a_slot_is_used_again_under_another_name() {
        let table = SharedSlotTable::<Plain>::new();
        let first = table.occupy(|_, _| {});
        let other = table.occupy(|_, _| {});
        close(&table, first);
        let second = table.occupy(|_, _| {});
        assert_eq!(second.slot, first.slot);
        assert!(table.find(first).is_none(), "the old name leads nowhere");
        assert!(table.find(second).is_some() && table.find(other).is_some());
    }

    #[test]
    #[should_panic(expected = "a stale socket")]
    fn a_socket_closed_twice_is_a_bug_of_the_caller() {
        let table = SharedSlotTable::<Plain>::new();
        let socket = table.occupy(|_, _| {});
        close(&table, socket);
        close(&table, socket);
    }
}
