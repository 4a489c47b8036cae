//! A worker's end of a ring.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::opcode;
use io_uring::types::Fd;

use super::files::{self, Ended, Files};
use super::record::{self, Hands, Record};
use super::request::{Kind, Request};
use super::ring::{Completed, Ring};
use super::sending::Spares;
use crate::address::Address;
use crate::buffer::Buffer;
use crate::completions::{Completions, Letter};
use crate::disk;
use crate::door::Door;
use crate::file::FileOp;
use crate::host::{self, Host};
use crate::lane::Cancel;
use crate::operation::{Completion, NewHandle, NewSocket, Op, Outcome};
use crate::port::Listener;
use crate::sync::Arc;
use crate::system;
use crate::table::Table;
use crate::token::{LaneId, Socket, Tag};

/// Why the calls on a ring, once it has been probed and opened, do not fail.
pub(super) const WORKS: &str = "a ring that worked goes on to work";
/// Completions that one step takes.
const SHARE: usize = 256;
/// With more buffers than these in the hands of connections, a receive brings one and no more: what
/// a connection's socket has queued then stays in the kernel until its turn.
const BUFFERS_HELD_MAX: usize = 1024;

pub(crate) struct UringLane {
    id: LaneId,
    host: Arc<Host>,
    door: Arc<Door>,
    ring: Ring,
    table: Table<Record>,
    files: Files,
    /// Sockets whose receive ended for want of a buffer: it begins again when there are some.
    starved: VecDeque<Socket>,
    done: Completions,
    spares: Spares,
    now: Duration,
    /// Completions that this step may still take.
    share: usize,
}

/// What the seam asks for.
impl UringLane {
    pub(crate) fn id(&self) -> LaneId {
        self.id
    }

    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    pub(crate) fn next(&mut self) -> Option<Completion> {
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

    pub(crate) fn submit(&mut self, tag: Tag, op: Op) {
        self.door.figures.submitted();
        match op {
            Op::Resolve(name) => {
                if let Some(completion) =
                    self.host.resolver.look_up(tag, name, Door::poster(&self.door))
                {
                    self.done.put(completion);
                }
            }
            Op::File(op) if files::is_for_ring(&op) => self.start_file(tag, op),
            Op::File(op) => self.hand_to_disk(tag, op),
            Op::Accept(socket) => {
                self.with(socket, |record, hands| record.start_accept(socket, tag, hands));
            }
            Op::Connect(socket, address) => self.with(socket, |record, hands| {
                record.start_connect(socket, tag, address, hands);
            }),
            Op::Receive(socket, mode) => self.with(socket, |record, hands| {
                record.start_receive(socket, tag, mode, hands);
            }),
            Op::Send(socket, gather) => self.with(socket, |record, hands| {
                record.start_send(socket, tag, gather, hands);
            }),
            Op::Close(socket) => {
                self.with(socket, |record, hands| record.start_close(socket, tag, hands));
                self.end_close(socket.slot);
            }
        }
    }

    pub(crate) fn cancel(&mut self, socket: Socket, what: Cancel) {
        self.with(socket, |record, hands| record.cancel(socket, what, hands));
    }

    pub(crate) fn give_up(&mut self, tag: Tag) {
        self.files.give_up(tag);
    }

    pub(crate) fn shutdown(&mut self, socket: Socket) {
        self.with(socket, |record, hands| record.shutdown(hands.ring));
    }

    pub(crate) fn reset(&mut self, socket: Socket) {
        self.with(socket, |record, hands| record.reset(socket, hands));
    }

    pub(crate) fn socket(&mut self) -> Socket {
        self.door.figures.opened();
        self.table.socket()
    }

    pub(crate) fn adopt(&mut self, new: NewSocket) -> Socket {
        self.adopt_handle(new.handle)
    }

    pub(crate) fn adopt_listener(&mut self, listener: Listener) -> Socket {
        self.adopt_handle(listener.handle)
    }

    pub(crate) fn local_address(&mut self, socket: Socket) -> Option<Address> {
        self.table.find(socket).and_then(|record| record.local_address())
    }

    pub(crate) fn recycle(&mut self, buffer: Buffer) {
        self.ring.buffers().1.give_back(buffer);
    }

    fn start_file(&mut self, tag: Tag, op: Box<FileOp>) {
        disk::check(&op);
        let (slot, entry) = self.files.begin(tag, op);
        // SAFETY: the operation keeps the memory and the file that the entry names in its place
        // until its completion frees it; after a drain that failed the places are leaked.
        unsafe { self.ring.push(Request::of_file(slot), entry) };
    }

    fn hand_to_disk(&mut self, tag: Tag, op: Box<FileOp>) {
        if let Some(completion) = self.host.disk.take_on(tag, op, Door::poster(&self.door)) {
            self.done.put(completion);
        }
    }

    fn adopt_handle(&mut self, handle: NewHandle) -> Socket {
        let socket = self.socket();
        self.table.get(socket).adopt(host::descriptor(handle));
        socket
    }
}

/// What the loop asks for, and the way of the completions.
impl UringLane {
    /// The lane of this thread, and of no other.
    pub(crate) fn new(id: LaneId, host: Arc<Host>, door: Arc<Door>, ring: Ring) -> Self {
        ring.enable().expect("a ring that was opened can be enabled, once");
        // The kernel can write to a file on behalf of this thread while this thread submits.
        system::hold_off_signals();
        let mut lane = Self {
            id,
            now: host.now(),
            done: Completions::new(door.figures.clone()),
            host,
            door,
            ring,
            table: Table::default(),
            files: Files::default(),
            starved: VecDeque::new(),
            spares: Spares::default(),
            share: SHARE,
        };
        lane.arm_alarm();
        lane
    }

    /// Between two steps: submits what the step queued, and waits where nothing else is to be done.
    pub(crate) fn wait(&mut self, sleep: Option<Duration>) {
        self.fill_buffers();
        let idle = self.done.is_empty() && self.starved.is_empty() && !self.ring.has_next();
        let asleep = idle && sleep != Some(Duration::ZERO) && self.door.fall_asleep();
        let limit = if asleep { self.host.left_of(sleep, self.now) } else { Some(Duration::ZERO) };
        self.ring.enter(limit).expect(WORKS);
        if self.door.get_up() {
            self.door.take_mail(|letter| match letter {
                Letter::Completion(completion) => self.done.put(completion),
                Letter::FileSent(_) => unreachable!("the ring sends files itself"),
            });
        }
        self.now = self.host.now();
        self.share = SHARE;
    }

    fn with(&mut self, socket: Socket, call: impl FnOnce(&mut Record, &mut Hands<'_>)) {
        let Self { ring, table, done, spares, .. } = self;
        let multishot = ring.buffers().1.pool().outstanding() < BUFFERS_HELD_MAX;
        call(table.get(socket), &mut Hands { ring, done, spares, multishot });
    }

    fn complete(&mut self, completed: Completed) {
        let (slot, kind) = (completed.request.slot, completed.request.kind);
        match kind {
            Kind::Alarm if !completed.more => return self.arm_alarm(),
            Kind::Alarm | Kind::CancelAll => return,
            Kind::File => return self.end_file(completed),
            _ => {}
        }
        let record = self.table.at(slot);
        record.count(completed);
        let socket = record.socket(slot);
        match kind {
            Kind::Accept => {
                self.with(socket, |record, hands| record.on_accept(socket, completed, hands));
            }
            Kind::Connect => {
                self.with(socket, |record, hands| record.on_connect(completed, hands));
            }
            Kind::Receive => {
                let mut starved = false;
                self.with(socket, |record, hands| {
                    starved = record.on_receive(socket, completed, hands);
                });
                if starved {
                    self.starved.push_back(socket);
                }
            }
            Kind::Send => {
                self.with(socket, |record, hands| record.on_send(socket, completed, hands));
            }
            Kind::CancelInput | Kind::CancelSend => {
                self.with(socket, |record, hands| record.on_cancel(socket, completed, hands.ring));
            }
            Kind::Close | Kind::Alarm | Kind::CancelAll | Kind::File => {}
        }
        if !completed.more {
            self.with(socket, |record, hands| record.close_when_free(socket, hands.ring));
            self.end_close(slot);
        }
    }

    fn end_file(&mut self, completed: Completed) {
        match self.files.end(completed.request.slot, completed.result) {
            Ended::With(tag, Ok(outcome)) => self.done.end(tag, Outcome::File(Box::new(outcome))),
            Ended::With(tag, Err(error)) => self.done.fail(tag, error),
            Ended::Undone(tag, op) => self.hand_to_disk(tag, op),
        }
    }

    /// The end of a socket whose handle is closed.
    fn end_close(&mut self, slot: u32) {
        if let Some(tag) = self.table.at(slot).closed() {
            self.table.release(slot);
            self.door.figures.closed();
            self.done.end(tag, Outcome::Closed);
        }
    }

    /// Replaces the buffers that went out with data, and lets as many receive, of those that found
    /// none, as will find one now.
    fn fill_buffers(&mut self) {
        let (group, pool) = self.ring.buffers();
        group.fill(pool);
        let served = self.starved.len().min(group.filled());
        for _ in 0..served {
            let Some(socket) = self.starved.pop_front() else { break };
            if self.table.find(socket).is_some() {
                self.with(socket, |record, hands| {
                    record.starved = false;
                    record.arm_receive(socket, hands);
                });
            }
        }
    }

    fn arm_alarm(&mut self) {
        let alarm = Fd(self.door.alarm().descriptor().as_raw_fd());
        let events = libc::POLLIN.cast_unsigned().into();
        let entry = opcode::PollAdd::new(alarm, events).multi(true).build();
        // SAFETY: it names no memory, and the door outlives the lane, which drains the ring.
        unsafe { self.ring.push(Request::of_lane(Kind::Alarm), entry) };
    }
}

impl Drop for UringLane {
    /// Whatever the worker left, be it by a panic, is ended and awaited before anything that the
    /// kernel could write to is freed.
    fn drop(&mut self) {
        // A peer that was accepted and not looked at is let go.
        let given_up = self.files.given_up();
        let drained = self.ring.drain(given_up, |completed| drop(record::accepted(completed)));
        if !drained {
            tracing::error!(lane = self.id.0, "the system held on to operations: memory leaked");
            // It waits for the end of this thread's requests before it lets the thread go.
            self.host.leave_this_thread();
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
