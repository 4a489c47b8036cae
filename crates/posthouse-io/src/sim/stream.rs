//! Streams: two byte pipes with delay and a window, and the pending operations of either end.

use std::collections::VecDeque;

use super::completions::{OpKind, Queued};
use super::script::Script;
use super::table::{Entry, Owner, SocketKind};
use super::world::{Event, World};
use super::{LaneAddr, Nanos};
use crate::address::Address;
use crate::error::{Error, Failure};
use crate::gather::Gather;
use crate::op::{Outcome, ReceiveMode, WatchMode};
use crate::token::{Socket, Tag};

/// The maximum number of waiting completions with bytes per socket. Beyond it, data stays in the
/// socket, as on a system that runs out of provided buffers.
const MAX_RECEIVED_WAITING: u32 = 8;

/// A submitted operation without a terminal completion so far. It is not `Clone`: making that
/// completion consumes it.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) tag: Tag,
    /// The number of the operation, in the order of submission.
    pub(super) number: u64,
}

impl InFlight {
    /// Returns the tag, for the terminal completion.
    pub(super) fn into_tag(self) -> Tag {
        self.tag
    }
}

/// The phase of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Fresh,
    Connecting,
    Open,
    /// The connect failed or was cancelled.
    Failed,
    /// The connection has failed: it was reset, or the system has given it up.
    Reset,
    /// The owner has released the stream.
    Closed,
}

/// One end of a connection. It keeps the bytes that it receives; the other end keeps those that it
/// sends.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one end")]
pub(super) struct Stream {
    pub(super) phase: Phase,
    /// The other end, while it can be reached.
    pub(super) peer: Option<Socket>,
    pub(super) local: Option<Address>,
    pub(super) remote: Option<Address>,
    /// The accept queue that contains the stream.
    pub(super) queue: Option<Socket>,

    /// The bytes on their way here or not yet taken, in order; `arrived` of them can be received.
    pub(super) bytes: VecDeque<u8>,
    pub(super) arrived: usize,
    /// The maximum length of `bytes`.
    window: usize,
    /// The number of bytes that can still leave after the other end has gone: nobody makes room
    /// there, and the answer to every byte is a reset.
    pub(super) room_left: usize,
    /// The arrival of the last piece on its way; nothing may overtake it.
    pub(super) last_arrival: Nanos,
    /// True exactly when a piece on its way here was lost. A reset follows it, never a clean end.
    pub(super) broken: bool,
    /// True exactly when the end of the other side's stream has arrived.
    pub(super) ended: bool,
    /// True exactly when this side has ended its stream.
    pub(super) shut: bool,
    /// The failure that operations report in the phase `Reset`.
    pub(super) failure: Failure,
    /// True exactly when the other end has vanished: nothing answers what is sent.
    pub(super) unanswered: bool,

    pub(super) connect: Option<InFlight>,
    pub(super) receives: VecDeque<Receive>,
    pub(super) watch: Option<(InFlight, WatchMode)>,
    pub(super) send: Option<(InFlight, Gather)>,
    /// True exactly from a send's submission until its completion is taken.
    pub(super) sending: bool,
    /// True exactly when a `Deliver` event is scheduled; likewise `push_due` and `Push`, `look_due`
    /// and `Look`.
    pub(super) deliver_due: bool,
    pub(super) push_due: bool,
    pub(super) look_due: bool,
    /// The script of this end, if it belongs to no port.
    pub(super) script: Option<Box<Script>>,
}

#[derive(Debug)]
pub(super) struct Receive {
    pub(super) in_flight: InFlight,
    mode: ReceiveMode,
}

impl Stream {
    pub(super) fn new(phase: Phase, window: usize) -> Self {
        Self {
            phase,
            peer: None,
            local: None,
            remote: None,
            queue: None,
            bytes: VecDeque::new(),
            arrived: 0,
            window,
            room_left: 0,
            last_arrival: 0,
            broken: false,
            ended: false,
            shut: false,
            failure: Failure::Reset,
            unanswered: false,
            connect: None,
            receives: VecDeque::new(),
            watch: None,
            send: None,
            sending: false,
            deliver_due: false,
            push_due: false,
            look_due: false,
            script: None,
        }
    }

    /// Returns the reason why the stream cannot send, if there is one.
    fn send_failure(&self) -> Option<Failure> {
        match self.phase {
            Phase::Open if !self.shut => None,
            Phase::Reset => Some(self.failure),
            _ => Some(Failure::NotConnected),
        }
    }

    /// Returns whether a receive can complete.
    pub(super) fn is_ready(&self) -> bool {
        self.arrived > 0 || self.ended || self.phase == Phase::Reset
    }

    /// Returns the number of bytes that it can still take.
    pub(super) fn room(&self) -> usize {
        self.window.saturating_sub(self.bytes.len())
    }

    /// Returns the outcome of a watch, if it can end.
    fn watched(&self) -> Option<Outcome> {
        let (_, mode) = self.watch.as_ref()?;
        match self.phase {
            Phase::Reset => Some(Outcome::Failed(Error::new(self.failure))),
            _ if self.ended && *mode == WatchMode::End => Some(Outcome::Ended),
            _ => None,
        }
    }

    pub(super) fn discard(&mut self) {
        self.bytes.clear();
        self.arrived = 0;
    }
}

impl World {
    pub(super) fn new_stream(&mut self, owner: Owner, phase: Phase) -> Socket {
        let window = self.random.amount(&self.faults.window_bytes).max(1);
        self.table.insert(owner, SocketKind::Stream(Box::new(Stream::new(phase, window))))
    }

    // ---- receiving ----

    pub(super) fn receive(
        &mut self,
        at: LaneAddr,
        socket: Socket,
        in_flight: InFlight,
        mode: ReceiveMode,
    ) {
        let stream = self.own_stream(at, socket);
        if matches!(stream.phase, Phase::Fresh | Phase::Connecting | Phase::Failed) {
            return self.fail(at, socket, in_flight, OpKind::Receive, Failure::NotConnected, true);
        }
        if self.random.chance(self.faults.receive_no_buffers_ppm) {
            self.fault_counts.receive_no_buffers += 1;
            return self.fail(at, socket, in_flight, OpKind::Receive, Failure::NoBuffers, true);
        }
        let stream = self.own_stream(at, socket);
        let streaming = |receive: &Receive| receive.mode == ReceiveMode::Stream;
        let alone = stream.receives.is_empty();
        if stream.watch.is_some() {
            self.bug(&format!("a receive beside the watch of {socket:?}: {:?}", in_flight.tag));
        }
        let stream = self.own_stream(at, socket);
        if !alone && (mode == ReceiveMode::Stream || stream.receives.iter().any(streaming)) {
            self.bug(&format!(
                "a stream of receives is not alone on {socket:?}: {:?}",
                in_flight.tag
            ));
        }
        let stream = self.own_stream(at, socket);
        stream.receives.push_back(Receive { in_flight, mode });
        if stream.is_ready() && !stream.deliver_due {
            if self.at_once() {
                self.deliver(socket, true);
            } else {
                let when = self.later();
                self.schedule(when, Event::Deliver { to: socket });
                self.own_stream(at, socket).deliver_due = true;
            }
        }
    }

    /// Completes pending receives with bytes, the end, or the reset.
    pub(super) fn deliver(&mut self, to: Socket, at_once: bool) {
        match self.table.entry(to) {
            Some(Entry { owner: Owner::Lane(at), .. }) => {
                let at = *at;
                while self.deliver_one(to, at, at_once) {}
            }
            Some(Entry { owner: Owner::Script, .. }) => self.script_receives(to),
            _ => {}
        }
    }

    fn deliver_one(&mut self, to: Socket, at: LaneAddr, at_once: bool) -> bool {
        let Some(Entry { queued, kind: SocketKind::Stream(stream), .. }) = self.table.entry(to)
        else {
            return false;
        };
        let Some(first) = stream.receives.front() else { return false };
        let streaming = first.mode == ReceiveMode::Stream;
        let outcome = if stream.arrived > 0 {
            if *queued >= MAX_RECEIVED_WAITING {
                return false;
            }
            let short = streaming && self.random.chance(self.faults.receive_no_buffers_ppm);
            if short {
                self.fault_counts.receive_no_buffers += 1;
                Outcome::Failed(Error::new(Failure::NoBuffers))
            } else {
                self.fill(to, at)
            }
        } else if stream.phase == Phase::Reset {
            Outcome::Failed(Error::new(stream.failure))
        } else if stream.ended {
            Outcome::Ended
        } else {
            return false;
        };
        let Some(stream) = self.table.stream(to) else { return false };
        let more = streaming && matches!(outcome, Outcome::Received(_));
        let tag = if more {
            stream.receives.front().map(|first| first.in_flight.tag)
        } else {
            stream.receives.pop_front().map(|first| first.in_flight.into_tag())
        };
        let Some(tag) = tag else { return false };
        let queued = Queued::new(Some(to), tag, OpKind::Receive, more, outcome);
        self.complete(at, queued, at_once);
        true
    }

    /// Moves arrived bytes into a buffer of the lane.
    fn fill(&mut self, to: Socket, at: LaneAddr) -> Outcome {
        let mut buffer = self.lane(at).pool.take();
        let stream = self.table.stream(to).expect("the caller holds it");
        let most = stream.arrived.min(buffer.capacity());
        let mut count = most;
        if self.random.chance(self.faults.partial_receive_ppm) {
            count = self.random.part(most);
            self.fault_counts.partial_receive += u64::from(count < most);
        }
        let (front, back) = stream.bytes.as_slices();
        let first = count.min(front.len());
        buffer.storage_mut()[..first].copy_from_slice(&front[..first]);
        buffer.storage_mut()[first..count].copy_from_slice(&back[..count - first]);
        buffer.set_filled(count);
        self.log.bytes(self.now, &buffer);
        self.consumed(to, count);
        Outcome::Received(buffer)
    }

    /// Removes bytes from the pipe, which makes room for the sender.
    pub(super) fn consumed(&mut self, to: Socket, count: usize) {
        let Some(stream) = self.table.stream(to) else { return };
        stream.bytes.drain(..count);
        stream.arrived -= count;
        if let Some(peer) = stream.peer {
            let when = self.arrival();
            self.push_later(peer, when);
        }
    }

    // ---- watching ----

    pub(super) fn watch(
        &mut self,
        at: LaneAddr,
        socket: Socket,
        in_flight: InFlight,
        mode: WatchMode,
    ) {
        let stream = self.own_stream(at, socket);
        if matches!(stream.phase, Phase::Fresh | Phase::Connecting | Phase::Failed) {
            return self.fail(at, socket, in_flight, OpKind::Watch, Failure::NotConnected, true);
        }
        if stream.watch.is_some() || !stream.receives.is_empty() {
            self.bug(&format!("a watch is not alone on {socket:?}: {:?}", in_flight.tag));
        }
        if self.random.chance(self.faults.receive_no_buffers_ppm) {
            self.fault_counts.receive_no_buffers += 1;
            return self.fail(at, socket, in_flight, OpKind::Watch, Failure::NoBuffers, true);
        }
        let stream = self.own_stream(at, socket);
        stream.watch = Some((in_flight, mode));
        if stream.watched().is_some() && self.at_once() {
            self.look(socket, true);
        } else {
            self.look_later(socket);
        }
    }

    /// Schedules the end of the watch, if there is one and it can end.
    pub(super) fn look_later(&mut self, to: Socket) {
        if let Some(stream) = self.table.stream(to)
            && !stream.look_due
            && stream.watched().is_some()
        {
            stream.look_due = true;
            let when = self.later();
            self.schedule(when, Event::Look { to });
        }
    }

    /// Completes the watch, if it can end.
    pub(super) fn look(&mut self, to: Socket, at_once: bool) {
        let Some(at) = self.table.lane(to) else { return };
        let Some(stream) = self.table.stream(to) else { return };
        let Some(outcome) = stream.watched() else { return };
        let Some((in_flight, _)) = stream.watch.take() else { return };
        let tag = in_flight.into_tag();
        self.complete(at, Queued::new(Some(to), tag, OpKind::Watch, false, outcome), at_once);
    }

    // ---- sending ----

    pub(super) fn send(
        &mut self,
        at: LaneAddr,
        socket: Socket,
        in_flight: InFlight,
        gather: Gather,
    ) {
        if gather.is_empty() {
            self.bug(&format!("{:?} sends nothing: an empty gather", in_flight.tag));
        }
        let stream = self.own_stream(at, socket);
        if stream.sending {
            self.bug(&format!("a second send in flight on {socket:?}: {:?}", in_flight.tag));
        }
        stream.sending = true;
        // A stream that cannot send reports that, with or without room.
        let can_send = stream.send_failure().is_none();
        self.check_sent_file(in_flight.tag, &gather);
        if can_send && self.random.chance(self.faults.send_no_buffers_ppm) {
            self.fault_counts.send_no_buffers += 1;
            let outcome = Outcome::Sent { bytes: 0, gather };
            let queued =
                Queued::new(Some(socket), in_flight.into_tag(), OpKind::Send, false, outcome);
            return self.complete(at, queued, true);
        }
        let reads = gather.file_ahead().is_some();
        self.own_stream(at, socket).send = Some((in_flight, gather));
        if self.at_once() {
            self.push(socket, true);
        } else {
            let when = if reads { self.when_read() } else { self.later() };
            self.push_later(socket, when);
        }
    }

    /// Schedules a check of the window for a pending send, if there is one.
    pub(super) fn push_later(&mut self, from: Socket, when: Nanos) {
        let Some(stream) = self.table.stream(from) else { return };
        let waiting = stream.send.is_some() || stream.script.as_ref().is_some_and(|s| s.is_busy());
        if waiting && !stream.push_due {
            stream.push_due = true;
            self.schedule(when, Event::Push { from });
        }
    }

    /// Sends as many bytes of a pending send as there is room for.
    pub(super) fn push(&mut self, from: Socket, at_once: bool) {
        let Some(at) = self.table.lane(from) else {
            self.script_sends(from);
            return self.wake_scripts(from);
        };
        let Some(stream) = self.table.stream(from) else { return };
        let Some((in_flight, mut gather)) = stream.send.take() else { return };
        if let Some(failure) = stream.send_failure() {
            return self.fail(at, from, in_flight, OpKind::Send, failure, at_once);
        }
        let peer = stream.peer;
        let room = self.room(from);
        if room == 0 || self.hangs(from, &gather) {
            self.fault_counts.window_full += u64::from(room == 0);
            if let Some(stream) = self.table.stream(from) {
                stream.send = Some((in_flight, gather));
            }
            return;
        }
        if gather.file_ahead().is_some() {
            self.load(&mut gather, room);
        }
        let most = gather.slices().map(<[u8]>::len).sum::<usize>().min(room);
        let mut count = most;
        if self.random.chance(self.faults.partial_send_ppm) {
            count = self.random.part(most);
        }
        self.fault_counts.partial_send += u64::from(count < gather.len());
        let mut left = count;
        for slice in gather.slices() {
            let part = &slice[..left.min(slice.len())];
            self.put(peer, part);
            left -= part.len();
        }
        self.carry(from, peer, count);
        let outcome = Outcome::Sent { bytes: count, gather };
        let queued = Queued::new(Some(from), in_flight.into_tag(), OpKind::Send, false, outcome);
        self.complete(at, queued, at_once);
    }

    /// Returns the number of bytes that a stream can send now.
    pub(super) fn room(&mut self, from: Socket) -> usize {
        let Some(stream) = self.table.stream(from) else { return 0 };
        let peer = stream.peer;
        let room_left = stream.room_left;
        match peer.and_then(|peer| self.table.stream(peer)) {
            Some(peer) => peer.room(),
            None => room_left,
        }
    }

    /// Puts bytes into the pipe; [`carry`](Self::carry) makes them arrive.
    pub(super) fn put(&mut self, peer: Option<Socket>, bytes: &[u8]) {
        if let Some(peer) = peer.and_then(|peer| self.table.stream(peer)) {
            peer.bytes.extend(bytes);
        }
    }

    /// Makes `count` bytes arrive at the other end, in one piece or several.
    pub(super) fn carry(&mut self, from: Socket, peer: Option<Socket>, count: usize) {
        let Some(to) = peer else {
            // The other end is gone, so the bytes are answered with a reset.
            let Some(stream) = self.table.stream(from) else { return };
            stream.room_left -= count;
            if !stream.unanswered {
                self.answer_with_reset(from);
            }
            return;
        };
        if self.random.chance(self.faults.reset_ppm) {
            self.fault_counts.reset += 1;
            if let Some(stream) = self.table.stream(to) {
                stream.broken = true;
            }
            for end in [from, to] {
                let when = self.arrival();
                self.schedule(when, Event::Reset { to: end });
            }
            return;
        }
        let mut left = count;
        while left > 0 {
            let split = left > 1 && self.random.chance(self.faults.partial_receive_ppm);
            let bytes = if split { self.random.part(left) } else { left };
            left -= bytes;
            let when = self.arrival_in_order(to);
            self.schedule(when, Event::Arrive { to, from, bytes });
        }
    }

    /// Returns the arrival time of a piece sent now that may not overtake earlier ones.
    pub(super) fn arrival_in_order(&mut self, to: Socket) -> Nanos {
        let when = self.arrival();
        match self.table.stream(to) {
            Some(stream) => {
                stream.last_arrival = stream.last_arrival.max(when);
                stream.last_arrival
            }
            None => when,
        }
    }

    pub(super) fn answer_with_reset(&mut self, to: Socket) {
        let back = self.arrival() - self.now;
        let when = self.arrival_in_order(to) + back;
        self.schedule(when, Event::Reset { to });
    }
}
