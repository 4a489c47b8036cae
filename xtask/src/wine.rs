//! `cargo xtask wine`: Posthouse built for Windows, and its tests run as Windows programs, here.
//!
//! The standard library for Windows is built from its source with everything else, so the only
//! other toolchain that is needed is a compiler that has that source. The programs run under Wine;
//! a test that Wine cannot show is ignored, with its reason. For MSVC the code is linted, which
//! checks its types too: nothing here could link it.

mod ignored;
mod prefix;
pub(crate) mod start;
mod tools;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use crate::steps::{self, Step};
use crate::{Result, test_report, workspace};
use prefix::Prefix;
use tools::Tools;

/// The target that is built and run.
const GNU: &str = "x86_64-pc-windows-gnu";
/// The target that is linted.
const MSVC: &str = "x86_64-pc-windows-msvc";
/// All but these chores, which are for the machine where one works.
const CRATES: [&str; 3] = ["--workspace", "--exclude", "xtask"];
/// The profile of nextest.
pub(crate) const PROFILE: &str = "wine";
const KINDS: [&str; 3] = ["--lib", "--bins", "--tests"];

pub(crate) fn run(quick: bool, filters: &[String]) -> Result {
    let tools = Tools::found_or_installed()?;
    let root = workspace::root();
    let target = workspace::target_directory(&root)?;
    let prefix = Prefix::start(target.join("wine"), &tools)?;
    let windows =
        Windows { root, target: target.join("win"), runner: runner(&tools)?, tools, prefix };
    test_report::remove(&windows.root, PROFILE)?;
    let mut steps = vec![windows.tests(filters)];
    if !quick && filters.is_empty() {
        steps.extend([windows.doc_tests(), windows.examples(), windows.lint_for_msvc()]);
    }
    let report = steps::run(steps);
    let mut notes = Vec::new();
    if report.succeeded() {
        let ignored = ignored::list(&mut windows.list_ignored())?;
        notes.push(format!("{} tests ignored:", ignored.len()));
        notes.extend(ignored);
        let left_out = test_report::read(&windows.root, PROFILE)?.left_out;
        notes.push(format!("\n{} tests passed and left something out:", left_out.len()));
        notes.extend(left_out);
    }
    print!("{}", report.text(&notes));
    if report.succeeded() { Ok(()) } else { Err(String::new()) }
}

/// This chore as a step of another.
pub(crate) fn step() -> Result<Step> {
    let this = std::env::current_exe().map_err(|error| format!("where is xtask? {error}"))?;
    let mut command = Command::new(this);
    command.arg("wine");
    Ok(Step::program("Windows, under Wine", command))
}

/// One line if this cannot be done here.
pub(crate) fn missing() -> Option<String> {
    let missing = Tools::found().err()?.join(", ");
    Some(format!(
        "the Windows part is skipped (optional): there is no {missing}. To get it: {}",
        tools::advice()
    ))
}

/// Cargo for Windows.
struct Windows {
    root: PathBuf,
    target: PathBuf,
    tools: Tools,
    /// The command that starts a Windows program.
    runner: OsString,
    prefix: Prefix,
}

/// This program, told to start others: cargo takes the words apart at spaces.
fn runner(tools: &Tools) -> Result<OsString> {
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
        Step::program("tests", command)
    }

    fn doc_tests(&self) -> Step {
        Step::program("doc tests", self.cargo(GNU, &["test", "--doc"]))
    }

    fn examples(&self) -> Step {
        Step::program("examples", self.cargo(GNU, &["build", "--examples"]))
    }

    fn lint_for_msvc(&self) -> Step {
        let mut command = self.cargo(MSVC, &["check", "--all-targets"]);
        // As `cargo clippy` does, which would take the driver of another compiler.
        command.env("RUSTC_WORKSPACE_WRAPPER", self.tools.clippy_driver());
        // Lints need no C: BLAKE3 does without if there is no compiler for it.
        command.env("CC_x86_64_pc_windows_msvc", "no-such-compiler");
        // Warnings are errors: no other step sees the code that is for Windows alone.
        command.env("CARGO_UNSTABLE_WARNINGS", "true").env("CARGO_BUILD_WARNINGS", "deny");
        Step::program("lints, for MSVC", command)
    }

    fn list_ignored(&self) -> Command {
        let mut command = self.cargo(GNU, &["test", "--quiet"]);
        command.args(KINDS).arg("--").args(ignored::LISTING);
        command
    }
}
