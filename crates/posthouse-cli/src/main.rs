//! The `posthouse` program: serve, send, get, list, bench, demo, sim, doctor.
#![forbid(unsafe_code)]

mod address;
mod advice;
mod bench;
mod completions;
mod courier;
mod demo;
mod doctor;
mod echo;
mod exposure;
mod failure;
mod get;
mod key_file;
mod list;
mod logging;
mod moment;
mod open_files;
mod output;
mod panics;
mod pattern;
mod plot;
mod quantity;
mod send;
mod serve;
mod settings;
mod signals;
mod simulate;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Outcome;
use logging::Log;

const WELCOME: &str = "\
Posthouse: many machines, one directory. A file is there whole and verified, or not at all.

  posthouse serve --dir inbox               a directory for other programs and machines
  posthouse send 127.0.0.1:9990 build/      sends into it, and goes on where it broke off
  posthouse get 127.0.0.1:9990 build        gets it back

`posthouse help` lists the other commands; `posthouse help COMMAND` explains one, with examples.
";

/// Many machines, one directory: serve it, send files into it, get them from it. And the
/// completion-port framework beneath: an echo server, a load on it, a demonstration, the simulation
/// campaign and a look at this machine.
#[derive(Debug, Parser)]
#[command(
    name = "posthouse",
    version,
    subcommand_required = false,
    after_help = "\
Start with:
  posthouse serve --dir inbox               a directory for other programs and machines
  posthouse send 127.0.0.1:9990 build/      sends into it, and goes on where it broke off
  posthouse demo                            everything at once, verified
A server of your own is a few lines with the crate of the same name."
)]
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
    /// What to log to stderr: a level (error, warn, info, debug, trace) or a filter such as
    /// posthouse=debug. Also from POSTHOUSE_LOG; default: warn, in simulation off
    #[arg(long, global = true, value_name = "FILTER", display_order = 100)]
    log: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Send(send::Send),
    Get(get::Get),
    List(list::List),
    Bench(bench::Bench),
    Demo(demo::Demo),
    Sim(simulate::Simulate),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
}

fn main() -> ExitCode {
    match run(&Program::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // With stderr closed there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "error: {failure}");
            failure.exit_code()
        }
    }
}

fn run(program: &Program) -> Outcome {
    let usual = match &program.command {
        Some(Command::Sim(sim)) => sim.log(),
        _ => Log::Plain("warn"),
    };
    logging::start(program.log.as_deref(), usual)?;
    match &program.command {
        None => output::write(WELCOME),
        Some(Command::Serve(serve)) => serve.run(),
        Some(Command::Send(send)) => send.run(),
        Some(Command::Get(get)) => get.run(),
        Some(Command::List(list)) => list.run(),
        Some(Command::Bench(bench)) => bench.run(),
        Some(Command::Demo(demo)) => demo.run(),
        Some(Command::Sim(sim)) => sim.run(),
        Some(Command::Doctor(doctor)) => doctor.run(),
        Some(Command::Completions(completions)) => completions.run::<Program>(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Program::command().debug_assert();
    }

    #[test]
    fn the_long_help_of_every_command_has_an_example() {
        for command in Program::command().get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("posthouse ") && help.contains("Example"), "{help}");
        }
    }
}
