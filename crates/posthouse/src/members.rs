//! The members of groups, and a message to all of them.

use std::collections::{BTreeMap, BTreeSet};

use posthouse_io::LaneId;

use crate::error::SendError;
use crate::id::PeerId;
use crate::registry::Registry;
use crate::send_config::{SendConfig, SendLimits};
use crate::stats::Counts;
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, Weak, lock};

/// The members of a group, by lane. A lane's part is locked when a member joins or leaves, and when
/// a message looks its members up.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) name: Box<str>,
    lanes: Box<[Mutex<BTreeSet<PeerId>>]>,
    count: AtomicUsize,
}

/// The named groups of an endpoint.
#[derive(Debug)]
pub(crate) struct Groups {
    named: Mutex<BTreeMap<Box<str>, Weak<Members>>>,
    lanes: usize,
}

/// A message to a group: a frame for each of the endpoint's send configurations.
pub(crate) struct Broadcast {
    /// By the index of the send configuration; `None` if it cannot carry the message.
    frames: Vec<Option<Arc<[u8]>>>,
    /// Keeps the entries in use, so that no index is reassigned before the message arrives.
    _sends: Vec<Arc<SendConfig>>,
    except: Option<PeerId>,
}

impl Broadcast {
    /// Encodes a message once for each send configuration.
    pub(crate) fn new(
        sends: Vec<Arc<SendConfig>>,
        except: Option<PeerId>,
        kind: u8,
        payload: &[u8],
    ) -> Result<Arc<Self>, SendError> {
        if posthouse_wire::is_reserved_kind(kind) {
            return Err(SendError::ReservedKind(kind));
        }
        let frames = encode(&sends, kind, payload)?;
        Ok(Arc::new(Self { frames, _sends: sends, except }))
    }

    /// Returns the frame for a connection; `None` if it should not get the message.
    pub(crate) fn frame_for(
        &self,
        id: PeerId,
        registry: &Registry,
        counts: &Counts,
    ) -> Option<Arc<[u8]>> {
        if self.except == Some(id) {
            return None;
        }
        let send_terms = registry.gate(id)?.send_terms(id.generation()).ok()?;
        let frame = self.frames.get(send_terms.send).cloned().flatten();
        if frame.is_none() {
            counts.group_skips.add(1);
        }
        frame
    }
}

impl Members {
    pub(crate) fn new(name: &str, lanes: usize) -> Arc<Self> {
        let lanes = (0..lanes).map(|_| Mutex::default()).collect();
        Arc::new(Self { name: name.into(), lanes, count: AtomicUsize::new(0) })
    }

    fn lane(&self, id: PeerId) -> &Mutex<BTreeSet<PeerId>> {
        &self.lanes[id.slot() as usize % self.lanes.len()]
    }

    /// Adds a member. Returns `false` if it already was one.
    pub(crate) fn join(&self, id: PeerId) -> bool {
        let joined = lock(self.lane(id)).insert(id);
        if joined {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        joined
    }

    pub(crate) fn remove(&self, id: PeerId) {
        if lock(self.lane(id)).remove(&id) {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns the current members on a lane.
    pub(crate) fn on_lane(&self, lane: LaneId) -> Vec<PeerId> {
        lock(&self.lanes[lane.index()]).iter().copied().collect()
    }
}

impl Groups {
    pub(crate) fn new(lanes: usize) -> Self {
        Self { named: Mutex::default(), lanes }
    }

    /// Returns the group of this name. Creating a group removes all groups that are no longer used.
    pub(crate) fn named(&self, name: &str) -> Arc<Members> {
        let mut named = lock(&self.named);
        if let Some(members) = named.get(name).and_then(Weak::upgrade) {
            return members;
        }
        named.retain(|_, members| members.strong_count() > 0);
        let members = Members::new(name, self.lanes);
        named.insert(name.into(), Arc::downgrade(&members));
        members
    }
}

/// Encodes the message for each send configuration.
fn encode(
    sends: &[Arc<SendConfig>],
    kind: u8,
    payload: &[u8],
) -> Result<Vec<Option<Arc<[u8]>>>, SendError> {
    let mut last = None;
    let mut frames: Vec<Option<Arc<[u8]>>> = Vec::new();
    for config in sends {
        let mut out = Vec::with_capacity(payload.len() + 16);
        let max_payload_bytes = posthouse_wire::MAX_PAYLOAD_BYTES;
        let limits = SendLimits { hello: false, max_payload_bytes };
        frames.push(match config.encode(kind, payload, limits, &mut out) {
            Ok(()) => Some(out.into()),
            Err(error) => {
                last = Some(error);
                None
            }
        });
    }
    match last {
        Some(error) if frames.iter().all(Option::is_none) => Err(error),
        _ => Ok(frames),
    }
}
