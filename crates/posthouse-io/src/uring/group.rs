//! The buffers that the kernel receives into. The kernel takes one only when bytes arrive, so an
//! idle connection holds none.
//!
//! The kernel owns the memory of an entry from the entry's publication until a completion refers to
//! it. Before the lane waits again, it replaces that memory with any memory from the pool. So the
//! pool's memory stays in the cache, and a handler that keeps a buffer for long delays nobody.

use std::io;
use std::ptr::NonNull;

use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::buffer::LanePool;
use crate::memory::Memory;
use crate::sync::{AtomicU16, Ordering};

/// The entries of the ring of buffers, and the number of buffers in it while receives are small. A
/// small number: 128 were 1 to 6 % faster than 4,096 (Linux 6.18), because they stay in the
/// processor's cache.
const ENTRIES: u16 = 128;
/// The minimum number of buffers in the ring while receives are large.
const MIN_ENTRIES: usize = 8;
/// The number of bytes that the kernel may receive before the lane takes them, small enough for the
/// processor's cache. A receive that then finds no buffer is served next, while the first bytes are
/// still in the cache.
const HOT_BYTES: usize = 512 * 1024;
/// The number of the group; a ring has just one.
pub(super) const GROUP: u16 = 0;

const BYTES: usize = ENTRIES as usize * size_of::<BufRingEntry>();
const _: () = assert!(ENTRIES.is_power_of_two(), "the kernel counts entries with a mask");

/// The buffer group of a ring.
#[derive(Debug)]
pub(super) struct Group {
    /// The entries, shared with the kernel.
    entries: NonNull<BufRingEntry>,
    /// The position of the next entry; it wraps around.
    tail: u16,
    /// The memory of the entries, by buffer number; `None` if a completion has brought it.
    memory: Box<[Option<Memory>]>,
    /// The numbers of the buffers without memory.
    vacant: Vec<u16>,
    /// The running mean of the bytes of a receive.
    mean_bytes: usize,
}

// SAFETY: on this side only this value uses the entries; the pointer is not shared.
unsafe impl Send for Group {}

impl Group {
    /// Registers a group without buffers with a ring.
    ///
    /// # Safety
    ///
    /// The group must outlive the ring, or be [released](Self::release) before it is dropped.
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
        // SAFETY: the mapping is page-aligned, long enough for `ENTRIES`, zeroed, and lives as long
        // as the group.
        unsafe { submitter.register_buf_ring_with_flags(start as u64, ENTRIES, GROUP, 0) }?;
        Ok(group)
    }

    /// Takes the memory that a completion refers to, filled with `filled` bytes. The kernel no
    /// longer uses it.
    pub(super) fn take(&mut self, number: u16, filled: usize) -> Memory {
        self.mean_bytes = (self.mean_bytes * 15 + filled) / 16;
        let memory = self.memory[usize::from(number)].take();
        self.vacant.push(number);
        memory.expect("the kernel names a buffer that it had")
    }

    /// Returns the number of buffers that the kernel has.
    pub(super) fn filled(&self) -> usize {
        usize::from(ENTRIES) - self.vacant.len()
    }

    /// Provides new memory for all entries, or for fewer if receives are large.
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
            // read this entry before the tail has passed it: at most `ENTRIES` are published,
            // because each has its own number.
            let entry = unsafe { self.entries.add(place).as_mut() };
            entry.set_addr(memory.start() as u64);
            entry.set_len(u32::try_from(memory.len()).unwrap_or(u32::MAX));
            entry.set_bid(number);
            self.tail = self.tail.wrapping_add(1);
        }
        // SAFETY: the pointer refers to the first entry of the mapping, as the function requires.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) }.cast_mut();
        // SAFETY: these are two aligned bytes inside the mapping, which the kernel reads atomically
        // and nobody else writes. The release ordering makes the entries above visible to the
        // kernel.
        unsafe { AtomicU16::from_ptr(tail) }.store(self.tail, Ordering::Release);
    }

    /// Unregisters the group from its ring, which must have no request in flight.
    pub(super) fn release(submitter: &Submitter<'_>) {
        // It fails only if the ring does not know the group, and then nothing remains to be done.
        let _ = submitter.unregister_buf_ring(GROUP);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: `register` mapped it with this length, and the ring does not use it any more, as
        // `register` requires.
        let unmapped = unsafe { munmap(self.entries.as_ptr().cast(), BYTES) };
        debug_assert!(unmapped.is_ok(), "a mapping of one's own can be given back");
    }
}
