//! Rate-limited logging. A line that peers can cause is logged at most once a second, so that no
//! peer can fill a disk.

use std::time::Duration;

use crate::sync::{Mutex, lock};

/// The minimum time between two lines.
const INTERVAL: Duration = Duration::from_secs(1);

/// The state of one rate-limited line.
#[derive(Debug, Default)]
pub(crate) struct RateLimitedLog {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    logged: Option<Duration>,
    suppressed: u64,
}

impl RateLimitedLog {
    /// Returns whether to log now: `Some` with the number of lines suppressed since the last one.
    pub(crate) fn may_log(&self, now: Duration) -> Option<u64> {
        let mut state = lock(&self.state);
        if state.logged.is_some_and(|at| now < at + INTERVAL) {
            state.suppressed += 1;
            return None;
        }
        state.logged = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_an_interval_says_how_many_were_not_logged() {
        let limit = RateLimitedLog::default();
        assert_eq!(limit.may_log(Duration::ZERO), Some(0));
        assert_eq!((limit.may_log(INTERVAL / 2), limit.may_log(INTERVAL / 2)), (None, None));
        assert_eq!(limit.may_log(INTERVAL), Some(2));
        assert_eq!(limit.may_log(INTERVAL * 2), Some(0));
    }
}
