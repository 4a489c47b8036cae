//! Shared layout: the strand *is* ownership of the connection's box. Who takes the box runs;
//! others leave what they have in the inbox and go on; the box goes back only to an empty inbox.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use posthouse_io::{Completion, Lane, LaneId, Turn};

use super::Shutdown;
use super::tasks::Tasks;
use crate::connection::{Connection, Context, Fate, Local, Work};
use crate::core::Core;
use crate::error::SendError;
use crate::id::{PeerId, SLOT_BITS};
use crate::mailbox::{PeerPost, Post};
use crate::sync::{Arc, Mutex, OnceLock, lock};
use crate::watch::Watch;

/// Slots in a segment. Segments are made when first needed and never move.
const SEGMENT: usize = 1024;
/// Things that a worker does for one connection before others have their turn.
const TURN_WORKS: usize = 64;

type Segment = OnceLock<Box<[Mutex<Slot>]>>;

/// All connections of the shared lane.
pub(crate) struct Strands {
    segments: Box<[Segment]>,
    /// Slots that have something in their inbox and nobody who runs them.
    ready: Mutex<VecDeque<u32>>,
}

struct Slot {
    inbox: VecDeque<(PeerId, Work)>,
    /// The box, while nobody runs it. A slot whose connection has not begun has none, either.
    connection: Option<Box<Connection>>,
    state: SlotState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    /// Nothing in the inbox.
    Idle,
    /// In `ready`, or about to be.
    Ready,
    /// A worker has the box.
    Running,
}

impl Default for Slot {
    fn default() -> Self {
        Self { inbox: VecDeque::new(), connection: None, state: SlotState::Idle }
    }
}

impl Strands {
    pub(crate) fn new(connections_max: usize) -> Self {
        let segments = connections_max.min(1 << SLOT_BITS).div_ceil(SEGMENT) + 1;
        let segments = (0..segments).map(|_| OnceLock::new()).collect();
        Self { segments, ready: Mutex::default() }
    }

    fn slot(&self, slot: u32) -> &Mutex<Slot> {
        let (segment, place) = (slot as usize / SEGMENT, slot as usize % SEGMENT);
        let make = || (0..SEGMENT).map(|_| Mutex::default()).collect();
        &self.segments[segment].get_or_init(make)[place]
    }

    /// Leaves a post in the inbox. Returns whether a worker should be woken for it.
    pub(crate) fn post(
        &self,
        id: PeerId,
        post: PeerPost,
        posts_max: usize,
    ) -> Result<bool, SendError> {
        let mut slot = lock(self.slot(id.slot()));
        if slot.inbox.len() >= posts_max {
            return Err(SendError::Busy);
        }
        slot.inbox.push_back((id, Work::Post(post)));
        if slot.state != SlotState::Idle {
            return Ok(false);
        }
        slot.state = SlotState::Ready;
        drop(slot);
        lock(&self.ready).push_back(id.slot());
        Ok(true)
    }

    /// Drops the connections that were given up, and what was posted too late: they lead back to
    /// the endpoint, which has ended.
    pub(crate) fn clear(&self) {
        for slot in self.segments.iter().filter_map(OnceLock::get).flatten() {
            let mut slot = lock(slot);
            let left = (slot.connection.take(), std::mem::take(&mut slot.inbox));
            drop(slot);
            // What the user's values do when they are dropped harms nobody.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(left)));
        }
    }

    /// How much waits in the connection's inbox.
    pub(crate) fn posts(&self, id: PeerId) -> usize {
        lock(self.slot(id.slot())).inbox.len()
    }

    /// Leaves work in the inbox. Returns whether the caller must run the slot.
    fn deliver(&self, id: PeerId, work: Work) -> bool {
        let mut slot = lock(self.slot(id.slot()));
        slot.inbox.push_back((id, work));
        let idle = slot.state == SlotState::Idle;
        if idle {
            slot.state = SlotState::Running;
        }
        idle
    }

    /// Takes a slot that nobody runs.
    fn take_ready(&self) -> Option<u32> {
        let slot = lock(&self.ready).pop_front()?;
        let mut guard = lock(self.slot(slot));
        assert_eq!(guard.state, SlotState::Ready, "a ready slot is run once");
        guard.state = SlotState::Running;
        Some(slot)
    }
}

/// A slot that this worker runs: it has the box, where there is one.
struct Running {
    slot: u32,
    connection: Option<Box<Connection>>,
    /// True exactly when something was applied and not settled.
    touched: bool,
    works: usize,
}

pub(crate) struct SharedWorker {
    core: Arc<Core>,
    local: Local,
    tasks: Tasks,
    running: Option<Running>,
    /// Slots that this worker has entered and not begun to run.
    entered: VecDeque<u32>,
}

impl SharedWorker {
    pub(crate) fn new(core: Arc<Core>, watch: Arc<Watch>) -> Self {
        Self {
            core,
            local: Local::new(watch),
            tasks: Tasks::default(),
            running: None,
            entered: VecDeque::new(),
        }
    }

    fn strands(core: &Core) -> &Strands {
        core.strands.as_ref().expect("the shared layout")
    }

    /// One turn: what was entered, completions, ready slots, posts, deadlines, the shutdown.
    pub(crate) fn step(&mut self, lane: &mut Lane) -> Turn {
        let now = lane.now();
        self.listen(lane, now);
        loop {
            while self.running.is_some() || self.begin_entered() {
                self.run_one(lane, now);
                if lane.yields() {
                    return Turn::Again;
                }
            }
            let Some(completion) = lane.next() else { break };
            self.complete(lane, completion);
        }
        while let Some((at, id)) = self.local.timers.due(now) {
            self.enter(id, Work::Deadline(at));
        }
        while let Some(post) = self.core.mailboxes[0].pop() {
            match post {
                Post::At(at, task) => self.tasks.add(at, task),
                Post::Peer(..) | Post::Broadcast(..) => unreachable!("posts go to the inboxes"),
            }
        }
        self.tasks.run(&self.core, now);
        if self.entered.is_empty()
            && let Some(slot) = Self::strands(&self.core).take_ready()
        {
            self.entered.push_back(slot);
        }
        if !self.entered.is_empty() {
            return Turn::Again;
        }
        if self.advance_shutdown(lane, now) {
            return Turn::Done;
        }
        self.rest(now)
    }

    fn rest(&self, now: Duration) -> Turn {
        if !self.entered.is_empty() {
            return Turn::Again;
        }
        let (_, further) = Shutdown::at(now, &self.core.life);
        let look = self.core.accepting.next_look();
        super::sleep(now, [self.local.timers.next(), self.tasks.next(), look, further])
    }

    fn listen(&self, lane: &mut Lane, now: Duration) {
        if self.core.accepting.next_look().is_some_and(|at| at <= now) {
            self.core.accepting.look(&self.core, lane);
        }
    }

    fn complete(&mut self, lane: &mut Lane, completion: Completion) {
        let (id, operation, _) = crate::id::unpack(completion.tag);
        if operation.is_listeners() {
            let Completion { more, outcome, .. } = completion;
            self.core.accepting.complete(&self.core, lane, (id, operation), more, outcome);
            return;
        }
        let (id, work) = Work::from_completion(completion);
        self.enter(id, work);
    }

    /// Leaves work in a connection's inbox, and runs it later in this turn if nobody else does.
    fn enter(&mut self, id: PeerId, work: Work) {
        if Self::strands(&self.core).deliver(id, work) {
            self.entered.push_back(id.slot());
        }
    }

    /// Takes the box of the next entered slot.
    fn begin_entered(&mut self) -> bool {
        let Some(slot) = self.entered.pop_front() else { return false };
        let connection = lock(Self::strands(&self.core).slot(slot)).connection.take();
        self.running = Some(Running { slot, connection, touched: false, works: 0 });
        true
    }

    /// Does one thing for the connection that runs, or puts its box back.
    fn run_one(&mut self, lane: &mut Lane, now: Duration) {
        let Some(mut running) = self.running.take() else { return };
        let strands = Self::strands(&self.core);
        let next = match running.works < TURN_WORKS {
            true => lock(strands.slot(running.slot)).inbox.pop_front(),
            false => None,
        };
        let Some((id, mut work)) = next else {
            self.rest_running(lane, now, running);
            return;
        };
        running.works += 1;
        if let Some(connection) = super::begun(id, &mut work) {
            let old = running.connection.replace(connection);
            assert!(old.is_none(), "{id}: a slot was given away twice");
        }
        // Posts and deadlines can be for a connection that is gone; they go with it.
        match running.connection.as_mut().filter(|connection| connection.strand.id == id) {
            Some(connection) => {
                let mut cx = Context { lane, core: &self.core, local: &mut self.local, now };
                // Frames of other threads are collected; everything else is settled at once.
                running.touched = matches!(work, Work::Post(_));
                connection.apply(&mut cx, work);
                if !running.touched {
                    self.settle(lane, now, &mut running);
                }
            }
            None => assert!(
                !matches!(work, Work::Completion { .. }),
                "{id}: a completion for a connection that is gone"
            ),
        }
        self.running = Some(running);
    }

    fn settle(&mut self, lane: &mut Lane, now: Duration, running: &mut Running) {
        running.touched = false;
        let Some(connection) = &mut running.connection else { return };
        let id = connection.strand.id;
        let mut cx = Context { lane, core: &self.core, local: &mut self.local, now };
        match connection.settle(&mut cx) {
            Fate::Waits => {}
            Fate::Unfinished if connection.strand.unfinished => {}
            Fate::Unfinished => {
                connection.strand.unfinished = true;
                let mut slot = lock(Self::strands(&self.core).slot(running.slot));
                slot.inbox.push_back((id, Work::Continue));
            }
            Fate::Gone => {
                running.connection = None;
                self.core.registry.release(id);
            }
            Fate::GivenUp => self.core.registry.give_up(id),
        }
    }

    /// The inbox is empty, or the connection has had its share: the box goes back.
    fn rest_running(&mut self, lane: &mut Lane, now: Duration, mut running: Running) {
        if running.touched {
            self.settle(lane, now, &mut running);
        }
        let strands = Self::strands(&self.core);
        let mut slot = lock(strands.slot(running.slot));
        slot.connection = running.connection;
        if slot.inbox.is_empty() {
            slot.state = SlotState::Idle;
        } else {
            slot.state = SlotState::Ready;
            drop(slot);
            lock(&strands.ready).push_back(running.slot);
        }
    }

    /// Closes the connections, first gracefully, past the deadline by force; in the end it gives up
    /// those that the system holds. Returns whether this worker has ended.
    fn advance_shutdown(&mut self, lane: &mut Lane, now: Duration) -> bool {
        let (wanted, _) = Shutdown::at(now, &self.core.life);
        if wanted == Shutdown::No {
            return false;
        }
        self.tasks.clear();
        // Whichever worker sees it first: a wake-up wakes one of them, nobody knows which.
        if self.core.life.tells(wanted as u8) {
            self.core.accepting.look(&self.core, lane);
            for id in self.core.registry.current(None) {
                self.enter(id, Work::Shutdown);
            }
        }
        let alone = self.core.registry.connections() == 0 && self.core.accepting.is_closed();
        if !alone || !self.entered.is_empty() || !self.core.mailboxes[0].close() {
            return false;
        }
        self.core.worker_ended();
        // The others may sleep without a deadline.
        self.core.port.wake(LaneId(0));
        true
    }
}
