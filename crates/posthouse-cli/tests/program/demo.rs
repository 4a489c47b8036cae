//! `posthouse demo`.

use std::process::Command;

use super::harness::{ProgramOutput, run};
use super::tempdir::TemporaryDirectory;

/// Runs the demonstration and expects success. Wine sometimes shows a reset as a clean end, if the
/// reset arrives before a read waits. Then the counts of the ends may be wrong, and the
/// demonstration is run again.
pub(crate) fn run_demo(words: &[&str]) -> ProgramOutput {
    for _ in 0..10 {
        let ended = run(["demo", "--json"].iter().chain(words));
        if !cfg!(windows) || ended.code == Some(0) {
            return ended.expect(0);
        }
        let json = ended.json();
        for check in json["checks"].as_array().unwrap() {
            let of_ends = check["what"].as_str().unwrap().contains("seen as");
            assert!(of_ends || check["found"] == check["expected"], "{json:#}");
        }
    }
    panic!("ten demonstrations took a reset for a clean end")
}

#[test]
fn the_demonstration_succeeds_in_both_layouts() {
    for layout in ["pinned", "shared"] {
        let ended = run_demo(&["--layout", layout]);
        let json = ended.json();
        assert_eq!(json["ok"], true, "{json:#}");
        let checks = json["checks"].as_array().unwrap();
        assert!(checks.len() > 10, "{json:#}");
        assert!(checks.iter().all(|check| check["found"] == check["expected"]), "{json:#}");
        assert_eq!(ended.stderr, "");
    }
    let temporary = TemporaryDirectory::new();
    let demo = Command::new(env!("CARGO_BIN_EXE_posthouse"))
        .arg("demo")
        .envs(["TMPDIR", "TMP"].map(|name| (name, temporary.path())))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&demo.stdout);
    for part in ["files of 4 MiB sent", "files received back", "seen as resets"] {
        assert!(text.contains(part), "{text}");
    }
    let may_be_wrong = |line: &str| cfg!(windows) && line.contains("seen as");
    let wrong = |line: &str| line.contains("WRONG") && !may_be_wrong(line);
    assert!(!text.lines().any(wrong), "{text}");
    assert_eq!(temporary.path().read_dir().unwrap().count(), 0, "files are left");
    run(["demo", "--layout", "round"]).expect(2).expect_stderr(&["--layout round", "pinned"]);
}
