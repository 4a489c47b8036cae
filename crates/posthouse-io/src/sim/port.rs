//! A completion port of the world: its lanes, their queues, and its counts.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::time::Duration;

use super::completions::Queued;
use super::stream::Stream;
use super::table::{Entry, Owner, SocketKind};
use super::worker::Step;
use super::world::World;
use super::{LaneAddr, Nanos, Network, NewStream, duration};
use crate::address::{Address, Name};
use crate::buffer::{BufferPool, LanePool};
use crate::counters::{Counters, Drained};
use crate::error::look_up_timed_out;
use crate::handle::Listener;
use crate::lane::IoStep;
use crate::notify::Notify;
use crate::options::{Layout, ListenOptions, Options};
use crate::sync::Arc;
use crate::token::{LaneId, Socket, Tag};
use crate::turn::BackgroundStep;

/// The state of a port in the world.
pub(super) struct PortState {
    pub(super) layout: Layout,
    /// The number of the port as a host of the network.
    pub(super) host: u16,
    pub(super) lanes: Vec<LaneState>,
    pub(super) background: Vec<usize>,
    /// The number of workers that have not ended.
    pub(super) workers: usize,
    pub(super) submitted: u64,
    pub(super) completed: u64,
    /// The number of operations whose terminal completion has not been taken.
    pub(super) in_flight: u64,
    /// The operations among them without a socket: file operations and look-ups.
    pub(super) socketless: Vec<SocketlessOp>,
    pub(super) sockets: usize,
    /// The end of the shortage of descriptors.
    pub(super) short_until: Nanos,
}

/// An operation without a socket.
pub(super) struct SocketlessOp {
    pub(super) tag: Tag,
    /// True exactly when nobody awaits it any more.
    pub(super) abandoned: bool,
}

impl PortState {
    /// Returns the number of operations that are awaited.
    fn awaited(&self) -> u64 {
        self.in_flight
            - self.socketless.iter().filter(|socketless| socketless.abandoned).count() as u64
    }
}

/// A lane: its queue and its workers.
pub(super) struct LaneState {
    /// In the pinned layout, the completions of operations that finished at their submission. They
    /// are taken first.
    pub(super) local: VecDeque<Queued>,
    pub(super) queue: VecDeque<Queued>,
    pub(super) pool: LanePool,
    /// The number of workers that started, the number of them that ended, and those that sleep.
    pub(super) started: usize,
    pub(super) ended: usize,
    pub(super) sleeping: Vec<usize>,
    /// True exactly when a wake-up came while every worker ran; the next sleep returns at once.
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
    pub(super) fn lane(&mut self, at: LaneAddr) -> &mut LaneState {
        &mut self.ports[at.port].lanes[at.lane]
    }

    fn open_port(&mut self, layout: Layout, lanes: usize, pool: &Arc<BufferPool>) -> usize {
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
            background: Vec::new(),
            workers: 0,
            submitted: 0,
            completed: 0,
            in_flight: 0,
            socketless: Vec::new(),
            sockets: 0,
            short_until: 0,
        });
        number
    }

    // ---- checked access ----

    /// Returns the socket if the caller may use it: it is registered with this lane and not being
    /// closed.
    pub(super) fn own(&mut self, at: LaneAddr, socket: Socket) -> &mut Entry {
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

    pub(super) fn own_stream(&mut self, at: LaneAddr, socket: Socket) -> &mut Stream {
        if matches!(self.own(at, socket).kind, SocketKind::Listener(_)) {
            self.bug(&format!("{socket:?} is used as a stream and is a listener"));
        }
        self.table.stream(socket).expect("just seen")
    }
}

/// A port of the world. Its workers hold it, so it is dropped with the last of them or the last
/// handle.
pub(crate) struct SimPort {
    network: Network,
    number: usize,
    layout: Layout,
    lanes: usize,
    opened: Nanos,
    pool: Arc<BufferPool>,
}

impl SimPort {
    pub(crate) fn open(network: Network, layout: Layout, options: &Options) -> Arc<Self> {
        let lanes = match layout {
            Layout::Pinned => options.io_workers,
            Layout::Shared => 1,
        };
        let pool = BufferPool::of(options);
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
        let handle = Box::new(NewStream::new(self.network.clone(), socket));
        Ok(Listener { handle, local })
    }

    pub(crate) fn look_up(&self, name: &Name) -> io::Result<Vec<Address>> {
        let world = self.network.lock();
        if name.as_address().is_none() && world.hung_names.contains(&name.host) {
            // The caller may be the thread that moves time.
            return Err(look_up_timed_out());
        }
        let not_found = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        world.addresses_of(name).ok_or_else(not_found)
    }

    #[expect(clippy::unnecessary_wraps, reason = "the common signature: threads can fail to start")]
    pub(crate) fn spawn(
        self: &Arc<Self>,
        lane: LaneId,
        name: &str,
        step: IoStep,
    ) -> io::Result<()> {
        assert!(lane.index() < self.lanes, "{lane:?} of a port with {} lanes", self.lanes);
        let at = LaneAddr { port: self.number, lane: lane.index() };
        let mut world = self.network.lock();
        let taken = world.lane(at).started > world.lane(at).ended;
        assert!(self.layout == Layout::Shared || !taken, "a second worker on pinned {lane:?}");
        world.start(self.clone(), Some(at), name, Step::Io(step));
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "the common signature: threads can fail to start")]
    pub(crate) fn spawn_background(
        self: &Arc<Self>,
        name: &str,
        step: BackgroundStep,
    ) -> io::Result<()> {
        self.network.lock().start(self.clone(), None, name, Step::Background(step));
        Ok(())
    }

    pub(crate) fn assert_owned(&self) {
        self.network.assert_owned();
    }

    pub(crate) fn wake(&self, lane: LaneId) {
        self.network.lock().wake_lane(LaneAddr { port: self.number, lane: lane.index() });
    }

    pub(crate) fn wake_background(&self) {
        self.network.lock().wake_background(self.number);
    }

    pub(crate) fn now(&self) -> Duration {
        duration(self.network.lock().now - self.opened)
    }

    pub(crate) fn random(&self) -> u64 {
        self.network.random()
    }

    pub(crate) fn notify(&self) -> Notify {
        Notify::new(self.network.clone())
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

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }
}

impl Drop for SimPort {
    fn drop(&mut self) {
        let mut world = self.network.lock();
        let awaited = world.ports[self.number].awaited();
        if awaited > 0 && world.is_sound() {
            let text = format!("a port is dropped with {awaited} operations in flight");
            world.bug(&text);
        }
        world.forget_look_ups(self.number);
        // The system closes forgotten sockets together with the port.
        for socket in world.table.of_port(self.number) {
            world.close_unowned(socket);
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
