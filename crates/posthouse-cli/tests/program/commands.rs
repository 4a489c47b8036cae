//! The other commands.

use std::process::{Command, Stdio};

use super::support::{Ended, TemporaryDirectory, run, serve};

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

/// Runs the demonstration, which succeeds. Wine shows a reset as a clean end now and then, where it
/// comes before a read waits: there the two counts of these may be wrong, and it is run again.
fn demonstrated(words: &[&str]) -> Ended {
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
    panic!("ten demonstrations in which a reset was taken for the end")
}

#[test]
fn the_demonstration_succeeds_in_both_layouts() {
    for layout in ["pinned", "shared"] {
        let ended = demonstrated(&["--layout", layout]);
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
    for part in ["files of 4 MiB sent", "files got back", "seen as resets"] {
        assert!(text.contains(part), "{text}");
    }
    let may_be_wrong = |line: &str| cfg!(windows) && line.contains("seen as");
    let wrong = |line: &str| line.contains("WRONG") && !may_be_wrong(line);
    assert!(!text.lines().any(wrong), "{text}");
    assert_eq!(temporary.path().read_dir().unwrap().count(), 0, "its files are removed");
    run(["demo", "--layout", "round"]).expect(2).says(&["--layout round", "pinned"]);
}

#[test]
fn the_backend_is_a_flag_of_every_command_that_starts_an_endpoint() {
    let (here, elsewhere) = match cfg!(windows) {
        true => (&["iocp"][..], &["uring", "readiness"][..]),
        false => (&["uring", "readiness"][..], &["iocp"][..]),
    };
    for &backend in here {
        let demo = demonstrated(&["--backend", backend]).json();
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
        run(wrong).expect(2).says(&["--backend ring", "auto", "iocp", "uring", "readiness"]);
        for backend in elsewhere {
            let wrong = [command, &["--backend", *backend]].concat();
            run(wrong).expect(1).says(&[&format!("the {backend} backend needs"), "auto"]);
        }
        if here.contains(&"uring") {
            let wrong = command.iter().chain(&["--backend", "uring", "--layout", "shared"]);
            run(wrong).expect(1).says(&["no shared layout", "pinned"]);
        }
        let help = run([command[0], "--help"]).expect(0).stdout;
        assert!(help.contains("--backend") && help.contains("POSTHOUSE_BACKEND"), "{help}");
    }
}

#[test]
fn simulated_seeds_pass_and_are_the_same_whatever_the_number_of_jobs() {
    let words = ["sim", "--seeds", "5", "--from", "3", "--json"];
    let one = run(words.into_iter().chain(["--jobs", "1"])).expect(0).json();
    let more = run(words.into_iter().chain(["--jobs", "3", "--twice"])).expect(0).json();
    assert_eq!(one["seeds"], 5, "{one:#}");
    assert!(one["messages"].as_u64().unwrap() > 0, "{one:#}");
    assert_eq!(one["failures"].as_array().unwrap().len(), 0, "{one:#}");
    for name in ["fingerprint", "messages", "connections", "operations", "files", "crashes"] {
        assert_eq!(one[name], more[name], "{name}");
    }
    let text = run(["sim", "--seeds", "2"]).expect(0);
    assert!(text.stdout.contains("a second: all contracts hold"), "{text:#?}");
    assert_eq!(text.stderr, "", "faults that were put in are no warnings");
}

#[test]
fn seeds_run_messages_and_every_fourth_one_files_where_nothing_else_is_said() {
    let run = |from: &str, what: &[&str]| {
        let words = ["sim", "--seeds", "2", "--from", from, "--json"];
        run(words.iter().chain(what)).expect(0).json()
    };
    let attempts = |json: &serde_json::Value| {
        json["files"].as_u64().unwrap() + json["files_failed"].as_u64().unwrap()
    };
    let (traffic, files) = (["--what", "traffic"], ["--what", "files"]);
    assert_eq!(run("1", &[])["fingerprint"], run("1", &traffic)["fingerprint"]);
    assert_eq!(attempts(&run("4", &traffic)), 0);
    assert!(attempts(&run("4", &[])) > 0);
    assert!(attempts(&run("1", &files)) > 0);
}

#[test]
fn a_trace_of_one_seed_is_the_same_every_time() {
    let trace = || run(["sim", "--seeds", "1", "--from", "4", "--trace"]).expect(0).stderr;
    let first = trace();
    assert!(first.contains("completion port open"), "{first}");
    assert_eq!(first, trace());
}

#[test]
fn the_doctor_tells_what_works_and_what_limits() {
    let json = run(["doctor", "--json"]).expect(0).json();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    let auto = &json["backends"]["auto"];
    assert!(auto["reason"].is_string(), "{json:#}");
    let tried = json["backends"]["tried"].as_array().unwrap();
    for trial in tried {
        // Rings belong to one worker each.
        let impossible =
            (&trial["backend"], &trial["layout"]) == (&"uring".into(), &"shared".into());
        assert_eq!(trial["works"], !impossible, "{json:#}");
        if impossible {
            let why = trial["error"].as_str().unwrap();
            assert!(why.contains("no shared layout") && why.contains("pinned"), "{json:#}");
        }
    }
    assert!(tried.len() >= 2, "{json:#}");
    assert!(tried.iter().any(|trial| trial["backend"] == auto["backend"]), "{json:#}");
    let found: Vec<_> = json["machine"].as_array().unwrap().iter().collect();
    let limits = match cfg!(windows) {
        true => &["system", "cores", "local ports"][..],
        false => &["kernel", "cores", "open files", "somaxconn", "local ports", "io_uring"],
    };
    for what in limits {
        assert!(found.iter().any(|finding| finding["what"] == *what), "{what}: {json:#}");
    }
    if cfg!(windows) {
        let system = found.iter().find(|finding| finding["what"] == "system").unwrap();
        let value = system["value"].as_str().unwrap();
        assert!(
            value.starts_with("Windows ") && value.ends_with(|last: char| last.is_ascii_digit()),
            "{value}"
        );
    }
    let text = run(["doctor"]).expect(0).stdout;
    assert!(text.contains("auto takes") && text.contains("This machine"), "{text}");
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
    let ended = demonstrated(&["--log", "info"]);
    assert!(ended.stderr.contains("completion port open"), "{ended:#?}");
    assert_eq!(ended.json()["ok"], true);
    run(["demo", "--log", "a=b="]).expect(2).says(&["--log", "no log filter", "posthouse=debug"]);
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
