//! `cargo xtask bench`: measures every echo server of this package against a hand-written one, by
//! the paired method (`pairs.rs`), and writes the results.

#![forbid(unsafe_code)]

mod contender;
mod load;
mod memory;
mod pairs;
mod pattern;
mod plan;
mod profile;
mod report;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use contender::Contender;
use plan::Plan;
use posthouse_bench::machine::{Busy, Machine};
use posthouse_bench::processes;
use report::Report;

/// The result of a step; the error is a message for the person at the terminal.
type Outcome<T = ()> = Result<T, String>;

const HELP: &str = "\
Measures echo servers against a hand-written one on epoll, by paired slices.

  --quick          fewer pairs: about two minutes, wide ranges
  --pairs N        pairs of slices in each start order (default 100; with --quick 5)
  --only TEXT      contenders whose name contains TEXT
  --also NAME=PROGRAM ARGUMENTS
                   an additional contender: a program by its path, or one of this package
  --work TEXT      kinds of work whose name contains TEXT
  --profile        measure system calls, instructions and allocations instead (strace, valgrind)
  --results DIR    directory for the table, the numbers and the plot (`cargo xtask bench` sets it;
                   without it none of them is written)

`cargo xtask bench --files --help` and `cargo xtask bench --siege --help` describe two other
measurements: several ways to send files, and an endpoint under attack.
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    if arguments.help {
        print!("{HELP}");
        return Ok(());
    }
    if arguments.profile {
        profile::run(&arguments);
        return Ok(());
    }
    let start = Instant::now();
    let busy = Busy::now();
    let plan = Plan::new(&arguments);
    let machine = Machine::here();
    processes::come_first();
    println!("{machine}");
    println!("{} pairs of 50 ms per row, start order swapped half-way\n", 2 * plan.pairs);
    let mut report = Report::new(machine, plan.pairs, plan.quick);
    for work in plan.works() {
        report.add_work(plan.measure(work)?);
    }
    if plan.with_memory {
        report.add_memory(plan.measure_memory());
    }
    report.finish(start.elapsed(), Busy::now().share_of_others(busy));
    print!("{}", report.ending());
    if let Some(directory) = &arguments.results {
        for path in report.write(directory)? {
            println!("wrote {}", path.display());
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Arguments {
    help: bool,
    quick: bool,
    profile: bool,
    pairs: Option<usize>,
    only: Option<String>,
    work: Option<String>,
    also: Vec<Contender>,
    results: Option<PathBuf>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut arguments = Self::default();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--help" | "-h" => arguments.help = true,
                "--quick" => arguments.quick = true,
                "--profile" => arguments.profile = true,
                "--pairs" => {
                    let number = value()?.parse().ok().filter(|number| *number > 0);
                    arguments.pairs = Some(number.ok_or("--pairs needs a number")?);
                }
                "--only" => arguments.only = Some(value()?),
                "--also" => {
                    let contender = Contender::parse(&value()?);
                    arguments.also.push(contender.ok_or("--also needs NAME=PROGRAM")?);
                }
                "--work" => arguments.work = Some(value()?),
                "--results" => arguments.results = Some(value()?.into()),
                _ => return Err(format!("unknown option `{word}`; see --help")),
            }
        }
        Ok(arguments)
    }
}
