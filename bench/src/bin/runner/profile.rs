//! `--profile`: the costs of a frame, for one kind of work: system calls (strace), instructions
//! outside the kernel (callgrind), allocations (Posthouse with a counting allocator). These tools
//! slow the server down, so its batches are larger than without them. The numbers per frame are
//! comparable between contenders, and are not times.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use posthouse_bench::frame::{HEAD_BYTES, head};
use rustix::process::{Pid, Signal, kill_process};

use crate::contender::{BASELINE, Contender, OTHERS};
use crate::load::{self, Work};
use crate::server::{NoServer, Server, program};
use crate::{Arguments, Outcome};

const WORK: Work = Work::Echo { payload_bytes: 64, depth: 64, connections: 50 };
const BEFORE: Duration = Duration::from_millis(100);
const TIME: Duration = Duration::from_secs(1);
/// The maximum time for a tool to begin or to write its results.
const TOOL_MAX: Duration = Duration::from_secs(20);

const COUNTED: [(&str, &str); 2] =
    [("posthouse readiness", "readiness"), ("posthouse uring", "uring")];

pub(crate) fn run(arguments: &Arguments) {
    let fits = |name: &str| arguments.only.as_ref().is_none_or(|part| name.contains(part));
    println!("{}, for each frame\n", WORK.name());
    for contender in [BASELINE].iter().chain(OTHERS).filter(|contender| fits(contender.name)) {
        println!("{}", contender.name);
        told("system calls", system_calls(*contender));
        told("instructions", instructions(*contender));
        if let Some((_, backend)) = COUNTED.iter().find(|(name, _)| *name == contender.name) {
            told("allocations", allocations(backend));
        }
    }
}

fn told(what: &str, found: Outcome<String>) {
    println!("  {what:13} {}", found.unwrap_or_else(|reason| format!("left out: {reason}")));
}

fn text(error: NoServer) -> String {
    match error {
        NoServer::NotAvailable(text) | NoServer::Failed(text) => text,
    }
}

/// Returns the number of all system calls and of the most frequent ones.
fn system_calls(contender: Contender) -> Outcome<String> {
    let server = Server::start(contender).map_err(text)?;
    let mut load = load::open(WORK, server.address)?;
    load.drive(BEFORE)?;
    let file = scratch("strace");
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-S", "calls", "-o"])
        .arg(&file)
        .args(["-p", &server.process().to_string()])
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("strace: {error}"))?;
    await_tracer(&server)?;
    let slice = load.drive(TIME)?;
    end(strace.id(), Signal::INT)?;
    strace.wait().map_err(|error| format!("strace: {error}"))?;
    let table = fs::read_to_string(&file).map_err(|error| format!("strace: {error}"))?;
    let _ = fs::remove_file(&file);
    let mut calls: Vec<(&str, u64)> = table.lines().filter_map(call).collect();
    calls.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let each = |count: u64| format!("{:.4}", count as f64 / slice.units as f64);
    let all = calls.iter().map(|(_, count)| count).sum();
    let most: Vec<_> =
        calls.iter().take(4).map(|(name, count)| format!("{name} {}", each(*count))).collect();
    Ok(format!("{} ({})", each(all), most.join(", ")))
}

/// Returns the name and count of a line: share, seconds, time for each, calls, perhaps errors,
/// name.
fn call(line: &str) -> Option<(&str, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let name = words.last().filter(|name| **name != "total")?;
    Some((name, words.get(3)?.parse().ok()?))
}

/// Waits until every thread of the server is traced.
fn await_tracer(server: &Server) -> Outcome {
    let path = format!("/proc/{}/status", server.process());
    let start = Instant::now();
    while start.elapsed() < TOOL_MAX {
        let status = fs::read_to_string(&path).unwrap_or_default();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        if tracer.is_some_and(|tracer| tracer.trim() != "0") {
            // The other threads follow at once.
            std::thread::sleep(BEFORE);
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err("strace: cannot attach".into())
}

/// Returns the number of instructions outside the kernel, including the start-up, which is under
/// one in a hundred.
fn instructions(contender: Contender) -> Outcome<String> {
    let said = scratch("callgrind");
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--log-file={}", said.display()))
        .arg(program(contender.program))
        .arg("127.0.0.1:0")
        .args(contender.arguments);
    let server = Server::start_command(command).map_err(text)?;
    let mut load = load::open(WORK, server.address)?;
    let slice = load.drive(TIME)?;
    end(server.process(), Signal::TERM)?;
    let start = Instant::now();
    while start.elapsed() < TOOL_MAX {
        let log = fs::read_to_string(&said).unwrap_or_default();
        let count = log.lines().find_map(|line| line.split_once("Collected : "));
        if let Some(count) = count.and_then(|(_, count)| count.trim().parse::<f64>().ok()) {
            let _ = fs::remove_file(&said);
            return Ok(format!("{:.0}", count / slice.units as f64));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err("valgrind did not end with a count".into())
}

fn allocations(backend: &'static str) -> Outcome<String> {
    let arguments = Vec::leak(vec!["--backend", backend]);
    let counted = Contender { name: "counted", program: "posthouse-counted", arguments };
    let server = Server::start(counted).map_err(text)?;
    let mut load = load::open(WORK, server.address)?;
    load.drive(BEFORE)?;
    let asked = |error| format!("cannot request the count: {error}");
    let mut asking = TcpStream::connect(server.address).map_err(asked)?;
    count(&mut asking).map_err(asked)?;
    let before = count(&mut asking).map_err(asked)?;
    let slice = load.drive(TIME)?;
    let after = count(&mut asking).map_err(asked)?;
    let each = (after - before) as f64 / slice.units as f64;
    Ok(format!("{each:.6} ({} in {} frames)", after - before, slice.units))
}

fn count(stream: &mut TcpStream) -> std::io::Result<u64> {
    stream.write_all(&head(255, 0))?;
    let mut reply = [0; HEAD_BYTES + 8];
    stream.read_exact(&mut reply)?;
    let (_, count) = reply.split_last_chunk().expect("the count fits");
    Ok(u64::from_le_bytes(*count))
}

fn end(process: u32, signal: Signal) -> Outcome {
    let process = Pid::from_raw(process.cast_signed()).ok_or("no such process")?;
    kill_process(process, signal).map_err(|error| format!("cannot end a tool: {error}"))
}

fn scratch(name: &str) -> std::path::PathBuf {
    let name = format!("posthouse-bench-{name}-{}", std::process::id());
    Path::new(&std::env::temp_dir()).join(name)
}
