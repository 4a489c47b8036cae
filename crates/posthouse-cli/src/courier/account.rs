//! What a courier did: a line for each file, and what it came to in the end.

use std::fmt::Display;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use posthouse::{Escaped, Progress};
use serde::Serialize;

use super::parcel::Way;
use super::screen::Screen;
use crate::failure::{Failure, Outcome};
use crate::quantity::Bytes;

/// What takes less says nothing of the line, but of the way to the disk and back.
const RATE_BYTES_MIN: u64 = 1 << 20;

/// What is written to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Nothing.
    Quiet,
    /// A line for each file.
    Lines,
    /// One JSON object a line.
    Json,
    /// One line at the end: meanwhile there are bars.
    Summary,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Everything was tried.
    Done,
    /// A person ended it.
    Interrupted,
    /// There never was a connection: why.
    NotBegun(String),
    /// The server cannot be reached any more, or cannot do it: why.
    GaveUp(String),
}

/// Everything that was carried, or not.
#[derive(Debug)]
pub(crate) struct Account {
    way: Way,
    style: Style,
    started: Instant,
    /// What there is to carry, as far as it is known beforehand.
    pub(crate) files_all: u64,
    pub(crate) bytes_all: u64,
    files: u64,
    failed: u64,
    skipped: u64,
    already: u64,
    bytes: u64,
    /// Of the files that did not get across, too.
    sent_bytes: u64,
    /// True once something failed for a reason that may pass: another attempt makes sense.
    pub(super) passing: bool,
}

/// A file that is over, as JSON.
#[derive(Debug, Serialize)]
struct Delivery<'a> {
    name: &'a str,
    bytes: u64,
    sent_bytes: u64,
    resumed_from: u64,
    /// True exactly when the receiver had all of it. Of a file without bytes it cannot be known.
    already_there: bool,
    blake3: Option<String>,
    seconds: f64,
    error: Option<&'a str>,
}

/// All of it, as JSON.
#[derive(Debug, Serialize)]
struct Total<'a> {
    files: u64,
    failed: u64,
    skipped: u64,
    /// Files that were not even tried, or did not come to an end.
    left: u64,
    bytes: u64,
    sent_bytes: u64,
    seconds: f64,
    interrupted: bool,
    error: Option<&'a str>,
}

impl Account {
    pub(crate) fn new(way: Way, style: Style) -> Self {
        Self {
            way,
            style,
            started: Instant::now(),
            files_all: 0,
            bytes_all: 0,
            files: 0,
            failed: 0,
            skipped: 0,
            already: 0,
            bytes: 0,
            sent_bytes: 0,
            passing: false,
        }
    }

    /// There is a file to carry.
    pub(crate) fn expect(&mut self, bytes: u64) {
        self.files_all += 1;
        self.bytes_all += bytes;
    }

    pub(crate) fn way(&self) -> Way {
        self.way
    }

    /// Files that are over, well or not, and the bytes of those that got across.
    pub(crate) fn over(&self) -> (u64, u64) {
        (self.files + self.failed, self.bytes)
    }

    /// A file got across, after this time.
    pub(crate) fn done(
        &mut self,
        screen: &Screen,
        progress: &Progress,
        hash: &[u8; 32],
        time: Duration,
    ) {
        let (bytes, resumed_from) = (progress.moved(), progress.resumed_from());
        let sent_bytes = sent_bytes(progress);
        self.files += 1;
        self.bytes += bytes;
        self.sent_bytes += sent_bytes;
        let already = bytes > 0 && sent_bytes == 0;
        self.already += u64::from(already);
        match self.style {
            Style::Quiet | Style::Summary => {}
            Style::Json => Self::json(
                screen,
                &Delivery {
                    name: progress.name(),
                    bytes,
                    sent_bytes,
                    resumed_from,
                    already_there: already,
                    blake3: Some(hex(hash)),
                    seconds: time.as_secs_f64(),
                    error: None,
                },
            ),
            Style::Lines => {
                let rate = match sent_bytes {
                    ..RATE_BYTES_MIN => String::new(),
                    _ => format!(", {}/s", Bytes(sent_bytes).per_second(time)),
                };
                let how = match (already, resumed_from) {
                    (true, _) => ", was there already".to_owned(),
                    (_, 0) => rate,
                    (_, from) => format!("{rate}, resumed at {}", Bytes(from)),
                };
                let (verb, name) = (self.way.done(), Escaped(progress.name()));
                screen.line(&format!("{verb} {name} ({}{how})", Bytes(bytes)));
            }
        }
    }

    /// A file did not get across.
    pub(crate) fn failed(
        &mut self,
        screen: &Screen,
        name: &str,
        progress: Option<(&Progress, Duration)>,
        why: impl Display,
    ) {
        self.failed += 1;
        self.sent_bytes += progress.map_or(0, |(progress, _)| sent_bytes(progress));
        let why = &*why.to_string();
        match self.style {
            Style::Json => Self::json_failure(screen, name, progress, why),
            _ => {
                screen.complain(&format!("not {}: {}: {why}", self.way.done(), Escaped(name)));
            }
        }
    }

    /// A file was begun, and is not finished.
    pub(crate) fn broken_off(
        &mut self,
        screen: &Screen,
        name: &str,
        progress: Option<&Progress>,
        why: &str,
    ) {
        self.sent_bytes += progress.map_or(0, sent_bytes);
        if self.style == Style::Json {
            let progress = progress.map(|progress| (progress, Duration::ZERO));
            return Self::json_failure(screen, name, progress, why);
        }
        let how_far = progress.and_then(|progress| {
            let (moved, size) = (Bytes(progress.moved()), Bytes(progress.size()?));
            Some(format!(" ({moved} of {size})"))
        });
        let how_far = how_far.unwrap_or_default();
        screen.complain(&format!("not finished: {}{how_far}", Escaped(name)));
    }

    fn json_failure(
        screen: &Screen,
        name: &str,
        progress: Option<(&Progress, Duration)>,
        why: &str,
    ) {
        let (bytes, sent_bytes, resumed_from) = progress.map_or((0, 0, 0), |(progress, _)| {
            (progress.size().unwrap_or(0), sent_bytes(progress), progress.resumed_from())
        });
        let delivery = Delivery {
            name,
            bytes,
            sent_bytes,
            resumed_from,
            already_there: false,
            blake3: None,
            seconds: progress.map_or(0.0, |(_, time)| time.as_secs_f64()),
            error: Some(why),
        };
        Self::json(screen, &delivery);
    }

    /// Something is left out, as it should be.
    pub(crate) fn skipped(&mut self, screen: &Screen, name: &str, why: &str) {
        self.skipped += 1;
        screen.remark(&format!("skipped: {}: {why}", Escaped(name)));
    }

    fn json(screen: &Screen, value: &impl Serialize) {
        let line = serde_json::to_string(value).expect("these values can be written as JSON");
        screen.line(&line);
    }

    /// The end: says what it came to, and gives it as the command's outcome. So many files are
    /// left that were not tried to the end.
    pub(crate) fn close(&self, screen: &mut Screen, end: &End, left: usize) -> Outcome {
        screen.clear();
        let left = left as u64;
        match self.style {
            Style::Quiet | Style::Lines => {}
            Style::Json => self.total(screen, end, left),
            Style::Summary => screen.line(&self.summary()),
        }
        let missing = self.failed + left;
        let (verb, all) = (self.way.done(), self.files + missing);
        let what = format!("{missing} of {} not {verb}", files(all));
        let again = "the same command goes on where this one stopped";
        match end {
            End::Done | End::Interrupted if missing == 0 => Ok(()),
            End::Done if self.passing => Err(Failure::runtime(format!(
                "{what}, for the reasons above; the same command tries again and carries only \
                 what is missing"
            ))),
            End::Done => Err(Failure::runtime(format!("{what}, for the reasons above"))),
            End::Interrupted => Err(Failure::interrupted(format!("interrupted: {what}; {again}"))),
            End::NotBegun(why) => Err(Failure::runtime(why)),
            End::GaveUp(why) if self.passing => {
                Err(Failure::runtime(format!("{why}; {what}; {again}")))
            }
            End::GaveUp(why) => Err(Failure::runtime(format!("{why}; {what}"))),
        }
    }

    fn total(&self, screen: &Screen, end: &End, left: u64) {
        let total = Total {
            files: self.files,
            failed: self.failed,
            skipped: self.skipped,
            left,
            bytes: self.bytes,
            sent_bytes: self.sent_bytes,
            seconds: self.started.elapsed().as_secs_f64(),
            interrupted: matches!(end, End::Interrupted),
            error: match end {
                End::NotBegun(why) | End::GaveUp(why) => Some(why),
                End::Done | End::Interrupted => None,
            },
        };
        Self::json(screen, &total);
    }

    fn summary(&self) -> String {
        let time = self.started.elapsed();
        let rate = Bytes(self.sent_bytes).per_second(time);
        let already = match self.already {
            0 => String::new(),
            count => format!("; {count} of them there already"),
        };
        format!(
            "{} {}, {} in {:.1} s ({rate}/s){already}",
            self.way.done(),
            files(self.files),
            Bytes(self.bytes),
            time.as_secs_f64()
        )
    }
}

/// The style that flags and the place of stdout ask for.
pub(crate) fn style(quiet: bool, json: bool, screen: &Screen) -> Style {
    match (quiet, json) {
        (true, _) => Style::Quiet,
        (_, true) => Style::Json,
        _ if screen.shows_bars() && io::stdout().is_terminal() => Style::Summary,
        _ => Style::Lines,
    }
}

/// What went over the line of a file.
fn sent_bytes(progress: &Progress) -> u64 {
    progress.moved().saturating_sub(progress.resumed_from())
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
