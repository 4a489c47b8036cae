//! Tests in a process with namespaces of its own: any user can mount and configure networks there.

use std::process::Command;

use crate::harness::not_tested;

/// Set in a process that has namespaces of its own.
const MARK: &str = "POSTHOUSE_TEST_NAMESPACE";

/// Returns whether this machine has the tool that configures networks.
pub fn has_ip() -> bool {
    Command::new("ip").arg("-V").output().is_ok()
}

/// Configures the network of the namespace.
pub fn ip(words: &[&str]) {
    let status = Command::new("ip").args(words).status().expect("ip runs");
    assert!(status.success(), "{words:?}");
}

/// Runs the rest of the test of this name (its whole path) in a process that is root in namespaces
/// of its own, of these kinds. Returns whether this process is the one. If no process can be, or
/// `is_possible` is false, the test is skipped, or fails if the environment has
/// `POSTHOUSE_TESTS_NEED_ALL`.
pub fn is_inside(test: &str, kinds: &[&str], is_possible: impl FnOnce() -> bool) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user"]).args(kinds);
        command
    };
    let may = unshare().arg("true").output().is_ok_and(|output| output.status.success());
    if !(may && is_possible()) {
        not_tested(format_args!("{test}: no namespace of its own"));
        return false;
    }
    let program = std::env::current_exe().expect("the test program");
    let mut command = unshare();
    command.arg(program).args(["--exact", test, "--nocapture"]).env(MARK, "1");
    let output = command.output().expect("it runs");
    let report = String::from_utf8_lossy(&output.stdout);
    let said = output.stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{test} on its own: {}\n{said}", output.status);
    assert!(report.contains("1 passed"), "the test {test} was found by its name");
    eprint!("{said}");
    false
}
