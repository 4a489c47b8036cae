//! A worker's end of a completion port.

use std::fmt;
use std::io;
use std::os::windows::io::OwnedSocket;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::HANDLE;

use super::files::{self, Told};
use super::operation::{Begun, Ended, Functions, Spares};
use super::port::{self, Alarm, Event, Port};
use super::record::{Hands, Record, Table};
use crate::address::Address;
use crate::buffer::{Buffer, LanePool};
use crate::completions::{Completions, Figures, Letter};
use crate::error::Error;
use crate::file::FileOp;
use crate::host::{self, Host};
use crate::lane::Cancel;
use crate::operation::{Completion, NewHandle, NewSocket, Op, Outcome};
use crate::port::{Layout, Listener, Options, ReadMode};
use crate::queue::{self, Work, WorkQueue};
use crate::sync::{Arc, AtomicUsize, MutexGuard, Ordering};
use crate::system;
use crate::token::{LaneId, Socket, Tag};

/// Packets that one worker takes in one call, and completions that one step takes: where several
/// take from one port, few, so that work spreads.
const BATCH_PINNED: usize = 256;
const BATCH_SHARED: usize = 16;
/// What the system still has when the port goes is awaited for so long.
const DRAIN: Duration = Duration::from_secs(10);

/// What the workers of one port have in common. Of its locks, a record's comes before the queue's.
pub(crate) struct Core {
    port: Port,
    table: Table,
    queue: WorkQueue<Alarm>,
    layout: Layout,
    pub(super) functions: Functions,
    pub(super) read_mode: ReadMode,
    /// Peers that a listener awaits at a time.
    pub(super) accepts: usize,
    /// Operations on files that the system has.
    files: AtomicUsize,
    /// Operations that nobody awaits any more, not all of which the system has.
    given_up: AtomicUsize,
    /// Workers that were started on it.
    workers: AtomicUsize,
}

impl Core {
    pub(super) fn open(workers: usize, layout: Layout, options: &Options) -> io::Result<Self> {
        let (port, alarm) = port::open(workers)?;
        Ok(Self {
            port,
            table: Table::new(),
            queue: WorkQueue::new(alarm),
            layout,
            functions: Functions::find()?,
            read_mode: options.read_mode,
            accepts: options.accepts,
            files: AtomicUsize::new(0),
            given_up: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
        })
    }

    pub(crate) fn queue(&self) -> &WorkQueue<Alarm> {
        &self.queue
    }

    /// A worker is about to be started.
    pub(crate) fn join(&self) {
        let before = self.workers.fetch_add(1, Ordering::Relaxed);
        assert!(self.layout == Layout::Shared || before == 0, "one worker to a pinned lane");
    }

    fn poster(core: &Arc<Self>) -> impl FnOnce(Completion) + Send + 'static {
        queue::poster(core, Self::queue)
    }

    /// Has the socket's operations end here.
    pub(super) fn associate(&self, socket: &OwnedSocket) -> Result<(), Error> {
        self.port.associate(system::raw(socket) as HANDLE, self.functions.at_once)
    }
}

/// A worker's end of it.
pub(crate) struct IocpLane {
    id: LaneId,
    host: Arc<Host>,
    core: Arc<Core>,
    /// What the call of the moment completes, on its way to the queue.
    done: Completions,
    buffers: LanePool,
    spares: Spares,
    /// Room for the packets of a wait.
    ended: Vec<Ended>,
    now: Duration,
    /// Completions that this step may still take.
    share: usize,
}

/// What the seam asks for.
impl IocpLane {
    pub(crate) fn id(&self) -> LaneId {
        self.id
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

    pub(crate) fn prefers_files(&self) -> bool {
        self.core.functions.on_server
    }

    pub(crate) fn submit(&mut self, tag: Tag, op: Op) {
        self.done.figures().submitted();
        let at_once = match op {
            Op::Resolve(name) => self.host.resolver.look_up(tag, name, Core::poster(&self.core)),
            Op::File(op) => return self.start_file(tag, op),
            Op::Accept(socket)
            | Op::Connect(socket, _)
            | Op::Receive(socket, _)
            | Op::Send(socket, _)
            | Op::Close(socket) => {
                self.with(socket, |record, hands| record.submit(socket, tag, op, hands));
                None
            }
        };
        if let Some(completion) = at_once {
            self.done.put(completion);
            self.core.queue.add(&mut self.done, None);
        }
    }

    fn start_file(&mut self, tag: Tag, op: Box<FileOp>) {
        match files::begin(&self.core.port, (tag, op), &mut self.spares) {
            Ok(Begun::InFlight(_)) => {
                self.core.files.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Begun::Ended(ended)) => self.end_file(ended),
            Err(op) => self.hand_to_disk(tag, op),
        }
    }

    fn end_file(&mut self, ended: Ended) {
        match files::end(ended, &mut self.spares) {
            Told::With(tag, outcome) => {
                self.done.end(tag, Outcome::File(Box::new(outcome)));
                self.core.queue.add(&mut self.done, None);
            }
            Told::Undone(tag, op) => self.hand_to_disk(tag, op),
        }
    }

    fn hand_to_disk(&mut self, tag: Tag, op: Box<FileOp>) {
        #[cfg(test)]
        if self.core.functions.oddities.has_no_thread_for(&op) {
            self.done.fail(tag, Error::new(crate::Failure::Unsupported));
            return self.core.queue.add(&mut self.done, None);
        }
        if let Some(completion) = self.host.disk.take_on(tag, op, Core::poster(&self.core)) {
            self.done.put(completion);
            self.core.queue.add(&mut self.done, None);
        }
    }

    pub(crate) fn cancel(&mut self, socket: Socket, what: Cancel) {
        self.with(socket, |record, hands| record.cancel(what, hands));
    }

    pub(crate) fn give_up(&mut self) {
        self.core.given_up.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn shutdown(&mut self, socket: Socket) {
        self.with(socket, |record, _| record.shutdown());
    }

    pub(crate) fn reset(&mut self, socket: Socket) {
        self.with(socket, Record::reset);
    }

    pub(crate) fn socket(&mut self) -> Socket {
        self.done.figures().opened();
        self.core.table.occupy(|_, _| {})
    }

    pub(crate) fn adopt(&mut self, new: NewSocket) -> Socket {
        self.adopt_handle(new.handle, false)
    }

    pub(crate) fn adopt_listener(&mut self, listener: Listener) -> Socket {
        self.adopt_handle(listener.handle, true)
    }

    pub(crate) fn local_address(&mut self, socket: Socket) -> Option<Address> {
        self.core.table.find(socket).and_then(|record| record.local_address())
    }

    pub(crate) fn recycle(&mut self, buffer: Buffer) {
        self.buffers.give_back(buffer);
    }

    fn adopt_handle(&mut self, handle: NewHandle, is_listener: bool) -> Socket {
        self.done.figures().opened();
        let (handle, core) = (host::handle(handle), &self.core);
        core.table.occupy(|record, _| record.adopt(handle, is_listener, core))
    }
}

/// What the loop asks for, and the way of the work.
impl IocpLane {
    pub(crate) fn new(id: LaneId, host: Arc<Host>, core: Arc<Core>) -> Self {
        let figures: Arc<Figures> = Arc::default();
        core.queue.figures().push(figures.clone());
        Self {
            id,
            now: host.now(),
            buffers: LanePool::new(host.pool.clone()),
            spares: Spares::default(),
            ended: Vec::new(),
            done: Completions::new(figures),
            host,
            share: share(core.layout),
            core,
        }
    }

    /// Between two steps: takes packets, and waits for one where nothing else is to be done.
    pub(crate) fn wait(&mut self, sleep: Option<Duration>) {
        let asleep = sleep != Some(Duration::ZERO) && self.core.queue.fall_asleep();
        let core = self.core.clone();
        let mut ended = std::mem::take(&mut self.ended);
        let mut rung = false;
        loop {
            let limit =
                if asleep { self.host.left_of(sleep, self.now) } else { Some(Duration::ZERO) };
            let mut tell = |event| match event {
                Event::Alarm => rung = true,
                Event::Ended(one) => ended.push(one),
            };
            let taken = match core.layout {
                Layout::Pinned => core.port.wait::<BATCH_PINNED>(limit, &mut tell),
                Layout::Shared => core.port.wait::<BATCH_SHARED>(limit, &mut tell),
            };
            // The system's clock is coarse: it may end a wait early.
            if taken.expect("a port that worked goes on to work") > 0
                || limit == Some(Duration::ZERO)
            {
                break;
            }
        }
        // Up first: whatever comes of the packets, the others know where this worker is.
        core.queue.get_up(asleep, rung, &[]);
        self.now = self.host.now();
        ended.drain(..).for_each(|one| self.complete(one));
        self.ended = ended;
        self.share = share(self.core.layout);
    }

    fn complete(&mut self, ended: Ended) {
        let Some(socket) = ended.operation.socket else {
            self.core.files.fetch_sub(1, Ordering::Relaxed);
            return self.end_file(ended);
        };
        self.with(socket, |record, hands| record.complete(socket, ended, hands));
    }

    fn visit(&mut self, socket: Socket) {
        let core = self.core.clone();
        // Closed since it was listed.
        let Some(record) = core.table.find(socket) else { return };
        self.act(record, socket, |record, hands| record.visit(socket, hands));
    }

    fn with(&mut self, socket: Socket, call: impl FnOnce(&mut Record, &mut Hands<'_>)) {
        let core = self.core.clone();
        self.act(core.table.get(socket), socket, call);
    }

    /// Calls a record of this lane's table.
    fn act(
        &mut self,
        mut record: MutexGuard<'_, Record>,
        socket: Socket,
        call: impl FnOnce(&mut Record, &mut Hands<'_>),
    ) {
        let Self { core, done, buffers, spares, now, .. } = self;
        call(&mut record, &mut Hands { core, done, buffers, spares, now: *now });
        let closed = record.closed();
        if let Some(tag) = closed {
            done.figures().closed();
            done.end(tag, Outcome::Closed);
        }
        let due = record.list().then(|| socket.key());
        // Under the record's lock, so that a socket's completions queue up in their order.
        core.queue.add(done, due);
        drop(record);
        if closed.is_some() {
            core.table.free(socket.slot);
        }
    }
}

/// Completions that one step takes.
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

impl Drop for Core {
    /// Whatever was left, be it by a panic, is ended and awaited before anything that the system
    /// could write to is freed. What it does not give back stays allocated.
    fn drop(&mut self) {
        let abandon = |table: &Table| {
            let mut sockets = 0;
            table.each(|record| {
                record.abandon();
                sockets += usize::from(record.is_in_flight());
            });
            (sockets, self.files.load(Ordering::Relaxed))
        };
        let until = Instant::now() + DRAIN;
        let given_up = self.given_up.load(Ordering::Relaxed);
        let (mut sockets, mut files) = abandon(&self.table);
        while (sockets > 0 || files > given_up) && Instant::now() < until {
            let waited = self.port.wait::<BATCH_PINNED>(Some(Duration::from_secs(1)), |event| {
                let Event::Ended(ended) = event else { return };
                match ended.operation.socket {
                    Some(socket) => self.table.get(socket).count_abandoned(),
                    None => drop(self.files.fetch_sub(1, Ordering::Relaxed)),
                }
            });
            if waited.is_err() {
                break;
            }
            (sockets, files) = abandon(&self.table);
        }
        if sockets + files > 0 {
            tracing::error!(
                left = sockets + files,
                "the system held on to operations: memory leaked"
            );
            // Their handles stay open, too: closed, they could be another's when the system acts.
            self.table.each(Record::leak);
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl fmt::Debug for IocpLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IocpLane").field("id", &self.id).finish_non_exhaustive()
    }
}
