//! A completion port on a real system: the lanes of the selected backend, and their workers.

use std::io;
use std::time::Duration;

use crate::address::{Address, Name};
use crate::buffer::BufferPool;
use crate::counters::{Counters, Drained};
use crate::handle::Listener;
#[cfg(windows)]
use crate::iocp;
use crate::lane::{IoStep, Lane, LaneKind};
use crate::native::completion_queue::{Totals, WorkerCounters};
#[cfg(target_os = "linux")]
use crate::native::lane_slot::LaneSlot;
use crate::native::services::Services;
use crate::native::threads::{Background, Notified};
use crate::notify::Notify;
use crate::options::{Layout, ListenOptions, Options};
#[cfg(target_os = "linux")]
use crate::readiness::{self, Poller};
use crate::sync::Arc;
use crate::sys;
use crate::token::LaneId;
use crate::turn::BackgroundStep;
#[cfg(target_os = "linux")]
use crate::uring::{self, Ring};

/// A port of this machine. Its lanes keep what they use of it alive until their workers are done.
#[derive(Debug)]
pub(crate) struct NativePort {
    lanes: Lanes,
    services: Arc<Services>,
    background: Arc<Background>,
    notify: Notify,
}

/// What workers take completions from.
#[derive(Debug)]
pub(crate) enum Lanes {
    #[cfg(target_os = "linux")]
    Readiness(Vec<LaneSlot<Poller, readiness::Injected>>),
    #[cfg(target_os = "linux")]
    ReadinessShared(Arc<readiness::ReadinessCore>),
    #[cfg(target_os = "linux")]
    Uring(Vec<LaneSlot<Ring>>),
    /// One for all workers, or one for each.
    #[cfg(windows)]
    Iocp(Vec<Arc<iocp::IocpCore>>),
}

impl NativePort {
    /// A port on readiness.
    #[cfg(target_os = "linux")]
    pub(crate) fn on_readiness(layout: Layout, options: &Options) -> io::Result<Arc<Self>> {
        let lanes = match layout {
            Layout::Pinned => Lanes::Readiness(readiness::lane_slots(options.io_workers)?),
            Layout::Shared => Lanes::ReadinessShared(Arc::new(readiness::ReadinessCore::open()?)),
        };
        Ok(Self::new(lanes, BufferPool::of(options)))
    }

    /// A port on rings, in the pinned layout.
    #[cfg(target_os = "linux")]
    pub(crate) fn on_uring(options: &Options) -> io::Result<Arc<Self>> {
        let pool = BufferPool::of(options);
        let lane_slots = uring::lane_slots(options.io_workers, &pool)?;
        Ok(Self::new(Lanes::Uring(lane_slots), pool))
    }

    /// A port on completion ports of Windows.
    #[cfg(windows)]
    pub(crate) fn on_iocp(layout: Layout, options: &Options) -> io::Result<Arc<Self>> {
        Ok(Self::new(Lanes::Iocp(iocp::cores(layout, options)?), BufferPool::of(options)))
    }

    fn new(lanes: Lanes, pool: Arc<BufferPool>) -> Arc<Self> {
        Arc::new(Self {
            lanes,
            services: Arc::new(Services::new(pool)),
            background: Arc::default(),
            notify: Notify::new(Notified::default()),
        })
    }

    #[expect(clippy::unused_self, reason = "the seam's signature: a simulated port has names")]
    pub(crate) fn look_up(&self, name: &Name) -> io::Result<Vec<Address>> {
        super::resolver::addresses_of(name)
    }

    pub(crate) fn lanes(&self) -> usize {
        match &self.lanes {
            #[cfg(target_os = "linux")]
            Lanes::Readiness(lane_slots) => lane_slots.len(),
            #[cfg(target_os = "linux")]
            Lanes::Uring(lane_slots) => lane_slots.len(),
            #[cfg(target_os = "linux")]
            Lanes::ReadinessShared(_) => 1,
            #[cfg(windows)]
            Lanes::Iocp(cores) => cores.len(),
        }
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn listen(&self, address: Address, options: ListenOptions) -> io::Result<Listener> {
        let blocking = match &self.lanes {
            Lanes::Readiness(_) | Lanes::ReadinessShared(_) => sys::NON_BLOCKING,
            Lanes::Uring(_) => sys::BLOCKING,
        };
        let (fd, local) = sys::listen(address, options, blocking)?;
        Ok(Listener { handle: Box::new(fd), local })
    }

    #[cfg(windows)]
    #[expect(clippy::unused_self, reason = "the common signature: others look at their lanes")]
    pub(crate) fn listen(&self, address: Address, options: ListenOptions) -> io::Result<Listener> {
        let (socket, local) = sys::listen(address, options)?;
        Ok(Listener { handle: Box::new(socket), local })
    }

    pub(crate) fn spawn(&self, id: LaneId, name: &str, step: IoStep) -> io::Result<()> {
        assert!(id.index() < self.lanes(), "no such lane");
        let services = self.services.clone();
        match &self.lanes {
            #[cfg(target_os = "linux")]
            Lanes::ReadinessShared(core) => {
                let core = core.clone();
                let lane = move || LaneKind::Shared(readiness::SharedLane::new(services, core));
                self.services.threads.start(name, move || Lane { kind: lane() }.run(step))
            }
            #[cfg(target_os = "linux")]
            Lanes::Readiness(lane_slots) => {
                let (remote, poller) = lane_slots[id.index()].take();
                let lane = move || {
                    LaneKind::Pinned(readiness::PinnedLane::new(id, services, remote, poller))
                };
                self.services.threads.start(name, move || Lane { kind: lane() }.run(step))
            }
            #[cfg(target_os = "linux")]
            Lanes::Uring(lane_slots) => {
                let (remote, ring) = lane_slots[id.index()].take();
                let lane =
                    move || LaneKind::Uring(uring::UringLane::new(id, services, remote, ring));
                self.services.threads.start(name, move || Lane { kind: lane() }.run(step))
            }
            #[cfg(windows)]
            Lanes::Iocp(cores) => {
                let core = cores[id.index()].clone();
                core.join();
                let lane = move || LaneKind::Iocp(iocp::IocpLane::new(id, services, core));
                self.services.threads.start(name, move || Lane { kind: lane() }.run(step))
            }
        }
    }

    pub(crate) fn spawn_background(&self, name: &str, step: BackgroundStep) -> io::Result<()> {
        let (background, started) = (self.background.clone(), self.services.started());
        self.services.threads.start(name, move || background.run(started, step))
    }

    pub(crate) fn wake(&self, lane: LaneId) {
        match &self.lanes {
            #[cfg(target_os = "linux")]
            Lanes::Readiness(lane_slots) => lane_slots[lane.index()].remote().wake(),
            #[cfg(target_os = "linux")]
            Lanes::Uring(lane_slots) => lane_slots[lane.index()].remote().wake(),
            #[cfg(target_os = "linux")]
            Lanes::ReadinessShared(core) => core.queue().wake(),
            #[cfg(windows)]
            Lanes::Iocp(cores) => cores[lane.index()].queue().wake(),
        }
    }

    pub(crate) fn wake_background(&self) {
        self.background.wake();
    }

    pub(crate) fn now(&self) -> Duration {
        self.services.now()
    }

    #[expect(clippy::unused_self, reason = "the common signature: the simulation needs it")]
    pub(crate) fn random(&self) -> u64 {
        sys::random()
    }

    pub(crate) fn notify(&self) -> Notify {
        self.notify.clone()
    }

    pub(crate) fn counters(&self) -> Counters {
        let totals = self.totals();
        Counters {
            submitted: totals.submitted,
            completed: totals.completed,
            sockets: totals.sockets(),
            buffers_used: self.services.buffers.outstanding(),
            buffers_free: self.services.buffers.free(),
        }
    }

    pub(crate) fn drain(&self, timeout: Duration) -> Drained {
        let workers = self.services.threads.join(timeout);
        // Each lane has awaited, before it went, what the system still held, but for what was given
        // up. What its user never saw completed is counted all the same, on every backend.
        Drained { workers, leaked: self.totals().in_flight() }
    }

    fn totals(&self) -> Totals {
        match &self.lanes {
            #[cfg(target_os = "linux")]
            Lanes::Readiness(lane_slots) => {
                Totals::of(lane_slots.iter().map(|lane_slot| &*lane_slot.remote().counters))
            }
            #[cfg(target_os = "linux")]
            Lanes::Uring(lane_slots) => {
                Totals::of(lane_slots.iter().map(|lane_slot| &*lane_slot.remote().counters))
            }
            #[cfg(target_os = "linux")]
            Lanes::ReadinessShared(core) => Totals::of(
                core.queue()
                    .worker_counters()
                    .iter()
                    .map(|counters: &Arc<WorkerCounters>| &**counters),
            ),
            #[cfg(windows)]
            Lanes::Iocp(cores) => {
                let counters: Vec<Arc<WorkerCounters>> =
                    cores.iter().flat_map(|core| core.queue().worker_counters().clone()).collect();
                Totals::of(counters.iter().map(|counters| &**counters))
            }
        }
    }
}
