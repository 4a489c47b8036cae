//! The worker of the shared layout, where the strand *is* ownership of the connection's box. The
//! worker that takes the box runs the connection. Other workers add their events to the slot's
//! queue and continue. The box is put back for good only when the queue is empty.

use std::collections::VecDeque;
use std::time::Duration;

use posthouse_io::{Completion, Lane, LaneId, Turn};

use super::ShutdownStage;
use super::tasks::Tasks;
use crate::connection::{
    Connection, ConnectionEvent, Context, NextTurn, Settled, Settling, WorkerState,
};
use crate::id::PeerId;
use crate::mailbox::Post;
use crate::shared::{Shared, SlotState, Strands};
use crate::sync::{Arc, lock};
use crate::watchdog::CallbackMarker;

/// The maximum number of events of one connection before other connections have their turn.
const MAX_TURN_EVENTS: usize = 64;

/// A slot that this worker runs, with its box if there is one.
struct Running {
    slot: u32,
    connection: Option<Box<Connection>>,
    events: usize,
}

pub(crate) struct SharedWorker {
    shared: Arc<Shared>,
    worker: WorkerState,
    tasks: Tasks,
    running: Option<Running>,
    /// The slots that this worker has entered and not begun to run.
    entered: VecDeque<u32>,
}

impl SharedWorker {
    pub(crate) fn new(shared: Arc<Shared>, marker: Arc<CallbackMarker>) -> Self {
        Self {
            shared,
            worker: WorkerState::new(marker),
            tasks: Tasks::default(),
            running: None,
            entered: VecDeque::new(),
        }
    }

    fn strands(shared: &Shared) -> &Strands {
        shared.strands.as_ref().expect("the shared layout")
    }

    /// Runs one turn: entered slots, completions, deadlines, posts, ready slots, the shutdown.
    pub(crate) fn step(&mut self, lane: &mut Lane) -> Turn {
        let now = lane.now();
        self.poll_listeners(lane, now);
        loop {
            while self.running.is_some() || self.begin_entered() {
                self.run_one(lane, now);
                if lane.should_yield() {
                    return Turn::Again;
                }
            }
            let Some(completion) = lane.next_completion() else { break };
            self.complete(lane, completion);
        }
        while let Some((at, id)) = self.worker.timers.pop_due(now) {
            self.enter(id, ConnectionEvent::Deadline(at));
        }
        while let Some(post) = self.shared.mailboxes[0].pop() {
            match post {
                Post::At(at, task) => self.tasks.add(at, task),
                Post::Peer(..) | Post::Broadcast(..) => unreachable!("posts go to the slots"),
            }
        }
        self.tasks.run(&self.shared, now);
        if self.entered.is_empty()
            && let Some(slot) = Self::strands(&self.shared).take_ready()
        {
            self.entered.push_back(slot);
        }
        if !self.entered.is_empty() {
            return Turn::Again;
        }
        if self.advance_shutdown(lane, now) {
            return Turn::Done;
        }
        self.sleep_or_again(now)
    }

    fn sleep_or_again(&self, now: Duration) -> Turn {
        if !self.entered.is_empty() {
            return Turn::Again;
        }
        let (_, next_stage_at) = ShutdownStage::at(now, &self.shared.lifecycle);
        let poll_at = self.shared.listeners.next_poll_at();
        super::sleep(now, [self.worker.timers.next(), self.tasks.next(), poll_at, next_stage_at])
    }

    fn poll_listeners(&self, lane: &mut Lane, now: Duration) {
        if self.shared.listeners.next_poll_at().is_some_and(|at| at <= now) {
            self.shared.listeners.poll(&self.shared, lane);
        }
    }

    fn complete(&mut self, lane: &mut Lane, completion: Completion) {
        let Completion { tag, more, outcome } = completion;
        let (owner, operation, sequence) = crate::id::unpack(tag);
        if operation.is_listeners() {
            self.shared.listeners.complete(&self.shared, lane, (owner, operation), more, outcome);
        } else {
            let id = self.shared.registry.owner(owner);
            self.enter(id, ConnectionEvent::Completion { operation, sequence, more, outcome });
        }
    }

    /// Adds an event to the queue of a connection, and runs it later in this turn if no other
    /// worker does.
    fn enter(&mut self, id: PeerId, event: ConnectionEvent) {
        if Self::strands(&self.shared).deliver(id, event) {
            self.entered.push_back(id.slot());
        }
    }

    /// Takes the box of the next entered slot.
    fn begin_entered(&mut self) -> bool {
        let Some(slot) = self.entered.pop_front() else { return false };
        let connection = lock(Self::strands(&self.shared).slot(slot)).connection.take();
        self.running = Some(Running { slot, connection, events: 0 });
        true
    }

    /// Applies one event to the connection that runs, or puts its box back.
    fn run_one(&mut self, lane: &mut Lane, now: Duration) {
        let Some(mut running) = self.running.take() else { return };
        let strands = Self::strands(&self.shared);
        let next = if running.events < MAX_TURN_EVENTS {
            lock(strands.slot(running.slot)).pending.pop_front()
        } else {
            None
        };
        let Some((id, mut event)) = next else {
            self.put_back(lane, now, running);
            return;
        };
        running.events += 1;
        if let Some(connection) = super::new_connection(id, &mut event) {
            let old = running.connection.replace(connection);
            assert!(old.is_none(), "{id}: a slot was given away twice");
        }
        // A post or a deadline can be for an ended connection; it is dropped.
        match running.connection.as_mut().filter(|connection| connection.strand.id == id) {
            Some(connection) => {
                let mut cx = Context { lane, shared: &self.shared, worker: &mut self.worker, now };
                let waits = event.only_reports();
                connection.strand.settling = connection.strand.settling.with(&event);
                connection.apply(&mut cx, event);
                if !waits {
                    self.settle(lane, now, &mut running);
                }
            }
            None => assert!(
                !matches!(event, ConnectionEvent::Completion { .. }),
                "{id}: a completion for a connection that is gone"
            ),
        }
        self.running = Some(running);
    }

    fn settle(&mut self, lane: &mut Lane, now: Duration, running: &mut Running) {
        let Some(connection) = &mut running.connection else { return };
        let id = connection.strand.id;
        let mut cx = Context { lane, shared: &self.shared, worker: &mut self.worker, now };
        match connection.settle(&mut cx) {
            Settled::Waiting => {}
            Settled::Unfinished if connection.strand.next_turn == NextTurn::Queued => {}
            Settled::Unfinished => {
                connection.strand.next_turn = NextTurn::Queued;
                let mut slot = lock(Self::strands(&self.shared).slot(running.slot));
                slot.pending.push_back((id, ConnectionEvent::Continue));
            }
            Settled::Gone => {
                let ended = connection.strand.ended(&self.shared);
                running.connection = None;
                self.shared.release(ended);
            }
            Settled::Abandoned => self.shared.abandon(connection.strand.ended(&self.shared)),
        }
    }

    /// Puts the box back, because the queue is empty or the connection has had its turn.
    fn put_back(&mut self, lane: &mut Lane, now: Duration, mut running: Running) {
        if let Some(connection) = &running.connection
            && connection.strand.settling != Settling::Done
        {
            self.settle(lane, now, &mut running);
        }
        let strands = Self::strands(&self.shared);
        let mut slot = lock(strands.slot(running.slot));
        slot.connection = running.connection;
        if slot.pending.is_empty() {
            slot.state = SlotState::Idle;
        } else {
            slot.state = SlotState::Ready;
            drop(slot);
            lock(&strands.ready).push_back(running.slot);
        }
    }

    /// Closes the connections in a shutdown: first gracefully, after the deadline by force, and at
    /// the end it abandons the blocked ones. Returns whether this worker has ended.
    fn advance_shutdown(&mut self, lane: &mut Lane, now: Duration) -> bool {
        let (due, _) = ShutdownStage::at(now, &self.shared.lifecycle);
        if due == ShutdownStage::No {
            return false;
        }
        self.tasks.clear();
        // The first worker that sees the stage announces it: a wake-up wakes any one of them.
        if self.shared.lifecycle.is_first_at(due as u8) {
            self.shared.listeners.poll(&self.shared, lane);
            for id in self.shared.registry.current(None) {
                self.enter(id, ConnectionEvent::Shutdown);
            }
        }
        let alone = self.shared.registry.connections() == 0 && self.shared.listeners.is_closed();
        if !alone || !self.entered.is_empty() || !self.shared.mailboxes[0].close() {
            return false;
        }
        self.shared.worker_ended();
        // The other workers may sleep without a deadline.
        self.shared.port.wake(LaneId(0));
        true
    }
}
