//! The deadlines of a connection. They share one entry in the worker's timers.

use std::time::Duration;

use posthouse_wire::{
    FrameRateLimits, MIN_BYTES_PER_SECOND, RATE_GRACE, SendQueue, bye_code as code,
};

use super::phase::Awaits;
use super::{Connection, Context, Phase};
use crate::close::Close;
use crate::disconnect::{DisconnectKind, DisconnectReason};
use crate::error::RequestError;

/// Returns the close of a peer that was not admitted: `reason` is for the log, `text` for the peer.
fn not_admitted(reason: &str, text: &'static str) -> (Close, DisconnectReason) {
    let reason = DisconnectReason::new(DisconnectKind::NotAdmitted, reason);
    (Close::with_code(code::NOT_ADMITTED, text), reason)
}

impl Connection {
    fn frame_rate_limits(frame_ms: u64) -> FrameRateLimits {
        FrameRateLimits {
            max_frame_time: Duration::from_millis(frame_ms),
            grace: RATE_GRACE,
            min_bytes_per_second: MIN_BYTES_PER_SECOND,
        }
    }

    fn heartbeat_deadline(&self) -> Option<Duration> {
        let strand = &self.strand;
        let alive = strand.phase.takes_frames();
        let native = strand.config.is_native();
        (alive && native).then(|| strand.session.deadline()).flatten()
    }

    fn next_deadline(&self) -> Option<Duration> {
        let strand = &self.strand;
        let options = &strand.config.options;
        let live = !strand.phase.is_ending();
        let frame_rate = self.input.frame_rate.as_ref().filter(|_| live && strand.takes_messages());
        let cold = strand.cold.as_ref().filter(|_| live);
        let requests = cold.and_then(|e| e.requests.values().map(|r| r.until).min());
        let timers = cold.and_then(|e| e.timers.first_key_value().map(|((at, _), _)| *at));
        [
            strand.phase.until(),
            strand.retry_at,
            strand.paced_until().filter(|_| live),
            strand.stall.map(|(at, _)| at).filter(|_| strand.phase.sending_socket().is_some()),
            self.heartbeat_deadline(),
            self.untold_end_deadline(),
            frame_rate.and_then(|frame_rate| {
                frame_rate.deadline(&Self::frame_rate_limits(options.frame_timeout_ms))
            }),
            requests,
            timers,
            strand.transfers_deadline().filter(|_| live && strand.takes_messages()),
            strand.transfers_continue_at().filter(|_| strand.is_open()),
            strand.sign_of_life_at().filter(|_| strand.is_open()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Arms a timer for the connection's next deadline. If a timer for an earlier time is armed
    /// already, it does nothing: that timer, when it fires, arms one for this deadline.
    pub(super) fn arm(&mut self, cx: &mut Context<'_>) {
        if let Some(at) = self.next_deadline()
            && at < self.strand.armed
        {
            self.strand.armed_before = std::mem::replace(&mut self.strand.armed, at);
            cx.worker.timers.arm(at, self.strand.id);
        }
    }

    /// Handles an armed deadline that has passed.
    pub(super) fn on_deadline(&mut self, cx: &mut Context<'_>, at: Duration) {
        if at == self.strand.armed_before {
            self.strand.armed_before = Duration::MAX; // another worker's timers were quicker
        }
        if at != self.strand.armed {
            return; // an earlier one was armed after it, and has been handled
        }
        self.strand.armed = std::mem::replace(&mut self.strand.armed_before, Duration::MAX);
        self.strand.retry_at.take_if(|at| *at <= cx.now);
        self.strand.end_pause(cx.now);
        if self.strand.phase.until().is_some_and(|at| at <= cx.now) {
            self.on_phase_deadline(cx);
        }
        self.check_untold_end(cx);
        self.check_heartbeat(cx);
        self.check_frame_rate(cx);
        self.check_stall(cx);
        self.run_timers(cx);
        if self.strand.is_open() {
            if !self.is_unread() {
                self.strand.expire_transfers(cx);
            }
            self.strand.check_use(cx);
            self.strand.show_signs_of_life(cx);
        }
    }

    /// Returns whether this side does not read, or has not read since reading resumed: what the
    /// peer has sent may wait in the socket.
    fn is_unread(&self) -> bool {
        let was_stopped = self.strand.cold.as_ref().is_some_and(|it| it.stopped_since.is_some());
        was_stopped || !self.strand.takes_messages()
    }

    fn on_phase_deadline(&mut self, cx: &mut Context<'_>) {
        let strand = &mut self.strand;
        let connects = strand.connects();
        let (close, reason) = match &mut strand.phase {
            Phase::Opening(_) if !connects => not_admitted(
                "it sent no hello, or no proof of its key, in time",
                "no hello in time",
            ),
            Phase::Connecting(_) | Phase::Opening(_) => return strand.connect_timed_out(cx),
            Phase::Open(open) => match std::mem::replace(&mut open.awaits, Awaits::Nothing) {
                Awaits::Admission(_) => {
                    let why = "no admission within admission_timeout_ms";
                    not_admitted(why, "not admitted in time")
                }
                Awaits::FirstMessage(_) => {
                    let text = "no first message in time";
                    let reason = DisconnectReason::new(DisconnectKind::TooSlow, text);
                    (Close::with_code(code::TOO_SLOW, text), reason)
                }
                Awaits::Answers(_) => {
                    let text = "before its requests were answered";
                    (Close::graceful(), DisconnectReason::new(DisconnectKind::Ended, text))
                }
                Awaits::Nothing => return,
            },
            Phase::Draining(_) => {
                (Close::abort(), DisconnectReason::new(DisconnectKind::TooSlow, ""))
            }
            Phase::Lingering(_) => return strand.join(cx),
            Phase::New | Phase::Joining(_) | Phase::Closing(_) | Phase::Gone | Phase::Abandoned => {
                return;
            }
        };
        strand.close(cx, close, reason);
    }

    fn check_heartbeat(&mut self, cx: &mut Context<'_>) {
        if self.heartbeat_deadline().is_none_or(|at| at > cx.now) {
            return;
        }
        let now = cx.now;
        let result = self.strand.send_control(cx, |strand, out| {
            let sent = strand.output.queued_bytes() == 0;
            let queue = if sent { SendQueue::Empty } else { SendQueue::Waiting };
            strand.session.handle_deadline(now, queue, out)
        });
        if self.is_deaf() {
            // A peer that is not read is not silent. Its pings are not answered, so this side sends
            // a ping in each heartbeat, which shows the peer that this side is alive.
            self.strand.session.on_activity(cx.now);
        } else if let Err(violation) = result {
            self.strand.on_violation(cx, &violation);
        }
    }

    /// Closes the connection of a peer that sends a frame too slowly. The time in which this side
    /// does not read does not count.
    fn check_frame_rate(&mut self, cx: &mut Context<'_>) {
        let limits = Self::frame_rate_limits(self.strand.config.options.frame_timeout_ms);
        let is_unread = self.is_unread();
        if let Some(frame_rate) = &self.input.frame_rate
            && !is_unread
            && let Err(violation) = frame_rate.check(cx.now, &limits)
        {
            self.strand.on_violation(cx, &violation);
        }
    }

    /// Closes the connection of a peer that sends a frame too slowly, in small pieces. Each of them
    /// may pause the reading before a deadline is handled, so the time is checked with each.
    pub(super) fn check_pieces(&mut self, cx: &mut Context<'_>) {
        let limits = Self::frame_rate_limits(self.strand.config.options.frame_timeout_ms);
        let frame_rate = self.input.frame_rate.as_ref();
        if let Some(Err(violation)) = frame_rate.map(|rate| rate.check(cx.now, &limits)) {
            self.strand.on_violation(cx, &violation);
        }
    }

    /// Closes the connection of a peer that takes its queued output too slowly.
    fn check_stall(&mut self, cx: &mut Context<'_>) {
        let strand = &mut self.strand;
        let Some((_, sent_before)) = strand.stall.filter(|(at, _)| *at <= cx.now) else { return };
        let sent = strand.stats.as_ref().map_or(0, |stats| stats.bytes_sent());
        let stall_ms = strand.config.options.stall_timeout_ms;
        if sent - sent_before < MIN_BYTES_PER_SECOND * stall_ms / 1000 {
            let text = format!("it took {} bytes in {stall_ms} ms", sent - sent_before);
            strand.close(cx, Close::abort(), DisconnectReason::new(DisconnectKind::TooSlow, text));
        } else {
            strand.stall = Some((cx.now + Duration::from_millis(stall_ms), sent));
        }
    }

    /// Runs the timers of the program that are due, and fails the requests whose replies have not
    /// arrived in time: together as many as messages may be handled in a turn. The next ones then
    /// have their turn behind the other connections.
    fn run_timers(&mut self, cx: &mut Context<'_>) {
        // A timer that another one adds without a delay runs at the next deadline.
        let last = self.strand.cold.as_ref().map_or(0, |cold| cold.next_timer);
        for _ in 0..cx.shared.tuning.turn_messages {
            let Some(cold) = &mut self.strand.cold else { return };
            if let Some(pending) = cold.take_expired_request(cx.now) {
                self.strand.run_reply(cx, pending.then, Err(RequestError::TimedOut));
            } else if self.strand.is_open()
                && let Some(cold) = &mut self.strand.cold
                && let Some(task) = cold.take_due_timer(cx.now, last)
            {
                self.strand.run_task(cx, task);
            } else {
                return;
            }
        }
    }
}
