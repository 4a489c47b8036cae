//! `cargo xtask wine`: Posthouse built for Windows, and its tests run as Windows programs, here.
//!
//! The standard library for Windows is built from its source with everything else, so no other
//! toolchain is needed than a compiler that has that source. The programs run under Wine; what
//! Wine cannot show is skipped, with its reason. For MSVC the code is type-checked: nothing here
//! could link it.

mod prefix;
mod skipped;
pub(crate) mod start;
mod tools;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use crate::Outcome;
use crate::arguments::Arguments;
use crate::steps::{self, Step, Work};
use crate::{untested, workspace};
use prefix::Prefix;
use tools::Tools;

/// What is built and run.
const GNU: &str = "x86_64-pc-windows-gnu";
/// What is type-checked.
const MSVC: &str = "x86_64-pc-windows-msvc";
/// All but these chores, which are for the machine where one works.
const CRATES: [&str; 3] = ["--workspace", "--exclude", "xtask"];
/// Of the runner of tests.
const PROFILE: &str = "wine";
const KINDS: [&str; 3] = ["--lib", "--bins", "--tests"];

pub(crate) fn run(words: Vec<String>) -> Outcome {
    let mut arguments = Arguments::new("wine", words);
    let quick = arguments.flag("--quick");
    let mut filters = Vec::new();
    while let Some(word) = arguments.word() {
        filters.push(word);
    }
    arguments.finish()?;
    let tools = Tools::found_or_installed()?;
    let root = workspace::root();
    let target = workspace::target_directory(&root)?;
    let prefix = Prefix::start(target.join("wine"), &tools)?;
    let windows =
        Windows { root, target: target.join("win"), runner: runner(&tools)?, tools, prefix };
    untested::forget(&windows.root, PROFILE)?;
    let mut steps = vec![windows.tests(&filters)];
    if !quick && filters.is_empty() {
        steps.extend([windows.doc_tests(), windows.examples(), windows.check_for_msvc()]);
    }
    let report = steps::run(steps);
    let mut notes = Vec::new();
    if report.succeeded() {
        let skipped = skipped::told(&mut windows.list_skipped())?;
        notes.push(format!("{} skipped:", skipped.len()));
        notes.extend(skipped);
        let untested = untested::told(&windows.root, PROFILE)?;
        notes.push(format!("\n{} passed and left something out:", untested.len()));
        notes.extend(untested);
    }
    print!("{}", report.text(&notes));
    if report.succeeded() { Ok(()) } else { Err(String::new()) }
}

/// This chore as a step of another, whose output says how many tests ran.
pub(crate) fn step() -> Outcome<Step> {
    let this = std::env::current_exe().map_err(|error| format!("where is xtask? {error}"))?;
    let mut command = Command::new(this);
    command.arg("wine");
    Ok(Step { name: "Windows, under Wine".into(), work: Work::Tests(command) })
}

/// One line where this cannot be done here, or nothing.
pub(crate) fn missing() -> Option<String> {
    let missing = Tools::found().err()?.join(", ");
    Some(format!(
        "the Windows part is passed over (optional): there is no {missing}. To get it: {}",
        tools::advice()
    ))
}

/// Cargo for Windows.
struct Windows {
    root: PathBuf,
    target: PathBuf,
    tools: Tools,
    /// What starts its programs.
    runner: OsString,
    prefix: Prefix,
}

/// This program, told to start others: cargo takes the words apart at spaces.
fn runner(tools: &Tools) -> Outcome<OsString> {
    let this = std::env::current_exe().map_err(|error| format!("where is xtask? {error}"))?;
    for path in [&this, &tools.wine] {
        if path.to_string_lossy().contains(char::is_whitespace) {
            let path = path.display();
            return Err(format!("{path}: cargo cannot run what has a space in its path: move it"));
        }
    }
    let mut words = this.into_os_string();
    words.push(" start-under-wine ");
    words.push(&tools.wine);
    Ok(words)
}

impl Windows {
    /// Apart from the ordinary build: another compiler has made it.
    fn cargo(&self, target: &str, words: &[&str]) -> Command {
        let mut command = workspace::cargo(&self.root, words);
        command
            .args(CRATES)
            .args(["--target", target, "--target-dir"])
            .arg(&self.target)
            .env("RUSTC", &self.tools.rustc)
            .env("RUSTDOC", self.tools.rustdoc())
            // To build std is a feature of cargo that is not stable yet.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort")
            .env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", &self.runner);
        self.prefix.set(&mut command);
        command
    }

    fn tests(&self, filters: &[String]) -> Step {
        let mut command = self.cargo(GNU, &["nextest", "run", "--profile", PROFILE]);
        command.args(KINDS).args(filters);
        Step { name: "tests".into(), work: Work::Tests(command) }
    }

    fn doc_tests(&self) -> Step {
        let command = self.cargo(GNU, &["test", "--doc"]);
        Step { name: "doc tests".into(), work: Work::Tests(command) }
    }

    fn examples(&self) -> Step {
        let command = self.cargo(GNU, &["build", "--examples"]);
        Step { name: "examples".into(), work: Work::Program(command) }
    }

    fn check_for_msvc(&self) -> Step {
        let mut command = self.cargo(MSVC, &["check", "--all-targets"]);
        // Types have no need of C: BLAKE3 does without where there is no compiler for it.
        command.env("CC_x86_64_pc_windows_msvc", "no-such-compiler");
        // Warnings are errors: no other step sees what is written for Windows alone.
        command.env("CARGO_UNSTABLE_WARNINGS", "true").env("CARGO_BUILD_WARNINGS", "deny");
        Step { name: "types, for MSVC".into(), work: Work::Program(command) }
    }

    fn list_skipped(&self) -> Command {
        let mut command = self.cargo(GNU, &["test", "--quiet"]);
        command.args(KINDS).arg("--").args(skipped::LISTING);
        command
    }
}
