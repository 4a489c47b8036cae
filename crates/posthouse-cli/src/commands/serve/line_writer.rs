//! The writer of the lines that a server prints about files. It has a thread of its own, because a
//! terminal or a pipe that accepts no output must not block an I/O worker.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{CommandResult, Failure};
use crate::peer_lines::{Admission, LineKind, PeerLines};

/// The capacity of the queue in lines of about 100 bytes. Lines beyond it are only counted.
const MAX_QUEUED_LINES: usize = 4096;
/// The time between two lines about those that are not shown.
const SUMMARY_PERIOD: Duration = Duration::from_secs(1);
/// The maximum time that `finish` waits for the last lines.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause of `finish` between two attempts to add the end to a full queue.
const FINISH_PAUSE: Duration = Duration::from_millis(1);

/// The sending side of the queue. Any thread can have one, and it never waits.
#[derive(Clone, Debug)]
pub(super) struct LineSender {
    queue: SyncSender<Line>,
    limit: &'static PeerLines,
}

/// The writing side of the queue.
#[derive(Debug)]
pub(super) struct LineWriter {
    queue: Receiver<Line>,
    limit: &'static PeerLines,
}

#[derive(Debug)]
enum Line {
    Shown(LineKind, String),
    /// A line was not shown. The writer says so within a second.
    Hidden,
    /// The end of the queue. The sender gets an answer when all lines before it are written.
    End(SyncSender<()>),
}

pub(super) fn channel(limit: &'static PeerLines) -> (LineSender, LineWriter) {
    let (sender, receiver) = sync_channel(MAX_QUEUED_LINES);
    (LineSender { queue: sender, limit }, LineWriter { queue: receiver, limit })
}

impl LineSender {
    /// Sends a line about a file, unless there are too many of them.
    pub(super) fn send(&self, kind: LineKind, line: String) {
        let mut admission = self.limit.admit(kind, line.as_bytes(), Instant::now());
        if admission == Admission::Shown && self.queue.try_send(Line::Shown(kind, line)).is_err() {
            admission = self.limit.hide(kind);
        }
        if admission == Admission::FirstHidden {
            // If the queue is full, the writer is awake.
            let _ = self.queue.try_send(Line::Hidden);
        }
    }

    /// Waits until every line is written, up to a timeout.
    pub(super) fn finish(&self) {
        let until = Instant::now() + FINISH_TIMEOUT;
        let (written_sender, written) = sync_channel(1);
        let mut end = Line::End(written_sender);
        // A full queue has no place for the end until the writer has taken a line.
        while let Err(TrySendError::Full(unsent)) = self.queue.try_send(end) {
            if Instant::now() >= until {
                return;
            }
            end = unsent;
            thread::sleep(FINISH_PAUSE);
        }
        // After the timeout the lines are lost, because the program ends.
        let _ = written.recv_timeout(until.saturating_duration_since(Instant::now()));
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

    /// Writes lines until the end.
    fn write_to(self, mut out: impl Write, mut err: impl Write) {
        let mut summary_at = None;
        loop {
            let now = Instant::now();
            if summary_at.is_some_and(|at| now >= at) {
                self.write_summary(&mut out, &mut err);
                summary_at = None;
            }
            if summary_at.is_none() && self.limit.has_hidden() {
                summary_at = Some(now + SUMMARY_PERIOD);
            }
            match self.next_line(summary_at) {
                Ok(Line::Shown(kind, line)) => write_line(kind, &line, &mut out, &mut err),
                Ok(Line::Hidden) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Line::End(written)) => {
                    self.write_summary(&mut out, &mut err);
                    // Fails after the timeout of `finish`.
                    let _ = written.try_send(());
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn next_line(&self, until: Option<Instant>) -> Result<Line, RecvTimeoutError> {
        match until {
            None => self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => self.queue.recv_timeout(until.saturating_duration_since(Instant::now())),
        }
    }

    /// Writes the numbers of lines that were not shown.
    fn write_summary(&self, out: &mut impl Write, err: &mut impl Write) {
        for (kind, line) in self.limit.take_hidden().summary() {
            write_line(kind, &line, out, err);
        }
    }
}

/// Writes a line to stdout or stderr. If that is closed, the line is lost.
fn write_line(kind: LineKind, line: &str, out: &mut impl Write, err: &mut impl Write) {
    let _ = match kind {
        LineKind::Received | LineKind::Sent => writeln!(out, "{line}").and_then(|()| out.flush()),
        LineKind::Failed | LineKind::Log => writeln!(err, "{line}"),
    };
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const TEST_TIMEOUT: Duration = Duration::from_mins(1);

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

    impl KeptBytes {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn limit() -> &'static PeerLines {
        Box::leak(Box::new(PeerLines::new()))
    }

    /// Returns what a writer has written to stdout and stderr when it has ended.
    fn written(lines: &LineSender, writer: LineWriter) -> (String, String) {
        let out = KeptBytes::default();
        let err = KeptBytes::default();
        let to_out = out.clone();
        let to_err = err.clone();
        let thread = thread::spawn(move || writer.write_to(to_out, to_err));
        lines.finish();
        thread.join().unwrap();
        (out.text(), err.text())
    }

    #[test]
    fn finish_waits_until_every_line_is_written() {
        let (lines, writer) = channel(limit());
        for number in 0..1000 {
            lines.send(LineKind::Received, format!("{number}"));
        }
        lines.send(LineKind::Failed, "failed".into());
        let (out, err) = written(&lines, writer);
        assert!(out.ends_with("\n999\n"));
        assert_eq!(err, "failed\n");
    }

    #[test]
    fn finish_waits_until_a_full_queue_is_written() {
        let (lines, writer) = channel(limit());
        for number in 0..MAX_QUEUED_LINES {
            lines.send(LineKind::Received, format!("{number}"));
        }
        let out = KeptBytes::default();
        let to_out = out.clone();
        // The writer can write nothing before `held` is dropped.
        let held = out.0.lock().unwrap();
        thread::spawn(move || writer.write_to(to_out, io::sink()));
        // The writer takes the first line, and this one fills the queue again.
        lines.queue.send(Line::Shown(LineKind::Received, "last".into())).unwrap();
        drop(held);
        lines.finish();
        assert!(out.text().ends_with("\nlast\n"));
    }

    #[test]
    fn finish_gives_up_on_a_writer_that_makes_no_progress() {
        // The queue has no place for the end, or the end is in it.
        for queued in [MAX_QUEUED_LINES, 1] {
            let (lines, _writer) = channel(limit());
            for number in 0..queued {
                lines.send(LineKind::Received, format!("{number}"));
            }
            let (done_sender, done) = sync_channel(1);
            let start = Instant::now();
            thread::spawn(move || {
                lines.finish();
                done_sender.send(start.elapsed()).unwrap();
            });
            let waited = done.recv_timeout(TEST_TIMEOUT).expect("finish still waits");
            assert!(waited >= FINISH_TIMEOUT, "{waited:?}");
        }
    }

    #[test]
    fn every_line_beyond_the_limit_or_a_full_queue_is_counted() {
        let limit = limit();
        let (lines, writer) = channel(limit);
        limit.limit(1_000_000, Instant::now());
        // One place is left for the message that a line is hidden.
        for number in 0..MAX_QUEUED_LINES - 1 {
            lines.send(LineKind::Received, format!("{number}"));
        }
        limit.limit(1, Instant::now() + Duration::from_secs(1000));
        for number in 0..60 {
            lines.send(LineKind::Sent, format!("{number}"));
            lines.send(LineKind::Failed, format!("{number}"));
        }
        let kept = MAX_QUEUED_LINES - 1;
        assert_eq!(writer.queue.try_iter().count(), kept + 1);
        let (out, err) = written(&lines, writer);
        assert_eq!(out, "sent 59 more files, not shown\n");
        assert_eq!(err, "60 more transfers failed, not shown\n");
    }
}
