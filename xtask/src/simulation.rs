//! `cargo xtask sim`: runs the simulation campaign of the `posthouse` program, built in the profile
//! that is fast and has every assertion on.

use std::path::Path;
use std::process::Command;

use crate::{Result, workspace};

pub(crate) fn run(words: &[String]) -> Result {
    let mut command = command(&workspace::root());
    workspace::succeed(command.args(words))
}

/// Returns the command `posthouse sim`, to which the caller adds options.
pub(crate) fn command(root: &Path) -> Command {
    workspace::cargo(root, &["run", "--profile", "sim", "--package", "posthouse-cli", "--", "sim"])
}
