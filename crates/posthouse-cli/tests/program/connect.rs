//! The ways in which commands connect to a server, or fail to connect.

use std::fs;
use std::net::TcpListener;

use super::file_server::FileServerFixture;
#[cfg(unix)]
use super::harness::serve;
use super::harness::{Program, run, wait_until};
use super::tempdir::{TemporaryDirectory, TemporaryFile};

#[test]
fn a_key_is_demanded_for_files_too() {
    let right = TemporaryFile::new("files-right.key", "a secret of many bytes");
    let wrong = TemporaryFile::new("files-wrong.key", "another secret of many bytes");
    let fixture = FileServerFixture::new(&["--key-file", right.text()]);
    fixture.here.write("a", "a");
    fixture.send(&["a"]).expect(1).expect_stderr(&["no key is configured here", "--key-file"]);
    let other = fixture.send(&["a", "--key-file", wrong.text()]).expect(1);
    other.expect_stderr(&["cannot connect", "not admitted", "--key-file"]);
    assert_eq!(fixture.names(), [""; 0]);
    fixture.send(&["a", "--key-file", right.text()]).expect(0);
    fixture.get(&["a", "-o", "b", "--key-file", right.text()]).expect(0);
    let listed = fixture.list(&["--key-file", right.text()]).expect(0);
    assert_eq!(listed.stdout.lines().count(), 1);
    fixture.list(&[]).expect(1).expect_stderr(&["no key is configured here"]);
}

#[test]
fn a_key_file_that_is_missing_or_short_says_how_to_make_one() {
    let here = TemporaryDirectory::new();
    let missing = here.text("missing");
    let short = here.text("short");
    here.write("short", "too short");
    for (path, why) in [(&missing, "os error 2"), (&short, "16 to 1024 bytes")] {
        let how = if cfg!(windows) {
            format!("write 32 random letters and digits into {path}")
        } else {
            format!("make one with `(umask 077; head -c 32 /dev/urandom | base64 > {path})`")
        };
        let ended = run(["list", "127.0.0.1:9", "--key-file", path]).expect(2);
        ended.expect_stderr(&[why, &how]);
        assert_eq!(ended.stderr.matches(&how).count(), 1, "{ended:#?}");
    }
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
        assert!(ended.stderr.contains("port 65536 is too high"), "{ended:#?}");
    }
}

#[test]
fn nobody_listening_is_told_at_once_unless_retry_says_to_wait() {
    let here = TemporaryDirectory::new();
    let file = here.write("a", "a");
    let file = file.to_str().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for words in [&["send", &address, file][..], &["get", &address, "a"], &["list", &address]] {
        run(words).expect(1).expect_stderr(&["cannot connect", &address, "refused"]);
    }
    let mut sender = Program::start(["send", &address, file, "--retry"]);
    assert!(sender.stderr_line().starts_with("no connection to "));
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

#[cfg(unix)]
#[test]
fn a_key_file_that_others_can_use_is_warned_of() {
    let key = TemporaryFile::new("open.key", "a secret of many bytes");
    let (_server, address) = serve(&["--key-file", key.text()]);
    let address = address.to_string();
    let bench = ["bench", &address, "-c", "1", "-t", "0.1", "--key-file", key.text()];
    let warning = |mode: u32| {
        key.set_mode(mode);
        run(bench).expect(0)
    };
    for mode in [0o600, 0o400] {
        assert_eq!(warning(mode).stderr, "", "{mode:o}");
    }
    for (mode, shown) in [(0o644, "0644"), (0o640, "0640"), (0o604, "0604"), (0o622, "0622")] {
        let remedy = format!("(mode {shown}); close it: chmod 600 {}", key.text());
        warning(mode).expect_stderr(&["warning: the key file", key.text(), &remedy]);
    }
    let mut server = Program::start(["serve", "--listen", "127.0.0.1:0", "--key-file", key.text()]);
    assert!(server.stderr_line().contains("(mode 0622)"));
    server.stdout_line();
    let listed = run(["list", &address, "--key-file", key.text()]);
    assert!(listed.stderr.starts_with("warning: the key file "), "{listed:#?}");

    // Only root can give a file away.
    if rustix::process::geteuid().is_root() {
        key.set_mode(0o600);
        std::os::unix::fs::chown(key.text(), Some(4321), None).unwrap();
        run(bench).expect(0).expect_stderr(&["warning", "another user (uid 4321)"]);
    } else {
        eprintln!("NOT TESTED: a key file of another user, which only root can make");
    }
}
