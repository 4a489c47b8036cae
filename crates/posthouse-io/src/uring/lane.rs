//! The lane of a worker on io_uring.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::opcode;
use io_uring::types::Fd;

use super::file_ops::{self, FileEnd, Files};
use super::request::{Request, RequestKind};
use super::ring::{Cqe, Ring};
use super::send::FreeList;
use super::socket::{self, LaneCx, SocketState};
use crate::address::Address;
use crate::buffer::Buffer;
use crate::file_op::FileOp;
use crate::fs;
use crate::handle::SocketHandle;
use crate::lane_ops::LaneOps;
use crate::native::completion_queue::CompletionQueue;
use crate::native::lane_remote::LaneRemote;
use crate::native::services::Services;
use crate::native::slot_table::SlotTable;
use crate::native::socket_core::{Link, Stage};
use crate::native::socket_handle;
use crate::native::wake::Wait;
use crate::op::{Cancel, Completion, Op, Outcome};
use crate::sync::Arc;
use crate::sys;
use crate::token::{LaneId, Socket, Tag};

/// The maximum number of completions per step.
const SHARE: usize = 256;
/// The number of buffers that connections may hold before receives bring one buffer each: the rest
/// of a connection's data then stays in the kernel until its turn.
const MAX_BUFFERS_HELD: usize = 1024;

pub(crate) struct UringLane {
    id: LaneId,
    services: Arc<Services>,
    remote: Arc<LaneRemote>,
    ring: Ring,
    table: SlotTable<SocketState>,
    files: Files,
    /// The sockets whose receive ended because the group had no buffer; it starts again when there
    /// are buffers.
    starved: VecDeque<Socket>,
    done: CompletionQueue,
    free_list: FreeList,
    now: Duration,
    /// The number of completions that this step may still take.
    share: usize,
}

impl LaneOps for UringLane {
    fn id(&self) -> LaneId {
        self.id
    }

    fn now(&self) -> Duration {
        self.now
    }

    fn next_completion(&mut self) -> Option<Completion> {
        while self.share > 0 {
            if let Some(completion) = self.done.pop() {
                self.share -= 1;
                return Some(completion);
            }
            let completed = self.ring.next()?;
            self.complete(completed);
        }
        None
    }

    fn submit(&mut self, tag: Tag, op: Op) {
        self.remote.counters.submitted();
        match op {
            Op::Resolve(name) => {
                if let Some(completion) = self.services.resolver.look_up(
                    tag,
                    &name,
                    LaneRemote::completion_injector(&self.remote),
                ) {
                    self.done.put(completion);
                }
            }
            Op::File(op) if file_ops::is_for_ring(&op) => self.start_file(tag, op),
            Op::File(op) => self.hand_to_file_pool(tag, op),
            Op::Accept(socket)
            | Op::Connect(socket, _)
            | Op::Receive(socket, _)
            | Op::Watch(socket, _)
            | Op::Send(socket, _) => self.with(socket, |state, cx| state.submit(tag, op, cx)),
            Op::Close(socket) => {
                self.with(socket, |state, cx| state.submit(tag, op, cx));
                self.end_close(socket.slot);
            }
        }
    }

    fn cancel(&mut self, socket: Socket, what: Cancel) {
        self.with(socket, |state, cx| state.cancel(what, cx));
    }

    fn cancel_look_up(&mut self, tag: Tag) {
        if let Some(completion) = self.services.resolver.cancel(tag) {
            self.done.put(completion);
        }
    }

    fn abandon(&mut self, tag: Tag) {
        self.files.abandon(tag);
    }

    fn shutdown(&mut self, socket: Socket) {
        self.with(socket, |state, cx| state.shutdown(cx.ring));
    }

    fn reset(&mut self, socket: Socket) {
        self.with(socket, SocketState::reset);
    }

    fn socket(&mut self) -> Socket {
        self.remote.counters.opened();
        self.table.socket()
    }

    fn adopt(&mut self, handle: Box<dyn SocketHandle>) -> Socket {
        let socket = self.socket();
        self.table.get(socket).link = Link::Open(Stage::Connected, socket_handle::owned(handle));
        socket
    }

    fn local_address(&mut self, socket: Socket) -> Option<Address> {
        self.table.find(socket).and_then(|state| state.local_address())
    }

    fn recycle(&mut self, buffer: Buffer) {
        self.ring.buffers().1.give_back(buffer);
    }

    /// Waits as every lane does, and submits the requests that the step queued.
    fn wait(&mut self, sleep: Option<Duration>) {
        self.fill_buffers();
        let idle = self.done.is_empty() && self.starved.is_empty() && !self.ring.has_next();
        let may_wait = idle && sleep != Some(Duration::ZERO);
        let wait = if may_wait { self.remote.begin_wait() } else { Wait::Look };
        let limit = wait.limit(|| self.services.left_of(sleep, self.now));
        self.ring.enter(limit);
        if self.remote.end_wait() {
            self.remote.drain_injected(|completion| self.done.put(completion));
        }
        self.now = self.services.now();
        self.share = SHARE;
    }
}

/// The methods that submit the lane's requests, and handle their completions.
impl UringLane {
    /// Returns the lane of this thread; no other thread may use it.
    pub(crate) fn new(
        id: LaneId,
        services: Arc<Services>,
        remote: Arc<LaneRemote>,
        ring: Ring,
    ) -> Self {
        ring.enable().expect("a ring that was opened can be enabled, once");
        // While this thread submits, the kernel can write to a file on its behalf.
        sys::block_signals();
        let mut lane = Self {
            id,
            now: services.now(),
            done: CompletionQueue::new(remote.counters.clone()),
            services,
            remote,
            ring,
            table: SlotTable::default(),
            files: Files::default(),
            starved: VecDeque::new(),
            free_list: FreeList::default(),
            share: SHARE,
        };
        lane.arm_waker();
        lane
    }

    fn start_file(&mut self, tag: Tag, op: Box<FileOp>) {
        fs::check(&op);
        let (slot, entry) = self.files.begin(tag, op);
        // SAFETY: the operation keeps the memory and the file of the entry in its slot until its
        // completion frees it. After a failed drain the slots are leaked.
        unsafe { self.ring.push(Request::of_file(slot), entry) };
    }

    fn hand_to_file_pool(&mut self, tag: Tag, op: Box<FileOp>) {
        if let Some(completion) =
            self.services.files.start(tag, op, LaneRemote::completion_injector(&self.remote))
        {
            self.done.put(completion);
        }
    }

    fn with<T>(
        &mut self,
        socket: Socket,
        call: impl FnOnce(&mut SocketState, &mut LaneCx<'_>) -> T,
    ) -> T {
        let Self { ring, table, done, free_list, .. } = self;
        let multishot = ring.buffers().1.pool().outstanding() < MAX_BUFFERS_HELD;
        call(table.get(socket), &mut LaneCx { socket, ring, done, free_list, multishot })
    }

    fn complete(&mut self, completed: Cqe) {
        match completed.request.kind {
            RequestKind::Waker if !completed.more => return self.arm_waker(),
            RequestKind::Waker | RequestKind::CancelAll => return,
            RequestKind::File => return self.end_file(completed),
            _ => {}
        }
        let socket = self.table.at(completed.request.slot).count(completed);
        if self.with(socket, |state, cx| state.complete(completed, cx)) {
            self.starved.push_back(socket);
        }
        if !completed.more {
            self.end_close(socket.slot);
        }
    }

    fn end_file(&mut self, completed: Cqe) {
        match self.files.end(completed.request.slot, completed.result) {
            FileEnd::Completed(tag, Ok(outcome)) => {
                self.done.end(tag, Outcome::File(Box::new(outcome)));
            }
            FileEnd::Completed(tag, Err(error)) => self.done.fail(tag, error),
            FileEnd::Retry(tag, op) => self.hand_to_file_pool(tag, op),
        }
    }

    /// Completes the close of a socket whose handle is closed.
    fn end_close(&mut self, slot: u32) {
        if let Some(tag) = self.table.at(slot).closed() {
            self.table.release(slot);
            self.remote.counters.closed();
            self.done.end(tag, Outcome::Closed);
        }
    }

    /// Replaces the buffers that left with data. Then restarts as many of the starved receives as
    /// find a buffer now.
    fn fill_buffers(&mut self) {
        let (group, pool) = self.ring.buffers();
        group.fill(pool);
        let served = self.starved.len().min(group.filled());
        for _ in 0..served {
            let Some(socket) = self.starved.pop_front() else { break };
            if self.table.find(socket).is_some() {
                self.with(socket, SocketState::end_starving);
            }
        }
    }

    fn arm_waker(&mut self) {
        let waker = Fd(self.remote.waker().descriptor().as_raw_fd());
        let events = libc::POLLIN.cast_unsigned().into();
        let entry = opcode::PollAdd::new(waker, events).multi(true).build();
        // SAFETY: the request names no memory, and the remote outlives the lane, which drains the
        // ring.
        unsafe { self.ring.push(Request::of_lane(RequestKind::Waker), entry) };
    }
}

impl Drop for UringLane {
    /// Ends and awaits everything that the worker left, even after a panic, before any memory that
    /// the kernel could write to is freed.
    fn drop(&mut self) {
        // Accepted peers that nobody has taken are closed.
        let abandoned = self.files.abandoned();
        let drained = self.ring.drain(abandoned, |completed| drop(socket::accepted(completed)));
        if !drained {
            tracing::error!(
                lane = self.id.0,
                "the system still has operations in flight: their memory is leaked"
            );
            // The kernel ends this thread only after all of the thread's requests.
            self.services.detach_current_thread();
            std::mem::forget(std::mem::take(&mut self.table));
            std::mem::forget(std::mem::take(&mut self.files));
        }
    }
}

impl fmt::Debug for UringLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UringLane").field("id", &self.id).finish_non_exhaustive()
    }
}
