//! `posthouse serve`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::harness::{Program, run, serve};
use super::native_client::{connect, exchange, frame};
use super::tempdir::TemporaryFile;

#[test]
fn native_frames_come_back_with_their_kind_and_payload_however_they_were_cut() {
    let (_server, address) = serve(&[]);
    let mut stream = connect(address);
    stream.set_nodelay(true).unwrap();
    for kind in [0, 1, 4, 31, 255] {
        let frame = frame(kind, b"hello");
        exchange(&mut stream, &frame, &frame);
    }
    exchange(&mut stream, &frame(9, b""), &frame(9, b""));
    let large = frame(40, &vec![7; 300_000]);
    exchange(&mut stream, &large, &large);
    let small = frame(3, b"in pieces");
    for byte in &small {
        stream.write_all(&[*byte]).unwrap();
    }
    exchange(&mut stream, &[], &small);
}

#[test]
fn lines_come_back_as_lines_and_raw_bytes_as_they_are() {
    let (_server, address) = serve(&["--framing", "lines"]);
    exchange(&mut connect(address), b"one\ntwo\r\n\n", b"one\ntwo\n\n");
    let (_server, address) = serve(&["--framing", "raw"]);
    exchange(&mut connect(address), b"\x00no bounds", b"\x00no bounds");
}

#[test]
fn other_framings_echo_in_both_layouts() {
    for layout in ["pinned", "shared"] {
        let (_server, address) = serve(&["--framing", "length:width=2", "--layout", layout]);
        exchange(&mut connect(address), b"\x00\x03abc\x00\x00", b"\x00\x03abc\x00\x00");
        let (_server, address) = serve(&["--framing", "delimiter:||", "--layout", layout]);
        exchange(&mut connect(address), b"a|b||c||", b"a|b||c||");
    }
}

#[test]
fn every_listener_is_announced_in_one_line_and_echoes() {
    let words = ["serve", "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
    let mut server = Program::start(words);
    let line = server.stdout_line();
    let addresses: Vec<SocketAddr> =
        line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(addresses.len(), 3, "two listeners, and one to try: {line}");
    assert!(line.ends_with(&format!("try: posthouse bench {}", addresses[0])), "{line}");
    for address in &addresses[..2] {
        exchange(&mut connect(*address), &frame(0, b"x"), &frame(0, b"x"));
    }
}

#[test]
fn it_goes_beyond_this_machine_only_with_a_key_or_when_told() {
    let beyond = ["serve", "--listen", "0.0.0.0:0"];
    run(beyond).expect(2).expect_stderr(&["0.0.0.0:0", "other machines", "--key-file", "--open"]);
    run(["serve", "--listen", "[::]:0", "--framing", "lines"]).expect(2).expect_stderr(&["--open"]);
    let mut open = Program::start(beyond.into_iter().chain(["--open"]));
    assert!(open.stdout_line().starts_with("listening on 0.0.0.0:"));

    let short = TemporaryFile::new("short.key", "0123456789abcde\n\n");
    let keyed =
        |file: &TemporaryFile| [&beyond[..], &["--key-file", file.text()]].concat().join(" ");
    run(keyed(&short).split(' ')).expect(2).expect_stderr(&[short.text(), "16 to 1024", "15"]);
    let long = TemporaryFile::new("long.key", &"k".repeat(1025));
    run(keyed(&long).split(' ')).expect(2).expect_stderr(&[long.text(), "16 to 1024"]);
    let right = TemporaryFile::new("right.key", "0123456789abcdef\n");
    let mut server = Program::start(keyed(&right).split(' '));
    assert!(server.stdout_line().ends_with("--key-file FILE"));
}

#[test]
fn a_key_is_demanded_of_every_peer() {
    let key = TemporaryFile::new("demanded.key", "a secret of many bytes \n");
    // White space at the end does not belong to the key.
    let same = TemporaryFile::new("demanded-same.key", "a secret of many bytes");
    let other = TemporaryFile::new("demanded-other.key", "another secret of many bytes");
    let (_server, address) = serve(&["--key-file", key.text()]);
    let address = address.to_string();
    let bench = ["bench", &address, "-c", "2", "-t", "0.3"];
    run(bench.into_iter().chain(["--key-file", same.text()])).expect(0);
    let ended = run(bench.into_iter().chain(["--key-file", other.text()])).expect(1);
    ended.expect_stderr(&["no connection", "not admitted"]);
    run(bench).expect(1).expect_stderr(&["no connection", "no key is configured here"]);
}

#[test]
fn an_address_in_use_is_told_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    run(["serve", "--listen", &address])
        .expect(1)
        .expect_stderr(&[&address, "choose another port"]);
}

#[cfg(target_os = "linux")]
#[test]
fn an_address_that_is_free_again_in_a_moment_is_waited_for() {
    use super::harness::wait_until;

    // A busy machine may not run this test while the server retries.
    for _ in 0..20 {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let mut server = Program::start(["serve", "--listen", &address]);
        wait_until("a second try", || server.is_sleeping() || server.has_ended());
        drop(taken);
        match server.first_line() {
            Some(line) => {
                return assert!(line.starts_with(&format!("listening on {address} ")), "{line}");
            }
            None => server.finish().expect(1).expect_stderr(&[&address, "choose another port"]),
        }
    }
    panic!("the server never waited");
}

mod endings {
    use super::super::harness::StopRequest;
    use super::*;

    /// Waits for the end of the stream.
    fn drained(stream: &mut TcpStream) {
        assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
    }

    #[test]
    fn a_signal_drains_and_ends_with_success_and_one_line_was_all_it_said() {
        for request in [StopRequest::Terminate, StopRequest::Interrupt] {
            let (server, address) = serve(&[]);
            let mut stream = connect(address);
            exchange(&mut stream, &frame(0, b"x"), &frame(0, b"x"));
            server.request_stop(request);
            drained(&mut stream);
            drop(stream);
            let ended = server.finish().expect(0);
            assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
        }
    }

    #[test]
    fn a_second_signal_ends_at_once_though_a_peer_holds_on() {
        for request in [StopRequest::Terminate, StopRequest::Interrupt] {
            // The server drains for longer than the test waits.
            let (server, address) = serve(&[
                "--set",
                "close_timeout_ms=3600000",
                "--set",
                "shutdown_timeout_ms=3600000",
            ]);
            let mut stream = connect(address);
            exchange(&mut stream, &frame(0, b"x"), &frame(0, b"x"));
            server.request_stop(StopRequest::Terminate);
            drained(&mut stream);
            server.request_stop(request);
            server.finish().expect(request.exit_code());
            drop(stream);
        }
    }

    #[test]
    fn a_peer_that_holds_on_is_given_up_when_the_time_is_over() {
        let (server, address) =
            serve(&["--set", "close_timeout_ms=3600000", "--set", "shutdown_timeout_ms=50"]);
        let mut stream = connect(address);
        exchange(&mut stream, &frame(0, b"x"), &frame(0, b"x"));
        server.request_stop(StopRequest::Terminate);
        server.finish().expect(0);
        drop(stream);
    }
}
