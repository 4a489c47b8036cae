//! The report of a run: a line for each file, the sums at the end, and the result of the command.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use posthouse::{Escaped, TransferHandle};
use serde::Serialize;

use super::client::{GaveUp, NotListed};
use super::run::RunEnd;
use crate::failure::{CommandResult, Failure};
use crate::peer_lines::{Admission, DEFAULT_LINES_PER_SECOND, LineKind, PeerLines};
use crate::term::terminal::{FileProgress, ProgressBars, Terminal, TotalProgress};
use crate::term::units::ByteSize;

/// The minimum size of a transfer with a rate. The time of a smaller one depends on the disks
/// rather than on the network.
const MIN_RATE_BYTES: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Files go from this machine to the server.
    Send,
    /// Files go from the server to this machine.
    Get,
}

impl Direction {
    /// Returns the participle for messages about a file.
    fn participle(self) -> &'static str {
        match self {
            Direction::Send => "sent",
            Direction::Get => "received",
        }
    }
}

/// The form of the report on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReportStyle {
    /// No output.
    Quiet,
    /// A line for each file.
    Lines,
    /// One JSON object per line.
    Json,
    /// Progress bars, and one line at the end.
    Summary,
}

/// The last attempt to transfer a file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempt<'a> {
    pub(super) progress: Option<&'a TransferHandle>,
    /// The time that the attempt took; 0 for a file that the end of the run cut short.
    pub(super) time: Duration,
}

impl Attempt<'_> {
    /// Returns the size of the file, or 0 if it is unknown.
    fn size(&self) -> u64 {
        self.progress.and_then(TransferHandle::size).unwrap_or(0)
    }

    fn transferred_bytes(&self) -> u64 {
        self.progress.map_or(0, TransferHandle::transferred_bytes)
    }

    fn resumed_from(&self) -> u64 {
        self.progress.map_or(0, TransferHandle::resumed_from)
    }

    /// Returns the number of bytes that this attempt moved.
    fn sent_bytes(&self) -> u64 {
        self.transferred_bytes().saturating_sub(self.resumed_from())
    }
}

/// The end of a file in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileEnd<'a> {
    /// The file was transferred, and has this hash.
    Transferred(&'a [u8; 32]),
    /// The file failed for good, for this reason.
    Failed(String),
    /// The file failed for this reason, which may be gone in a later run.
    FailedForNow(String),
    /// The run ended before the file was transferred, for the reason `why`. An attempt may have
    /// failed before, for another reason.
    Unfinished { why: &'a str, last_failure: Option<&'a str> },
}

impl FileEnd<'_> {
    /// Returns the end of a file that failed for this reason.
    pub(super) fn failed(why: String, may_succeed_later: bool) -> Self {
        if may_succeed_later { Self::FailedForNow(why) } else { Self::Failed(why) }
    }
}

/// The files that have ended so far, and the form in which they are reported.
#[derive(Debug)]
pub(crate) struct TransferReport {
    direction: Direction,
    style: ReportStyle,
    terminal: Terminal,
    bars: ProgressBars,
    /// The limit on the lines about failed transfers: a server can cause any number of them.
    failure_lines: PeerLines,
    started: Instant,
    counts: Counts,
    /// The failure besides those of single files that did not end the run.
    noted: Option<Failure>,
}

/// The sums of a report. The fields without `skip` are those of the last JSON line.
#[derive(Debug, Default, Serialize)]
struct Counts {
    /// The number of files that were transferred.
    files: u64,
    failed: u64,
    skipped: u64,
    /// The number of files that were not tried to the end.
    left: u64,
    bytes: u64,
    /// The number of bytes that were moved, including those of failed and unfinished files.
    sent_bytes: u64,
    /// The number of files to transfer, as far as they are known beforehand.
    #[serde(skip)]
    expected_files: u64,
    #[serde(skip)]
    expected_bytes: u64,
    /// True exactly when not all files are known at the end of the run.
    #[serde(skip)]
    has_unknown: bool,
    /// The number of transferred files that the receiver already had.
    #[serde(skip)]
    already_there: u64,
    /// The number of failed files that may succeed in a later run.
    #[serde(skip)]
    failed_for_now: u64,
    /// True exactly when the server did not list files, and may list them in a later run.
    #[serde(skip)]
    is_unlisted_for_now: bool,
}

/// The JSON line of a file.
#[derive(Debug, Serialize)]
struct FileLine<'a> {
    name: &'a str,
    bytes: u64,
    sent_bytes: u64,
    resumed_from: u64,
    /// True exactly when the receiver had the whole file. It is false for an empty file, about
    /// which nothing is known.
    already_there: bool,
    blake3: Option<String>,
    /// The number of the delivery, the same in every attempt.
    delivery: Option<String>,
    seconds: f64,
    error: Option<Cow<'a, str>>,
}

/// The JSON line of all files together.
#[derive(Debug, Serialize)]
struct TotalLine<'a> {
    #[serde(flatten)]
    counts: &'a Counts,
    seconds: f64,
    interrupted: bool,
    error: Option<String>,
}

impl TransferReport {
    pub(super) fn new(direction: Direction, style: ReportStyle, terminal: Terminal) -> Self {
        let bars = ProgressBars::new(terminal.clone());
        let started = Instant::now();
        let failure_lines = PeerLines::new();
        failure_lines.limit(DEFAULT_LINES_PER_SECOND, started);
        let counts = Counts::default();
        let noted = None;
        Self { direction, style, terminal, bars, failure_lines, started, counts, noted }
    }

    /// Replaces the summary by lines, for a run that goes on until an interruption.
    pub(crate) fn without_summary(mut self) -> Self {
        if self.style == ReportStyle::Summary {
            self.style = ReportStyle::Lines;
        }
        self
    }

    pub(crate) fn terminal(&self) -> &Terminal {
        &self.terminal
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    pub(super) fn shows_bars(&self) -> bool {
        self.terminal.shows_bars()
    }

    // ---- files ----

    /// Announces a file to transfer.
    pub(crate) fn expect_file(&mut self, bytes: u64) {
        self.counts.expected_files += 1;
        // The sizes are those that a server lists.
        self.counts.expected_bytes = self.counts.expected_bytes.saturating_add(bytes);
    }

    /// Adds a file that is skipped on purpose.
    pub(crate) fn skipped(&mut self, name: &str, why: &str) {
        self.counts.skipped += 1;
        self.terminal.info(&format!("skipped: {}: {why}", Escaped(name)));
    }

    /// Adds a file that failed without an attempt.
    pub(crate) fn failed(&mut self, name: &str, why: &str) {
        self.add(name, &Attempt::default(), &FileEnd::Failed(why.to_owned()));
    }

    /// Adds a name that was not found, because the server did not list its files.
    pub(crate) fn failed_lookup(&mut self, name: &str, why: NotListed) {
        self.expect_file(0);
        self.add_unknown();
        let end = FileEnd::failed(why.why, why.may_succeed_later);
        self.add_end(name, &Attempt::default(), &end, true);
    }

    /// Notes a failure that did not end the run, and is not that of a single file.
    pub(super) fn note(&mut self, failure: Failure) {
        self.noted = Some(match self.noted.take() {
            None => failure,
            Some(noted) => noted.with(Some(failure)),
        });
    }

    /// Adds the number of files that were not even started.
    pub(super) fn add_untried(&mut self, count: usize) {
        self.counts.left += count as u64;
    }

    /// Notes that not all files will be known at the end of the run.
    pub(super) fn add_unknown(&mut self) {
        self.counts.has_unknown = true;
    }

    /// Notes that the server did not list all files, and may list them in a later run.
    pub(crate) fn add_unlisted_for_now(&mut self) {
        self.counts.is_unlisted_for_now = true;
    }

    /// Adds a file that has ended, with its last attempt.
    pub(super) fn add(&mut self, name: &str, attempt: &Attempt<'_>, end: &FileEnd<'_>) {
        // No peer has caused the failure of a file without an attempt.
        self.add_end(name, attempt, end, attempt.progress.is_some());
    }

    fn add_end(&mut self, name: &str, attempt: &Attempt<'_>, end: &FileEnd<'_>, is_of_peer: bool) {
        let counts = &mut self.counts;
        counts.sent_bytes = counts.sent_bytes.saturating_add(attempt.sent_bytes());
        match end {
            FileEnd::Transferred(_) => {
                counts.files += 1;
                counts.bytes = counts.bytes.saturating_add(attempt.transferred_bytes());
                counts.already_there += u64::from(was_there_already(attempt));
            }
            FileEnd::Failed(_) => counts.failed += 1,
            FileEnd::FailedForNow(_) => {
                counts.failed += 1;
                counts.failed_for_now += 1;
            }
            FileEnd::Unfinished { .. } => counts.left += 1,
        }
        match (end, self.style) {
            (_, ReportStyle::Json) => self.terminal.json(&FileLine::new(name, attempt, end)),
            (FileEnd::Transferred(_), ReportStyle::Lines) => {
                self.terminal.line(&self.line(name, attempt));
            }
            (FileEnd::Transferred(_), ReportStyle::Quiet | ReportStyle::Summary) => {}
            (FileEnd::Failed(why) | FileEnd::FailedForNow(why), _) => {
                let verb = self.direction.participle();
                let line = format!("not {verb}: {}: {why}", Escaped(name));
                self.show_failure(&line, is_of_peer);
            }
            (FileEnd::Unfinished { last_failure, .. }, _) => {
                let size = attempt.progress.and_then(TransferHandle::size);
                let how_far = size.map_or_else(String::new, |size| {
                    let moved = ByteSize(attempt.transferred_bytes());
                    format!(" ({moved} of {})", ByteSize(size))
                });
                let name = Escaped(name);
                let earlier = earlier_failure(*last_failure);
                self.terminal.error(&format!("not finished: {name}{how_far}{earlier}"));
            }
        }
    }

    /// Shows a line about a file that failed. If there are too many that peers have caused, it is
    /// only counted.
    fn show_failure(&self, line: &str, is_of_peer: bool) {
        let lines = &self.failure_lines;
        let admit = || lines.admit(LineKind::Failed, line.as_bytes(), Instant::now());
        if !is_of_peer || admit() == Admission::Shown {
            self.show_hidden_failures();
            self.terminal.error(line);
        }
    }

    /// Shows the number of failures that have no line.
    fn show_hidden_failures(&self) {
        for (_, line) in self.failure_lines.take_hidden().summary() {
            self.terminal.error(&line);
        }
    }

    /// Returns the line of a file that was transferred.
    fn line(&self, name: &str, attempt: &Attempt<'_>) -> String {
        let sent_bytes = attempt.sent_bytes();
        let rate = match sent_bytes {
            ..MIN_RATE_BYTES => String::new(),
            _ => format!(", {}/s", ByteSize(sent_bytes).per_second(attempt.time)),
        };
        let how = match attempt.resumed_from() {
            _ if was_there_already(attempt) => ", was already there".to_owned(),
            0 => rate,
            from => format!("{rate}, resumed at {}", ByteSize(from)),
        };
        let verb = self.direction.participle();
        let size = ByteSize(attempt.transferred_bytes());
        format!("{verb} {} ({size}{how})", Escaped(name))
    }

    /// Shows the progress of the files in flight, and of all files if they are known.
    pub(super) fn show(&mut self, in_flight: &[FileProgress<'_>]) {
        if self.counts.expected_files > 0 {
            let moving = in_flight.iter().map(|file| file.handle.transferred_bytes());
            self.bars.show_total(TotalProgress {
                finished_files: self.counts.files + self.counts.failed,
                expected_files: self.counts.expected_files,
                transferred_bytes: moving.fold(self.counts.bytes, u64::saturating_add),
                expected_bytes: self.counts.expected_bytes,
            });
        }
        self.bars.show_files(in_flight);
    }

    // ---- the end ----

    /// Ends the report, and returns the result of the command.
    pub(crate) fn close(&mut self, end: &RunEnd) -> CommandResult {
        let result = self.show_end(end);
        match (result, self.terminal.stdout_failure()) {
            (result, None) => result,
            (Ok(()), Some(failure)) => Err(failure.clone()),
            (Err(result), failure) => Err(result.with(failure)),
        }
    }

    fn show_end(&mut self, end: &RunEnd) -> CommandResult {
        self.bars.clear();
        self.show_hidden_failures();
        let missing = self.counts.failed + self.counts.left;
        let all = self.counts.files + missing;
        match self.style {
            ReportStyle::Quiet | ReportStyle::Lines => {}
            ReportStyle::Json => self.terminal.json(&self.total(end)),
            // The failure says everything.
            ReportStyle::Summary if all == 0 && matches!(end, RunEnd::NotAllFound(_)) => {}
            ReportStyle::Summary => self.terminal.line(&self.summary()),
        }
        let is_all = missing == 0 && !self.counts.has_unknown;
        // If it is the only failure of an interrupted run, it is the result.
        let is_result = is_all && matches!(end, RunEnd::Interrupted);
        if let (Some(noted), false) = (&self.noted, is_result) {
            self.terminal.error(&noted.to_string());
        }
        let verb = self.direction.participle();
        let mut what = format!("{missing} of {} not {verb}", files(all));
        if self.counts.has_unknown {
            what.push_str(", and the server's list was not read to its end");
        }
        let for_reasons = "for the reasons above";
        let again = "; run the same command again to resume";
        let may_succeed_later = self.counts.failed_for_now > 0 || self.counts.is_unlisted_for_now;
        let again_if_later = if may_succeed_later { again } else { "" };
        match end {
            RunEnd::NotAllFound(failure) if missing == 0 && !may_succeed_later => {
                Err(failure.clone())
            }
            RunEnd::NotAllFound(failure) if missing == 0 => {
                Err(Failure::runtime(format!("{failure}{again}")))
            }
            RunEnd::NotAllFound(failure) => {
                let text = format!("{failure}; {what}, {for_reasons}{again_if_later}");
                Err(Failure::runtime(text))
            }
            RunEnd::Complete if missing == 0 => Ok(()),
            RunEnd::Interrupted if is_all => self.noted.take().map_or(Ok(()), Err),
            RunEnd::Complete => {
                Err(Failure::runtime(format!("{what}, {for_reasons}{again_if_later}")))
            }
            RunEnd::Interrupted => Err(Failure::interrupted(format!("interrupted: {what}{again}"))),
            RunEnd::GaveUp(GaveUp::NeverConnected(why)) => Err(Failure::runtime(why)),
            RunEnd::GaveUp(GaveUp::ForGood(why)) => {
                Err(Failure::runtime(format!("{why}; {what}{again_if_later}")))
            }
            RunEnd::GaveUp(GaveUp::Lost(why)) => {
                Err(Failure::runtime(format!("{why}; {what}{again}")))
            }
        }
    }

    fn total<'a>(&'a self, end: &'a RunEnd) -> TotalLine<'a> {
        TotalLine {
            counts: &self.counts,
            seconds: self.started.elapsed().as_secs_f64(),
            interrupted: matches!(end, RunEnd::Interrupted),
            error: match end {
                RunEnd::GaveUp(gave_up) => Some(gave_up.why().into()),
                RunEnd::NotAllFound(failure) => Some(failure.to_string()),
                RunEnd::Interrupted => self.noted.as_ref().map(Failure::to_string),
                RunEnd::Complete => None,
            },
        }
    }

    fn summary(&self) -> String {
        let time = self.started.elapsed();
        let rate = ByteSize(self.counts.sent_bytes).per_second(time);
        let already_there = match self.counts.already_there {
            0 => String::new(),
            count => format!("; {count} of them were already there"),
        };
        format!(
            "{} {}, {} in {:.1} s ({rate}/s){already_there}",
            self.direction.participle(),
            files(self.counts.files),
            ByteSize(self.counts.bytes),
            time.as_secs_f64()
        )
    }
}

impl<'a> FileLine<'a> {
    fn new(name: &'a str, attempt: &Attempt<'_>, end: &'a FileEnd<'_>) -> Self {
        let line = Self {
            name,
            bytes: attempt.size(),
            sent_bytes: attempt.sent_bytes(),
            resumed_from: attempt.resumed_from(),
            already_there: false,
            blake3: None,
            delivery: attempt
                .progress
                .and_then(TransferHandle::delivery_id)
                .map(|id| id.to_string()),
            seconds: attempt.time.as_secs_f64(),
            error: None,
        };
        match end {
            FileEnd::Transferred(hash) => Self {
                bytes: attempt.transferred_bytes(),
                already_there: was_there_already(attempt),
                blake3: Some(hex(*hash)),
                ..line
            },
            FileEnd::Failed(why) | FileEnd::FailedForNow(why) => {
                Self { error: Some(why.into()), ..line }
            }
            FileEnd::Unfinished { why, last_failure } => {
                let error = format!("{why}{}", earlier_failure(*last_failure));
                Self { error: Some(error.into()), ..line }
            }
        }
    }
}

/// Returns the end of a message about a file that was not finished.
fn earlier_failure(why: Option<&str>) -> String {
    why.map_or_else(String::new, |why| format!("; an earlier attempt failed: {why}"))
}

/// Returns true if the receiver already had the whole of a transferred file.
fn was_there_already(attempt: &Attempt<'_>) -> bool {
    attempt.transferred_bytes() > 0 && attempt.sent_bytes() == 0
}

fn files(count: u64) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_run_that_has_noted_a_failure_is_no_success() {
        let failure = || Failure::runtime("1 invalid name in the list was left out: a");
        let close = |noted: Option<Failure>| {
            let terminal = Terminal::quiet();
            let mut report = TransferReport::new(Direction::Get, ReportStyle::Quiet, terminal);
            if let Some(failure) = noted {
                report.note(failure);
            }
            report.close(&RunEnd::Interrupted)
        };
        assert_eq!(close(None), Ok(()));
        assert_eq!(close(Some(failure())), Err(failure()));
    }
}
