//! `cargo xtask wine`: builds Posthouse for Windows and runs its tests as Windows programs on this
//! machine.
//!
//! The chore also builds the standard library for Windows from its source. The only other toolchain
//! that it needs is therefore a compiler with that source. The programs run under Wine; a test that
//! cannot run there is ignored, with the reason. For MSVC the chore only runs the lints, which also
//! check the types, because this machine cannot link for MSVC.

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

/// The target of the builds and the tests.
const GNU: &str = "x86_64-pc-windows-gnu";
/// The target of the lints.
const MSVC: &str = "x86_64-pc-windows-msvc";
/// The arguments that select all crates except these chores, which run on the developer's machine
/// only.
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
        notes.push(format!("\n{} tests passed and skipped a part:", left_out.len()));
        notes.extend(left_out);
    }
    print!("{}", report.text(&notes));
    if report.succeeded() { Ok(()) } else { Err(String::new()) }
}

/// Returns this chore as a step of another.
pub(crate) fn step() -> Result<Step> {
    let this = std::env::current_exe()
        .map_err(|error| format!("cannot find the path of xtask: {error}"))?;
    let mut command = Command::new(this);
    command.arg("wine");
    Ok(Step::program("Windows, under Wine", command))
}

/// Returns one line if this machine does not have the tools.
pub(crate) fn missing() -> Option<String> {
    let missing = Tools::found().err()?.join(", ");
    Some(format!(
        "the Windows part is skipped (optional): missing {missing}. To get it: {}",
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

/// Returns the command with which cargo starts Windows programs: this program, with arguments.
/// Cargo splits the command at spaces.
fn runner(tools: &Tools) -> Result<OsString> {
    let this = std::env::current_exe()
        .map_err(|error| format!("cannot find the path of xtask: {error}"))?;
    for path in [&this, &tools.wine] {
        if path.to_string_lossy().contains(char::is_whitespace) {
            let path = path.display();
            return Err(format!("{path}: cargo cannot run a path with a space: move the program"));
        }
    }
    let mut words = this.into_os_string();
    words.push(" start-under-wine ");
    words.push(&tools.wine);
    Ok(words)
}

impl Windows {
    /// Returns a cargo command for Windows. It has a build directory of its own, because it uses
    /// another compiler than the ordinary build.
    fn cargo(&self, target: &str, words: &[&str]) -> Command {
        let mut command = workspace::cargo(&self.root, words);
        command
            .args(CRATES)
            .args(["--target", target, "--target-dir"])
            .arg(&self.target)
            .env("RUSTC", &self.tools.rustc)
            .env("RUSTDOC", self.tools.rustdoc())
            // Building std is an unstable feature of cargo.
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
        // `cargo clippy` does the same, but with the driver of another compiler.
        command.env("RUSTC_WORKSPACE_WRAPPER", self.tools.clippy_driver());
        // Lints need no C code: without a C compiler BLAKE3 builds without it.
        command.env("CC_x86_64_pc_windows_msvc", "no-such-compiler");
        // Makes warnings errors: no other step lints the code that is for Windows only.
        command.env("CARGO_UNSTABLE_WARNINGS", "true").env("CARGO_BUILD_WARNINGS", "deny");
        Step::program("lints, for MSVC", command)
    }

    fn list_ignored(&self) -> Command {
        let mut command = self.cargo(GNU, &["test", "--quiet"]);
        command.args(KINDS).arg("--").args(ignored::LISTING);
        command
    }
}
