//! `posthouse serve --dir`.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path;

use super::file_server::FileServerFixture;
use super::harness::{MKDIR, Program, StopRequest, run, serve};
use super::native_client::{connect, exchange, frame};
use super::tempdir::TemporaryDirectory;

#[test]
fn a_quota_refuses_what_would_be_too_much_before_anything_is_written() {
    let fixture = FileServerFixture::new(&["--max-bytes", "3K", "--max-files", "4"]);
    fixture.here.write("large", vec![0; 3073]);
    let sent = fixture.send(&["large"]).expect(1);
    assert!(sent.stderr.contains("not sent: large: the peer reports: quota exceeded"), "{sent:#?}");
    for name in ["1", "2", "3", "4", "5"] {
        fixture.here.write(name, name);
    }
    for name in ["1", "2", "3", "4"] {
        fixture.send(&[name]).expect(0);
    }
    let sent = fixture.send(&["5"]).expect(1);
    assert!(sent.stderr.contains("quota exceeded"), "{sent:#?}");
    assert_eq!(fixture.names(), ["1", "2", "3", "4"]);
    for (size, part) in [("x", "powers of 1024"), ("1.5G", "powers of 1024")] {
        let ended = run(["serve", "--dir", ".", "--max-bytes", size]).expect(2);
        assert!(ended.stderr.contains(part), "{ended:#?}");
    }
}

#[test]
fn a_server_can_only_give_or_only_take() {
    let fixture = FileServerFixture::new(&["--read-only"]);
    fixture.here.write("a", "a");
    fixture.here.write("inbox/b", "b");
    let sent = fixture.send(&["a"]).expect(1);
    assert!(sent.stderr.contains("accepts no uploads"), "{sent:#?}");
    fixture.get(&["b"]).expect(0);

    let fixture = FileServerFixture::new(&["--drop-only"]);
    fixture.here.write("a", "a");
    fixture.here.write("inbox/b", "b");
    fixture.send(&["a"]).expect(0);
    fixture.list(&[]).expect(1).expect_stderr(&["cannot list the files of", "offers no downloads"]);
    fixture.get(&["--all"]).expect(1).expect_stderr(&["cannot list the files of"]);
    let got = fixture.get(&["b"]).expect(1);
    assert!(got.stderr.starts_with("not received: b: "), "{got:#?}");
    assert!(!fixture.here.join("b").exists());
    assert_eq!(fixture.names(), ["a", "b"]);

    let dir = fixture.here.text("inbox");
    let both = run(["serve", "--dir", &dir, "--read-only", "--drop-only"]).expect(2);
    assert!(both.stderr.contains("'--read-only' cannot be used with '--drop-only'"), "{both:#?}");
    assert!(both.stderr.contains("\nUsage: posthouse serve [OPTIONS]\n"), "{both:#?}");
    run(["serve", "--drop-only"]).expect(2);
}

#[test]
fn a_server_with_a_directory_still_echoes() {
    let fixture = FileServerFixture::new(&[]);
    let address: SocketAddr = fixture.address.parse().unwrap();
    let mut stream: TcpStream = connect(address);
    exchange(&mut stream, &frame(1, b"old text"), &frame(1, b"old text"));
    run(["bench", &fixture.address, "-c", "2", "-t", "0.2"]).expect(0);
}

#[test]
fn a_server_without_a_directory_says_so_and_nothing_is_tried_again() {
    let here = TemporaryDirectory::new();
    here.write("a", "a");
    let (_server, address) = serve(&[]);
    let address = address.to_string();
    let file = here.text("a");
    let sent = run(["send", &address, &file]).expect(1);
    assert!(sent.stderr.contains("rejected: files are not accepted here"), "{sent:#?}");
    run(["list", &address])
        .expect(1)
        .expect_stderr(&["cannot list the files of", "listings are not available here"]);
}

#[test]
fn the_directory_must_be_there_and_is_announced_with_how_to_send() {
    let here = TemporaryDirectory::new();
    let missing = here.text("missing");
    let file = here.write("file", "x");
    let file = file.to_str().unwrap();
    run(["serve", "--dir", &missing]).expect(2).expect_stderr(&[&missing, MKDIR]);
    run(["serve", "--dir", file])
        .expect(2)
        .expect_stderr(&[file, if cfg!(windows) { "a directory" } else { "Not a directory" }]);
    fs::create_dir(&missing).unwrap();
    let lines = ["serve", "--dir", &missing, "--framing", "lines"];
    run(lines).expect(2).expect_stderr(&["--dir", "native framing", "lines"]);
    let mut server = Program::start(["serve", "--dir", &missing, "--listen", "127.0.0.1:0"]);
    let line = server.stdout_line();
    let (where_to, how) = line.split_once("; ").unwrap();
    let real = if cfg!(windows) { path::absolute(&missing) } else { fs::canonicalize(&missing) };
    let real = real.unwrap();
    let start = format!("serving {} on 127.0.0.1:", real.display());
    assert!(where_to.starts_with(&start), "{line}");
    let address = where_to.rsplit(' ').next().unwrap();
    assert_eq!(how, format!("to send files from this machine: posthouse send {address} PATH..."));
    run(["send", address, file]).expect(0);
}

#[test]
fn a_server_that_ends_waits_for_its_last_lines() {
    let fixture = FileServerFixture::new(&[]);
    fixture.here.write("a", "a");
    fixture.send(&["a"]).expect(0);
    fixture.server.request_stop(StopRequest::Terminate);
    let ended = fixture.server.finish().expect(0);
    assert!(ended.stdout.starts_with("received a (1 B, from "), "{ended:#?}");
    assert_eq!(ended.stderr, "");
}

#[test]
fn no_character_of_a_name_is_shown_as_nothing() {
    let mut fixture = FileServerFixture::new(&[]);
    let name = "in\u{ad}voice\u{3164}\u{2764}\u{fe0f}";
    let shown = "in\\u{ad}voice\\u{3164}\u{2764}\u{fe0f}";
    fixture.here.write(name, "a");
    let sent = fixture.send(&[name]).expect(0);
    assert!(sent.stdout.starts_with(&format!("sent {shown} (")), "{sent:#?}");
    let line = fixture.server.stdout_line();
    assert!(line.starts_with(&format!("received {shown} (")), "{line}");
    let listed = fixture.list(&[]).expect(0);
    assert!(listed.stdout.ends_with(&format!("{shown}\n")), "{listed:#?}");
    fixture.here.write(name, "b");
    fixture.send(&[name]).expect(1);
    let line = fixture.server.stderr_line();
    assert!(line.starts_with(&format!("not received: {shown} (")), "{line}");
    assert_eq!(fixture.names(), [name], "the name itself is not changed");
}

/// Returns the number of files that the lines tell of, and the number of lines.
fn told(lines: &str, verb: &str) -> (usize, usize) {
    let lines = lines.lines().filter(|line| line.starts_with(verb));
    let files = lines.clone().map(|line| match line.strip_suffix(" more files, not shown") {
        Some(line) => line.rsplit(' ').next().unwrap().parse().unwrap(),
        None => 1,
    });
    (files.sum(), lines.count())
}

#[test]
fn peers_cause_a_bounded_number_of_lines_and_every_file_is_told_of() {
    let mut fixture = FileServerFixture::new(&["--line-rate", "1", "--log", "info"]);
    for number in 0..400 {
        fixture.here.write(&format!("inbox/{number}"), "");
    }
    fixture.here.write("new", "new");
    fixture.get(&["--all"]).expect(0);
    let mut shown = 0;
    let mut sent = 0;
    while sent < 400 {
        sent += told(&fixture.server.stdout_line(), "sent ").0;
        shown += 1;
    }
    assert!(sent == 400 && shown < 100, "{sent} files in {shown} lines");
    fixture.send(&["new"]).expect(0);
    fixture.here.write("new", "other");
    fixture.send(&["new"]).expect(1);
    fixture.server.request_stop(StopRequest::Terminate);
    let ended = fixture.server.finish().expect(0);
    assert_eq!(told(&ended.stdout, "received ").0, 1, "{ended:#?}");
    assert!(ended.stderr.lines().count() < 100, "{ended:#?}");
    let failed = ended.stderr.matches("not received: new").count()
        + ended.stderr.matches("1 more transfers failed").count();
    assert_eq!(failed, 1, "{ended:#?}");

    let fixture = FileServerFixture::new(&["--line-rate", "0"]);
    for number in 0..400 {
        fixture.here.write(&format!("inbox/{number}"), "");
    }
    fixture.get(&["--all"]).expect(0);
    fixture.server.request_stop(StopRequest::Terminate);
    let ended = fixture.server.finish().expect(0);
    assert_eq!(told(&ended.stdout, "sent "), (400, 400));
}
