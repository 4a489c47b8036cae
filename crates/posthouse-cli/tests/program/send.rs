//! `posthouse send`.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;

use super::file_server::{FileServerFixture, make_tree, sorted};
use super::harness::{Program, native, run};

#[test]
fn a_line_says_for_each_file_what_became_of_it_on_both_sides() {
    let mut fixture = FileServerFixture::new(&[]);
    fixture.here.write("one.bin", vec![1; 3 << 20]);
    fixture.here.write("none", "");
    fixture.here.write("small", "abc");
    let sent = fixture.send(&["one.bin", "none", "small"]).expect(0);
    let lines = sorted(&sent.stdout);
    assert_eq!(lines[0], "sent none (0 B)");
    assert_eq!(lines[2], "sent small (3 B)", "a rate is shown");
    assert!(
        lines[1].starts_with("sent one.bin (3.0 MiB, ") && lines[1].ends_with("B/s)"),
        "{sent:#?}"
    );
    let again = fixture.send(&["one.bin"]).expect(0);
    assert_eq!(again.stdout, "sent one.bin (3.0 MiB, was already there)\n");
    fs::create_dir(fixture.here.join("back")).unwrap();
    let got = fixture.get(&["one.bin", "-o", "back"]).expect(0);
    assert!(got.stdout.starts_with("received one.bin (3.0 MiB, "), "{got:#?}");
    fixture.here.write("one.bin", "another");
    fixture.send(&["one.bin"]).expect(1);

    let mut lines: Vec<String> = (0..5).map(|_| fixture.server.stdout_line()).collect();
    lines[..3].sort_unstable();
    for (line, (start, way)) in lines.iter().zip([
        ("received none (0 B, from 127.0.0.1:", "from"),
        ("received one.bin (3.0 MiB, from 127.0.0.1:", "from"),
        ("received small (3 B, from 127.0.0.1:", "from"),
        ("received one.bin (3.0 MiB, already there, from 127.0.0.1:", "from"),
        ("sent one.bin (3.0 MiB, to 127.0.0.1:", "to"),
    ]) {
        assert!(line.starts_with(start) && line.contains(way), "{line}");
    }
    let line = fixture.server.stderr_line();
    assert!(line.starts_with("not received: one.bin (from 127.0.0.1:"), "{line}");
    assert!(line.contains("other content"), "{line}");
}

#[test]
fn json_has_a_line_for_each_file_and_one_for_all_of_them() {
    let fixture = FileServerFixture::new(&[]);
    fixture.here.write("d/abc", "abc");
    fixture.here.write("d/there", "there");
    fixture.here.write("inbox/d/there", "other content");
    let sent = fixture.send(&["d", "--json"]).expect(1);
    let lines = sent.json_lines();
    let by_name = |name: &str| lines.iter().find(|line| line["name"] == name).unwrap();
    let abc = by_name("d/abc");
    assert_eq!((&abc["bytes"], &abc["sent_bytes"]), (&3.into(), &3.into()), "{abc:#}");
    // The hash of "abc", from <https://github.com/BLAKE3-team/BLAKE3>.
    let hash = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
    assert_eq!((&abc["blake3"], &abc["error"]), (&hash.into(), &serde_json::Value::Null));
    assert!(abc["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(abc["already_there"], false);
    let there = by_name("d/there");
    assert!(there["error"].as_str().unwrap().contains("other content"), "{there:#}");
    assert_eq!(there["blake3"], serde_json::Value::Null);
    let all = lines.last().unwrap();
    let count = |name: &str| all[name].as_u64().unwrap();
    assert_eq!((count("files"), count("failed"), count("left"), count("bytes")), (1, 1, 0, 3));
    sent.expect_stderr(&["1 of 2 files not sent"]);
    let again = &fixture.send(&["d/abc", "--as", "d/abc", "--json"]).expect(0).json_lines()[0];
    let count = |name: &str| again[name].as_u64().unwrap();
    assert_eq!((count("resumed_from"), count("sent_bytes")), (3, 0), "{again:#}");
    assert_eq!((&again["blake3"], &again["already_there"]), (&hash.into(), &true.into()));
    fixture.here.write("none", "");
    for _ in 0..2 {
        let none = &fixture.send(&["none", "--json"]).expect(0).json_lines()[0];
        assert_eq!(none["already_there"], false, "nothing can be known: {none:#}");
    }
}

#[test]
fn other_content_under_a_name_is_an_error_and_the_rest_goes_on() {
    let fixture = FileServerFixture::new(&[]);
    make_tree(&fixture.here, "tree");
    fixture.here.write("inbox/tree/part 4/file-4.bin", "was here before");
    let sent = fixture.send(&["tree"]).expect(1);
    assert_eq!(sent.stdout.lines().count(), 59);
    let lines: Vec<&str> = sent.stderr.lines().collect();
    assert!(lines[0].starts_with("not sent: tree/part 4/file-4.bin: "), "{sent:#?}");
    assert!(lines[0].contains("a file of that name exists, with other content"));
    // The program does not advise to run it again, because the next run would fail in the same way.
    assert_eq!(lines[1..], ["error: 1 of 60 files not sent, for the reasons above"]);
    assert_eq!(fixture.inbox()["tree/part 4/file-4.bin"], b"was here before");

    // The same applies to downloads, also if the sizes are equal.
    fixture.here.write("tree/part 4/file-4.bin", "was here sooner");
    let got = fixture.get(&["tree"]).expect(1);
    assert_eq!(got.stdout.lines().count(), 59, "{got:#?}");
    assert!(got.stderr.starts_with("not received: tree/part 4/file-4.bin: "), "{got:#?}");
    assert_eq!(fs::read(fixture.here.join("tree/part 4/file-4.bin")).unwrap(), b"was here sooner");
}

#[cfg(target_os = "linux")]
#[test]
fn a_report_that_cannot_be_written_is_a_failure_and_the_files_are_sent() {
    let fixture = FileServerFixture::new(&[]);
    fixture.here.write("a", "a");
    fixture.here.write("b", "b");
    let send_into_full = |arguments: &[&str]| {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let words = [&["send", &fixture.address], arguments].concat();
        Program::start_with(fixture.here.path(), words, full.into()).finish()
    };
    let text = "cannot write to stdout: No space left on device (os error 28)\n";
    assert_eq!(send_into_full(&["a", "--json"]).expect(1).stderr, format!("error: {text}"));
    let partial = send_into_full(&["b", "c"]).expect(1);
    assert!(partial.stderr.contains("error: 1 of 2 files not sent"), "{partial:#?}");
    assert!(partial.stderr.ends_with(&format!("; {text}")), "{partial:#?}");
    send_into_full(&["a", "--quiet"]).expect(0);
    assert_eq!(fixture.names(), ["a", "b"]);
}

#[test]
fn quiet_is_silent_but_for_errors() {
    let fixture = FileServerFixture::new(&[]);
    fixture.here.write("a", "a");
    fixture.here.write("b", "b");
    let sent = fixture.send(&["a", "--quiet"]).expect(0);
    assert_eq!((sent.stdout.as_str(), sent.stderr.as_str()), ("", ""));
    let sent = fixture.send(&["b", "c", "-q"]).expect(1);
    assert_eq!(sent.stdout, "");
    assert!(sent.stderr.starts_with("not sent: c: "), "{sent:#?}");
    assert_eq!(fixture.names(), ["a", "b"]);
}

#[test]
fn names_there_are_made_as_cp_makes_them() {
    let fixture = FileServerFixture::new(&[]);
    fixture.here.write("d/x", "x");
    fixture.here.write("d/.posthouse/part", "of a file that was received here: nobody's");
    for arguments in [
        &["d"][..],
        &["d/", "--as", "other/name/"],
        &["d/."],
        &["./d/../d/x", "--as", "file"],
        &["d/x", "--as", "deep/er/"],
    ] {
        let sent = fixture.send(arguments).expect(0);
        let of_a_directory = arguments[0].starts_with('d') && !arguments[0].ends_with('x');
        assert_eq!(
            sent.stderr.contains(": the directory of unfinished files"),
            of_a_directory,
            "{sent:#?}"
        );
    }
    assert_eq!(fixture.names(), ["d/x", "deep/er/x", "file", "other/name/x", "x"]);
    let here = ["send", &fixture.address, "."];
    Program::start_in(&fixture.here.join("d"), here).finish().expect(0);
    assert_eq!(fixture.names().len(), 5, "the name of the file");
    fixture.send(&["d", "d/x", "--as", "both"]).expect(2).expect_stderr(&["--as", "one PATH"]);
}

#[test]
fn what_an_unfinished_reception_left_is_skipped_at_every_depth_and_told() {
    let fixture = FileServerFixture::new(&[]);
    for name in ["t/a", "t/.posthouse/part", "t/deep/b", "t/deep/.posthouse/part"] {
        fixture.here.write(name, "x");
    }
    let sent = fixture.send(&["t"]).expect(0);
    let skipped = ["skipped: t/.posthouse", "skipped: t/deep/.posthouse"];
    let skipped =
        skipped.map(|start| format!("{}: the directory of unfinished files", native(start)));
    assert_eq!(sorted(&sent.stderr), skipped);
    assert_eq!(fixture.names(), ["t/a", "t/deep/b"]);
}

#[test]
fn an_empty_directory_is_told_and_help_says_that_it_is_not_sent() {
    let fixture = FileServerFixture::new(&[]);
    fs::create_dir_all(fixture.here.join("d/empty")).unwrap();
    let sent = fixture.send(&["d/empty"]).expect(0);
    assert_eq!((&*sent.stdout, &*sent.stderr), ("", "skipped: d/empty: an empty directory\n"));
    fixture.here.write("d/file", "x");
    let sent = fixture.send(&["d"]).expect(0);
    assert_eq!(sent.stderr, format!("skipped: {}: an empty directory\n", native("d/empty")));
    assert!(run(["send", "--help"]).expect(0).stdout.contains("empty directories are not"));
}

#[test]
fn a_path_that_is_not_there_is_told_and_the_others_are_sent() {
    let fixture = FileServerFixture::new(&[]);
    fixture.here.write("a", "a");
    let sent = fixture.send(&["nothing", "a"]).expect(1);
    assert!(
        sent.stderr.starts_with("not sent: nothing: ") && sent.stderr.contains("os error 2"),
        "{sent:#?}"
    );
    assert!(sent.stderr.contains("error: 1 of 2 files not sent"), "{sent:#?}");
    assert_eq!(fixture.names(), ["a"]);
}

#[test]
fn a_watch_sends_what_appears_and_what_is_renamed_and_says_in_the_end_what_is_missing() {
    let fixture = FileServerFixture::new(&[]);
    fs::create_dir(fixture.here.join("out")).unwrap();
    let words = ["send", &fixture.address, "--watch", "out/."];
    let mut watch = Program::start_in(fixture.here.path(), words);
    fixture.here.write("out/first", "1");
    assert!(watch.stdout_line().starts_with("sent first (1 B)"));
    fixture.here.write("out/sub/second", "22");
    assert!(watch.stdout_line().starts_with("sent sub/second (2 B)"));
    fs::rename(fixture.here.join("out/first"), fixture.here.join("out/third")).unwrap();
    assert!(watch.stdout_line().starts_with("sent third (1 B)"));
    fixture.here.write("out/third", "other");
    let line = watch.stderr_line();
    assert!(line.starts_with("not sent: third: "), "{line}");
    fixture.here.write("out/fourth", "4");
    assert!(watch.stdout_line().starts_with("sent fourth (1 B)"), "the other files were not sent");
    watch.interrupt();
    let ended = watch.finish().expect(1);
    // The failure was reported once, and nothing was sent twice.
    assert_eq!(ended.stdout, "");
    ended.expect_stderr(&["error: interrupted: 1 of 5 files not sent"]);
    assert_eq!(fixture.names(), ["first", "fourth", "sub/second", "third"]);
    assert_eq!(fixture.inbox()["third"], b"1");
}

#[test]
fn a_watch_ends_well_if_every_file_is_confirmed_and_not_if_there_was_no_server() {
    let fixture = FileServerFixture::new(&[]);
    fixture.here.write("out/first", "1");
    let start = |address: &str| {
        Program::start_in(fixture.here.path(), ["send", address, "--watch", "out/."])
    };
    let mut watch = start(&fixture.address);
    assert!(watch.stdout_line().starts_with("sent first (1 B)"));
    watch.interrupt();
    let ended = watch.finish().expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut watch = start(&nobody);
    assert!(watch.stderr_line().starts_with("no connection to "));
    watch.interrupt();
    let ended = watch.finish().expect(1);
    ended.expect_stderr(&["error: interrupted before there was a connection to", &nobody]);
}

#[test]
fn two_senders_of_the_same_names_leave_one_whole_file_of_each() {
    let fixture = FileServerFixture::new(&[]);
    let mut contents = BTreeSet::new();
    for top in ["one", "two"] {
        for number in 0..10 {
            let content = format!("{top} {number} ").repeat(20_000);
            fixture.here.write(&format!("{top}/{number}"), &content);
            contents.insert(content.into_bytes());
        }
    }
    let start = |path: &str| {
        Program::start_in(fixture.here.path(), ["send", &fixture.address, path, "--as", "d"])
    };
    let one = start("one");
    let two = start("two");
    let sent: usize = [one.finish(), two.finish()]
        .iter()
        .map(|ended| ended.stdout.lines().filter(|line| line.starts_with("sent ")).count())
        .sum();
    assert_eq!(sent, 10, "a name appears twice");
    let inbox = fixture.inbox();
    assert_eq!(inbox.len(), 10);
    assert!(inbox.values().all(|content| contents.contains(content)));
}

#[cfg(unix)]
mod unix {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::super::foreign_clients;
    use super::*;

    #[test]
    fn links_and_what_is_no_file_are_left_out_and_told() {
        let fixture = FileServerFixture::new(&[]);
        fixture.here.write("d/file", "file");
        fixture.here.write("secret", "secret");
        symlink("../secret", fixture.here.join("d/link")).unwrap();
        symlink("..", fixture.here.join("d/up\u{1b}[1A")).unwrap();
        mknodat(CWD, fixture.here.join("d/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let _socket = UnixListener::bind(fixture.here.join("d/socket")).unwrap();
        let sent = fixture.send(&["d"]).expect(0);
        assert_eq!(
            sorted(&sent.stderr),
            [
                "skipped: d/link: a symbolic link",
                "skipped: d/pipe: a FIFO",
                "skipped: d/socket: a socket",
                "skipped: d/up\\u{1b}[1A: a symbolic link",
            ]
        );
        assert_eq!(fixture.names(), ["d/file"]);
        let fifo = fixture.send(&["d/pipe"]).expect(1);
        assert!(fifo.stderr.starts_with("not sent: d/pipe: a FIFO: only regular"), "{fifo:#?}");
        // A link that is itself a PATH is followed.
        symlink("d", fixture.here.join("to-d")).unwrap();
        fixture.send(&["d/link", "to-d"]).expect(0);
        assert_eq!(fixture.names(), ["d/file", "link", "to-d/file"]);
        assert_eq!(fixture.inbox()["link"], b"secret");
    }

    #[test]
    fn names_that_cannot_be_sent_fail_alone_and_never_reach_the_terminal_raw() {
        let fixture = FileServerFixture::new(&[]);
        for name in ["good", "CON", "a:b", "dot.", "es\u{1b}[2Jc", "nl\nx", "rtl\u{202e}x", " s"] {
            fixture.here.write(&format!("d/{name}"), "x");
        }
        fs::write(fixture.here.join("d").join(OsStr::from_bytes(b"not-\xff-utf8")), "x").unwrap();
        let sent = fixture.send(&["d"]).expect(1);
        assert_eq!(sent.stdout.lines().count(), 1, "{sent:#?}");
        assert!(sent.stdout.starts_with("sent d/good "), "{sent:#?}");
        assert_eq!(fixture.names(), ["d/good"]);
        assert_eq!(sent.stderr.lines().count(), 9, "{sent:#?}");
        for part in
            ["CON", "a:b", "dot.", "es\\u{1b}[2Jc", "nl\\nx", "rtl\\u{202e}x", "not valid Unicode"]
        {
            assert!(sent.stderr.contains(part), "{part}: {sent:#?}");
        }
        assert!(sent.stderr.contains("8 of 9 files not sent"), "{sent:#?}");
        let wild = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!sent.stderr.contains(wild), "{sent:#?}");
    }

    #[test]
    fn what_can_be_executed_still_can() {
        let fixture = FileServerFixture::new(&[]);
        let path = fixture.here.write("run.sh", "#!/bin/sh\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        fixture.send(&["run.sh"]).expect(0);
        let mode = |name: &str| fs::metadata(fixture.here.join(name)).unwrap().permissions().mode();
        assert_ne!(mode("inbox/run.sh") & 0o100, 0);
        assert!(fixture.list(&["--json"]).json_lines()[0]["executable"] == true);
        fixture.get(&["run.sh", "-o", "back.sh"]).expect(0);
        assert_ne!(mode("back.sh") & 0o100, 0);
    }

    #[test]
    fn a_file_that_may_not_be_read_fails_alone() {
        if rustix::process::geteuid().is_root() {
            // Root can read every file, so there is nothing to test.
            eprintln!("not tested: this runs as root, which may read everything");
            return;
        }
        let fixture = FileServerFixture::new(&[]);
        fixture.here.write("d/open", "x");
        let path = fixture.here.write("d/closed", "x");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        let sent = fixture.send(&["d"]).expect(1);
        assert!(sent.stderr.starts_with("not sent: d/closed: "), "{sent:#?}");
        assert_eq!(fixture.names(), ["d/open"]);
    }

    /// Returns the output of a command on a terminal. Returns `None` if Python, which makes the
    /// terminal, is not installed.
    fn on_a_terminal(arguments: &[&str]) -> Option<String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/terminal.py");
        let words = [&[script, env!("CARGO_BIN_EXE_posthouse")], arguments].concat();
        let output = foreign_clients::run("python3", &words, "")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
        Some(said)
    }

    #[test]
    fn on_a_terminal_there_are_bars_and_one_line_for_all_of_it() {
        let fixture = FileServerFixture::new(&[]);
        make_tree(&fixture.here, "tree");
        fixture.here.write("tree/es\u{301}\u{a0}x", vec![0; 3 << 20]);
        let tree = fixture.here.text("tree");
        let Some(sent) = on_a_terminal(&["send", &fixture.address, &tree]) else { return };
        assert!(sent.contains("of 61 files "), "no progress bar of the whole run: {sent}");
        let lines: Vec<&str> = sent.split(['\r', '\n']).filter(|it| it.contains("sent ")).collect();
        let [line] = lines[..] else { panic!("one line for all: {sent}") };
        assert!(line.contains("sent 61 files, 5.5 MiB in "), "{line}");
        let again = on_a_terminal(&["send", &fixture.address, &tree]).unwrap();
        assert!(
            again.contains("; 60 of them were already there"),
            "the empty one came again: {again}"
        );
        let quiet = on_a_terminal(&["send", &fixture.address, &tree, "--quiet"]).unwrap();
        assert_eq!(quiet, "");
        let listed = on_a_terminal(&["list", &fixture.address, "tree/part 4/"]).unwrap();
        assert!(listed.ends_with("8 files, 309.2 KiB\r\n"), "{listed}");
    }
}
