//! The ends of streams: arriving ends, shutting down, resetting, closing, cancelling.

use std::time::Duration;

use super::completions::OpKind;
use super::stream::{InFlight, Phase, Receive};
use super::table::SocketKind;
use super::world::{Event, World};
use super::{LaneAddr, nanos};
use crate::error::Failure;
use crate::op::Cancel;
use crate::token::Socket;

/// The time after which the system of the other side ends a connection whose end has vanished.
const KEEP_ALIVE: Duration = Duration::from_secs(25);

impl World {
    // ---- arriving ----

    pub(super) fn arrive(&mut self, to: Socket, from: Socket, bytes: usize) {
        match self.table.stream(to) {
            Some(stream) if stream.phase == Phase::Open => {
                stream.arrived += bytes;
                assert!(stream.arrived <= stream.bytes.len(), "more arrived than was sent");
                self.deliver(to, false);
            }
            _ => self.answer_with_reset(from),
        }
    }

    pub(super) fn end_arrives(&mut self, to: Socket) {
        if let Some(stream) = self.table.stream(to)
            && stream.phase == Phase::Open
            && !stream.broken
        {
            stream.ended = true;
            self.deliver(to, false);
            self.look_later(to);
            self.wake_scripts(to);
        }
    }

    pub(super) fn reset_arrives(&mut self, to: Socket) {
        let Some(stream) = self.table.stream(to) else { return };
        if !matches!(stream.phase, Phase::Open | Phase::Connecting) {
            return;
        }
        let queue = stream.queue;
        // Windows discards data that was received and not taken; Linux still delivers it.
        let keep = self.random.coin();
        self.become_reset(to, keep);
        // Linux delivers a queued peer that is gone to accept; other systems do not.
        if let Some(queue) = queue
            && self.random.coin()
            && let Some(listener) = self.table.listener(queue)
        {
            listener.queue.retain(|waiting| *waiting != to);
            self.table.remove(to);
        }
    }

    /// Moves an end to the reset state and fails its pending operations.
    fn become_reset(&mut self, socket: Socket, keep_arrived: bool) {
        self.sever(socket);
        let Some(stream) = self.table.stream(socket) else { return };
        stream.phase = Phase::Reset;
        if keep_arrived {
            stream.bytes.truncate(stream.arrived);
        } else {
            stream.discard();
        }
        let connect = stream.connect.take();
        let send = stream.send.take();
        let failure = stream.failure;
        if let Some(at) = self.table.lane(socket) {
            if let Some(in_flight) = connect {
                self.fail(at, socket, in_flight, OpKind::Connect, failure, false);
            }
            if let Some((in_flight, _)) = send {
                self.fail(at, socket, in_flight, OpKind::Send, failure, false);
            }
        }
        self.deliver(socket, false);
        self.look_later(socket);
        self.wake_scripts(socket);
    }

    /// Cuts the link of an end: what either side sends from now on is lost, and nothing answers it.
    /// The keep-alive of the other side's system ends the connection there.
    pub(super) fn vanish(&mut self, socket: Socket) {
        let Some(other) = self.sever(socket) else {
            // The attempt to connect, if there is one, ends here.
            if let Some(stream) = self.table.stream(socket)
                && stream.phase == Phase::Connecting
            {
                stream.phase = Phase::Failed;
            }
            return;
        };
        for end in [socket, other] {
            if let Some(stream) = self.table.stream(end) {
                stream.unanswered = true;
            }
        }
        let when = self.now + nanos(KEEP_ALIVE);
        self.schedule(when, Event::GiveUp { to: other });
    }

    /// Ends a connection whose other end has vanished.
    pub(super) fn give_up(&mut self, to: Socket) {
        if let Some(stream) = self.table.stream(to)
            && stream.phase == Phase::Open
        {
            stream.failure = Failure::TimedOut;
            self.become_reset(to, true);
        }
    }

    // ---- ending ----

    pub(super) fn shutdown(&mut self, at: LaneAddr, socket: Socket) {
        let stream = self.own_stream(at, socket);
        if stream.phase != Phase::Open || stream.shut {
            return;
        }
        let send = stream.send.take();
        self.end_stream(socket);
        if let Some((in_flight, _)) = send {
            self.fail(at, socket, in_flight, OpKind::Send, Failure::NotConnected, false);
        }
    }

    /// Sends the end of the stream after everything that has been sent.
    pub(super) fn end_stream(&mut self, socket: Socket) {
        let Some(stream) = self.table.stream(socket) else { return };
        if stream.shut || stream.phase != Phase::Open {
            return;
        }
        stream.shut = true;
        if let Some(peer) = stream.peer {
            let when = self.arrival_in_order(peer);
            self.schedule(when, Event::End { to: peer });
        }
    }

    pub(super) fn reset(&mut self, at: LaneAddr, socket: Socket) {
        self.own_stream(at, socket);
        self.reset_now(socket);
    }

    pub(super) fn reset_now(&mut self, socket: Socket) {
        let Some(stream) = self.table.stream(socket) else { return };
        if stream.phase != Phase::Reset {
            self.send_reset(socket);
            self.become_reset(socket, false);
        }
    }

    /// Sends a reset to the other end. It may overtake data on the way there, which is then lost.
    pub(super) fn send_reset(&mut self, socket: Socket) {
        if let Some(peer) = self.sever(socket) {
            let overtakes = self.random.coin();
            let when = if overtakes { self.arrival() } else { self.arrival_in_order(peer) };
            self.schedule(when, Event::Reset { to: peer });
        }
    }

    /// Separates the two ends. Data on the way still arrives.
    pub(super) fn sever(&mut self, socket: Socket) -> Option<Socket> {
        let stream = self.table.stream(socket)?;
        let peer = stream.peer.take()?;
        let there = stream.room();
        let other = self.table.stream(peer)?;
        other.peer = None;
        other.room_left = there;
        let here = other.room();
        self.table.stream(socket)?.room_left = here;
        Some(peer)
    }

    /// Releases a stream as closing does: cleanly, or with a reset if data is unread.
    pub(super) fn detach(&mut self, socket: Socket) {
        let Some(stream) = self.table.stream(socket) else { return };
        match stream.phase {
            Phase::Open if stream.arrived == 0 => {
                self.end_stream(socket);
                self.sever(socket);
            }
            Phase::Open | Phase::Connecting | Phase::Failed => self.send_reset(socket),
            Phase::Fresh | Phase::Reset | Phase::Closed => {}
        }
        if let Some(stream) = self.table.stream(socket) {
            stream.phase = Phase::Closed;
            stream.discard();
        }
    }

    // ---- cancelling ----

    pub(super) fn cancel(&mut self, at: LaneAddr, socket: Socket, what: Cancel) {
        self.own(at, socket);
        let before = self.number();
        if self.random.chance(self.faults.cancel_late_ppm) {
            self.fault_counts.cancel_late += 1;
            let when = self.now + self.random.time(&self.faults.completion_delay);
            self.schedule(when, Event::Cancel { socket, what, before });
        } else {
            self.cancel_now(socket, what, before);
        }
    }

    /// Ends the operations that were submitted before the cancel, and none that was submitted after
    /// it.
    pub(super) fn cancel_now(&mut self, socket: Socket, what: Cancel, before: u64) {
        let Some(at) = self.table.lane(socket) else { return };
        while let Some((in_flight, kind)) = self.take_older(socket, what, before) {
            self.fail(at, socket, in_flight, kind, Failure::Cancelled, false);
        }
    }

    fn take_older(
        &mut self,
        socket: Socket,
        what: Cancel,
        before: u64,
    ) -> Option<(InFlight, OpKind)> {
        let older = |in_flight: &InFlight| in_flight.number < before;
        let everything = what == Cancel::Everything;
        match &mut self.table.entry(socket)?.kind {
            SocketKind::Listener(listener) if everything => {
                let in_flight = listener.accept.take_if(|in_flight| older(in_flight))?;
                Some((in_flight, OpKind::Accept))
            }
            SocketKind::Listener(_) => None,
            SocketKind::Stream(stream) => {
                if let Some(receive) =
                    stream.receives.pop_front_if(|r: &mut Receive| older(&r.in_flight))
                {
                    return Some((receive.in_flight, OpKind::Receive));
                }
                if let Some((in_flight, _)) =
                    stream.watch.take_if(|(in_flight, _)| older(in_flight))
                {
                    return Some((in_flight, OpKind::Watch));
                }
                if !everything {
                    return None;
                }
                if let Some((in_flight, _)) = stream.send.take_if(|(in_flight, _)| older(in_flight))
                {
                    return Some((in_flight, OpKind::Send));
                }
                let in_flight = stream.connect.take_if(|in_flight| older(in_flight))?;
                stream.phase = Phase::Failed;
                Some((in_flight, OpKind::Connect))
            }
        }
    }

    // ---- closing ----

    pub(super) fn close(&mut self, at: LaneAddr, socket: Socket, in_flight: InFlight) {
        // The close itself is already counted.
        if self.own(at, socket).in_flight != 1 {
            self.bug(&format!(
                "{socket:?} is closed with operations in flight: {:?}",
                in_flight.tag
            ));
        }
        self.own(at, socket).closing = true;
        self.release(socket);
        if self.at_once() {
            self.closed(at, socket, in_flight.into_tag(), true);
        } else {
            let when = self.later();
            self.schedule(when, Event::Closed { at, socket, tag: in_flight.into_tag() });
        }
    }
}
