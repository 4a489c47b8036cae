//! The limit on the lines that peers cause. A peer can cause any number of them.
//!
//! `serve` has one limit for its lines about files on stdout and stderr and for those of its log at
//! the level info. `send` and `get` have one for their lines about failed transfers, and none for
//! the log.
//!
//! Warnings and errors of the log do not count: the framework limits each of those that a peer can
//! cause to one line a second.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing_subscriber::fmt::MakeWriter;

/// The lines of `serve`. There is no limit before [`PeerLines::limit`].
pub(crate) static PEER_LINES: PeerLines = PeerLines::new();

/// The default of `--line-rate`, and the limit of `send` and `get`.
pub(crate) const DEFAULT_LINES_PER_SECOND: u32 = 40;
/// The number of seconds whose lines may come at once.
pub(crate) const BURST_SECONDS: u32 = 50;
/// The number of bytes that count as one line. A name can make a line of some kilobytes.
const BYTES_PER_LINE: usize = 200;
/// The unit in which lines are counted, in parts of a line.
const LINE: u64 = 1_000_000;

/// A kind of line that peers cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineKind {
    /// A file was received.
    Received,
    /// A file was sent.
    Sent,
    /// A transfer failed.
    Failed,
    /// A line of the log.
    Log,
}

/// The decision about a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Shown,
    /// The line is counted, and others about files were counted before.
    Hidden,
    /// The line is counted. If it is about a file, it is the first one.
    FirstHidden,
}

/// The numbers of lines that are not shown, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HiddenLines([u64; 4]);

/// The limit on lines, and the lines beyond it.
#[derive(Debug)]
pub(crate) struct PeerLines(Mutex<State>);

#[derive(Debug)]
struct State {
    /// `None` is no limit.
    budget: Option<LineBudget>,
    hidden: HiddenLines,
}

/// A budget that fills by a number of lines each second, up to [`BURST_SECONDS`] times as many.
#[derive(Debug)]
struct LineBudget {
    lines_per_second: u32,
    /// The lines that may be shown, in parts of a [`LINE`].
    left: u64,
    /// The time up to which the budget has been filled.
    filled: Instant,
}

impl PeerLines {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(State { budget: None, hidden: HiddenLines([0; 4]) }))
    }

    /// Sets the limit; 0 lines a second mean none.
    pub(crate) fn limit(&self, lines_per_second: u32, now: Instant) {
        self.lock().budget = (lines_per_second > 0).then(|| LineBudget::new(lines_per_second, now));
    }

    /// Decides whether a line of this kind may be shown. If not, it is counted.
    pub(crate) fn admit(&self, kind: LineKind, line: &[u8], now: Instant) -> Admission {
        let mut state = self.lock();
        let is_shown = state.budget.as_mut().is_none_or(|budget| budget.take(line.len(), now));
        if is_shown { Admission::Shown } else { state.hidden.add(kind) }
    }

    /// Counts an admitted line that could not be shown.
    pub(crate) fn hide(&self, kind: LineKind) -> Admission {
        self.lock().hidden.add(kind)
    }

    /// Returns whether lines were hidden since the last [`take_hidden`](Self::take_hidden).
    pub(crate) fn has_hidden(&self) -> bool {
        self.lock().hidden != HiddenLines::default()
    }

    pub(crate) fn take_hidden(&self) -> HiddenLines {
        std::mem::take(&mut self.lock().hidden)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LineBudget {
    fn new(lines_per_second: u32, now: Instant) -> Self {
        let burst = u64::from(lines_per_second) * u64::from(BURST_SECONDS) * LINE;
        Self { lines_per_second, left: burst, filled: now }
    }

    /// Takes the place of a line of this length. Returns false if there is none.
    fn take(&mut self, bytes: usize, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_micros();
        self.filled = self.filled.max(now);
        let rate = u64::from(self.lines_per_second);
        // A line a second is one of its parts a microsecond.
        let more = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(rate);
        let burst = rate * u64::from(BURST_SECONDS) * LINE;
        self.left = self.left.saturating_add(more).min(burst);
        let is_shown = self.left >= LINE;
        if is_shown {
            let lines = bytes.div_ceil(BYTES_PER_LINE).max(1) as u64;
            self.left = self.left.saturating_sub(lines * LINE);
        }
        is_shown
    }
}

impl HiddenLines {
    fn add(&mut self, kind: LineKind) -> Admission {
        let [files @ .., _log] = self.0;
        self.0[kind as usize] += 1;
        match files {
            [0, 0, 0] => Admission::FirstHidden,
            _ => Admission::Hidden,
        }
    }

    /// Returns the lines that say how many were not shown.
    pub(crate) fn summary(self) -> impl Iterator<Item = (LineKind, String)> {
        let kinds = [LineKind::Received, LineKind::Sent, LineKind::Failed, LineKind::Log];
        kinds.into_iter().zip(self.0).filter(|(_, count)| *count > 0).map(|(kind, count)| {
            let what = match kind {
                LineKind::Received => format!("received {count} more files"),
                LineKind::Sent => format!("sent {count} more files"),
                LineKind::Failed => format!("{count} more transfers failed"),
                LineKind::Log => format!("{count} more lines of the log"),
            };
            (kind, format!("{what}, not shown"))
        })
    }
}

/// Writes the log to stderr; lines at the level info count in [`PEER_LINES`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogWriter {
    is_limited: bool,
}

impl LogWriter {
    pub(crate) fn new() -> Self {
        Self { is_limited: false }
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }

    fn make_writer_for(&'a self, event: &tracing::Metadata<'_>) -> Self {
        Self { is_limited: *event.level() == tracing::Level::INFO }
    }
}

impl io::Write for LogWriter {
    /// Writes a whole line: the log passes one event at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let admit = || PEER_LINES.admit(LineKind::Log, line, Instant::now());
        if !self.is_limited || admit() == Admission::Shown {
            io::stderr().write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_shown_and_then_a_few_lines_a_second() {
        let start = Instant::now();
        let mut budget = LineBudget::new(2, start);
        let mut shown = |count: usize, ms: u64, bytes: usize| {
            let now = start + Duration::from_millis(ms);
            (0..count).filter(|_| budget.take(bytes, now)).count()
        };
        assert_eq!(shown(1000, 0, 80), 100);
        assert_eq!(shown(1000, 499, 80), 0);
        assert_eq!(shown(1000, 500, 80), 1);
        assert_eq!(shown(1000, 2500, 80), 4);
        // The time does not go back, and a pause makes no more than one burst.
        assert_eq!(shown(1000, 0, 80), 0);
        assert_eq!(shown(1000, 10_000_000, 80), 100);
        // A long line takes the place of several; its debt is bounded by itself.
        assert_eq!(shown(1000, 20_000_000, 1000), 20);
        assert_eq!(shown(1000, 20_000_500, 100_000), 1);
    }

    #[test]
    fn hidden_lines_are_counted_by_kind_and_told_once() {
        let lines = PeerLines::new();
        let now = Instant::now();
        let is_shown = |kind| lines.admit(kind, b"line", now) == Admission::Shown;
        assert!((0..10_000).all(|_| is_shown(LineKind::Sent)), "no limit");
        lines.limit(1, now);
        let admit = |kind, count: u64| (0..count).filter(|_| is_shown(kind)).count() as u64;
        assert_eq!(admit(LineKind::Received, 60), u64::from(BURST_SECONDS));
        assert_eq!(admit(LineKind::Sent, 3) + admit(LineKind::Failed, 2), 0);
        assert_eq!(admit(LineKind::Log, 7), 0);
        assert_eq!(lines.hide(LineKind::Received), Admission::Hidden);
        assert!(lines.has_hidden());
        let summary: Vec<_> = lines.take_hidden().summary().collect();
        let expected = [
            (LineKind::Received, "received 11 more files, not shown".to_owned()),
            (LineKind::Sent, "sent 3 more files, not shown".to_owned()),
            (LineKind::Failed, "2 more transfers failed, not shown".to_owned()),
            (LineKind::Log, "7 more lines of the log, not shown".to_owned()),
        ];
        assert_eq!(summary, expected);
        assert!(!lines.has_hidden());
        assert_eq!(lines.take_hidden().summary().count(), 0);
        // A line of the log wakes nobody, so the first one about a file does.
        assert!(!is_shown(LineKind::Log));
        assert_eq!(lines.hide(LineKind::Failed), Admission::FirstHidden);
        assert_eq!(lines.hide(LineKind::Sent), Admission::Hidden);
    }
}
