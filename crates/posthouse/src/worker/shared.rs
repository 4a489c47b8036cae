//! The worker of the shared layout, where the strand *is* ownership of the connection's box. The
//! worker that takes the box runs the connection. Other workers add their events to the slot's
//! queue and continue. The box is put back for good only when the queue is empty.

use std::collections::VecDeque;
use std::time::Duration;

use posthouse_io::{Completion, Lane, LaneId, Turn};

use super::{ShutdownStage, Worker};
use crate::connection::{
    Connection, ConnectionEvent, Context, NextTurn, Settled, Settling, WorkerState,
};
use crate::id::PeerId;
use crate::shared::{Shared, Strands};
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

impl Running {
    /// Takes the next event of the slot; `None` if there is none, or the slot has had its turn.
    fn next_event(&mut self, strands: &Strands) -> Option<(PeerId, ConnectionEvent)> {
        if self.events == MAX_TURN_EVENTS {
            return None;
        }
        self.events += 1;
        lock(strands.slot(self.slot)).pending.pop_front()
    }

    fn apply(&mut self, cx: &mut Context<'_>, id: PeerId, mut event: ConnectionEvent) {
        if let Some(connection) = super::new_connection(id, &mut event) {
            let old = self.connection.replace(connection);
            assert!(old.is_none(), "{id}: a slot was given away twice");
        }
        // A post or a deadline can be for an ended connection; it is dropped.
        match self.connection.as_mut().filter(|connection| connection.strand.id == id) {
            Some(connection) => {
                let waits = event.only_reports();
                connection.strand.settling = connection.strand.settling.with(&event);
                connection.apply(cx, event);
                if !waits {
                    self.settle(cx);
                }
            }
            None => assert!(
                !matches!(event, ConnectionEvent::Completion { .. }),
                "{id}: a completion for a connection that is gone"
            ),
        }
    }

    fn settle_if_due(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &self.connection
            && connection.strand.settling != Settling::Done
        {
            self.settle(cx);
        }
    }

    fn settle(&mut self, cx: &mut Context<'_>) {
        let Some(connection) = &mut self.connection else { return };
        let id = connection.strand.id;
        match connection.settle(cx) {
            Settled::Waiting => {}
            Settled::Unfinished if connection.strand.next_turn == NextTurn::Queued => {}
            Settled::Unfinished => {
                connection.strand.next_turn = NextTurn::Queued;
                let strands = SharedWorker::strands(cx.shared);
                lock(strands.slot(self.slot)).pending.push_back((id, ConnectionEvent::Continue));
            }
            Settled::Gone => {
                let ended = connection.strand.ended(cx.shared);
                self.connection = None;
                cx.shared.release(ended);
            }
            Settled::Abandoned => cx.shared.abandon(connection.strand.ended(cx.shared)),
        }
    }
}

pub(crate) struct SharedWorker {
    shared: Arc<Shared>,
    worker: WorkerState,
    running: Option<Running>,
    /// The slots that this worker has entered and not begun to run.
    entered: VecDeque<u32>,
}

impl SharedWorker {
    pub(crate) fn new(shared: Arc<Shared>, marker: Arc<CallbackMarker>) -> Self {
        Self { shared, worker: WorkerState::new(marker), running: None, entered: VecDeque::new() }
    }

    fn strands(shared: &Shared) -> &Strands {
        shared.strands.as_ref().expect("the shared layout")
    }
}

impl Worker for SharedWorker {
    fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn abandon(&mut self) {
        if let Some(connection) = self.running.take().and_then(|running| running.connection) {
            super::abandon_connection(&self.shared, connection);
        }
        // The slot of the connection that ran stays taken. Other workers run the others.
        for slot in self.entered.drain(..) {
            Self::strands(&self.shared).hand_over(slot);
        }
        self.shared.port.wake(LaneId(0));
    }

    /// Runs one turn: a ready slot, completions, timers of the endpoint, deadlines, the shutdown.
    fn step(&mut self, lane: &mut Lane) -> Turn {
        let now = lane.now();
        self.take_ready();
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
        self.shared.timers.run(&self.shared, now, &self.worker.marker);
        for (at, id) in self.worker.timers.take_due(now) {
            // Behind the posts, where any worker can take it.
            Self::strands(&self.shared).add_deadline(id, at);
        }
        if self.advance_shutdown(lane, now) {
            return Turn::Done;
        }
        self.sleep_or_again(now)
    }
}

impl SharedWorker {
    fn sleep_or_again(&self, now: Duration) -> Turn {
        if !self.entered.is_empty() || Self::strands(&self.shared).has_ready() {
            return Turn::Again;
        }
        let (_, next_stage_at) = ShutdownStage::at(now, &self.shared.lifecycle);
        let of_endpoint = self.shared.next_deadline();
        super::sleep(now, [self.worker.timers.next(), of_endpoint, next_stage_at])
    }

    /// Takes one ready slot. If more are ready, another worker is woken for the next one, because
    /// this worker may block in a callback. That comes first in a step: between two steps this
    /// worker checks for events, and would take the wake-up itself.
    fn take_ready(&mut self) {
        if let Some((slot, more)) = Self::strands(&self.shared).take_ready() {
            self.entered.push_back(slot);
            if more {
                self.shared.port.wake(LaneId(0));
            }
        }
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

    /// Applies one event to the connection that runs, or puts its box back. The box stays in
    /// `running` meanwhile, where [`abandon`](Worker::abandon) finds it after a panic.
    fn run_one(&mut self, lane: &mut Lane, now: Duration) {
        let Self { shared, worker, running, .. } = self;
        let Some(current) = running else { return };
        let mut cx = Context { lane, shared, worker, now };
        if let Some((id, event)) = current.next_event(Self::strands(shared)) {
            current.apply(&mut cx, id, event);
            return;
        }
        current.settle_if_due(&mut cx);
        if let Some(done) = running.take() {
            Self::strands(shared).put_back(done.slot, done.connection);
        }
    }

    /// Closes the connections in a shutdown: first gracefully, after the deadline by force, and at
    /// the end it abandons the blocked ones. Returns whether this worker has ended.
    fn advance_shutdown(&mut self, lane: &mut Lane, now: Duration) -> bool {
        let (due, _) = ShutdownStage::at(now, &self.shared.lifecycle);
        if due == ShutdownStage::No {
            return false;
        }
        self.shared.timers.close();
        // The first worker that sees the stage announces it: a wake-up wakes any one of them.
        if self.shared.lifecycle.is_first_at(due as u8) {
            self.shared.listeners.poll(&self.shared, lane);
            for id in self.shared.registry.current(None) {
                self.enter(id, ConnectionEvent::Shutdown);
            }
        }
        let alone = self.shared.registry.connections() == 0 && self.shared.listeners.is_closed();
        if !alone || !self.entered.is_empty() {
            return false;
        }
        self.shared.worker_ended();
        // The other workers may sleep without a deadline.
        self.shared.port.wake(LaneId(0));
        true
    }
}
