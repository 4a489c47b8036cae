//! The readiness backend: epoll, edge-triggered, and non-blocking calls.
//!
//! A socket is registered once for its life, and then only its record changes: what the events
//! said ([`record::Record::note`]) and what waits on it. A record that has both is visited from
//! [`Lane::next`](crate::Lane::next), for one buffer at a time. Receive buffers are taken when
//! there is something to read, so an idle connection holds none.
//!
//! | file | what it holds |
//! |---|---|
//! | `record` | one socket: its state, its operations, where they meet |
//! | `pinned`, `shared` | the two layouts: whose the records and the queue are |
//! | `table` | slots and generations |
//! | `completions` | the queue of results, and the figures |
//! | `poller` | epoll and eventfd |
//! | `system` | the calls on sockets, and what their errors mean |
//! | `threads` | workers |

mod completions;
mod pinned;
mod poller;
mod record;
mod shared;
mod system;
mod table;
mod threads;

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::bell::Bell;
use crate::buffer::Pool;
use crate::lane::{Lane, LaneKind};
use crate::operation::NewHandle;
use crate::port::{Counters, Drained, Layout, ListenOptions, Listener, Options};
use crate::resolver::Resolver;
use crate::sync::{Arc, Mutex, lock};
use crate::token::LaneId;
use crate::worker::{IoStep, SideStep, Turn, run_step};

use self::completions::{Figures, Totals};
use self::pinned::Door;
use self::poller::Poller;
use self::threads::{Sides, Threads};

pub(crate) use self::pinned::PinnedLane;
pub(crate) use self::shared::SharedLane;

/// A port of this backend. Its threads keep it alive until their workers are done.
#[derive(Debug)]
pub(crate) struct Port {
    started: Instant,
    lanes: Lanes,
    pool: Arc<Pool>,
    resolver: Resolver,
    threads: Threads,
    sides: Arc<Sides>,
    bell: Bell,
}

#[derive(Debug)]
enum Lanes {
    Pinned(Vec<Seat>),
    Shared(Arc<shared::Core>),
}

/// A pinned lane's place for its worker.
#[derive(Debug)]
struct Seat {
    door: Arc<Door>,
    /// Until the worker takes it.
    poller: Mutex<Option<Poller>>,
}

impl Port {
    pub(crate) fn open(layout: Layout, options: &Options) -> io::Result<Arc<Self>> {
        let lanes = match layout {
            Layout::Pinned => {
                let seats = (0..options.io_workers).map(|_| Seat::new());
                Lanes::Pinned(seats.collect::<io::Result<_>>()?)
            }
            Layout::Shared => {
                let (poller, alarm) = poller::open()?;
                Lanes::Shared(Arc::new(shared::Core::new(poller, alarm)))
            }
        };
        Ok(Arc::new(Self {
            started: Instant::now(),
            lanes,
            pool: Pool::new(options.buffer_bytes, options.buffers_free_max),
            resolver: Resolver::default(),
            threads: Threads::default(),
            sides: Arc::default(),
            bell: Bell::real(),
        }))
    }

    pub(crate) fn lanes(&self) -> usize {
        match &self.lanes {
            Lanes::Pinned(seats) => seats.len(),
            Lanes::Shared(_) => 1,
        }
    }

    #[expect(clippy::unused_self, reason = "the seam's signature: other backends need it")]
    pub(crate) fn listen(&self, address: Address, options: ListenOptions) -> io::Result<Listener> {
        let (fd, local) = system::listen(address, options)?;
        Ok(Listener { handle: NewHandle::Descriptor(fd), local })
    }

    pub(crate) fn spawn(self: &Arc<Self>, id: LaneId, name: &str, step: IoStep) -> io::Result<()> {
        assert!(id.index() < self.lanes(), "no such lane");
        let port = self.clone();
        match &self.lanes {
            Lanes::Shared(core) => {
                let core = core.clone();
                self.threads.start(name, move || {
                    run(Lane { kind: LaneKind::Shared(SharedLane::new(port, core)) }, step);
                })
            }
            Lanes::Pinned(seats) => {
                let seat = &seats[id.index()];
                let poller = lock(&seat.poller).take().expect("one worker to a pinned lane");
                let door = seat.door.clone();
                self.threads.start(name, move || {
                    let lane = PinnedLane::new(id, port, door, poller);
                    run(Lane { kind: LaneKind::Pinned(lane) }, step);
                })
            }
        }
    }

    pub(crate) fn spawn_side(&self, name: &str, step: SideStep) -> io::Result<()> {
        let (sides, started) = (self.sides.clone(), self.started);
        self.threads.start(name, move || sides.run(started, step))
    }

    pub(crate) fn wake(&self, lane: LaneId) {
        match &self.lanes {
            Lanes::Pinned(seats) => seats[lane.index()].door.wake(),
            Lanes::Shared(core) => core.wake(),
        }
    }

    pub(crate) fn wake_sides(&self) {
        self.sides.wake();
    }

    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    #[expect(clippy::unused_self, reason = "the seam's signature: other backends need it")]
    pub(crate) fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        let filled = rustix::io::retry_on_intr(|| {
            rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        });
        // getrandom(2): up to 256 bytes always come whole.
        assert_eq!(filled, Ok(bytes.len()), "the system gives random bytes");
        u64::from_ne_bytes(bytes)
    }

    pub(crate) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    pub(crate) fn counters(&self) -> Counters {
        let totals = self.totals();
        Counters {
            submitted: totals.submitted,
            completed: totals.completed,
            sockets: totals.sockets(),
            buffers_used: self.pool.outstanding(),
            buffers_free: self.pool.free(),
        }
    }

    pub(crate) fn drain(&self, timeout: Duration) -> Drained {
        let workers = self.threads.join(timeout);
        // The system holds no memory of this backend's operations. What was in flight when the
        // workers ended is counted all the same: it is the same mistake on every backend.
        Drained { workers, leaked: self.totals().in_flight() }
    }

    fn totals(&self) -> Totals {
        match &self.lanes {
            Lanes::Pinned(seats) => Totals::of(seats.iter().map(|seat| &*seat.door.figures)),
            Lanes::Shared(core) => {
                Totals::of(core.figures().iter().map(|figures: &Arc<Figures>| &**figures))
            }
        }
    }

    /// What is left of a sleep that a step asked for when it was `then`.
    fn left_of(&self, sleep: Option<Duration>, then: Duration) -> Option<Duration> {
        let until = then.checked_add(sleep?)?;
        Some(until.saturating_sub(self.now()))
    }
}

impl Seat {
    fn new() -> io::Result<Self> {
        let (poller, alarm) = poller::open()?;
        Ok(Self { door: Arc::new(Door::new(alarm)), poller: Mutex::new(Some(poller)) })
    }
}

/// The loop of an I/O worker.
fn run(mut lane: Lane, mut step: IoStep) {
    loop {
        let sleep = match run_step(|| step(&mut lane)) {
            Turn::Again => Some(Duration::ZERO),
            Turn::Sleep(sleep) => sleep,
            Turn::Done => return,
        };
        match &mut lane.kind {
            LaneKind::Pinned(lane) => lane.wait(sleep),
            LaneKind::Shared(lane) => lane.wait(sleep),
            LaneKind::Simulated(_) => unreachable!("a simulated lane has no thread"),
        }
    }
}

/// The descriptor of a handle that comes from this port.
fn descriptor(handle: NewHandle) -> OwnedFd {
    match handle {
        NewHandle::Descriptor(fd) => fd,
        NewHandle::Simulated(_) => panic!("a handle of a simulated network on a real port"),
    }
}
