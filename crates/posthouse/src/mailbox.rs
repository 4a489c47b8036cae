//! The posts of other threads to a lane.

use std::collections::VecDeque;

use posthouse_io::NewSocket;

use crate::admissions::Ticket;
use crate::callbacks::Callbacks;
use crate::close::{Close, HandlerResult};
use crate::config::ConnectionConfig;
use crate::contained::Contained;
use crate::id::PeerId;
use crate::members::{Broadcast, Members};
use crate::output::Output;
use crate::sync::{Arc, Mutex, lock};
use crate::target::Target;
use crate::transfer::{Destination, Reject};
use crate::transfers::budgets::Resource;

/// A task on a connection's strand.
pub(crate) type PeerTask =
    Contained<Box<dyn FnOnce(&mut dyn Callbacks, Output<'_>) -> HandlerResult + Send>>;

/// A post for one connection.
pub(crate) enum PeerPost {
    /// An accepted socket to take over.
    Adopt {
        new: NewSocket,
        /// The place in the budget of unadmitted peers, if it has one.
        ticket: Option<Ticket>,
        config: Arc<ConnectionConfig>,
        /// The handler's side; `None` only after it has been taken.
        callbacks: Option<Contained<Box<dyn Callbacks>>>,
    },
    /// A connection to begin.
    Connect {
        target: Box<Target>,
        config: Arc<ConnectionConfig>,
        /// The handler's side, with its state; `None` only after it has been taken.
        callbacks: Option<Contained<Box<dyn Callbacks>>>,
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
    /// A message has found no room, and what took the room was not sent after all.
    RoomFreed,
    /// The end of an unadmitted peer whose place was given to another.
    Evict,
    /// Memory or places of open files were granted to transfers that waited for them.
    Granted(Resource),
    /// The turn has come to walk a directory, or another walk of it has ended.
    WalkGranted,
}

/// A post for a lane.
pub(crate) enum Post {
    Peer(PeerId, PeerPost),
    /// A message to all members of a group on this lane.
    Broadcast(Arc<Members>, Arc<Broadcast>),
}

/// The posts of one lane. A push takes a lock for a short time and, if the lane sleeps, wakes it
/// once. So it cannot fail half-way.
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
}

struct Inner {
    posts: VecDeque<Post>,
    /// True exactly when the lane has ended and takes no more posts.
    closed: bool,
}

/// The reason why a post was not taken. The post has been dropped.
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
    /// Adds a post, unless `max_posts` posts wait.
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

    /// Returns the number of waiting posts.
    pub(crate) fn len(&self) -> usize {
        lock(&self.inner).posts.len()
    }

    /// Takes all posts, in exchange for an empty queue.
    pub(crate) fn take(&self, empty: &mut VecDeque<Post>) {
        debug_assert!(empty.is_empty());
        std::mem::swap(&mut lock(&self.inner).posts, empty);
    }

    /// Closes the mailbox of a lane whose worker has panicked, and drops its posts.
    pub(crate) fn abandon(&self) {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        let posts = std::mem::take(&mut inner.posts);
        drop(inner);
        drop(posts);
    }

    /// Closes an empty mailbox. Returns `false` if it is not empty and stays open.
    pub(crate) fn close(&self) -> bool {
        let mut inner = lock(&self.inner);
        inner.closed |= inner.posts.is_empty();
        inner.closed
    }
}
