//! The lane of a worker on a completion port.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::windows::io::OwnedSocket;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::HANDLE;

use super::file_ops::{self, FileEnd};
use super::operation::{Ended, FreeList, Functions, Submitted};
use super::port::{self, Event, Port, Waker};
use super::socket::{LaneCx, SocketState, Sockets};
use super::watching::Peek;
use crate::address::Address;
use crate::buffer::{Buffer, LanePool};
use crate::error::Error;
use crate::file_op::FileOp;
use crate::handle::{Listener, SocketHandle};
use crate::lane_ops::{FILE_PART_WORTH, LaneOps};
use crate::native::completion_queue::{CompletionQueue, Totals, WorkerCounters};
use crate::native::native_lanes::NativeLanes;
use crate::native::services::Services;
use crate::native::socket_core::Stage;
use crate::native::socket_handle;
use crate::native::wake::{Wait, WaitEnd};
use crate::native::work_queue::{self, WorkItem, WorkQueue};
use crate::op::{Cancel, Completion, Op, Outcome};
use crate::options::{Layout, ListenOptions, Options, ReadMode};
use crate::sync::{Arc, AtomicUsize, Mutex, MutexGuard, Ordering, lock};
use crate::sys;
use crate::token::{LaneId, Socket, Tag};

/// The maximum number of packets per call and of completions per step: few if several workers take
/// from one port, so that the work spreads.
const BATCH_PINNED: usize = 256;
const BATCH_SHARED: usize = 16;
/// The time for which a dropped port waits for the operations that the system still has.
const DRAIN: Duration = Duration::from_secs(10);

/// The part of a port that its workers share. A thread takes a socket's lock before the queue's.
pub(crate) struct IocpCore {
    port: Port,
    table: Sockets,
    queue: WorkQueue<Waker>,
    layout: Layout,
    pub(super) functions: Functions,
    pub(super) read_mode: ReadMode,
    /// The number of peers that a listener awaits at a time.
    pub(super) accepts: usize,
    /// The number of file operations that the system has.
    files: AtomicUsize,
    /// The number of operations that were abandoned; the system may not have all of them.
    abandoned: AtomicUsize,
    /// The next peeks at sockets that the system does not poll, in the order of their times. A
    /// socket has at most one.
    peeks: Mutex<VecDeque<Peek>>,
    /// The number of workers that were started on it.
    workers: AtomicUsize,
}

impl IocpCore {
    pub(super) fn open(workers: usize, layout: Layout, options: &Options) -> io::Result<Self> {
        let (port, waker) = port::open(workers)?;
        Ok(Self {
            port,
            table: Sockets::new(),
            queue: WorkQueue::new(waker),
            layout,
            functions: Functions::find()?,
            read_mode: options.read_mode,
            accepts: options.accepts,
            files: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            peeks: Mutex::default(),
            workers: AtomicUsize::new(0),
        })
    }

    fn queue(&self) -> &WorkQueue<Waker> {
        &self.queue
    }

    /// Locks the queue of peeks: the sockets that this lane must look at by itself, because the
    /// system does not poll them. The caller may hold the lock of one socket.
    pub(super) fn peeks(&self) -> MutexGuard<'_, VecDeque<Peek>> {
        lock(&self.peeks)
    }

    /// Returns the shorter of a time to wait and the time until the next peek.
    fn until_peek(
        &self,
        limit: Option<Duration>,
        now: impl FnOnce() -> Duration,
    ) -> Option<Duration> {
        match self.peeks().front() {
            Some(next) => {
                let left = next.at.saturating_sub(now());
                Some(limit.map_or(left, |limit| limit.min(left)))
            }
            None => limit,
        }
    }

    fn completion_injector(core: &Arc<Self>) -> impl FnOnce(Completion) + Send + 'static {
        work_queue::completion_injector(core, Self::queue)
    }

    /// Associates a socket with the port, at which its operations then end.
    pub(super) fn associate(&self, socket: &OwnedSocket) -> Result<(), Error> {
        self.port.associate(sys::raw(socket) as HANDLE, self.functions.at_once)
    }
}

impl NativeLanes for Vec<Arc<IocpCore>> {
    type Lane = IocpLane;
    type Seat = Arc<IocpCore>;

    fn count(&self) -> usize {
        self.len()
    }

    fn listen(&self, address: Address, options: ListenOptions) -> io::Result<Listener> {
        let (socket, local) = sys::listen(address, options)?;
        Ok(Listener { handle: Box::new(socket), local })
    }

    fn take(&self, lane: LaneId) -> Arc<IocpCore> {
        let core = &self[lane.index()];
        let before = core.workers.fetch_add(1, Ordering::Relaxed);
        assert!(core.layout == Layout::Shared || before == 0, "one worker to a pinned lane");
        core.clone()
    }

    fn open(core: Arc<IocpCore>, lane: LaneId, services: Arc<Services>) -> IocpLane {
        IocpLane::new(lane, services, core)
    }

    fn wake(&self, lane: LaneId) {
        self[lane.index()].queue.wake();
    }

    fn totals(&self) -> Totals {
        let counters: Vec<Arc<WorkerCounters>> =
            self.iter().flat_map(|core| core.queue.worker_counters().clone()).collect();
        Totals::of(counters.iter().map(|counters| &**counters))
    }
}

/// The access of one worker to the port.
pub(crate) struct IocpLane {
    id: LaneId,
    services: Arc<Services>,
    core: Arc<IocpCore>,
    /// The completions of the present call, before they move to the queue.
    done: CompletionQueue,
    buffers: LanePool,
    free_list: FreeList,
    /// The packets of a wait; kept for its memory.
    ended: Vec<Ended>,
    now: Duration,
    /// The number of completions that this step may still take.
    share: usize,
}

impl LaneOps for IocpLane {
    fn id(&self) -> LaneId {
        self.id
    }

    fn now(&self) -> Duration {
        self.now
    }

    fn next_completion(&mut self) -> Option<Completion> {
        while self.share > 0 {
            let completion = match self.core.queue.take()? {
                WorkItem::Completion(completion) => completion,
                WorkItem::Injected(completion) => {
                    self.done.counters().completed();
                    completion
                }
                WorkItem::Poll(key) => {
                    self.poll(Socket::of_key(key));
                    continue;
                }
            };
            self.share -= 1;
            return Some(completion);
        }
        None
    }

    fn prefers_sendfile(&mut self, bytes: usize) -> bool {
        bytes >= FILE_PART_WORTH && self.core.functions.on_server
    }

    fn submit(&mut self, tag: Tag, op: Op) {
        self.done.counters().submitted();
        let at_once = match op {
            Op::Resolve(name) => self.services.resolver.look_up(
                tag,
                &name,
                IocpCore::completion_injector(&self.core),
            ),
            Op::File(op) => return self.start_file(tag, op),
            Op::Accept(socket)
            | Op::Connect(socket, _)
            | Op::Receive(socket, _)
            | Op::Watch(socket, _)
            | Op::Send(socket, _)
            | Op::Close(socket) => {
                self.with(socket, |state, cx| state.submit(tag, op, cx));
                None
            }
        };
        if let Some(completion) = at_once {
            self.done.put(completion);
            self.core.queue.add(&mut self.done, None);
        }
    }

    fn cancel(&mut self, socket: Socket, what: Cancel) {
        self.with(socket, |state, cx| state.cancel(what, cx));
    }

    fn cancel_look_up(&mut self, tag: Tag) {
        if let Some(completion) = self.services.resolver.cancel(tag) {
            self.done.put(completion);
            self.core.queue.add(&mut self.done, None);
        }
    }

    fn abandon(&mut self, _: Tag) {
        self.core.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    fn shutdown(&mut self, socket: Socket) {
        self.with(socket, |state, _| state.shutdown());
    }

    fn reset(&mut self, socket: Socket) {
        self.with(socket, SocketState::reset);
    }

    fn socket(&mut self) -> Socket {
        self.done.counters().opened();
        self.core.table.occupy(|_, _| {})
    }

    fn adopt(&mut self, handle: Box<dyn SocketHandle>) -> Socket {
        self.adopt_handle(handle, Stage::Connected)
    }

    fn adopt_listener(&mut self, handle: Box<dyn SocketHandle>) -> Socket {
        self.adopt_handle(handle, Stage::Unconnected)
    }

    fn local_address(&mut self, socket: Socket) -> Option<Address> {
        self.core.table.find(socket).and_then(|state| state.local_address())
    }

    fn recycle(&mut self, buffer: Buffer) {
        self.buffers.give_back(buffer);
    }

    fn wait(&mut self, sleep: Option<Duration>) {
        let may_wait = sleep != Some(Duration::ZERO);
        let wait = if may_wait { self.core.queue.begin_wait() } else { Wait::Look };
        let core = self.core.clone();
        let mut ended = std::mem::take(&mut self.ended);
        let mut end = WaitEnd::ByItself;
        loop {
            let limit = wait.limit(|| self.services.left_of(sleep, self.now));
            let limit = core.until_peek(limit, || self.services.now());
            let mut tell = |event| match event {
                Event::Waker => end = WaitEnd::Woken,
                Event::Ended(one) => ended.push(one),
            };
            let taken = match core.layout {
                Layout::Pinned => core.port.wait::<BATCH_PINNED>(limit, &mut tell),
                Layout::Shared => core.port.wait::<BATCH_SHARED>(limit, &mut tell),
            };
            // The system's clock is coarse and may end a wait early.
            if taken.expect("a port that worked once continues to work") > 0
                || limit == Some(Duration::ZERO)
            {
                break;
            }
        }
        // Ended before the packets are handled, so that the other workers know that this one runs.
        core.queue.end_wait(wait, end, &[]);
        self.now = self.services.now();
        ended.drain(..).for_each(|one| self.complete(one));
        self.ended = ended;
        self.peek();
        self.share = share(self.core.layout);
    }
}

/// The methods that serve the sockets and the file operations of the lane.
impl IocpLane {
    fn new(id: LaneId, services: Arc<Services>, core: Arc<IocpCore>) -> Self {
        let counters: Arc<WorkerCounters> = Arc::default();
        core.queue.worker_counters().push(counters.clone());
        Self {
            id,
            now: services.now(),
            buffers: LanePool::new(services.buffers.clone()),
            free_list: FreeList::default(),
            ended: Vec::new(),
            done: CompletionQueue::new(counters),
            services,
            share: share(core.layout),
            core,
        }
    }

    fn start_file(&mut self, tag: Tag, op: Box<FileOp>) {
        match file_ops::begin(&self.core.port, tag, op, &mut self.free_list) {
            Ok(Submitted::InFlight(_)) => {
                self.core.files.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Submitted::Ended(ended)) => self.end_file(ended),
            Err(op) => self.hand_to_file_pool(tag, op),
        }
    }

    fn end_file(&mut self, ended: Ended) {
        match file_ops::end(ended, &mut self.free_list) {
            FileEnd::Completed(tag, outcome) => {
                self.done.end(tag, Outcome::File(Box::new(outcome)));
                self.core.queue.add(&mut self.done, None);
            }
            FileEnd::Retry(tag, op) => self.hand_to_file_pool(tag, op),
        }
    }

    fn hand_to_file_pool(&mut self, tag: Tag, op: Box<FileOp>) {
        #[cfg(test)]
        if self.core.functions.faults.has_no_thread_for(&op) {
            self.done.fail(tag, Error::new(crate::Failure::Unsupported));
            return self.core.queue.add(&mut self.done, None);
        }
        if let Some(completion) =
            self.services.files.start(tag, op, IocpCore::completion_injector(&self.core))
        {
            self.done.put(completion);
            self.core.queue.add(&mut self.done, None);
        }
    }

    fn adopt_handle(&mut self, handle: Box<dyn SocketHandle>, stage: Stage) -> Socket {
        self.done.counters().opened();
        let handle = socket_handle::owned(handle);
        let core = &self.core;
        core.table.occupy(|state, _| state.adopt(handle, stage, core))
    }

    fn complete(&mut self, ended: Ended) {
        let Some(socket) = ended.operation.socket else {
            self.core.files.fetch_sub(1, Ordering::Relaxed);
            return self.end_file(ended);
        };
        self.with(socket, |state, cx| state.complete(ended, cx));
    }

    /// Performs the peeks that are due.
    fn peek(&mut self) {
        let now = self.now;
        loop {
            let due = self.core.peeks().pop_front_if(|peek| peek.at <= now);
            let Some(Peek { socket, .. }) = due else { return };
            let core = self.core.clone();
            if let Some(state) = core.table.find(socket) {
                self.act(state, socket, SocketState::on_peek_due);
            }
        }
    }

    fn poll(&mut self, socket: Socket) {
        let core = self.core.clone();
        // The socket was closed after it was queued.
        let Some(state) = core.table.find(socket) else { return };
        self.act(state, socket, SocketState::poll);
    }

    fn with(&mut self, socket: Socket, call: impl FnOnce(&mut SocketState, &mut LaneCx<'_>)) {
        let core = self.core.clone();
        self.act(core.table.get(socket), socket, call);
    }

    /// Calls a method of a socket of this lane's table, and queues the completions.
    fn act(
        &mut self,
        mut state: MutexGuard<'_, SocketState>,
        socket: Socket,
        call: impl FnOnce(&mut SocketState, &mut LaneCx<'_>),
    ) {
        let Self { core, done, buffers, free_list, now, .. } = self;
        call(&mut state, &mut LaneCx { socket, core, done, buffers, free_list, now: *now });
        let closed = state.closed();
        if let Some(tag) = closed {
            done.counters().closed();
            done.end(tag, Outcome::Closed);
        }
        let ready = state.mark_queued().then(|| socket.key());
        // The socket's lock is held, so its completions are queued in their order.
        core.queue.add(done, ready);
        drop(state);
        if closed.is_some() {
            core.table.free(socket.slot);
        }
    }
}

/// Returns the maximum number of completions per step.
fn share(layout: Layout) -> usize {
    match layout {
        Layout::Pinned => BATCH_PINNED,
        Layout::Shared => BATCH_SHARED,
    }
}

impl Drop for IocpLane {
    fn drop(&mut self) {
        self.core.queue.leave();
    }
}

impl Drop for IocpCore {
    /// Ends and awaits everything that was left, even after a panic, before any memory that the
    /// system could write to is freed. Memory that the system does not return stays allocated.
    fn drop(&mut self) {
        let begin_close = |table: &Sockets| {
            let mut sockets = 0;
            table.each(|state| {
                state.begin_close();
                sockets += usize::from(state.is_in_flight());
            });
            (sockets, self.files.load(Ordering::Relaxed))
        };
        let until = Instant::now() + DRAIN;
        let abandoned = self.abandoned.load(Ordering::Relaxed);
        let (mut sockets, mut files) = begin_close(&self.table);
        while (sockets > 0 || files > abandoned) && Instant::now() < until {
            let waited = self.port.wait::<BATCH_PINNED>(Some(Duration::from_secs(1)), |event| {
                let Event::Ended(ended) = event else { return };
                match ended.operation.socket {
                    Some(socket) => self.table.get(socket).count_ended(),
                    None => drop(self.files.fetch_sub(1, Ordering::Relaxed)),
                }
            });
            if waited.is_err() {
                break;
            }
            (sockets, files) = begin_close(&self.table);
        }
        if sockets + files > 0 {
            tracing::error!(
                left = sockets + files,
                "the system still has operations in flight: their memory is leaked"
            );
            // Their handles stay open, too: after a close they could belong to another socket when
            // the system acts.
            self.table.each(SocketState::leak);
        }
    }
}

impl fmt::Debug for IocpCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl fmt::Debug for IocpLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IocpLane").field("id", &self.id).finish_non_exhaustive()
    }
}
