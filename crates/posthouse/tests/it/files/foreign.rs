//! A foreign peer: a Python client that was written from PROTOCOL.md alone.
//!
//! On a machine without Python these tests are skipped, or fail if `POSTHOUSE_TESTS_NEED_ALL` is
//! set.

use std::path::Path;
use std::process::Command;

use posthouse::{Endpoint, TransferErrorKind};

use super::file_handler::{FileHandler, failed, serve};
use crate::harness::{Harness, not_tested, on_real_sockets};
use crate::store::content;

const SCRIPT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../posthouse-cli/tests/clients/files.py");

/// Runs the scenario on real sockets, if this machine has Python.
fn with_python(scenario: impl Fn(&Harness<'_>)) {
    match Command::new("python3").arg("--version").output() {
        Ok(_) => on_real_sockets(scenario),
        Err(why) => not_tested(format_args!("python3: {why}")),
    }
}

/// Runs the Python client. Returns its exit code and its output.
fn python(server: &Endpoint<FileHandler>, arguments: &[&str]) -> (i32, String) {
    let address = server.addresses()[0].socket_addr();
    let output = Command::new("python3")
        .args(["-B", SCRIPT, &address.ip().to_string(), &address.port().to_string()])
        .args(arguments)
        .output()
        .expect("Python can be started");
    let said = [output.stdout, output.stderr].concat();
    let code = output.status.code().expect("the program ended without a signal");
    (code, String::from_utf8_lossy(&said).trim().to_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the path is UTF-8")
}

#[cfg_attr(windows, ignore = "Wine: there is no Python for Windows here")]
#[test]
fn a_python_client_sends_a_file_and_fetches_it_again() {
    with_python(|harness| {
        let here = harness.store("here");
        let there = harness.store("there");
        let (server, log) = serve(harness, &there.directory());
        let sent = here.path().join("sent");
        for (name, bytes) in [("empty", 0), ("sub/dir/file", 150_000)] {
            here.write("sent", &content(1, bytes));
            let (code, said) = python(&server, &["put", text(&sent), name]);
            assert_eq!((code, said), (0, format!("sent {bytes} bytes from 0 on")));
            assert!(there.read(name).expect("the file exists") == content(1, bytes));
            let back = here.path().join(name.replace('/', "-"));
            let (code, said) = python(&server, &["get", name, text(&back)]);
            assert_eq!((code, said), (0, format!("received {bytes} bytes from 0 on")));
            assert!(std::fs::read(&back).expect("the file arrived") == content(1, bytes));
            // A file that both sides have is compared, and none of its bytes are sent.
            let again = [
                (["put", text(&sent), name], "sent 0 bytes from"),
                (["get", name, text(&back)], "received 0 bytes from"),
            ];
            for (arguments, words) in again {
                let (code, said) = python(&server, &arguments);
                assert_eq!((code, said), (0, format!("{words} {bytes} on")));
            }
        }
        assert_eq!(here.files(), ["empty", "sent", "sub-dir-file"], "no part is left");
        assert!(log.wait(harness, 8).result().is_ok());
        assert!(log.transfers().iter().all(|transfer| transfer.result().is_ok()));
        harness.end(&server);
    });
}

#[cfg_attr(windows, ignore = "Wine: there is no Python for Windows here")]
#[test]
fn a_python_client_goes_on_with_what_was_cut() {
    with_python(|harness| {
        let here = harness.store("here");
        let there = harness.store("there");
        let (server, log) = serve(harness, &there.directory());
        let file = content(1, 150_000);
        let other = content(2, 150_000);
        here.write("file", &file);
        let path = here.path().join("file");
        let cut = |bytes: &str, ends: usize| {
            let (code, said) = python(&server, &["put", text(&path), "--cut", bytes]);
            assert_eq!((code, said), (3, format!("cut after {bytes} bytes")));
            harness.wait_for("the end of the connection", || log.ends().len() == ends);
            there.parts().iter().map(Vec::len).sum::<usize>()
        };
        assert_eq!(cut("60000", 1), 60_000);
        let told = failed(&log.wait(harness, 1));
        assert_eq!(told, Some(TransferErrorKind::Disconnected));
        let (code, said) = python(&server, &["put", text(&path)]);
        assert_eq!((code, said), (0, "sent 90000 bytes from 60000 on".to_owned()));
        assert!(there.read("file").expect("the file exists") == file);
        harness.wait_for("the removal of the part", || there.parts().is_empty());

        // A file with the same name, size and time, but with other bytes, is not resumed. This
        // holds for both directions.
        there.remove("file");
        harness.wait_for("the end of the client's connection", || log.ends().len() == 2);
        assert_eq!(cut("70000", 3), 70_000);
        here.rewrite("file", &other);
        let (code, said) = python(&server, &["put", text(&path)]);
        assert_eq!((code, said), (0, "sent 150000 bytes from 0 on".to_owned()));
        assert!(there.read("file").expect("the file exists") == other);
        for (held, from) in [(&other, 100_000), (&file, 0)] {
            here.write("back.part", &held[..100_000]);
            let back = here.path().join("back");
            let (code, said) = python(&server, &["get", "file", text(&back)]);
            assert_eq!(
                (code, said),
                (0, format!("received {} bytes from {from} on", 150_000 - from))
            );
            assert!(std::fs::read(&back).expect("the file arrived") == other);
            here.remove("back");
        }
        assert_eq!(here.files(), ["file"], "no part is left");
        harness.end(&server);
    });
}

#[cfg_attr(windows, ignore = "Wine: there is no Python for Windows here")]
#[test]
fn a_python_client_is_told_what_there_is_and_what_may_not_be() {
    with_python(|harness| {
        let here = harness.store("here");
        let there = harness.store("there");
        let (server, _log) = serve(harness, &there.directory());
        assert_eq!(python(&server, &["list"]), (0, String::new()));
        let mut names: Vec<String> =
            (0..300).map(|n| format!("{}/{:0>240}", ["a", "a-b", "b"][n % 3], n)).collect();
        for name in &names {
            there.write(name, name.as_bytes());
        }
        names.sort();
        let (code, said) = python(&server, &["list"]);
        let listed: Vec<&str> = said.lines().filter_map(|line| line.rsplit(' ').next()).collect();
        assert_eq!((code, listed), (0, names.iter().map(String::as_str).collect()));

        there.write("there", &content(1, 1000));
        here.write("same size", &content(2, 1000));
        here.write("other size", &content(2, 999));
        let path = |name: &str| text(&here.path().join(name)).to_owned();
        for (arguments, words) in [
            (["put", &path("same size"), "there"], "the other side gives up: 2:"),
            (
                ["put", &path("other size"), "there"],
                "the other side gives up: 2: 'the existing file has 1000",
            ),
            (["put", &path("other size"), "../up"], "the other side gives up: 8:"),
            (["get", "nothing", &path("new")], "the other side gives up: 7:"),
            (["get", "there", &path("same size")], "given up: it has other content here"),
            (["get", "there", &path("other size")], "given up: it has 999 bytes here"),
        ] {
            let (code, said) = python(&server, &arguments);
            assert!(code == 1 && said.starts_with(words), "{arguments:?}: {code}, {said}");
        }
        assert_eq!(here.files(), ["other size", "same size"]);
        harness.end(&server);
    });
}
