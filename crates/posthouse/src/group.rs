//! Groups: one message for many connections, encoded once.

use std::fmt;

use posthouse_io::LaneId;

use crate::error::SendError;
use crate::id::PeerId;
use crate::mailbox::{PeerPost, Post};
use crate::members::{Broadcast, Members};
use crate::shared::Shared;
use crate::sync::Arc;

/// A set of connections that messages can be sent to. A handle of it is `Clone + Send + Sync`.
///
/// A connection joins and leaves in its own callbacks ([`Peer::join`](crate::Peer::join)), and
/// leaves automatically when it ends. [`Endpoint::everyone`](crate::Endpoint::everyone) returns the
/// group of all established connections. A group has a name. The group exists as long as it has a
/// handle or a member.
///
/// A message to a group is encoded once and queued for each member. A member whose send queue is
/// full is closed; the others are not affected. The messages that one thread sends to a member, by
/// `Group::send` and [`Endpoint::send`](crate::Endpoint::send), arrive in the order of the calls. A
/// group message sent in a callback arrives after the messages that the callback sends by
/// [`Peer::send`](crate::Peer::send).
///
/// A group takes the memory of its name, and about 16 bytes for each member.
///
/// ```
/// use posthouse::{Handler, HandlerResult, Message, Peer};
///
/// struct Room;
///
/// impl Handler for Room {
///     type State = ();
///
///     fn connected(&self, peer: &mut Peer<'_, Self>) -> HandlerResult {
///         peer.join(&peer.endpoint().group("room"));
///         Ok(())
///     }
///
///     fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
///         let room = peer.endpoint().group("room");
///         room.send_except(peer.id(), message.kind(), message.payload())?;
///         Ok(())
///     }
/// }
/// ```
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
    /// Returns the name of the group.
    pub fn name(&self) -> &str {
        &self.members.name
    }

    /// Returns the current number of members.
    pub fn len(&self) -> usize {
        self.members.count()
    }

    /// Returns whether the group has no member now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends a message to every member. Kinds 4 to 31 cannot be sent to a group.
    ///
    /// A member whose framing cannot carry the message, or whose peer accepts no frame of this
    /// size, does not get the message; [`Stats::group_skips`](crate::Stats) counts such members.
    ///
    /// # Errors
    ///
    /// [`SendError`] if no framing of the endpoint can carry the message, or if too many posts
    /// wait. After an error no member has got the message.
    #[doc(alias = "broadcast")]
    pub fn send(&self, kind: u8, payload: &[u8]) -> Result<(), SendError> {
        self.broadcast(None, kind, payload)
    }

    /// Sends a message, as [`send`](Self::send) does, to every member except one.
    ///
    /// # Errors
    ///
    /// The errors of [`send`](Self::send).
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
            // The check above found room, and earlier lanes have the message already. So this post
            // may exceed the bound, by one for each thread that broadcasts. It fails only if the
            // lane has ended.
            let _ = shared.post_to_lane(lane, post, usize::MAX);
        }
        Ok(())
    }

    /// Posts to each member at once, in the shared layout. So the messages of one thread arrive in
    /// the order of its calls.
    fn fan_out(&self, members: Vec<PeerId>, broadcast: &Broadcast) {
        for id in members {
            if let Some(frame) = self.shared.frame_for(id, broadcast) {
                // This post, too, may exceed the bound. It fails only if the member has ended.
                let _ = self.shared.post_bounded(id, PeerPost::SharedFrame(frame));
            }
        }
    }
}
