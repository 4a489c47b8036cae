//! The buffers that the kernel receives into: it takes one when bytes are there, and not before, so
//! an idle connection holds none.
//!
//! The kernel owns the memory behind an entry from the moment the entry is published until a
//! completion names it. What a completion brought is replaced, before the lane waits again, by
//! whatever memory the pool has: it goes round hot, and a handler that keeps a buffer for long does
//! not make the others wait.

use std::io;
use std::ptr::NonNull;

use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::buffer::LanePool;
use crate::memory::Memory;
use crate::sync::{AtomicU16, Ordering};

/// Entries of the ring of buffers, and buffers in it while receives are small. Few: 128 beat 4,096
/// by 1 to 6 % (Linux 6.18), for they stay in the processor's cache.
const ENTRIES: u16 = 128;
/// Buffers in it while receives are large, at least.
const MIN_ENTRIES: usize = 8;
/// Bytes that the kernel may receive before the lane looks: what stays in the processor's cache.
/// Who finds no buffer then is served next, while what came first is still hot.
const HOT_BYTES: usize = 512 * 1024;
/// The group's number; a ring has just one.
pub(super) const GROUP: u16 = 0;

const BYTES: usize = ENTRIES as usize * size_of::<BufRingEntry>();
const _: () = assert!(ENTRIES.is_power_of_two(), "the kernel counts entries with a mask");

/// The buffer group of a ring.
#[derive(Debug)]
pub(super) struct Group {
    /// The entries, shared with the kernel.
    entries: NonNull<BufRingEntry>,
    /// Where the next entry goes; it wraps around.
    tail: u16,
    /// The memory behind the entries, by buffer number. None: a completion brought it.
    memory: Box<[Option<Memory>]>,
    /// The numbers of those that have none.
    vacant: Vec<u16>,
    /// Bytes of a receive, a running mean.
    mean_bytes: usize,
}

// SAFETY: the entries are this value's alone on this side; the pointer is not shared.
unsafe impl Send for Group {}

impl Group {
    /// A group without buffers, registered with a ring.
    ///
    /// # Safety
    ///
    /// It must outlive the ring, or be [released](Self::release) before it goes.
    pub(super) unsafe fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE;
        // SAFETY: a new mapping at an address that the system chooses touches no other memory.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), BYTES, access, flags) }?;
        let group = Self {
            entries: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?,
            tail: 0,
            memory: (0..ENTRIES).map(|_| None).collect(),
            vacant: (0..ENTRIES).collect(),
            mean_bytes: 0,
        };
        // SAFETY: the mapping is page-aligned, as long as `ENTRIES` need, zeroed, and lives as
        // long as the group does.
        unsafe { submitter.register_buf_ring_with_flags(start as u64, ENTRIES, GROUP, 0) }?;
        Ok(group)
    }

    /// The memory that a completion names, with so many bytes: the kernel has done with it.
    pub(super) fn take(&mut self, number: u16, filled: usize) -> Memory {
        self.mean_bytes = (self.mean_bytes * 15 + filled) / 16;
        let memory = self.memory[usize::from(number)].take();
        self.vacant.push(number);
        memory.expect("the kernel names a buffer that it had")
    }

    /// Buffers that the kernel has.
    pub(super) fn filled(&self) -> usize {
        usize::from(ENTRIES) - self.vacant.len()
    }

    /// Gives entries their memory again: all of them, or fewer where receives are large.
    pub(super) fn fill(&mut self, pool: &mut LanePool) {
        let wanted = HOT_BYTES / self.mean_bytes.max(1);
        let wanted = wanted.clamp(MIN_ENTRIES, usize::from(ENTRIES));
        let missing = wanted.saturating_sub(self.filled());
        if missing == 0 {
            return;
        }
        for _ in 0..missing {
            let Some(number) = self.vacant.pop() else { break };
            let memory = self.memory[usize::from(number)].insert(pool.take_memory());
            let place = usize::from(self.tail % ENTRIES);
            // SAFETY: `place` is below `ENTRIES`, so it is inside the mapping. The kernel does not
            // look at this entry before the tail has passed it: at most `ENTRIES` are published,
            // because each has its own number.
            let entry = unsafe { self.entries.add(place).as_mut() };
            entry.set_addr(memory.start() as u64);
            entry.set_len(u32::try_from(memory.len()).unwrap_or(u32::MAX));
            entry.set_bid(number);
            self.tail = self.tail.wrapping_add(1);
        }
        // SAFETY: the pointer is to the first entry of the mapping, as the call asks for.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) }.cast_mut();
        // SAFETY: two bytes inside the mapping, aligned, that the kernel reads atomically and
        // nobody else writes. Release: it sees the entries above.
        unsafe { AtomicU16::from_ptr(tail) }.store(self.tail, Ordering::Release);
    }

    /// Takes the group away from its ring, which must have no request in flight.
    pub(super) fn release(submitter: &Submitter<'_>) {
        // It fails only where the ring does not know the group, and then nothing is to be done.
        let _ = submitter.unregister_buf_ring(GROUP);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: mapped in `register` with this length; the ring does not use it any more, as
        // `register` demands.
        let unmapped = unsafe { munmap(self.entries.as_ptr().cast(), BYTES) };
        debug_assert!(unmapped.is_ok(), "a mapping of one's own can be given back");
    }
}
