//! The pinned layout: a lane owns its sockets, its queue and its poller; nothing on its steady path
//! is locked.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::poller::{Event, Poller};
use super::record::Record;
use crate::address::Address;
use crate::buffer::{Buffer, LanePool};
use crate::completions::{Completions, Letter};
use crate::disk::FileSent;
use crate::door::Door;
use crate::host::{self, Host};
use crate::lane::Cancel;
use crate::operation::{Completion, NewHandle, NewSocket, Op, Outcome};
use crate::port::Listener;
use crate::sync::Arc;
use crate::table::Table;
use crate::token::{LaneId, Socket, Tag};

/// Events taken from the system in one call.
const BATCH: usize = 256;
/// Completions that one step takes.
const SHARE: usize = 256;

/// A worker's end of a pinned lane.
pub(crate) struct PinnedLane {
    id: LaneId,
    host: Arc<Host>,
    door: Arc<Door>,
    poller: Poller,
    table: Table<Record>,
    /// Keys of the records to visit, each at most once.
    due: VecDeque<u64>,
    done: Completions,
    buffers: LanePool,
    now: Duration,
    /// Completions that this step may still take.
    share: usize,
}

/// What the seam asks for.
impl PinnedLane {
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
            let key = self.due.pop_front()?;
            if let Some(record) = self.table.find(Socket::of_key(key)) {
                record.visit(&mut self.buffers, &mut self.done);
                self.look_after(Socket::of_key(key));
            }
        }
        None
    }

    pub(crate) fn submit(&mut self, tag: Tag, op: Op) {
        self.door.figures.submitted();
        let socket = match op {
            Op::Resolve(name) => {
                if let Some(completion) =
                    self.host.resolver.look_up(tag, name, Door::poster(&self.door))
                {
                    self.done.put(completion);
                }
                return;
            }
            Op::File(op) => {
                if let Some(completion) = self.host.disk.take_on(tag, op, Door::poster(&self.door))
                {
                    self.done.put(completion);
                }
                return;
            }
            Op::Close(socket) => {
                drop(self.table.get(socket).vacate());
                self.table.release(socket.slot);
                self.door.figures.closed();
                return self.done.end(tag, Outcome::Closed);
            }
            Op::Accept(socket)
            | Op::Connect(socket, _)
            | Op::Receive(socket, _)
            | Op::Send(socket, _) => socket,
        };
        let record = self.table.get(socket);
        record.submit(tag, op, (socket, &self.poller), &mut self.done);
        self.look_after(socket);
    }

    pub(crate) fn cancel(&mut self, socket: Socket, what: Cancel) {
        self.table.get(socket).cancel(what, &mut self.done);
    }

    pub(crate) fn shutdown(&mut self, socket: Socket) {
        self.table.get(socket).shutdown();
    }

    pub(crate) fn reset(&mut self, socket: Socket) {
        self.table.get(socket).reset(&mut self.done);
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
        self.buffers.give_back(buffer);
    }

    /// Sees to what a record has come to want.
    fn look_after(&mut self, socket: Socket) {
        let record = self.table.get(socket);
        let parcel = record.parcel(socket, &mut self.done);
        if record.list() {
            self.due.push_back(socket.key());
        }
        let Some(parcel) = parcel else { return };
        let post = Door::letters(&self.door);
        let post = |sent| post(Letter::FileSent(Box::new(sent)));
        if let Some(sent) = self.host.disk.send(parcel, post) {
            self.take_back(sent);
        }
    }

    fn take_back(&mut self, sent: FileSent) {
        let socket = sent.socket;
        // Closed since, after a cancel.
        let Some(record) = self.table.find(socket) else { return };
        record.on_file_sent(sent, &mut self.done);
        self.look_after(socket);
    }

    fn adopt_handle(&mut self, handle: NewHandle) -> Socket {
        self.door.figures.opened();
        let socket = self.table.socket();
        self.table.get(socket).adopt(socket, host::descriptor(handle), &self.poller);
        socket
    }
}

/// What the loop asks for.
impl PinnedLane {
    pub(crate) fn new(id: LaneId, host: Arc<Host>, door: Arc<Door>, poller: Poller) -> Self {
        Self {
            id,
            now: host.now(),
            done: Completions::new(door.figures.clone()),
            buffers: LanePool::new(host.pool.clone()),
            host,
            door,
            poller,
            table: Table::default(),
            due: VecDeque::new(),
            share: SHARE,
        }
    }

    /// Between two steps: takes events, and waits for one where nothing else is to be done.
    pub(crate) fn wait(&mut self, sleep: Option<Duration>) {
        let idle = self.done.is_empty() && self.due.is_empty();
        let asleep = idle && sleep != Some(Duration::ZERO) && self.door.fall_asleep();
        let limit = if asleep { self.host.left_of(sleep, self.now) } else { Some(Duration::ZERO) };
        let Self { poller, table, due, .. } = self;
        let waited = poller.wait::<BATCH>(limit, |event| {
            let Event::Socket { key, news } = event else { return };
            // A socket that has been closed since may still have an event on the way.
            let Some(record) = table.find(Socket::of_key(key)) else { return };
            record.note(news);
            if record.list() {
                due.push_back(key);
            }
        });
        waited.expect("a poller that worked goes on to work");
        if self.door.get_up() {
            let mut back = Vec::new();
            self.door.take_mail(|letter| match letter {
                Letter::Completion(completion) => self.done.put(completion),
                Letter::FileSent(sent) => back.push(sent),
            });
            for sent in back {
                self.take_back(*sent);
            }
        }
        self.now = self.host.now();
        self.share = SHARE;
    }
}

impl fmt::Debug for PinnedLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedLane").field("id", &self.id).finish_non_exhaustive()
    }
}
