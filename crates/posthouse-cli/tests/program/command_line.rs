//! The command line: help, completions, and the flags that all commands share.

use std::process::{Command, Stdio};

use super::demo::run_demo;
use super::harness::{run, serve};

#[test]
fn without_a_command_the_main_job_is_shown_first() {
    let welcome = run::<&str>([]).expect(0).stdout;
    let help = run(["--help"]).expect(0).stdout;
    for text in [welcome, help] {
        let place = |part| text.find(part).unwrap_or_else(|| panic!("{part} is missing: {text}"));
        let send = place("posthouse send 127.0.0.1:9990 build/");
        assert!(place("posthouse serve --dir inbox") < send, "{text}");
        assert!(place("help") > 0, "{text}");
    }
    run(["gallop"]).expect(2);
}

#[test]
fn there_are_few_enough_commands_to_remember() {
    let help = run(["--help"]).expect(0).stdout;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> = commands.take_while(|line| !line.is_empty()).collect();
    assert!((9..=12).contains(&commands.len()), "{commands:#?}");
}

#[test]
fn the_backend_is_a_flag_of_every_command_that_starts_an_endpoint() {
    let of_windows = &["iocp"][..];
    let of_linux = &["uring", "readiness"][..];
    let (here, elsewhere) =
        if cfg!(windows) { (of_windows, of_linux) } else { (of_linux, of_windows) };
    for &backend in here {
        let demo = run_demo(&["--backend", backend]).json();
        assert_eq!((&demo["ok"], &demo["backend"]), (&true.into(), &backend.into()), "{demo:#}");
        let (server, address) = serve(&["--backend", backend, "--log", "info"]);
        let address = address.to_string();
        let words = ["bench", &address, "--seconds", "0.2", "--backend", backend, "--log", "info"];
        let bench = run(words).expect(0);
        server.interrupt();
        for ended in [bench, server.finish().expect(0)] {
            assert!(ended.stderr.contains(&format!("backend=\"{backend}\"")), "{ended:#?}");
        }
    }
    for command in [
        &["serve"][..],
        &["demo"],
        &["bench", "127.0.0.1:9"],
        &["send", "127.0.0.1:9", env!("CARGO_MANIFEST_PATH")],
        &["get", "127.0.0.1:9", "x"],
        &["list", "127.0.0.1:9"],
    ] {
        let wrong = command.iter().chain(&["--backend", "ring"]);
        run(wrong).expect(2).expect_stderr(&[
            "--backend ring",
            "auto",
            "iocp",
            "uring",
            "readiness",
        ]);
        for backend in elsewhere {
            let wrong = [command, &["--backend", *backend]].concat();
            run(wrong).expect(1).expect_stderr(&[&format!("the {backend} backend needs"), "auto"]);
        }
        if here.contains(&"uring") {
            let wrong = command.iter().chain(&["--backend", "uring", "--layout", "shared"]);
            run(wrong).expect(1).expect_stderr(&["no shared layout", "pinned"]);
        }
        let help = run([command[0], "--help"]).expect(0).stdout;
        assert!(help.contains("--backend") && help.contains("POSTHOUSE_BACKEND"), "{help}");
    }
}

#[test]
fn completions_are_written_for_a_shell_and_refused_for_what_is_none() {
    let script = run(["completions", "bash"]).expect(0).stdout;
    for word in ["posthouse", "--print-config", "send", "get", "list", "--drop-only", "--watch"] {
        assert!(script.contains(word), "{word} is missing: {script}");
    }
    run(["completions", "abacus"]).expect(2);
}

#[test]
fn the_log_goes_to_stderr_by_option_and_by_environment() {
    let ended = run_demo(&["--log", "info"]);
    assert!(ended.stderr.contains("completion port open"), "{ended:#?}");
    assert_eq!(ended.json()["ok"], true);
    run(["demo", "--log", "a=b="]).expect(2).expect_stderr(&[
        "--log",
        "not a valid log filter",
        "posthouse=debug",
    ]);
    let output = Command::new(env!("CARGO_BIN_EXE_posthouse"))
        .args(["demo", "--json"])
        .env("POSTHOUSE_LOG", "info")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("completion port open"));
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_posthouse"))
        .arg("doctor")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}
