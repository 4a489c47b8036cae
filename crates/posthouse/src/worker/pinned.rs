//! Pinned layout: a worker owns the connections of its lane outright, without a lock.

use std::collections::VecDeque;
use std::time::Duration;

use posthouse_io::{Completion, Lane, LaneId, Turn};

use super::Shutdown;
use super::tasks::Tasks;
use crate::connection::{Connection, Context, Fate, Local, Work};
use crate::core::Core;
use crate::group::{Broadcast, Members};
use crate::id::PeerId;
use crate::mailbox::{PeerPost, Post};
use crate::sync::Arc;
use crate::watch::Watch;

/// Posts seen to in one turn, before the connections have theirs again: a thread that posts without
/// end must not keep peers waiting.
const TURN_POSTS: usize = 1024;

pub(crate) struct PinnedWorker {
    core: Arc<Core>,
    lane: LaneId,
    local: Local,
    /// The lane's connections, by their place on the lane.
    table: Vec<Option<Box<Connection>>>,
    /// Connections that have more to deliver.
    unfinished: VecDeque<PeerId>,
    /// Connections that posts went to, to be settled together.
    touched: Vec<PeerId>,
    /// Posts taken from the mailbox and not yet seen to.
    posts: VecDeque<Post>,
    tasks: Tasks,
    shutdown: Shutdown,
}

impl PinnedWorker {
    pub(crate) fn new(core: Arc<Core>, lane: LaneId, watch: Arc<Watch>) -> Self {
        Self {
            core,
            lane,
            local: Local::new(watch),
            table: Vec::new(),
            unfinished: VecDeque::new(),
            touched: Vec::new(),
            posts: VecDeque::new(),
            tasks: Tasks::default(),
            shutdown: Shutdown::No,
        }
    }

    /// One turn: completions, what earlier turns left, posts, deadlines, the shutdown.
    pub(crate) fn step(&mut self, lane: &mut Lane) -> Turn {
        let now = lane.now();
        self.listen(lane, now);
        while let Some(completion) = lane.next() {
            self.complete(lane, now, completion);
            if lane.yields() {
                return Turn::Again;
            }
        }
        for _ in 0..self.unfinished.len() {
            if let Some(id) = self.unfinished.pop_front() {
                self.run(lane, now, id, Work::Continue);
            }
        }
        let more_posts = self.take_posts(lane, now);
        while let Some((at, id)) = self.local.timers.due(now) {
            self.run(lane, now, id, Work::Deadline(at));
        }
        self.tasks.run(&self.core, now);
        if self.advance_shutdown(lane, now) {
            return Turn::Done;
        }
        if !self.unfinished.is_empty() || more_posts {
            return Turn::Again;
        }
        let look = self.accepts().then(|| self.core.accepting.next_look()).flatten();
        let (_, further) = Shutdown::at(now, &self.core.life);
        super::sleep(now, [self.local.timers.next(), self.tasks.next(), look, further])
    }

    fn accepts(&self) -> bool {
        self.lane == LaneId(0)
    }

    fn listen(&self, lane: &mut Lane, now: Duration) {
        if self.accepts() && self.core.accepting.next_look().is_some_and(|at| at <= now) {
            self.core.accepting.look(&self.core, lane);
        }
    }

    fn complete(&mut self, lane: &mut Lane, now: Duration, completion: Completion) {
        let (id, operation, _) = crate::id::unpack(completion.tag);
        if operation.is_listeners() {
            let Completion { more, outcome, .. } = completion;
            self.core.accepting.complete(&self.core, lane, (id, operation), more, outcome);
            return;
        }
        let (id, work) = Work::from_completion(completion);
        self.run(lane, now, id, work);
    }

    fn place(&mut self, id: PeerId) -> &mut Option<Box<Connection>> {
        let place = self.core.registry.index_on_lane(id);
        if place >= self.table.len() {
            self.table.resize_with(place + 1, || None);
        }
        &mut self.table[place]
    }

    /// Applies one thing to a connection and settles it.
    fn run(&mut self, lane: &mut Lane, now: Duration, id: PeerId, work: Work) {
        self.apply(lane, now, id, work);
        self.settle(lane, now, id);
    }

    fn apply(&mut self, lane: &mut Lane, now: Duration, id: PeerId, mut work: Work) {
        if let Some(connection) = super::begun(id, &mut work) {
            let old = self.place(id).replace(connection);
            assert!(old.is_none(), "{id}: a slot was given away twice");
        }
        let place = self.core.registry.index_on_lane(id);
        // Posts and deadlines can be for a connection that is gone; they go with it.
        if let Some(Some(connection)) = self.table.get_mut(place)
            && connection.strand.id == id
        {
            let mut cx = Context { lane, core: &self.core, local: &mut self.local, now };
            connection.apply(&mut cx, work);
        } else {
            assert!(
                !matches!(work, Work::Completion { .. }),
                "{id}: a completion for a connection that is gone"
            );
        }
    }

    fn settle(&mut self, lane: &mut Lane, now: Duration, id: PeerId) {
        let place = self.core.registry.index_on_lane(id);
        let Some(Some(connection)) = self.table.get_mut(place) else { return };
        if connection.strand.id != id {
            return;
        }
        let mut cx = Context { lane, core: &self.core, local: &mut self.local, now };
        match connection.settle(&mut cx) {
            Fate::Waits => {}
            Fate::Unfinished => {
                if !std::mem::replace(&mut connection.strand.unfinished, true) {
                    self.unfinished.push_back(id);
                }
            }
            Fate::Gone => {
                self.table[place] = None;
                self.core.registry.release(id);
            }
            Fate::GivenUp => self.core.registry.give_up(id),
        }
    }

    /// Sees to some of the posts. Returns whether more may wait: the wake-up for what was posted
    /// since the mailbox was emptied may be over.
    fn take_posts(&mut self, lane: &mut Lane, now: Duration) -> bool {
        let takes = self.posts.is_empty();
        if takes {
            self.core.mailboxes[self.lane.index()].take(&mut self.posts);
        }
        for _ in 0..TURN_POSTS {
            let Some(post) = self.posts.pop_front() else { break };
            match post {
                Post::Peer(id, post) => self.apply_post(lane, now, id, post),
                Post::Broadcast(members, broadcast) => {
                    self.broadcast(lane, now, &members, &broadcast);
                }
                Post::At(at, task) => self.tasks.add(at, task),
            }
        }
        // All replies of the batch go out together, one send for each connection.
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for id in touched.drain(..) {
            self.settle(lane, now, id);
        }
        self.touched = touched;
        !takes || !self.posts.is_empty()
    }

    fn apply_post(&mut self, lane: &mut Lane, now: Duration, id: PeerId, post: PeerPost) {
        self.apply(lane, now, id, Work::Post(post));
        self.touched.push(id);
    }

    fn broadcast(
        &mut self,
        lane: &mut Lane,
        now: Duration,
        members: &Members,
        broadcast: &Broadcast,
    ) {
        for id in members.on_lane(self.lane) {
            if let Some(frame) = self.core.frame_for(id, broadcast) {
                self.apply_post(lane, now, id, PeerPost::SharedFrame(frame));
            }
        }
    }

    /// Closes the connections, first gracefully, past the deadline by force; in the end it gives up
    /// those that the system holds. Returns whether this
    /// worker has ended: it has no connection, and nobody can post to it any more.
    fn advance_shutdown(&mut self, lane: &mut Lane, now: Duration) -> bool {
        let (wanted, _) = Shutdown::at(now, &self.core.life);
        if wanted == Shutdown::No {
            return false;
        }
        self.tasks.clear();
        if self.shutdown < wanted {
            self.shutdown = wanted;
            if self.accepts() {
                self.core.accepting.look(&self.core, lane);
            }
            for id in self.core.registry.current(Some(self.lane)) {
                self.run(lane, now, id, Work::Shutdown);
            }
        }
        let listening = self.accepts() && !self.core.accepting.is_closed();
        let alone = self.core.registry.connections_of(self.lane) == 0 && !listening;
        if !alone || !self.posts.is_empty() || !self.core.mailboxes[self.lane.index()].close() {
            return false;
        }
        self.core.worker_ended();
        true
    }
}
