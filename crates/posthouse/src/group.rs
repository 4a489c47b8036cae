//! Groups: one message for many connections, encoded once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use posthouse_io::LaneId;

use crate::config::{SendConfig, SendLimits};
use crate::error::SendError;
use crate::id::PeerId;
use crate::mailbox::{PeerPost, Post};
use crate::shared::Shared;
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, Weak, lock};

/// A set of connections that messages can be sent to: `Clone + Send + Sync`.
///
/// A connection joins and leaves in its own callbacks ([`Peer::join`](crate::Peer::join)) and
/// leaves by itself when it ends. [`Endpoint::everyone`](crate::Endpoint::everyone) is the group of
/// all connections. A group is named; it exists as long as somebody holds it or is in it.
///
/// A message to a group is encoded once and queued for each member. A member whose send queue is
/// full is closed by its own bound; the others do not notice. For one member, what one thread
/// sends by `Group::send` and [`Endpoint::send`](crate::Endpoint::send) arrives in the order of the
/// calls; a group message sent inside a callback comes after what that callback sends itself.
///
/// Memory: the name, and about 16 bytes for each member.
pub struct Group {
    pub(crate) shared: Arc<Shared>,
    pub(crate) members: Arc<Members>,
}

/// Who is in a group, lane by lane: a lane's part is locked when one joins or leaves, and when its
/// members are looked up for a message.
#[derive(Debug)]
pub(crate) struct Members {
    name: Box<str>,
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
    /// Held, so that no index is given to another one while the message is on its way.
    _sends: Vec<Arc<SendConfig>>,
    except: Option<PeerId>,
}

impl Members {
    pub(crate) fn new(name: &str, lanes: usize) -> Arc<Self> {
        let lanes = (0..lanes).map(|_| Mutex::default()).collect();
        Arc::new(Self { name: name.into(), lanes, count: AtomicUsize::new(0) })
    }

    fn lane(&self, id: PeerId) -> &Mutex<BTreeSet<PeerId>> {
        &self.lanes[id.slot() as usize % self.lanes.len()]
    }

    /// Adds a member; `false` where it was one.
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

    /// The members on a lane, as they are now.
    pub(crate) fn on_lane(&self, lane: LaneId) -> Vec<PeerId> {
        lock(&self.lanes[lane.index()]).iter().copied().collect()
    }
}

impl Groups {
    pub(crate) fn new(lanes: usize) -> Self {
        Self { named: Mutex::default(), lanes }
    }

    /// The group of this name; groups that nobody holds are forgotten on the way.
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

impl Clone for Group {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), members: self.members.clone() }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl Group {
    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.members.name
    }

    /// How many members it has now.
    pub fn len(&self) -> usize {
        self.members.count.load(Ordering::Relaxed)
    }

    /// Whether it has no member now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends a message to every member. Kinds 4 to 31 cannot be sent to a group.
    ///
    /// A member that speaks a framing which cannot carry the message, or takes no frame so large,
    /// does not get it (counted in [`Stats::group_skips`](crate::Stats)).
    ///
    /// # Errors
    ///
    /// Where no framing of the endpoint can carry it, or too much posted work waits. Then nobody
    /// gets it.
    #[doc(alias = "broadcast")]
    pub fn send(&self, kind: u8, payload: &[u8]) -> Result<(), SendError> {
        self.broadcast(None, kind, payload)
    }

    /// The same, to all but one.
    pub fn send_except(&self, except: PeerId, kind: u8, payload: &[u8]) -> Result<(), SendError> {
        self.broadcast(Some(except), kind, payload)
    }

    fn broadcast(&self, except: Option<PeerId>, kind: u8, payload: &[u8]) -> Result<(), SendError> {
        if posthouse_wire::is_reserved_kind(kind) {
            return Err(SendError::ReservedKind(kind));
        }
        let sends = self.shared.sends.all();
        let frames = encode(&sends, kind, payload)?;
        let broadcast = Arc::new(Broadcast { frames, _sends: sends, except });
        let shared = &self.shared;
        let max = shared.tuning.max_posts;
        if let Some(strands) = &shared.strands {
            let members = self.members.on_lane(LaneId(0));
            if members.iter().any(|id| strands.pending(*id) >= max) {
                return Err(SendError::Busy);
            }
            self.fan_out(members, &broadcast);
            return Ok(());
        }
        if shared.mailboxes.iter().any(|mailbox| mailbox.len() >= max) {
            return Err(SendError::Busy);
        }
        for lane in (0..shared.mailboxes.len()).map(|lane| LaneId(lane as u16)) {
            let post = Post::Broadcast(self.members.clone(), broadcast.clone());
            // There was room a moment ago, and the lanes before have it: one more for each thread
            // that broadcasts. Refused only where the lane has ended.
            let _ = shared.post_to_lane(lane, post, usize::MAX);
        }
        Ok(())
    }

    /// Shared layout: posts to each member here and now, so that the order of one thread's calls is
    /// the order of arrival.
    fn fan_out(&self, members: Vec<PeerId>, broadcast: &Broadcast) {
        for id in members {
            if let Some(frame) = self.shared.frame_for(id, broadcast) {
                // As above: one more for each thread. Refused only where the member has ended.
                let _ = self.shared.post_bounded(id, PeerPost::SharedFrame(frame));
            }
        }
    }
}

/// The message as each send configuration frames it.
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

impl Shared {
    /// The frame of a group's message for a connection; `None` where it should not get it.
    pub(crate) fn frame_for(&self, id: PeerId, broadcast: &Broadcast) -> Option<Arc<[u8]>> {
        if broadcast.except == Some(id) {
            return None;
        }
        let send_terms = self.registry.gate(id)?.send_terms(id.generation()).ok()?;
        let frame = broadcast.frames.get(send_terms.send).cloned().flatten();
        if frame.is_none() {
            self.stats.group_skips.add(1);
        }
        frame
    }
}
