//! What a server tells of files: a line for each, written by a thread of its own, because a
//! terminal or a pipe that does not take lines must not hold up an I/O worker.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Outcome};

/// Lines that wait to be written. About 100 bytes each; more are left out, and counted.
const LINES_MAX: usize = 4096;
/// Failures that are told one by one within a period; a peer makes them as fast as it likes.
const FAILURES_MAX: u64 = 50;
const FAILURES_PERIOD: Duration = Duration::from_secs(10);
/// How long the end waits for a reader of the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Where lines are handed in, from any thread. It never waits.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    lines: SyncSender<Line>,
    left_out: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Line {
    Done(String),
    Failed(String),
    /// Nothing follows: who waits is told when all before it is written.
    End(SyncSender<()>),
}

/// Where lines come out.
#[derive(Debug)]
pub(super) struct Lines {
    lines: Receiver<Line>,
    left_out: Arc<AtomicU64>,
}

impl Lines {
    /// Writes them to stdout and stderr from now on, until the end.
    pub(super) fn write(self) -> Outcome {
        let writer = thread::Builder::new().name("journal".into());
        let started = writer.spawn(move || self.write_to(io::stdout(), io::stderr()));
        started
            .map(drop)
            .map_err(|error| Failure::runtime(format!("cannot start the journal: {error}")))
    }

    /// Writes until the end. With stdout or stderr closed there is nobody to tell.
    fn write_to(self, mut out: impl Write, mut err: impl Write) {
        let mut failures = Failures::new();
        while let Ok(line) = self.lines.recv() {
            let lost = self.left_out.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let _ = writeln!(err, "{lost} lines are left out: nobody read them in time");
            }
            match line {
                Line::Done(line) => {
                    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
                }
                Line::Failed(line) => {
                    for line in failures.told(line, Instant::now()) {
                        let _ = writeln!(err, "{line}");
                    }
                }
                Line::End(told) => {
                    if let Some(line) = failures.rest() {
                        let _ = writeln!(err, "{line}");
                    }
                    // Who waited may have given up.
                    let _ = told.try_send(());
                    return;
                }
            }
        }
    }
}

impl Journal {
    pub(super) fn new() -> (Self, Lines) {
        let (sender, lines) = sync_channel(LINES_MAX);
        let journal = Self { lines: sender, left_out: Arc::default() };
        let lines = Lines { lines, left_out: journal.left_out.clone() };
        (journal, lines)
    }

    /// A file got across.
    pub(super) fn done(&self, line: String) {
        self.put(Line::Done(line));
    }

    /// A file did not.
    pub(super) fn failed(&self, line: String) {
        self.put(Line::Failed(line));
    }

    fn put(&self, line: Line) {
        if self.lines.try_send(line).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything is written, but not for a reader that takes nothing.
    pub(super) fn end(&self) {
        let (told, written) = sync_channel(1);
        if self.lines.try_send(Line::End(told)).is_ok() {
            // Whatever comes of it: it is the end.
            let _ = written.recv_timeout(LAST_LINES);
        }
    }
}

/// Tells so many failures a period, and counts the others.
struct Failures {
    period_ends: Option<Instant>,
    in_period: u64,
    untold: u64,
}

impl Failures {
    fn new() -> Self {
        Self { period_ends: None, in_period: 0, untold: 0 }
    }

    /// The lines to write now.
    fn told(&mut self, line: String, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        if self.period_ends.is_none_or(|end| now >= end) {
            lines.extend(self.rest());
            self.period_ends = Some(now + FAILURES_PERIOD);
            self.in_period = 0;
        }
        self.in_period += 1;
        match self.in_period <= FAILURES_MAX {
            true => lines.push(line),
            false => self.untold += 1,
        }
        lines
    }

    /// What there is to say of those that were only counted.
    fn rest(&mut self) -> Option<String> {
        let untold = std::mem::take(&mut self.untold);
        (untold > 0).then(|| format!("{untold} more files did not get across"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn failures_without_end_are_told_up_to_a_bound_and_then_counted() {
        let mut failures = Failures::new();
        let start = Instant::now();
        let mut lines = Vec::new();
        for number in 0..1000 {
            lines.extend(failures.told(format!("{number}"), start));
        }
        assert_eq!(lines.len() as u64, FAILURES_MAX);
        let next = failures.told("later".into(), start + FAILURES_PERIOD);
        assert_eq!(next, ["950 more files did not get across", "later"]);
        assert_eq!(failures.rest(), None);
    }

    /// Keeps what is written for the test.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_end_of_a_journal_waits_until_everything_is_written() {
        let (journal, lines) = Journal::new();
        let (out, err) = (Kept::default(), Kept::default());
        for number in 0..1000 {
            journal.done(format!("{number}"));
        }
        journal.failed("failed".into());
        let (to_out, to_err) = (out.clone(), err.clone());
        thread::spawn(move || lines.write_to(to_out, to_err));
        journal.end();
        assert!(out.0.lock().unwrap().ends_with(b"\n999\n"));
        assert_eq!(*err.0.lock().unwrap(), b"failed\n");
    }

    #[test]
    fn a_journal_that_nobody_reads_takes_lines_without_waiting_and_counts_what_it_lost() {
        let (journal, lines) = Journal::new();
        for number in 0..LINES_MAX + 3 {
            journal.done(format!("{number}"));
        }
        assert_eq!(journal.left_out.load(Ordering::Relaxed), 3);
        assert_eq!(lines.lines.try_iter().count(), LINES_MAX);
    }
}
