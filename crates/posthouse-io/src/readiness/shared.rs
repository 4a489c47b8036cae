//! The shared layout: all workers wait on one poller and take from one queue.

use std::os::fd::OwnedFd;
use std::time::Duration;
use std::{fmt, io};

use super::poller::{self, Event, Poller};
use super::record::Record;
use crate::address::Address;
use crate::buffer::{Buffer, LanePool};
use crate::completions::{Completions, Figures, Letter};
use crate::disk::{FileSent, Parcel};
use crate::door::Alarm;
use crate::host::{self, Host};
use crate::lane::Cancel;
use crate::operation::{Completion, NewHandle, NewSocket, Op, Outcome};
use crate::port::Listener;
use crate::queue::{self, Work, WorkQueue};
use crate::shared_table::SharedTable;
use crate::sync::{Arc, MutexGuard};
use crate::token::{LaneId, Socket, Tag};

/// Events and completions that one worker takes at a time: few, so that work spreads.
const BATCH: usize = 16;
const SHARE: usize = 16;

/// What the workers have in common. Of its locks, a record's comes before the queue's.
#[derive(Debug)]
pub(crate) struct Core {
    poller: Poller,
    table: SharedTable<Record>,
    queue: WorkQueue<Alarm>,
}

impl Core {
    pub(crate) fn open() -> io::Result<Self> {
        let (poller, alarm) = poller::open()?;
        Ok(Self { poller, table: SharedTable::new(), queue: WorkQueue::new(alarm) })
    }

    pub(crate) fn queue(&self) -> &WorkQueue<Alarm> {
        &self.queue
    }

    fn poster(core: &Arc<Self>) -> impl FnOnce(Completion) + Send + 'static {
        queue::poster(core, Self::queue)
    }
}

/// A worker's end of the shared lane.
pub(crate) struct SharedLane {
    host: Arc<Host>,
    core: Arc<Core>,
    /// What the call of the moment completes, on its way to the queue.
    done: Completions,
    buffers: LanePool,
    now: Duration,
    /// Completions that this step may still take.
    share: usize,
}

/// What the seam asks for.
impl SharedLane {
    #[expect(clippy::unused_self, reason = "a lane knows its name; here there is one lane")]
    pub(crate) fn id(&self) -> LaneId {
        LaneId(0)
    }

    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    pub(crate) fn next(&mut self) -> Option<Completion> {
        while self.share > 0 {
            let completion = match self.core.queue.take()? {
                Work::Completion(completion) => completion,
                Work::Mail(Letter::Completion(completion)) => {
                    self.done.figures().completed();
                    completion
                }
                Work::Mail(Letter::FileSent(sent)) => {
                    self.take_back(*sent);
                    continue;
                }
                Work::Visit(key) => {
                    self.visit(Socket::of_key(key));
                    continue;
                }
            };
            self.share -= 1;
            return Some(completion);
        }
        None
    }

    pub(crate) fn submit(&mut self, tag: Tag, op: Op) {
        self.done.figures().submitted();
        let socket = match op {
            Op::Resolve(name) => {
                if let Some(completion) =
                    self.host.resolver.look_up(tag, name, Core::poster(&self.core))
                {
                    self.done.put(completion);
                }
                return self.core.queue.add(&mut self.done, None);
            }
            Op::File(op) => {
                if let Some(completion) = self.host.disk.take_on(tag, op, Core::poster(&self.core))
                {
                    self.done.put(completion);
                }
                return self.core.queue.add(&mut self.done, None);
            }
            Op::Close(socket) => {
                self.core.table.release(socket, Record::vacate);
                self.done.figures().closed();
                self.done.end(tag, Outcome::Closed);
                return self.core.queue.add(&mut self.done, None);
            }
            Op::Accept(socket)
            | Op::Connect(socket, _)
            | Op::Receive(socket, _)
            | Op::Send(socket, _) => socket,
        };
        self.with_record(socket, |record, lane| {
            record.submit(tag, op, (socket, &lane.core.poller), lane.done);
        });
    }

    pub(crate) fn cancel(&mut self, socket: Socket, what: Cancel) {
        self.with_record(socket, |record, lane| record.cancel(what, lane.done));
    }

    pub(crate) fn shutdown(&mut self, socket: Socket) {
        self.with_record(socket, |record, _| record.shutdown());
    }

    pub(crate) fn reset(&mut self, socket: Socket) {
        self.with_record(socket, |record, lane| record.reset(lane.done));
    }

    pub(crate) fn socket(&mut self) -> Socket {
        self.done.figures().opened();
        self.core.table.occupy(|_, _| {})
    }

    pub(crate) fn adopt(&mut self, new: NewSocket) -> Socket {
        self.adopt_handle(new.handle)
    }

    pub(crate) fn adopt_listener(&mut self, listener: Listener) -> Socket {
        self.adopt_handle(listener.handle)
    }

    pub(crate) fn local_address(&mut self, socket: Socket) -> Option<Address> {
        self.core.table.find(socket).and_then(|record| record.local_address())
    }

    pub(crate) fn recycle(&mut self, buffer: Buffer) {
        self.buffers.give_back(buffer);
    }

    fn adopt_handle(&mut self, handle: NewHandle) -> Socket {
        self.done.figures().opened();
        let fd: OwnedFd = host::descriptor(handle);
        self.core.table.occupy(|record, socket| record.adopt(socket, fd, &self.core.poller))
    }
}

/// What the loop asks for, and the way of the work.
impl SharedLane {
    pub(crate) fn new(host: Arc<Host>, core: Arc<Core>) -> Self {
        let figures: Arc<Figures> = Arc::default();
        core.queue.figures().push(figures.clone());
        Self {
            now: host.now(),
            buffers: LanePool::new(host.pool.clone()),
            done: Completions::new(figures),
            host,
            core,
            share: SHARE,
        }
    }

    /// Between two steps: takes events, and waits for one where nothing else is to be done.
    pub(crate) fn wait(&mut self, sleep: Option<Duration>) {
        let asleep = sleep != Some(Duration::ZERO) && self.core.queue.fall_asleep();
        let limit = if asleep { self.host.left_of(sleep, self.now) } else { Some(Duration::ZERO) };
        let mut due = [0; BATCH];
        let (mut listed, mut rung) = (0, false);
        let waited = self.core.poller.wait::<BATCH>(limit, |event| {
            let Event::Socket { key, news } = event else { return rung = true };
            // A socket that has been closed since may still have an event on the way.
            let Some(mut record) = self.core.table.find(Socket::of_key(key)) else { return };
            record.note(news);
            if record.list() {
                due[listed] = key;
                listed += 1;
            }
        });
        waited.expect("a poller that worked goes on to work");
        self.core.queue.get_up(asleep, rung, &due[..listed]);
        self.now = self.host.now();
        self.share = SHARE;
    }

    fn visit(&mut self, socket: Socket) {
        // Closed since it was listed.
        let Some(mut record) = self.core.table.find(socket) else { return };
        record.visit(&mut self.buffers, &mut self.done);
        let parcel = look_after(record, socket, &self.core.queue, &mut self.done);
        self.hand_over(parcel);
    }

    fn with_record(&mut self, socket: Socket, call: impl FnOnce(&mut Record, &mut Call<'_>)) {
        let mut record = self.core.table.get(socket);
        call(&mut record, &mut Call { core: &self.core, done: &mut self.done });
        let parcel = look_after(record, socket, &self.core.queue, &mut self.done);
        self.hand_over(parcel);
    }

    /// Has a thread of the disk send a file.
    fn hand_over(&mut self, parcel: Option<Parcel>) {
        let Some(parcel) = parcel else { return };
        let post = queue::letters(&self.core, Core::queue);
        let post = |sent| post(Letter::FileSent(Box::new(sent)));
        if let Some(sent) = self.host.disk.send(parcel, post) {
            self.take_back(sent);
        }
    }

    fn take_back(&mut self, sent: FileSent) {
        let socket = sent.socket;
        // Closed since, after a cancel.
        let Some(mut record) = self.core.table.find(socket) else { return };
        record.on_file_sent(sent, &mut self.done);
        let parcel = look_after(record, socket, &self.core.queue, &mut self.done);
        self.hand_over(parcel);
    }
}

/// Sees to what a record has come to want, and lets it go.
fn look_after(
    mut record: MutexGuard<'_, Record>,
    socket: Socket,
    queue: &WorkQueue<Alarm>,
    done: &mut Completions,
) -> Option<Parcel> {
    let parcel = record.parcel(socket, done);
    let due = record.list().then(|| socket.key());
    // Under the record's lock, so that a socket's completions queue up in their order.
    queue.add(done, due);
    parcel
}

/// What a call on a record needs of the lane.
struct Call<'a> {
    core: &'a Core,
    done: &'a mut Completions,
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
