//! `posthouse completions`: the completion script of a shell.

use std::io;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::CommandResult;
use crate::term::stdout;

/// Write a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  posthouse completions bash > ~/.local/share/bash-completion/completions/posthouse
  posthouse completions fish > ~/.config/fish/completions/posthouse.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run<C: CommandFactory>(&self) -> CommandResult {
        let mut script = io::Cursor::new(Vec::new());
        clap_complete::generate(self.shell, &mut C::command(), "posthouse", &mut script);
        stdout::write(&String::from_utf8_lossy(&script.into_inner()))
    }
}
