//! The time limits of one frame. They end a connection whose peer sends a frame too slowly.

use std::time::Duration;

use crate::Violation;

/// The default of [`FrameRateLimits::max_frame_time`].
pub const MAX_FRAME_TIME: Duration = Duration::from_secs(30);
/// The default of [`FrameRateLimits::grace`].
pub const RATE_GRACE: Duration = Duration::from_secs(5);
/// The default of [`FrameRateLimits::min_bytes_per_second`].
pub const MIN_BYTES_PER_SECOND: u64 = 240;

/// The limits on the time that a frame takes from its first byte to its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRateLimits {
    /// The longest time for a whole frame. Default [`MAX_FRAME_TIME`], 30 s.
    pub max_frame_time: Duration,
    /// The time, from the first byte of the frame, before the rate is checked. Default
    /// [`RATE_GRACE`], 5 s.
    pub grace: Duration,
    /// The lowest average rate of a frame after the grace, in bytes per second from its first byte;
    /// 0 switches the check of the rate off. Default [`MIN_BYTES_PER_SECOND`], 240.
    pub min_bytes_per_second: u64,
}

impl Default for FrameRateLimits {
    fn default() -> Self {
        Self {
            max_frame_time: MAX_FRAME_TIME,
            grace: RATE_GRACE,
            min_bytes_per_second: MIN_BYTES_PER_SECOND,
        }
    }
}

/// The progress of a frame that has begun to arrive. The caller makes one if a frame is incomplete
/// after its first bytes, and drops it when the frame is complete.
///
/// ```
/// use posthouse_wire::{FrameRate, FrameRateLimits};
/// use std::time::Duration;
/// let limits = FrameRateLimits::default();
/// let mut rate = FrameRate::began(Duration::from_secs(100));
/// rate.progress(1200); // 240 bytes per second pay for 5 s, as long as the grace.
/// assert_eq!(rate.deadline(&limits), Some(Duration::from_secs(105)));
/// assert!(rate.check(Duration::from_secs(104), &limits).is_ok());
/// assert!(rate.check(Duration::from_secs(105), &limits).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRate {
    began: Duration,
    bytes: u64,
}

const _: () = assert!(size_of::<FrameRate>() <= 32);

impl FrameRate {
    /// Starts the time of a frame whose first byte arrived at `now`.
    pub fn began(now: Duration) -> Self {
        Self { began: now, bytes: 0 }
    }

    /// Adds `bytes` to the count of received bytes. The bytes that arrived at the start count, too.
    pub fn progress(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// Moves the time of the frame: nothing was read for `time`.
    pub fn postpone(&mut self, time: Duration) {
        self.began = self.began.saturating_add(time);
    }

    /// Returns the time from which on [`FrameRate::check`] fails if nothing more arrives; `None` if
    /// that time is larger than a [`Duration`] can hold.
    ///
    /// Each call of [`FrameRate::progress`] can move the deadline later, never past
    /// `max_frame_time`. A timer that was set to an earlier value can ask again when it fires.
    pub fn deadline(&self, limits: &FrameRateLimits) -> Option<Duration> {
        self.began.checked_add(self.time_allowed(limits))
    }

    /// Fails if `now` is at or after the frame's [`deadline`](Self::deadline).
    ///
    /// # Errors
    /// [`Violation::FrameLate`] if the frame has taken `max_frame_time` or longer;
    /// [`Violation::FrameSlow`] if it has taken longer than the grace, and its average rate is
    /// below `min_bytes_per_second`.
    pub fn check(&self, now: Duration, limits: &FrameRateLimits) -> Result<(), Violation> {
        let taken = now.saturating_sub(self.began);
        if taken >= limits.max_frame_time {
            return Err(Violation::FrameLate { max_frame_time: limits.max_frame_time });
        }
        if taken >= self.time_allowed(limits) {
            let min_bytes_per_second = limits.min_bytes_per_second;
            return Err(Violation::FrameSlow { bytes: self.bytes, taken, min_bytes_per_second });
        }
        Ok(())
    }

    /// Returns the time that the bytes received so far allow for the frame.
    fn time_allowed(&self, limits: &FrameRateLimits) -> Duration {
        let nanos = self.bytes.saturating_mul(1_000_000_000);
        let Some(paid) = nanos.checked_div(limits.min_bytes_per_second) else {
            return limits.max_frame_time;
        };
        Duration::from_nanos(paid).max(limits.grace).min(limits.max_frame_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FrameRateLimits = FrameRateLimits {
        max_frame_time: MAX_FRAME_TIME,
        grace: RATE_GRACE,
        min_bytes_per_second: MIN_BYTES_PER_SECOND,
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn begun(bytes: usize) -> FrameRate {
        let mut rate = FrameRate::began(at(100));
        rate.progress(bytes);
        rate
    }

    #[test]
    fn the_time_in_which_nothing_is_read_is_none_of_the_frame() {
        let mut rate = begun(1);
        rate.postpone(at(60));
        assert_eq!(rate.deadline(&LIMITS), Some(at(165)));
        assert_eq!(rate.check(at(164), &LIMITS), Ok(()));
        assert!(rate.check(at(165), &LIMITS).is_err());
    }

    #[test]
    fn a_trickle_is_too_slow_after_the_grace() {
        let rate = begun(1);
        assert_eq!(rate.deadline(&LIMITS), Some(at(105)));
        assert_eq!(rate.check(at(104), &LIMITS), Ok(()));
        let error = rate.check(at(105), &LIMITS).unwrap_err();
        let taken = at(5);
        let min_bytes_per_second = 240;
        assert_eq!(error, Violation::FrameSlow { bytes: 1, taken, min_bytes_per_second });
    }

    #[test]
    fn bytes_buy_time_up_to_the_absolute_limit() {
        let mut rate = begun(240 * 10);
        assert_eq!(rate.deadline(&LIMITS), Some(at(110)));
        assert_eq!(rate.check(at(109), &LIMITS), Ok(()));
        rate.progress(240 * 10);
        assert_eq!(rate.check(at(110), &LIMITS), Ok(()));
        assert_eq!(rate.deadline(&LIMITS), Some(at(120)));
        rate.progress(usize::MAX);
        assert_eq!(rate.deadline(&LIMITS), Some(at(130)));
        let late = Violation::FrameLate { max_frame_time: at(30) };
        assert_eq!(rate.check(at(130), &LIMITS), Err(late));
    }

    #[test]
    fn the_check_fails_exactly_from_the_deadline_on() {
        for bytes in [0, 1, 1199, 1200, 1201, 5000, 7199, 7200, 7201, 1 << 20] {
            let rate = begun(bytes);
            let deadline = rate.deadline(&LIMITS).unwrap();
            assert!(rate.check(deadline, &LIMITS).is_err(), "{bytes}");
            let before = deadline.saturating_sub(Duration::from_nanos(1));
            assert!(rate.check(before, &LIMITS).is_ok(), "{bytes}");
        }
    }

    #[test]
    fn without_a_rate_only_the_absolute_limit_holds() {
        let limits = FrameRateLimits { min_bytes_per_second: 0, ..LIMITS };
        assert_eq!(begun(1).deadline(&limits), Some(at(130)));
        assert_eq!(begun(1).check(at(129), &limits), Ok(()));
    }

    #[test]
    fn without_any_limit_there_is_no_deadline() {
        let max_frame_time = Duration::MAX;
        let limits = FrameRateLimits { max_frame_time, min_bytes_per_second: 0, ..LIMITS };
        assert_eq!(begun(1).deadline(&limits), None);
        assert_eq!(begun(1).check(at(1_000_000), &limits), Ok(()));
    }
}
