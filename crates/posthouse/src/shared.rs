//! The state that all workers and handles of one endpoint share.

mod strands;

use std::fmt;
use std::time::Duration;

use posthouse_io::{Address, CompletionPort, LaneId, Layout, Notify, Selected};

use crate::address_prefix::AddressPrefix;
use crate::admissions::{Admissions, Ended, Evicted};
use crate::contained::Contained;
use crate::endpoint_timers::{EndpointTimers, TimerTask};
use crate::error::{RunError, SendError};
use crate::id::HandlerId;
use crate::id::PeerId;
use crate::listeners::Listeners;
use crate::mailbox::{Mailbox, PeerPost, Post, Refused};
use crate::members::{Broadcast, Groups, Members};
use crate::options::{EndpointOptions, Tuning};
use crate::pace::Pace;
use crate::rate_limited_log::RateLimitedLog;
use crate::registry::Registry;
use crate::send_config::{SendConfig, SendConfigs, SendLimits};
use crate::stats::Counts;
use crate::sync::{
    Arc, AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, OnceLock, Ordering, Weak,
};
use crate::transfers::budgets::FileBudgets;
use crate::transfers::hash_cache::HashCache;
use crate::transfers::walks::Walks;

pub(crate) use strands::Strands;

/// The grace period after the shutdown deadline before a connection that is blocked only on
/// uncancellable operations (on files) is abandoned.
const ABANDON_GRACE: Duration = Duration::from_secs(10);

/// The way in which connections receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReceiveStrategy {
    /// One multishot receive, in the pinned layout.
    Stream,
    /// This number of pending receives, in the shared layout.
    Once(u8),
}

/// The part of the memory of files that is for lists of directories: an eighth.
const WALKS_SHARE: usize = 8;

pub(crate) struct Shared {
    pub(crate) port: CompletionPort,
    pub(crate) selected: Selected,
    pub(crate) options: EndpointOptions,
    pub(crate) tuning: Tuning,
    pub(crate) receive_strategy: ReceiveStrategy,
    pub(crate) registry: Registry,
    pub(crate) sends: SendConfigs,
    pub(crate) mailboxes: Box<[Mailbox]>,
    /// The connections, in the shared layout.
    pub(crate) strands: Option<Strands>,
    pub(crate) listeners: Listeners,
    pub(crate) admissions: Admissions,
    pub(crate) pace: Pace,
    pub(crate) groups: Groups,
    pub(crate) everyone: Arc<Members>,
    pub(crate) stats: Arc<Counts>,
    pub(crate) assembly_budget: AssemblyBudget,
    pub(crate) file_budgets: FileBudgets,
    pub(crate) walks: Arc<Walks>,
    pub(crate) hash_cache: HashCache,
    pub(crate) lifecycle: Lifecycle,
    /// The timers of the endpoint.
    pub(crate) timers: EndpointTimers,
    pub(crate) ends_logged: EndsLogged,
    /// The log of panics in callbacks.
    panics_logged: RateLimitedLog,
    /// The log of abandoned connections.
    pub(crate) abandoned_logged: RateLimitedLog,
    /// The log of evicted connections.
    evictions_logged: RateLimitedLog,
    /// True exactly when the log has named a method that a handler lacks.
    pub(crate) missing_logged: AtomicBool,
    /// True exactly when a warning has named a limit of descriptors that is too low.
    descriptors_checked: AtomicBool,
    /// The number of handlers that were attached.
    handlers: AtomicU32,
    pub(crate) guard: OnceLock<Weak<Guard>>,
}

/// The logs of the ends of connections.
#[derive(Debug, Default)]
pub(crate) struct EndsLogged {
    /// The ends by the fault of the peer or of the system.
    pub(crate) faults: RateLimitedLog,
    /// The ends that callbacks requested with a cause.
    pub(crate) causes: RateLimitedLog,
    /// The ends after an invalid message of the program.
    pub(crate) mistakes: RateLimitedLog,
}

/// The lifecycle of an endpoint: it runs, it shuts down until a deadline, it has ended.
pub(crate) struct Lifecycle {
    /// Zero while it runs; then the deadline of the shutdown, in nanoseconds.
    deadline_ns: AtomicU64,
    /// The stage of the shutdown that was announced to the connections of the shared lane.
    notified_level: AtomicU8,
    /// The number of workers that have not ended.
    workers: AtomicUsize,
    /// True exactly when the last worker has ended.
    ended: AtomicBool,
    pub(crate) notify: Notify,
}

impl Lifecycle {
    pub(crate) fn new(workers: usize, notify: Notify) -> Self {
        Self {
            deadline_ns: AtomicU64::new(0),
            notified_level: AtomicU8::new(0),
            workers: AtomicUsize::new(workers),
            ended: AtomicBool::new(false),
            notify,
        }
    }

    /// Returns the deadline of the shutdown, once the shutdown has begun.
    pub(crate) fn shutdown_deadline(&self) -> Option<Duration> {
        match self.deadline_ns.load(Ordering::SeqCst) {
            0 => None,
            ns => Some(Duration::from_nanos(ns)),
        }
    }

    /// Returns the time at which the shutdown abandons blocked connections, once the shutdown has
    /// begun.
    pub(crate) fn abandon_at(&self) -> Option<Duration> {
        Some(self.shutdown_deadline()?.saturating_add(ABANDON_GRACE))
    }

    /// Returns whether the caller is the first worker at this stage of the shutdown, which must
    /// announce it to the connections.
    pub(crate) fn is_first_at(&self, level: u8) -> bool {
        self.notified_level.fetch_max(level, Ordering::AcqRel) < level
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// The memory of partly received frames, over all connections.
#[derive(Debug, Default)]
pub(crate) struct AssemblyBudget {
    bytes: AtomicUsize,
}

impl AssemblyBudget {
    /// Changes the share of one connection from `from` to `to` bytes. Returns `false` if the total
    /// exceeds `max`; the change is counted even then.
    pub(crate) fn resize(&self, from: usize, to: usize, max: usize) -> bool {
        if to <= from {
            self.bytes.fetch_sub(from - to, Ordering::Relaxed);
            return true;
        }
        self.bytes.fetch_add(to - from, Ordering::Relaxed) + (to - from) <= max
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Returns sixteen unpredictable bytes.
pub(crate) fn nonce(port: &CompletionPort) -> [u8; 16] {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&port.random().to_le_bytes());
    nonce[8..].copy_from_slice(&port.random().to_le_bytes());
    nonce
}

/// The bound that a frame of another thread counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendBound {
    /// The bounds of the send queue and of waiting posts.
    Message,
    /// The bound of the send queue.
    Reply,
    /// No bound: its place was reserved before.
    Reserved,
}

/// The maximum number of handlers in an endpoint's life: their numbers have 15 bits in a gate.
const MAX_HANDLERS: u32 = 1 << 15;

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("backend", &self.selected.backend).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        (port, selected): (CompletionPort, Selected),
        options: EndpointOptions,
        tuning: Tuning,
        this: &Weak<Self>,
    ) -> Self {
        let shared = selected.layout == Layout::Shared;
        let lanes = port.lanes();
        let pending = tuning.pending_reads as u8;
        let bounds = options.admission_bounds();
        let max_evicted = bounds.max_evicted();
        let walks_bytes = options.file_memory_bytes / WALKS_SHARE;
        Self {
            receive_strategy: if shared {
                ReceiveStrategy::Once(pending)
            } else {
                ReceiveStrategy::Stream
            },
            registry: Registry::new(lanes, options.max_connections, max_evicted),
            sends: SendConfigs::default(),
            mailboxes: (0..lanes).map(|_| Mailbox::default()).collect(),
            strands: shared.then(|| Strands::new(options.max_connections + max_evicted)),
            listeners: Listeners::default(),
            admissions: Admissions::new(bounds),
            pace: Pace::new(options.max_rejections_per_second),
            groups: Groups::new(lanes),
            everyone: Members::new("everyone", lanes),
            stats: Arc::default(),
            assembly_budget: AssemblyBudget::default(),
            file_budgets: FileBudgets::new(
                options.file_memory_bytes - walks_bytes,
                options.max_open_files_of(port.max_descriptors()),
                this,
            ),
            walks: Walks::new(walks_bytes as u64, this),
            hash_cache: HashCache::default(),
            lifecycle: Lifecycle::new(selected.io_workers, port.notify()),
            ends_logged: EndsLogged::default(),
            panics_logged: RateLimitedLog::default(),
            abandoned_logged: RateLimitedLog::default(),
            evictions_logged: RateLimitedLog::default(),
            missing_logged: AtomicBool::new(false),
            descriptors_checked: AtomicBool::new(false),
            handlers: AtomicU32::new(0),
            guard: OnceLock::new(),
            timers: EndpointTimers::default(),
            options,
            tuning,
            selected,
            port,
        }
    }

    /// Warns, once, if the options permit more connections and files than the process can have
    /// descriptors.
    pub(crate) fn check_descriptors(&self) {
        let permitted = self.options.permitted_descriptors();
        let Some(limit) = self.port.max_descriptors().filter(|limit| *limit < permitted) else {
            return;
        };
        if !self.descriptors_checked.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                max_connections = self.options.max_connections,
                max_open_files = self.options.max_open_files,
                permitted,
                limit,
                "the limits permit more descriptors than this process can have: at its limit, \
                 accepting pauses; raise the limit (ulimit -n), or lower max_connections"
            );
        }
    }

    /// Returns the prefix of a peer's address, as limits count it.
    pub(crate) fn prefix_of(&self, peer: Address) -> AddressPrefix {
        AddressPrefix::of(peer, self.options.ipv6_prefix_bits)
    }

    /// Allocates the slot of an outgoing connection; `None` if there are `max_connections`.
    pub(crate) fn allocate_outgoing(&self) -> Option<PeerId> {
        let mut evicted = Vec::new();
        let allocate = |spare| self.registry.allocate(spare);
        let id = self.admissions.connect(&mut evicted, allocate);
        self.evict(&evicted);
        id
    }

    /// Makes the strands of evicted connections end them.
    pub(crate) fn evict(&self, evicted: &[Evicted]) {
        for &Evicted { id, prefix, bound } in evicted {
            self.stats.evicted.add(1);
            // It fails only if the connection has ended.
            let _ = self.post_bounded(id, PeerPost::Evict);
            if let Some(suppressed) = self.evictions_logged.may_log(self.port.now()) {
                tracing::warn!(
                    peer = %id, %prefix, bound, suppressed,
                    "the address with the most unadmitted peers lost its oldest"
                );
            }
        }
    }

    /// Releases the slot of an ended connection and its place.
    pub(crate) fn release(&self, ended: Ended) {
        self.registry.release(ended.id);
        self.admissions.release(ended);
    }

    /// Releases the place of an abandoned connection. Its slot stays occupied, because its
    /// operations may still end.
    pub(crate) fn abandon(&self, ended: Ended) {
        self.registry.abandon(ended.id);
        self.admissions.release(ended);
    }

    /// Returns a number for another handler; `None` if there are too many.
    pub(crate) fn next_handler(&self) -> Option<HandlerId> {
        let next = |n| (n < MAX_HANDLERS).then_some(n + 1);
        let number = self.handlers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        Some(HandlerId(number as u16))
    }

    pub(crate) fn shutdown_timeout(&self) -> Duration {
        Duration::from_millis(self.options.shutdown_timeout_ms)
    }

    /// Returns the frame of a group message for a connection; `None` if the connection should not
    /// get it.
    pub(crate) fn frame_for(&self, id: PeerId, broadcast: &Broadcast) -> Option<Arc<[u8]>> {
        broadcast.frame_for(id, &self.registry, &self.stats)
    }

    /// Encodes a frame on the caller's thread, reserves room for it and posts it.
    pub(crate) fn send_frame(
        &self,
        peer: PeerId,
        bound: SendBound,
        encode: impl FnOnce(&SendConfig, SendLimits, &mut Vec<u8>) -> Result<(), SendError>,
        post: impl FnOnce(Vec<u8>) -> PeerPost,
    ) -> Result<(), SendError> {
        self.port.assert_owned();
        let gate = self.registry.gate(peer).ok_or(SendError::NotConnected)?;
        let send_terms = gate.send_terms(peer.generation())?;
        let config = self.sends.get(send_terms.send).ok_or(SendError::NotConnected)?;
        let mut frame = Vec::new();
        encode(&config, send_terms.limits, &mut frame)?;
        let bytes = frame.len();
        let (max_queue_bytes, max_posts) = match bound {
            SendBound::Message => (config.max_queue_bytes, self.tuning.max_posts),
            SendBound::Reply => (config.max_queue_bytes, usize::MAX),
            SendBound::Reserved => (usize::MAX, usize::MAX),
        };
        gate.reserve(peer.generation(), bytes, max_queue_bytes)?;
        let posted = self.post_within(peer, post(frame), max_posts);
        if posted.is_err() && gate.cancel_reservation(peer.generation(), bytes) {
            // The gate permits one such post at a time. It fails only if the lane has ended.
            let _ = self.post_bounded(peer, PeerPost::RoomFreed);
        }
        posted
    }

    /// Posts to a connection's strand. Posts of one thread arrive in the order of the calls.
    pub(crate) fn post(&self, id: PeerId, post: PeerPost) -> Result<(), SendError> {
        self.post_within(id, post, self.tuning.max_posts)
    }

    /// Posts without the bound of waiting posts. Another bound must hold, such as one post per
    /// connection.
    pub(crate) fn post_bounded(&self, id: PeerId, post: PeerPost) -> Result<(), SendError> {
        self.post_within(id, post, usize::MAX)
    }

    fn post_within(&self, id: PeerId, post: PeerPost, max: usize) -> Result<(), SendError> {
        // A post to a strand at work wakes nobody, so the wake-up does not check this.
        self.port.assert_owned();
        if let Some(strands) = &self.strands {
            if strands.post(id, post, max)? {
                self.port.wake(LaneId(0));
            }
            return Ok(());
        }
        self.post_to_lane(self.registry.lane_of(id), Post::Peer(id, post), max)
    }

    pub(crate) fn post_to_lane(
        &self,
        lane: LaneId,
        post: Post,
        max: usize,
    ) -> Result<(), SendError> {
        self.port.assert_owned();
        match self.mailboxes[lane.index()].push(post, max) {
            Ok(()) => {
                self.port.wake(lane);
                Ok(())
            }
            Err(Refused::Full) => Err(SendError::Busy),
            Err(Refused::Closed) => Err(SendError::NotConnected),
        }
    }

    pub(crate) fn wake_all(&self) {
        for lane in 0..self.mailboxes.len() {
            self.port.wake(LaneId(lane as u16));
        }
    }

    /// Returns the time at which a worker should poll the listeners or run a timer of the endpoint.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        [self.listeners.next_poll_at(), self.timers.next()].into_iter().flatten().min()
    }

    /// Adds a timer of the endpoint.
    pub(crate) fn add_timer(&self, delay: Duration, task: TimerTask) -> Result<(), RunError> {
        if self.lifecycle.shutdown_deadline().is_some() {
            return Err(RunError::Shutdown);
        }
        let at = self.port.now().saturating_add(delay);
        let first_lane = LaneId(0);
        let posts = self.mailboxes[first_lane.index()].len();
        let max = self.tuning.max_posts.saturating_sub(posts);
        if self.timers.add(at, task, max)? {
            self.port.wake(first_lane);
        }
        Ok(())
    }

    /// Adds a timer of the framework, which counts against no bound. A shutdown drops it.
    pub(crate) fn add_own_timer(&self, at: Duration, task: impl FnOnce() + Send + 'static) {
        let task = TimerTask::Once(Contained::new(Box::new(task)));
        if self.timers.add(at, task, usize::MAX) == Ok(true) {
            self.port.wake(LaneId(0));
        }
    }

    /// Begins the shutdown, or makes its deadline earlier.
    pub(crate) fn begin_shutdown(&self, timeout: Duration) {
        let deadline = self.port.now().saturating_add(timeout).as_nanos();
        let deadline = u64::try_from(deadline).unwrap_or(u64::MAX).max(1);
        let earlier = |ns| (ns == 0 || deadline < ns).then_some(deadline);
        let before =
            self.lifecycle.deadline_ns.fetch_update(Ordering::SeqCst, Ordering::SeqCst, earlier);
        if before == Ok(0) {
            tracing::info!(
                connections = self.registry.connections(),
                "the endpoint is shutting down"
            );
        }
        if before.is_ok() {
            self.walks.close();
            self.wake_all();
        }
    }

    /// Counts and logs a panic of the program's code that was contained.
    pub(crate) fn count_panic(
        &self,
        now: Duration,
        peer: Option<PeerId>,
        panic: &str,
        message: &'static str,
    ) {
        self.stats.panics.add(1);
        if let Some(suppressed) = self.panics_logged.may_log(now) {
            let peer = peer.map(tracing::field::display);
            tracing::error!(peer, panic, suppressed, message);
        }
    }

    /// Counts a worker as ended. With the last one the endpoint has ended.
    pub(crate) fn worker_ended(&self) {
        if self.lifecycle.workers.fetch_sub(1, Ordering::AcqRel) == 1 {
            if let Some(strands) = &self.strands {
                strands.clear();
            }
            self.lifecycle.ended.store(true, Ordering::Release);
            self.port.wake_background();
            self.lifecycle.notify.notify_all();
        }
    }

    /// Waits until the last worker has ended and the port is drained.
    pub(crate) fn wait_for_end(&self) {
        self.lifecycle.notify.wait_until(None, || self.lifecycle.has_ended().then_some(()));
        let drained = self.port.drain(Duration::from_secs(10));
        if drained.leaked > 0 || drained.workers > 0 {
            tracing::error!(
                ?drained,
                "the system still has operations in flight: their memory is leaked"
            );
        }
    }
}

/// The guard that the last handle drops: it begins the shutdown.
pub(crate) struct Guard {
    pub(crate) shared: Weak<Shared>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.begin_shutdown(shared.shutdown_timeout());
        }
    }
}
