//! The memory of a receive buffer, which the system may write to while an operation has it.

use std::ptr::NonNull;
use std::{fmt, slice};

/// A piece of memory. It is an address and not a reference, because the kernel writes to it at any
/// time; the owner of the value decides when the bytes may be read.
pub(crate) struct Memory {
    start: NonNull<u8>,
    len: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Heap,
    /// On pages of its own, which nobody may touch after the release.
    Guarded,
}

// SAFETY: a `Memory` is the only owner of its bytes, as a `Box<[u8]>` is of its.
unsafe impl Send for Memory {}
// SAFETY: a shared `Memory` gives out shared slices only.
unsafe impl Sync for Memory {}

impl Memory {
    /// Returns zeroed memory from the heap.
    pub(crate) fn heap(len: usize) -> Self {
        let bytes = NonNull::from(Box::leak(vec![0u8; len].into_boxed_slice()));
        Self { start: bytes.cast(), len, kind: Kind::Heap }
    }

    /// Returns zeroed memory on pages of its own.
    pub(crate) fn guarded(len: usize) -> Self {
        Self { start: pages::map(len).cast(), len, kind: Kind::Guarded }
    }

    /// Declares that nobody may touch the memory any more. On guarded pages, every later access is
    /// detected: a thread faults, and a write of the kernel fails. (Except on Windows if a waiting
    /// receive has locked the pages; under Wine that write fails.)
    pub(crate) fn release(&mut self) {
        if self.kind == Kind::Guarded {
            // SAFETY: the pages are this value's own, and `&mut self` shows that no slice of them
            // is alive. They are given back to the system by `drop`, which needs no access.
            unsafe { pages::forbid(self.start.cast(), self.len) }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the address, for the system to write to.
    #[cfg(target_os = "linux")]
    pub(crate) fn start(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: these are `len` initialised bytes that this value owns. While an operation has
        // the memory, its backend keeps the value and asks for no slice.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; `&mut self` makes the slice the only one.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Default for Memory {
    /// Returns empty memory, without an allocation.
    fn default() -> Self {
        Self::heap(0)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match self.kind {
            Kind::Heap => {
                let bytes = std::ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.len);
                // SAFETY: `heap` made it with `Box::leak`, with this address and length.
                drop(unsafe { Box::from_raw(bytes) });
            }
            // SAFETY: `guarded` mapped it with this address and length, and nobody else owns it.
            Kind::Guarded => unsafe { pages::unmap(self.start.cast(), self.len) },
        }
    }
}

/// Pages of memory from the system.
#[cfg(unix)]
mod pages {
    use std::ffi::c_void;
    use std::ptr::{NonNull, null_mut};

    use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

    pub(super) fn map(len: usize) -> NonNull<c_void> {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping at an address that the system chooses touches no other memory.
        let start = unsafe { mmap_anonymous(null_mut(), len, access, flags) };
        start.ok().and_then(NonNull::new).expect("memory for a guarded buffer")
    }

    /// # Safety
    ///
    /// The pages are the caller's own, and nobody has a reference into them.
    pub(super) unsafe fn forbid(start: NonNull<c_void>, len: usize) {
        // SAFETY: by this function's own contract.
        let done = unsafe { mprotect(start.as_ptr(), len, MprotectFlags::empty()) };
        assert_eq!(done, Ok(()), "pages of one's own can be protected");
    }

    /// # Safety
    ///
    /// The pages were mapped here with this length, and nobody has a reference into them.
    pub(super) unsafe fn unmap(start: NonNull<c_void>, len: usize) {
        // SAFETY: by this function's own contract.
        let unmapped = unsafe { munmap(start.as_ptr(), len) };
        debug_assert!(unmapped.is_ok(), "a mapping of one's own can be given back");
    }
}

/// Pages of memory from the system.
#[cfg(windows)]
mod pages {
    use std::ffi::c_void;
    use std::ptr::{NonNull, null};

    use windows_sys::Win32::System::Memory::{
        MEM_COMMIT, MEM_RELEASE, MEM_RESERVE, PAGE_NOACCESS, PAGE_READWRITE, VirtualAlloc,
        VirtualFree, VirtualProtect,
    };

    pub(super) fn map(len: usize) -> NonNull<c_void> {
        // SAFETY: new pages at an address that the system chooses touch no other memory.
        let start = unsafe { VirtualAlloc(null(), len, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE) };
        NonNull::new(start).expect("memory for a guarded buffer")
    }

    /// # Safety
    ///
    /// The pages are the caller's own, and nobody has a reference into them.
    pub(super) unsafe fn forbid(start: NonNull<c_void>, len: usize) {
        let mut before = 0;
        // SAFETY: by this function's own contract.
        let done = unsafe { VirtualProtect(start.as_ptr(), len, PAGE_NOACCESS, &raw mut before) };
        assert_ne!(done, 0, "pages of one's own can be protected");
    }

    /// # Safety
    ///
    /// The pages were mapped here with this length, and nobody has a reference into them.
    pub(super) unsafe fn unmap(start: NonNull<c_void>, _: usize) {
        // SAFETY: by this function's own contract; zero stands for all that was mapped.
        let freed = unsafe { VirtualFree(start.as_ptr(), 0, MEM_RELEASE) };
        debug_assert_ne!(freed, 0, "pages of one's own can be given back");
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} bytes, {:?})", self.len, self.kind)
    }
}
