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
use crate::options::{LOOK_UP_TIMEOUT, Layout, ListenOptions, Options};
#[cfg(target_os = "linux")]
use crate::readiness::{self, Poller};
use crate::sync::Arc;
use crate::sys;
use crate::token::LaneId;
use crate::turn::BackgroundStep;
#[cfg(target_os = "linux")]
use crate::uring::{self, Ring};

/// A port on a real system. Its lanes keep the services that they use alive until their workers
/// end.
#[derive(Debug)]
pub(crate) struct NativePort {
    lanes: Lanes,
    services: Arc<Services>,
    background: Arc<Background>,
    notify: Notify,
}

/// The lanes of the selected backend.
#[derive(Debug)]
pub(crate) enum Lanes {
    #[cfg(target_os = "linux")]
    Readiness(Vec<LaneSlot<Poller>>),
    #[cfg(target_os = "linux")]
    ReadinessShared(Arc<readiness::ReadinessCore>),
    #[cfg(target_os = "linux")]
    Uring(Vec<LaneSlot<Ring>>),
    /// One core for all workers, or one for each.
    #[cfg(windows)]
    Iocp(Vec<Arc<iocp::IocpCore>>),
}

/// Calls the lanes of the selected backend: the one place that dispatches the calls of a port.
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
    /// Opens a port on epoll.
    #[cfg(target_os = "linux")]
    pub(crate) fn on_readiness(layout: Layout, options: &Options) -> io::Result<Arc<Self>> {
        let lanes = match layout {
            Layout::Pinned => Lanes::Readiness(readiness::lane_slots(options.io_workers)?),
            Layout::Shared => Lanes::ReadinessShared(Arc::new(readiness::ReadinessCore::open()?)),
        };
        Ok(Self::new(lanes, BufferPool::of(options)))
    }

    /// Opens a port on io_uring, in the pinned layout.
    #[cfg(target_os = "linux")]
    pub(crate) fn on_uring(options: &Options) -> io::Result<Arc<Self>> {
        let pool = BufferPool::of(options);
        let lane_slots = uring::lane_slots(options.io_workers, &pool)?;
        Ok(Self::new(Lanes::Uring(lane_slots), pool))
    }

    /// Opens a port on I/O completion ports of Windows.
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

    pub(crate) fn look_up(&self, name: &Name) -> io::Result<Vec<Address>> {
        self.services.resolver.look_up_and_wait(name, LOOK_UP_TIMEOUT)
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
        // Each lane, before it was dropped, awaited all operations that the system still held,
        // except for abandoned ones. Those whose completion the user never saw are counted as well,
        // on every backend.
        Drained { workers, leaked: self.totals().in_flight() }
    }

    fn totals(&self) -> Totals {
        each!(self, lanes => lanes.totals())
    }
}
