//! `cargo xtask test`: all checks that a change must pass before it is merged, in one command.

use std::path::Path;

use crate::steps::{self, Step};
use crate::workspace::{self, cargo};
use crate::{Result, api, bench, mutants, prerequisites, simulation, test_report, tidy, wine};

/// Seeds of the campaign at the end: enough to notice a broken change, short enough to wait for.
pub(crate) const SEEDS_DEFAULT: u64 = 5000;

/// The profile of nextest.
const PROFILE: &str = "default";

pub(crate) fn run(ci: bool, seeds: u64) -> Result {
    if ci {
        prerequisites::require_all()?;
    }
    let root = workspace::root();
    for profile in [PROFILE, wine::PROFILE] {
        test_report::remove(&root, profile)?;
    }
    let mut notes = prerequisites::missing();
    let report = steps::run(plan(&root, seeds, ci, &mut notes)?);
    let [here, under_wine] = [PROFILE, wine::PROFILE].map(|name| test_report::read(&root, name));
    let here = here?;
    let under_wine = under_wine?;
    notes.extend(here.left_out.into_iter().map(|what| format!("not tested by {what}")));
    if !ci {
        notes.extend(prerequisites::without_uring(&root));
        notes.push("the benchmark is tested by `cargo xtask test --ci` only".into());
    }
    // The count of nextest, and of nextest under Wine, is the last line.
    let passed = here.passed + under_wine.passed;
    let failed = here.failed + under_wine.failed;
    if passed + failed > 0 {
        notes.push(format!("\n{passed} passed, {failed} failed"));
    }
    print!("{}", report.text(&notes));
    if report.succeeded() { Ok(()) } else { Err(String::new()) }
}

/// Returns the steps, with short and general ones first and long and special ones last. There are
/// four builds: lints and documentation share their dependencies in one, all tests and examples in
/// another, Windows has a third, and the campaign a fourth.
fn plan(root: &Path, seeds: u64, ci: bool, notes: &mut Vec<String>) -> Result<Vec<Step>> {
    let mut clippy = cargo(root, &["clippy", "--workspace", "--all-targets"]);
    clippy.args(["--", "-D", "warnings"]);
    // Libraries only: the program has the name of one, and its pages would replace the library's.
    let mut rustdoc = cargo(root, &["doc", "--workspace", "--lib", "--no-deps"]);
    rustdoc.env("RUSTDOCFLAGS", "-D warnings");
    let mut tests = cargo(root, tests_command(prerequisites::nextest_is_present()));
    if ci {
        tests.env(prerequisites::NEED_ALL, "1");
    }
    let mut simulation = simulation::command(root);
    simulation.args(["--seeds", &seeds.to_string()]);

    let mut steps = vec![Step::program("formatting", cargo(root, &["fmt", "--all", "--check"]))];
    steps.extend(prerequisites::spelling(root));
    steps.extend([
        Step::chore("tidy", tidy::run),
        Step::chore("mutants apply", mutants::check),
        Step::program("clippy", clippy),
        Step::program("documentation", rustdoc),
        Step::chore("public interface", || api::run(false)),
    ]);
    steps.extend(prerequisites::dependencies(root, notes));
    steps.extend([
        Step::program("doc tests", cargo(root, &["test", "--workspace", "--doc"])),
        Step::program("tests", tests),
        Step::program("examples", cargo(root, &["build", "--workspace", "--examples"])),
    ]);
    if ci {
        steps.extend(bench::steps(root));
    }
    if wine::missing().is_none() {
        steps.push(wine::step()?);
    }
    steps.push(Step::program(&format!("simulation, {seeds} seeds"), simulation));
    Ok(steps)
}

/// Returns the command for unit, property, contract and integration tests. It runs all of them,
/// even if one fails.
fn tests_command(nextest: bool) -> &'static [&'static str] {
    if nextest {
        &["nextest", "run", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]
    } else {
        &["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::Work;

    #[test]
    fn the_campaign_comes_last_and_runs_the_seeds_asked_for() {
        let steps = plan(Path::new("."), 77, false, &mut Vec::new()).unwrap();
        let last = steps.last().unwrap();
        assert_eq!(last.name, "simulation, 77 seeds");
        let Work::Program(command) = &last.work else { panic!("the campaign is a program") };
        assert!(workspace::shown(command).ends_with("-- sim --seeds 77"));
    }
}
