//! The client side of file transfers: one connection to a server, the files that are transferred
//! over it, and the report about them. The commands `send`, `get` and `list` use it.
//!
//! # How the loop works
//!
//! All decisions are made on the thread of the command. The endpoint's worker only forwards the
//! events of the connection into a channel ([`client::Event`]).
//!
//! [`FileClient::wait`] is the only place that waits. It connects if an attempt is due, takes the
//! next event from the channel, and keeps the state of the connection:
//!
//! ```text
//!               connect                Connected
//!    Waiting ------------> Connecting ----------> Open
//!       ^                      |                   |
//!       +----------------------+-------------------+
//!         Disconnected, if the RetryPolicy allows another attempt
//! ```
//!
//! If the policy allows no other attempt, `wait` returns [`client::GaveUp`] and the command ends.
//!
//! [`FileClient::list`] requests one page of names after the other. [`FileClient::transfer`] runs
//! over the jobs of a [`JobSource`]. Each of its rounds starts as many jobs as there is room for,
//! waits for one event, and applies the event to the job that it is about. If the source finds its
//! jobs in the server's list, a round also requests the page that the source wants next. A source
//! wants none while it holds many names: a server can list without end.
//!
//! ```text
//!                 start
//!    Waiting ------------> InFlight ----------> reported: transferred, or failed for good
//!       ^                      |
//!       +----------------------+
//!         the connection was lost, or the failure may be transient
//! ```
//!
//! A run takes jobs from the source, finishes the last ones after the end of the source, and stops
//! soon after an interruption. The end of each job is a line of the [`TransferReport`]. After the
//! run, [`TransferReport::close`] returns the result of the command.

mod client;
mod list_cursor;
mod report;
mod run;

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

pub(crate) use client::{FileClient, NotListed};
pub(crate) use list_cursor::{InvalidNames, ListCursor};
pub(crate) use report::{Direction, TransferReport};
pub(crate) use run::{FileJob, JobSource, NextJob, RunEnd};

use crate::settings;
use crate::term::terminal::Terminal;
use crate::term::units;
use report::ReportStyle;

/// The directory for the parts of unfinished files, in a directory that receives files.
pub(crate) const PARTS_DIRECTORY: &str = ".posthouse";

/// Returns the directory that holds a path: `.` for a bare file name.
pub(crate) fn parent_directory(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// The flags of every command that connects to a file server: how to reach it.
#[derive(Debug, Args)]
pub(crate) struct ConnectFlags {
    /// A file with the secret that the server requires
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    io: settings::IoFlags,
}

/// The flags of the commands that send or get files: what to print, and how long to retry.
#[derive(Debug, Args)]
pub(crate) struct TransferFlags {
    /// Print one JSON object per line: for each file name, bytes, sent_bytes, resumed_from,
    /// already_there, blake3, delivery, seconds and error, and one for all files at the end. Every
    /// file that was started or failed has its line; without this flag, failures beyond 2000 at
    /// once or 40 a second are only counted
    #[arg(long)]
    json: bool,
    /// Print errors only
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    /// Retry after a failure, also of the first connection, and give up after this time without
    /// progress: seconds, or a number with s, m or h (default: 30s). 0 means no retry. Without this
    /// flag, the time is 30 s, and a failed first connection is not retried
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true,
          default_missing_value = "30s", value_parser = units::parse_duration)]
    retry: Option<Duration>,
}

impl TransferFlags {
    /// Returns an empty report. Without a flag, its form depends on whether stdout is a terminal.
    pub(crate) fn report(&self, direction: Direction) -> TransferReport {
        let terminal = if self.quiet { Terminal::quiet() } else { Terminal::new() };
        let style = if self.quiet {
            ReportStyle::Quiet
        } else if self.json {
            ReportStyle::Json
        } else if terminal.shows_bars() && io::stdout().is_terminal() {
            ReportStyle::Summary
        } else {
            ReportStyle::Lines
        };
        TransferReport::new(direction, style, terminal)
    }

    pub(crate) fn retry_policy(&self) -> RetryPolicy {
        match self.retry {
            None => RetryPolicy::default(),
            Some(Duration::ZERO) => RetryPolicy::OnceConnected(Duration::ZERO),
            Some(limit) => RetryPolicy::Always(limit),
        }
    }

    /// Returns the retry policy of `--watch`, which by default never gives up.
    pub(crate) fn watch_retry_policy(&self) -> RetryPolicy {
        match self.retry {
            None => RetryPolicy::Forever,
            Some(_) => self.retry_policy(),
        }
    }
}

/// The time without progress after which a client gives up by default.
const DEFAULT_RETRY_LIMIT: Duration = Duration::from_secs(30);
/// The first pause between two attempts; each one after it is twice as long.
const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The rule for when a client tries again and when it gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryPolicy {
    /// Gives up if the first connection fails. Later, gives up after this time without progress.
    OnceConnected(Duration),
    /// Gives up after this time without progress.
    Always(Duration),
    /// Never gives up.
    Forever,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::OnceConnected(DEFAULT_RETRY_LIMIT)
    }
}

impl RetryPolicy {
    /// Returns the time without progress after which the client gives up, if it ever does.
    fn limit(self) -> Option<Duration> {
        match self {
            Self::OnceConnected(limit) | Self::Always(limit) => Some(limit),
            Self::Forever => None,
        }
    }
}

/// The attempts that failed since the last progress.
#[derive(Debug)]
struct Backoff {
    policy: RetryPolicy,
    /// The time of the first of these attempts.
    failing_since: Option<Instant>,
    failed: u32,
}

impl Backoff {
    fn new(policy: RetryPolicy) -> Self {
        Self { policy, failing_since: None, failed: 0 }
    }

    /// Forgets the failed attempts, after progress.
    fn reset(&mut self) {
        *self = Self::new(self.policy);
    }

    /// Notes that an attempt failed. Returns false if the client has to give up.
    fn may_retry(&mut self, now: Instant) -> bool {
        let since = *self.failing_since.get_or_insert(now);
        let limit = self.policy.limit();
        limit.is_none_or(|limit| now.saturating_duration_since(since) < limit)
    }

    /// Returns the time of the next attempt; each call doubles the pause.
    fn next_attempt_at(&mut self, now: Instant) -> Instant {
        self.failed += 1;
        now + jittered(pause_after(self.failed))
    }
}

/// Returns the pause after this number of failed attempts.
fn pause_after(failed: u32) -> Duration {
    MIN_PAUSE.saturating_mul(1 << failed.saturating_sub(1).min(10)).min(MAX_PAUSE)
}

/// Returns a random time between three quarters of the pause and the whole pause, so that the
/// clients of a lost server do not all return at the same instant.
fn jittered(pause: Duration) -> Duration {
    let chance = RandomState::new().hash_one(0) % 256;
    pause * (768 + chance as u32) / 1024
}

/// Returns the earlier of two times, or the only one, if there is any.
fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
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
        let mut backoff = Backoff::new(RetryPolicy::OnceConnected(2 * second));
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

        assert!(!Backoff::new(RetryPolicy::OnceConnected(Duration::ZERO)).may_retry(start));
        let mut endless = Backoff::new(RetryPolicy::Forever);
        assert!(endless.may_retry(start) && endless.may_retry(later));
    }
}
