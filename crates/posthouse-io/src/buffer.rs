//! Receive buffers: pooled, safe, back in the pool when dropped.

use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::memory::Memory;
use crate::options::Options;
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, lock};

/// Bytes that were received. Dropping it, on any thread, gives the memory back to its pool;
/// [`Lane::recycle`](crate::Lane::recycle) does the same without a lock.
pub struct Buffer {
    /// Empty once the buffer has been taken apart.
    memory: Memory,
    filled: usize,
    pool: Arc<BufferPool>,
}

impl Buffer {
    /// How many bytes of memory it holds, whatever number of them is filled.
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// The whole memory, to receive into.
    pub(crate) fn storage_mut(&mut self) -> &mut [u8] {
        self.memory.bytes_mut()
    }

    /// Says how many bytes have been received into it.
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
    /// The bytes may be changed in place: they are nobody else's until the buffer is dropped.
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

/// The buffers that all lanes of a port share.
#[derive(Debug)]
pub(crate) struct BufferPool {
    buffer_bytes: usize,
    max_free: usize,
    free: Mutex<Vec<Memory>>,
    outstanding: AtomicUsize,
    /// Where released memory is watched: what was released, the oldest first.
    guarded: Option<Mutex<VecDeque<Memory>>>,
}

/// Released memory that is watched, at most; beyond it the oldest goes back to the system.
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

    /// Buffers that somebody holds now.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Buffers kept for later in the shared part.
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

/// Nobody may touch what was released, and it is not used again: a late write is found out.
fn watch(watched: &mut VecDeque<Memory>, mut memory: Memory) {
    memory.release();
    watched.push_back(memory);
    if watched.len() > MAX_WATCHED {
        watched.pop_front();
    }
}

/// A lane's own end of the pool: no lock while its few buffers go round.
#[derive(Debug)]
pub(crate) struct LanePool {
    pool: Arc<BufferPool>,
    free: Vec<Memory>,
}

/// A lane keeps few and hot buffers; the rest goes to the shared pool.
const MAX_LANE_FREE: usize = 32;

impl LanePool {
    pub(crate) fn new(pool: Arc<BufferPool>) -> Self {
        Self { pool, free: Vec::new() }
    }

    /// An empty buffer: from the lane, from the shared pool, or new.
    pub(crate) fn take(&mut self) -> Buffer {
        let memory = self.take_memory();
        self.lend(memory, 0)
    }

    /// Memory that nobody holds yet: for an operation to fill, one day.
    pub(crate) fn take_memory(&mut self) -> Memory {
        self.free
            .pop()
            .or_else(|| lock(&self.pool.free).pop())
            .unwrap_or_else(|| self.pool.new_memory())
    }

    /// A buffer of memory that an operation has filled.
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

    /// Takes memory back that no operation filled.
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
        let (buffer_bytes, max_free_buffers) = (16, 1);
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

    /// The kernel is who writes late; it is told so instead of overwriting what is another's now.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_cannot_write_into_a_released_buffer_that_is_guarded() {
        let mut lane = LanePool::new(pool(true));
        for recycled in [true, false] {
            let mut buffer = lane.take();
            let (start, len) = (buffer.storage_mut().as_mut_ptr(), buffer.capacity());
            let zero = std::fs::File::open("/dev/zero").expect("a file of zeroes");
            let read = || {
                use std::os::fd::AsRawFd;
                // SAFETY: the kernel checks the range: pages that may not be written to are an
                // error, which is what this test is about.
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

    /// One that begins after the release fails. One that waits since before fails under Wine;
    /// Windows has locked the pages for it.
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
            let (mut overlapped, mut flags, mut bytes) = (OVERLAPPED::default(), 0, 0);
            let overlapped = &raw mut overlapped;
            let mut receive = || {
                let flags = &raw mut flags;
                // SAFETY: what is named lives until the receive has ended, below. The memory it
                // may no longer write to: that the system knows so is what this test is about.
                unsafe {
                    let (far, room) = (crate::sys::raw(&far), &raw const room);
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
            // SAFETY: what is named is there while the call is made, which waits for the end.
            let has_received = begun
                && unsafe {
                    let (bytes, flags) = (&raw mut bytes, &raw mut flags);
                    let far = crate::sys::raw(&far);
                    net::WSAGetOverlappedResult(far, overlapped, bytes, 1, flags) != 0
                };
            let may_receive = waits && !posthouse_process::is_wine();
            assert!(!has_received || may_receive, "{bytes} bytes, waits: {waits}");
        }
    }
}
