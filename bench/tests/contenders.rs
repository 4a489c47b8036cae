//! Checks that every contender is a correct echo server: with any segmentation, with the largest
//! frame, and with a larger frame, which it rejects.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use posthouse_bench::frame::{FRAME_BYTES_MAX, HEAD_BYTES, PAYLOAD_BYTES_MAX, head};

struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Returns `None` if the server reports that it is not available here.
    fn start(program: &str, arguments: &[&str]) -> Option<Self> {
        let mut command = Command::new(program);
        command.arg("127.0.0.1:0").args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if let Some(reason) = line.strip_prefix("not available: ") {
            eprintln!("passed over: {reason}");
            child.wait().unwrap();
            return None;
        }
        let address = line.trim().strip_prefix("listening ").expect(&line).to_owned();
        Some(Self { child, address })
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn frame(kind: u8, payload_bytes: usize, seed: usize) -> Vec<u8> {
    let mut frame = head(kind, payload_bytes).to_vec();
    frame.extend((0..payload_bytes).map(|at| ((at + seed) % 251) as u8));
    frame
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(got == bytes, "the echo differs from what was sent");
}

/// Expects the server to end the stream, possibly with a reset.
fn expect_end(stream: &mut TcpStream) {
    match stream.read(&mut [0; 64]) {
        Ok(got) => assert_eq!(got, 0, "bytes instead of an end"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

fn echoes(program: &str, arguments: &[&str]) {
    let Some(server) = Server::start(program, arguments) else { return };
    a_frame_in_single_bytes_comes_back(&server);
    many_frames_in_one_segment_come_back_in_order(&server);
    frames_cut_anywhere_come_back(&server);
    the_largest_frame_comes_back(&server);
    more_than_the_sockets_hold_comes_back(&server);
    what_breaks_the_rules_ends_the_connection(&server);
    a_half_closed_stream_is_answered_and_ended(&server);
}

fn a_frame_in_single_bytes_comes_back(server: &Server) {
    let mut stream = server.connect();
    for frame in [frame(40, 9, 0), frame(41, 0, 0)] {
        for byte in &frame {
            stream.write_all(&[*byte]).unwrap();
            // Otherwise the system would join the pieces; the yield lets the server see each piece.
            thread::yield_now();
        }
        expect(&mut stream, &frame);
    }
}

fn many_frames_in_one_segment_come_back_in_order(server: &Server) {
    let mut stream = server.connect();
    let frames: Vec<u8> = (0..300).flat_map(|n| frame(40, n % 70, n)).collect();
    stream.write_all(&frames).unwrap();
    expect(&mut stream, &frames);
}

fn frames_cut_anywhere_come_back(server: &Server) {
    let mut stream = server.connect();
    let frames: Vec<u8> = (0..60).flat_map(|n| frame(n as u8 | 32, n * 97, n)).collect();
    for piece_bytes in [1, 2, 3, 5, 7, 1009] {
        let mut writer = stream.try_clone().unwrap();
        let sent = frames.clone();
        let writing = thread::spawn(move || {
            for piece in sent.chunks(piece_bytes).take(20_000) {
                writer.write_all(piece).unwrap();
            }
        });
        let taken = frames.len().min(piece_bytes * 20_000);
        // The rest, which may begin in the middle of a frame, is sent below.
        let rest = frames[taken..].to_vec();
        writing.join().unwrap();
        stream.write_all(&rest).unwrap();
        expect(&mut stream, &frames);
    }
}

fn the_largest_frame_comes_back(server: &Server) {
    let mut stream = server.connect();
    let largest = frame(40, PAYLOAD_BYTES_MAX, 3);
    assert_eq!(largest.len(), FRAME_BYTES_MAX);
    for _ in 0..3 {
        stream.write_all(&largest).unwrap();
        expect(&mut stream, &largest);
    }
}

fn more_than_the_sockets_hold_comes_back(server: &Server) {
    let mut stream = server.connect();
    let mut writer = stream.try_clone().unwrap();
    let frames: Vec<u8> = (0..100).flat_map(|n| frame(40, 100_000 + n, n)).collect();
    let sent = frames.clone();
    let writing = thread::spawn(move || writer.write_all(&sent).unwrap());
    expect(&mut stream, &frames);
    writing.join().unwrap();
}

fn what_breaks_the_rules_ends_the_connection(server: &Server) {
    let too_large = head(40, 2 * PAYLOAD_BYTES_MAX);
    for wrong in [&too_large[..], &[0, 0, 0, 0, 0], &[9, 0, 0, 1, 40, 0, 0, 0, 0, 0, 0, 0, 0]] {
        let mut stream = server.connect();
        let good = frame(40, 10, 0);
        stream.write_all(&good).unwrap();
        expect(&mut stream, &good);
        assert!(wrong.len() >= HEAD_BYTES);
        stream.write_all(wrong).unwrap();
        expect_end(&mut stream);
    }
}

fn a_half_closed_stream_is_answered_and_ended(server: &Server) {
    let mut stream = server.connect();
    let frames: Vec<u8> = (0..50).flat_map(|n| frame(40, 3000, n)).collect();
    stream.write_all(&frames).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    expect(&mut stream, &frames);
    expect_end(&mut stream);
}

#[test]
fn the_epoll_baseline_echoes() {
    echoes(env!("CARGO_BIN_EXE_baseline-epoll"), &[]);
}

#[test]
fn the_uring_baseline_echoes() {
    echoes(env!("CARGO_BIN_EXE_baseline-uring"), &[]);
}

#[test]
fn the_uring_baseline_echoes_with_few_small_buffers() {
    echoes(env!("CARGO_BIN_EXE_baseline-uring"), &["--buffers", "4", "--buffer-bytes", "256"]);
}

#[test]
fn tokio_framed_echoes() {
    echoes(env!("CARGO_BIN_EXE_tokio-framed"), &[]);
}

#[test]
fn tokio_framed_echoes_by_forward() {
    echoes(env!("CARGO_BIN_EXE_tokio-framed"), &["--forward"]);
}

#[test]
fn tokio_tuned_echoes() {
    echoes(env!("CARGO_BIN_EXE_tokio-tuned"), &[]);
}

#[test]
fn compio_echoes() {
    echoes(env!("CARGO_BIN_EXE_compio-echo"), &[]);
}

#[test]
fn monoio_echoes() {
    echoes(env!("CARGO_BIN_EXE_monoio-echo"), &[]);
}

#[test]
fn posthouse_echoes_on_readiness() {
    echoes(env!("CARGO_BIN_EXE_posthouse-echo"), &["--backend", "readiness"]);
}

#[test]
fn posthouse_echoes_on_uring() {
    echoes(env!("CARGO_BIN_EXE_posthouse-echo"), &["--backend", "uring"]);
}
