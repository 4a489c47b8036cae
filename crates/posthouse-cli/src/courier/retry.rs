//! When something is tried again, and when no more.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

/// How long without progress is too long, where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first pause between two attempts; each one after it is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long without progress is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// `None`: nothing is.
    pub(crate) time: Option<Duration>,
    /// Whether a connection that was never there is waited for, too.
    pub(crate) from_the_start: bool,
}

impl Default for Patience {
    fn default() -> Self {
        Self { time: Some(PATIENCE), from_the_start: false }
    }
}

/// Attempts that failed since the last progress.
#[derive(Debug)]
pub(super) struct Attempts {
    patience: Patience,
    /// When the first of them did.
    since: Option<Instant>,
    failed: u32,
}

impl Attempts {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, since: None, failed: 0 }
    }

    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    /// Something got further than ever before.
    pub(super) fn progress(&mut self) {
        self.since = None;
        self.failed = 0;
    }

    /// An attempt failed. Whether there is another one: not when all of them failed for too long.
    pub(super) fn may_go_on(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        self.patience.time.is_none_or(|time| now.saturating_duration_since(since) < time)
    }

    /// When the next one is.
    pub(super) fn next(&mut self, now: Instant) -> Instant {
        self.failed += 1;
        now + spread(pause(self.failed))
    }
}

/// The pause after so many attempts that failed.
pub(super) fn pause(failed: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << failed.saturating_sub(1).min(10)).min(PAUSE_MAX)
}

/// Between three quarters of a pause and all of it: many that lost the same server do not come back
/// in the same instant.
fn spread(pause: Duration) -> Duration {
    let chance = RandomState::new().hash_one(0) % 256;
    pause * (768 + chance as u32) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let pauses: Vec<u128> = (1..9).map(|failed| pause(failed).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
        for _ in 0..100 {
            assert!((PAUSE_MAX * 3 / 4..=PAUSE_MAX).contains(&spread(PAUSE_MAX)));
        }
    }

    #[test]
    fn attempts_go_on_until_all_of_them_failed_for_too_long() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let patience = Patience { time: Some(2 * second), from_the_start: false };
        let mut attempts = Attempts::new(patience);
        // However long nothing happened before.
        let later = start + 1000 * second;
        assert!(attempts.may_go_on(later) && attempts.may_go_on(later + second));
        assert!(!attempts.may_go_on(later + 2 * second));
        attempts.progress();
        assert!(attempts.may_go_on(later + 2 * second), "progress begins anew");

        assert!(attempts.next(start) <= start + PAUSE_MIN);
        assert!(attempts.next(start) > start + PAUSE_MIN);
        attempts.progress();
        assert!(attempts.next(start) <= start + PAUSE_MIN);

        let none = Patience { time: Some(Duration::ZERO), ..patience };
        assert!(!Attempts::new(none).may_go_on(start));
        let mut endless = Attempts::new(Patience { time: None, ..patience });
        assert!(endless.may_go_on(start) && endless.may_go_on(later));
    }
}
