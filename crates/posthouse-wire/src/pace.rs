//! The pace of a frame: once begun it must finish in time, so a peer that trickles is closed.

use std::time::Duration;

use crate::Violation;

/// Default of [`PaceLimits::frame_max`].
pub const FRAME_TIME_MAX: Duration = Duration::from_secs(30);
/// Default of [`PaceLimits::grace`].
pub const FRAME_GRACE: Duration = Duration::from_secs(5);
/// Default of [`PaceLimits::bytes_per_second_min`].
pub const FRAME_BYTES_PER_SECOND_MIN: u64 = 240;

/// How long a frame may take from its first byte to its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceLimits {
    /// The whole frame must be there within this time. Default [`FRAME_TIME_MAX`].
    pub frame_max: Duration,
    /// No rate is asked for during this time. Default [`FRAME_GRACE`].
    pub grace: Duration,
    /// After the grace the frame must have come at this rate on average, counted from its first
    /// byte; 0 asks for none. Default [`FRAME_BYTES_PER_SECOND_MIN`].
    pub bytes_per_second_min: u64,
}

impl Default for PaceLimits {
    fn default() -> Self {
        Self {
            frame_max: FRAME_TIME_MAX,
            grace: FRAME_GRACE,
            bytes_per_second_min: FRAME_BYTES_PER_SECOND_MIN,
        }
    }
}

/// The clock of the frame that is being received: made when one has begun and is not complete,
/// and thrown away when it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    began: Duration,
    bytes: u64,
}

const _: () = assert!(size_of::<Pace>() <= 32);

impl Pace {
    /// A frame has begun: its first byte arrived at `now`.
    pub fn began(now: Duration) -> Self {
        Self { began: now, bytes: 0 }
    }

    /// `bytes` more of the frame have arrived, the first ones included.
    pub fn progress(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// When [`Pace::check`] fails if nothing more arrives; `None` if that is beyond all time.
    ///
    /// It moves later with each [`Pace::progress`], never past `frame_max`. A timer set to an
    /// earlier value may simply ask again when it fires.
    pub fn deadline(&self, limits: &PaceLimits) -> Option<Duration> {
        self.began.checked_add(self.time_allowed(limits))
    }

    /// Fails from the deadline on: [`Violation::FrameLate`] or [`Violation::FrameSlow`].
    pub fn check(&self, now: Duration, limits: &PaceLimits) -> Result<(), Violation> {
        let taken = now.saturating_sub(self.began);
        if taken >= limits.frame_max {
            return Err(Violation::FrameLate { frame_max: limits.frame_max });
        }
        if taken >= self.time_allowed(limits) {
            let bytes_per_second_min = limits.bytes_per_second_min;
            return Err(Violation::FrameSlow { bytes: self.bytes, taken, bytes_per_second_min });
        }
        Ok(())
    }

    /// The time that the bytes received so far have paid for.
    fn time_allowed(&self, limits: &PaceLimits) -> Duration {
        let nanos = self.bytes.saturating_mul(1_000_000_000);
        let Some(paid) = nanos.checked_div(limits.bytes_per_second_min) else {
            return limits.frame_max;
        };
        Duration::from_nanos(paid).max(limits.grace).min(limits.frame_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PaceLimits = PaceLimits {
        frame_max: FRAME_TIME_MAX,
        grace: FRAME_GRACE,
        bytes_per_second_min: FRAME_BYTES_PER_SECOND_MIN,
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn begun(bytes: usize) -> Pace {
        let mut pace = Pace::began(at(100));
        pace.progress(bytes);
        pace
    }

    #[test]
    fn a_trickle_is_too_slow_after_the_grace() {
        let pace = begun(1);
        assert_eq!(pace.deadline(&LIMITS), Some(at(105)));
        assert_eq!(pace.check(at(104), &LIMITS), Ok(()));
        let error = pace.check(at(105), &LIMITS).unwrap_err();
        let (taken, bytes_per_second_min) = (at(5), 240);
        assert_eq!(error, Violation::FrameSlow { bytes: 1, taken, bytes_per_second_min });
    }

    #[test]
    fn bytes_buy_time_up_to_the_absolute_limit() {
        let mut pace = begun(240 * 10);
        assert_eq!(pace.deadline(&LIMITS), Some(at(110)));
        assert_eq!(pace.check(at(109), &LIMITS), Ok(()));
        pace.progress(240 * 10);
        assert_eq!(pace.check(at(110), &LIMITS), Ok(()));
        assert_eq!(pace.deadline(&LIMITS), Some(at(120)));
        pace.progress(usize::MAX);
        assert_eq!(pace.deadline(&LIMITS), Some(at(130)));
        let late = Violation::FrameLate { frame_max: at(30) };
        assert_eq!(pace.check(at(130), &LIMITS), Err(late));
    }

    #[test]
    fn the_check_fails_exactly_from_the_deadline_on() {
        for bytes in [0, 1, 1199, 1200, 1201, 5000, 7199, 7200, 7201, 1 << 20] {
            let pace = begun(bytes);
            let deadline = pace.deadline(&LIMITS).unwrap();
            assert!(pace.check(deadline, &LIMITS).is_err(), "{bytes}");
            let before = deadline.saturating_sub(Duration::from_nanos(1));
            assert!(pace.check(before, &LIMITS).is_ok(), "{bytes}");
        }
    }

    #[test]
    fn without_a_rate_only_the_absolute_limit_holds() {
        let limits = PaceLimits { bytes_per_second_min: 0, ..LIMITS };
        assert_eq!(begun(1).deadline(&limits), Some(at(130)));
        assert_eq!(begun(1).check(at(129), &limits), Ok(()));
    }

    #[test]
    fn without_any_limit_there_is_no_deadline() {
        let frame_max = Duration::MAX;
        let limits = PaceLimits { frame_max, bytes_per_second_min: 0, ..LIMITS };
        assert_eq!(begun(1).deadline(&limits), None);
        assert_eq!(begun(1).check(at(1_000_000), &limits), Ok(()));
    }
}
