//! Measures one large file, and many small ones, by several methods: the time, and the processor
//! time of both ends.
//!
//! `cargo xtask bench --files` builds and runs it. Each method is a server and a client, which are
//! separate processes. The time is that of the client from its start to its end; the processor time
//! is that of all processes of both ends. The received files are compared byte by byte, outside of
//! the measurement.

#![forbid(unsafe_code)]

mod fixture;
mod methods;
mod raw;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use fixture::{FileSet, Fixture};
use methods::{Cost, Method};
use posthouse_bench::{processes, statistics};

const HELP: &str = "\
Sends one large file, and 2,000 files of 10 KiB, by several methods over loopback.

  --program PATH    the posthouse program (default target/release/posthouse)
  --place DIR       directory for the files (default /dev/shm, so that no disk is measured)
  --gib N           size of the large file in GiB (default 4)
  --rounds N        rounds of all methods in turns, of which the median counts (default 3)
  --results DIR     directory for the table; without it the table is only printed
";

struct Settings {
    program: PathBuf,
    place: PathBuf,
    large_bytes: u64,
    rounds: usize,
    results: Option<PathBuf>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(end) = raw::run(&words) {
        return end;
    }
    if words.iter().any(|word| word == "--help") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match settings(&words).and_then(|settings| run(&settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("files: {message}");
            ExitCode::FAILURE
        }
    }
}

fn settings(words: &[String]) -> Result<Settings, String> {
    let mut settings = Settings {
        program: PathBuf::from("target/release/posthouse"),
        place: PathBuf::from("/dev/shm"),
        large_bytes: 4 << 30,
        rounds: 3,
        results: None,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--files" {
            continue;
        }
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n\n{HELP}"));
        let number = |text: &String| text.parse::<u64>().map_err(|e| format!("{word}: {e}"));
        match word.as_str() {
            "--program" => settings.program = value()?.into(),
            "--place" => settings.place = value()?.into(),
            "--gib" => settings.large_bytes = number(value()?)? << 30,
            "--rounds" => settings.rounds = number(value()?)?.max(1) as usize,
            "--results" => settings.results = Some(value()?.into()),
            _ => return Err(format!("unknown option {word}\n\n{HELP}")),
        }
    }
    Ok(settings)
}

fn run(settings: &Settings) -> Result<(), String> {
    processes::come_first();
    let fixture = Fixture::build(&settings.place, settings.large_bytes)?;
    let result = measure(settings, &fixture);
    fixture.remove();
    let table = result?;
    print!("{table}");
    if let Some(results) = &settings.results {
        let path = results.join(format!("{}-files.md", today()));
        fs::write(&path, table).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

fn measure(settings: &Settings, fixture: &Fixture) -> Result<String, String> {
    let mut table = heading(settings);
    for set in [FileSet::Large, FileSet::Small] {
        let methods = Method::all(&settings.program);
        let mut taken: Vec<Vec<Cost>> = vec![Vec::new(); methods.len()];
        for _ in 0..settings.rounds {
            for (method, taken) in methods.iter().zip(&mut taken) {
                fixture.empty_inbox()?;
                taken.push(method.transfer(set, fixture)?);
                fixture.check(set, method.name)?;
            }
        }
        let name = match set {
            FileSet::Large => format!("One file of {} GiB", settings.large_bytes >> 30),
            FileSet::Small => "2,000 files of 10 KiB".to_owned(),
        };
        let _ = writeln!(table, "\n## {name}\n\n| method | time | processor time, both ends |");
        let _ = writeln!(table, "|---|--:|--:|");
        for (method, taken) in methods.iter().zip(taken) {
            let _ = writeln!(
                table,
                "| {} | {:.2} s | {:.2} s |",
                method.name,
                median(taken.iter().map(|taken| taken.wall)),
                median(taken.iter().map(|taken| taken.cpu))
            );
        }
    }
    Ok(table)
}

fn heading(settings: &Settings) -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "# Files, measured {}, Linux {}\n\n`cargo xtask bench --files`: {} rounds of each \
         method in turns, the median; from and to {}. Two cores, both ends on them.\n\
         Posthouse hashes on both ends, syncs, and publishes under the final name; the others do \
         none of that (rsync hashes).\n",
        today(),
        kernel.split(['-', '\n']).next().unwrap_or_default(),
        settings.rounds,
        settings.place.display()
    )
}

/// Returns the date in UTC.
fn today() -> String {
    let output = std::process::Command::new("date").args(["-u", "+%F"]).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}

fn median(times: impl Iterator<Item = Duration>) -> f64 {
    statistics::median(&times.map(|time| time.as_secs_f64()).collect::<Vec<f64>>())
}
