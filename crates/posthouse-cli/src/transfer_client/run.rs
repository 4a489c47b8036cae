//! A run over all files. It starts a few jobs at a time, waits for them, and retries those whose
//! failure may be transient.

use std::time::{Duration, Instant};

use posthouse::{
    Destination, Directory, FileList, FinishedTransfer, PeerId, Source, TransferError,
    TransferErrorKind, TransferHandle,
};

use super::client::{Event, FileClient, GaveUp, NotListed, Page, is_disconnected};
use super::report::{Attempt, Direction, FileEnd, TransferReport};
use super::{earliest, pause_after};
use crate::failure::Failure;
use crate::term::terminal::FileProgress;

/// The maximum number of transfers in flight, a request for a page of names included: as many as a
/// server accepts by default.
const MAX_IN_FLIGHT: usize = 16;
/// The maximum number of jobs that wait for a retry. While there are this many, no new job is
/// taken.
const MAX_WAITING: usize = 64;
/// The maximum number of attempts for a file that changes during its transfer. A file that is
/// written all the time would never be done.
const MAX_CHANGED_ATTEMPTS: u32 = 5;
/// The intervals at which progress is checked, with and without bars.
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
    /// The reason why the server's list does not show whether the name is that of a file.
    pub(crate) not_listed: Option<Box<NotListed>>,
}

/// The answer of a [`JobSource`].
#[derive(Debug)]
pub(crate) enum NextJob {
    Job(FileJob),
    /// A file is skipped on purpose: its name, and the reason.
    Skipped(String, &'static str),
    /// A file should be transferred but cannot be: its name, and the reason.
    Failed(String, String),
    /// There is no job before this time.
    NotBefore(Instant),
    /// There is no job before the wanted page of the server's list has arrived.
    AfterPage,
    /// There are no more jobs.
    End,
}

/// A source of jobs. A run takes one job after the other, so that it does not hold all of them.
pub(crate) trait JobSource {
    fn next(&mut self, now: Instant) -> NextJob;

    /// Returns the number of remaining jobs, as far as it is known.
    fn remaining(&self) -> usize;

    /// Returns the name after which the source wants the next page of the server's list of files.
    fn wanted_page(&self) -> Option<&str> {
        None
    }

    /// Takes the wanted page, or the reason why the server does not send it. Announces the files to
    /// the report.
    fn on_page(&mut self, _page: Result<FileList, NotListed>, _report: &mut TransferReport) {}

    /// Returns true if the source knows all its jobs.
    fn is_complete(&self) -> bool {
        true
    }

    /// Returns the reason why the source does not know all its jobs, once.
    fn take_failure(&mut self) -> Option<Failure> {
        None
    }

    /// Takes a file that the source has found, and that should be transferred but cannot be, if
    /// `next` has not returned it: its name, and the reason.
    fn take_unsendable(&mut self) -> Option<(String, String)> {
        None
    }
}

/// The end of a run.
#[derive(Debug)]
pub(crate) enum RunEnd {
    /// Every file was transferred, or failed for good.
    Complete,
    /// Every file that the source found was transferred, or failed for good. The source could not
    /// find all of them, for this reason.
    NotAllFound(Failure),
    /// The user interrupted the run.
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
    /// The number that identifies the job in events and for its bar.
    number: u64,
    file: FileJob,
    state: JobState,
    /// The number of attempts that failed while the connection was open.
    failed: u32,
    /// The most bytes that any attempt transferred.
    best: u64,
    /// The progress of the last attempt.
    progress: Option<TransferHandle>,
    /// The reason why the last of the attempts failed that are counted in `failed`.
    last_failure: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobState {
    /// The next attempt is due at this time.
    Waiting(Instant),
    /// An attempt was handed to the connection at this time.
    InFlight(Instant),
}

impl Job {
    /// Returns the time when the next attempt is due, if the job waits.
    fn due(&self) -> Option<Instant> {
        match self.state {
            JobState::Waiting(due) => Some(due),
            JobState::InFlight(_) => None,
        }
    }

    /// Returns the time when the attempt started, if the job is in flight.
    fn in_flight_since(&self) -> Option<Instant> {
        match self.state {
            JobState::InFlight(since) => Some(since),
            JobState::Waiting(_) => None,
        }
    }
}

/// The request for the next page of the server's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageRequest {
    /// There is none, and the next one is due at this time.
    Waiting(Instant),
    InFlight,
}

struct Run<'a> {
    client: &'a mut FileClient,
    source: &'a mut dyn JobSource,
    report: &'a mut TransferReport,
    phase: Phase,
    page: PageRequest,
    /// The reason why the last request for the page failed, if it is repeated.
    page_failure: Option<String>,
    /// The jobs in the order in which they were taken.
    jobs: Vec<Job>,
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
            page: PageRequest::Waiting(Instant::now()),
            page_failure: None,
            jobs: Vec::new(),
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
                Phase::Interrupted(end) if now >= end || self.count_in_flight() == 0 => {
                    return Ok(RunEnd::Interrupted);
                }
                Phase::Interrupted(end) => Some(end),
                Phase::Taking | Phase::Finishing => self.start_jobs(now),
            };
            if self.phase == Phase::Finishing && self.jobs.is_empty() {
                let failure = self.source.take_failure();
                return Ok(failure.map_or(RunEnd::Complete, RunEnd::NotAllFound));
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

    /// Starts as many jobs as there is room for. Returns the time to try again.
    fn start_jobs(&mut self, now: Instant) -> Option<Instant> {
        let peer = self.client.peer()?;
        let next_request = self.request_page(peer, now);
        earliest(next_request, self.start_transfers(peer, now))
    }

    /// Requests the page that the source wants. Returns the time to try again.
    fn request_page(&mut self, peer: PeerId, now: Instant) -> Option<Instant> {
        let PageRequest::Waiting(due) = self.page else { return None };
        let after = self.source.wanted_page()?;
        if due > now {
            return Some(due);
        }
        if self.count_in_flight() >= MAX_IN_FLIGHT {
            // The end of a transfer makes room, and the page has precedence over the next transfer.
            return None;
        }
        if self.client.request_page(peer, after) {
            self.page = PageRequest::InFlight;
            return None;
        }
        // The mailbox of the connection's worker is full.
        let due = now + pause_after(1);
        self.page = PageRequest::Waiting(due);
        Some(due)
    }

    fn start_transfers(&mut self, peer: PeerId, now: Instant) -> Option<Instant> {
        let mut batch = Vec::new();
        let mut next_start = None;
        let pages = usize::from(self.page == PageRequest::InFlight);
        while self.count_in_flight() + pages < MAX_IN_FLIGHT {
            match self.next_job(now) {
                Ok(job) => {
                    job.state = JobState::InFlight(now);
                    let delivery_id = job.progress.as_ref().and_then(TransferHandle::delivery_id);
                    batch.push((job.number, job.file.clone(), delivery_id));
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
        let numbers: Vec<u64> = batch.iter().map(|(number, ..)| *number).collect();
        let accepted = self.client.run_on_peer(peer, move |peer, forwarder| {
            for (number, FileJob { directory, path, name, .. }, delivery_id) in batch {
                let progress = match direction {
                    Direction::Send => {
                        let source = Source::new(&directory, path).named(name);
                        peer.offer_file(match delivery_id {
                            Some(id) => source.delivery_id(id),
                            None => source,
                        })
                    }
                    Direction::Get => {
                        peer.fetch_file(&name, Destination::new(&directory).named(path))
                    }
                };
                forwarder.forward(Event::Started(number, progress));
            }
        });
        if !accepted {
            // The mailbox of the connection's worker is full.
            for job in self.jobs.iter_mut().filter(|job| numbers.contains(&job.number)) {
                job.state = JobState::Waiting(now + pause_after(1));
            }
        }
        next_start
    }

    /// Returns the next job to start. If there is none, the error is the time to ask again.
    fn next_job(&mut self, now: Instant) -> Result<&mut Job, Option<Instant>> {
        let is_due = |job: &Job| job.due().is_some_and(|due| due <= now);
        let index = match self.jobs.iter().position(is_due) {
            Some(index) => index,
            None => self.take_job(now)?,
        };
        Ok(&mut self.jobs[index])
    }

    /// Takes a job from the source, and returns its index. If there is none, the error is the time
    /// to ask again.
    fn take_job(&mut self, now: Instant) -> Result<usize, Option<Instant>> {
        let next_retry = self.jobs.iter().filter_map(Job::due).min();
        let waiting = self.jobs.len() - self.count_in_flight();
        if self.phase != Phase::Taking || waiting >= MAX_WAITING {
            return Err(next_retry);
        }
        loop {
            match self.source.next(now) {
                NextJob::Job(file) => {
                    self.last_number += 1;
                    self.jobs.push(Job {
                        number: self.last_number,
                        file,
                        state: JobState::Waiting(now),
                        failed: 0,
                        best: 0,
                        progress: None,
                        last_failure: None,
                    });
                    return Ok(self.jobs.len() - 1);
                }
                NextJob::Skipped(name, why) => self.report.skipped(&name, why),
                NextJob::Failed(name, why) => self.report.failed(&name, &why),
                NextJob::NotBefore(later) => return Err(earliest(next_retry, Some(later))),
                NextJob::AfterPage => return Err(next_retry),
                NextJob::End => {
                    self.phase = Phase::Finishing;
                    return Err(next_retry);
                }
            }
        }
    }

    fn count_in_flight(&self) -> usize {
        self.jobs.iter().filter_map(Job::in_flight_since).count()
    }

    // ---- events ----

    fn on_event(&mut self, event: Event) -> Result<(), GaveUp> {
        match event {
            Event::Started(number, progress) => {
                if let Some(job) = self.jobs.iter_mut().find(|job| job.number == number) {
                    job.progress = Some(progress);
                }
            }
            Event::Finished(transfer) => self.on_finished(&transfer)?,
            Event::Disconnected(_) => {
                // The transfers ended with the connection, also those that had not begun.
                let now = Instant::now();
                for job in self.jobs.iter_mut().filter(|job| job.in_flight_since().is_some()) {
                    job.state = JobState::Waiting(now);
                }
                self.page = PageRequest::Waiting(now);
            }
            Event::Listed(page) => self.on_page(page),
            Event::Interrupted => self.phase = Phase::Interrupted(Instant::now() + self.grace),
            Event::Connected => {}
        }
        Ok(())
    }

    fn on_page(&mut self, page: Page) {
        let now = Instant::now();
        // The answer to a request over a lost connection is not needed: the request is repeated,
        // unless `Event::Disconnected` ends the run.
        let is_lost = page.as_ref().is_err_and(is_disconnected);
        if self.page != PageRequest::InFlight || is_lost {
            return;
        }
        let page = match page {
            Ok(page) => {
                self.client.on_progress();
                Ok(page)
            }
            Err(error) if error.is_passing() && self.client.backoff.may_retry(now) => {
                self.page = PageRequest::Waiting(self.client.backoff.next_attempt_at(now));
                self.page_failure = Some(self.client.not_listed(&error).why);
                return;
            }
            Err(error) => Err(self.client.not_listed(&error)),
        };
        self.page = PageRequest::Waiting(now);
        self.page_failure = None;
        self.source.on_page(page, self.report);
    }

    fn on_finished(&mut self, transfer: &FinishedTransfer) -> Result<(), GaveUp> {
        let progress = transfer.handle();
        let ended = self.jobs.iter().enumerate().find_map(|(index, job)| {
            let since = job.in_flight_since()?;
            (job.progress.as_ref() == Some(progress)).then_some((index, since))
        });
        let Some((index, since)) = ended else { return Ok(()) };
        let attempt = Attempt { progress: Some(progress), time: since.elapsed() };
        match transfer.result() {
            Ok(hash) => {
                self.jobs.remove(index);
                self.report.add(progress.name(), &attempt, &FileEnd::Transferred(hash));
                self.client.on_progress();
                Ok(())
            }
            Err(error) => {
                self.note_progress();
                self.on_failed(index, &attempt, error)
            }
        }
    }

    /// Schedules a job again whose attempt has failed, or ends it.
    fn on_failed(
        &mut self,
        index: usize,
        attempt: &Attempt<'_>,
        error: &TransferError,
    ) -> Result<(), GaveUp> {
        let now = Instant::now();
        let job = &mut self.jobs[index];
        match error.kind() {
            TransferErrorKind::Disconnected if is_disconnected(error) => {
                job.state = JobState::Waiting(now);
                return Ok(());
            }
            TransferErrorKind::Unsupported => {
                let why = format!("{} cannot transfer files: {error}", self.client.target);
                return Err(GaveUp::ForGood(why));
            }
            _ => job.failed += 1,
        }
        if is_worth_a_retry(error, job.failed) && self.client.backoff.may_retry(now) {
            job.state = JobState::Waiting(now + pause_after(job.failed));
            job.last_failure = Some(error.to_string());
            return Ok(());
        }
        let job = self.jobs.remove(index);
        let not_listed = job.file.not_listed.as_deref().filter(|_| may_be_a_directory(error));
        let why = match not_listed {
            Some(not_listed) => format!("{error}; {}", not_listed.why),
            None => error.to_string(),
        };
        let may_succeed_later =
            error.may_succeed_later() || not_listed.is_some_and(|it| it.may_succeed_later);
        let end = FileEnd::failed(why, may_succeed_later);
        self.report.add(&job.file.name, attempt, &end);
        if !error.is_passing() {
            // A server that rejects files is reachable.
            self.client.on_progress();
        }
        Ok(())
    }

    // ---- progress ----

    fn check_progress(&mut self, now: Instant) {
        self.note_progress();
        let in_flight = self.jobs.iter().filter_map(|job| {
            let time = now.saturating_duration_since(job.in_flight_since()?);
            Some(FileProgress { number: job.number, time, handle: job.progress.as_ref()? })
        });
        self.report.show(&in_flight.collect::<Vec<_>>());
    }

    /// Notes progress if any transfer got further than ever before.
    fn note_progress(&mut self) {
        let mut progressed = 0;
        for job in self.jobs.iter_mut().filter(|job| job.in_flight_since().is_some()) {
            let bytes = job.progress.as_ref().map_or(0, TransferHandle::transferred_bytes);
            progressed += bytes.saturating_sub(job.best);
            job.best = job.best.max(bytes);
        }
        if progressed > 0 {
            self.client.on_progress();
        }
    }

    /// Reports the jobs that have not ended, and counts those that remain in the source.
    fn report_unfinished(self, end: &RunEnd) {
        let why = match end {
            RunEnd::Complete | RunEnd::NotAllFound(_) => return,
            RunEnd::Interrupted => "interrupted",
            RunEnd::GaveUp(gave_up) => gave_up.why(),
        };
        for Job { file, progress, last_failure, .. } in &self.jobs {
            let attempt = Attempt { progress: progress.as_ref(), time: Duration::ZERO };
            let end = FileEnd::Unfinished { why, last_failure: last_failure.as_deref() };
            self.report.add(&file.name, &attempt, &end);
        }
        while let Some((name, why)) = self.source.take_unsendable() {
            self.report.failed(&name, &why);
        }
        self.report.add_untried(self.source.remaining());
        if !self.source.is_complete() {
            self.report.add_unknown();
        }
        let failures = [self.page_failure.map(Failure::runtime), self.source.take_failure()];
        failures.into_iter().flatten().for_each(|failure| self.report.note(failure));
    }
}

/// Returns true if the server may have a directory under the name of a file that failed with this
/// error. Some servers answer a request for a directory as one for an invalid name.
fn may_be_a_directory(error: &TransferError) -> bool {
    use TransferErrorKind as Kind;
    error.is_by_peer() && matches!(error.kind(), Kind::NotFound | Kind::BadName)
}

/// Returns true if a job that failed this many times with this error should be retried.
fn is_worth_a_retry(error: &TransferError, failed: u32) -> bool {
    use TransferErrorKind as Kind;
    let changed = matches!(error.kind(), Kind::Changed | Kind::Replaced | Kind::HashDiffers);
    error.is_passing() && (!changed || failed < MAX_CHANGED_ATTEMPTS)
}
