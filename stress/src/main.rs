//! Opens and closes millions of short connections with random cancels, resets and half-closes, and
//! checks that nothing is left at the end. `cargo xtask stress` builds and runs it.

#![forbid(unsafe_code)]

mod campaign;
#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::time::Duration;

use campaign::{Count, MAX_CONNECTIONS, Plan, Report, Settings};
use posthouse_io::{Backend, Layout, ReadMode};

const HELP: &str = "\
Opens and closes many connections over loopback, with random cancels, resets and half-closes. Checks
that every operation ends once, that bytes arrive as they were sent, and that nothing is left.

  --connections N      number of connections (default 20000, at most 16000000)
  --backend NAME       uring (default) or readiness; on Windows iocp
  --layout NAME        pinned (default) or shared
  --read-mode NAME     zero-byte (default) or pending (Windows)
  --resets PERCENT     percentage of the connections that one side resets in addition (default 0)
  --seed S             the behaviour of each connection (default 1); the order in which the threads
                       run, and so the order of events, differs from run to run
  --guarded            put every receive buffer on pages that nobody can touch after its release
  --without-files      send from memory only (for Wine, where a TransmitFile that begins after the
                       peer has disconnected never ends)
  --workers N          number of I/O workers (default 3)
  --at-once N          maximum number of simultaneous connections (default 1024, at most 6000)
  --minutes N          begin no more connections after this time
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let settings = match parse(words) {
        Ok(settings) => settings,
        Err(message) => {
            eprintln!("stress: {message}\n\n{HELP}");
            return ExitCode::FAILURE;
        }
    };
    println!("{settings:?}");
    let seed = settings.plan.seed;
    match campaign::run(settings) {
        Ok(report) => {
            print(&report);
            ExitCode::SUCCESS
        }
        Err(what) => {
            eprintln!("FAILED, seed {seed}: {what}");
            ExitCode::FAILURE
        }
    }
}

fn parse(words: Vec<String>) -> Result<Settings, String> {
    let mut settings = Settings {
        connections: 20_000,
        backend: if cfg!(windows) { Backend::Iocp } else { Backend::Uring },
        layout: Layout::Pinned,
        read_mode: ReadMode::ZeroByte,
        plan: Plan { seed: 1, resets_percent: 0 },
        guarded: false,
        files: true,
        workers: 3,
        at_once: 1024,
        max_time: None,
    };
    let mut words = words.into_iter();
    while let Some(option) = words.next() {
        match option.as_str() {
            "--guarded" => {
                settings.guarded = true;
                continue;
            }
            "--without-files" => {
                settings.files = false;
                continue;
            }
            _ => {}
        }
        let value = words.next().ok_or_else(|| format!("{option} needs a value"))?;
        let number = |max: u64| match value.parse() {
            Ok(number) if (1..=max).contains(&number) => Ok(number),
            _ => Err(format!("{option} {value}: must be a number from 1 to {max}")),
        };
        match (option.as_str(), value.as_str()) {
            ("--connections", _) => settings.connections = number(MAX_CONNECTIONS.into())? as u32,
            ("--backend", "uring") => settings.backend = Backend::Uring,
            ("--backend", "iocp") => settings.backend = Backend::Iocp,
            ("--backend", "readiness") => settings.backend = Backend::Readiness,
            ("--layout", "pinned") => settings.layout = Layout::Pinned,
            ("--layout", "shared") => settings.layout = Layout::Shared,
            ("--read-mode", "zero-byte") => settings.read_mode = ReadMode::ZeroByte,
            ("--read-mode", "pending") => settings.read_mode = ReadMode::Pending,
            ("--resets", _) => settings.plan.resets_percent = number(100)? as u32,
            ("--seed", _) => settings.plan.seed = number(u64::MAX)?,
            ("--workers", _) => settings.workers = number(64)? as u16,
            ("--at-once", _) => settings.at_once = number(6000)? as u16,
            ("--minutes", _) => {
                settings.max_time = Some(Duration::from_mins(number(24 * 60)?));
            }
            _ => return Err(format!("unknown option or value: {option} {value}")),
        }
    }
    Ok(settings)
}

fn print(report: &Report) {
    let Report { counts, took, memory_kib, holdings } = report;
    let seconds = took.as_secs_f64();
    let rate = |count_of| counts.get(count_of) as f64 / seconds;
    print!("{counts}");
    let [early, half, late] = memory_kib;
    println!("memory in use: {early} KiB at 10 %, {half} KiB at 50 %, {late} KiB at 100 %");
    println!(
        "after the run: no operation, socket or buffer left; {} descriptors or handles and {} \
         ring mappings, as before it",
        holdings.opened, holdings.ring_mappings
    );
    println!(
        "{seconds:.1} s: {:.0} connections/s, {:.0} operations/s",
        rate(Count::Clients),
        rate(Count::Completed),
    );
}
