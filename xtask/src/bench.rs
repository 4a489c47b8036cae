//! `cargo xtask bench`: builds the workspace `bench` in its release profile and runs it.

use std::path::Path;
use std::process::Command;

use crate::steps::Step;
use crate::{Result, workspace};

/// The default directory of the results of a full run, which are committed.
const RESULTS: &str = "bench/results";
/// The default directory of the results of a quick run, in the build directory.
const RESULTS_QUICK: &str = "results";

pub(crate) fn run(words: &[String]) -> Result {
    let root = workspace::root();
    let target = workspace::target_directory(&root)?.join("bench");
    workspace::succeed(&mut build(&root, &target))?;
    let has = |name: &str| words.iter().any(|word| word == name);
    if has("--files") {
        return files(&root, &target, words);
    }
    if has("--siege") {
        return siege(&root, &target, words);
    }
    let mut runner = Command::new(target.join("release/runner"));
    runner.current_dir(&root).args(words);
    if !has("--results") {
        let results = if has("--quick") { target.join(RESULTS_QUICK) } else { root.join(RESULTS) };
        runner.arg("--results").arg(results);
    }
    workspace::succeed(&mut runner)
}

/// Measures several ways to send files, with the release build of the program.
fn files(root: &Path, target: &Path, words: &[String]) -> Result {
    let program = ["build", "--release", "--package", "posthouse-cli"];
    workspace::succeed(&mut workspace::cargo(root, &program))?;
    let mut command = Command::new(target.join("release/files"));
    command.current_dir(root).arg("--program");
    command.arg(workspace::target_directory(root)?.join("release/posthouse")).args(words);
    if !words.iter().any(|word| word == "--results" || word == "--gib") {
        command.arg("--results").arg(root.join(RESULTS));
    }
    workspace::succeed(&mut command)
}

/// Measures an endpoint under attack. The result is printed, and written only with `--results`.
/// Fails if a limit is not kept.
fn siege(root: &Path, target: &Path, words: &[String]) -> Result {
    let mut command = Command::new(target.join("release/siege"));
    workspace::succeed(command.current_dir(root).args(words))
}

/// Returns the lints and the tests of the benchmark, which is a workspace of its own.
pub(crate) fn steps(root: &Path) -> Vec<Step> {
    let target = root.join("target").join("bench");
    let command = |words: &[&str]| {
        let mut command = workspace::cargo(&root.join("bench"), words);
        command.args(["--locked", "--target-dir"]).arg(&target);
        command
    };
    let mut clippy = command(&["clippy", "--all-targets"]);
    clippy.args(["--", "-D", "warnings"]);
    vec![
        Step::program("clippy of the benchmark", clippy),
        Step::program("tests of the benchmark", command(&["test", "--bins", "--tests"])),
    ]
}

/// Returns the command that builds all programs of the benchmark, with the versions of its lock
/// file.
fn build(root: &Path, target: &Path) -> Command {
    let mut command = workspace::cargo(&root.join("bench"), &["build", "--release", "--locked"]);
    command.arg("--target-dir").arg(target);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_benchmark_is_built_apart_with_its_own_lock_file() {
        let command = build(Path::new("/w"), Path::new("/t/bench"));
        assert_eq!(command.get_current_dir(), Some(Path::new("/w/bench")));
        assert!(workspace::shown(&command).contains("--locked --target-dir /t/bench"));
        assert!(workspace::root().join("bench/Cargo.lock").is_file());
    }
}
