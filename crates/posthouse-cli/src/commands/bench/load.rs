//! The load: each connection sends messages and checks their echoes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use posthouse::{
    Close, ConnectFailure, DisconnectKind, DisconnectReason, Endpoint, Handler, HandlerResult,
    Message, Peer, Responder,
};

use super::connection_counts::ConnectionCounts;
use super::measurements::Measurements;
use crate::monitor::Monitor;
use crate::pattern::{self, Pattern};

/// The kind of every message. It is the kind of IOCPS text messages, and of framings without kinds.
const KIND: u8 = 0;

/// The state that is common to all connections of a load.
#[derive(Debug)]
pub(crate) struct LoadTest {
    pub(crate) pattern: Pattern,
    /// The number of messages in flight on each connection.
    pub(crate) depth: usize,
    pub(crate) echoes: Echoes,
    pub(crate) phase: PhaseCell,
    pub(crate) measurements: Measurements,
    pub(crate) connections: Monitor<ConnectionCounts>,
}

/// The form in which echoes arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echoes {
    /// Each echo is a message of its own.
    Messages,
    /// The framing has no message bounds (raw). The echoes are one stream, received in pieces of
    /// any size.
    Stream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    WarmUp,
    Measuring,
    /// No message is sent. The load waits for the echoes of those in flight.
    Ending,
}

/// The phase, which all workers read.
#[derive(Debug, Default)]
pub(crate) struct PhaseCell(AtomicU8);

impl PhaseCell {
    pub(crate) fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }

    fn get(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::WarmUp,
            1 => Phase::Measuring,
            _ => Phase::Ending,
        }
    }
}

/// The state of one connection.
#[derive(Debug, Default)]
pub(crate) struct ConnectionState {
    number: u32,
    /// The sequence number of the next message to send.
    next: u64,
    /// The time at which each message in flight was sent, oldest first.
    sent: VecDeque<Instant>,
    /// The number of bytes of the oldest message in flight that were echoed (raw framing).
    echoed_bytes: usize,
    activity: Activity,
}

/// The state of a connection in the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Activity {
    #[default]
    Loading,
    /// The connection has no message in flight and sends no more. It is counted as idle.
    Idle,
    /// An echo was wrong. It is counted as a mismatch.
    Failed,
}

impl ConnectionState {
    /// Returns the sequence number of the oldest message in flight.
    fn oldest(&self) -> u64 {
        self.next - self.sent.len() as u64
    }
}

thread_local! {
    /// The buffer for the message that a worker sends or checks.
    static MESSAGE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl LoadTest {
    /// Sends the first messages of a connection.
    pub(crate) fn start(&self, peer: &mut Peer<'_, LoadClient>) {
        MESSAGE.with_borrow_mut(|message| self.fill(peer, message, Instant::now()));
    }

    /// Sends until the depth is reached.
    fn fill(&self, peer: &mut Peer<'_, LoadClient>, message: &mut Vec<u8>, now: Instant) {
        if self.phase.get() == Phase::Ending {
            let state = peer.state_mut();
            if state.sent.is_empty() && state.activity == Activity::Loading {
                state.activity = Activity::Idle;
                self.connections.change(|counts| counts.idle += 1);
            }
            return;
        }
        while peer.state().sent.len() < self.depth {
            let state = peer.state_mut();
            self.pattern.write(state.number, state.next, message);
            state.next += 1;
            state.sent.push_back(now);
            peer.send(KIND, message);
        }
    }

    /// Checks a received message.
    fn check(
        &self,
        state: &mut ConnectionState,
        received: Message<'_>,
        expected: &mut Vec<u8>,
        now: Instant,
    ) -> Result<(), String> {
        if self.echoes == Echoes::Stream {
            return self.check_stream(state, received.payload(), expected, now);
        }
        let oldest = state.oldest();
        let Some(sent) = state.sent.front().copied() else {
            return Err(describe_unexpected(state, received));
        };
        if received.kind() != KIND {
            return Err(describe_unexpected(state, received));
        }
        self.pattern.write(state.number, oldest, expected);
        if let Some(difference) = pattern::difference(expected, received.payload()) {
            return Err(self.describe(state, received.payload(), &difference, expected));
        }
        self.complete(state, sent, now);
        Ok(())
    }

    /// Checks a piece of a stream, which may end anywhere.
    fn check_stream(
        &self,
        state: &mut ConnectionState,
        mut received: &[u8],
        expected: &mut Vec<u8>,
        now: Instant,
    ) -> Result<(), String> {
        while !received.is_empty() {
            let Some(sent) = state.sent.front().copied() else {
                let connection = state.number;
                let bytes = received.len();
                return Err(format!("connection {connection}: {bytes} unexpected bytes"));
            };
            self.pattern.write(state.number, state.oldest(), expected);
            let due = &expected[state.echoed_bytes..];
            let (now_due, later) = received.split_at(received.len().min(due.len()));
            if let Some(difference) = pattern::difference(&due[..now_due.len()], now_due) {
                let at = state.oldest() * self.pattern.size() as u64 + state.echoed_bytes as u64;
                let connection = state.number;
                return Err(format!(
                    "connection {connection}, stream from byte {at}: {difference}"
                ));
            }
            received = later;
            state.echoed_bytes += now_due.len();
            if state.echoed_bytes == self.pattern.size() {
                state.echoed_bytes = 0;
                self.complete(state, sent, now);
            }
        }
        Ok(())
    }

    /// Completes the oldest message in flight, whose echo has arrived.
    fn complete(&self, state: &mut ConnectionState, sent: Instant, now: Instant) {
        state.sent.pop_front();
        if self.phase.get() == Phase::Measuring {
            self.measurements.record(state.number, sent, now);
        }
    }

    /// Counts a wrong echo and ends its connection.
    fn fail(&self, peer: &mut Peer<'_, LoadClient>, what: String) -> HandlerResult {
        let before = std::mem::replace(&mut peer.state_mut().activity, Activity::Failed);
        self.connections.change(|counts| {
            counts.idle -= u64::from(before == Activity::Idle);
            counts.add_mismatch(what);
        });
        Err(Close::abort().log("an echo was wrong"))
    }

    /// Describes an echo that differs from the oldest message in flight.
    fn describe(
        &self,
        state: &ConnectionState,
        received: &[u8],
        difference: &str,
        scratch: &mut Vec<u8>,
    ) -> String {
        let connection = state.number;
        let oldest = state.oldest();
        let other = (oldest + 1..state.next).find(|sequence| {
            self.pattern.write(connection, *sequence, scratch);
            scratch == received
        });
        let what = match other {
            Some(other) => format!("message {other} arrived before it"),
            None => difference.to_owned(),
        };
        format!("connection {connection}, echo of message {oldest}: {what}")
    }
}

/// Describes a message that is not an echo.
fn describe_unexpected(state: &ConnectionState, received: Message<'_>) -> String {
    let connection = state.number;
    let kind = received.kind();
    let bytes = received.payload().len();
    format!("connection {connection}: a message of kind {kind}, {bytes} bytes, is not an echo")
}

/// The handler of the connections.
pub(crate) struct LoadClient(pub(crate) Arc<LoadTest>);

impl Handler for LoadClient {
    type State = ConnectionState;

    fn connected(&self, peer: &mut Peer<'_, Self>) -> HandlerResult {
        let id = peer.id();
        self.0.connections.change(|counts| {
            peer.state_mut().number = counts.connected.len() as u32;
            counts.connected.push(id);
        });
        Ok(())
    }

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        let test = &self.0;
        let now = Instant::now();
        MESSAGE.with_borrow_mut(|scratch| {
            match test.check(peer.state_mut(), message, scratch, now) {
                Ok(()) => {
                    test.fill(peer, scratch, now);
                    Ok(())
                }
                Err(what) => test.fail(peer, what),
            }
        })
    }

    fn requested(
        &self,
        peer: &mut Peer<'_, Self>,
        message: Message<'_>,
        _: &mut Responder<'_>,
    ) -> HandlerResult {
        let what = describe_unexpected(peer.state(), message);
        self.0.fail(peer, what)
    }

    fn disconnected(&self, peer: &mut Peer<'_, Self>, why: &DisconnectReason) {
        let state = peer.state();
        self.0.connections.change(|counts| {
            counts.ended += 1;
            match state.activity {
                Activity::Idle => counts.idle -= 1,
                // A connection that is still open at the shutdown was counted before.
                Activity::Loading if why.kind() != DisconnectKind::Shutdown => counts.add_lost(why),
                Activity::Loading | Activity::Failed => {}
            }
        });
    }

    fn connect_failed(&self, _: &Endpoint<Self>, failure: &ConnectFailure) {
        let why = failure.reason();
        // The endpoint shuts down while connections are established only after an interruption.
        if why.kind() != DisconnectKind::Shutdown {
            // The reason names a method of the library. The user of this program needs its flag.
            let why = why.to_string().replace("see Target::without_hello", "try --no-hello");
            self.0.connections.change(|counts| counts.add_unreachable(&why));
        }
    }
}
