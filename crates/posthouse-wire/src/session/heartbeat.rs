//! The heartbeat: pings a silent peer, and ends the session if the peer stays silent.

use std::time::Duration;

use crate::Violation;

/// The shortest heartbeat. A shorter one counts as this, so that no peer can keep a timer of this
/// side busy.
pub const MIN_HEARTBEAT: Duration = Duration::from_millis(10);

/// The agreed heartbeat of one session, and the silence of its peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    last_activity: Duration,
    /// The number of whole heartbeats of silence for which this side has sent a ping: 0, 1 or 2.
    pinged: u32,
    /// The number in the last ping.
    serial: u64,
}

impl Heartbeat {
    pub(super) fn new(interval: Duration, now: Duration) -> Self {
        Self { interval, last_activity: now, pinged: 0, serial: 0 }
    }

    pub(super) fn on_activity(&mut self, now: Duration) {
        self.last_activity = now;
        self.pinged = 0;
    }

    /// Returns the time of the next step: after one heartbeat of silence, after two, and then after
    /// two and a half.
    pub(super) fn deadline(&self) -> Duration {
        let silence = match self.pinged {
            0 | 1 => self.interval.saturating_mul(self.pinged + 1),
            _ => self.max_silence(),
        };
        self.last_activity.saturating_add(silence)
    }

    /// Returns the number of the ping to send now, if one is due.
    pub(super) fn handle_deadline(&mut self, now: Duration) -> Result<Option<u64>, Violation> {
        if now < self.deadline() {
            return Ok(None);
        }
        let silence = now.saturating_sub(self.last_activity);
        if silence >= self.max_silence() {
            return Err(Violation::Silent { silence });
        }
        self.pinged = if silence < self.interval.saturating_mul(2) { 1 } else { 2 };
        self.serial += 1;
        Ok(Some(self.serial))
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

    #[test]
    fn silence_is_answered_with_two_pings_and_then_the_end() {
        let mut heartbeat = Heartbeat::new(2 * SECOND, 10 * SECOND);
        assert_eq!(heartbeat.deadline(), 12 * SECOND);
        assert_eq!(heartbeat.handle_deadline(11 * SECOND), Ok(None));
        assert_eq!(heartbeat.handle_deadline(12 * SECOND), Ok(Some(1)));
        assert_eq!(heartbeat.deadline(), 14 * SECOND);
        assert_eq!(heartbeat.handle_deadline(14 * SECOND), Ok(Some(2)));
        assert_eq!(heartbeat.deadline(), 15 * SECOND);
        let end = heartbeat.handle_deadline(15 * SECOND);
        assert_eq!(end, Err(Violation::Silent { silence: 5 * SECOND }));
    }

    #[test]
    fn a_sign_of_life_starts_the_count_again() {
        let mut heartbeat = Heartbeat::new(2 * SECOND, Duration::ZERO);
        assert_eq!(heartbeat.handle_deadline(4 * SECOND), Ok(Some(1)));
        assert_eq!(heartbeat.deadline(), 5 * SECOND);
        heartbeat.on_activity(5 * SECOND);
        assert_eq!(heartbeat.deadline(), 7 * SECOND);
        assert_eq!(heartbeat.handle_deadline(7 * SECOND), Ok(Some(2)));
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
