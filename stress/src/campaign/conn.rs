//! One end of a connection: it follows its part of the script and checks the results.

use posthouse_io::{
    Buffer, Cancel, Completion, Error, Failure, Gather, Lane, Op, Outcome, ReceiveMode, Segment,
    Socket,
};

use super::Campaign;
use super::counts::{Count, Counts};
use super::exchange::ConnSummary;
use super::pattern::Pattern;
use super::random::Random;
use super::receives::{Receives, Verdict};
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

/// Deliberate disturbances.
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
            // With nothing in flight to cancel.
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

/// Connecting.
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

/// Sending.
impl Conn {
    /// Sends the next bytes. Returns false if not everything has been sent.
    fn send(&mut self, cx: &mut WorkerCx<'_>) -> bool {
        if self.outgoing.ended {
            return true;
        }
        let waits = self.part.replies_last && !self.summary.ended;
        if self.outgoing.in_flight.is_some() || waits {
            return false;
        }
        if self.summary.sent == self.outgoing.message_end {
            if self.outgoing.messages == self.part.messages {
                return true;
            }
            self.outgoing.message_end += self.part.message_bytes(self.outgoing.messages);
            self.outgoing.messages += 1;
            cx.counts.count(Count::Messages);
        }
        let rest = self.outgoing.rest.take();
        self.outgoing.stalled = rest.is_some();
        let gather = rest.unwrap_or_else(|| self.gather(cx));
        self.outgoing.in_flight = Some(gather.len());
        self.outgoing.cancelled = false;
        self.submit(OpKind::Send, 0, Op::Send(self.socket, gather), cx);
        false
    }

    /// Returns the unsent part of the message, in one segment or in several.
    fn gather(&mut self, cx: &mut WorkerCx<'_>) -> Gather {
        let (from, until) = (self.summary.sent, self.outgoing.message_end);
        let mut gather = Gather::default();
        self.outgoing.of_file = false;
        let pieces = match self.random.below(32) {
            0 => 100,
            1..4 => self.random.between(2, 5),
            4..12 if cx.campaign.settings.files => {
                // The first bytes come from memory, the rest from the file.
                let middle = from + self.random.below(until - from);
                let offset = self.outgoing.pattern.in_row(middle);
                if let Some(part) = cx.campaign.file_source.part(offset, until - middle) {
                    let first = self.outgoing.pattern.bytes(from, middle);
                    gather.push(Segment::Owned(first));
                    gather.push(part);
                    self.outgoing.of_file = true;
                    return gather;
                }
                1
            }
            _ => 1,
        };
        let bytes = self.outgoing.pattern.bytes(from, until);
        if pieces == 1 {
            gather.push(Segment::Owned(bytes));
            return gather;
        }
        for piece in bytes.chunks(bytes.len().div_ceil(pieces as usize)) {
            gather.push(if self.random.one_in(2) {
                Segment::Shared(piece.into())
            } else {
                Segment::Owned(piece.to_vec())
            });
        }
        gather
    }

    /// Returns whether the send may have left in part if it fails.
    fn is_send_doubtful(&self, cx: &WorkerCx<'_>) -> bool {
        self.outgoing.of_file || cx.campaign.settings.failed_sends_are_doubtful()
    }

    fn sent(&mut self, outcome: Outcome, cx: &mut WorkerCx<'_>) -> Check {
        let Some(length) = self.outgoing.in_flight.take() else {
            return Err("a send completed, and none was in flight".to_owned());
        };
        match outcome {
            Outcome::Sent { bytes, mut gather } => {
                if gather.len() != length || bytes > length {
                    return Err(format!(
                        "{bytes} of {length} bytes sent, and a gather of {} bytes came back",
                        gather.len()
                    ));
                }
                let mut fault = None;
                gather.advance(bytes, |segment| {
                    if let Segment::File(part) = segment {
                        cx.counts.count(Count::FileParts);
                        fault = part.fault();
                    }
                });
                if let Some(fault) = fault {
                    return Err(format!("zeros were sent in place of the file: {fault:?}"));
                }
                self.summary.sent += bytes as u32;
                cx.counts.add(Count::SentBytes, bytes as u64);
                if gather.is_empty() {
                    return Ok(());
                }
                cx.counts.count(Count::SendsPartly);
                let mut at = self.summary.sent;
                for piece in gather.slices() {
                    if self.outgoing.pattern.first_difference(at, piece).is_some() {
                        return Err(
                            "a send returned different memory from that submitted".to_owned()
                        );
                    }
                    at += piece.len() as u32;
                }
                self.outgoing.rest = Some(gather);
                Ok(())
            }
            // If no byte of a cancelled send has left, it is sent again; otherwise the other end
            // would see these bytes twice.
            Outcome::Failed(error) => {
                if self.is_send_doubtful(cx) {
                    self.summary.doubtful = length as u32;
                }
                let cancelled = error.failure == Failure::Cancelled;
                cx.counts.add(Count::SendsCancelled, cancelled.into());
                self.failed(error, self.outgoing.cancelled)
            }
            other => Err(format!("a send completed with {other:?}")),
        }
    }

    fn end_stream(&mut self, cx: &mut WorkerCx<'_>) {
        if !self.outgoing.ended && (self.summary.ended || !self.part.ends_last) {
            self.shut_down(cx);
        }
    }

    fn shut_down(&mut self, cx: &mut WorkerCx<'_>) {
        self.outgoing.ended = true;
        cx.counts.add(Count::HalfCloses, (!self.summary.ended).into());
        cx.lane.shutdown(self.socket);
    }
}

/// Receiving.
impl Conn {
    /// Submits receives up to the wanted number, unless this end dawdles.
    fn receive(&mut self, cx: &mut WorkerCx<'_>) {
        // Sometimes once more after the end, which must then be reported again.
        let seldom = self.summary.ended || self.part.dawdles;
        if self.random.one_in(16) != seldom {
            return;
        }
        while let Some((sequence, mode)) = self.receives.wanted(&mut self.random) {
            self.submit(OpKind::Receive, sequence, Op::Receive(self.socket, mode), cx);
            if mode == ReceiveMode::Stream {
                break;
            }
        }
    }

    fn received(&mut self, verdict: Verdict, cx: &mut WorkerCx<'_>) -> Check {
        match verdict {
            Verdict { outcome: Outcome::Received(buffer), .. } => {
                // After this side's own reset, bytes that the system already had may still come.
                if self.summary.ended || (self.deaf && !self.reset) {
                    return Err(format!("{} bytes received after the end", buffer.len()));
                }
                self.check(self.summary.received, &buffer)?;
                let offset = self.summary.received;
                self.summary.received += buffer.len() as u32;
                cx.counts.add(Count::CheckedBytes, buffer.len() as u64);
                self.let_go(offset, buffer, cx);
                Ok(())
            }
            Verdict { outcome: Outcome::Ended, .. } => {
                if self.deaf {
                    return Err("a clean end after a failure".to_owned());
                }
                self.summary.ended = true;
                Ok(())
            }
            Verdict { outcome: Outcome::Failed(error), cancelled } => {
                let ended = error.failure == Failure::Cancelled;
                cx.counts.add(Count::ReceivesCancelled, ended.into());
                let reset = error.failure == Failure::Reset && !self.deaf && !self.reset;
                cx.counts.add(Count::FailedByReset, reset.into());
                self.deaf |= !ended;
                self.failed(error, cancelled)
            }
            Verdict { outcome, .. } => Err(format!("a receive completed with {outcome:?}")),
        }
    }

    fn check(&self, offset: u32, bytes: &[u8]) -> Check {
        match self.incoming.first_difference(offset, bytes) {
            _ if bytes.is_empty() => Err("a receive completed with no bytes".to_owned()),
            None => Ok(()),
            Some(at) => Err(format!(
                "a byte differs from the sent one: stream offset {}, {at} of {} in the buffer",
                offset as usize + at,
                bytes.len()
            )),
        }
    }

    /// Disposes of a buffer in one of four ways: recycles it, drops it here, drops it on another
    /// thread, or keeps it.
    fn let_go(&mut self, offset: u32, buffer: Buffer, cx: &mut WorkerCx<'_>) {
        match self.random.below(16) {
            0 if self.kept.is_none() => {
                cx.counts.count(Count::KeptBuffers);
                self.kept = Some((offset, buffer));
            }
            1 => {
                cx.counts.count(Count::DiscardedBuffers);
                cx.campaign.discard(buffer);
            }
            2..6 => drop(buffer),
            _ => {
                cx.counts.count(Count::RecycledBuffers);
                cx.lane.recycle(buffer);
            }
        }
    }

    /// Ends the keeping of the kept buffer, in one call of four by chance, or at once if the
    /// connection is ending: checks that the buffer's content has not changed, and recycles it.
    /// Otherwise, or without a kept buffer, it does nothing.
    fn release(&mut self, cx: &mut WorkerCx<'_>) -> Check {
        let over = matches!(self.state, State::Leaving | State::Closing);
        if (over || self.random.one_in(4))
            && let Some((offset, buffer)) = self.kept.take()
        {
            self.check(offset, &buffer).map_err(|what| format!("in a kept buffer: {what}"))?;
            cx.lane.recycle(buffer);
        }
        Ok(())
    }
}
