//! The rate of a frame: once begun it must finish in time, so a peer that trickles is closed.

use std::time::Duration;

use crate::Violation;

/// The default of [`FrameRateLimits::max_frame_time`].
pub const MAX_FRAME_TIME: Duration = Duration::from_secs(30);
/// The default of [`FrameRateLimits::grace`].
pub const RATE_GRACE: Duration = Duration::from_secs(5);
/// The lowest rate of a peer that is not closed: the default of
/// [`FrameRateLimits::min_bytes_per_second`].
pub const MIN_BYTES_PER_SECOND: u64 = 240;

/// The time that a frame may take from its first byte to its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRateLimits {
    /// The longest time of a whole frame. Default [`MAX_FRAME_TIME`].
    pub max_frame_time: Duration,
    /// The time before the rate counts. Default [`RATE_GRACE`].
    pub grace: Duration,
    /// The average rate that a frame must have after the grace, counted from its first byte; 0: any
    /// rate will do. Default [`MIN_BYTES_PER_SECOND`].
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

/// The clock of the frame that is being received: made when one has begun and is not complete,
/// and thrown away when it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRate {
    began: Duration,
    bytes: u64,
}

const _: () = assert!(size_of::<FrameRate>() <= 32);

impl FrameRate {
    /// A frame has begun: its first byte arrived at `now`.
    pub fn began(now: Duration) -> Self {
        Self { began: now, bytes: 0 }
    }

    /// `bytes` more of the frame have arrived, the first ones included.
    pub fn progress(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// When [`FrameRate::check`] fails if nothing more arrives; `None` if that is beyond all time.
    ///
    /// It moves later with each [`FrameRate::progress`], never past `max_frame_time`. A timer set
    /// to an earlier value may simply ask again when it fires.
    pub fn deadline(&self, limits: &FrameRateLimits) -> Option<Duration> {
        self.began.checked_add(self.time_allowed(limits))
    }

    /// Fails from the deadline on: [`Violation::FrameLate`] or [`Violation::FrameSlow`].
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

    /// The time that the bytes received so far have paid for.
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
    fn a_trickle_is_too_slow_after_the_grace() {
        let rate = begun(1);
        assert_eq!(rate.deadline(&LIMITS), Some(at(105)));
        assert_eq!(rate.check(at(104), &LIMITS), Ok(()));
        let error = rate.check(at(105), &LIMITS).unwrap_err();
        let (taken, min_bytes_per_second) = (at(5), 240);
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
