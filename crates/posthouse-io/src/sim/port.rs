//! A completion port of the world: its lanes, their queues, and the accounts.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::time::Duration;

use super::log::Note;
use super::stream::{Flight, Stream};
use super::table::{Body, Entry, Owner};
use super::worker::Step;
use super::world::{Event, World};
use super::{At, Nanos, Network, NewStream, duration};
use crate::address::Address;
use crate::bell::Bell;
use crate::buffer::{LanePool, Pool};
use crate::error::{Error, Failure};
use crate::operation::{NewHandle, Outcome};
use crate::port::{Counters, Drained, Layout, ListenOptions, Listener, Options};
use crate::sync::Arc;
use crate::token::{LaneId, Socket, Tag};
use crate::worker::{IoStep, SideStep};

/// What an operation was, for its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Accept,
    Connect,
    Receive,
    Send,
    Close,
    Resolve,
}

/// A completion that waits to be taken.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) socket: Option<Socket>,
    pub(super) tag: Tag,
    pub(super) role: Role,
    pub(super) more: bool,
    pub(super) result: Delivery,
}

/// What it brings. An accepted stream becomes a value that closes on drop only when it is taken:
/// such a value must not be dropped inside the world.
#[derive(Debug)]
pub(super) enum Delivery {
    Plain(Outcome),
    Accepted(Socket, Address),
}

impl Queued {
    pub(super) fn new(
        socket: Option<Socket>,
        tag: Tag,
        role: Role,
        more: bool,
        outcome: Outcome,
    ) -> Self {
        Self { socket, tag, role, more, result: Delivery::Plain(outcome) }
    }

    pub(super) fn accepted(listener: Socket, tag: Tag, stream: Socket, peer: Address) -> Self {
        let result = Delivery::Accepted(stream, peer);
        Self { socket: Some(listener), tag, role: Role::Accept, more: true, result }
    }

    fn is_failure(&self) -> bool {
        matches!(self.result, Delivery::Plain(Outcome::Failed(_)))
    }
}

/// What the world knows of a port.
pub(super) struct PortState {
    layout: Layout,
    /// Its number as a host of the network.
    pub(super) host: u16,
    pub(super) lanes: Vec<LaneState>,
    pub(super) sides: Vec<usize>,
    /// Workers that have not ended.
    pub(super) workers: usize,
    submitted: u64,
    completed: u64,
    /// Operations whose terminal completion has not been taken.
    in_flight: u64,
    pub(super) sockets: usize,
    /// Until when descriptors are short.
    pub(super) short_until: Nanos,
}

/// A lane: its queue and its workers.
pub(super) struct LaneState {
    /// Pinned: what finished at its submission. It is taken first.
    local: VecDeque<Queued>,
    queue: VecDeque<Queued>,
    pub(super) pool: LanePool,
    /// Workers started, those of them that have ended, and those that sleep.
    pub(super) started: usize,
    pub(super) ended: usize,
    pub(super) sleeping: Vec<usize>,
    /// A wake-up came while every worker ran: the next sleep returns at once.
    pub(super) woken: bool,
}

impl LaneState {
    pub(super) fn is_empty(&self) -> bool {
        self.local.is_empty() && self.queue.is_empty()
    }

    pub(super) fn has_no_worker_left(&self) -> bool {
        self.started > 0 && self.started == self.ended
    }
}

impl World {
    pub(super) fn lane(&mut self, at: At) -> &mut LaneState {
        &mut self.ports[at.port].lanes[at.lane]
    }

    fn open_port(&mut self, layout: Layout, lanes: usize, pool: &Arc<Pool>) -> usize {
        let lane = || LaneState {
            local: VecDeque::new(),
            queue: VecDeque::new(),
            pool: LanePool::new(pool.clone()),
            started: 0,
            ended: 0,
            sleeping: Vec::new(),
            woken: false,
        };
        let number = self.ports.len();
        self.ports.push(PortState {
            layout,
            host: u16::try_from(number + 1).unwrap_or(u16::MAX),
            lanes: (0..lanes).map(|_| lane()).collect(),
            sides: Vec::new(),
            workers: 0,
            submitted: 0,
            completed: 0,
            in_flight: 0,
            sockets: 0,
            short_until: 0,
        });
        number
    }

    // ---- checked access ----

    /// The socket, if it is what the caller may use: registered with this lane, not being closed.
    pub(super) fn own(&mut self, at: At, socket: Socket) -> &mut Entry {
        let wrong = match self.table.entry(socket) {
            None => Some("stale"),
            Some(entry) if entry.closing => Some("being closed"),
            Some(entry) if entry.owner != Owner::Lane(at) => Some("not registered with this lane"),
            Some(_) => None,
        };
        if let Some(wrong) = wrong {
            self.bug(&format!("{socket:?} is used and is {wrong}"));
        }
        self.table.entry(socket).expect("just seen")
    }

    pub(super) fn own_stream(&mut self, at: At, socket: Socket) -> &mut Stream {
        if matches!(self.own(at, socket).body, Body::Listener(_)) {
            self.bug(&format!("{socket:?} is used as a stream and is a listener"));
        }
        self.table.stream(socket).expect("just seen")
    }

    // ---- accounts ----

    /// An operation is submitted.
    pub(super) fn launch(&mut self, at: At, tag: Tag, socket: Option<Socket>) -> Flight {
        if let Some(socket) = socket {
            self.own(at, socket).in_flight += 1;
        }
        let port = &mut self.ports[at.port];
        port.submitted += 1;
        port.in_flight += 1;
        self.note(Note::Submitted, tag.0, at.lane as u64);
        Flight { tag, number: self.number() }
    }

    pub(super) fn fail(
        &mut self,
        at: At,
        socket: Socket,
        flight: Flight,
        role: Role,
        failure: Failure,
        at_once: bool,
    ) {
        let tag = flight.land();
        let outcome = Outcome::Failed(Error::new(failure));
        self.complete(at, Queued::new(Some(socket), tag, role, false, outcome), at_once);
    }

    /// Queues a completion and sees to it that a worker comes for it.
    pub(super) fn complete(&mut self, at: At, queued: Queued, at_once: bool) {
        self.note(Note::Queued, queued.tag.0, queued.role as u64);
        let waiting = queued.socket.and_then(|socket| self.table.entry(socket)).map(|entry| {
            entry.queued += 1;
            entry.queued - 1
        });
        let port = &mut self.ports[at.port];
        port.completed += u64::from(!queued.more);
        let layout = port.layout;
        let lane = &mut port.lanes[at.lane];
        if lane.has_no_worker_left() {
            let (tag, role) = (queued.tag, queued.role);
            self.bug(&format!(
                "a lost completion: {tag:?} ({role:?}), no worker of its lane is left"
            ));
        }
        // The local queue is taken first: what follows something of its socket must not go there.
        if at_once && layout == Layout::Pinned && waiting.is_none_or(|waiting| waiting == 0) {
            lane.local.push_back(queued);
        } else {
            lane.queue.push_back(queued);
        }
        self.call_for(at);
    }

    /// Takes the next completion of a lane.
    pub(super) fn take(&mut self, at: At) -> Option<Queued> {
        let span = self.faults.reorder_span;
        let port = &mut self.ports[at.port];
        let lane = &mut port.lanes[at.lane];
        let queued = match port.layout {
            Layout::Pinned => lane.local.pop_front().or_else(|| lane.queue.pop_front())?,
            Layout::Shared => {
                let count = lane.queue.len().min(span.max(1));
                let mut chosen = if count > 1 { self.random.below(count) } else { 0 };
                // Those of one operation keep their order.
                let tag = lane.queue.get(chosen)?.tag;
                chosen = lane.queue.iter().position(|queued| queued.tag == tag)?;
                self.tally.reordered += u64::from(chosen > 0);
                lane.queue.remove(chosen)?
            }
        };
        self.account(at, &queued);
        Some(queued)
    }

    fn account(&mut self, at: At, queued: &Queued) {
        self.note(Note::Taken, queued.tag.0, queued.role as u64);
        if !queued.is_failure() {
            self.idle = 0;
        }
        let port = &mut self.ports[at.port];
        port.in_flight -= u64::from(!queued.more);
        let Some(socket) = queued.socket else { return };
        let now = self.now;
        let entry = self.table.entry(socket).expect("a socket outlives its completions");
        entry.queued -= 1;
        entry.in_flight -= u32::from(!queued.more);
        if queued.role == Role::Close {
            self.table.remove(socket);
            self.ports[at.port].sockets -= 1;
            return;
        }
        let Body::Stream(stream) = &mut entry.body else { return };
        if queued.role == Role::Send {
            stream.sending = false;
        }
        if stream.is_ready() && !stream.receives.is_empty() && !stream.deliver_due {
            stream.deliver_due = true;
            self.schedule(now, Event::Deliver { to: socket });
        }
    }

    pub(super) fn closed(&mut self, at: At, socket: Socket, tag: Tag, at_once: bool) {
        let queued = Queued::new(Some(socket), tag, Role::Close, false, Outcome::Closed);
        self.complete(at, queued, at_once);
    }
}

/// A port of the world. Its workers hold it: it goes when the last of them and the last handle do.
pub(crate) struct SimPort {
    network: Network,
    number: usize,
    layout: Layout,
    lanes: usize,
    opened: Nanos,
    pool: Arc<Pool>,
}

impl SimPort {
    pub(crate) fn open(network: Network, layout: Layout, options: &Options) -> Arc<Self> {
        let lanes = match layout {
            Layout::Pinned => options.io_workers,
            Layout::Shared => 1,
        };
        let pool = Pool::new(options.buffer_bytes, options.buffers_free_max);
        let mut world = network.lock();
        let number = world.open_port(layout, lanes, &pool);
        let opened = world.now;
        drop(world);
        Arc::new(Self { network, number, layout, lanes, opened, pool })
    }

    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    pub(crate) fn listen(&self, address: Address, options: ListenOptions) -> io::Result<Listener> {
        let (socket, local) = self.network.lock().listen(address, options.backlog)?;
        let handle = NewHandle::Simulated(NewStream::new(self.network.clone(), socket));
        Ok(Listener { handle, local })
    }

    #[expect(clippy::unnecessary_wraps, reason = "the seam's signature: threads can fail to start")]
    pub(crate) fn spawn(
        self: &Arc<Self>,
        lane: LaneId,
        name: &str,
        step: IoStep,
    ) -> io::Result<()> {
        assert!(lane.index() < self.lanes, "{lane:?} of a port with {} lanes", self.lanes);
        let at = At { port: self.number, lane: lane.index() };
        let mut world = self.network.lock();
        let taken = world.lane(at).started > world.lane(at).ended;
        assert!(self.layout == Layout::Shared || !taken, "a second worker on pinned {lane:?}");
        world.start(self.clone(), Some(at), name, Step::Io(step));
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "the seam's signature: threads can fail to start")]
    pub(crate) fn spawn_side(self: &Arc<Self>, name: &str, step: SideStep) -> io::Result<()> {
        self.network.lock().start(self.clone(), None, name, Step::Side(step));
        Ok(())
    }

    pub(crate) fn wake(&self, lane: LaneId) {
        self.network.lock().wake_lane(At { port: self.number, lane: lane.index() });
    }

    pub(crate) fn wake_sides(&self) {
        self.network.lock().wake_sides(self.number);
    }

    pub(crate) fn now(&self) -> Duration {
        duration(self.network.lock().now - self.opened)
    }

    pub(crate) fn random(&self) -> u64 {
        self.network.random()
    }

    pub(crate) fn bell(&self) -> Bell {
        Bell::simulated(self.network.clone())
    }

    pub(crate) fn counters(&self) -> Counters {
        let world = self.network.lock();
        let port = &world.ports[self.number];
        Counters {
            submitted: port.submitted,
            completed: port.completed,
            sockets: port.sockets,
            buffers_used: self.pool.outstanding(),
            buffers_free: self.pool.free(),
        }
    }

    /// Drives the world until the port's workers have ended.
    pub(crate) fn drain(&self, timeout: Duration) -> Drained {
        let done = || (self.network.lock().ports[self.number].workers == 0).then_some(());
        let _ = self.network.run_until(Some(timeout), done);
        let world = self.network.lock();
        let port = &world.ports[self.number];
        Drained { workers: port.workers, leaked: port.in_flight }
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn opened(&self) -> Nanos {
        self.opened
    }

    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }
}

impl Drop for SimPort {
    fn drop(&mut self) {
        let mut world = self.network.lock();
        let in_flight = world.ports[self.number].in_flight;
        if in_flight > 0 && world.is_sound() {
            let text = format!("a port is dropped with {in_flight} operations in flight");
            world.bug(&text);
        }
        // Sockets that were never closed: the system closes them with the port.
        for socket in world.table.of_port(self.number) {
            world.abandon(socket);
        }
        world.ports[self.number].sockets = 0;
        world.ports[self.number].lanes.clear();
    }
}

impl fmt::Debug for SimPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimPort({} of {:?})", self.number, self.network)
    }
}
