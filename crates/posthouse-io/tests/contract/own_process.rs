//! Tests that change or count what belongs to the whole process: its limits, its environment, its
//! descriptors, what its sandbox allows.

use std::process::Command;

/// Set in the process that a test has to itself.
const MARK: &str = "POSTHOUSE_TEST_PROCESS";
/// Names the backend where the options leave it to the port.
const BACKEND: &str = "POSTHOUSE_BACKEND";

/// Runs the rest of the test of this name (its whole path) in a process of its own. True: this is
/// that process.
pub fn in_own_process(test: &str) -> bool {
    in_own_process_with(test, None)
}

/// The same, with the backend that the environment names there.
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
    let (said, report) = (output.stderr, String::from_utf8_lossy(&output.stdout));
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{} on its own: {}\n{said}", test, output.status);
    assert!(report.contains("1 passed"), "the test {test} was found by its name");
    eprint!("{said}");
    false
}
