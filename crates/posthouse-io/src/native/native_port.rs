//! A completion port on a real system: the lanes of the selected backend, and their workers.

use std::io;
use std::time::Duration;

use crate::address::{Address, Name};
use crate::buffer::BufferPool;
use crate::counters::{Counters, Drained};
use crate::handle::Listener;
#[cfg(windows)]
use crate::iocp;
use crate::lane::{IoStep, Lane};
use crate::native::completion_queue::Totals;
#[cfg(target_os = "linux")]
use crate::native::lane_slot::LaneSlot;
use crate::native::native_lanes::NativeLanes;
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
    Readiness(Vec<LaneSlot<Poller>>),
    #[cfg(target_os = "linux")]
    ReadinessShared(Arc<readiness::ReadinessCore>),
    #[cfg(target_os = "linux")]
    Uring(Vec<LaneSlot<Ring>>),
    /// One for all workers, or one for each.
    #[cfg(windows)]
    Iocp(Vec<Arc<iocp::IocpCore>>),
}

/// The one place where what a port does is passed on to its backend.
macro_rules! each {
    ($self:expr, $lanes:ident => $call:expr) => {
        match &$self.lanes {
            #[cfg(target_os = "linux")]
            Lanes::Readiness($lanes) => $call,
            #[cfg(target_os = "linux")]
            Lanes::ReadinessShared($lanes) => $call,
            #[cfg(target_os = "linux")]
            Lanes::Uring($lanes) => $call,
            #[cfg(windows)]
            Lanes::Iocp($lanes) => $call,
        }
    };
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
        each!(self, lanes => lanes.count())
    }

    pub(crate) fn listen(&self, address: Address, options: ListenOptions) -> io::Result<Listener> {
        each!(self, lanes => lanes.listen(address, options))
    }

    pub(crate) fn spawn(&self, id: LaneId, name: &str, step: IoStep) -> io::Result<()> {
        assert!(id.index() < self.lanes(), "no such lane");
        each!(self, lanes => self.spawn_on(lanes, id, name, step))
    }

    fn spawn_on<L: NativeLanes>(
        &self,
        lanes: &L,
        id: LaneId,
        name: &str,
        step: IoStep,
    ) -> io::Result<()>
    where
        Lane: From<L::Lane>,
    {
        let seat = lanes.take(id);
        let services = self.services.clone();
        self.services.threads.start(name, move || Lane::from(L::open(seat, id, services)).run(step))
    }

    pub(crate) fn spawn_background(&self, name: &str, step: BackgroundStep) -> io::Result<()> {
        let background = self.background.clone();
        let started = self.services.started();
        self.services.threads.start(name, move || background.run(started, step))
    }

    pub(crate) fn wake(&self, lane: LaneId) {
        each!(self, lanes => lanes.wake(lane));
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
        each!(self, lanes => lanes.totals())
    }
}
