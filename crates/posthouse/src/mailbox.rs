//! What other threads ask of a lane.

use std::collections::VecDeque;

use posthouse_io::NewSocket;

use crate::close::{Close, Outcome};
use crate::endpoint::Endpoint;
use crate::group::{Broadcast, Members};
use crate::id::PeerId;
use crate::peer::Peer;
use crate::rules::ConnectionRules;
use crate::sync::{Arc, Mutex, lock};
use crate::target::Target;

/// Runs on a connection's strand.
pub(crate) type PeerTask<S> = Box<dyn FnOnce(&mut Peer<'_, S>) -> Outcome + Send>;
/// Runs on a lane, off every strand.
pub(crate) type EndpointTask<S> = Box<dyn FnOnce(&Endpoint<S>) + Send>;

/// Something for one connection.
pub(crate) enum PeerPost<S> {
    /// An accepted socket to take over.
    Adopt {
        new: NewSocket,
        rules: Arc<ConnectionRules>,
    },
    /// A connection to begin.
    Connect {
        target: Box<Target>,
        rules: Arc<ConnectionRules>,
    },
    /// An encoded frame; its bytes are reserved in the gate.
    Frame(Vec<u8>),
    /// A frame of a group.
    SharedFrame(Arc<[u8]>),
    Run(PeerTask<S>),
    Close(Close),
}

/// Something for a lane.
pub(crate) enum Post<S> {
    Peer(PeerId, PeerPost<S>),
    /// A message to all members of a group that live on the lane.
    Broadcast(Arc<Members>, Arc<Broadcast>),
    /// A task for later, off every strand.
    At(std::time::Duration, EndpointTask<S>),
}

/// The posts of one lane. Pushing is a short lock and, where the lane sleeps, one wake-up; so it
/// cannot fail half-way.
pub(crate) struct Mailbox<S> {
    inner: Mutex<Inner<S>>,
}

struct Inner<S> {
    posts: VecDeque<Post<S>>,
    /// True exactly when the lane has ended: nobody would look any more.
    closed: bool,
}

/// Why a post was not taken; it has been dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
}

impl<S> Default for Mailbox<S> {
    fn default() -> Self {
        Self { inner: Mutex::new(Inner { posts: VecDeque::new(), closed: false }) }
    }
}

impl<S> Mailbox<S> {
    /// Adds a post unless as many as `posts_max` wait.
    pub(crate) fn push(&self, post: Post<S>, posts_max: usize) -> Result<(), Refused> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(Refused::Closed);
        }
        if inner.posts.len() >= posts_max {
            return Err(Refused::Full);
        }
        inner.posts.push_back(post);
        Ok(())
    }

    /// How many posts wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.inner).posts.len()
    }

    /// Exchanges what has been posted for an empty queue.
    pub(crate) fn take(&self, empty: &mut VecDeque<Post<S>>) {
        debug_assert!(empty.is_empty());
        std::mem::swap(&mut lock(&self.inner).posts, empty);
    }

    /// Takes one post.
    pub(crate) fn pop(&self) -> Option<Post<S>> {
        lock(&self.inner).posts.pop_front()
    }

    /// Closes an empty mailbox. `false`: something was posted meanwhile.
    pub(crate) fn close(&self) -> bool {
        let mut inner = lock(&self.inner);
        inner.closed |= inner.posts.is_empty();
        inner.closed
    }
}
