//! The terminal of a file client: its lines, and below them the progress bars.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use posthouse::{Escaped, TransferHandle};
use serde::Serialize;

use super::stdout;
use crate::failure::{CommandResult, Failure};

/// The maximum number of bars for single files. Other files count in the total only.
const MAX_FILE_BARS: usize = 8;
/// The time after which a transfer gets a bar: a shorter one would only flicker.
const MIN_SHOWN_TIME: Duration = Duration::from_millis(300);

const TOTAL_BAR: &str = "{prefix:24!} {wide_bar} {binary_bytes:>10} of {binary_total_bytes:<10} \
                         {binary_bytes_per_sec:>12} {eta:>4}";
const FILE_BAR: &str = "  {prefix:22!} {wide_bar:.dim} {binary_bytes:>10} of \
                        {binary_total_bytes:<10} {binary_bytes_per_sec:>12} {eta:>4}";

/// The lines on stdout and stderr. All clones share the screen with the same progress bars.
#[derive(Clone, Debug)]
pub(crate) struct Terminal {
    bars: MultiProgress,
    output: Output,
    /// The first failure to write to stdout.
    stdout_failure: Arc<OnceLock<Failure>>,
}

/// The choice of what the program shows on stderr, besides the results on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// Shows errors and nothing else.
    Errors,
    /// Shows errors and other messages.
    Messages,
    /// Shows errors, other messages, and progress bars.
    Bars,
}

impl Terminal {
    /// Makes a terminal for all messages. It has progress bars if stderr is a terminal.
    pub(crate) fn new() -> Self {
        let output = if io::stderr().is_terminal() { Output::Bars } else { Output::Messages };
        Self::with(output)
    }

    /// Makes a terminal for errors only.
    pub(crate) fn quiet() -> Self {
        Self::with(Output::Errors)
    }

    fn with(output: Output) -> Self {
        Self { bars: MultiProgress::new(), output, stdout_failure: Arc::default() }
    }

    pub(crate) fn shows_bars(&self) -> bool {
        self.output == Output::Bars
    }

    /// Writes a line to stdout, and keeps the failure to do so.
    pub(crate) fn line(&self, line: &str) {
        self.write(|| stdout::write(&format!("{line}\n")));
    }

    /// Writes a value to stdout, as one line of JSON, and keeps the failure to do so.
    pub(crate) fn json(&self, value: &impl Serialize) {
        self.write(|| stdout::write_json_line(value));
    }

    fn write(&self, write: impl FnOnce() -> CommandResult) {
        if let Err(failure) = self.bars.suspend(write) {
            // Later failures have the same cause.
            let _ = self.stdout_failure.set(failure);
        }
    }

    /// Returns the first failure to write to stdout.
    pub(crate) fn stdout_failure(&self) -> Option<&Failure> {
        self.stdout_failure.get()
    }

    /// Writes an error to stderr. If stderr is closed the line is lost.
    pub(crate) fn error(&self, line: &str) {
        self.bars.suspend(|| drop(writeln!(io::stderr(), "{line}")));
    }

    /// Writes a message that is not an error to stderr, unless the terminal is quiet.
    pub(crate) fn info(&self, line: &str) {
        if self.output != Output::Errors {
            self.error(line);
        }
    }
}

/// The progress bars of a run. They show nothing if stderr is not a terminal.
#[derive(Debug)]
pub(crate) struct ProgressBars {
    terminal: Terminal,
    /// The bar of all files, if their sizes are known.
    total: Option<ProgressBar>,
    files: BTreeMap<u64, ProgressBar>,
}

/// The progress of all files together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TotalProgress {
    pub(crate) finished_files: u64,
    pub(crate) expected_files: u64,
    pub(crate) transferred_bytes: u64,
    pub(crate) expected_bytes: u64,
}

/// The progress of a file in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileProgress<'a> {
    /// The number of its job, which identifies its bar.
    pub(crate) number: u64,
    /// The time since its transfer started.
    pub(crate) time: Duration,
    pub(crate) handle: &'a TransferHandle,
}

impl ProgressBars {
    pub(crate) fn new(terminal: Terminal) -> Self {
        Self { terminal, total: None, files: BTreeMap::new() }
    }

    /// Shows the progress of all files in bytes, and the number of finished ones.
    pub(crate) fn show_total(&mut self, progress: TotalProgress) {
        if !self.terminal.shows_bars() {
            return;
        }
        let TotalProgress { finished_files, expected_files, transferred_bytes, expected_bytes } =
            progress;
        let bars = &self.terminal.bars;
        let total = self.total.get_or_insert_with(|| {
            bars.insert(0, ProgressBar::new(expected_bytes).with_style(style(TOTAL_BAR)))
        });
        total.set_length(expected_bytes);
        total.set_position(transferred_bytes);
        total.set_prefix(format!("{finished_files} of {expected_files} files"));
    }

    /// Shows the progress of the files in flight, and removes the bars of all others.
    pub(crate) fn show_files(&mut self, in_flight: &[FileProgress<'_>]) {
        if !self.terminal.shows_bars() {
            return;
        }
        let bars = &self.terminal.bars;
        let mut before = std::mem::take(&mut self.files);
        for FileProgress { number, time, handle } in in_flight {
            let Some(size) = handle.size() else { continue };
            if *time < MIN_SHOWN_TIME || self.files.len() == MAX_FILE_BARS {
                continue;
            }
            let bar = before.remove(number).unwrap_or_else(|| {
                let name = Escaped(handle.name()).to_string();
                let bar = ProgressBar::new(size).with_style(style(FILE_BAR));
                bars.add(bar.with_prefix(name).with_position(handle.resumed_from()))
            });
            bar.set_position(handle.transferred_bytes());
            self.files.insert(*number, bar);
        }
        for bar in before.into_values() {
            bar.finish_and_clear();
            bars.remove(&bar);
        }
    }

    /// Removes all bars.
    pub(crate) fn clear(&mut self) {
        self.show_files(&[]);
        if let Some(total) = self.total.take() {
            total.finish_and_clear();
            self.terminal.bars.remove(&total);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_of_the_bars_are_valid() {
        for template in [TOTAL_BAR, FILE_BAR] {
            style(template);
        }
    }
}
