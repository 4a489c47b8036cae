//! The report of a run: a line for each file, and the sums at the end.

use std::fmt::Display;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use posthouse::TransferHandle;
use serde::Serialize;

use super::jobs::Direction;
use super::run::RunEnd;
use crate::failure::{CommandResult, Failure};
use crate::term::terminal::Terminal;
use crate::term::units::ByteSize;
use posthouse::Escaped;

/// A smaller transfer shows no rate: its time is that of the disks, not of the network.
const MIN_RATE_BYTES: u64 = 1 << 20;

/// The form of the report on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportStyle {
    /// Nothing.
    Quiet,
    /// A line for each file.
    Lines,
    /// One JSON object a line.
    Json,
    /// Bars meanwhile, and one line at the end.
    Summary,
}

impl ReportStyle {
    /// The style for these flags; without any, it depends on whether stdout is a terminal.
    pub(super) fn new(quiet: bool, json: bool, terminal: &Terminal) -> Self {
        match (quiet, json) {
            (true, _) => Self::Quiet,
            (_, true) => Self::Json,
            _ if terminal.shows_bars() && io::stdout().is_terminal() => Self::Summary,
            _ => Self::Lines,
        }
    }
}

/// The files that were transferred or failed so far, and the form in which they are reported.
#[derive(Debug)]
pub(crate) struct TransferReport {
    direction: Direction,
    style: ReportStyle,
    started: Instant,
    /// The files to transfer, as far as they are known beforehand.
    pub(super) expected_files: u64,
    pub(super) expected_bytes: u64,
    files: u64,
    failed: u64,
    skipped: u64,
    already_there: u64,
    bytes: u64,
    /// The bytes sent, those of failed files included.
    sent_bytes: u64,
    /// True once a failure was transient, so that running the command again may help.
    pub(super) retry_may_help: bool,
}

/// The JSON line of a file.
#[derive(Debug, Serialize)]
struct FileLine<'a> {
    name: &'a str,
    bytes: u64,
    sent_bytes: u64,
    resumed_from: u64,
    /// True exactly when the receiver had the whole file; unknown, and false, for an empty file.
    already_there: bool,
    blake3: Option<String>,
    seconds: f64,
    error: Option<&'a str>,
}

/// The JSON line of all files together.
#[derive(Debug, Serialize)]
struct TotalLine<'a> {
    files: u64,
    failed: u64,
    skipped: u64,
    /// Files that were not tried to the end.
    left: u64,
    bytes: u64,
    sent_bytes: u64,
    seconds: f64,
    interrupted: bool,
    error: Option<&'a str>,
}

impl TransferReport {
    pub(crate) fn new(direction: Direction, style: ReportStyle) -> Self {
        Self {
            direction,
            style,
            started: Instant::now(),
            expected_files: 0,
            expected_bytes: 0,
            files: 0,
            failed: 0,
            skipped: 0,
            already_there: 0,
            bytes: 0,
            sent_bytes: 0,
            retry_may_help: false,
        }
    }

    /// Announces a file to transfer.
    pub(crate) fn expect_file(&mut self, bytes: u64) {
        self.expected_files += 1;
        self.expected_bytes += bytes;
    }

    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    /// The number of files that were transferred or failed, and the bytes of the former.
    pub(crate) fn finished(&self) -> (u64, u64) {
        (self.files + self.failed, self.bytes)
    }

    /// Adds a file that was transferred in this time.
    pub(crate) fn done(
        &mut self,
        terminal: &Terminal,
        progress: &TransferHandle,
        hash: &[u8; 32],
        time: Duration,
    ) {
        let (bytes, resumed_from) = (progress.transferred_bytes(), progress.resumed_from());
        let sent_bytes = sent_bytes(progress);
        self.files += 1;
        self.bytes += bytes;
        self.sent_bytes += sent_bytes;
        let already_there = bytes > 0 && sent_bytes == 0;
        self.already_there += u64::from(already_there);
        match self.style {
            ReportStyle::Quiet | ReportStyle::Summary => {}
            ReportStyle::Json => Self::write_json(
                terminal,
                &FileLine {
                    name: progress.name(),
                    bytes,
                    sent_bytes,
                    resumed_from,
                    already_there,
                    blake3: Some(hex(hash)),
                    seconds: time.as_secs_f64(),
                    error: None,
                },
            ),
            ReportStyle::Lines => {
                let rate = match sent_bytes {
                    ..MIN_RATE_BYTES => String::new(),
                    _ => format!(", {}/s", ByteSize(sent_bytes).per_second(time)),
                };
                let how = match (already_there, resumed_from) {
                    (true, _) => ", was there already".to_owned(),
                    (_, 0) => rate,
                    (_, from) => format!("{rate}, resumed at {}", ByteSize(from)),
                };
                let (verb, name) = (self.direction.participle(), Escaped(progress.name()));
                terminal.line(&format!("{verb} {name} ({}{how})", ByteSize(bytes)));
            }
        }
    }

    /// Adds a file that could not be transferred.
    pub(crate) fn failed(
        &mut self,
        terminal: &Terminal,
        name: &str,
        progress: Option<(&TransferHandle, Duration)>,
        why: impl Display,
    ) {
        self.failed += 1;
        self.sent_bytes += progress.map_or(0, |(progress, _)| sent_bytes(progress));
        let why = &*why.to_string();
        match self.style {
            ReportStyle::Json => Self::write_json_failure(terminal, name, progress, why),
            _ => {
                terminal.error(&format!(
                    "not {}: {}: {why}",
                    self.direction.participle(),
                    Escaped(name)
                ));
            }
        }
    }

    /// Adds a file whose transfer was started and not finished.
    pub(crate) fn unfinished(
        &mut self,
        terminal: &Terminal,
        name: &str,
        progress: Option<&TransferHandle>,
        why: &str,
    ) {
        self.sent_bytes += progress.map_or(0, sent_bytes);
        if self.style == ReportStyle::Json {
            let progress = progress.map(|progress| (progress, Duration::ZERO));
            return Self::write_json_failure(terminal, name, progress, why);
        }
        let how_far = progress.and_then(|progress| {
            let (moved, size) =
                (ByteSize(progress.transferred_bytes()), ByteSize(progress.size()?));
            Some(format!(" ({moved} of {size})"))
        });
        let how_far = how_far.unwrap_or_default();
        terminal.error(&format!("not finished: {}{how_far}", Escaped(name)));
    }

    fn write_json_failure(
        terminal: &Terminal,
        name: &str,
        progress: Option<(&TransferHandle, Duration)>,
        why: &str,
    ) {
        let (bytes, sent_bytes, resumed_from) = progress.map_or((0, 0, 0), |(progress, _)| {
            (progress.size().unwrap_or(0), sent_bytes(progress), progress.resumed_from())
        });
        let line = FileLine {
            name,
            bytes,
            sent_bytes,
            resumed_from,
            already_there: false,
            blake3: None,
            seconds: progress.map_or(0.0, |(_, time)| time.as_secs_f64()),
            error: Some(why),
        };
        Self::write_json(terminal, &line);
    }

    /// Adds a file that is left out on purpose.
    pub(crate) fn skipped(&mut self, terminal: &Terminal, name: &str, why: &str) {
        self.skipped += 1;
        terminal.info(&format!("skipped: {}: {why}", Escaped(name)));
    }

    fn write_json(terminal: &Terminal, value: &impl Serialize) {
        let line = serde_json::to_string(value).expect("these values can be written as JSON");
        terminal.line(&line);
    }

    /// Ends the report, with the number of files that were not tried to the end, and returns the
    /// result of the command.
    pub(crate) fn close(
        &self,
        terminal: &mut Terminal,
        end: &RunEnd,
        left: usize,
    ) -> CommandResult {
        terminal.clear();
        let left = left as u64;
        match self.style {
            ReportStyle::Quiet | ReportStyle::Lines => {}
            ReportStyle::Json => self.write_json_total(terminal, end, left),
            ReportStyle::Summary => terminal.line(&self.summary()),
        }
        let missing = self.failed + left;
        let (verb, all) = (self.direction.participle(), self.files + missing);
        let what = format!("{missing} of {} not {verb}", files(all));
        let again = "the same command goes on where this one stopped";
        match end {
            RunEnd::Complete | RunEnd::Interrupted if missing == 0 => Ok(()),
            RunEnd::Complete if self.retry_may_help => Err(Failure::runtime(format!(
                "{what}, for the reasons above; the same command tries again and carries only \
                 what is missing"
            ))),
            RunEnd::Complete => Err(Failure::runtime(format!("{what}, for the reasons above"))),
            RunEnd::Interrupted => {
                Err(Failure::interrupted(format!("interrupted: {what}; {again}")))
            }
            RunEnd::NeverConnected(why) => Err(Failure::runtime(why)),
            RunEnd::GaveUp(why) if self.retry_may_help => {
                Err(Failure::runtime(format!("{why}; {what}; {again}")))
            }
            RunEnd::GaveUp(why) => Err(Failure::runtime(format!("{why}; {what}"))),
        }
    }

    fn write_json_total(&self, terminal: &Terminal, end: &RunEnd, left: u64) {
        let total = TotalLine {
            files: self.files,
            failed: self.failed,
            skipped: self.skipped,
            left,
            bytes: self.bytes,
            sent_bytes: self.sent_bytes,
            seconds: self.started.elapsed().as_secs_f64(),
            interrupted: matches!(end, RunEnd::Interrupted),
            error: match end {
                RunEnd::NeverConnected(why) | RunEnd::GaveUp(why) => Some(why),
                RunEnd::Complete | RunEnd::Interrupted => None,
            },
        };
        Self::write_json(terminal, &total);
    }

    fn summary(&self) -> String {
        let time = self.started.elapsed();
        let rate = ByteSize(self.sent_bytes).per_second(time);
        let already_there = match self.already_there {
            0 => String::new(),
            count => format!("; {count} of them there already"),
        };
        format!(
            "{} {}, {} in {:.1} s ({rate}/s){already_there}",
            self.direction.participle(),
            files(self.files),
            ByteSize(self.bytes),
            time.as_secs_f64()
        )
    }
}

/// The bytes of a file that were sent in this transfer.
fn sent_bytes(progress: &TransferHandle) -> u64 {
    progress.transferred_bytes().saturating_sub(progress.resumed_from())
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
