//! Tests that change or count state of the whole process: its limits, its environment, its
//! descriptors, its sandbox.

use std::process::Command;

/// The variable that is set in the process of one test.
const MARK: &str = "POSTHOUSE_TEST_PROCESS";
/// The variable that chooses the backend if the options do not.
const BACKEND: &str = "POSTHOUSE_BACKEND";

/// Runs the rest of the test of this name (its whole path) in a process of its own. Returns true in
/// that process.
pub fn in_own_process(test: &str) -> bool {
    in_own_process_with(test, None)
}

/// Does the same, with this backend in the environment of that process.
pub fn in_own_process_with(test: &str, backend: Option<&str>) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let program = std::env::current_exe().expect("the path of this program is known");
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(MARK, "1");
    match backend {
        Some(backend) => command.env(BACKEND, backend),
        None => command.env_remove(BACKEND),
    };
    let output = command.output().expect("the test program runs");
    let said = output.stderr;
    let report = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{} on its own: {}\n{said}", test, output.status);
    assert!(report.contains("1 passed"), "the test {test} was found by its name");
    eprint!("{said}");
    false
}
