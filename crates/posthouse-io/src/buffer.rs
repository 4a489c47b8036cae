//! Receive buffers: pooled, safe, returned to the pool on drop.

use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::memory::Memory;
use crate::options::Options;
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, lock};

/// A buffer of received bytes. Dropping it, on any thread, returns the memory to its pool;
/// [`Lane::recycle`](crate::Lane::recycle) does the same without a lock.
pub struct Buffer {
    /// The memory of the buffer; empty once the buffer has been taken apart.
    memory: Memory,
    filled: usize,
    pool: Arc<BufferPool>,
}

impl Buffer {
    /// Returns the size of the buffer's memory in bytes, filled or not.
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Returns the whole memory of the buffer, filled or not, to receive into.
    pub(crate) fn storage_mut(&mut self) -> &mut [u8] {
        self.memory.bytes_mut()
    }

    /// Sets the number of bytes that have been received into the buffer.
    pub(crate) fn set_filled(&mut self, filled: usize) {
        assert!(filled <= self.capacity(), "more bytes received than the buffer holds");
        self.filled = filled;
    }

    fn into_memory(mut self) -> Memory {
        std::mem::take(&mut self.memory)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory.bytes()[..self.filled]
    }
}

impl DerefMut for Buffer {
    /// Returns the bytes for changes in place: nobody else has them until the buffer is dropped.
    fn deref_mut(&mut self) -> &mut [u8] {
        let filled = self.filled;
        &mut self.storage_mut()[..filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.outstanding.fetch_sub(1, Ordering::Relaxed);
        if self.memory.len() > 0 {
            self.pool.keep(std::mem::take(&mut self.memory));
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} of {} bytes)", self.filled, self.capacity())
    }
}

/// The pool of buffers that all lanes of a port share.
#[derive(Debug)]
pub(crate) struct BufferPool {
    buffer_bytes: usize,
    max_free: usize,
    free: Mutex<Vec<Memory>>,
    outstanding: AtomicUsize,
    /// The released memory that is watched, the oldest first; `None` if buffers are not guarded.
    guarded: Option<Mutex<VecDeque<Memory>>>,
}

/// The maximum number of watched pieces of memory; beyond it the oldest goes back to the system.
const MAX_WATCHED: usize = 2048;

impl BufferPool {
    pub(crate) fn of(options: &Options) -> Arc<Self> {
        Arc::new(Self {
            buffer_bytes: options.buffer_bytes,
            max_free: options.max_free_buffers,
            free: Mutex::default(),
            outstanding: AtomicUsize::new(0),
            guarded: options.guard_buffers.then(Mutex::default),
        })
    }

    /// Returns the number of buffers in use.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Returns the number of buffers kept for reuse in the shared part.
    pub(crate) fn free(&self) -> usize {
        lock(&self.free).len()
    }

    fn keep(&self, memory: Memory) {
        if let Some(watched) = &self.guarded {
            return watch(&mut lock(watched), memory);
        }
        let mut free = lock(&self.free);
        if free.len() < self.max_free {
            free.push(memory);
        }
    }

    fn new_memory(&self) -> Memory {
        if self.guarded.is_some() {
            return Memory::guarded(self.buffer_bytes);
        }
        Memory::heap(self.buffer_bytes)
    }
}

/// Protects released memory and keeps it: it is not used again, so a late write is detected.
fn watch(watched: &mut VecDeque<Memory>, mut memory: Memory) {
    memory.release();
    watched.push_back(memory);
    if watched.len() > MAX_WATCHED {
        watched.pop_front();
    }
}

/// A lane's own part of the pool. It takes no lock while its few buffers are reused.
#[derive(Debug)]
pub(crate) struct LanePool {
    pool: Arc<BufferPool>,
    free: Vec<Memory>,
}

/// The maximum number of free buffers that a lane keeps, few enough to stay in the cache. The rest
/// goes to the shared pool.
const MAX_LANE_FREE: usize = 32;

impl LanePool {
    pub(crate) fn new(pool: Arc<BufferPool>) -> Self {
        Self { pool, free: Vec::new() }
    }

    /// Returns an empty buffer: from the lane, from the shared pool, or new.
    pub(crate) fn take(&mut self) -> Buffer {
        let memory = self.take_memory();
        self.lend(memory, 0)
    }

    /// Returns memory for a later operation to fill; it does not count as in use.
    pub(crate) fn take_memory(&mut self) -> Memory {
        self.free
            .pop()
            .or_else(|| lock(&self.pool.free).pop())
            .unwrap_or_else(|| self.pool.new_memory())
    }

    /// Returns a buffer with memory that an operation has filled.
    pub(crate) fn lend(&self, memory: Memory, filled: usize) -> Buffer {
        assert!(filled <= memory.len(), "more bytes received than the buffer holds");
        self.pool.outstanding.fetch_add(1, Ordering::Relaxed);
        Buffer { memory, filled, pool: self.pool.clone() }
    }

    pub(crate) fn give_back(&mut self, buffer: Buffer) {
        let ours = Arc::ptr_eq(&buffer.pool, &self.pool);
        if ours && self.has_room() {
            let memory = buffer.into_memory();
            self.free.push(memory);
        }
    }

    /// Takes back memory that no operation has filled.
    #[cfg(target_os = "linux")]
    pub(crate) fn give_back_memory(&mut self, memory: Memory) {
        if self.has_room() {
            self.free.push(memory);
        } else {
            self.pool.keep(memory);
        }
    }

    fn has_room(&self) -> bool {
        self.free.len() < MAX_LANE_FREE.min(self.pool.max_free) && self.pool.guarded.is_none()
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn pool(&self) -> &BufferPool {
        &self.pool
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(guard_buffers: bool) -> Arc<BufferPool> {
        let buffer_bytes = 16;
        let max_free_buffers = 1;
        BufferPool::of(&Options {
            buffer_bytes,
            max_free_buffers,
            guard_buffers,
            ..Options::default()
        })
    }

    #[test]
    fn a_dropped_buffer_is_reused_and_the_pool_keeps_no_more_than_it_may() {
        let pool = pool(false);
        let mut lane = LanePool::new(pool.clone());
        let a = lane.take();
        let b = lane.take();
        assert_eq!(pool.outstanding(), 2);
        drop(a);
        drop(b);
        assert_eq!((pool.outstanding(), pool.free()), (0, 1));
        let again = lane.take();
        assert_eq!((pool.outstanding(), pool.free()), (1, 0));
        lane.give_back(again);
        assert_eq!((pool.outstanding(), lane.free.len()), (0, 1));
    }

    /// The kernel performs the late write. It gets an error and does not overwrite memory that
    /// belongs to another owner now.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_cannot_write_into_a_released_buffer_that_is_guarded() {
        let mut lane = LanePool::new(pool(true));
        for recycled in [true, false] {
            let mut buffer = lane.take();
            let start = buffer.storage_mut().as_mut_ptr();
            let len = buffer.capacity();
            let zero = std::fs::File::open("/dev/zero").expect("a file of zeroes");
            let read = || {
                use std::os::fd::AsRawFd;
                // SAFETY: the kernel checks the range, and returns an error for pages that may not
                // be written to, which this test expects.
                unsafe { libc::read(zero.as_raw_fd(), start.cast(), len) }
            };
            assert_eq!(read(), 16, "while it is held");
            if recycled {
                lane.give_back(buffer);
            } else {
                drop(buffer);
            }
            assert_eq!(read(), -1, "after it is released");
            assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EFAULT));
        }
        assert_eq!(lane.pool.outstanding(), 0);
    }

    /// A receive that begins after the release fails. A receive that has waited since before the
    /// release fails under Wine; Windows has locked the pages for it.
    #[cfg(windows)]
    #[test]
    fn a_receive_that_begins_late_cannot_write_into_a_released_buffer_that_is_guarded() {
        use std::io::Write as _;
        use std::os::windows::io::OwnedSocket;
        use std::ptr::null_mut;
        use windows_sys::Win32::Foundation::ERROR_IO_PENDING;
        use windows_sys::Win32::Networking::WinSock as net;
        use windows_sys::Win32::System::IO::OVERLAPPED;

        let mut lane = LanePool::new(pool(true));
        for waits in [false, true] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
            let address = listener.local_addr().expect("an address");
            let mut near = std::net::TcpStream::connect(address).expect("a connection");
            let far = OwnedSocket::from(listener.accept().expect("a peer").0);
            let mut buffer = lane.take();
            let storage = buffer.storage_mut();
            let room = net::WSABUF { len: storage.len() as u32, buf: storage.as_mut_ptr() };
            let mut overlapped = OVERLAPPED::default();
            let mut flags = 0;
            let mut bytes = 0;
            let overlapped = &raw mut overlapped;
            let mut receive = || {
                let flags = &raw mut flags;
                // SAFETY: everything that is named lives until the receive has ended, below. The
                // receive may no longer write to the memory, and this test checks that the system
                // knows it.
                unsafe {
                    let far = crate::sys::raw(&far);
                    let room = &raw const room;
                    net::WSARecv(far, room, 1, null_mut(), flags, overlapped, None) == 0
                        || net::WSAGetLastError() == ERROR_IO_PENDING.cast_signed()
                }
            };
            let begun = if waits {
                let begun = receive();
                drop(buffer);
                near.write_all(b"late").expect("sent");
                begun
            } else {
                drop(buffer);
                near.write_all(b"late").expect("sent");
                receive()
            };
            // SAFETY: everything that is named lives during the call, which waits for the end.
            let has_received = begun
                && unsafe {
                    let bytes = &raw mut bytes;
                    let flags = &raw mut flags;
                    let far = crate::sys::raw(&far);
                    net::WSAGetOverlappedResult(far, overlapped, bytes, 1, flags) != 0
                };
            let may_receive = waits && !posthouse_process::is_wine();
            assert!(!has_received || may_receive, "{bytes} bytes, waits: {waits}");
        }
    }
}
