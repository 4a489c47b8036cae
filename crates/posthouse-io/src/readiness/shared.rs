//! The shared layout: all workers wait on one poller and take from one queue.

use std::os::fd::OwnedFd;
use std::time::Duration;
use std::{fmt, io};

use super::poller::{self, Event, Poller};
use super::sendfile::{self, Injected, SendfileDone, SendfileJob};
use super::socket::SocketState;
use crate::address::Address;
use crate::buffer::{Buffer, LanePool};
use crate::handle::{Listener, SocketHandle};
use crate::lane_ops::{FILE_PART_WORTH, LaneOps};
use crate::native::completion_queue::{CompletionQueue, Totals, WorkerCounters};
use crate::native::lane_remote::Waker;
use crate::native::native_lanes::NativeLanes;
use crate::native::services::Services;
use crate::native::shared_slot_table::SharedSlotTable;
use crate::native::socket_handle;
use crate::native::wake::{Wait, WaitEnd};
use crate::native::work_queue::{self, WorkItem, WorkQueue};
use crate::op::{Cancel, Completion, Op, Outcome};
use crate::options::ListenOptions;
use crate::sync::{Arc, MutexGuard};
use crate::sys;
use crate::token::{LaneId, Socket, Tag};

/// The maximum number of events and of completions that one worker takes at a time: few, so that
/// the work spreads.
const BATCH: usize = 16;
const SHARE: usize = 16;

/// The part of the lane that its workers share. A thread takes a socket's lock before the queue's.
#[derive(Debug)]
pub(crate) struct ReadinessCore {
    poller: Poller,
    table: SharedSlotTable<SocketState>,
    queue: WorkQueue<Waker, Injected>,
}

impl ReadinessCore {
    pub(crate) fn open() -> io::Result<Self> {
        let (poller, waker) = poller::open()?;
        Ok(Self { poller, table: SharedSlotTable::new(), queue: WorkQueue::new(waker) })
    }

    fn queue(&self) -> &WorkQueue<Waker, Injected> {
        &self.queue
    }

    fn completion_injector(core: &Arc<Self>) -> impl FnOnce(Completion) + Send + 'static {
        work_queue::completion_injector(core, Self::queue)
    }
}

impl NativeLanes for Arc<ReadinessCore> {
    type Lane = SharedLane;
    type Seat = Self;

    fn count(&self) -> usize {
        1
    }

    fn listen(&self, address: Address, options: ListenOptions) -> io::Result<Listener> {
        let (fd, local) = sys::listen(address, options, sys::NON_BLOCKING)?;
        Ok(Listener { handle: Box::new(fd), local })
    }

    fn take(&self, _: LaneId) -> Self {
        self.clone()
    }

    fn open(core: Self, _: LaneId, services: Arc<Services>) -> SharedLane {
        SharedLane::new(services, core)
    }

    fn wake(&self, _: LaneId) {
        self.queue.wake();
    }

    fn totals(&self) -> Totals {
        self.queue.totals()
    }
}

/// The access of one worker to the shared lane.
pub(crate) struct SharedLane {
    services: Arc<Services>,
    core: Arc<ReadinessCore>,
    /// The completions of the present call, before they move to the queue.
    done: CompletionQueue,
    buffers: LanePool,
    now: Duration,
    /// The number of completions that this step may still take.
    share: usize,
}

impl LaneOps for SharedLane {
    fn id(&self) -> LaneId {
        LaneId(0)
    }

    fn now(&self) -> Duration {
        self.now
    }

    fn prefers_sendfile(&mut self, bytes: usize) -> bool {
        bytes >= FILE_PART_WORTH
    }

    fn next_completion(&mut self) -> Option<Completion> {
        while self.share > 0 {
            let completion = match self.core.queue.take()? {
                WorkItem::Completion(completion) => completion,
                WorkItem::Injected(Injected::Completion(completion)) => {
                    self.done.counters().completed();
                    completion
                }
                WorkItem::Injected(Injected::SendfileDone(sent)) => {
                    self.take_back(*sent);
                    continue;
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

    fn submit(&mut self, tag: Tag, op: Op) {
        self.done.counters().submitted();
        let socket = match op {
            Op::Resolve(name) => {
                if let Some(completion) = self.services.resolver.look_up(
                    tag,
                    &name,
                    ReadinessCore::completion_injector(&self.core),
                ) {
                    self.done.put(completion);
                }
                return self.core.queue.add(&mut self.done, None);
            }
            Op::File(op) => {
                if let Some(completion) = self.services.files.start(
                    tag,
                    op,
                    ReadinessCore::completion_injector(&self.core),
                ) {
                    self.done.put(completion);
                }
                return self.core.queue.add(&mut self.done, None);
            }
            Op::Close(socket) => {
                self.core.table.release(socket, SocketState::vacate);
                self.done.counters().closed();
                self.done.end(tag, Outcome::Closed);
                return self.core.queue.add(&mut self.done, None);
            }
            Op::Accept(socket)
            | Op::Connect(socket, _)
            | Op::Receive(socket, _)
            | Op::Watch(socket, _)
            | Op::Send(socket, _) => socket,
        };
        self.with_state(socket, |state, lane| {
            state.submit(socket, tag, op, &lane.core.poller, lane.done);
        });
    }

    fn cancel(&mut self, socket: Socket, what: Cancel) {
        self.with_state(socket, |state, lane| state.cancel(what, lane.done));
    }

    fn cancel_look_up(&mut self, tag: Tag) {
        if let Some(completion) = self.services.resolver.cancel(tag) {
            self.done.put(completion);
            self.core.queue.add(&mut self.done, None);
        }
    }

    fn shutdown(&mut self, socket: Socket) {
        self.with_state(socket, |state, _| state.shutdown());
    }

    fn reset(&mut self, socket: Socket) {
        self.with_state(socket, |state, lane| state.reset(lane.done));
    }

    fn socket(&mut self) -> Socket {
        self.done.counters().opened();
        self.core.table.occupy(|_, _| {})
    }

    fn adopt(&mut self, handle: Box<dyn SocketHandle>) -> Socket {
        self.done.counters().opened();
        let fd: OwnedFd = socket_handle::owned(handle);
        self.core.table.occupy(|state, socket| state.adopt(socket, fd, &self.core.poller))
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
        let limit = wait.limit(|| self.services.left_of(sleep, self.now));
        let mut ready = [0; BATCH];
        let mut queued = 0;
        let mut end = WaitEnd::ByItself;
        self.core.poller.wait::<BATCH>(limit, |event| {
            let Event::Socket { key, readiness } = event else { return end = WaitEnd::Woken };
            // A socket that has been closed meanwhile may still have an event under way.
            let Some(mut state) = self.core.table.find(Socket::of_key(key)) else { return };
            state.on_event(readiness);
            if state.mark_queued() {
                ready[queued] = key;
                queued += 1;
            }
        });
        self.core.queue.end_wait(wait, end, &ready[..queued]);
        self.now = self.services.now();
        self.share = SHARE;
    }
}

/// The methods that serve the sockets of the lane.
impl SharedLane {
    fn new(services: Arc<Services>, core: Arc<ReadinessCore>) -> Self {
        let counters: Arc<WorkerCounters> = Arc::default();
        core.queue.worker_counters().push(counters.clone());
        Self {
            now: services.now(),
            buffers: LanePool::new(services.buffers.clone()),
            done: CompletionQueue::new(counters),
            services,
            core,
            share: SHARE,
        }
    }

    fn poll(&mut self, socket: Socket) {
        // The socket was closed after it was queued.
        let Some(mut state) = self.core.table.find(socket) else { return };
        state.poll(&mut self.buffers, &mut self.done);
        let job = reschedule(state, socket, &self.core.queue, &mut self.done);
        self.hand_over(job);
    }

    fn with_state(&mut self, socket: Socket, call: impl FnOnce(&mut SocketState, &mut Call<'_>)) {
        let mut state = self.core.table.get(socket);
        call(&mut state, &mut Call { core: &self.core, done: &mut self.done });
        let job = reschedule(state, socket, &self.core.queue, &mut self.done);
        self.hand_over(job);
    }

    /// Starts a `sendfile` on a thread of the file pool.
    fn hand_over(&mut self, job: Option<SendfileJob>) {
        let Some(job) = job else { return };
        let post = work_queue::injector(&self.core, ReadinessCore::queue);
        let post = |sent| post(Injected::SendfileDone(Box::new(sent)));
        if let Some(sent) = sendfile::start(&self.services.files, job, post) {
            self.take_back(sent);
        }
    }

    fn take_back(&mut self, sent: SendfileDone) {
        let socket = sent.socket;
        // The socket was closed meanwhile, after a cancel.
        let Some(mut state) = self.core.table.find(socket) else { return };
        state.on_sendfile_done(sent, &mut self.done);
        let job = reschedule(state, socket, &self.core.queue, &mut self.done);
        self.hand_over(job);
    }
}

/// Queues the socket if it is ready, and releases its lock. Returns its `sendfile` job, if it has
/// one.
fn reschedule(
    mut state: MutexGuard<'_, SocketState>,
    socket: Socket,
    queue: &WorkQueue<Waker, Injected>,
    done: &mut CompletionQueue,
) -> Option<SendfileJob> {
    let job = state.take_sendfile_job(socket, done);
    let ready = state.mark_queued().then(|| socket.key());
    // The socket's lock is held, so its completions are queued in their order.
    queue.add(done, ready);
    job
}

/// The parts of the lane that a call on a socket uses.
struct Call<'a> {
    core: &'a ReadinessCore,
    done: &'a mut CompletionQueue,
}

impl Drop for SharedLane {
    fn drop(&mut self) {
        self.core.queue.leave();
    }
}

impl fmt::Debug for SharedLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLane").finish_non_exhaustive()
    }
}
