//! The watchdog, which names a callback that runs too long, while it runs.

use std::time::Duration;

use posthouse_io::Turn;

use crate::id::PeerId;
use crate::shared::Shared;
use crate::sync::{Arc, AtomicU64, Ordering, Weak};
use crate::worker::HELD_UP;

/// The callback that a worker runs now. The worker publishes it for the watchdog with relaxed
/// stores, without a clock or a lock.
#[derive(Debug)]
pub(crate) struct CallbackMarker {
    /// The number of begun and ended callbacks; odd exactly while one runs.
    turn: AtomicU64,
    peer: AtomicU64,
    kind: AtomicU64,
}

/// The value of `kind` for a callback that handles no message.
const NO_KIND: u64 = u64::MAX;
/// The value of `peer` for a timer of the endpoint, which has no peer.
const NO_PEER: u64 = u64::MAX;
/// The maximum time between two looks at the endpoint's timers.
const MAX_INTERVAL: Duration = Duration::from_millis(100);

impl Default for CallbackMarker {
    fn default() -> Self {
        let turn = AtomicU64::default();
        let peer = AtomicU64::default();
        Self { turn, peer, kind: AtomicU64::new(NO_KIND) }
    }
}

impl CallbackMarker {
    pub(crate) fn enter(&self, peer: PeerId) {
        self.peer.store(peer.as_u64(), Ordering::Relaxed);
        self.turn.store(self.turn.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Marks the start of a timer of the endpoint.
    pub(crate) fn enter_timer(&self) {
        self.peer.store(NO_PEER, Ordering::Relaxed);
        self.turn.store(self.turn.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Sets the kind of the message for the next callback.
    pub(crate) fn set_kind(&self, kind: u8) {
        self.kind.store(u64::from(kind), Ordering::Relaxed);
    }

    /// Marks the end of a callback, and the start of the next one of the same connection.
    pub(crate) fn next(&self, kind: u8) {
        self.set_kind(kind);
        self.turn.store(self.turn.load(Ordering::Relaxed) + 2, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.kind.store(NO_KIND, Ordering::Relaxed);
        self.turn.store(self.turn.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// The watchdog of an endpoint, which checks the markers of all workers at an interval.
pub(crate) struct Watchdog {
    markers: Vec<(Arc<CallbackMarker>, Seen)>,
    limit: Duration,
    shared: Weak<Shared>,
}

/// The last observation of a worker's marker, and the time at which it was first made.
#[derive(Default)]
struct Seen {
    turn: u64,
    since: Duration,
    named: bool,
}

impl Watchdog {
    pub(crate) fn new(
        markers: Vec<Arc<CallbackMarker>>,
        limit: Duration,
        shared: Weak<Shared>,
    ) -> Self {
        let markers = markers.into_iter().map(|marker| (marker, Seen::default())).collect();
        Self { markers, limit, shared }
    }

    pub(crate) fn step(&mut self, now: Duration) -> Turn {
        let Some(shared) = self.shared.upgrade().filter(|it| !it.lifecycle.has_ended()) else {
            return Turn::Done;
        };
        if shared.timers.next().is_some_and(|at| at + HELD_UP <= now) {
            shared.wake_all();
        }
        for (marker, seen) in &mut self.markers {
            let turn = marker.turn.load(Ordering::Relaxed);
            if turn != seen.turn {
                *seen = Seen { turn, since: now, named: false };
            } else if turn % 2 == 1 && !seen.named && now.saturating_sub(seen.since) >= self.limit {
                seen.named = true;
                shared.stats.overruns.add(1);
                let kind = match marker.kind.load(Ordering::Relaxed) {
                    NO_KIND => "none".to_owned(),
                    kind => kind.to_string(),
                };
                let peer = match marker.peer.load(Ordering::Relaxed) {
                    NO_PEER => "none (a timer of the endpoint)".to_owned(),
                    peer => (peer >> crate::id::GENERATION_BITS).to_string(),
                };
                tracing::warn!(
                    peer,
                    kind,
                    limit_ms = self.limit.as_millis(),
                    "a callback runs too long and delays the other connections of its worker: \
                     move long work to another thread"
                );
            }
        }
        Turn::Sleep(Some((self.limit / 2).min(MAX_INTERVAL)))
    }
}
