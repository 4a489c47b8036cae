//! The worker of the pinned layout, which owns the connections of its lane without a lock.

use std::collections::VecDeque;
use std::time::Duration;

use posthouse_io::{Completion, Lane, LaneId, Turn};

use super::{ShutdownStage, Worker};
use crate::connection::{
    Connection, ConnectionEvent, Context, NextTurn, Settled, Settling, WorkerState,
};
use crate::id::PeerId;
use crate::mailbox::{PeerPost, Post};
use crate::members::{Broadcast, Members};
use crate::shared::Shared;
use crate::sync::Arc;
use crate::watchdog::CallbackMarker;

/// The delay after which any worker runs a timer of the endpoint, because a callback holds up the
/// worker whose task that is. The watchdog wakes the workers then.
pub(crate) const HELD_UP: Duration = Duration::from_millis(20);

pub(crate) struct PinnedWorker {
    shared: Arc<Shared>,
    lane: LaneId,
    worker: WorkerState,
    /// The lane's connections, by their index on the lane.
    table: Vec<Option<Box<Connection>>>,
    /// The connections that have more to deliver.
    unfinished: VecDeque<PeerId>,
    /// The connections with applied events, to be settled together.
    touched: Vec<PeerId>,
    /// The posts that were taken from the mailbox and wait to be handled.
    posts: VecDeque<Post>,
    shutdown: ShutdownStage,
}

impl PinnedWorker {
    pub(crate) fn new(shared: Arc<Shared>, lane: LaneId, marker: Arc<CallbackMarker>) -> Self {
        Self {
            shared,
            lane,
            worker: WorkerState::new(marker),
            table: Vec::new(),
            unfinished: VecDeque::new(),
            touched: Vec::new(),
            posts: VecDeque::new(),
            shutdown: ShutdownStage::No,
        }
    }
}

impl Worker for PinnedWorker {
    fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn abandon(&mut self) {
        for connection in self.table.drain(..).flatten() {
            super::abandon_connection(&self.shared, connection);
        }
        self.posts.clear();
        self.shared.mailboxes[self.lane.index()].abandon();
        if self.owns_listeners() {
            self.shared.listeners.clear();
        }
    }

    /// Runs one turn: completions, the rest of earlier turns, posts, deadlines, the shutdown.
    fn step(&mut self, lane: &mut Lane) -> Turn {
        let now = lane.now();
        self.poll_listeners(lane, now);
        while let Some(completion) = lane.next_completion() {
            self.complete(lane, now, completion);
            if lane.should_yield() {
                return Turn::Again;
            }
        }
        self.settle_touched(lane, now);
        for _ in 0..self.unfinished.len() {
            if let Some(id) = self.unfinished.pop_front() {
                self.run(lane, now, id, ConnectionEvent::Continue);
            }
        }
        let more_posts = self.take_posts(lane, now);
        for (at, id) in self.worker.timers.take_due(now) {
            self.run(lane, now, id, ConnectionEvent::Deadline(at));
        }
        let delay = if self.owns_listeners() { Duration::ZERO } else { HELD_UP };
        self.shared.timers.run(&self.shared, now.saturating_sub(delay), &self.worker.marker);
        if self.advance_shutdown(lane, now) {
            return Turn::Done;
        }
        if !self.unfinished.is_empty() || more_posts {
            return Turn::Again;
        }
        let (_, next_stage_at) = ShutdownStage::at(now, &self.shared.lifecycle);
        let of_endpoint = self.owns_listeners().then(|| self.shared.next_deadline()).flatten();
        super::sleep(now, [self.worker.timers.next(), of_endpoint, next_stage_at])
    }
}

impl PinnedWorker {
    fn owns_listeners(&self) -> bool {
        self.lane == LaneId(0)
    }

    fn poll_listeners(&self, lane: &mut Lane, now: Duration) {
        if self.owns_listeners() && self.shared.listeners.next_poll_at().is_some_and(|at| at <= now)
        {
            self.shared.listeners.poll(&self.shared, lane);
        }
    }

    fn complete(&mut self, lane: &mut Lane, now: Duration, completion: Completion) {
        let Completion { tag, more, outcome } = completion;
        let (owner, operation, sequence) = crate::id::unpack(tag);
        if operation.is_listeners() {
            self.shared.listeners.complete(&self.shared, lane, (owner, operation), more, outcome);
        } else {
            let event = ConnectionEvent::Completion { operation, sequence, more, outcome };
            self.run(lane, now, self.shared.registry.owner(owner), event);
        }
    }

    fn slot_mut(&mut self, id: PeerId) -> &mut Option<Box<Connection>> {
        let index = self.shared.registry.index_on_lane(id);
        if index >= self.table.len() {
            self.table.resize_with(index + 1, || None);
        }
        &mut self.table[index]
    }

    /// Applies one event to a connection, and settles it unless that can wait.
    fn run(&mut self, lane: &mut Lane, now: Duration, id: PeerId, event: ConnectionEvent) {
        let waits = event.only_reports();
        self.apply(lane, now, id, event);
        if !waits {
            self.settle(lane, now, id);
        }
    }

    fn apply(&mut self, lane: &mut Lane, now: Duration, id: PeerId, mut event: ConnectionEvent) {
        if let Some(connection) = super::new_connection(id, &mut event) {
            let old = self.slot_mut(id).replace(connection);
            assert!(old.is_none(), "{id}: a slot was given away twice");
        }
        let index = self.shared.registry.index_on_lane(id);
        // A post or a deadline can be for an ended connection; it is dropped.
        if let Some(Some(connection)) = self.table.get_mut(index)
            && connection.strand.id == id
        {
            let mut cx = Context { lane, shared: &self.shared, worker: &mut self.worker, now };
            let before = connection.strand.settling;
            connection.strand.settling = before.with(&event);
            connection.apply(&mut cx, event);
            if before == Settling::Done {
                self.touched.push(id);
            }
        } else {
            assert!(
                !matches!(event, ConnectionEvent::Completion { .. }),
                "{id}: a completion for a connection that is gone"
            );
        }
    }

    /// Settles the connections that wait for it. Each sends its whole queue with one send.
    fn settle_touched(&mut self, lane: &mut Lane, now: Duration) {
        let mut touched = std::mem::take(&mut self.touched);
        for id in touched.drain(..) {
            self.settle(lane, now, id);
        }
        self.touched = touched;
    }

    fn settle(&mut self, lane: &mut Lane, now: Duration, id: PeerId) {
        let index = self.shared.registry.index_on_lane(id);
        let Some(Some(connection)) = self.table.get_mut(index) else { return };
        if connection.strand.id != id || connection.strand.settling == Settling::Done {
            return;
        }
        let mut cx = Context { lane, shared: &self.shared, worker: &mut self.worker, now };
        match connection.settle(&mut cx) {
            Settled::Waiting => {}
            Settled::Unfinished => {
                let next_turn = &mut connection.strand.next_turn;
                if std::mem::replace(next_turn, NextTurn::Queued) == NextTurn::None {
                    self.unfinished.push_back(id);
                }
            }
            Settled::Gone => {
                let ended = connection.strand.ended(&self.shared);
                self.table[index] = None;
                self.shared.release(ended);
            }
            Settled::Abandoned => self.shared.abandon(connection.strand.ended(&self.shared)),
        }
    }

    /// Handles some of the posts. Returns whether more may wait: the wake-up for posts that arrived
    /// since the mailbox was emptied may have been used up.
    fn take_posts(&mut self, lane: &mut Lane, now: Duration) -> bool {
        let takes = self.posts.is_empty();
        if takes {
            self.shared.mailboxes[self.lane.index()].take(&mut self.posts);
        }
        for _ in 0..self.shared.tuning.turn_messages {
            let Some(post) = self.posts.pop_front() else { break };
            match post {
                Post::Peer(id, post) => self.run(lane, now, id, ConnectionEvent::Post(post)),
                Post::Broadcast(members, broadcast) => {
                    self.broadcast(lane, now, &members, &broadcast);
                }
            }
        }
        self.settle_touched(lane, now);
        !takes || !self.posts.is_empty()
    }

    fn broadcast(
        &mut self,
        lane: &mut Lane,
        now: Duration,
        members: &Members,
        broadcast: &Broadcast,
    ) {
        for id in members.on_lane(self.lane) {
            if let Some(frame) = self.shared.frame_for(id, broadcast) {
                let event = ConnectionEvent::Post(PeerPost::SharedFrame(frame));
                self.run(lane, now, id, event);
            }
        }
    }

    /// Closes the connections in a shutdown: first gracefully, after the deadline by force, and at
    /// the end it abandons the blocked ones. Returns whether this worker has ended: it has no
    /// connection, and its mailbox is closed.
    fn advance_shutdown(&mut self, lane: &mut Lane, now: Duration) -> bool {
        let (due, _) = ShutdownStage::at(now, &self.shared.lifecycle);
        if due == ShutdownStage::No {
            return false;
        }
        self.shared.timers.close();
        if self.shutdown < due {
            self.shutdown = due;
            if self.owns_listeners() {
                self.shared.listeners.poll(&self.shared, lane);
            }
            for id in self.shared.registry.current(Some(self.lane)) {
                self.run(lane, now, id, ConnectionEvent::Shutdown);
            }
        }
        let listening = self.owns_listeners() && !self.shared.listeners.is_closed();
        let alone = self.shared.registry.connections_of(self.lane) == 0 && !listening;
        if !alone || !self.posts.is_empty() || !self.shared.mailboxes[self.lane.index()].close() {
            return false;
        }
        self.shared.worker_ended();
        true
    }
}
