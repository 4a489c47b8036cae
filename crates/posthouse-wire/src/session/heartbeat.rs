//! The heartbeat: pings a silent peer, and ends the session if the peer stays silent. A side that
//! has sent nothing for a heartbeat sends a pong, so that a peer with a slow line hears from it
//! without asking.

use std::time::Duration;

use crate::Violation;

/// The shortest heartbeat. A shorter one counts as this, so that no peer can keep a timer of this
/// side busy.
pub const MIN_HEARTBEAT: Duration = Duration::from_millis(10);

/// Whether bytes wait in the send queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendQueue {
    /// Everything has been sent.
    Empty,
    /// Bytes wait.
    Waiting,
}

/// A frame of the heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// A ping with this number.
    Ping(u64),
    /// A pong that nobody asked for.
    Pong,
}

/// The agreed heartbeat of one session, and the silence of its peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    last_activity: Duration,
    /// The time at which this side last sent bytes.
    last_sent: Duration,
    /// The number of whole heartbeats of silence for which this side has sent a ping: 0, 1 or 2.
    pinged: u32,
    /// The number in the last ping.
    serial: u64,
}

impl Heartbeat {
    pub(super) fn new(interval: Duration, now: Duration) -> Self {
        Self { interval, last_activity: now, last_sent: now, pinged: 0, serial: 0 }
    }

    pub(super) fn on_activity(&mut self, now: Duration) {
        self.last_activity = now;
        self.pinged = 0;
    }

    pub(super) fn postpone_silence(&mut self, time: Duration, now: Duration) {
        self.last_activity = self.last_activity.saturating_add(time).min(now);
    }

    pub(super) fn on_sent(&mut self, now: Duration) {
        self.last_sent = now;
    }

    /// Returns the time of the next step: of the peer's silence, or of the own one.
    pub(super) fn deadline(&self) -> Duration {
        self.peer_deadline().min(self.own_deadline())
    }

    /// Returns the time of the next step of the peer's silence: after one heartbeat, after two, and
    /// then after two and a half.
    fn peer_deadline(&self) -> Duration {
        let silence = match self.pinged {
            0 | 1 => self.interval.saturating_mul(self.pinged + 1),
            _ => self.max_silence(),
        };
        self.last_activity.saturating_add(silence)
    }

    fn own_deadline(&self) -> Duration {
        self.last_sent.saturating_add(self.interval)
    }

    /// Returns the frame to send now, if one is due.
    pub(super) fn handle_deadline(
        &mut self,
        now: Duration,
        queue: SendQueue,
    ) -> Result<Option<Beat>, Violation> {
        let silence = now.saturating_sub(self.last_activity);
        if now >= self.peer_deadline() && silence >= self.max_silence() {
            return Err(Violation::Silent { silence });
        }
        if now < self.deadline() {
            return Ok(None);
        }
        self.last_sent = now;
        // The bytes in the queue will tell the peer as much as a ping before its time or a pong,
        // once the line takes them. A ping that is due soon says as much as a pong.
        let has_nothing = queue == SendQueue::Empty;
        let asks_soon = has_nothing && self.pinged == 0 && silence >= self.interval * 3 / 4;
        Ok(if now >= self.peer_deadline() || asks_soon {
            self.pinged = if silence < self.interval.saturating_mul(2) { 1 } else { 2 };
            self.serial += 1;
            Some(Beat::Ping(self.serial))
        } else {
            has_nothing.then_some(Beat::Pong)
        })
    }

    fn max_silence(&self) -> Duration {
        self.interval.saturating_mul(5) / 2
    }
}

/// Returns the heartbeat of two sides that ask for these, in ms: the shorter one. 0 asks for none.
pub(super) fn agree(ours_ms: u32, theirs_ms: u32) -> Option<Duration> {
    let asked = [ours_ms, theirs_ms].into_iter().filter(|ms| *ms > 0).min()?;
    Some(Duration::from_millis(u64::from(asked)).max(MIN_HEARTBEAT))
}

/// Converts a heartbeat to its form on the wire, in ms.
pub(super) fn to_ms(heartbeat: Option<Duration>) -> u32 {
    heartbeat
        .filter(|interval| !interval.is_zero())
        .map_or(0, |interval| u32::try_from(interval.as_millis().max(1)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Calls a heartbeat that has just sent something.
    fn after_a_send(heartbeat: &mut Heartbeat, now: Duration) -> Result<Option<Beat>, Violation> {
        heartbeat.on_sent(now);
        heartbeat.handle_deadline(now, SendQueue::Empty)
    }

    #[test]
    fn silence_is_answered_with_two_pings_and_then_the_end() {
        let mut heartbeat = Heartbeat::new(2 * SECOND, 10 * SECOND);
        assert_eq!(heartbeat.deadline(), 12 * SECOND);
        assert_eq!(after_a_send(&mut heartbeat, 11 * SECOND), Ok(None));
        assert_eq!(after_a_send(&mut heartbeat, 12 * SECOND), Ok(Some(Beat::Ping(1))));
        assert_eq!(heartbeat.deadline(), 14 * SECOND);
        assert_eq!(after_a_send(&mut heartbeat, 14 * SECOND), Ok(Some(Beat::Ping(2))));
        assert_eq!(heartbeat.deadline(), 15 * SECOND);
        let end = after_a_send(&mut heartbeat, 15 * SECOND);
        assert_eq!(end, Err(Violation::Silent { silence: 5 * SECOND }));
    }

    #[test]
    fn the_time_in_which_nothing_is_read_is_no_silence() {
        let mut heartbeat = Heartbeat::new(2 * SECOND, 10 * SECOND);
        heartbeat.postpone_silence(SECOND, 11 * SECOND);
        assert_eq!(heartbeat.peer_deadline(), 13 * SECOND);
        heartbeat.postpone_silence(9 * SECOND, 12 * SECOND);
        assert_eq!(heartbeat.peer_deadline(), 14 * SECOND, "the last sign of life is not to come");
    }

    #[test]
    fn a_sign_of_life_starts_the_count_again() {
        let mut heartbeat = Heartbeat::new(2 * SECOND, Duration::ZERO);
        assert_eq!(after_a_send(&mut heartbeat, 4 * SECOND), Ok(Some(Beat::Ping(1))));
        assert_eq!(heartbeat.deadline(), 5 * SECOND);
        heartbeat.on_activity(5 * SECOND);
        heartbeat.on_sent(6 * SECOND);
        assert_eq!(heartbeat.deadline(), 7 * SECOND);
        assert_eq!(after_a_send(&mut heartbeat, 7 * SECOND), Ok(Some(Beat::Ping(2))));
    }

    #[test]
    fn a_side_that_has_sent_nothing_for_a_heartbeat_sends_a_pong() {
        let mut heartbeat = Heartbeat::new(2 * SECOND, Duration::ZERO);
        let mut next = |now, queue, expected| {
            heartbeat.on_activity(now);
            assert_eq!(heartbeat.handle_deadline(now, queue), Ok(expected), "at {now:?}");
        };
        next(SECOND, SendQueue::Empty, None);
        next(2 * SECOND, SendQueue::Empty, Some(Beat::Pong));
        next(3 * SECOND, SendQueue::Empty, None);
        next(4 * SECOND, SendQueue::Waiting, None);
        next(5 * SECOND, SendQueue::Empty, None);
        next(6 * SECOND, SendQueue::Empty, Some(Beat::Pong));
        // A ping is a sign of life, too.
        heartbeat.last_activity = 5 * SECOND;
        let at = 8 * SECOND;
        let queue = SendQueue::Empty;
        assert_eq!(heartbeat.handle_deadline(at, queue), Ok(Some(Beat::Ping(1))));
        assert_eq!(heartbeat.handle_deadline(at, queue), Ok(None));
    }

    #[test]
    fn bytes_in_the_queue_are_sent_in_place_of_an_early_ping() {
        for (queue, early) in [(SendQueue::Waiting, None), (SendQueue::Empty, Some(Beat::Ping(1)))]
        {
            let mut heartbeat = Heartbeat::new(4 * SECOND, Duration::ZERO);
            heartbeat.on_activity(SECOND);
            assert_eq!(heartbeat.handle_deadline(4 * SECOND, queue), Ok(early));
            // The ping at the end of a heartbeat of silence does not depend on the queue.
            let due = if early.is_none() { Some(Beat::Ping(1)) } else { None };
            assert_eq!(heartbeat.handle_deadline(5 * SECOND, queue), Ok(due));
        }
    }

    #[test]
    fn the_shorter_heartbeat_that_is_asked_for_is_agreed() {
        assert_eq!(agree(0, 0), None);
        assert_eq!(agree(0, 2000), Some(2 * SECOND));
        assert_eq!(agree(1000, 0), Some(SECOND));
        assert_eq!(agree(1000, 2000), Some(SECOND));
        assert_eq!(agree(1, 2000), Some(MIN_HEARTBEAT));
        assert_eq!(to_ms(Some(Duration::from_nanos(1))), 1);
        assert_eq!(to_ms(Some(Duration::ZERO)), 0);
        assert_eq!(to_ms(Some(Duration::MAX)), u32::MAX);
    }
}
