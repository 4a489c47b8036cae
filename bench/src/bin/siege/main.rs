//! Measures an endpoint under attack: the goodput of honest peers, the time until it is back to
//! normal, and the memory of the server.
//!
//! `cargo xtask bench --siege` builds and runs it. The server and a sink run on core 0, attackers
//! and honest peers on core 1. The same attackers attack the sink, which is the baseline, and the
//! server. The honest peers talk to the server in both cases.

#![forbid(unsafe_code)]

mod attack;
mod fixture;
mod frames;
mod honest;
mod interrupt;
mod memory;
mod process;
mod report;
mod rounds;
mod server;
mod sink;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use fixture::Fixture;
use posthouse_bench::machine::{Busy, Machine};
use posthouse_bench::processes::{come_first, raise_descriptor_limit};
use report::Measured;
use rounds::{Durations, NoSiege, Plan, Siege};

/// The number of file descriptors that a process of the measurement needs at most, with a reserve:
/// the server has 640 connections, up to 1,152 that are not admitted, and 256 files.
const DESCRIPTORS: u64 = 4096;
const BACKENDS: [&str; 2] = ["uring", "readiness"];

const HELP: &str = "\
Attacks an endpoint by many peers at once and measures the goodput of honest peers.

  --backend NAME    only this backend, uring or readiness (default: both)
  --rounds N        rounds, of which the median counts (default 5)
  --attack-s N      seconds of each attack (default 10)
  --normal-s N      seconds of each normal phase (default 5)
  --only KINDS      only these kinds of attack, for example A1Gets,A5 (default: all)
  --turns-per-s N   turns of an attacking connection in a second (default 0: no limit)
  --each            each kind of attack alone, instead of all at once; with --only each of these
  --place DIR       directory for the files (default /dev/shm, so that no disk is measured)
  --results DIR     directory for the table; without it the table is only printed

A backend that is not available is left out. The exit code is 1 if a limit is not kept.
";

struct Settings {
    backends: Vec<&'static str>,
    rounds: usize,
    /// True exactly when each kind of attack is measured alone.
    each: bool,
    plan: Plan,
    place: PathBuf,
    results: Option<PathBuf>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match part(&words) {
        Some(result) => result,
        None if words.iter().any(|word| word == "--help") => {
            print!("{HELP}");
            Ok(())
        }
        None => settings(&words).and_then(|settings| run(&settings)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("siege: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a part of the measurement, if the arguments name one.
fn part(words: &[String]) -> Option<Result<(), String>> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let address = |text: &str| text.parse().map_err(|error| format!("{text}: {error}"));
    let text = |error: io::Error| error.to_string();
    match words[..] {
        ["server", backend, root, ref group @ ..] => {
            let group = group.first().map(Path::new);
            Some(server::run(backend, root.as_ref(), group).map_err(|error| error.to_string()))
        }
        // A child that does nothing until its input ends.
        ["wait"] => Some(io::stdin().read_to_end(&mut Vec::new()).map(drop).map_err(text)),
        ["sink"] => Some(sink::run().map_err(text)),
        ["attack", plain, keyed, ms, only, turns] => Some((|| {
            let number = |text: &str| text.parse().map_err(|error| format!("{text}: {error}"));
            let duration = Duration::from_millis(number(ms)?);
            let turns = number(turns)?;
            let pace = Duration::from_nanos(1_000_000_000_u64.checked_div(turns).unwrap_or(0));
            attack::run([address(plain)?, address(keyed)?], duration, (only, pace)).map_err(text)
        })()),
        ["honest", plain, keyed, root] => {
            Some((|| honest::run(address(plain)?, address(keyed)?, root.as_ref()).map_err(text))())
        }
        _ => None,
    }
}

fn settings(words: &[String]) -> Result<Settings, String> {
    let durations = Durations {
        normal: Duration::from_secs(5),
        attack: Duration::from_secs(10),
        recovery: Duration::from_secs(15),
    };
    let mut settings = Settings {
        backends: BACKENDS.to_vec(),
        rounds: 5,
        each: false,
        plan: Plan { durations, only: String::new(), turns_per_second: 0 },
        place: PathBuf::from("/dev/shm"),
        results: None,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--siege" {
            continue;
        }
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n\n{HELP}"));
        let number = |text: &String| text.parse::<u64>().map_err(|e| format!("{word}: {e}"));
        let mut seconds = || Ok::<_, String>(Duration::from_secs(number(value()?)?.max(1)));
        match word.as_str() {
            "--normal-s" => settings.plan.durations.normal = seconds()?,
            "--attack-s" => settings.plan.durations.attack = seconds()?,
            "--each" => settings.each = true,
            "--only" => settings.plan.only = check_kinds(value()?)?,
            "--turns-per-s" => settings.plan.turns_per_second = number(value()?)?,
            "--backend" => settings.backends = vec![backend(value()?)?],
            "--rounds" => settings.rounds = number(value()?)?.max(1) as usize,
            "--place" => settings.place = value()?.into(),
            "--results" => settings.results = Some(value()?.into()),
            _ => return Err(format!("unknown option {word}\n\n{HELP}")),
        }
    }
    Ok(settings)
}

fn backend(name: &str) -> Result<&'static str, String> {
    let found = BACKENDS.into_iter().find(|backend| *backend == name);
    found.ok_or_else(|| format!("no backend is named {name}; there are {}", BACKENDS.join(", ")))
}

/// Checks the names of kinds of attack.
fn check_kinds(names: &str) -> Result<String, String> {
    match names.split(',').find(|name| !attack::is_kind(name)) {
        Some(name) => Err(format!("no kind of attack is named {name}")),
        None => Ok(names.to_owned()),
    }
}

fn run(settings: &Settings) -> Result<(), String> {
    raise_descriptor_limit(DESCRIPTORS)?;
    interrupt::listen()?;
    come_first();
    let plans: Vec<Plan> = if settings.each {
        let alone = |only: String| Plan { only, ..settings.plan.clone() };
        attack::kinds(&settings.plan.only).into_iter().map(alone).collect()
    } else {
        vec![settings.plan.clone()]
    };
    let mut report = Report::begin(settings)?;
    let fixture = Fixture::build(&settings.place)?;
    for backend in &settings.backends {
        for plan in &plans {
            let name = format!("{backend} {}", plan.only).trim().to_owned();
            match measure(&name, backend, plan, &fixture, settings.rounds) {
                Ok(measured) => report.add(measured)?,
                Err(NoSiege::NotAvailable(reason)) => {
                    report.state(&format!("- {backend} is not available: {reason}\n"))?;
                    break;
                }
                Err(NoSiege::Failed(reason)) => {
                    interrupt::check()?;
                    report.state(&format!("- {name} failed: {reason}\n"))?;
                    report.broken.push(format!("{name} (failed)"));
                }
            }
        }
    }
    drop(fixture);
    print!("{}", report.table());
    if let Some(path) = &report.path {
        println!("wrote {}", path.display());
    }
    report.result()
}

fn measure(
    name: &str,
    backend: &str,
    plan: &Plan,
    fixture: &Fixture,
    rounds: usize,
) -> Result<Measured, NoSiege> {
    let mut siege = Siege::start(backend, fixture, plan.clone())?;
    let (name, idle) = (name.to_owned(), siege.idle.own);
    let stated = report::stated(&name, idle, siege.memory_text);
    print!("{stated}");
    siege.warm_up()?;
    let rounds: Result<_, String> =
        (0..rounds).map(|number| siege.round(number % 2 == 0)).collect();
    Ok(Measured { name, idle, stated, rounds: rounds?, ending: siege.end()? })
}

/// The report of a run. Its file is written again after each measurement, so that a later failure
/// loses nothing.
struct Report {
    /// The part before the table.
    text: String,
    measured: Vec<Measured>,
    /// The names of the measurements that failed or did not keep a limit.
    broken: Vec<String>,
    path: Option<PathBuf>,
    busy: Busy,
}

impl Report {
    fn begin(settings: &Settings) -> Result<Self, String> {
        let text = report::beforehand(&settings.plan, settings.rounds, settings.each);
        print!("{text}");
        let path = settings.results.as_ref().map(|results| {
            let each = if settings.each { "-each" } else { "" };
            results.join(format!("{}-siege{each}.md", Machine::here().date))
        });
        let (measured, broken) = (Vec::new(), Vec::new());
        let report = Self { text, measured, broken, path, busy: Busy::now() };
        report.write()?;
        Ok(report)
    }

    fn add(&mut self, measured: Measured) -> Result<(), String> {
        let failures = measured.failures();
        if !failures.is_empty() {
            self.broken.push(format!("{} ({})", measured.name, failures.join(", ")));
        }
        self.text.push_str(&measured.stated);
        self.measured.push(measured);
        self.write()
    }

    /// Appends a line on a backend that has no figures.
    fn state(&mut self, line: &str) -> Result<(), String> {
        print!("{line}");
        self.text.push_str(line);
        self.write()
    }

    fn table(&self) -> String {
        let mut table = report::table(&self.measured);
        let others = Busy::now().share_of_others(self.busy) * 100.0;
        let _ = writeln!(table, "\nOther processes did {others:.0} % of the processors' work.");
        table
    }

    fn write(&self) -> Result<(), String> {
        let Some(path) = &self.path else { return Ok(()) };
        let text = format!("{}{}", self.text, self.table());
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Fails if a limit is not kept, or if nothing was measured.
    fn result(&self) -> Result<(), String> {
        if !self.broken.is_empty() {
            return Err(format!("not kept: {}", self.broken.join("; ")));
        }
        if self.measured.is_empty() { Err("nothing was measured".to_owned()) } else { Ok(()) }
    }
}
