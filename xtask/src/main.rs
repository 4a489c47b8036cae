//! The chores of Posthouse, the same on a desk and in CI: `cargo xtask <command>`.

#![forbid(unsafe_code)]

mod api;
mod arguments;
mod bench;
mod kills;
mod optional;
mod planted;
mod simulation;
mod steps;
mod stress;
mod tally;
mod test;
mod tidy;
mod untested;
mod wine;
mod workspace;

use std::process::ExitCode;

use arguments::Arguments;

/// What every chore returns: the error is a sentence for the person at the terminal.
type Outcome<T = ()> = Result<T, String>;

const HELP: &str = "\
The chores of Posthouse.

Usage: cargo xtask <command> [options]

  test [--seeds N] [--ci]     formatting, lints, documentation, rules, interface, every test,
                              examples, then a simulation campaign of N seeds (default 5000);
                              with --ci nothing may be missing on the machine
  ci                          test --ci, as the build machine runs it
  wine [--quick] [FILTER...]  the tests as Windows programs, under Wine, and a type check for
                              MSVC; --quick: the tests only; as root it installs what it needs
  tidy [--list]               hold the rules of the source tree, or list them
  api [--bless]               compare the public interface of `posthouse` with the committed
                              listing crates/posthouse/api.txt, or write it anew
  sim [--seeds N] [--from S] [...]
                              the simulation campaign; everything is passed on to
                              `posthouse sim`, built in the profile `sim`
  stress [--connections N] [...]
                              many short connections on the real system, with random cancels,
                              resets and half-closes: nothing may be left (default 20000);
                              everything is passed on, see `cargo xtask stress --help`
  kills [BACKEND] [--kills N] [--seed S]
                              a file sent while the sender, then the receiver, is killed again
                              and again (default 100 times): whole or absent, and resumed
  planted [NAME] [--seeds N]  put known mistakes in, one at a time, and show that the
                              simulation finds each of them (default 20000 seeds)
  bench --files [...]         files by several ways: sendfile by hand, nginx, rsync, tar
  bench [--quick] [...]       Posthouse next to hand-written servers and other runtimes, by
                              paired measurement; `bench --help` says what else
";

fn main() -> ExitCode {
    if let Some(rustdoc) = api::rustdoc_to_stand_in_for() {
        return api::stand_in(&rustdoc, std::env::args_os().skip(1));
    }
    let mut words = std::env::args().skip(1);
    let command = words.next();
    if command.as_deref() == Some("start-under-wine") {
        return wine::start::run(&words.collect::<Vec<_>>());
    }
    match run(command.as_deref(), words.collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            if !message.is_empty() {
                eprintln!("xtask: {message}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Option<&str>, words: Vec<String>) -> Outcome {
    let help_wanted = words.iter().any(|word| word == "--help" || word == "-h");
    match command {
        None | Some("help" | "--help" | "-h") => help(),
        Some("sim") => simulation::run(&words),
        Some("stress") => stress::run(&words),
        Some("bench") => bench::run(&words),
        Some(_) if help_wanted => help(),
        Some("kills") => kills::run(words),
        Some("wine") => wine::run(words),
        Some("test") => {
            let mut arguments = Arguments::new("test", words);
            let ci = arguments.flag("--ci");
            let seeds = arguments.number("--seeds")?.unwrap_or(test::SEEDS_DEFAULT);
            arguments.finish()?;
            test::run(ci, seeds)
        }
        Some("ci") => {
            Arguments::new("ci", words).finish()?;
            test::run(true, test::SEEDS_DEFAULT)
        }
        Some("tidy") => {
            let mut arguments = Arguments::new("tidy", words);
            let list = arguments.flag("--list");
            arguments.finish()?;
            if list { tidy::list() } else { tidy::run() }
        }
        Some("api") => {
            let mut arguments = Arguments::new("api", words);
            let bless = arguments.flag("--bless");
            arguments.finish()?;
            if bless { api::bless() } else { api::check() }
        }
        Some("planted") => {
            let mut arguments = Arguments::new("planted", words);
            let seeds = arguments.number("--seeds")?.unwrap_or(planted::SEEDS_DEFAULT);
            let name = arguments.word();
            arguments.finish()?;
            planted::run(name.as_deref(), seeds)
        }
        Some(other) => Err(format!("there is no command `{other}`; see cargo xtask --help")),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every chore returns the same")]
fn help() -> Outcome {
    print!("{HELP}");
    Ok(())
}
