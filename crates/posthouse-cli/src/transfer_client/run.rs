//! A run over all files: transfers are started a few at a time, awaited, and retried as long as
//! the failure may be transient.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use posthouse::{
    Destination, FinishedTransfer, Source, TransferError, TransferErrorKind, TransferHandle,
};

use super::client::{Connection, ConnectionFailed, FileClient};
use super::events::Event;
use super::jobs::{Direction, FileJob, JobSource, NextJob};
use super::report::TransferReport;
use super::retry;
use crate::term::terminal::Terminal;

/// The number of transfers in flight at the same time: as many as a server accepts by default.
const MAX_IN_FLIGHT: usize = 16;
/// The number of jobs that wait for a retry; while there are so many no new job is started.
const MAX_RETRIES: usize = 64;
/// The number of attempts for a file that changes during its transfer: one that is written to all
/// the time would never be done.
const MAX_CHANGED_ATTEMPTS: u32 = 5;
/// The interval at which progress is looked at, with bars to draw and without.
const BAR_INTERVAL: Duration = Duration::from_millis(100);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// The end of a run.
#[derive(Debug)]
pub(crate) enum RunEnd {
    /// Every file was transferred, or failed for good.
    Complete,
    /// The user ended it.
    Interrupted,
    /// There never was a connection: the reason.
    NeverConnected(String),
    /// The server is out of reach, or cannot transfer files: the reason.
    GaveUp(String),
}

/// A job with the attempts so far.
struct JobState {
    job: FileJob,
    /// The number of attempts that failed while the connection stood.
    failed: u32,
    /// The most bytes that any attempt got across.
    best: u64,
    /// The progress of the last attempt.
    progress: Option<TransferHandle>,
}

/// A job whose transfer was handed to the connection.
struct InFlight {
    state: JobState,
    since: Instant,
}

struct Run<'a> {
    source: &'a mut dyn JobSource,
    report: &'a mut TransferReport,
    terminal: &'a mut Terminal,
    in_flight: BTreeMap<u64, InFlight>,
    /// The jobs to retry, each not before its time.
    retries: Vec<(Instant, JobState)>,
    /// The number of the transfer started last.
    last_number: u64,
    /// True exactly when no more jobs are taken from the source.
    is_drained: bool,
}

impl FileClient {
    /// Transfers all files of the source, and adds each to the report. If the user interrupts, the
    /// transfers in flight may still finish within `grace`. Returns how the run ended, and the
    /// number of files that were not tried to the end.
    pub(crate) fn transfer(
        &mut self,
        source: &mut dyn JobSource,
        report: &mut TransferReport,
        terminal: &mut Terminal,
        grace: Duration,
    ) -> (RunEnd, usize) {
        let mut run = Run {
            source,
            report,
            terminal,
            in_flight: BTreeMap::new(),
            retries: Vec::new(),
            last_number: 0,
            is_drained: false,
        };
        let end = match self.run_to_end(&mut run, grace) {
            Ok(end) => end,
            Err(ConnectionFailed { why, is_transient }) if self.was_connected() => {
                run.report.retry_may_help |= is_transient;
                RunEnd::GaveUp(why)
            }
            Err(ConnectionFailed { why, .. }) => RunEnd::NeverConnected(why),
        };
        let left = run.unfinished() + run.source.remaining();
        run.report_unfinished(&end);
        (end, left)
    }

    fn run_to_end(
        &mut self,
        run: &mut Run<'_>,
        grace: Duration,
    ) -> Result<RunEnd, ConnectionFailed> {
        let interval = if run.terminal.shows_bars() { BAR_INTERVAL } else { PROGRESS_INTERVAL };
        let mut next_check = Instant::now();
        let mut end_at = None;
        loop {
            let now = Instant::now();
            if self.interrupted && end_at.is_none() {
                end_at = Some(now + grace);
                run.is_drained = true;
            }
            if end_at.is_some_and(|end| now >= end || run.in_flight.is_empty()) {
                return Ok(RunEnd::Interrupted);
            }
            let mut until = self.connect_if_due(now)?;
            if end_at.is_none() {
                until = earliest(until, self.start_jobs(run, now));
                if run.is_drained && run.unfinished() == 0 {
                    return Ok(RunEnd::Complete);
                }
            }
            if now >= next_check {
                next_check = now + interval;
                if run.has_progressed() {
                    self.on_progress(run.terminal);
                }
                run.show(now);
            }
            until = earliest(earliest(until, Some(next_check)), end_at);
            if let Some(event) = self.next_event(until) {
                self.on_event(run, event)?;
            }
        }
    }

    /// Starts as many jobs as there is room for; returns the time to try again.
    fn start_jobs(&mut self, run: &mut Run<'_>, now: Instant) -> Option<Instant> {
        let Connection::Connected(peer) = self.connection else { return None };
        let direction = run.report.direction();
        let mut batch = Vec::new();
        let mut later = None;
        while run.in_flight.len() < MAX_IN_FLIGHT {
            match run.next_job(now) {
                Ok(state) => {
                    run.last_number += 1;
                    batch.push((run.last_number, state.job.clone()));
                    run.in_flight.insert(run.last_number, InFlight { state, since: now });
                }
                Err(at) => {
                    later = at;
                    break;
                }
            }
        }
        if batch.is_empty() {
            return later;
        }
        let numbers: Vec<u64> = batch.iter().map(|(number, _)| *number).collect();
        let sender = self.event_sender.clone();
        let accepted = self.run_on_peer(peer, move |peer| {
            for (number, FileJob { directory, path, name }) in batch {
                let progress = match direction {
                    Direction::Send => peer.offer_file(Source::new(&directory, path).named(name)),
                    Direction::Get => {
                        peer.fetch_file(&name, Destination::new(&directory).named(path))
                    }
                };
                // Fails once the client is gone.
                let _ = sender.send(Event::Started(number, progress));
            }
        });
        if !accepted {
            // The mailbox of the connection's worker is full.
            for number in numbers {
                let in_flight = run.in_flight.remove(&number).expect("it was inserted above");
                run.retries.push((now + retry::pause_after(1), in_flight.state));
            }
        }
        later
    }

    fn on_event(&mut self, run: &mut Run<'_>, event: Event) -> Result<(), ConnectionFailed> {
        match event {
            Event::Started(number, progress) => {
                if let Some(in_flight) = run.in_flight.get_mut(&number) {
                    in_flight.state.progress = Some(progress);
                }
                Ok(())
            }
            Event::Finished(transfer) => match run.take(transfer.handle()) {
                Some(in_flight) => self.on_finished(run, in_flight, &transfer),
                None => Ok(()),
            },
            Event::Disconnected(why) => {
                // Jobs that were handed over but not started are lost with the connection.
                let now = Instant::now();
                let lost = std::mem::take(&mut run.in_flight).into_values();
                run.retries.extend(lost.map(|in_flight| (now, in_flight.state)));
                self.on_disconnected(run.terminal, &why)
            }
            Event::Connected | Event::Listed(_) | Event::Interrupted => Ok(()),
        }
    }

    fn on_finished(
        &mut self,
        run: &mut Run<'_>,
        in_flight: InFlight,
        transfer: &FinishedTransfer,
    ) -> Result<(), ConnectionFailed> {
        let (now, progress) = (Instant::now(), transfer.handle());
        let time = now.saturating_duration_since(in_flight.since);
        let mut state = in_flight.state;
        let error = match transfer.result() {
            Ok(hash) => {
                run.report.done(run.terminal, progress, hash, time);
                self.on_progress(run.terminal);
                return Ok(());
            }
            Err(error) => error,
        };
        if progress.transferred_bytes() > state.best {
            state.best = progress.transferred_bytes();
            self.on_progress(run.terminal);
        }
        if let TransferErrorKind::Disconnected | TransferErrorKind::Unsupported = error.kind() {
            run.retries.push((now, state));
            if error.kind() == TransferErrorKind::Disconnected {
                return Ok(());
            }
            let why = format!("{} cannot transfer files: {error}", self.target);
            return Err(ConnectionFailed { why, is_transient: false });
        }
        state.failed += 1;
        if is_worth_a_retry(error, state.failed) && self.backoff.may_retry(now) {
            run.retries.push((now + retry::pause_after(state.failed), state));
            return Ok(());
        }
        run.report.retry_may_help |= error.is_passing();
        run.report.failed(run.terminal, transfer.name(), Some((progress, time)), error);
        if !error.is_passing() {
            // A server that rejects files is reachable.
            self.on_progress(run.terminal);
        }
        Ok(())
    }
}

impl Run<'_> {
    /// The number of jobs that were taken from the source and have not ended.
    fn unfinished(&self) -> usize {
        self.in_flight.len() + self.retries.len()
    }

    /// The next job to start, or the time to ask again.
    fn next_job(&mut self, now: Instant) -> Result<JobState, Option<Instant>> {
        if let Some(place) = self.retries.iter().position(|(at, _)| *at <= now) {
            return Ok(self.retries.swap_remove(place).1);
        }
        let at = self.retries.iter().map(|(at, _)| *at).min();
        if self.is_drained || self.retries.len() >= MAX_RETRIES {
            return Err(at);
        }
        loop {
            match self.source.next(now) {
                NextJob::Job(job) => {
                    return Ok(JobState { job, failed: 0, best: 0, progress: None });
                }
                NextJob::Skipped(name, why) => self.report.skipped(self.terminal, &name, why),
                NextJob::Failed(name, why) => self.report.failed(self.terminal, &name, None, why),
                NextJob::NotBefore(later) => return Err(earliest(at, Some(later))),
                NextJob::End => {
                    self.is_drained = true;
                    return Err(at);
                }
            }
        }
    }

    /// Returns true if any transfer got further than ever before.
    fn has_progressed(&mut self) -> bool {
        let mut has_progressed = false;
        for InFlight { state, .. } in self.in_flight.values_mut() {
            let moved = state.progress.as_ref().map_or(0, TransferHandle::transferred_bytes);
            has_progressed |= moved > state.best;
            state.best = state.best.max(moved);
        }
        has_progressed
    }

    /// Reports the files that were started and have not ended.
    fn report_unfinished(self, end: &RunEnd) {
        let why = match end {
            RunEnd::Complete => return,
            RunEnd::Interrupted => "interrupted",
            RunEnd::NeverConnected(why) | RunEnd::GaveUp(why) => why,
        };
        let in_flight = self.in_flight.into_values().map(|in_flight| in_flight.state);
        let retries = self.retries.into_iter().map(|(_, state)| state);
        for JobState { job, progress, .. } in in_flight.chain(retries) {
            self.report.unfinished(self.terminal, &job.name, progress.as_ref(), why);
        }
    }

    fn take(&mut self, progress: &TransferHandle) -> Option<InFlight> {
        let has_ended = |in_flight: &InFlight| in_flight.state.progress.as_ref() == Some(progress);
        let mut entries = self.in_flight.iter();
        let number = entries.find_map(|(number, it)| has_ended(it).then_some(*number))?;
        self.in_flight.remove(&number)
    }

    fn show(&mut self, now: Instant) {
        let moving = self.in_flight.iter().filter_map(|(number, in_flight)| {
            let time = now.saturating_duration_since(in_flight.since);
            Some((*number, time, in_flight.state.progress.as_ref()?))
        });
        if self.report.expected_files > 0 {
            let (files, bytes) = self.report.finished();
            let moved: u64 =
                moving.clone().map(|(_, _, progress)| progress.transferred_bytes()).sum();
            let files = (files, self.report.expected_files);
            self.terminal.show_total(files, bytes + moved, self.report.expected_bytes);
        }
        self.terminal.show_files(moving);
    }
}

/// Returns true if a job that failed this many times with this error should be retried.
fn is_worth_a_retry(error: &TransferError, failed: u32) -> bool {
    let changed =
        matches!(error.kind(), TransferErrorKind::Changed | TransferErrorKind::HashDiffers);
    error.is_passing() && (!changed || failed < MAX_CHANGED_ATTEMPTS)
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}
