//! The terminal of a file client: its lines, and beneath them the progress bars.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use posthouse::TransferHandle;

use posthouse::Escaped;

/// The number of bars for single files; other files count in the total only.
const MAX_FILE_BARS: usize = 8;
/// A transfer that takes less gets no bar, which would only flicker.
const MIN_SHOWN_TIME: Duration = Duration::from_millis(300);

const TOTAL_BAR: &str = "{prefix:24!} {wide_bar} {binary_bytes:>10} of {binary_total_bytes:<10} \
                         {binary_bytes_per_sec:>12} {eta:>4}";
const FILE_BAR: &str = "  {prefix:22!} {wide_bar:.dim} {binary_bytes:>10} of \
                        {binary_total_bytes:<10} {binary_bytes_per_sec:>12} {eta:>4}";

/// Lines to stdout and stderr, and progress bars if stderr is a terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    bars: MultiProgress,
    /// The bar of all files, if their sizes are known.
    total: Option<ProgressBar>,
    files: BTreeMap<u64, ProgressBar>,
    shows_bars: bool,
    quiet: bool,
}

impl Terminal {
    /// Bars are shown on a terminal only, and never with `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        let shows_bars = !quiet && io::stderr().is_terminal();
        Self { bars: MultiProgress::new(), total: None, files: BTreeMap::new(), shows_bars, quiet }
    }

    pub(crate) fn shows_bars(&self) -> bool {
        self.shows_bars
    }

    /// Writes a line to stdout. A closed pipe is not a failure.
    pub(crate) fn line(&self, line: &str) {
        self.bars.suspend(|| {
            let mut stdout = io::stdout().lock();
            let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
        });
    }

    /// Writes an error to stderr. If stderr is closed the line is lost.
    pub(crate) fn error(&self, line: &str) {
        self.bars.suspend(|| drop(writeln!(io::stderr(), "{line}")));
    }

    /// Writes a line to stderr that is no error, unless the user asked for quiet.
    pub(crate) fn info(&self, line: &str) {
        if !self.quiet {
            self.error(line);
        }
    }

    /// Shows the progress of all files in bytes, and the number of finished ones.
    pub(crate) fn show_total(
        &mut self,
        (files, files_all): (u64, u64),
        moved: u64,
        bytes_all: u64,
    ) {
        if !self.shows_bars {
            return;
        }
        let total = self.total.get_or_insert_with(|| {
            self.bars.insert(0, ProgressBar::new(bytes_all).with_style(style(TOTAL_BAR)))
        });
        total.set_length(bytes_all);
        total.set_position(moved);
        total.set_prefix(format!("{files} of {files_all} files"));
    }

    /// Shows the progress of the files in flight: for each its number, the time since it started
    /// and its progress.
    pub(crate) fn show_files<'a>(
        &mut self,
        in_flight: impl Iterator<Item = (u64, Duration, &'a TransferHandle)>,
    ) {
        if !self.shows_bars {
            return;
        }
        let mut before = std::mem::take(&mut self.files);
        for (number, time, progress) in in_flight {
            let Some(size) = progress.size() else { continue };
            if time < MIN_SHOWN_TIME || self.files.len() == MAX_FILE_BARS {
                continue;
            }
            let bar = before.remove(&number).unwrap_or_else(|| {
                let name = Escaped(progress.name()).to_string();
                let bar = ProgressBar::new(size).with_style(style(FILE_BAR));
                self.bars.add(bar.with_prefix(name).with_position(progress.resumed_from()))
            });
            bar.set_position(progress.transferred_bytes());
            self.files.insert(number, bar);
        }
        for bar in before.into_values() {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    /// Removes all bars.
    pub(crate) fn clear(&mut self) {
        self.show_files(std::iter::empty());
        if let Some(total) = self.total.take() {
            total.finish_and_clear();
            self.bars.remove(&total);
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
