//! A run over all files: jobs are started a few at a time, awaited, and retried as long as their
//! failure may be transient.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use posthouse::{
    Destination, Directory, FinishedTransfer, Source, TransferError, TransferErrorKind,
    TransferHandle,
};

use super::client::{Event, FileClient, GaveUp};
use super::report::{Attempt, Direction, FileEnd, TransferReport};
use super::{earliest, pause_after};
use crate::term::terminal::FileProgress;

/// The number of transfers in flight at the same time: as many as a server accepts by default.
const MAX_IN_FLIGHT: usize = 16;
/// The number of jobs that wait for a retry. While there are this many, no new job is taken.
const MAX_WAITING: usize = 64;
/// The number of attempts for a file that changes during its transfer. A file that is written to
/// all the time would never be done.
const MAX_CHANGED_ATTEMPTS: u32 = 5;
/// The interval at which progress is checked, with bars to draw and without.
const BAR_INTERVAL: Duration = Duration::from_millis(100);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// One file to transfer.
#[derive(Clone, Debug)]
pub(crate) struct FileJob {
    /// The local directory.
    pub(crate) directory: Directory,
    /// The path of the file beneath it.
    pub(crate) path: Box<str>,
    /// The name of the file on the server.
    pub(crate) name: Box<str>,
}

/// The answer of a [`JobSource`].
#[derive(Debug)]
pub(crate) enum NextJob {
    Job(FileJob),
    /// A file is left out on purpose: its name, and the reason.
    Skipped(String, &'static str),
    /// A file should be transferred but cannot be: its name, and the reason.
    Failed(String, String),
    /// There is no job before this time.
    NotBefore(Instant),
    /// There are no more jobs.
    End,
}

/// A source of jobs. A run asks for one after the other, so that not all of them are held at once.
pub(crate) trait JobSource {
    fn next(&mut self, now: Instant) -> NextJob;

    /// The number of jobs still to come, as far as that is known.
    fn remaining(&self) -> usize;
}

/// The end of a run.
#[derive(Debug)]
pub(crate) enum RunEnd {
    /// Every file was transferred, or failed for good.
    Complete,
    /// The user interrupted it.
    Interrupted,
    /// There is no connection and will be none.
    GaveUp(GaveUp),
}

/// The phase of a run. It only ever moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// New jobs are taken from the source.
    Taking,
    /// The source has ended; the run ends with the last job.
    Finishing,
    /// The user interrupted the run: no job is started. Those in flight may end until this time.
    Interrupted(Instant),
}

/// A job that was taken from the source and has not ended.
struct Job {
    file: FileJob,
    state: JobState,
    /// The number of attempts that failed while the connection stood.
    failed: u32,
    /// The most bytes that any attempt transferred.
    best: u64,
    /// The progress of the last attempt.
    progress: Option<TransferHandle>,
}

enum JobState {
    /// The next attempt is due at this time.
    Waiting(Instant),
    /// An attempt was handed to the connection at this time.
    InFlight(Instant),
}

struct Run<'a> {
    client: &'a mut FileClient,
    source: &'a mut dyn JobSource,
    report: &'a mut TransferReport,
    phase: Phase,
    /// The jobs by their numbers, in the order in which they were taken.
    jobs: BTreeMap<u64, Job>,
    last_number: u64,
    /// The time that jobs in flight get after an interruption.
    grace: Duration,
}

impl FileClient {
    /// Transfers all files of the source, and adds each to the report. If the user interrupts, the
    /// transfers in flight may still finish within `grace`.
    pub(crate) fn transfer(
        &mut self,
        source: &mut dyn JobSource,
        report: &mut TransferReport,
        grace: Duration,
    ) -> RunEnd {
        let mut run = Run {
            client: self,
            source,
            report,
            phase: Phase::Taking,
            jobs: BTreeMap::new(),
            last_number: 0,
            grace,
        };
        let end = run.run_to_end().unwrap_or_else(RunEnd::GaveUp);
        run.report_unfinished(&end);
        end
    }
}

impl Run<'_> {
    fn run_to_end(&mut self) -> Result<RunEnd, GaveUp> {
        let interval = if self.report.shows_bars() { BAR_INTERVAL } else { PROGRESS_INTERVAL };
        let mut next_check = Instant::now();
        loop {
            let now = Instant::now();
            let next_round = match self.phase {
                Phase::Interrupted(end) if now >= end || self.in_flight().next().is_none() => {
                    return Ok(RunEnd::Interrupted);
                }
                Phase::Interrupted(end) => Some(end),
                Phase::Taking | Phase::Finishing => self.start_jobs(now),
            };
            if self.phase == Phase::Finishing && self.jobs.is_empty() {
                return Ok(RunEnd::Complete);
            }
            if now >= next_check {
                next_check = now + interval;
                self.check_progress(now);
            }
            if let Some(event) = self.client.wait(earliest(next_round, Some(next_check)))? {
                self.on_event(event)?;
            }
        }
    }

    // ---- starting jobs ----

    /// Starts as many jobs as there is room for; returns the time to try again.
    fn start_jobs(&mut self, now: Instant) -> Option<Instant> {
        let peer = self.client.peer()?;
        let mut batch = Vec::new();
        let mut next_start = None;
        while self.in_flight().count() < MAX_IN_FLIGHT {
            match self.next_job(now) {
                Ok((number, job)) => {
                    job.state = JobState::InFlight(now);
                    batch.push((number, job.file.clone()));
                }
                Err(later) => {
                    next_start = later;
                    break;
                }
            }
        }
        if batch.is_empty() {
            return next_start;
        }
        let direction = self.report.direction();
        let numbers: Vec<u64> = batch.iter().map(|(number, _)| *number).collect();
        let accepted = self.client.run_on_peer(peer, move |peer, forwarder| {
            for (number, FileJob { directory, path, name }) in batch {
                let progress = match direction {
                    Direction::Send => peer.offer_file(Source::new(&directory, path).named(name)),
                    Direction::Get => {
                        peer.fetch_file(&name, Destination::new(&directory).named(path))
                    }
                };
                forwarder.forward(Event::Started(number, progress));
            }
        });
        if !accepted {
            // The mailbox of the connection's worker is full.
            for number in numbers {
                self.wait_until(number, now + pause_after(1));
            }
        }
        next_start
    }

    /// Returns the next job to start, or else the time to ask again.
    fn next_job(&mut self, now: Instant) -> Result<(u64, &mut Job), Option<Instant>> {
        let due = self.waiting().filter(|(_, due)| *due <= now).map(|(number, _)| number).next();
        let number = match due {
            Some(number) => number,
            None => self.take_job(now)?,
        };
        let job = self.jobs.get_mut(&number).ok_or(None)?;
        Ok((number, job))
    }

    /// Takes a job from the source, and returns its number, or else the time to ask again.
    fn take_job(&mut self, now: Instant) -> Result<u64, Option<Instant>> {
        let next_retry = self.waiting().map(|(_, due)| due).min();
        if self.phase != Phase::Taking || self.waiting().count() >= MAX_WAITING {
            return Err(next_retry);
        }
        loop {
            match self.source.next(now) {
                NextJob::Job(file) => {
                    let state = JobState::Waiting(now);
                    self.last_number += 1;
                    let job = Job { file, state, failed: 0, best: 0, progress: None };
                    self.jobs.insert(self.last_number, job);
                    return Ok(self.last_number);
                }
                NextJob::Skipped(name, why) => self.report.skipped(&name, why),
                NextJob::Failed(name, why) => self.report.failed(&name, &why),
                NextJob::NotBefore(later) => return Err(earliest(next_retry, Some(later))),
                NextJob::End => {
                    self.phase = Phase::Finishing;
                    return Err(next_retry);
                }
            }
        }
    }

    // ---- events ----

    fn on_event(&mut self, event: Event) -> Result<(), GaveUp> {
        match event {
            Event::Started(number, progress) => {
                if let Some(job) = self.jobs.get_mut(&number) {
                    job.progress = Some(progress);
                }
            }
            Event::Finished(transfer) => self.on_finished(&transfer)?,
            Event::Disconnected(_) => {
                // Jobs that were handed over but not started are lost with the connection.
                let now = Instant::now();
                for job in self.jobs.values_mut() {
                    if let JobState::InFlight(_) = job.state {
                        job.state = JobState::Waiting(now);
                    }
                }
            }
            Event::Interrupted => self.phase = Phase::Interrupted(Instant::now() + self.grace),
            Event::Connected | Event::Listed(_) => {}
        }
        Ok(())
    }

    fn on_finished(&mut self, transfer: &FinishedTransfer) -> Result<(), GaveUp> {
        let progress = transfer.handle();
        let Some((number, since)) = self.find_in_flight(progress) else { return Ok(()) };
        let now = Instant::now();
        let attempt = Attempt::new(progress, now.saturating_duration_since(since));
        let error = match transfer.result() {
            Ok(hash) => {
                self.jobs.remove(&number);
                self.report.add(progress.name(), &attempt, &FileEnd::Transferred(hash));
                self.client.on_progress();
                return Ok(());
            }
            Err(error) => error,
        };
        self.note_progress();
        match error.kind() {
            TransferErrorKind::Disconnected => {
                self.wait_until(number, now);
                return Ok(());
            }
            TransferErrorKind::Unsupported => {
                let why = format!("{} cannot transfer files: {error}", self.client.target);
                return Err(GaveUp::ForGood(why));
            }
            _ => {}
        }
        let Some(job) = self.jobs.get_mut(&number) else { return Ok(()) };
        job.failed += 1;
        let failed = job.failed;
        if is_worth_a_retry(error, failed) && self.client.backoff.may_retry(now) {
            self.wait_until(number, now + pause_after(failed));
            return Ok(());
        }
        self.jobs.remove(&number);
        if error.is_passing() {
            let end = FileEnd::FailedForNow(error.to_string());
            self.report.add(transfer.name(), &attempt, &end);
        } else {
            self.report.add(transfer.name(), &attempt, &FileEnd::Failed(error.to_string()));
            // A server that rejects files is reachable.
            self.client.on_progress();
        }
        Ok(())
    }

    // ---- the jobs ----

    /// The jobs that wait, by their numbers, with the times when they are due.
    fn waiting(&self) -> impl Iterator<Item = (u64, Instant)> {
        self.jobs.iter().filter_map(|(number, job)| match job.state {
            JobState::Waiting(due) => Some((*number, due)),
            JobState::InFlight(_) => None,
        })
    }

    /// The jobs in flight, by their numbers, with the times when they were started.
    fn in_flight(&self) -> impl Iterator<Item = (u64, Instant, &Job)> {
        self.jobs.iter().filter_map(|(number, job)| match job.state {
            JobState::InFlight(since) => Some((*number, since, job)),
            JobState::Waiting(_) => None,
        })
    }

    fn find_in_flight(&self, progress: &TransferHandle) -> Option<(u64, Instant)> {
        let mut in_flight = self.in_flight();
        let found = in_flight.find(|(_, _, job)| job.progress.as_ref() == Some(progress));
        found.map(|(number, since, _)| (number, since))
    }

    fn wait_until(&mut self, number: u64, due: Instant) {
        if let Some(job) = self.jobs.get_mut(&number) {
            job.state = JobState::Waiting(due);
        }
    }

    // ---- progress ----

    fn check_progress(&mut self, now: Instant) {
        self.note_progress();
        let in_flight = self.jobs.iter().filter_map(|(number, job)| {
            let JobState::InFlight(since) = job.state else { return None };
            let time = now.saturating_duration_since(since);
            Some(FileProgress { number: *number, time, handle: job.progress.as_ref()? })
        });
        self.report.show(&in_flight.collect::<Vec<_>>());
    }

    /// Tells the client if any transfer got further than ever before.
    fn note_progress(&mut self) {
        let mut progressed = 0;
        for job in self.jobs.values_mut() {
            let JobState::InFlight(_) = job.state else { continue };
            let bytes = job.progress.as_ref().map_or(0, TransferHandle::transferred_bytes);
            progressed += bytes.saturating_sub(job.best);
            job.best = job.best.max(bytes);
        }
        if progressed > 0 {
            self.client.on_progress();
        }
    }

    /// Reports the jobs that have not ended, and counts those that are still in the source.
    fn report_unfinished(self, end: &RunEnd) {
        let why = match end {
            RunEnd::Complete => return,
            RunEnd::Interrupted => "interrupted",
            RunEnd::GaveUp(gave_up) => gave_up.why(),
        };
        for Job { file, progress, .. } in self.jobs.values() {
            let attempt = Attempt::unfinished(progress.as_ref());
            self.report.add(&file.name, &attempt, &FileEnd::Unfinished(why));
        }
        self.report.add_untried(self.source.remaining());
    }
}

/// Returns true if a job that failed this many times with this error should be retried.
fn is_worth_a_retry(error: &TransferError, failed: u32) -> bool {
    let changed =
        matches!(error.kind(), TransferErrorKind::Changed | TransferErrorKind::HashDiffers);
    error.is_passing() && (!changed || failed < MAX_CHANGED_ATTEMPTS)
}
