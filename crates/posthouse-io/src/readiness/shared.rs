//! The shared layout: all workers wait on one poller and take from one queue.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::{fmt, io};

use super::poller::{self, Event, Poller};
use super::record::{self, Record};
use super::table::SharedTable;
use crate::address::Address;
use crate::buffer::{Buffer, LanePool};
use crate::completions::{Completions, Figures};
use crate::door::Alarm;
use crate::host::{self, Host};
use crate::lane::Cancel;
use crate::operation::{Completion, NewHandle, NewSocket, Op, Outcome};
use crate::port::Listener;
use crate::sync::{Arc, Mutex, MutexGuard, lock};
use crate::token::{LaneId, Socket, Tag};

/// Events and completions that one worker takes at a time: few, so that work spreads.
const BATCH: usize = 16;
const SHARE: usize = 16;

/// What the workers have in common. Of its locks, a record's comes before the queue's.
#[derive(Debug)]
pub(crate) struct Core {
    poller: Poller,
    alarm: Alarm,
    table: SharedTable,
    queue: Mutex<Queue>,
    figures: Mutex<Vec<Arc<Figures>>>,
}

#[derive(Debug, Default)]
struct Queue {
    completions: VecDeque<Completion>,
    /// Completions from other threads: not yet counted.
    mail: VecDeque<Completion>,
    /// Keys of the records to visit, each at most once.
    due: VecDeque<u64>,
    /// Workers that wait, or are about to: they have seen the queue empty.
    sleepers: usize,
    /// True exactly when a wake-up has come and no step has begun since.
    notified: bool,
    /// True exactly when the alarm is rung (or about to be) and nobody has heard it yet. Whoever
    /// does looks at the queue next.
    alarmed: bool,
}

impl Queue {
    fn len(&self) -> usize {
        self.completions.len() + self.mail.len() + self.due.len()
    }

    /// Whether the caller must ring the alarm for the work that is here: somebody sleeps, and
    /// nobody has been called yet.
    fn calls(&mut self) -> bool {
        let calls = self.sleepers > 0 && !self.alarmed;
        self.alarmed |= calls;
        calls
    }
}

impl Core {
    pub(crate) fn open() -> io::Result<Self> {
        let (poller, alarm) = poller::open()?;
        let (queue, figures) = (Mutex::default(), Mutex::default());
        Ok(Self { poller, alarm, table: SharedTable::new(), queue, figures })
    }

    /// Makes a worker run a step that begins after this call.
    pub(crate) fn wake(&self) {
        self.change(|queue| {
            queue.notified = true;
            queue.calls()
        });
    }

    /// Changes the queue, and rings the alarm where `change` says so.
    fn change(&self, change: impl FnOnce(&mut Queue) -> bool) {
        if change(&mut lock(&self.queue)) {
            self.alarm.ring();
        }
    }

    fn post(&self, completion: Completion) {
        self.change(|queue| {
            queue.mail.push_back(completion);
            queue.calls()
        });
    }

    /// Posts a completion from another thread, unless the port has gone.
    fn poster(core: &Arc<Self>) -> impl FnOnce(Completion) + Send + 'static {
        let core = Arc::downgrade(core);
        move |completion| {
            if let Some(core) = core.upgrade() {
                core.post(completion);
            }
        }
    }

    pub(crate) fn figures(&self) -> MutexGuard<'_, Vec<Arc<Figures>>> {
        lock(&self.figures)
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

/// A piece of work from the queue.
enum Work {
    Completion(Completion),
    Mail(Completion),
    Visit(u64),
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
            let completion = match self.take_work()? {
                Work::Completion(completion) => completion,
                Work::Mail(completion) => {
                    self.done.figures().completed();
                    completion
                }
                Work::Visit(key) => {
                    self.visit(key);
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
                return queue_up(&self.core, &mut self.done, None);
            }
            Op::File(op) => {
                if let Some(completion) = self.host.disk.take_on(tag, op, Core::poster(&self.core))
                {
                    self.done.put(completion);
                }
                return queue_up(&self.core, &mut self.done, None);
            }
            Op::Close(socket) => {
                self.core.table.close(socket);
                self.done.figures().closed();
                self.done.end(tag, Outcome::Closed);
                return queue_up(&self.core, &mut self.done, None);
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
        self.core.table.socket()
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
        self.core.table.adopt(fd, &self.core.poller)
    }
}

/// What the loop asks for, and the way of the work.
impl SharedLane {
    pub(crate) fn new(host: Arc<Host>, core: Arc<Core>) -> Self {
        let figures: Arc<Figures> = Arc::default();
        core.figures().push(figures.clone());
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
        let asleep = {
            // Whoever adds work holds the lock: it comes before this look, or finds a sleeper.
            let mut queue = lock(&self.core.queue);
            let idle = queue.len() == 0 && !queue.notified && sleep != Some(Duration::ZERO);
            queue.sleepers += usize::from(idle);
            idle
        };
        let limit = if asleep { self.host.left_of(sleep, self.now) } else { Some(Duration::ZERO) };
        let mut due = [0; BATCH];
        let (mut listed, mut rung) = (0, false);
        let waited = self.core.poller.wait::<BATCH>(limit, |event| {
            let Event::Socket { key, news } = event else { return rung = true };
            // A socket that has been closed since may still have an event on the way.
            let Some(mut record) = self.core.table.find(record::socket(key)) else { return };
            record.note(news);
            if record.list() {
                due[listed] = key;
                listed += 1;
            }
        });
        waited.expect("a poller that worked goes on to work");
        self.core.change(|queue| {
            queue.sleepers -= usize::from(asleep);
            queue.alarmed &= !rung;
            // A step begins now, whoever was meant.
            queue.notified = false;
            queue.due.extend(&due[..listed]);
            // One piece of work this worker takes itself. For more it calls a sleeper, who gets up
            // and does the same. (These events may have been about to wake one themselves.)
            queue.len() > 1 && queue.calls()
        });
        self.now = self.host.now();
        self.share = SHARE;
    }

    fn take_work(&mut self) -> Option<Work> {
        let mut queue = lock(&self.core.queue);
        (queue.completions.pop_front().map(Work::Completion))
            .or_else(|| queue.mail.pop_front().map(Work::Mail))
            .or_else(|| queue.due.pop_front().map(Work::Visit))
    }

    fn visit(&mut self, key: u64) {
        // Closed since it was listed.
        let Some(mut record) = self.core.table.find(record::socket(key)) else { return };
        record.visit(&mut self.buffers, &mut self.done);
        let due = record.list().then_some(key);
        // Under the record's lock, so that a socket's completions queue up in their order.
        queue_up(&self.core, &mut self.done, due);
    }

    fn with_record(&mut self, socket: Socket, call: impl FnOnce(&mut Record, &mut Call<'_>)) {
        let mut record = self.core.table.get(socket);
        call(&mut record, &mut Call { core: &self.core, done: &mut self.done });
        let due = record.list().then(|| record::key(socket));
        queue_up(&self.core, &mut self.done, due);
    }
}

/// What a call on a record needs of the lane.
struct Call<'a> {
    core: &'a Core,
    done: &'a mut Completions,
}

/// Moves what has been completed, and a record that is due, to the queue. One piece of work this
/// worker takes itself, as soon as it comes back for more (a call would add a system call to each
/// send that completes at once); for more than one it calls a sleeper.
fn queue_up(core: &Core, done: &mut Completions, due: Option<u64>) {
    if done.is_empty() && due.is_none() {
        return;
    }
    core.change(|queue| {
        done.move_to(&mut queue.completions);
        queue.due.extend(due);
        queue.len() > 1 && queue.calls()
    });
}

impl Drop for SharedLane {
    /// A worker that ends, be it by a panic, may have been called for work that it did not take.
    fn drop(&mut self) {
        self.core.change(|queue| queue.len() > 0 && queue.calls());
    }
}

impl fmt::Debug for SharedLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLane").finish_non_exhaustive()
    }
}
