//! The `posthouse` program: serve, send, get, list, bench, demo, sim, doctor.
#![forbid(unsafe_code)]
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod address;
mod bind_policy;
mod commands;
mod echo;
mod failure;
mod key_file;
mod logging;
mod monitor;
mod pattern;
mod peer_lines;
mod rlimit;
mod settings;
mod signals;
mod term;
mod transfer_client;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

use commands::Command;
use failure::CommandResult;
use term::stdout;

const WELCOME: &str = "\
Posthouse serves a directory to many machines. A file appears whole and verified, or not at all.

  posthouse serve --dir inbox               serve the directory inbox to this machine
  posthouse send 127.0.0.1:9990 build/      send files into it; run it again to resume
  posthouse get 127.0.0.1:9990 build        get the files back

`posthouse help` lists all commands; `posthouse help COMMAND` explains one, with examples.
";

/// Serve a directory to many machines, send files into it, and get files from it. The other
/// commands show the completion-port framework underneath: an echo server (serve without --dir), a
/// load on it, a demonstration, a simulation campaign, and a check of this machine.
#[derive(Debug, Parser)]
#[command(
    name = "posthouse",
    version,
    subcommand_required = false,
    after_help = "\
Start with:
  posthouse serve --dir inbox               serve the directory inbox to this machine
  posthouse send 127.0.0.1:9990 build/      send files into it; run it again to resume
  posthouse demo                            see the whole framework at work, with checks

To write a server of your own, use the crate posthouse."
)]
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
    /// The log on stderr: a level (error, warn, info, debug, trace) or a filter such as
    /// posthouse=debug. Without this flag, the environment variable POSTHOUSE_LOG counts. The
    /// default is warn, and off for sim
    #[arg(long, global = true, value_name = "FILTER", display_order = 100)]
    log: Option<String>,
}

fn main() -> ExitCode {
    match run(&Program::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // If stderr is closed, the message is lost.
            let _ = writeln!(std::io::stderr(), "error: {failure}");
            failure.exit_code()
        }
    }
}

fn run(program: &Program) -> CommandResult {
    let default_log = program.command.as_ref().map_or(logging::DEFAULT, Command::default_log);
    logging::start(program.log.as_deref(), default_log)?;
    match &program.command {
        None => stdout::write(WELCOME),
        Some(command) => command.run::<Program>(),
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
