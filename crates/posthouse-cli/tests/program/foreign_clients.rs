//! Clients that are not Posthouse: netcat, and a Python client written from PROTOCOL.md alone.
//!
//! If a tool is missing, its test is skipped, and `cargo xtask test` reports that.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
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

/// Returns the client of PROTOCOL.md, which connects to this port and has no key.
fn client_of_the_protocol(port: u16) -> String {
    let text = include_str!("../../../../PROTOCOL.md");
    let (_, code) = text.split_once("```python\n").expect("there is a client");
    let (code, _) = code.split_once("```").expect("the client ends");
    let replace = |code: &str, from: &str, to: &str| {
        assert!(code.contains(from), "{from} in {code}");
        code.replace(from, to)
    };
    let code = replace(code, "KEY = b\"0123456789abcdef\"", "KEY = b\"\"");
    replace(&code, "(\"localhost\", 9990)", &format!("(\"127.0.0.1\", {port})"))
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = 1 + payload.len() as u32;
    [&length.to_le_bytes()[..], &[kind], payload].concat()
}

fn read_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 5];
    stream.read_exact(&mut head).expect("a frame of the client");
    let [length @ .., kind] = head;
    let mut payload = vec![0; u32::from_le_bytes(length) as usize - 1];
    stream.read_exact(&mut payload).expect("the payload of the client");
    (kind, payload)
}

/// Serves one client, with a pong that nobody asked for, and a frame that may be skipped, before
/// each message. Returns the kinds of the client's frames after its hello.
fn serve_with_pongs(listener: &TcpListener) -> Vec<u8> {
    let (mut stream, _) = listener.accept().expect("the client connects");
    let (kind, mut answer) = read_frame(&mut stream);
    assert_eq!(kind, 4, "a hello");
    answer[38] = 0x80;
    let mut out = frame(4, &answer);
    for message in [frame(0, b"hello"), frame(9, b"\x07\0\0\0\0\x21noon")] {
        out.extend([frame(16, b"12345678"), frame(17, &[0; 8]), frame(31, b"")].concat());
        out.extend(message);
    }
    stream.write_all(&out).expect("the client takes the output");
    (0..4).map(|_| read_frame(&mut stream).0).collect()
}

#[cfg_attr(windows, ignore = "Wine: there is no Python for Windows here")]
#[test]
fn the_client_of_the_protocol_skips_pongs_that_it_did_not_ask_for() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let server = std::thread::spawn(move || serve_with_pongs(&listener));
    let Some(output) = run("python3", &["-c", &client_of_the_protocol(port)], "") else { return };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = "(0, b'hello')\n(9, b'\\x07\\x00\\x00\\x00\\x00!noon')\n";
    assert_eq!(said, expected, "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.join().expect("the server ends"), [0, 17, 8, 17]);
}
