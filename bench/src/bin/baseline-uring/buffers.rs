//! The ring of provided receive buffers.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::ring::{GROUP, Ring};

const PAGE_BYTES: usize = 4096;

/// Memory that lives until the process ends, and is lent to the kernel buffer by buffer.
pub(crate) struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    buffer_bytes: usize,
    tail: Cell<u16>,
    /// The number of buffers returned since the last call of `free`, a hint for starved receives.
    free: Cell<usize>,
}

impl Buffers {
    pub(crate) fn new(count: u16, buffer_bytes: usize) -> Self {
        assert!(count.is_power_of_two(), "the kernel masks the index");
        let entries = pages(usize::from(count) * size_of::<BufRingEntry>()).cast();
        let memory = pages(usize::from(count) * buffer_bytes);
        let tail = Cell::new(0);
        let free = Cell::new(0);
        let buffers = Self { entries, memory, count, buffer_bytes, tail, free };
        (0..count).for_each(|id| buffers.give_back(id));
        buffers
    }

    pub(crate) fn register(&self, ring: &Ring) -> io::Result<()> {
        // SAFETY: the entries are page-aligned, `count` of them, and never freed.
        unsafe { ring.register_buffers(self.entries.as_ptr() as u64, self.count, GROUP) }
    }

    /// Returns the bytes `range` of a buffer that the kernel has handed out.
    #[inline]
    pub(crate) fn bytes(&self, id: u16, range: Range<usize>) -> &[u8] {
        assert!(id < self.count && range.start <= range.end && range.end <= self.buffer_bytes);
        // SAFETY: the range is in bounds by the assertion, and the memory is initialised since the
        // allocation. The kernel writes to it only after `give_back`, which no caller calls while
        // it uses the bytes: a buffer is given back once, after its send or when nothing was sent
        // from it.
        unsafe {
            let start = self.memory.as_ptr().add(usize::from(id) * self.buffer_bytes + range.start);
            std::slice::from_raw_parts(start, range.end - range.start)
        }
    }

    /// Returns the number of buffers that have come back since the last call.
    pub(crate) fn free(&self) -> usize {
        self.free.replace(0)
    }

    /// Lends a buffer to the kernel again.
    #[inline]
    pub(crate) fn give_back(&self, id: u16) {
        let tail = self.tail.get();
        let at = usize::from(tail & (self.count - 1));
        let address = self.memory.as_ptr() as usize + usize::from(id) * self.buffer_bytes;
        // SAFETY: `at` is below `count`, so the entry is in bounds. The kernel does not read it
        // before the tail passes it. The tail is in the first entry and is only written here.
        unsafe {
            let entry = self.entries.as_ptr().add(at);
            (*entry).set_addr(address as u64);
            (*entry).set_len(self.buffer_bytes as u32);
            (*entry).set_bid(id);
            let shared = BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
            (*shared).store(tail.wrapping_add(1), Ordering::Release);
        }
        self.tail.set(tail.wrapping_add(1));
        self.free.set(self.free.get() + 1);
    }
}

/// Returns zeroed pages that are never freed.
fn pages(bytes: usize) -> NonNull<u8> {
    let layout = Layout::from_size_align(bytes, PAGE_BYTES).expect("the size fits");
    assert!(bytes > 0);
    // SAFETY: the layout's size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}
