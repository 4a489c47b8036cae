//! The load: what each connection sends, and how its echoes are checked.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use posthouse::{
    Close, Endpoint, Handler, Message, Outcome, Peer, PeerId, Reason, ReasonKind, Target,
};

use super::progress::Progress;
use super::tally::Tally;
use crate::pattern::{self, Pattern};

/// The kind of every message. Text messages of IOCPS have it, and framings without kinds, too.
const KIND: u8 = 0;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) pattern: Pattern,
    /// Messages in flight on each connection.
    pub(crate) depth: usize,
    /// Whether what arrives has no message bounds (raw framing).
    pub(crate) stream: bool,
    pub(crate) phase: PhaseCell,
    pub(crate) tally: Tally,
    pub(crate) progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    WarmUp,
    Measuring,
    /// Nothing more is sent; the echoes in flight are awaited.
    Ending,
}

/// The phase, as all workers see it.
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

/// One connection.
#[derive(Debug, Default)]
pub(crate) struct State {
    number: u32,
    /// The sequence number of the next message to send.
    next: u64,
    /// When each message in flight was sent, oldest first.
    sent: VecDeque<Instant>,
    /// Bytes of the oldest message in flight that are back (raw framing).
    back: usize,
    /// True exactly while it is counted as idle.
    idle: bool,
    /// True once an echo was wrong: that is told already.
    failed: bool,
}

impl State {
    /// The sequence number of the oldest message in flight.
    fn oldest(&self) -> u64 {
        self.next - self.sent.len() as u64
    }
}

thread_local! {
    /// The message that is being sent or checked: one for each worker, not for each connection.
    static MESSAGE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Run {
    /// Sends the first messages of a connection.
    pub(crate) fn start(&self, peer: &mut Peer<'_, State>) {
        MESSAGE.with_borrow_mut(|message| self.fill(peer, message, Instant::now()));
    }

    /// Sends until as many messages as there should be are in flight.
    fn fill(&self, peer: &mut Peer<'_, State>, message: &mut Vec<u8>, now: Instant) {
        if self.phase.get() == Phase::Ending {
            let state = peer.state();
            if state.sent.is_empty() && !state.idle {
                state.idle = true;
                self.progress.change(|counts| counts.idle += 1);
            }
            return;
        }
        while peer.state().sent.len() < self.depth {
            let state = peer.state();
            self.pattern.write(state.number, state.next, message);
            state.next += 1;
            state.sent.push_back(now);
            peer.send(KIND, message);
        }
    }

    /// Checks what came.
    fn check(
        &self,
        state: &mut State,
        came: &Message<'_>,
        expected: &mut Vec<u8>,
        now: Instant,
    ) -> Result<(), String> {
        if self.stream {
            return self.check_stream(state, came.payload(), expected, now);
        }
        let oldest = state.oldest();
        let Some(sent) = state.sent.front().copied() else {
            return Err(unasked(state, came));
        };
        if came.ticket().is_some() || came.kind() != KIND {
            return Err(unasked(state, came));
        }
        self.pattern.write(state.number, oldest, expected);
        if let Some(difference) = pattern::difference(expected, came.payload()) {
            return Err(self.told(state, came.payload(), &difference, expected));
        }
        self.took(state, sent, now);
        Ok(())
    }

    /// The same where chunks end anywhere.
    fn check_stream(
        &self,
        state: &mut State,
        mut came: &[u8],
        expected: &mut Vec<u8>,
        now: Instant,
    ) -> Result<(), String> {
        while !came.is_empty() {
            let Some(sent) = state.sent.front().copied() else {
                let (connection, bytes) = (state.number, came.len());
                return Err(format!("connection {connection}: {bytes} bytes that were not sent"));
            };
            self.pattern.write(state.number, state.oldest(), expected);
            let due = &expected[state.back..];
            let (now_due, later) = came.split_at(came.len().min(due.len()));
            if let Some(difference) = pattern::difference(&due[..now_due.len()], now_due) {
                let at = state.oldest() * self.pattern.size() as u64 + state.back as u64;
                let connection = state.number;
                return Err(format!(
                    "connection {connection}, stream from byte {at}: {difference}"
                ));
            }
            came = later;
            state.back += now_due.len();
            if state.back == self.pattern.size() {
                state.back = 0;
                self.took(state, sent, now);
            }
        }
        Ok(())
    }

    /// The oldest message in flight is back.
    fn took(&self, state: &mut State, sent: Instant, now: Instant) {
        state.sent.pop_front();
        if self.phase.get() == Phase::Measuring {
            self.tally.record(state.number, sent, now);
        }
    }

    /// An echo that is not the oldest message in flight, in words.
    fn told(&self, state: &State, came: &[u8], difference: &str, scratch: &mut Vec<u8>) -> String {
        let (connection, oldest) = (state.number, state.oldest());
        let other = (oldest + 1..state.next).find(|sequence| {
            self.pattern.write(connection, *sequence, scratch);
            scratch == came
        });
        let what = match other {
            Some(other) => format!("message {other} came before it"),
            None => difference.to_owned(),
        };
        format!("connection {connection}, echo of message {oldest}: {what}")
    }
}

/// What came and is no echo, in words.
fn unasked(state: &State, came: &Message<'_>) -> String {
    let (connection, kind, bytes) = (state.number, came.kind(), came.payload().len());
    format!("connection {connection}: kind {kind}, {bytes} bytes, is no echo of ours")
}

/// The handler.
pub(crate) struct Load(pub(crate) Arc<Run>);

impl Handler for Load {
    type State = State;

    fn connected(&self, peer: &mut Peer<'_, State>) -> Outcome {
        let id = peer.id();
        self.0.progress.change(|counts| {
            peer.state().number = counts.up.len() as u32;
            counts.up.push(id);
        });
        Ok(())
    }

    fn received(&self, peer: &mut Peer<'_, State>, message: Message<'_>) -> Outcome {
        let (run, now) = (&self.0, Instant::now());
        MESSAGE.with_borrow_mut(|scratch| match run.check(peer.state(), &message, scratch, now) {
            Ok(()) => {
                run.fill(peer, scratch, now);
                Ok(())
            }
            Err(what) => {
                peer.state().failed = true;
                run.progress.change(|counts| counts.mismatch(what));
                Err(Close::abort().because("an echo was wrong"))
            }
        })
    }

    fn disconnected(&self, peer: &mut Peer<'_, State>, why: &Reason) {
        let state = peer.state();
        // What still waits when we shut down is counted before.
        let expected = state.failed || state.idle || why.kind() == ReasonKind::Shutdown;
        self.0.progress.change(|counts| {
            counts.gone(state.idle);
            if !expected {
                counts.lost(why);
            }
        });
    }

    fn unreachable(&self, _: &Endpoint<State>, _: PeerId, _: &Target, why: &Reason) {
        // Only an interruption shuts down while connections are being made.
        if why.kind() != ReasonKind::Shutdown {
            // The reason names what a program would do about it; here it is a flag.
            let why = why.to_string().replace("see Target::without_hello", "try --no-hello");
            self.0.progress.change(|counts| counts.failed_to_connect(&why));
        }
    }
}
