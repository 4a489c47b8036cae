//! What other threads ask of a lane.

use std::collections::VecDeque;

use posthouse_io::NewSocket;

use crate::callbacks::Callbacks;
use crate::close::{Close, HandlerResult};
use crate::config::ConnectionConfig;
use crate::id::PeerId;
use crate::members::{Broadcast, Members};
use crate::output::Output;
use crate::sync::{Arc, Mutex, lock};
use crate::target::Target;
use crate::transfer::{Destination, Reject};

/// Runs on a connection's strand.
pub(crate) type PeerTask = Box<dyn FnOnce(&mut dyn Callbacks, Output<'_>) -> HandlerResult + Send>;
/// Runs on a lane, off every strand.
pub(crate) type EndpointTask = Box<dyn FnOnce() + Send>;

/// Something for one connection.
pub(crate) enum PeerPost {
    /// An accepted socket to take over.
    Adopt {
        new: NewSocket,
        config: Arc<ConnectionConfig>,
        /// The handler's side of it; `None` only once it has been taken.
        callbacks: Option<Box<dyn Callbacks>>,
    },
    /// A connection to begin.
    Connect {
        target: Box<Target>,
        config: Arc<ConnectionConfig>,
        /// The handler's side of it, with its state; `None` only once it has been taken.
        callbacks: Option<Box<dyn Callbacks>>,
    },
    /// An encoded frame; its bytes are reserved in the gate.
    Frame(Vec<u8>),
    /// A frame of a group.
    SharedFrame(Arc<[u8]>),
    /// The answer to a request; its bytes are reserved in the gate.
    Reply {
        id: u32,
        frame: Vec<u8>,
    },
    /// The answer to an offer.
    OfferAnswer {
        id: u32,
        answer: Box<Result<Destination, Reject>>,
    },
    Run(PeerTask),
    Close(Close),
}

/// Something for a lane.
pub(crate) enum Post {
    Peer(PeerId, PeerPost),
    /// A message to all members of a group that live on the lane.
    Broadcast(Arc<Members>, Arc<Broadcast>),
    /// A task for later, off every strand.
    At(std::time::Duration, EndpointTask),
}

/// The posts of one lane. Pushing is a short lock and, where the lane sleeps, one wake-up; so it
/// cannot fail half-way.
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
}

struct Inner {
    posts: VecDeque<Post>,
    /// True exactly when the lane has ended: nobody would look any more.
    closed: bool,
}

/// Why a post was not taken; it has been dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self { inner: Mutex::new(Inner { posts: VecDeque::new(), closed: false }) }
    }
}

impl Mailbox {
    /// Adds a post unless as many as `max_posts` wait.
    pub(crate) fn push(&self, post: Post, max_posts: usize) -> Result<(), Refused> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(Refused::Closed);
        }
        if inner.posts.len() >= max_posts {
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
    pub(crate) fn take(&self, empty: &mut VecDeque<Post>) {
        debug_assert!(empty.is_empty());
        std::mem::swap(&mut lock(&self.inner).posts, empty);
    }

    /// Takes one post.
    pub(crate) fn pop(&self) -> Option<Post> {
        lock(&self.inner).posts.pop_front()
    }

    /// Closes an empty mailbox. `false`: something was posted meanwhile.
    pub(crate) fn close(&self) -> bool {
        let mut inner = lock(&self.inner);
        inner.closed |= inner.posts.is_empty();
        inner.closed
    }
}
