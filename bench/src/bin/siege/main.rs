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
mod memory;
mod process;
mod report;
mod rounds;
mod server;
mod sink;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use fixture::Fixture;
use posthouse_bench::machine::{Busy, Machine};
use report::Measured;
use rounds::{Durations, Plan, Siege};

const HELP: &str = "\
Attacks an endpoint by many peers at once and measures the goodput of honest peers.

  --backend NAME    only this backend, uring or readiness (default: both)
  --rounds N        rounds, of which the median counts (default 3)
  --attack-s N      seconds of each attack (default 10)
  --normal-s N      seconds of each normal phase (default 5)
  --only KINDS      only these kinds of attack, for example A1Gets,A5 (default: all)
  --turns-per-s N   turns of an attacking connection in a second (default 0: no limit)
  --each            one round of each kind of attack alone, instead of all at once
  --place DIR       directory for the files (default /dev/shm, so that no disk is measured)
  --results DIR     directory for the table; without it the table is only printed
";

struct Settings {
    backends: Vec<String>,
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
    let text = |error: std::io::Error| error.to_string();
    match words[..] {
        ["server", backend, root, ref group @ ..] => {
            let group = group.first().map(Path::new);
            Some(server::run(backend, root.as_ref(), group).map_err(|error| error.to_string()))
        }
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
        backends: vec!["uring".into(), "readiness".into()],
        rounds: 3,
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
            "--backend" => settings.backends = vec![value()?.clone()],
            "--rounds" => settings.rounds = number(value()?)?.max(1) as usize,
            "--place" => settings.place = value()?.into(),
            "--results" => settings.results = Some(value()?.into()),
            _ => return Err(format!("unknown option {word}\n\n{HELP}")),
        }
    }
    Ok(settings)
}

/// Checks the names of kinds of attack.
fn check_kinds(names: &str) -> Result<String, String> {
    match names.split(',').find(|name| !attack::is_kind(name)) {
        Some(name) => Err(format!("no kind of attack is named {name}")),
        None => Ok(names.to_owned()),
    }
}

fn run(settings: &Settings) -> Result<(), String> {
    let busy = Busy::now();
    let plans: Vec<Plan> = if settings.each {
        let alone = |only: &str| Plan { only: only.to_owned(), ..settings.plan.clone() };
        attack::kinds().iter().map(|kind| alone(kind)).collect()
    } else {
        vec![settings.plan.clone()]
    };
    let mut text = report::beforehand(&settings.plan, settings.rounds);
    print!("{text}");
    let fixture = Fixture::build(&settings.place)?;
    let mut all = Vec::new();
    for backend in &settings.backends {
        for plan in &plans {
            let measured = measure(backend, plan, &fixture, settings.rounds)?;
            text.push_str(&measured.stated);
            all.push(measured);
        }
    }
    drop(fixture);
    let mut table = report::table(&all);
    let others = Busy::now().share_of_others(busy) * 100.0;
    let _ = writeln!(table, "\nOther processes did {others:.0} % of the processors' work.");
    print!("{table}");
    text.push_str(&table);
    if let Some(results) = &settings.results {
        let each = if settings.each { "-each" } else { "" };
        let path = results.join(format!("{}-siege{each}.md", Machine::here().date));
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

fn measure(
    backend: &str,
    plan: &Plan,
    fixture: &Fixture,
    rounds: usize,
) -> Result<Measured, String> {
    let mut siege = Siege::start(backend, fixture, plan.clone())?;
    let name = format!("{backend} {}", plan.only).trim().to_owned();
    let stated = report::stated(&name, siege.idle.own, siege.memory_text);
    print!("{stated}");
    let rounds =
        (0..rounds).map(|number| siege.round(number % 2 == 0)).collect::<Result<_, _>>()?;
    Ok(Measured { name, idle: siege.idle.own, stated, rounds })
}
