//! Where a courier's lines go, and the bars on a terminal beneath them.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use posthouse::{Escaped, Progress};

/// Bars of single files at the same time; the others are seen in the bar of all.
const FILES_MAX: usize = 8;
/// A file that takes less gets no bar: it would only flicker.
const SHOWN_AFTER: Duration = Duration::from_millis(300);

const OF_ALL: &str = "{prefix:24!} {wide_bar} {binary_bytes:>10} of {binary_total_bytes:<10} \
                      {binary_bytes_per_sec:>12} {eta:>4}";
const OF_FILE: &str = "  {prefix:22!} {wide_bar:.dim} {binary_bytes:>10} of \
                       {binary_total_bytes:<10} {binary_bytes_per_sec:>12} {eta:>4}";

/// A terminal with bars at its end, or none.
#[derive(Debug)]
pub(crate) struct Screen {
    bars: MultiProgress,
    /// The bar of all files, where it is known how much they are.
    all: Option<ProgressBar>,
    files: BTreeMap<u64, ProgressBar>,
    shows_bars: bool,
    quiet: bool,
}

impl Screen {
    /// Bars are shown on a terminal only.
    pub(crate) fn new(quiet: bool) -> Self {
        let shows_bars = !quiet && io::stderr().is_terminal();
        Self { bars: MultiProgress::new(), all: None, files: BTreeMap::new(), shows_bars, quiet }
    }

    pub(crate) fn shows_bars(&self) -> bool {
        self.shows_bars
    }

    /// A line for stdout. A reader that went away is no failure.
    pub(crate) fn line(&self, line: &str) {
        self.bars.suspend(|| {
            let mut stdout = io::stdout().lock();
            let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
        });
    }

    /// A line for stderr. With stderr closed there is nobody to tell.
    pub(crate) fn complain(&self, line: &str) {
        self.bars.suspend(|| drop(writeln!(io::stderr(), "{line}")));
    }

    /// The same for what is no error: where nothing else is wanted it is left out.
    pub(crate) fn remark(&self, line: &str) {
        if !self.quiet {
            self.complain(line);
        }
    }

    /// How much of all there is over, and what there is of it.
    pub(crate) fn show_all(&mut self, (files, files_all): (u64, u64), moved: u64, bytes_all: u64) {
        if !self.shows_bars {
            return;
        }
        let all = self.all.get_or_insert_with(|| {
            self.bars.insert(0, ProgressBar::new(bytes_all).with_style(style(OF_ALL)))
        });
        all.set_length(bytes_all);
        all.set_position(moved);
        all.set_prefix(format!("{files} of {files_all} files"));
    }

    /// How far the files under way have come, each with a number of its own and for how long it has
    /// been under way.
    pub(crate) fn show_files<'a>(
        &mut self,
        under_way: impl Iterator<Item = (u64, Duration, &'a Progress)>,
    ) {
        if !self.shows_bars {
            return;
        }
        let mut before = std::mem::take(&mut self.files);
        for (number, time, progress) in under_way {
            let Some(size) = progress.size() else { continue };
            if time < SHOWN_AFTER || self.files.len() == FILES_MAX {
                continue;
            }
            let bar = before.remove(&number).unwrap_or_else(|| {
                let name = Escaped(progress.name()).to_string();
                let bar = ProgressBar::new(size).with_style(style(OF_FILE));
                self.bars.add(bar.with_prefix(name).with_position(progress.resumed_from()))
            });
            bar.set_position(progress.moved());
            self.files.insert(number, bar);
        }
        for bar in before.into_values() {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    /// Takes all bars away.
    pub(crate) fn clear(&mut self) {
        self.show_files(std::iter::empty());
        if let Some(all) = self.all.take() {
            all.finish_and_clear();
            self.bars.remove(&all);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a template of ours")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_of_the_bars_are_right() {
        for template in [OF_ALL, OF_FILE] {
            style(template);
        }
    }
}
