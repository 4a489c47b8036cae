//! `posthouse serve --dir`, `send`, `get` and `list`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{self, MAIN_SEPARATOR, Path};

use super::support::{
    Ended, MKDIR, Program, Request, TemporaryDirectory, TemporaryFile, connect, exchange, frame,
    native, run, serve, wait_until,
};

/// A server with an empty directory, `inbox`, in a directory of this test.
struct Scene {
    server: Program,
    address: String,
    /// The last: Windows keeps a directory that a server has open.
    here: TemporaryDirectory,
}

impl Scene {
    fn new(arguments: &[&str]) -> Self {
        let here = TemporaryDirectory::new();
        fs::create_dir(here.join("inbox")).unwrap();
        let inbox = here.text("inbox");
        let words = [&["--dir", &inbox], arguments].concat();
        let (server, address) = serve(&words);
        Self { server, address: address.to_string(), here }
    }

    /// Runs `posthouse send` with paths in the test's directory.
    fn send(&self, arguments: &[&str]) -> Ended {
        let words = ["send", &self.address].into_iter().chain(arguments.iter().copied());
        Program::start_in(self.here.path(), words).finish()
    }

    /// Runs `posthouse get` in the test's directory.
    fn get(&self, arguments: &[&str]) -> Ended {
        let words = ["get", &self.address].into_iter().chain(arguments.iter().copied());
        Program::start_in(self.here.path(), words).finish()
    }

    fn list(&self, arguments: &[&str]) -> Ended {
        run(["list", &self.address].into_iter().chain(arguments.iter().copied()))
    }

    /// Every file in the inbox.
    fn inbox(&self) -> BTreeMap<String, Vec<u8>> {
        files(&self.here.join("inbox"))
    }

    /// The names of all files in the inbox.
    fn names(&self) -> Vec<String> {
        self.inbox().into_keys().collect()
    }
}

/// Every file beneath a directory, by its name there; what is Posthouse's own is left out.
fn files(top: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            match entry.file_type().unwrap() {
                _ if entry.file_name() == ".posthouse" => {}
                kind if kind.is_dir() => left.push(path),
                _ => {
                    let name = path.strip_prefix(top).unwrap().to_str().unwrap();
                    let name = name.replace(MAIN_SEPARATOR, "/");
                    found.insert(name, fs::read(path).unwrap());
                }
            }
        }
    }
    found
}

/// Sixty files in directories, of several sizes, with names that people give.
fn make_tree(here: &TemporaryDirectory, top: &str) {
    for number in 0..60_usize {
        let name = match number {
            0 => "empty".to_owned(),
            1 => "größe und 雪.txt".to_owned(),
            2 => "a/b/c/d/e/deep".to_owned(),
            3 => ".hidden".to_owned(),
            _ => format!("part {}/file-{number}.bin", number % 7),
        };
        let content: Vec<u8> = (0..number * number * 37).map(|at| (at * number) as u8).collect();
        here.write(&format!("{top}/{name}"), content);
    }
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_tree_and_a_file_arrive_and_come_back_as_they_were() {
    let scene = Scene::new(&[]);
    make_tree(&scene.here, "tree");
    scene.here.write("one.bin", vec![7; 3_000_000]);
    let sent = scene.send(&["tree", "one.bin"]).expect(0);
    assert_eq!((sent.stdout.lines().count(), sent.stderr.as_str()), (61, ""), "{sent:#?}");
    let mut expected = BTreeMap::from([("one.bin".to_owned(), vec![7; 3_000_000])]);
    let tree = files(&scene.here.join("tree"));
    expected.extend(tree.iter().map(|(name, bytes)| (format!("tree/{name}"), bytes.clone())));
    assert!(scene.inbox() == expected, "{:?}", scene.names());

    fs::create_dir(scene.here.join("back")).unwrap();
    let got = scene.get(&["--all", "-o", "back"]).expect(0);
    assert_eq!((got.stdout.lines().count(), got.stderr.as_str()), (61, ""), "{got:#?}");
    assert!(files(&scene.here.join("back")) == expected);
    assert!(!scene.here.join("back/.posthouse").exists(), "nothing of ours is left");

    let time = |name: &str| fs::metadata(scene.here.join(name)).unwrap().modified().unwrap();
    let ms = |name| time(name).duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert_eq!(ms("one.bin"), ms("inbox/one.bin"));
    assert_eq!(ms("one.bin"), ms("back/one.bin"));
}

#[test]
fn a_line_says_for_each_file_what_became_of_it_on_both_sides() {
    let mut scene = Scene::new(&[]);
    scene.here.write("one.bin", vec![1; 3 << 20]);
    scene.here.write("none", "");
    scene.here.write("small", "abc");
    let sent = scene.send(&["one.bin", "none", "small"]).expect(0);
    let lines = sorted(&sent.stdout);
    assert_eq!(lines[0], "sent none (0 B)");
    assert_eq!(lines[2], "sent small (3 B)", "a rate would say nothing");
    assert!(
        lines[1].starts_with("sent one.bin (3.0 MiB, ") && lines[1].ends_with("B/s)"),
        "{sent:#?}"
    );
    let again = scene.send(&["one.bin"]).expect(0);
    assert_eq!(again.stdout, "sent one.bin (3.0 MiB, was there already)\n");
    fs::create_dir(scene.here.join("back")).unwrap();
    let got = scene.get(&["one.bin", "-o", "back"]).expect(0);
    assert!(got.stdout.starts_with("received one.bin (3.0 MiB, "), "{got:#?}");
    scene.here.write("one.bin", "another");
    scene.send(&["one.bin"]).expect(1);

    let mut lines: Vec<String> = (0..5).map(|_| scene.server.line()).collect();
    lines[..3].sort_unstable();
    for (line, (start, way)) in lines.iter().zip([
        ("received none (0 B, from 127.0.0.1:", "from"),
        ("received one.bin (3.0 MiB, from 127.0.0.1:", "from"),
        ("received small (3 B, from 127.0.0.1:", "from"),
        ("received one.bin (3.0 MiB, there already, from 127.0.0.1:", "from"),
        ("sent one.bin (3.0 MiB, to 127.0.0.1:", "to"),
    ]) {
        assert!(line.starts_with(start) && line.contains(way), "{line}");
    }
    let complaint = scene.server.complaint();
    assert!(complaint.starts_with("not received: one.bin (from 127.0.0.1:"), "{complaint}");
    assert!(complaint.contains("other content"), "{complaint}");
}

#[test]
fn json_has_a_line_for_each_file_and_one_for_all_of_them() {
    let scene = Scene::new(&[]);
    scene.here.write("d/abc", "abc");
    scene.here.write("d/there", "there");
    scene.here.write("inbox/d/there", "other content");
    let sent = scene.send(&["d", "--json"]).expect(1);
    let lines = sent.json_lines();
    let by_name = |name: &str| lines.iter().find(|line| line["name"] == name).unwrap();
    let abc = by_name("d/abc");
    assert_eq!((&abc["bytes"], &abc["sent_bytes"]), (&3.into(), &3.into()), "{abc:#}");
    // Of "abc", by <https://github.com/BLAKE3-team/BLAKE3>.
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
    sent.says(&["1 of 2 files not sent"]);
    let again = &scene.send(&["d/abc", "--as", "d/abc", "--json"]).expect(0).json_lines()[0];
    let count = |name: &str| again[name].as_u64().unwrap();
    assert_eq!((count("resumed_from"), count("sent_bytes")), (3, 0), "{again:#}");
    assert_eq!((&again["blake3"], &again["already_there"]), (&hash.into(), &true.into()));
    scene.here.write("none", "");
    for _ in 0..2 {
        let none = &scene.send(&["none", "--json"]).expect(0).json_lines()[0];
        assert_eq!(none["already_there"], false, "nothing can be known: {none:#}");
    }
}

#[test]
fn other_content_under_a_name_is_an_error_and_the_rest_goes_on() {
    let scene = Scene::new(&[]);
    make_tree(&scene.here, "tree");
    scene.here.write("inbox/tree/part 4/file-4.bin", "was here before");
    let sent = scene.send(&["tree"]).expect(1);
    assert_eq!(sent.stdout.lines().count(), 59);
    let lines: Vec<&str> = sent.stderr.lines().collect();
    assert!(lines[0].starts_with("not sent: tree/part 4/file-4.bin: "), "{sent:#?}");
    assert!(lines[0].contains("there is a file of that name already, with other content"));
    // It would fail the same way again.
    assert_eq!(lines[1..], ["error: 1 of 60 files not sent, for the reasons above"]);
    assert_eq!(scene.inbox()["tree/part 4/file-4.bin"], b"was here before");

    // And the same the other way round, where the size is the same, too.
    scene.here.write("tree/part 4/file-4.bin", "was here sooner");
    let got = scene.get(&["tree"]).expect(1);
    assert_eq!(got.stdout.lines().count(), 59, "{got:#?}");
    assert!(got.stderr.starts_with("not received: tree/part 4/file-4.bin: "), "{got:#?}");
    assert_eq!(fs::read(scene.here.join("tree/part 4/file-4.bin")).unwrap(), b"was here sooner");
}

#[test]
fn quiet_is_silent_but_for_errors() {
    let scene = Scene::new(&[]);
    scene.here.write("a", "a");
    scene.here.write("b", "b");
    let sent = scene.send(&["a", "--quiet"]).expect(0);
    assert_eq!((sent.stdout.as_str(), sent.stderr.as_str()), ("", ""));
    let sent = scene.send(&["b", "c", "-q"]).expect(1);
    assert_eq!(sent.stdout, "");
    assert!(sent.stderr.starts_with("not sent: c: "), "{sent:#?}");
    assert_eq!(scene.names(), ["a", "b"]);
}

#[test]
fn names_there_are_made_as_cp_makes_them() {
    let scene = Scene::new(&[]);
    scene.here.write("d/x", "x");
    scene.here.write("d/.posthouse/part", "of a file that was received here: nobody's");
    for arguments in [
        &["d"][..],
        &["d/", "--as", "other/name/"],
        &["d/."],
        &["./d/../d/x", "--as", "file"],
        &["d/x", "--as", "deep/er/"],
    ] {
        let sent = scene.send(arguments).expect(0);
        let of_a_directory = arguments[0].starts_with('d') && !arguments[0].ends_with('x');
        assert_eq!(
            sent.stderr.contains(": where unfinished files are kept"),
            of_a_directory,
            "{sent:#?}"
        );
    }
    assert_eq!(scene.names(), ["d/x", "deep/er/x", "file", "other/name/x", "x"]);
    let here = ["send", &scene.address, "."];
    Program::start_in(&scene.here.join("d"), here).finish().expect(0);
    assert_eq!(scene.names().len(), 5, "it is x");
    scene.send(&["d", "d/x", "--as", "both"]).expect(2).says(&["--as", "one PATH"]);
}

#[test]
fn what_an_unfinished_reception_left_is_skipped_at_every_depth_and_told() {
    let scene = Scene::new(&[]);
    for name in ["t/a", "t/.posthouse/part", "t/deep/b", "t/deep/.posthouse/part"] {
        scene.here.write(name, "x");
    }
    let sent = scene.send(&["t"]).expect(0);
    let skipped = ["skipped: t/.posthouse", "skipped: t/deep/.posthouse"];
    let skipped =
        skipped.map(|start| format!("{}: where unfinished files are kept", native(start)));
    assert_eq!(sorted(&sent.stderr), skipped);
    assert_eq!(scene.names(), ["t/a", "t/deep/b"]);
}

#[test]
fn an_empty_directory_is_told_and_help_says_that_it_is_not_sent() {
    let scene = Scene::new(&[]);
    fs::create_dir_all(scene.here.join("d/empty")).unwrap();
    let sent = scene.send(&["d/empty"]).expect(0);
    assert_eq!((&*sent.stdout, &*sent.stderr), ("", "skipped: d/empty: an empty directory\n"));
    scene.here.write("d/file", "x");
    let sent = scene.send(&["d"]).expect(0);
    assert_eq!(sent.stderr, format!("skipped: {}: an empty directory\n", native("d/empty")));
    assert!(run(["send", "--help"]).expect(0).stdout.contains("empty directories are not"));
}

#[test]
fn a_path_that_is_not_there_is_told_and_the_others_are_sent() {
    let scene = Scene::new(&[]);
    scene.here.write("a", "a");
    let sent = scene.send(&["nothing", "a"]).expect(1);
    assert!(
        sent.stderr.starts_with("not sent: nothing: ") && sent.stderr.contains("os error 2"),
        "{sent:#?}"
    );
    assert!(sent.stderr.contains("error: 1 of 2 files not sent"), "{sent:#?}");
    assert_eq!(scene.names(), ["a"]);
}

#[test]
fn a_watch_sends_what_appears_and_what_is_renamed_and_says_in_the_end_what_is_missing() {
    let scene = Scene::new(&[]);
    fs::create_dir(scene.here.join("out")).unwrap();
    let words = ["send", &scene.address, "--watch", "out/."];
    let mut watch = Program::start_in(scene.here.path(), words);
    scene.here.write("out/first", "1");
    assert!(watch.line().starts_with("sent first (1 B)"));
    scene.here.write("out/sub/second", "22");
    assert!(watch.line().starts_with("sent sub/second (2 B)"));
    fs::rename(scene.here.join("out/first"), scene.here.join("out/third")).unwrap();
    assert!(watch.line().starts_with("sent third (1 B)"));
    scene.here.write("out/third", "other");
    let complaint = watch.complaint();
    assert!(complaint.starts_with("not sent: third: "), "{complaint}");
    scene.here.write("out/fourth", "4");
    assert!(watch.line().starts_with("sent fourth (1 B)"), "the others go on");
    watch.interrupt();
    let ended = watch.finish().expect(1);
    // Told once, and nothing was sent twice.
    assert_eq!(ended.stdout, "");
    ended.says(&["error: interrupted: 1 of 5 files not sent"]);
    assert_eq!(scene.names(), ["first", "fourth", "sub/second", "third"]);
    assert_eq!(scene.inbox()["third"], b"1");
}

#[test]
fn a_watch_ends_well_if_every_file_is_confirmed_and_not_if_there_was_no_server() {
    let scene = Scene::new(&[]);
    scene.here.write("out/first", "1");
    let start =
        |address: &str| Program::start_in(scene.here.path(), ["send", address, "--watch", "out/."]);
    let mut watch = start(&scene.address);
    assert!(watch.line().starts_with("sent first (1 B)"));
    watch.interrupt();
    let ended = watch.finish().expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut watch = start(&nobody);
    assert!(watch.complaint().starts_with("no connection to "));
    watch.interrupt();
    let ended = watch.finish().expect(1);
    ended.says(&["error: interrupted: there never was a connection to", &nobody]);
}

#[test]
fn a_server_that_ends_waits_for_its_last_lines() {
    let scene = Scene::new(&[]);
    scene.here.write("a", "a");
    scene.send(&["a"]).expect(0);
    scene.server.ask(Request::Terminate);
    let ended = scene.server.finish().expect(0);
    assert!(ended.stdout.starts_with("received a (1 B, from "), "{ended:#?}");
    assert_eq!(ended.stderr, "");
}

#[cfg(unix)]
mod unix {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::super::foreign;
    use super::*;

    #[test]
    fn links_and_what_is_no_file_are_left_out_and_told() {
        let scene = Scene::new(&[]);
        scene.here.write("d/file", "file");
        scene.here.write("secret", "secret");
        symlink("../secret", scene.here.join("d/link")).unwrap();
        symlink("..", scene.here.join("d/up\u{1b}[1A")).unwrap();
        mknodat(CWD, scene.here.join("d/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let _socket = UnixListener::bind(scene.here.join("d/socket")).unwrap();
        let sent = scene.send(&["d"]).expect(0);
        assert_eq!(
            sorted(&sent.stderr),
            [
                "skipped: d/link: a symbolic link",
                "skipped: d/pipe: a FIFO",
                "skipped: d/socket: a socket",
                "skipped: d/up\\u{1b}[1A: a symbolic link",
            ]
        );
        assert_eq!(scene.names(), ["d/file"]);
        let fifo = scene.send(&["d/pipe"]).expect(1);
        assert!(fifo.stderr.starts_with("not sent: d/pipe: a FIFO: only regular"), "{fifo:#?}");
        // Who names a link means what it leads to.
        symlink("d", scene.here.join("to-d")).unwrap();
        scene.send(&["d/link", "to-d"]).expect(0);
        assert_eq!(scene.names(), ["d/file", "link", "to-d/file"]);
        assert_eq!(scene.inbox()["link"], b"secret");
    }

    #[test]
    fn names_that_cannot_be_sent_fail_alone_and_never_reach_the_terminal_raw() {
        let scene = Scene::new(&[]);
        for name in ["good", "CON", "a:b", "dot.", "es\u{1b}[2Jc", "nl\nx", "rtl\u{202e}x", " s"] {
            scene.here.write(&format!("d/{name}"), "x");
        }
        fs::write(scene.here.join("d").join(OsStr::from_bytes(b"not-\xff-utf8")), "x").unwrap();
        let sent = scene.send(&["d"]).expect(1);
        assert_eq!(sent.stdout.lines().count(), 1, "{sent:#?}");
        assert!(sent.stdout.starts_with("sent d/good "), "{sent:#?}");
        assert_eq!(scene.names(), ["d/good"]);
        assert_eq!(sent.stderr.lines().count(), 9, "{sent:#?}");
        for part in
            ["CON", "a:b", "dot.", "es\\u{1b}[2Jc", "nl\\nx", "rtl\\u{202e}x", "not Unicode"]
        {
            assert!(sent.stderr.contains(part), "{part}: {sent:#?}");
        }
        assert!(sent.stderr.contains("8 of 9 files not sent"), "{sent:#?}");
        let wild = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!sent.stderr.contains(wild), "{sent:#?}");
    }

    #[test]
    fn what_can_be_executed_still_can() {
        let scene = Scene::new(&[]);
        let path = scene.here.write("run.sh", "#!/bin/sh\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        scene.send(&["run.sh"]).expect(0);
        let mode = |name: &str| fs::metadata(scene.here.join(name)).unwrap().permissions().mode();
        assert_ne!(mode("inbox/run.sh") & 0o100, 0);
        assert!(scene.list(&["--json"]).json_lines()[0]["executable"] == true);
        scene.get(&["run.sh", "-o", "back.sh"]).expect(0);
        assert_ne!(mode("back.sh") & 0o100, 0);
    }

    #[test]
    fn a_file_that_may_not_be_read_fails_alone() {
        if rustix::process::geteuid().is_root() {
            // To root every file can be read: there is nothing to see.
            eprintln!("not tested: this runs as root, which may read everything");
            return;
        }
        let scene = Scene::new(&[]);
        scene.here.write("d/open", "x");
        let path = scene.here.write("d/closed", "x");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        let sent = scene.send(&["d"]).expect(1);
        assert!(sent.stderr.starts_with("not sent: d/closed: "), "{sent:#?}");
        assert_eq!(scene.names(), ["d/open"]);
    }

    /// What a command says on a terminal; `None` where there is no Python to make one.
    fn on_a_terminal(arguments: &[&str]) -> Option<String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/terminal.py");
        let words = [&[script, env!("CARGO_BIN_EXE_posthouse")], arguments].concat();
        let output = foreign::run("python3", &words, "")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
        Some(said)
    }

    #[test]
    fn on_a_terminal_there_are_bars_and_one_line_for_all_of_it() {
        let scene = Scene::new(&[]);
        make_tree(&scene.here, "tree");
        scene.here.write("tree/es\u{301}\u{a0}x", vec![0; 3 << 20]);
        let tree = scene.here.text("tree");
        let Some(sent) = on_a_terminal(&["send", &scene.address, &tree]) else { return };
        assert!(sent.contains("of 61 files "), "the bar of all: {sent}");
        let lines: Vec<&str> = sent.split(['\r', '\n']).filter(|it| it.contains("sent ")).collect();
        let [line] = lines[..] else { panic!("one line for all: {sent}") };
        assert!(line.contains("sent 61 files, 5.5 MiB in "), "{line}");
        let again = on_a_terminal(&["send", &scene.address, &tree]).unwrap();
        assert!(again.contains("; 60 of them there already"), "the empty one came again: {again}");
        let quiet = on_a_terminal(&["send", &scene.address, &tree, "--quiet"]).unwrap();
        assert_eq!(quiet, "");
        let listed = on_a_terminal(&["list", &scene.address, "tree/part 4/"]).unwrap();
        assert!(listed.ends_with("8 files, 309.2 KiB\r\n"), "{listed}");
    }
}

#[test]
fn a_list_has_a_line_for_each_file_in_order_over_many_pages() {
    let scene = Scene::new(&[]);
    let inbox = scene.here.join("inbox");
    // More than one answer of the protocol holds.
    for number in 0..1500 {
        fs::write(inbox.join(format!("{number:04}")), "").unwrap();
    }
    let path = scene.here.write("inbox/build/a.txt", "12345");
    scene.here.write("inbox/build.log", "");
    scene.here.write("inbox/.posthouse/part", "is no file yet");
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(951_782_400_123);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();

    let listed = scene.list(&[]).expect(0);
    assert_eq!((listed.stdout.lines().count(), listed.stderr.as_str()), (1502, ""));
    let names: Vec<&str> =
        listed.stdout.lines().filter_map(|line| line.split("  ").last()).collect();
    assert!(names.is_sorted() && names[0] == "0000" && names[1501] == "build/a.txt", "{names:?}");
    let build = scene.list(&["build/"]).expect(0);
    assert_eq!(build.stdout, "           5  2000-02-29T00:00:00Z  build/a.txt\n");
    assert_eq!(scene.list(&["build"]).expect(0).stdout.lines().count(), 2);
    assert_eq!(scene.list(&["build.log"]).expect(0).stdout.lines().count(), 1);
    assert_eq!(scene.list(&["c"]).expect(0).stdout, "");
    let json = &scene.list(&["build/", "--json"]).expect(0).json_lines()[0];
    assert_eq!((&json["name"], &json["bytes"]), (&"build/a.txt".into(), &5.into()));
    assert_eq!(json["modified"], "2000-02-29T00:00:00Z");
    assert_eq!(json["modified_ms"], 951_782_400_123_i64);
}

#[test]
fn what_is_got_goes_where_it_is_told_to() {
    let scene = Scene::new(&[]);
    scene.here.write("inbox/d/a", "a");
    scene.here.write("inbox/d/e/b", "b");
    scene.here.write("inbox/d.txt", "t");
    fs::create_dir(scene.here.join("to")).unwrap();
    let got = |top: &str| files(&scene.here.join(top)).into_keys().collect::<Vec<_>>();
    scene.get(&["d", "-o", "to"]).expect(0);
    assert_eq!(got("to"), ["d/a", "d/e/b"], "and not what only begins so");
    scene.get(&["d/e/", "d.txt", "-o", "to/"]).expect(0);
    assert_eq!(got("to"), ["d.txt", "d/a", "d/e/b"]);
    let kept = scene.get(&["d.txt", "-o", "to/kept"]).expect(0);
    assert!(kept.stdout.starts_with("received d.txt (1 B)"), "{kept:#?}");
    let again = scene.get(&["d.txt", "-o", "to/kept"]).expect(0);
    assert!(again.stdout.contains("was there already"), "{again:#?}");
    assert_eq!(fs::read(scene.here.join("to/kept")).unwrap(), b"t");
    let other = scene.get(&["d/a", "-o", "to/kept"]).expect(1);
    assert!(other.stderr.contains("not received: d/a: there is a file of that name"), "{other:#?}");
    assert_eq!(fs::read(scene.here.join("to/kept")).unwrap(), b"t", "nothing is replaced");

    let none = scene.get(&["nothing", "-o", "to"]).expect(1);
    assert!(none.stderr.starts_with("not received: nothing: the other side says: no such file"));
    scene.get(&["d", "-o", "to/new"]).expect(2).says(&["d is a directory there", "mkdir"]);
    scene
        .get(&["d/a", "d.txt", "-o", "to/new"])
        .expect(2)
        .says(&["-o to/new", &format!("{MKDIR} to/new")]);
    scene.get(&["d/a", "-o", "no/such"]).expect(2).says(&["no", "cannot open the directory"]);
    scene.get(&["d/a", "-o", "new/"]).expect(2).says(&[&format!("{MKDIR} new/")]);
    let all = scene.get(&["--all", "d"]).expect(2);
    assert!(all.stderr.contains("cannot be used with"), "{all:#?}");
    let nothing = scene.get(&[]).expect(2);
    assert!(nothing.stderr.contains("\n  <NAME|--all>\n"), "{nothing:#?}");
    assert!(nothing.stderr.contains("[OPTIONS] <ADDR> <NAME...|--all>\n"), "{nothing:#?}");
    assert_eq!(got("to"), ["d.txt", "d/a", "d/e/b", "kept"]);
}

#[test]
fn a_key_is_demanded_for_files_too() {
    let right = TemporaryFile::new("files-right.key", "a secret of many bytes");
    let wrong = TemporaryFile::new("files-wrong.key", "another secret of many bytes");
    let scene = Scene::new(&["--key-file", right.text()]);
    scene.here.write("a", "a");
    scene.send(&["a"]).expect(1).says(&["no key is configured here", "--key-file"]);
    let other = scene.send(&["a", "--key-file", wrong.text()]).expect(1);
    other.says(&["cannot connect", "not admitted", "--key-file"]);
    assert_eq!(scene.names(), [""; 0]);
    scene.send(&["a", "--key-file", right.text()]).expect(0);
    scene.get(&["a", "-o", "b", "--key-file", right.text()]).expect(0);
    let listed = scene.list(&["--key-file", right.text()]).expect(0);
    assert_eq!(listed.stdout.lines().count(), 1);
    scene.list(&[]).expect(1).says(&["no key is configured here"]);
}

#[test]
fn a_key_file_that_is_missing_or_short_says_how_to_make_one() {
    let here = TemporaryDirectory::new();
    let (missing, short) = (here.text("missing"), here.text("short"));
    here.write("short", "too short");
    for (path, why) in [(&missing, "os error 2"), (&short, "16 to 1024 bytes")] {
        let how = match cfg!(windows) {
            true => format!("write 32 letters and digits into {path} "),
            false => format!("make one with `head -c 32 /dev/urandom | base64 > {path}`"),
        };
        let ended = run(["list", "127.0.0.1:9", "--key-file", path]).expect(2);
        ended.says(&[why, &how]);
        assert_eq!(ended.stderr.matches(&how).count(), 1, "{ended:#?}");
    }
}

#[test]
fn a_quota_refuses_what_would_be_too_much_before_anything_is_written() {
    let scene = Scene::new(&["--max-bytes", "3K", "--max-files", "4"]);
    scene.here.write("large", vec![0; 3073]);
    let sent = scene.send(&["large"]).expect(1);
    assert!(sent.stderr.contains("not sent: large: the other side says: no room"), "{sent:#?}");
    for name in ["1", "2", "3", "4", "5"] {
        scene.here.write(name, name);
    }
    for name in ["1", "2", "3", "4"] {
        scene.send(&[name]).expect(0);
    }
    let sent = scene.send(&["5"]).expect(1);
    assert!(sent.stderr.contains("no room"), "{sent:#?}");
    assert_eq!(scene.names(), ["1", "2", "3", "4"]);
    for (size, part) in [("x", "powers of 1024"), ("1.5G", "powers of 1024")] {
        let ended = run(["serve", "--dir", ".", "--max-bytes", size]).expect(2);
        assert!(ended.stderr.contains(part), "{ended:#?}");
    }
}

#[test]
fn a_server_can_only_give_or_only_take() {
    let scene = Scene::new(&["--read-only"]);
    scene.here.write("a", "a");
    scene.here.write("inbox/b", "b");
    let sent = scene.send(&["a"]).expect(1);
    assert!(sent.stderr.contains("gives files and takes none"), "{sent:#?}");
    scene.get(&["b"]).expect(0);

    let scene = Scene::new(&["--drop-only"]);
    scene.here.write("a", "a");
    scene.here.write("inbox/b", "b");
    scene.send(&["a"]).expect(0);
    scene.list(&[]).expect(1).says(&["does not list", "takes files and gives none"]);
    scene.get(&["--all"]).expect(1).says(&["does not list"]);
    let got = scene.get(&["b"]).expect(1);
    assert!(got.stderr.starts_with("not received: b: "), "{got:#?}");
    assert!(!scene.here.join("b").exists());
    assert_eq!(scene.names(), ["a", "b"]);

    let dir = scene.here.text("inbox");
    let both = run(["serve", "--dir", &dir, "--read-only", "--drop-only"]).expect(2);
    assert!(both.stderr.contains("'--read-only' cannot be used with '--drop-only'"), "{both:#?}");
    assert!(both.stderr.contains("\nUsage: posthouse serve [OPTIONS]\n"), "{both:#?}");
    run(["serve", "--drop-only"]).expect(2);
}

#[test]
fn a_server_with_a_directory_still_echoes() {
    let scene = Scene::new(&[]);
    let address: SocketAddr = scene.address.parse().unwrap();
    let mut stream: TcpStream = connect(address);
    exchange(&mut stream, &frame(1, b"old text"), &frame(1, b"old text"));
    run(["bench", &scene.address, "-c", "2", "-t", "0.2"]).expect(0);
}

#[test]
fn a_server_without_a_directory_says_so_and_nothing_is_tried_again() {
    let here = TemporaryDirectory::new();
    here.write("a", "a");
    let (_server, address) = serve(&[]);
    let (address, file) = (address.to_string(), here.text("a"));
    let sent = run(["send", &address, &file]).expect(1);
    assert!(sent.stderr.contains("refused: no files are taken here"), "{sent:#?}");
    run(["list", &address]).expect(1).says(&["does not list", "no files are given here"]);
}

#[test]
fn the_directory_must_be_there_and_is_announced_with_how_to_send() {
    let here = TemporaryDirectory::new();
    let (missing, file) = (here.text("missing"), here.write("file", "x"));
    let file = file.to_str().unwrap();
    run(["serve", "--dir", &missing]).expect(2).says(&[&missing, MKDIR]);
    run(["serve", "--dir", file])
        .expect(2)
        .says(&[file, if cfg!(windows) { "a directory" } else { "Not a directory" }]);
    fs::create_dir(&missing).unwrap();
    let lines = ["serve", "--dir", &missing, "--framing", "lines"];
    run(lines).expect(2).says(&["--dir", "native framing", "lines"]);
    let mut server = Program::start(["serve", "--dir", &missing, "--listen", "127.0.0.1:0"]);
    let line = server.line();
    let (where_to, how) = line.split_once("; ").unwrap();
    let real = match cfg!(windows) {
        true => path::absolute(&missing).unwrap(),
        false => fs::canonicalize(&missing).unwrap(),
    };
    let start = format!("files into {} on 127.0.0.1:", real.display());
    assert!(where_to.starts_with(&start), "{line}");
    let address = where_to.rsplit(' ').next().unwrap();
    assert_eq!(how, format!("from this machine: posthouse send {address} PATH..."));
    run(["send", address, file]).expect(0);
}

#[test]
fn a_port_that_there_is_not_is_named_by_every_command() {
    let address = "127.0.0.1:65536";
    for words in [
        &["send", address, "x"][..],
        &["get", address, "x"],
        &["list", address],
        &["bench", address],
        &["serve", "--listen", address],
    ] {
        let ended = run(words).expect(2);
        assert!(ended.stderr.contains("there is no port 65536"), "{ended:#?}");
    }
}

#[test]
fn nobody_listening_is_told_at_once_unless_retry_says_to_wait() {
    let here = TemporaryDirectory::new();
    let file = here.write("a", "a");
    let file = file.to_str().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for words in [&["send", &address, file][..], &["get", &address, "a"], &["list", &address]] {
        run(words).expect(1).says(&["cannot connect", &address, "refused"]);
    }
    let mut sender = Program::start(["send", &address, file, "--retry"]);
    assert!(sender.complaint().starts_with("no connection to "));
    fs::create_dir(here.join("inbox")).unwrap();
    let words = ["serve", "--listen", &address, "--dir", &here.text("inbox")];
    let _server = Program::start(words);
    sender.finish().expect(0);
    wait_until("the file", || here.join("inbox/a").exists());
    for retry in ["--retry=x", "--retry=-1"] {
        let ended = run(["send", &address, file, retry]).expect(2);
        assert!(ended.stderr.contains("such as 5m"), "{ended:#?}");
    }
}

#[test]
fn two_senders_of_the_same_names_leave_one_whole_file_of_each() {
    let scene = Scene::new(&[]);
    let mut contents = BTreeSet::new();
    for top in ["one", "two"] {
        for number in 0..10 {
            let content = format!("{top} {number} ").repeat(20_000);
            scene.here.write(&format!("{top}/{number}"), &content);
            contents.insert(content.into_bytes());
        }
    }
    let start = |path: &str| {
        Program::start_in(scene.here.path(), ["send", &scene.address, path, "--as", "d"])
    };
    let (one, two) = (start("one"), start("two"));
    let sent: usize = [one.finish(), two.finish()]
        .iter()
        .map(|ended| ended.stdout.lines().filter(|line| line.starts_with("sent ")).count())
        .sum();
    assert_eq!(sent, 10, "each name once");
    let inbox = scene.inbox();
    assert_eq!(inbox.len(), 10);
    assert!(inbox.values().all(|content| contents.contains(content)));
}
