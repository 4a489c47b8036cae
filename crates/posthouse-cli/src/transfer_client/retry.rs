//! The pauses between attempts, and the time after which a client gives up.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

/// The time without progress after which a client gives up by default.
const DEFAULT_GIVE_UP_AFTER: Duration = Duration::from_secs(30);
/// The first pause between two attempts; each one after it is twice as long.
const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// The time without progress after which the client gives up; `None`: it never does.
    pub(crate) give_up_after: Option<Duration>,
    /// True if a first connection that fails is tried again, too.
    pub(crate) retries_first_connect: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { give_up_after: Some(DEFAULT_GIVE_UP_AFTER), retries_first_connect: false }
    }
}

/// The attempts that failed since the last progress.
#[derive(Debug)]
pub(super) struct Backoff {
    policy: RetryPolicy,
    /// The time of the first of them.
    failing_since: Option<Instant>,
    failed: u32,
}

impl Backoff {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self { policy, failing_since: None, failed: 0 }
    }

    pub(super) fn policy(&self) -> RetryPolicy {
        self.policy
    }

    /// Forgets the failed attempts, after progress.
    pub(super) fn reset(&mut self) {
        self.failing_since = None;
        self.failed = 0;
    }

    /// Notes that an attempt failed; returns false if the client has to give up.
    pub(super) fn may_retry(&mut self, now: Instant) -> bool {
        let since = *self.failing_since.get_or_insert(now);
        let limit = self.policy.give_up_after;
        limit.is_none_or(|limit| now.saturating_duration_since(since) < limit)
    }

    /// The time of the next attempt; each call doubles the pause.
    pub(super) fn next_attempt_at(&mut self, now: Instant) -> Instant {
        self.failed += 1;
        now + jittered(pause_after(self.failed))
    }
}

/// The pause after this number of failed attempts.
pub(super) fn pause_after(failed: u32) -> Duration {
    MIN_PAUSE.saturating_mul(1 << failed.saturating_sub(1).min(10)).min(MAX_PAUSE)
}

/// A random time between three quarters of the pause and all of it, so that clients that lost the
/// same server do not return in the same instant.
fn jittered(pause: Duration) -> Duration {
    let chance = RandomState::new().hash_one(0) % 256;
    pause * (768 + chance as u32) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let pauses: Vec<u128> = (1..9).map(|failed| pause_after(failed).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(pause_after(u32::MAX), MAX_PAUSE);
        for _ in 0..100 {
            assert!((MAX_PAUSE * 3 / 4..=MAX_PAUSE).contains(&jittered(MAX_PAUSE)));
        }
    }

    #[test]
    fn attempts_go_on_until_all_of_them_failed_for_too_long() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let policy = RetryPolicy { give_up_after: Some(2 * second), retries_first_connect: false };
        let mut backoff = Backoff::new(policy);
        // The time before the first failure does not count.
        let later = start + 1000 * second;
        assert!(backoff.may_retry(later) && backoff.may_retry(later + second));
        assert!(!backoff.may_retry(later + 2 * second));
        backoff.reset();
        assert!(backoff.may_retry(later + 2 * second), "progress begins anew");

        assert!(backoff.next_attempt_at(start) <= start + MIN_PAUSE);
        assert!(backoff.next_attempt_at(start) > start + MIN_PAUSE);
        backoff.reset();
        assert!(backoff.next_attempt_at(start) <= start + MIN_PAUSE);

        let none = RetryPolicy { give_up_after: Some(Duration::ZERO), ..policy };
        assert!(!Backoff::new(none).may_retry(start));
        let mut endless = Backoff::new(RetryPolicy { give_up_after: None, ..policy });
        assert!(endless.may_retry(start) && endless.may_retry(later));
    }
}
