//! The queues that a lane shares with the kernel.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use rustix::io::Errno;

use super::group::Group;
use super::request::{Request, RequestKind};
use crate::buffer::{BufferPool, LanePool};
use crate::sync::Arc;

/// The number of requests that can wait for the next call. A step takes at most 256 completions and
/// queues one or two requests for each, so a call in between is rare.
const SUBMISSIONS: u32 = 1024;
/// The number of completions that can wait to be taken. The kernel keeps further ones until there
/// is room.
const COMPLETIONS: u32 = 8192;

/// The time for which a dropped lane waits for the requests that the kernel still has.
const MAX_DRAIN: Duration = Duration::from_secs(10);
/// The same time for requests that were abandoned before. They have been cancelled now, which may
/// end them.
const MAX_ABANDONED: Duration = Duration::from_secs(1);
/// The time to wait if the kernel has no memory for a request.
const SHORTAGE: Duration = Duration::from_millis(1);

/// The reason why the calls on a ring that was probed and opened do not fail.
const WORKS: &str = "a ring that worked once continues to work";

/// A ring with its buffers.
pub(crate) struct Ring {
    /// Dropped manually, after a successful drain or never.
    queues: ManuallyDrop<Queues>,
    /// The requests that wait because they found the submission queue full, in order.
    waiting: VecDeque<squeue::Entry>,
    /// The number of requests whose last completion has not been taken.
    in_flight: usize,
}

struct Queues {
    io: IoUring,
    group: Group,
    buffers: LanePool,
}

/// A completion of a request, taken from the completion queue of the ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cqe {
    pub(super) request: Request,
    /// The value that the system call would have returned.
    pub(super) result: Result<usize, Errno>,
    /// True exactly when the request continues, so that more completions of it follow.
    pub(super) more: bool,
    /// The number of the buffer with the received bytes; `None` if the kernel used no buffer of the
    /// group.
    pub(super) buffer: Option<u16>,
}

impl Ring {
    /// Opens a ring that no thread has entered yet. It works only for the thread that
    /// [`enable`](Self::enable)s it.
    pub(crate) fn open(pool: &Arc<BufferPool>) -> io::Result<Self> {
        let io =
            builder().build(SUBMISSIONS).map_err(|error| refused("setting up a ring", &error))?;
        // SAFETY: `Ring` releases the group before it drops the queues, or drops neither.
        let group = unsafe { Group::register(&io.submitter()) }
            .map_err(|error| refused("registering buffers with a ring", &error))?;
        let queues = Queues { io, group, buffers: LanePool::new(pool.clone()) };
        Ok(Self { queues: ManuallyDrop::new(queues), waiting: VecDeque::new(), in_flight: 0 })
    }

    /// Makes this thread the owner of the ring.
    pub(super) fn enable(&self) -> io::Result<()> {
        self.queues.io.submitter().register_enable_rings()
    }

    /// Queues a request.
    ///
    /// # Safety
    ///
    /// The memory and the descriptor that `entry` names must stay as they are until the last
    /// completion of `request` has been taken.
    pub(super) unsafe fn push(&mut self, request: Request, entry: squeue::Entry) {
        let entry = entry.user_data(request.to_bits());
        self.in_flight += 1;
        // SAFETY: by this function's own contract.
        if !self.waiting.is_empty() || unsafe { self.queues.io.submission().push(&entry) }.is_err()
        {
            self.waiting.push_back(entry);
        }
    }

    /// Takes the next completion from the queue.
    pub(super) fn next(&mut self) -> Option<Cqe> {
        let entry = self.queues.io.completion().next()?;
        let more = cqueue::more(entry.flags());
        self.in_flight -= usize::from(!more);
        Some(Cqe {
            request: Request::from_bits(entry.user_data()),
            result: usize::try_from(entry.result())
                .map_err(|_| Errno::from_raw_os_error(-entry.result())),
            more,
            buffer: cqueue::buffer_select(entry.flags()),
        })
    }

    /// Returns whether a completion waits to be taken.
    pub(super) fn has_next(&mut self) -> bool {
        !self.queues.io.completion().is_empty()
    }

    /// Returns the number of requests that the kernel has and has not ended. It never took those
    /// that are still queued.
    fn held(&mut self) -> usize {
        self.in_flight - self.waiting.len() - self.queues.io.submission().len()
    }

    /// Returns the group of buffers, and the pool that provides its memory.
    pub(super) fn buffers(&mut self) -> (&mut Group, &mut LanePool) {
        let queues = &mut *self.queues;
        (&mut queues.group, &mut queues.buffers)
    }

    /// Submits everything that is queued, without waiting.
    pub(super) fn submit(&mut self) {
        self.enter(Some(Duration::ZERO));
    }

    /// Submits everything that is queued and waits for a completion, for at most `limit` (without a
    /// limit if `None`).
    pub(super) fn enter(&mut self, limit: Option<Duration>) {
        self.try_enter(limit).expect(WORKS);
    }

    /// Submits and waits as [`enter`](Self::enter) does, on a ring that may not work: returns the
    /// error of the system.
    pub(super) fn try_enter(&mut self, mut limit: Option<Duration>) -> io::Result<()> {
        while !self.move_waiting() {
            if !self.call(Some(Duration::ZERO))? {
                // The kernel takes nothing now. Its completions must be taken first.
                limit = Some(Duration::ZERO);
                break;
            }
        }
        if !self.call(limit)? && !self.has_next() {
            // The kernel has no memory for a request, and no completion will free any.
            self.wait(0, Some(SHORTAGE))?;
        }
        Ok(())
    }

    /// Moves waiting requests into the submission queue. Returns false if it has no room for all of
    /// them.
    fn move_waiting(&mut self) -> bool {
        while let Some(entry) = self.waiting.front() {
            // SAFETY: the entry came to `push` under the same contract.
            if unsafe { self.queues.io.submission().push(entry) }.is_err() {
                return false;
            }
            self.waiting.pop_front();
        }
        true
    }

    /// Makes one system call, or none if there is nothing to submit and nothing to wait for.
    /// Returns false if the kernel did not take the queued requests.
    fn call(&mut self, limit: Option<Duration>) -> io::Result<bool> {
        let queue = self.queues.io.submission();
        let queued = queue.len();
        let readiness = queue.taskrun() || queue.cq_overflow();
        drop(queue);
        if queued == 0 && !readiness && limit == Some(Duration::ZERO) {
            return Ok(true);
        }
        self.wait(queued as u32, limit)
    }

    fn wait(&mut self, queued: u32, limit: Option<Duration>) -> io::Result<bool> {
        let want = u32::from(limit != Some(Duration::ZERO));
        // A limit that the system's clock cannot express is treated as no limit.
        let limit = limit.filter(|limit| want > 0 && limit.as_secs() < 1 << 32);
        let time = limit.map(Timespec::from);
        let mut args = SubmitArgs::new();
        if let Some(time) = &time {
            args = args.timespec(time);
        }
        let flags = (EnterFlags::GETEVENTS | EnterFlags::EXT_ARG).bits();
        // SAFETY: the argument is the structure that EXT_ARG announces.
        let entered = unsafe { self.queues.io.submitter().enter(queued, want, flags, Some(&args)) };
        match entered.as_ref().map_err(io::Error::raw_os_error) {
            // The time is over, or a signal came; the kernel had taken the queued requests before.
            Ok(_) | Err(Some(libc::ETIME | libc::EINTR)) => Ok(true),
            // No memory for a request, or for a completion that found the queue full.
            Err(Some(libc::EAGAIN | libc::EBUSY | libc::ENOMEM)) => Ok(false),
            Err(_) => entered.map(|_| true),
        }
    }

    /// Cancels all requests in flight and awaits them; waits only briefly once no more than the
    /// `abandoned` ones remain. Calls `see` with each completion. Returns false if the kernel still
    /// has requests when the time is over.
    pub(super) fn drain(&mut self, abandoned: usize, mut see: impl FnMut(Cqe)) -> bool {
        let begun = Instant::now();
        // The kernel does not find a request that it is about to retry, so the cancel is repeated
        // until no request remains.
        let mut asked = false;
        loop {
            while let Some(completed) = self.next() {
                asked &= completed.request.kind != RequestKind::CancelAll;
                see(completed);
            }
            if self.in_flight == 0 {
                return true;
            }
            if !asked {
                asked = true;
                let everything = opcode::AsyncCancel2::new(CancelBuilder::any().all()).build();
                // SAFETY: a cancel names no memory.
                unsafe { self.push(Request::of_lane(RequestKind::CancelAll), everything) };
            }
            // The cancel itself is in flight.
            let only_abandoned = self.in_flight <= abandoned + 1;
            let limit = if only_abandoned { MAX_ABANDONED } else { MAX_DRAIN };
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() || self.try_enter(Some(left)).is_err() {
                return false;
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.held() > 0 {
            // The kernel may still write: the queues and the buffers are leaked, never freed.
            return;
        }
        Group::release(&self.queues.io.submitter());
        // SAFETY: this is the only place that drops the queues, and nothing uses them after it.
        unsafe { ManuallyDrop::drop(&mut self.queues) };
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({} in flight)", self.in_flight)
    }
}

/// Configures rings that only one thread enters, and whose completions the kernel prepares when
/// that thread asks for them, not in the middle of other code.
fn builder() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder
        .dontfork()
        .setup_r_disabled()
        .setup_cqsize(COMPLETIONS)
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all();
    builder
}

/// Returns an error that names the refused step, its usual reason, and a remedy.
pub(super) fn refused(what: &str, error: &io::Error) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring, or a sandbox (seccomp) hides it",
        Some(libc::EPERM | libc::EACCES) => {
            "a sandbox (seccomp) or the sysctl kernel.io_uring_disabled denies it: allow it there"
        }
        Some(libc::EINVAL) => "this kernel is too old: Linux 6.1 is needed",
        Some(libc::ENOMEM) => "no locked memory is left: raise `ulimit -l`",
        Some(libc::EMFILE | libc::ENFILE) => "no descriptor is free: raise `ulimit -n`",
        _ => "unexpected",
    };
    io::Error::new(error.kind(), format!("{what} is refused: {error}; {hint}"))
}
