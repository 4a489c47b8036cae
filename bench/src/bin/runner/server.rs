//! An echo server as a separate process on core 0, and its use of resources.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use posthouse_bench::processes::{SERVER_CORE, spawn_on, status_bytes};

use crate::Outcome;
use crate::contender::Contender;

/// The time for which the counters of an idle server must stand still.
const STILL: Duration = Duration::from_micros(200);
/// The number of rounds of [`STILL`] after which a server counts as never still, because its timers
/// tick.
const STILL_ROUNDS_MAX: usize = 50;

#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// The reason why there is no server.
#[derive(Debug)]
pub(crate) enum NoServer {
    /// The server reported that it cannot run here. Its row is omitted, with this reason.
    NotAvailable(String),
    Failed(String),
}

impl Server {
    pub(crate) fn start(contender: Contender) -> Result<Self, NoServer> {
        let mut command = Command::new(program(contender.program));
        command.arg("127.0.0.1:0").args(contender.arguments);
        Self::start_command(command)
    }

    /// Starts `command`, which is a server or runs one as a child.
    pub(crate) fn start_command(mut command: Command) -> Result<Self, NoServer> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = spawn_on(SERVER_CORE, &mut command).map_err(NoServer::Failed)?;
        let mut line = String::new();
        let read = child.stdout.as_mut().map(|out| BufReader::new(out).read_line(&mut line));
        let address = line.trim().strip_prefix("listening ").map(str::parse);
        if let (Some(Ok(_)), Some(Ok(address))) = (read, address) {
            return Ok(Self { child, address });
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(match line.trim().strip_prefix("not available: ") {
            Some(reason) => NoServer::NotAvailable(reason.to_owned()),
            None => NoServer::Failed(format!(
                "{command:?}: printed `{}` instead of its address",
                line.trim()
            )),
        })
    }

    /// Returns the nanoseconds that the server's threads were on a processor, once they are idle.
    pub(crate) fn cpu_ns_at_rest(&self) -> Outcome<u64> {
        let mut before = self.cpu_ns()?;
        for _ in 0..STILL_ROUNDS_MAX {
            thread::sleep(STILL);
            let now = self.cpu_ns()?;
            if now == before {
                break;
            }
            before = now;
        }
        Ok(before)
    }

    /// Returns the sum of the first field of every thread's schedstat.
    fn cpu_ns(&self) -> Outcome<u64> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let gone = |error| format!("{tasks}: {error}: the server has ended");
        let mut sum = 0;
        for task in fs::read_dir(&tasks).map_err(gone)? {
            let path = task.map_err(gone)?.path().join("schedstat");
            // A thread that ended between the listing and the reading has no file.
            let text = fs::read_to_string(path).unwrap_or_default();
            let first = text.split(' ').next().and_then(|word| word.parse::<u64>().ok());
            sum += first.unwrap_or(0);
        }
        Ok(sum)
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Returns the resident bytes.
    pub(crate) fn resident_bytes(&self) -> Outcome<u64> {
        status_bytes(self.child.id(), "VmRSS").ok_or_else(|| "the server has ended".to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the path of a program that was built together with this one.
pub(crate) fn program(name: &str) -> PathBuf {
    let runner = std::env::current_exe().expect("the path of this program is known");
    runner.with_file_name(name)
}
