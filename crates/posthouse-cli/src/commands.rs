//! The commands, each in a file of its own, with a folder for its parts if it has any.

mod bench;
mod completions;
mod demo;
mod doctor;
mod get;
mod list;
mod send;
mod serve;
mod sim;

use clap::{CommandFactory, Subcommand};

use crate::failure::CommandResult;
use crate::logging::{self, Log};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(serve::Serve),
    Send(send::Send),
    Get(get::Get),
    List(list::List),
    Bench(bench::Bench),
    Demo(demo::Demo),
    Sim(sim::Sim),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
}

impl Command {
    /// Returns the log of the command if neither the command line nor the environment sets one.
    pub(crate) fn default_log(&self) -> Log {
        match self {
            Command::Sim(sim) => sim.default_log(),
            _ => logging::DEFAULT,
        }
    }

    /// Runs the command of the program `P`.
    pub(crate) fn run<P: CommandFactory>(&self) -> CommandResult {
        match self {
            Command::Serve(serve) => serve.run(),
            Command::Send(send) => send.run(),
            Command::Get(get) => get.run(),
            Command::List(list) => list.run(),
            Command::Bench(bench) => bench.run(),
            Command::Demo(demo) => demo.run(),
            Command::Sim(sim) => sim.run(),
            Command::Doctor(doctor) => doctor.run(),
            Command::Completions(completions) => completions.run::<P>(),
        }
    }
}
