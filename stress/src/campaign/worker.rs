//! One worker: it begins connections, accepts them, and passes each completion to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use posthouse_io::{Cancel, Completion, Failure, Lane, NewSocket, Op, Outcome, Turn};

use super::Campaign;
use super::conn::{Check, Conn, Next, WorkerCx};
use super::counts::{Count, Counts};
use super::exchange::lock;
use super::random::Random;
use super::script::Side;
use super::slot_table::{ListenerSlot, SlotTable};
use super::tags::{ConnId, OpKind, SEQUENCE_MASK};

pub(super) struct Worker {
    campaign: Arc<Campaign>,
    table: Arc<SlotTable>,
    counts: Counts,
    random: Random,
    /// The ends to poll in this step.
    to_poll: Vec<ConnId>,
    /// The number of a connection that waits for its entry in the exchanges.
    held_back: Option<u32>,
    /// True exactly when the worker has returned [`Turn::Done`].
    done: bool,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.done {
            self.campaign.fault("a panic ended a worker".to_owned());
        }
        self.campaign.worker_ends(&self.counts);
    }
}

impl Worker {
    pub(super) fn new(campaign: Arc<Campaign>, table: Arc<SlotTable>, number: u64) -> Self {
        let random = Random::of([campaign.settings.plan.seed, number, 16]);
        Self {
            campaign,
            table,
            counts: Counts::default(),
            random,
            to_poll: Vec::new(),
            held_back: None,
            done: false,
        }
    }

    pub(super) fn step(&mut self, lane: &mut Lane) -> Turn {
        let turn = self.turn(lane).unwrap_or_else(|what| {
            self.campaign.fault(what);
            Turn::Done
        });
        self.done = turn == Turn::Done;
        turn
    }

    fn turn(&mut self, lane: &mut Lane) -> Check<Turn> {
        self.open_listeners(lane);
        let moved = std::mem::take(&mut *lock(&self.table.moved));
        for new in moved {
            self.serve(new, lane)?;
        }
        while let Some(completion) = lane.next_completion() {
            self.complete(completion, lane)?;
        }
        for id in std::mem::take(&mut self.to_poll) {
            self.poll(id, lane)?;
        }
        self.begin_clients(lane)?;
        if self.campaign.is_at_its_end() {
            self.close_listeners(lane);
        }
        if self.campaign.is_over() {
            return Ok(Turn::Done);
        }
        Ok(match (self.to_poll.is_empty(), self.held_back) {
            (false, _) => Turn::Again,
            (true, None) => Turn::Sleep(None),
            (true, Some(_)) => Turn::Sleep(Some(Duration::from_millis(10))),
        })
    }

    fn complete(&mut self, completion: Completion, lane: &mut Lane) -> Check {
        let (id, kind, sequence) = ConnId::of(completion.tag);
        self.counts.add(Count::Completed, (!completion.more).into());
        match kind {
            OpKind::Accept => return self.accepted(id, sequence, completion, lane),
            OpKind::Unlisten => {
                self.campaign.listener_ends();
                return Ok(());
            }
            OpKind::Connect | OpKind::Send | OpKind::Receive | OpKind::Close => {}
        }
        self.with_conn(id, lane, true, |conn, cx| conn.complete(kind, sequence, completion, cx))
    }

    fn poll(&mut self, id: ConnId, lane: &mut Lane) -> Check {
        self.with_conn(id, lane, false, |conn, cx| {
            conn.queued = false;
            conn.proceed(cx)
        })
    }

    /// Calls an end, which must exist if `must` is true, and performs its next step.
    fn with_conn(
        &mut self,
        id: ConnId,
        lane: &mut Lane,
        must: bool,
        call: impl FnOnce(&mut Conn, &mut WorkerCx<'_>) -> Check<Next>,
    ) -> Check {
        let mut slot = lock(self.table.slot(id.slot));
        let conn = if must {
            slot.conn(id)?
        } else {
            let Some(conn) = slot.find(id) else { return Ok(()) };
            conn
        };
        let mut cx = WorkerCx { lane, campaign: &self.campaign, counts: &mut self.counts };
        let next = call(conn, &mut cx).map_err(|what| {
            format!("connection {}, {:?}: {what}\n  {conn:?}", conn.number, conn.side)
        })?;
        match next {
            Next::Wait => {}
            Next::Poll => {
                if !std::mem::replace(&mut conn.queued, true) {
                    self.to_poll.push(id);
                }
            }
            Next::Over => {
                let number = conn.number;
                let side = conn.side;
                let summary = conn.summary;
                self.table.leave(&mut slot);
                drop(slot);
                if side == Side::Client {
                    self.table.clients.fetch_sub(1, Ordering::Relaxed);
                }
                return self.campaign.conn_is_over(number, side, summary);
            }
        }
        Ok(())
    }
}

/// The connecting ends.
impl Worker {
    fn begin_clients(&mut self, lane: &mut Lane) -> Check {
        let limit = self.campaign.clients_of_lane();
        while self.held_back.is_some() || self.table.clients.load(Ordering::Relaxed) < limit {
            let Some(number) = self.held_back.take().or_else(|| self.campaign.next_number()) else {
                break;
            };
            if !self.campaign.exchanges.begin(number)? {
                self.held_back = Some(number);
                break;
            }
            self.table.clients.fetch_add(1, Ordering::Relaxed);
            self.counts.count(Count::Clients);
            let to = self.campaign.address_of(number);
            let socket = lane.socket();
            let id = self.table.take()?;
            self.insert(number, Side::Client, id, socket);
            self.with_conn(id, lane, true, |conn, cx| {
                conn.connect(to, cx);
                conn.proceed(cx)
            })?;
        }
        Ok(())
    }

    fn insert(&self, number: u32, side: Side, id: ConnId, socket: posthouse_io::Socket) {
        let plan = self.campaign.settings.plan;
        let ordered = self.campaign.settings.is_ordered();
        let conn = Conn::new(plan, (number, side), id, socket, ordered);
        lock(self.table.slot(id.slot)).conn = Some(Box::new(conn));
    }
}

/// The listeners, and the accepting ends.
impl Worker {
    fn open_listeners(&mut self, lane: &mut Lane) {
        for (index, listener_slot) in self.table.clone().listeners.iter().enumerate() {
            let mut listener_slot = lock(listener_slot);
            if let Some(listener) = listener_slot.listener.take() {
                listener_slot.socket = Some(lane.adopt_listener(listener));
                self.accept(index, &mut listener_slot, lane);
            }
        }
    }

    fn accept(&mut self, index: usize, listener_slot: &mut ListenerSlot, lane: &mut Lane) {
        let socket = listener_slot.socket.expect("the listener is open");
        let sequence = listener_slot.next_sequence;
        listener_slot.next_sequence = (sequence + 1) & SEQUENCE_MASK;
        listener_slot.accept = Some(sequence);
        listener_slot.cancelled = false;
        self.submit(index, OpKind::Accept, sequence, Op::Accept(socket), lane);
    }

    fn submit(&mut self, index: usize, kind: OpKind, sequence: u16, op: Op, lane: &mut Lane) {
        self.counts.count(Count::Submitted);
        let id = ConnId { slot: index as u32, generation: 0 };
        lane.submit(id.tag(kind, sequence), op);
    }

    fn accepted(
        &mut self,
        id: ConnId,
        sequence: u16,
        completion: Completion,
        lane: &mut Lane,
    ) -> Check {
        let table = self.table.clone();
        let index = id.slot as usize;
        let mut listener_slot = lock(&table.listeners[index]);
        // In the shared layout, one worker can still be busy with a peer when another sees the
        // accept end.
        let belated = completion.more && !self.campaign.settings.is_ordered();
        if listener_slot.accept != Some(sequence) && !belated {
            return Err(format!(
                "a completion for an accept that is over: {:?}",
                completion.outcome
            ));
        }
        match completion.outcome {
            Outcome::Accepted(new) if completion.more => {
                let serves = listener_slot.serves;
                if listener_slot.accept.is_some()
                    && !listener_slot.cancelled
                    && self.random.one_in(512)
                {
                    self.counts.count(Count::AcceptsAgain);
                    Self::cancel_accept(&mut listener_slot, lane);
                }
                drop(listener_slot);
                self.admit(*new, serves, lane)
            }
            Outcome::Failed(error) if !completion.more => {
                if error.failure != Failure::Cancelled && !error.is_transient()
                    || !listener_slot.cancelled
                {
                    return Err(format!("an accept failed without a reason: {error}"));
                }
                listener_slot.accept = None;
                if listener_slot.closing {
                    let socket = listener_slot.socket.take().expect("the listener is open");
                    self.submit(index, OpKind::Unlisten, 0, Op::Close(socket), lane);
                } else {
                    self.accept(index, &mut listener_slot, lane);
                }
                Ok(())
            }
            other => Err(format!("an accept completed with {other:?}")),
        }
    }

    fn cancel_accept(listener_slot: &mut ListenerSlot, lane: &mut Lane) {
        listener_slot.cancelled = true;
        lane.cancel(listener_slot.socket.expect("the listener is open"), Cancel::Everything);
    }

    fn close_listeners(&self, lane: &mut Lane) {
        for listener_slot in &self.table.listeners {
            let mut listener_slot = lock(listener_slot);
            if !listener_slot.closing {
                listener_slot.closing = true;
                if !listener_slot.cancelled {
                    Self::cancel_accept(&mut listener_slot, lane);
                }
            }
        }
    }

    fn admit(&mut self, new: NewSocket, serves: bool, lane: &mut Lane) -> Check {
        if !serves {
            self.counts.count(Count::TurnedAway);
            if self.random.one_in(2) {
                new.refuse();
            } else {
                drop(new);
            }
            return Ok(());
        }
        self.campaign.conn_begins();
        if self.random.one_in(8) {
            self.counts.count(Count::Moved);
            self.campaign.move_peer(new, self.random.next());
            return Ok(());
        }
        self.serve(new, lane)
    }

    fn serve(&mut self, new: NewSocket, lane: &mut Lane) -> Check {
        let socket = lane.adopt(new);
        let address = lane.local_address(socket).ok_or("an accepted peer without an address")?;
        let number = Campaign::number_of(address)?;
        self.campaign.exchanges.join(number)?;
        self.counts.count(Count::Served);
        let id = self.table.take()?;
        self.insert(number, Side::Server, id, socket);
        self.with_conn(id, lane, true, Conn::proceed)
    }
}
