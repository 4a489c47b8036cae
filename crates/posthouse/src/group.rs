//! Groups: one message for many connections, encoded once.

use std::fmt;

use posthouse_io::LaneId;

use crate::error::SendError;
use crate::id::PeerId;
use crate::mailbox::{PeerPost, Post};
use crate::members::{Broadcast, Members};
use crate::shared::Shared;
use crate::sync::Arc;

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
        self.members.count()
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
        let broadcast = Broadcast::new(self.shared.sends.all(), except, kind, payload)?;
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
