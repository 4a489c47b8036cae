//! `posthouse bench`.

use std::net::{SocketAddr, TcpListener};

use super::faulty_echo_server::{self, EchoFault};
use super::harness::{ProgramOutput, run, serve};

/// Runs a short load with a JSON report.
fn bench(address: SocketAddr, arguments: &[&str]) -> ProgramOutput {
    let address = address.to_string();
    let words = ["bench", &address, "--seconds", "0.3", "--json"];
    run(words.iter().chain(arguments))
}

#[track_caller]
fn count(ended: &ProgramOutput, pointer: &str) -> u64 {
    let json = ended.json();
    let value = json.pointer(pointer).and_then(serde_json::Value::as_u64);
    value.unwrap_or_else(|| panic!("no count at {pointer} in {json:#}"))
}

#[test]
fn a_load_on_serve_is_verified_and_reported_as_json() {
    let (_server, address) = serve(&[]);
    let ended =
        bench(address, &["--connections", "20", "--size", "1000", "--depth", "4"]).expect(0);
    assert_eq!(ended.stderr, "");
    let json = ended.json();
    assert_eq!(json["address"], address.to_string());
    assert_eq!((&json["connections"], &json["connected"]), (&20.into(), &20.into()));
    assert_eq!((&json["size_bytes"], &json["depth"]), (&1000.into(), &4.into()));
    let number = |pointer: &str| json.pointer(pointer).unwrap().as_f64().unwrap();
    assert!(number("/messages") > 0.0, "{json:#}");
    let rate = number("/messages") / number("/seconds");
    assert!((number("/messages_per_second") - rate).abs() < 1.0, "{json:#}");
    assert!((number("/megabytes_per_second") - rate * 1000.0 / 1e6).abs() < 0.01, "{json:#}");
    let mut last = 0.0;
    for name in ["p50", "p90", "p99", "p99_9", "max"] {
        let latency = number(&format!("/latency_us/{name}"));
        assert!(latency > 0.0 && latency >= last, "{json:#}");
        last = latency;
    }
    for name in ["not_connected", "lost", "mismatches", "unanswered"] {
        assert_eq!(count(&ended, &format!("/errors/{name}")), 0);
    }
}

#[test]
fn a_load_in_every_framing_is_verified() {
    for framing in [
        "native",
        "lines",
        "raw",
        "delimiter:\\r\\n",
        "length:width=2",
        "length:offset=1,width=3,endian=little,strip=0",
    ] {
        let (_server, address) = serve(&["--framing", framing, "--layout", "shared"]);
        for size in ["1", "33", "20000"] {
            // A payload that contains its length field has at least the four bytes of the field.
            let size = if framing.ends_with("strip=0") && size == "1" { "4" } else { size };
            let words = ["--framing", framing, "--connections", "3", "--size", size];
            let ended = bench(address, &words).expect(0);
            assert!(count(&ended, "/messages") > 0, "{framing}, {size} bytes: {ended:#?}");
        }
    }
}

#[test]
fn a_plain_native_echo_server_needs_no_hello_and_its_absence_is_hinted_at() {
    let address = faulty_echo_server::start(EchoFault::None);
    let ended = bench(address, &["--no-hello", "--connections", "3"]).expect(0);
    assert!(count(&ended, "/messages") > 0);
    let ended = bench(address, &["--connections", "1"]).expect(1);
    ended.expect_stderr(&["no connection", "no hello", "try --no-hello"]);
}

#[test]
fn one_corrupt_bit_among_many_messages_fails_the_run_and_is_located() {
    // The corrupted byte is in the payload of the tenth frame of 5 + 64 bytes, at its byte 45.
    let address = faulty_echo_server::start(EchoFault::CorruptsByte(9 * 69 + 50));
    let ended = bench(address, &["--no-hello", "--connections", "1"]).expect(1);
    assert_eq!(count(&ended, "/errors/mismatches"), 1);
    ended.expect_stderr(&["1 wrong echo", "connection 0, echo of message 9", "byte 45 is"]);

    let address = faulty_echo_server::start(EchoFault::CorruptsByte(9 * 69 + 4));
    let ended = bench(address, &["--no-hello", "--connections", "1"]).expect(1);
    ended.expect_stderr(&["1 wrong echo", "kind 1, 64 bytes, is not an echo"]);

    let address = faulty_echo_server::start(EchoFault::CorruptsByte(1000));
    let ended = bench(address, &["--framing", "raw", "--connections", "1"]).expect(1);
    assert_eq!(count(&ended, "/errors/mismatches"), 1);
    ended.expect_stderr(&["1 wrong echo", "connection 0, stream"]);
}

#[test]
fn echoes_in_the_wrong_order_fail_the_run() {
    let address = faulty_echo_server::start(EchoFault::SwapsFrames);
    let words = ["--no-hello", "--connections", "1", "--depth", "2"];
    let ended = bench(address, &words).expect(1);
    ended.expect_stderr(&["echo of message 0: message 1 arrived before it"]);
}

#[test]
fn connections_that_end_early_fail_the_run_with_their_reason() {
    let address = faulty_echo_server::start(EchoFault::EndsAfter(5000));
    let ended = bench(address, &["--no-hello", "--connections", "3"]).expect(1);
    assert_eq!(count(&ended, "/errors/lost"), 3);
    ended.expect_stderr(&["of 3 connections", "3 ended early", "the peer"]);
}

#[test]
fn a_connection_that_is_never_answered_fails_the_run_and_one_that_is_done_may_end() {
    let address = faulty_echo_server::start(EchoFault::IgnoresFirst);
    let ended = bench(address, &["--framing", "lines", "--connections", "2"]).expect(1);
    assert!(count(&ended, "/messages") > 0);
    assert_eq!((count(&ended, "/errors/unanswered"), count(&ended, "/errors/lost")), (1, 0));
    ended.expect_stderr(&["of 2 connections", "1 did not get all echoes"]);
}

#[test]
fn nobody_listening_is_told_with_the_reason() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = bench(address, &["--connections", "7"]).expect(1);
    assert_eq!(count(&ended, "/errors/not_connected"), 7);
    ended.expect_stderr(&["no connection", &address.to_string(), "7 x", "refused"]);
}

#[test]
fn messages_that_cannot_be_are_refused_before_anything_is_sent() {
    let none: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let words = ["--framing", "length:width=1", "--size", "256"];
    bench(none, &words).expect(2).expect_stderr(&["--size 256", "255"]);
    bench(none, &["--framing", "raw", "--no-hello"]).expect(2).expect_stderr(&["--no-hello"]);
    let words = ["--size", "1000000", "--depth", "1000000"];
    bench(none, &words).expect(2).expect_stderr(&["8 GiB"]);
}

#[test]
fn a_report_for_people_has_the_figures_and_in_a_pipe_no_pictures() {
    let (_server, address) = serve(&[]);
    let ended = run(["bench", &address.to_string(), "-c", "5", "-t", "0.3"]).expect(0);
    for part in ["5 of 5 connections", "messages/s", "MB/s", "p99.9", "errors      none"] {
        assert!(ended.stdout.contains(part), "{part} is missing: {ended:#?}");
    }
    assert!(ended.stdout.is_ascii(), "{ended:#?}");
}

#[test]
fn an_interrupted_load_ends_early_and_reports() {
    use std::io::{Read as _, Write as _};

    use super::harness::{Program, TEST_TIMEOUT};

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let words = ["bench", &address, "--no-hello", "-c", "1", "-t", "3600", "--json"];
    let program = Program::start(words);
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let mut buffer = [0; 4096];
    let mut chunks = 0;
    loop {
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        stream.write_all(&buffer[..count]).unwrap();
        chunks += 1;
        // The load is running, so the program can be interrupted.
        if chunks == 10 {
            program.interrupt();
        }
    }
    drop(stream);
    let ended = program.finish().expect(0);
    assert_eq!(ended.json()["interrupted"], true);
}
