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
#[path = "../runner/machine.rs"]
mod machine;
mod memory;
mod process;
mod report;
mod rounds;
mod server;
mod sink;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use fixture::Fixture;
use machine::{Busy, Machine};
use report::Measured;
use rounds::{Durations, Siege};

const HELP: &str = "\
Attacks an endpoint by many peers at once and measures the goodput of honest peers.

  --backend NAME    only this backend, uring or readiness (default: both)
  --rounds N        rounds, of which the median counts (default 3)
  --attack-s N      seconds of each attack (default 10)
  --normal-s N      seconds of each normal phase (default 5)
  --place DIR       directory for the files (default /dev/shm, so that no disk is measured)
  --results DIR     directory for the table; without it the table is only printed
";

struct Settings {
    backends: Vec<String>,
    rounds: usize,
    durations: Durations,
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
            let group = group.first().map(|path| path.as_ref());
            Some(server::run(backend, root.as_ref(), group).map_err(|error| error.to_string()))
        }
        ["sink"] => Some(sink::run().map_err(text)),
        ["attack", plain, keyed, ms] => Some((|| {
            let ms = ms.parse().map_err(|error| format!("{ms}: {error}"))?;
            let duration = Duration::from_millis(ms);
            attack::run(address(plain)?, address(keyed)?, duration).map_err(text)
        })()),
        ["honest", plain, keyed, root] => Some((|| {
            honest::run(address(plain)?, address(keyed)?, root.as_ref()).map_err(text)
        })()),
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
        durations,
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
            "--normal-s" => settings.durations.normal = seconds()?,
            "--attack-s" => settings.durations.attack = seconds()?,
            "--backend" => settings.backends = vec![value()?.clone()],
            "--rounds" => settings.rounds = number(value()?)?.max(1) as usize,
            "--place" => settings.place = value()?.into(),
            "--results" => settings.results = Some(value()?.into()),
            _ => return Err(format!("unknown option {word}\n\n{HELP}")),
        }
    }
    Ok(settings)
}

fn run(settings: &Settings) -> Result<(), String> {
    let busy = Busy::now();
    let mut text = report::beforehand(settings.durations, settings.rounds);
    print!("{text}");
    let fixture = Fixture::build(&settings.place)?;
    let mut all = Vec::new();
    for backend in &settings.backends {
        let mut siege = Siege::start(backend, &fixture, settings.durations)?;
        let stated = report::stated(backend, siege.idle.own, siege.memory_text);
        print!("{stated}");
        text.push_str(&stated);
        let mut rounds = Vec::new();
        for number in 0..settings.rounds {
            rounds.push(siege.round(number % 2 == 0)?);
        }
        all.push(Measured {
            backend: backend.clone(),
            idle: siege.idle.own,
            rounds,
        });
    }
    drop(fixture);
    let mut table = report::table(&all);
    let others = Busy::now().share_of_others(busy) * 100.0;
    table.push_str(&format!("\nOther processes did {others:.0} % of the processors' work.\n"));
    print!("{table}");
    text.push_str(&table);
    if let Some(results) = &settings.results {
        let path = results.join(format!("{}-siege.md", Machine::here().date));
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}
