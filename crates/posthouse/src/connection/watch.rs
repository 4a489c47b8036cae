//! The watch of a connection that this side does not read from, and the time limit of the peer's
//! end that is not told because of that.

use std::time::Duration;

use posthouse_io::{Cancel, Error, Failure, Op, Outcome as IoOutcome, WatchMode};

use super::input::End;
use super::phase::{Open, Opening};
use super::{Connection, Context, Phase};
use crate::close::Close;
use crate::disconnect::{DisconnectKind, DisconnectReason};
use crate::id::Operation;

/// The factor of `paused_end_timeout_ms` for a peer whose requests stay unanswered.
const MAX_TIMEOUTS: u32 = 10;

/// The watch of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Watch {
    #[default]
    None,
    InFlight,
    /// In flight, and its cancellation has been requested.
    Cancelled,
}

/// The end of the peer's stream while this side does not read.
#[derive(Clone, Copy, Debug)]
pub(super) struct UntoldEnd {
    /// The time at which this side learned of the end.
    seen: Duration,
    /// The time from which on the peer waits for no answer; `None` while it waits for one.
    answered: Option<Duration>,
}

impl UntoldEnd {
    /// Returns the time at which the connection ends, if there is a time limit.
    fn deadline(&self, timeout_ms: u64) -> Option<Duration> {
        let timeout = Duration::from_millis(timeout_ms);
        let last = self.seen + timeout * MAX_TIMEOUTS;
        let at = self.answered.map_or(last, |answered| last.min(answered + timeout));
        (timeout_ms > 0).then_some(at)
    }
}

impl Connection {
    /// Returns whether this side reads nothing although the connection is not closing: reading is
    /// paused, the send queue is too long, the address of the peer causes too much work, or the
    /// peer has ended its stream and awaits answers.
    pub(super) fn is_deaf(&self) -> bool {
        let strand = &self.strand;
        let at_end = self.input.end.is_some() && self.input.held_chunks() == 0;
        strand.phase.takes_frames() && (!strand.takes_messages() || at_end)
    }

    /// Submits the watch if nothing is received, or cancels it. Returns whether it is in flight:
    /// no receive can be submitted then.
    pub(super) fn submit_watch(&mut self, cx: &mut Context<'_>) -> bool {
        let is_deaf = self.is_deaf();
        let strand = &mut self.strand;
        let input = &mut self.input;
        let (Phase::Opening(Opening { socket, .. })
        | Phase::Open(Open { socket, .. })
        | Phase::Draining(super::phase::Ending { socket, .. })
        | Phase::Lingering(super::phase::Ending { socket, .. })) = strand.phase
        else {
            return input.watch != Watch::None;
        };
        match input.watch {
            Watch::None if is_deaf && input.pending == 0 && strand.retry_at.is_none() => {
                let ended = input.end_seen || input.end.is_some();
                let mode = if ended { WatchMode::Failure } else { WatchMode::End };
                input.watch = Watch::InFlight;
                strand.submit(cx, Operation::Watch, 0, Op::Watch(socket, mode));
            }
            Watch::InFlight if !is_deaf => {
                input.watch = Watch::Cancelled;
                cx.lane.cancel(socket, Cancel::Receives);
            }
            Watch::None | Watch::InFlight | Watch::Cancelled => {}
        }
        input.watch != Watch::None
    }

    /// Notes whether this side reads. The time in which it does not read is none of the peer's
    /// silence, nor of its frame or its transfers.
    pub(super) fn note_reading(&mut self, now: Duration) {
        let stops = self.strand.phase.takes_frames() && !self.strand.takes_messages();
        if stops {
            self.strand.cold().stopped_since.get_or_insert(now);
            return;
        }
        let Some(cold) = &mut self.strand.cold else { return };
        let Some(since) = cold.stopped_since.take() else { return };
        let time = now.saturating_sub(since);
        let is_for_pieces = self.strand.take_pieces();
        if let Some(frame_rate) = self.input.frame_rate.as_mut().filter(|_| !is_for_pieces) {
            frame_rate.postpone(time);
        }
        self.strand.session.postpone_silence(time, now);
        self.strand.postpone_expiry(time, now);
    }

    pub(super) fn on_watch(&mut self, cx: &mut Context<'_>, outcome: IoOutcome) {
        self.input.watch = Watch::None;
        match outcome {
            IoOutcome::Ended => self.input.end_seen = true,
            IoOutcome::Failed(error) if error.failure == Failure::Cancelled => {}
            IoOutcome::Failed(error) if error.is_transient() => self.strand.retry_later(cx),
            // If reading has resumed, the receive returns the bytes before the failure, too.
            IoOutcome::Failed(error) if self.is_deaf() => self.on_input_failed(error),
            IoOutcome::Failed(_) => {}
            other => unreachable!("a watch ended in {other:?}"),
        }
    }

    /// Records the failure of the connection. The peer's end before it is told, unless this side
    /// does not read.
    pub(super) fn on_input_failed(&mut self, error: Error) {
        if self.input.end.is_none() || self.is_deaf() {
            self.input.end = Some(End::Failed(error));
        }
    }

    /// Starts, continues or ends the time limit of an end that is not told.
    pub(super) fn update_untold_end(&mut self, cx: &Context<'_>) {
        let ended = self.input.end_seen || matches!(self.input.end, Some(End::Ended));
        let stopped = self.strand.phase.takes_frames() && !self.strand.takes_messages();
        if !ended || !stopped {
            self.input.untold_end = None;
            return;
        }
        let begun = || Box::new(UntoldEnd { seen: cx.now, answered: None });
        let untold = self.input.untold_end.get_or_insert_with(begun);
        untold.answered = match self.strand.owes_answers() {
            true => None,
            false => untold.answered.or(Some(cx.now)),
        };
    }

    /// Returns the time limit of an end that is not told.
    pub(super) fn untold_end_deadline(&self) -> Option<Duration> {
        let timeout_ms = self.strand.config.options.paused_end_timeout_ms;
        self.input.untold_end.as_ref()?.deadline(timeout_ms)
    }

    /// Ends the connection of a peer whose end has not been told in time.
    pub(super) fn check_untold_end(&mut self, cx: &mut Context<'_>) {
        if self.untold_end_deadline().is_some_and(|at| at <= cx.now) {
            let text = "while this side did not read";
            let reason = DisconnectReason::new(DisconnectKind::Ended, text);
            self.strand.close(cx, Close::graceful(), reason);
        }
    }
}

impl super::Strand {
    /// Returns whether the peer waits for the answer to a request or for the end of a transfer.
    pub(super) fn owes_answers(&self) -> bool {
        let waiting = self.cold.as_ref().is_some_and(|cold| !cold.open_requests.is_empty());
        waiting || self.is_finishing_transfers()
    }
}
