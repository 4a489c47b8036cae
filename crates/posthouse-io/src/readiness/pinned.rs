//! The pinned layout: a lane owns its sockets, its queue and its poller. Its steady path takes no
//! lock.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::poller::{Event, Poller};
use super::sendfile::{self, Injected, SendfileDone};
use super::socket::SocketState;
use crate::address::Address;
use crate::buffer::{Buffer, LanePool};
use crate::handle::SocketHandle;
use crate::lane_ops::{FILE_PART_WORTH, LaneOps};
use crate::native::completion_queue::CompletionQueue;
use crate::native::lane_remote::LaneRemote;
use crate::native::services::Services;
use crate::native::slot_table::SlotTable;
use crate::native::socket_handle;
use crate::native::wake::Wait;
use crate::op::{Cancel, Completion, Op, Outcome};
use crate::sync::Arc;
use crate::token::{LaneId, Socket, Tag};

/// The maximum number of events taken from the system in one call.
const BATCH: usize = 256;
/// The maximum number of completions per step.
const SHARE: usize = 256;

/// The lane of a worker in the pinned layout.
pub(crate) struct PinnedLane {
    id: LaneId,
    services: Arc<Services>,
    remote: Arc<LaneRemote<Injected>>,
    poller: Poller,
    table: SlotTable<SocketState>,
    /// The keys of the sockets that the lane polls next, in order. Each socket is in the queue at
    /// most once.
    ready: VecDeque<u64>,
    done: CompletionQueue,
    buffers: LanePool,
    now: Duration,
    /// The number of completions that this step may still take.
    share: usize,
}

impl LaneOps for PinnedLane {
    fn id(&self) -> LaneId {
        self.id
    }

    fn now(&self) -> Duration {
        self.now
    }

    fn prefers_sendfile(&mut self, bytes: usize) -> bool {
        bytes >= FILE_PART_WORTH
    }

    fn next_completion(&mut self) -> Option<Completion> {
        while self.share > 0 {
            if let Some(completion) = self.done.pop() {
                self.share -= 1;
                return Some(completion);
            }
            let key = self.ready.pop_front()?;
            if let Some(state) = self.table.find(Socket::of_key(key)) {
                state.poll(&mut self.buffers, &mut self.done);
                self.reschedule(Socket::of_key(key));
            }
        }
        None
    }

    fn submit(&mut self, tag: Tag, op: Op) {
        self.remote.counters.submitted();
        let socket = match op {
            Op::Resolve(name) => {
                if let Some(completion) = self.services.resolver.look_up(
                    tag,
                    &name,
                    LaneRemote::completion_injector(&self.remote),
                ) {
                    self.done.put(completion);
                }
                return;
            }
            Op::File(op) => {
                if let Some(completion) = self.services.files.start(
                    tag,
                    op,
                    LaneRemote::completion_injector(&self.remote),
                ) {
                    self.done.put(completion);
                }
                return;
            }
            Op::Close(socket) => {
                drop(self.table.get(socket).vacate());
                self.table.release(socket.slot);
                self.remote.counters.closed();
                return self.done.end(tag, Outcome::Closed);
            }
            Op::Accept(socket)
            | Op::Connect(socket, _)
            | Op::Receive(socket, _)
            | Op::Watch(socket, _)
            | Op::Send(socket, _) => socket,
        };
        let state = self.table.get(socket);
        state.submit(socket, tag, op, &self.poller, &mut self.done);
        self.reschedule(socket);
    }

    fn cancel(&mut self, socket: Socket, what: Cancel) {
        self.table.get(socket).cancel(what, &mut self.done);
    }

    fn cancel_look_up(&mut self, tag: Tag) {
        if let Some(completion) = self.services.resolver.cancel(tag) {
            self.done.put(completion);
        }
    }

    fn shutdown(&mut self, socket: Socket) {
        self.table.get(socket).shutdown();
    }

    fn reset(&mut self, socket: Socket) {
        self.table.get(socket).reset(&mut self.done);
    }

    fn socket(&mut self) -> Socket {
        self.remote.counters.opened();
        self.table.socket()
    }

    fn adopt(&mut self, handle: Box<dyn SocketHandle>) -> Socket {
        self.remote.counters.opened();
        let socket = self.table.socket();
        self.table.get(socket).adopt(socket, socket_handle::owned(handle), &self.poller);
        socket
    }

    fn local_address(&mut self, socket: Socket) -> Option<Address> {
        self.table.find(socket).and_then(|state| state.local_address())
    }

    fn recycle(&mut self, buffer: Buffer) {
        self.buffers.give_back(buffer);
    }

    fn wait(&mut self, sleep: Option<Duration>) {
        let idle = self.done.is_empty() && self.ready.is_empty();
        let may_wait = idle && sleep != Some(Duration::ZERO);
        let wait = if may_wait { self.remote.begin_wait() } else { Wait::Look };
        let limit = wait.limit(|| self.services.left_of(sleep, self.now));
        let Self { poller, table, ready, .. } = self;
        poller.wait::<BATCH>(limit, |event| {
            let Event::Socket { key, readiness } = event else { return };
            // A socket that has been closed meanwhile may still have an event under way.
            let Some(state) = table.find(Socket::of_key(key)) else { return };
            state.on_event(readiness);
            if state.mark_queued() {
                ready.push_back(key);
            }
        });
        if self.remote.end_wait() {
            let mut back = Vec::new();
            self.remote.drain_injected(|injected| match injected {
                Injected::Completion(completion) => self.done.put(completion),
                Injected::SendfileDone(sent) => back.push(sent),
            });
            for sent in back {
                self.take_back(*sent);
            }
        }
        self.now = self.services.now();
        self.share = SHARE;
    }
}

/// The methods that serve the sockets of the lane.
impl PinnedLane {
    pub(crate) fn new(
        id: LaneId,
        services: Arc<Services>,
        remote: Arc<LaneRemote<Injected>>,
        poller: Poller,
    ) -> Self {
        Self {
            id,
            now: services.now(),
            done: CompletionQueue::new(remote.counters.clone()),
            buffers: LanePool::new(services.buffers.clone()),
            services,
            remote,
            poller,
            table: SlotTable::default(),
            ready: VecDeque::new(),
            share: SHARE,
        }
    }

    /// Queues the socket if it is ready, and starts its `sendfile` if it has one.
    fn reschedule(&mut self, socket: Socket) {
        let state = self.table.get(socket);
        let job = state.take_sendfile_job(socket, &mut self.done);
        if state.mark_queued() {
            self.ready.push_back(socket.key());
        }
        let Some(job) = job else { return };
        let post = LaneRemote::injector(&self.remote);
        let post = |sent| post(Injected::SendfileDone(Box::new(sent)));
        if let Some(sent) = sendfile::start(&self.services.files, job, post) {
            self.take_back(sent);
        }
    }

    fn take_back(&mut self, sent: SendfileDone) {
        let socket = sent.socket;
        // The socket was closed meanwhile, after a cancel.
        let Some(state) = self.table.find(socket) else { return };
        state.on_sendfile_done(sent, &mut self.done);
        self.reschedule(socket);
    }
}

impl fmt::Debug for PinnedLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedLane").field("id", &self.id).finish_non_exhaustive()
    }
}
