//! One end of a connection: it follows its part of the script and checks the results.

mod input;
mod output;

use posthouse_io::{Buffer, Cancel, Completion, Error, Failure, Gather, Lane, Op, Outcome, Socket};

use super::Campaign;
use super::counts::{Count, Counts};
use super::exchange::ConnSummary;
use super::pattern::Pattern;
use super::random::Random;
use super::receives::Receives;
use super::script::{Disturbance, Part, Plan, Script, Side, Target};
use super::tags::{ConnId, OpKind};

/// The result of a check; the error describes a mistake of the port in a sentence.
pub(super) type Check<T = ()> = Result<T, String>;

/// One end of a connection, from the connect or the accept to the completion of its close.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one end")]
pub(super) struct Conn {
    pub(super) number: u32,
    pub(super) side: Side,
    pub(super) summary: ConnSummary,
    id: ConnId,
    socket: Socket,
    part: Part,
    polite: bool,
    random: Random,
    state: State,
    events: u32,
    cancels_left: u8,
    receives: Receives,
    outgoing: Outgoing,
    incoming: Pattern,
    /// The received buffer that is kept for some calls of [`release`](Self::release), with its
    /// offset.
    kept: Option<(u32, Buffer)>,
    /// True exactly when everything in flight has been cancelled for the last time.
    let_go: bool,
    /// True exactly when the connect has been cancelled.
    connect_cancelled: bool,
    /// True exactly when a receive has failed, other than by a cancel.
    deaf: bool,
    /// True exactly when it connects to an address without a listener.
    nobody_listens: bool,
    /// True exactly when this side has reset the connection.
    reset: bool,
    /// True exactly when a worker has queued the end to be polled.
    pub(super) queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Open,
    /// Nothing is submitted any more; operations in flight are awaited.
    Leaving,
    Closing,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about what is sent")]
struct Outgoing {
    pattern: Pattern,
    /// The number of messages begun.
    messages: u8,
    /// The offset of the end of the present message.
    message_end: u32,
    /// The rest of a partial send.
    rest: Option<Gather>,
    /// The number of bytes of the send in flight.
    in_flight: Option<usize>,
    /// True exactly when that send has been cancelled.
    cancelled: bool,
    /// True exactly when that send is of a file, and may leave in part if it fails.
    of_file: bool,
    /// True exactly when that send repeats bytes that found no room before.
    stalled: bool,
    /// True exactly when this side has ended its stream.
    ended: bool,
}

/// The parts of the worker that an end uses.
pub(super) struct WorkerCx<'a> {
    pub(super) lane: &'a mut Lane,
    pub(super) campaign: &'a Campaign,
    pub(super) counts: &'a mut Counts,
}

/// The next step of an end after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Wait,
    /// The end is to be polled in a later step.
    Poll,
    /// The end is closed.
    Over,
}

impl Conn {
    pub(super) fn new(
        plan: Plan,
        (number, side): (u32, Side),
        id: ConnId,
        socket: Socket,
        ordered: bool,
    ) -> Self {
        let script = Script::of(plan, number);
        let part = *script.part(side);
        let (own, other) = match side {
            Side::Client => (Side::Client, Side::Server),
            Side::Server => (Side::Server, Side::Client),
        };
        Self {
            number,
            side,
            summary: ConnSummary::default(),
            id,
            socket,
            polite: script.is_polite(),
            random: Random::of([plan.seed, number.into(), 8 + u64::from(side == Side::Server)]),
            state: if side == Side::Client { State::Connecting } else { State::Open },
            events: 0,
            cancels_left: part.cancels,
            receives: Receives::new(ordered, part.dawdles),
            outgoing: Outgoing {
                pattern: Pattern::of(plan.seed, number, own),
                messages: 0,
                message_end: 0,
                rest: None,
                in_flight: None,
                cancelled: false,
                of_file: false,
                stalled: false,
                ended: false,
            },
            incoming: Pattern::of(plan.seed, number, other),
            part,
            kept: None,
            let_go: false,
            connect_cancelled: false,
            deaf: false,
            nobody_listens: script.target == Target::Nobody,
            reset: false,
            queued: false,
        }
    }

    /// Handles a completion of one of the end's operations.
    pub(super) fn complete(
        &mut self,
        kind: OpKind,
        sequence: u16,
        completion: Completion,
        cx: &mut WorkerCx<'_>,
    ) -> Check<Next> {
        let Completion { outcome, more, .. } = completion;
        match (kind, outcome) {
            (OpKind::Connect, outcome) if self.state == State::Connecting && !more => {
                self.connected(outcome, cx)?;
            }
            (OpKind::Send, outcome) if !more => self.sent(outcome, cx)?,
            (OpKind::Receive, outcome) => {
                let overtakes = self.receives.complete(sequence, more, outcome)?;
                cx.counts.add(Count::Overtaken, overtakes.into());
                while let Some(verdict) = self.receives.next()? {
                    self.received(verdict, cx)?;
                }
            }
            (OpKind::Close, Outcome::Closed) if self.state == State::Closing && !more => {
                return Ok(Next::Over);
            }
            (kind, outcome) => {
                return Err(format!("{kind:?} completed with {outcome:?}, more: {more}"));
            }
        }
        self.proceed(cx)
    }

    /// Continues the script, after a completion or a poll.
    pub(super) fn proceed(&mut self, cx: &mut WorkerCx<'_>) -> Check<Next> {
        self.release(cx)?;
        self.disturb(cx);
        if self.state == State::Open {
            self.cancel_now_and_then(cx);
            let all_sent = self.send(cx);
            self.receive(cx);
            if all_sent {
                self.end_stream(cx);
            }
            let over = self.summary.ended && self.outgoing.ended;
            if over && self.receives.is_empty() && self.outgoing.in_flight.is_none() {
                self.state = State::Leaving;
            }
        }
        self.events += 1;
        if self.state == State::Leaving {
            self.leave(cx);
        }
        let stalled = self.outgoing.stalled && self.outgoing.in_flight.is_some();
        let stalled = stalled || self.part.dawdles && self.receives.is_empty();
        let waits = !self.in_flight() || self.kept.is_some() || stalled || self.random.one_in(8);
        Ok(if waits && self.state != State::Closing { Next::Poll } else { Next::Wait })
    }

    fn in_flight(&self) -> bool {
        self.state == State::Connecting
            || self.outgoing.in_flight.is_some()
            || !self.receives.is_empty()
    }
}

/// Methods for deliberate disturbances.
impl Conn {
    fn disturb(&mut self, cx: &mut WorkerCx<'_>) {
        let done = matches!(self.state, State::Leaving | State::Closing);
        if done || self.events < self.part.disturb_at {
            return;
        }
        match self.part.disturbance {
            Disturbance::Reset => {
                cx.counts.count(Count::Resets);
                cx.lane.reset(self.socket);
                self.reset = true;
                if self.state == State::Open {
                    self.state = State::Leaving;
                }
            }
            Disturbance::Leave => {
                cx.counts.count(Count::Left);
                self.cancel(Cancel::Everything, cx);
                if self.state == State::Open {
                    self.state = State::Leaving;
                }
            }
            Disturbance::CutShort if self.state == State::Open => {
                if self.outgoing.in_flight.is_some() || self.outgoing.ended {
                    return;
                }
                cx.counts.count(Count::CutShort);
                self.shut_down(cx);
            }
            Disturbance::CutShort | Disturbance::No => return,
        }
        self.part.disturbance = Disturbance::No;
    }

    fn cancel_now_and_then(&mut self, cx: &mut WorkerCx<'_>) {
        // A send that waits for room is rare, so its cancel does not depend on the budget.
        let stalled = self.outgoing.stalled && self.outgoing.in_flight.is_some();
        if !self.random.one_in(4) || (self.cancels_left == 0 && !stalled) {
            return;
        }
        self.cancels_left = self.cancels_left.saturating_sub(1);
        let doubtful = self.is_send_doubtful(cx);
        let may_cancel_a_send = !(doubtful && self.outgoing.in_flight.is_some());
        let everything = self.random.one_in(if stalled { 2 } else { 3 }) && may_cancel_a_send;
        self.cancel(if everything { Cancel::Everything } else { Cancel::Receives }, cx);
    }

    fn cancel(&mut self, what: Cancel, cx: &mut WorkerCx<'_>) {
        self.receives.cancel();
        if what == Cancel::Everything {
            self.outgoing.cancelled = true;
            self.connect_cancelled = true;
            cx.counts.count(Count::CancelsOfEverything);
        } else {
            cx.counts.count(Count::CancelsOfReceives);
        }
        cx.lane.cancel(self.socket, what);
    }

    /// Cancels everything in flight, and closes when nothing is in flight.
    fn leave(&mut self, cx: &mut WorkerCx<'_>) {
        if self.in_flight() {
            if !self.let_go && !self.reset {
                self.let_go = true;
                self.cancel(Cancel::Everything, cx);
            }
            return;
        }
        if self.random.one_in(16) {
            // No operation is in flight to be cancelled.
            self.cancel(Cancel::Everything, cx);
        }
        self.state = State::Closing;
        self.kept = None;
        self.submit(OpKind::Close, 0, Op::Close(self.socket), cx);
    }

    /// Checks whether a failure is possible after all events on this connection.
    fn failed(&mut self, error: Error, cancelled: bool) -> Check {
        let rude = !self.polite || self.reset;
        let known = match error.failure {
            Failure::Cancelled => cancelled,
            Failure::Reset | Failure::NotConnected => rude,
            _ => false,
        };
        if !known {
            return Err(format!("an operation failed without a reason: {error}"));
        }
        if error.failure != Failure::Cancelled {
            self.summary.failed.get_or_insert(error.failure);
            if self.state == State::Open {
                self.state = State::Leaving;
            }
        }
        Ok(())
    }

    fn submit(&mut self, kind: OpKind, sequence: u16, op: Op, cx: &mut WorkerCx<'_>) {
        cx.counts.count(Count::Submitted);
        cx.lane.submit(self.id.tag(kind, sequence), op);
    }
}

/// Methods for connecting.
impl Conn {
    pub(super) fn connect(&mut self, to: posthouse_io::Address, cx: &mut WorkerCx<'_>) {
        self.submit(OpKind::Connect, 0, Op::Connect(self.socket, to), cx);
    }

    fn connected(&mut self, outcome: Outcome, cx: &mut WorkerCx<'_>) -> Check {
        // A cancel may come too late.
        let left = self.connect_cancelled || self.reset;
        self.state = if left { State::Leaving } else { State::Open };
        match outcome {
            Outcome::Connected if self.nobody_listens => {
                Err("connected to a port without a listener".to_owned())
            }
            Outcome::Connected => {
                cx.counts.count(Count::Connected);
                Ok(())
            }
            Outcome::Failed(error) => {
                self.state = State::Leaving;
                if error.failure == Failure::Refused && self.nobody_listens {
                    cx.counts.count(Count::Refused);
                    self.summary.failed = Some(Failure::Refused);
                    return Ok(());
                }
                cx.counts.count(Count::ConnectsEnded);
                self.failed(error, self.connect_cancelled)
            }
            other => Err(format!("a connect completed with {other:?}")),
        }
    }
}
