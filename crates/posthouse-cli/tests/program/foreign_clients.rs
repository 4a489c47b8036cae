//! Clients that are not Posthouse: netcat, and a Python client written from PROTOCOL.md alone.
//!
//! If a tool is missing, its test is skipped, and `cargo xtask test` reports that.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use super::harness::serve;
use super::tempdir::TemporaryFile;

/// Runs a tool with this input. Returns `None` if the tool is not installed.
pub(crate) fn run(tool: &str, arguments: &[&str], input: &str) -> Option<Output> {
    let started = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("{tool} is not installed: passed over");
            return None;
        }
        Err(error) => panic!("{tool} does not start: {error}"),
    };
    let mut stdin = child.stdin.take().expect("the stream is piped");
    stdin.write_all(input.as_bytes()).expect("the program takes its input");
    drop(stdin);
    Some(child.wait_with_output().expect("the program ends"))
}

#[cfg_attr(windows, ignore = "Wine: there is no netcat for Windows here")]
#[test]
fn netcat_talks_lines() {
    let (_server, address) = serve(&["--framing", "lines"]);
    let port = address.port().to_string();
    // -N: end the stream after the input; -w: end after this many idle seconds.
    let arguments = ["-N", "-w", "30", "127.0.0.1", &port];
    if let Some(output) = run("nc", &arguments, "one\r\ntwo\n\nlast without an end") {
        assert_eq!(String::from_utf8_lossy(&output.stdout), "one\ntwo\n\nlast without an end\n");
    }
}

/// Runs the Python client. Returns its success and its output, or `None` if Python is not
/// installed.
fn python(address: SocketAddr, options: &[&str]) -> Option<(bool, String)> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/echo.py");
    let host = address.ip().to_string();
    let port = address.port().to_string();
    let arguments = [&[script, &host, &port, "10000"], options].concat();
    let output = run("python3", &arguments, "")?;
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).trim().to_owned()))
}

#[cfg_attr(windows, ignore = "Wine: there is no Python for Windows here")]
#[test]
fn a_python_client_echoes_ten_thousand_messages_with_and_without_hello() {
    let (_server, address) = serve(&[]);
    if let Some(result) = python(address, &[]) {
        assert_eq!(result, (true, "10000 echoed".to_owned()));
    }
    if let Some(result) = python(address, &["--hello"]) {
        assert_eq!(result, (true, "10000 echoed, request ok".to_owned()));
    }
}

#[cfg_attr(windows, ignore = "Wine: there is no Python for Windows here")]
#[test]
fn a_python_client_proves_its_key_and_is_refused_with_another() {
    let right = TemporaryFile::new("right.key", "correct horse battery");
    let wrong = TemporaryFile::new("wrong.key", "incorrect horse battery");
    let (_server, address) = serve(&["--key-file", right.text()]);
    if let Some(result) = python(address, &["--hello", "--key", right.text()]) {
        assert_eq!(result, (true, "10000 echoed, request ok".to_owned()));
    }
    if let Some((success, said)) = python(address, &["--hello", "--key", wrong.text()]) {
        assert!(!success && said.contains("bye 5"), "{said}");
    }
}
