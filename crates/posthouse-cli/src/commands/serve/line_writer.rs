//! The writer of the lines that a server prints about files. It has a thread of its own, because a
//! terminal or a pipe that accepts no output must not block an I/O worker.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{CommandResult, Failure};

/// The capacity of the queue in lines of about 100 bytes. Lines beyond it are dropped and counted.
const MAX_QUEUED_LINES: usize = 4096;
/// The maximum number of failures that are printed in a period. A peer can cause any number.
const MAX_FAILURES: u64 = 50;
const FAILURE_PERIOD: Duration = Duration::from_secs(10);
/// The maximum time that `finish` waits for the last lines.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// The sending side of the queue. Any thread can have one, and it never waits.
#[derive(Clone, Debug)]
pub(super) struct LineSender {
    queue: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

/// The writing side of the queue.
#[derive(Debug)]
pub(super) struct LineWriter {
    queue: Receiver<Line>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Line {
    Done(String),
    Failed(String),
    /// The end of the queue. The sender gets an answer when all lines before it are written.
    End(SyncSender<()>),
}

pub(super) fn channel() -> (LineSender, LineWriter) {
    let (sender, receiver) = sync_channel(MAX_QUEUED_LINES);
    let sender = LineSender { queue: sender, dropped: Arc::default() };
    let writer = LineWriter { queue: receiver, dropped: sender.dropped.clone() };
    (sender, writer)
}

impl LineSender {
    /// Sends the line of a file that was transferred.
    pub(super) fn done(&self, line: String) {
        self.send(Line::Done(line));
    }

    /// Sends the line of a file that could not be transferred.
    pub(super) fn failed(&self, line: String) {
        self.send(Line::Failed(line));
    }

    fn send(&self, line: Line) {
        if self.queue.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until every line is written, up to a timeout.
    pub(super) fn finish(&self) {
        let (written_sender, written) = sync_channel(1);
        if self.queue.try_send(Line::End(written_sender)).is_ok() {
            // After the timeout the lines are lost, because the program ends.
            let _ = written.recv_timeout(FINISH_TIMEOUT);
        }
    }
}

impl LineWriter {
    /// Starts a thread that writes the lines to stdout and stderr until the end.
    pub(super) fn start(self) -> CommandResult {
        let thread = thread::Builder::new().name("line-writer".into());
        let started = thread.spawn(move || self.write_to(io::stdout(), io::stderr()));
        started
            .map(drop)
            .map_err(|error| Failure::runtime(format!("cannot start the line writer: {error}")))
    }

    /// Writes lines until the end. If stdout or stderr is closed, its lines are lost.
    fn write_to(self, mut out: impl Write, mut err: impl Write) {
        let mut failures = FailureLimiter::new();
        while let Ok(line) = self.queue.recv() {
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                let _ = writeln!(err, "{dropped} lines were dropped: stdout or stderr was blocked");
            }
            match line {
                Line::Done(line) => {
                    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
                }
                Line::Failed(line) => {
                    for line in failures.admit(line, Instant::now()) {
                        let _ = writeln!(err, "{line}");
                    }
                }
                Line::End(written) => {
                    if let Some(line) = failures.take_suppressed() {
                        let _ = writeln!(err, "{line}");
                    }
                    // Fails after the timeout of `finish`.
                    let _ = written.try_send(());
                    return;
                }
            }
        }
    }
}

/// A limit on the failures that are printed in a period. Those beyond it are only counted.
struct FailureLimiter {
    period_end: Option<Instant>,
    in_period: u64,
    suppressed: u64,
}

impl FailureLimiter {
    fn new() -> Self {
        Self { period_end: None, in_period: 0, suppressed: 0 }
    }

    /// Returns the lines to write now.
    fn admit(&mut self, line: String, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        if self.period_end.is_none_or(|end| now >= end) {
            lines.extend(self.take_suppressed());
            self.period_end = Some(now + FAILURE_PERIOD);
            self.in_period = 0;
        }
        self.in_period += 1;
        if self.in_period <= MAX_FAILURES {
            lines.push(line);
        } else {
            self.suppressed += 1;
        }
        lines
    }

    /// Returns the line with the number of failures that were only counted.
    fn take_suppressed(&mut self) -> Option<String> {
        let suppressed = std::mem::take(&mut self.suppressed);
        (suppressed > 0).then(|| format!("{suppressed} more transfers failed"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn failures_are_written_up_to_a_limit_and_then_counted() {
        let mut failures = FailureLimiter::new();
        let start = Instant::now();
        let mut lines = Vec::new();
        for number in 0..1000 {
            lines.extend(failures.admit(format!("{number}"), start));
        }
        assert_eq!(lines.len() as u64, MAX_FAILURES);
        let next = failures.admit("later".into(), start + FAILURE_PERIOD);
        assert_eq!(next, ["950 more transfers failed", "later"]);
        assert_eq!(failures.take_suppressed(), None);
    }

    /// A writer that keeps its bytes for a test.
    #[derive(Clone, Default)]
    struct KeptBytes(Arc<Mutex<Vec<u8>>>);

    impl Write for KeptBytes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn finish_waits_until_every_line_is_written() {
        let (lines, writer) = channel();
        let out = KeptBytes::default();
        let err = KeptBytes::default();
        for number in 0..1000 {
            lines.done(format!("{number}"));
        }
        lines.failed("failed".into());
        let to_out = out.clone();
        let to_err = err.clone();
        thread::spawn(move || writer.write_to(to_out, to_err));
        lines.finish();
        assert!(out.0.lock().unwrap().ends_with(b"\n999\n"));
        assert_eq!(*err.0.lock().unwrap(), b"failed\n");
    }

    #[test]
    fn a_full_queue_drops_and_counts_lines_without_waiting() {
        let (lines, writer) = channel();
        for number in 0..MAX_QUEUED_LINES + 3 {
            lines.done(format!("{number}"));
        }
        assert_eq!(lines.dropped.load(Ordering::Relaxed), 3);
        assert_eq!(writer.queue.try_iter().count(), MAX_QUEUED_LINES);
    }
}
