//! `cargo xtask test`: everything that must hold before a change goes in, in one command.

use std::path::Path;

use crate::steps::{self, Step, Work};
use crate::workspace::{self, cargo};
use crate::{Outcome, api, bench, optional, simulation, tidy, untested, wine};

/// Seeds of the campaign at the end: enough to notice a broken change, short enough to wait for.
pub(crate) const SEEDS_DEFAULT: u64 = 5000;

/// Of the runner of tests.
const PROFILE: &str = "default";
/// What passes nothing over.
const WITH_ALL: &str = "cargo xtask test --ci";

pub(crate) fn run(ci: bool, seeds: u64) -> Outcome {
    if ci {
        optional::require_all()?;
    }
    let root = workspace::root();
    untested::forget(&root, PROFILE)?;
    let report = steps::run(plan(&root, seeds, ci)?);
    let mut notes = optional::missing();
    let untested = untested::told(&root, PROFILE)?;
    notes.extend(untested.into_iter().map(|what| format!("not tested by {what}")));
    if !ci {
        notes.extend(optional::without_uring(&root));
        notes.push(format!("the tests of the benchmark are run by `{WITH_ALL}` only"));
    }
    print!("{}", report.text(&notes));
    // The count is the last line: nothing may be said after it.
    if report.succeeded() { Ok(()) } else { Err(String::new()) }
}

/// The cheap and general first, the long and particular last. Lints and documentation share their
/// dependencies in one build, all tests and examples in another, Windows has a third, and the
/// campaign a fourth.
fn plan(root: &Path, seeds: u64, ci: bool) -> Outcome<Vec<Step>> {
    let step = |name: &str, work| Step { name: name.into(), work };
    let mut clippy = cargo(root, &["clippy", "--workspace", "--all-targets"]);
    clippy.args(["--", "-D", "warnings"]);
    // Of libraries: the program has the name of one, and its pages would replace theirs.
    let mut rustdoc = cargo(root, &["doc", "--workspace", "--lib", "--no-deps"]);
    rustdoc.env("RUSTDOCFLAGS", "-D warnings");
    let mut simulation = simulation::command(root);
    simulation.args(["--seeds", &seeds.to_string()]);
    let mut tests = cargo(root, tests_command(optional::nextest_is_present()));
    let mut benchmark = Vec::new();
    if ci {
        tests.env(optional::NEED_ALL, "1");
        benchmark = bench::steps(root);
    }
    let mut steps = vec![
        step("formatting", Work::Program(cargo(root, &["fmt", "--all", "--check"]))),
        step("clippy", Work::Program(clippy)),
        step("documentation", Work::Program(rustdoc)),
        step("tidy", Work::Chore(tidy::run)),
        step("public interface", Work::Chore(|| api::run(false))),
        step("doc tests", Work::Tests(cargo(root, &["test", "--workspace", "--doc"]))),
        step("tests", Work::Tests(tests)),
        step("examples", Work::Program(cargo(root, &["build", "--workspace", "--examples"]))),
    ];
    steps.extend(benchmark);
    if wine::missing().is_none() {
        steps.push(wine::step()?);
    }
    steps.push(step(&format!("simulation, {seeds} seeds"), Work::Program(simulation)));
    Ok(steps)
}

/// Unit, property, contract and integration tests; all are run even when one fails.
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

    #[test]
    fn the_campaign_comes_last_and_runs_the_seeds_asked_for() {
        let steps = plan(Path::new("."), 77, false).unwrap();
        let last = steps.last().unwrap();
        assert_eq!(last.name, "simulation, 77 seeds");
        let Work::Program(command) = &last.work else { panic!("the campaign is a program") };
        assert!(workspace::shown(command).ends_with("-- sim --seeds 77"));
    }

    #[test]
    fn the_same_tests_run_with_and_without_nextest() {
        let kinds = |nextest| {
            tests_command(nextest).iter().filter(|word| word.starts_with("--")).collect::<Vec<_>>()
        };
        assert_eq!(kinds(true), kinds(false));
    }
}
