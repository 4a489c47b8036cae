//! `posthouse sim`: the simulation campaign of the framework.

mod panics;

use std::fmt;
use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use posthouse_campaign::{self as campaign, Summary};
use serde::Serialize;

use crate::failure::{CommandResult, Failure};
use crate::logging::Log;
use crate::monitor::Monitor;
use crate::term::stdout::ReportFlags;

/// Run servers and clients in a simulated network, once for each seed.
///
/// A run is a pure function of its seed, which decides on clients, faults and timing. Each run
/// checks every contract of the framework. Every seed runs messages, and every fourth seed also
/// files, another fourth admission under a flood. The campaign stops at the first failure, and
/// prints its seed and the command that replays it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  posthouse sim --seeds 10000
  posthouse sim --seeds 1 --from 417 --trace 2> log    replay seed 417 and keep its log
  posthouse sim --seeds 100 --twice                    check that runs can be repeated")]
pub(crate) struct Sim {
    /// The number of seeds
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u64).range(1..=u64::MAX))]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 0)]
    from: u64,
    /// The number of seeds that run at the same time. The default is one per core
    #[arg(long, value_name = "J")]
    jobs: Option<NonZero<usize>>,
    /// The workload: traffic (messages), files, admission (peers that prove nothing), or all
    /// (messages with every seed, the others with every fourth)
    #[arg(long, value_enum, default_value_t = Workload::All)]
    what: Workload,
    /// Run every seed twice, and compare the fingerprints of the two runs
    #[arg(long)]
    twice: bool,
    /// Log everything to stderr, without times, one seed after the other
    #[arg(long)]
    trace: bool,
    #[command(flatten)]
    report: ReportFlags,
}

/// The workload of a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Workload {
    Traffic,
    Files,
    Admission,
    All,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct FailedSeed {
    seed: u64,
    what: String,
}

/// The sums of all runs of a campaign.
#[derive(Debug, Default)]
struct CampaignResult {
    seeds: u64,
    sum: Summary,
    failures: Vec<FailedSeed>,
}

#[derive(Debug, Serialize)]
struct Report {
    from: u64,
    seeds: u64,
    elapsed_seconds: f64,
    seeds_per_second: f64,
    messages: u64,
    requests: u64,
    connections: u64,
    disconnections: u64,
    faults: u64,
    operations: u64,
    files: u64,
    files_failed: u64,
    resumed_bytes: u64,
    crashes: u64,
    /// The fingerprint of all runs together, the same for every campaign over the same seeds.
    fingerprint: String,
    failures: Vec<FailedSeed>,
}

impl Sim {
    /// Returns the default log. It is off, because its warnings are about injected faults.
    pub(crate) fn default_log(&self) -> Log {
        if self.trace { Log::Traced } else { Log::Plain("off") }
    }

    pub(crate) fn run(&self) -> CommandResult {
        let Some(end) = self.from.checked_add(self.seeds) else {
            return Err(Failure::usage("--from and --seeds together exceed the last seed"));
        };
        let jobs = match self.jobs {
            _ if self.trace => 1,
            Some(jobs) => jobs.get(),
            None => thread::available_parallelism().map_or(1, NonZero::get),
        };
        let started = Instant::now();
        let result = run_seeds(self.from..end, jobs, |seed| self.run_seed(seed));
        let report = Report::new(self.from, result, started.elapsed());
        self.report.write(&report)?;
        match report.failures.first() {
            None => Ok(()),
            Some(failed) => Err(Failure::runtime(format!(
                "a contract is broken; replay it with: posthouse sim --seeds 1 --from {}{}{}",
                failed.seed,
                self.what.flag(),
                if self.twice { " --twice" } else { " --trace" }
            ))),
        }
    }

    /// Runs one seed.
    fn run_seed(&self, seed: u64) -> Result<Summary, String> {
        let summary = self.what.run(seed)?;
        if self.twice {
            let first = summary.fingerprint;
            let second = self.what.run(seed)?.fingerprint;
            if first != second {
                return Err(format!(
                    "two runs differ (fingerprints {first:#018x} and {second:#018x}): the run is \
                     not a function of its seed"
                ));
            }
        }
        Ok(summary)
    }
}

/// The number of seeds of which one runs files, too, and another one admission. A run of files
/// takes about as long as four runs of messages.
const OTHERS_EVERY: u64 = 4;

impl Workload {
    fn run(self, seed: u64) -> Result<Summary, String> {
        let traffic = || campaign::run(seed).map_err(|violation| violation.to_string());
        let files = || campaign::run_files(seed).map_err(|violation| violation.to_string());
        let admission = || campaign::run_admission(seed).map_err(|violation| violation.to_string());
        match self {
            Workload::Traffic => traffic(),
            Workload::Files => files(),
            Workload::Admission => admission(),
            Workload::All => {
                let mut sum = traffic()?;
                if seed.is_multiple_of(OTHERS_EVERY) {
                    sum.merge(&files()?);
                }
                if seed % OTHERS_EVERY == 3 {
                    sum.merge(&admission()?);
                }
                Ok(sum)
            }
        }
    }

    /// Returns the flag for this workload, which is empty for the default.
    fn flag(self) -> &'static str {
        match self {
            Workload::Traffic => " --what traffic",
            Workload::Files => " --what files",
            Workload::Admission => " --what admission",
            Workload::All => "",
        }
    }
}

/// Runs the seeds in order on this many threads. Stops when a seed has failed or panicked.
fn run_seeds(
    seeds: Range<u64>,
    jobs: usize,
    run: impl Fn(u64) -> Result<Summary, String> + Sync,
) -> CampaignResult {
    let next = AtomicU64::new(seeds.start);
    let result = Monitor::<CampaignResult>::default();
    let work = || {
        while result.read(|result| result.failures.is_empty()) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let outcome = panics::catch(|| run(seed)).flatten();
            result.change(|result| {
                result.seeds += 1;
                match outcome {
                    Ok(summary) => result.sum.merge(&summary),
                    Err(what) => result.failures.push(FailedSeed { seed, what }),
                }
            });
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    let mut result = result.change(std::mem::take);
    result.failures.sort_by_key(|failed| failed.seed);
    result
}

impl Report {
    fn new(from: u64, result: CampaignResult, elapsed: Duration) -> Self {
        let CampaignResult { seeds, sum, failures } = result;
        let elapsed_seconds = elapsed.as_secs_f64();
        Self {
            from,
            seeds,
            elapsed_seconds,
            seeds_per_second: seeds as f64 / elapsed_seconds,
            messages: sum.messages,
            requests: sum.requests,
            connections: sum.connections,
            disconnections: sum.disconnections,
            faults: sum.faults,
            operations: sum.operations,
            files: sum.files,
            files_failed: sum.files_failed,
            resumed_bytes: sum.resumed_bytes,
            crashes: sum.crashes,
            fingerprint: format!("{:016x}", sum.fingerprint),
            failures,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for FailedSeed { seed, what } in &self.failures {
            writeln!(f, "seed {seed}: {what}")?;
        }
        let Self { from, seeds, elapsed_seconds, seeds_per_second, .. } = self;
        write!(f, "{seeds} seeds from {from} in {elapsed_seconds:.2} s, ")?;
        write!(f, "{seeds_per_second:.0} a second: ")?;
        match self.failures.len() {
            0 => writeln!(f, "all contracts hold")?,
            failed => writeln!(f, "{failed} failed")?,
        }
        let Self { messages, requests, connections, disconnections, faults, .. } = self;
        writeln!(
            f,
            "{messages} messages, {requests} requests, {connections} connections, \
             {disconnections} disconnections,"
        )?;
        let Self { files, files_failed, resumed_bytes, crashes, .. } = self;
        if files + files_failed > 0 {
            writeln!(
                f,
                "{files} files, {files_failed} failed attempts, {resumed_bytes} bytes not \
                 sent again, {crashes} crashes,"
            )?;
        }
        let Self { operations, fingerprint, .. } = self;
        writeln!(f, "{faults} faults, {operations} operations; fingerprint {fingerprint}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(seed: u64) -> Summary {
        Summary { messages: seed, fingerprint: 1 << seed, ..Summary::default() }
    }

    #[test]
    fn every_seed_runs_once_and_the_sums_are_the_same_whatever_the_number_of_jobs() {
        let one = run_seeds(3..20, 1, |seed| Ok(summary(seed)));
        assert_eq!((one.seeds, one.sum.messages), (17, (3..20).sum()));
        assert_eq!(one.failures, []);
        for jobs in [2, 7] {
            let many = run_seeds(3..20, jobs, |seed| Ok(summary(seed)));
            assert_eq!((many.seeds, many.sum), (one.seeds, one.sum));
        }
    }

    #[test]
    fn a_failure_ends_the_campaign_and_names_its_seed() {
        let run = |seed| if seed == 5 { Err("told twice".to_owned()) } else { Ok(summary(seed)) };
        let done = run_seeds(0..50, 1, run);
        assert_eq!(done.failures, [FailedSeed { seed: 5, what: "told twice".into() }]);
        assert_eq!(done.seeds, 6, "no seed after the failure");
    }

    #[test]
    fn a_panic_in_a_run_is_a_failure_like_any_other() {
        let run = |seed| {
            assert_ne!(seed, 2, "oh");
            Ok(summary(seed))
        };
        let failures = run_seeds(0..4, 1, run).failures;
        assert_eq!(failures.len(), 1);
        assert!(failures[0].seed == 2 && failures[0].what.contains("oh"), "{failures:?}");
    }
}
