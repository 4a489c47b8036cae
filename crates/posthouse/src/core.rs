//! What all workers and handles of one endpoint share.

use std::fmt;
use std::time::Duration;

use posthouse_io::{CompletionPort, LaneId, Layout, Notify, Selected};

use crate::accepting::Accepting;
use crate::config::{SendConfig, SendConfigs, SendLimits};
use crate::endpoint::Guard;
use crate::erased::HandlerId;
use crate::error::SendError;
use crate::group::{Groups, Members};
use crate::id::PeerId;
use crate::known_hashes::KnownHashes;
use crate::log_limit::LogLimit;
use crate::mailbox::{Mailbox, PeerPost, Post, Refused};
use crate::options::{EndpointOptions, Tuning};
use crate::registry::Registry;
use crate::stats::Counts;
use crate::sync::{
    Arc, AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, OnceLock, Ordering, Weak,
};
use crate::worker::Strands;

/// So long past the deadline of the shutdown a connection is given up that nothing holds any more
/// but what the system cannot cancel: operations on files, and look-ups.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// How connections receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Pinned: one receive that goes on.
    Stream,
    /// Shared: so many receives pending at once.
    Once(u8),
}

pub(crate) struct Core {
    pub(crate) port: CompletionPort,
    pub(crate) choice: Selected,
    pub(crate) options: EndpointOptions,
    pub(crate) tuning: Tuning,
    pub(crate) reads: Reads,
    pub(crate) registry: Registry,
    pub(crate) sends: SendConfigs,
    pub(crate) mailboxes: Box<[Mailbox]>,
    /// The connections, in the shared layout.
    pub(crate) strands: Option<Strands>,
    pub(crate) accepting: Accepting,
    pub(crate) groups: Groups,
    pub(crate) everyone: Arc<Members>,
    pub(crate) stats: Arc<Counts>,
    pub(crate) assembly: Assembly,
    pub(crate) known_hashes: KnownHashes,
    pub(crate) life: Life,
    /// Connections that were closed for what their peers did.
    pub(crate) faults_logged: LogLimit,
    /// Connections that were given up for what the system did not end.
    pub(crate) given_up_logged: LogLimit,
    /// True exactly when the log has named a method that a handler lacks.
    pub(crate) missing_logged: AtomicBool,
    /// Handlers that were attached.
    handlers: AtomicU32,
    pub(crate) guard: OnceLock<Weak<Guard>>,
}

/// The endpoint's own life: running, shutting down until a deadline, over.
pub(crate) struct Life {
    /// Zero while it runs; then the deadline of the shutdown, in nanoseconds.
    deadline_ns: AtomicU64,
    /// How far the connections of the shared lane have been told of it.
    told: AtomicU8,
    /// Workers that have not ended.
    workers: AtomicUsize,
    /// True exactly when the last worker has ended.
    over: Arc<AtomicBool>,
    pub(crate) bell: Notify,
}

impl Life {
    pub(crate) fn new(workers: usize, bell: Notify) -> Self {
        Self {
            deadline_ns: AtomicU64::new(0),
            told: AtomicU8::new(0),
            workers: AtomicUsize::new(workers),
            over: Arc::default(),
            bell,
        }
    }

    /// The deadline of the shutdown, once it has begun.
    pub(crate) fn shutdown_deadline(&self) -> Option<Duration> {
        match self.deadline_ns.load(Ordering::SeqCst) {
            0 => None,
            ns => Some(Duration::from_nanos(ns)),
        }
    }

    /// When the shutdown gives up what does not end, once it has begun.
    pub(crate) fn gives_up_at(&self) -> Option<Duration> {
        Some(self.shutdown_deadline()?.saturating_add(GIVE_UP_AFTER))
    }

    /// Whether the caller is the first to get as far with the shutdown, and so must tell it.
    pub(crate) fn tells(&self, level: u8) -> bool {
        self.told.fetch_max(level, Ordering::AcqRel) < level
    }

    pub(crate) fn over(&self) -> &Arc<AtomicBool> {
        &self.over
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// The memory of partly received frames, over all connections.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    bytes: AtomicUsize,
}

impl Assembly {
    /// One connection holds `to` bytes where it held `from`. `false`: that is more than `max` in
    /// all; it is counted all the same.
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

/// Sixteen unpredictable bytes.
pub(crate) fn nonce(port: &CompletionPort) -> [u8; 16] {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&port.random().to_le_bytes());
    nonce[8..].copy_from_slice(&port.random().to_le_bytes());
    nonce
}

/// The bound that a frame of another thread counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendBound {
    /// The send queue, and the posts that may wait.
    Message,
    /// The send queue.
    Reply,
    /// A place that was reserved before.
    Reserved,
}

/// Handlers that an endpoint can have in its life: their numbers have 15 bits in a gate.
const HANDLERS_MAX: u32 = 1 << 15;

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("backend", &self.choice.backend).finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn new(
        (port, choice): (CompletionPort, Selected),
        options: EndpointOptions,
        tuning: Tuning,
    ) -> Self {
        let shared = choice.layout == Layout::Shared;
        let lanes = port.lanes();
        let pending = tuning.pending_reads as u8;
        Self {
            reads: if shared { Reads::Once(pending) } else { Reads::Stream },
            registry: Registry::new(lanes, options.max_connections),
            sends: SendConfigs::default(),
            mailboxes: (0..lanes).map(|_| Mailbox::default()).collect(),
            strands: shared.then(|| Strands::new(options.max_connections)),
            accepting: Accepting::default(),
            groups: Groups::new(lanes),
            everyone: Members::new("everyone", lanes),
            stats: Arc::default(),
            assembly: Assembly::default(),
            known_hashes: KnownHashes::default(),
            life: Life::new(choice.io_workers, port.notify()),
            faults_logged: LogLimit::default(),
            given_up_logged: LogLimit::default(),
            missing_logged: AtomicBool::new(false),
            handlers: AtomicU32::new(0),
            guard: OnceLock::new(),
            options,
            tuning,
            choice,
            port,
        }
    }

    /// A number for one more handler, unless there are too many.
    pub(crate) fn next_handler(&self) -> Option<HandlerId> {
        let next = |n| (n < HANDLERS_MAX).then_some(n + 1);
        let number = self.handlers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        Some(HandlerId(number as u16))
    }

    pub(crate) fn shutdown_timeout(&self) -> Duration {
        Duration::from_millis(self.options.shutdown_timeout_ms)
    }

    /// Encodes a frame on the caller's thread, reserves room for it and posts it.
    pub(crate) fn send_frame(
        &self,
        peer: PeerId,
        bound: SendBound,
        encode: impl FnOnce(&SendConfig, SendLimits, &mut Vec<u8>) -> Result<(), SendError>,
        post: impl FnOnce(Vec<u8>) -> PeerPost,
    ) -> Result<(), SendError> {
        let gate = self.registry.gate(peer).ok_or(SendError::NotConnected)?;
        let spoken = gate.spoken(peer.generation())?;
        let config = self.sends.get(spoken.send).ok_or(SendError::NotConnected)?;
        let mut frame = Vec::new();
        encode(&config, spoken.limits, &mut frame)?;
        let bytes = frame.len();
        let (queue_bytes_max, posts_max) = match bound {
            SendBound::Message => (config.queue_bytes_max, self.tuning.max_posts),
            SendBound::Reply => (config.queue_bytes_max, usize::MAX),
            SendBound::Reserved => (usize::MAX, usize::MAX),
        };
        gate.reserve(peer.generation(), bytes, queue_bytes_max)?;
        let posted = self.post_within(peer, post(frame), posts_max);
        if posted.is_err() {
            gate.give_back(peer.generation(), bytes);
        }
        posted
    }

    /// Posts to a connection's strand; posts of one thread arrive in their order.
    pub(crate) fn post(&self, id: PeerId, post: PeerPost) -> Result<(), SendError> {
        self.post_within(id, post, self.tuning.max_posts)
    }

    /// The same for posts that are bounded otherwise (one for each connection).
    pub(crate) fn post_bounded(&self, id: PeerId, post: PeerPost) -> Result<(), SendError> {
        self.post_within(id, post, usize::MAX)
    }

    fn post_within(&self, id: PeerId, post: PeerPost, max: usize) -> Result<(), SendError> {
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

    /// Begins the shutdown, or brings its deadline forward.
    pub(crate) fn begin_shutdown(&self, timeout: Duration) {
        let deadline = self.port.now().saturating_add(timeout).as_nanos();
        let deadline = u64::try_from(deadline).unwrap_or(u64::MAX).max(1);
        let earlier = |ns| (ns == 0 || deadline < ns).then_some(deadline);
        let before =
            self.life.deadline_ns.fetch_update(Ordering::SeqCst, Ordering::SeqCst, earlier);
        if before == Ok(0) {
            tracing::info!(connections = self.registry.connections(), "the endpoint shuts down");
        }
        if before.is_ok() {
            self.wake_all();
        }
    }

    /// A worker has ended.
    pub(crate) fn worker_ended(&self) {
        if self.life.workers.fetch_sub(1, Ordering::AcqRel) == 1 {
            if let Some(strands) = &self.strands {
                strands.clear();
            }
            self.life.over.store(true, Ordering::Release);
            self.port.wake_background();
            self.life.bell.notify_all();
        }
    }

    /// Waits until the last worker has ended and the port is drained.
    pub(crate) fn wait_for_end(&self) {
        self.life.bell.wait_until(None, || self.life.is_over().then_some(()));
        let drained = self.port.drain(Duration::from_secs(10));
        if drained.leaked > 0 || drained.workers > 0 {
            tracing::error!(?drained, "the system still holds something: it is leaked");
        }
    }
}
