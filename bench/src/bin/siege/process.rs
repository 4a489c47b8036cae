//! The processes of the measurement, each pinned to one core.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::param::clock_ticks_per_second;
use rustix::thread::{CpuSet, sched_setaffinity};

/// The core of the server and of the sink.
pub(crate) const SERVER_CORE: usize = 0;
/// The core of the attackers, of the honest peers, and of this program.
pub(crate) const PEER_CORE: usize = 1;

/// A process that this program ends.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<Lines<BufReader<ChildStdout>>>,
}

impl Process {
    /// Starts this program again with other arguments, on one core.
    pub(crate) fn start<S: AsRef<OsStr>>(core: usize, arguments: &[S]) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        // A child inherits the core on which it is started.
        run_on(core)?;
        let child = command.spawn();
        run_on(PEER_CORE)?;
        let mut child = child.map_err(|error| format!("{command:?}: {error}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().map(|output| BufReader::new(output).lines());
        Ok(Self { child, input, output })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the next line that the process prints.
    pub(crate) fn line(&mut self) -> Result<String, String> {
        let line = self.output.as_mut().and_then(Iterator::next);
        line.ok_or("a process of the measurement has ended")?.map_err(|error| error.to_string())
    }

    /// Returns the addresses of the listeners without and with a key, which the process prints.
    pub(crate) fn addresses(&mut self) -> Result<[SocketAddr; 2], String> {
        let line = self.line()?;
        let words: Vec<SocketAddr> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        words.try_into().map_err(|_| format!("a server printed `{line}` instead of its addresses"))
    }

    /// Returns the answer of the process to an empty line.
    pub(crate) fn ask(&mut self) -> Result<String, String> {
        let input = self.input.as_mut().ok_or("the input is closed")?;
        input.write_all(b"\n").map_err(|error| error.to_string())?;
        self.line()
    }

    /// Returns the output, for a reader of its own.
    pub(crate) fn take_output(&mut self) -> Option<Lines<BufReader<ChildStdout>>> {
        self.output.take()
    }

    /// Waits for the end of the process and returns the rest of its output.
    pub(crate) fn finish(&mut self) -> Result<String, String> {
        let mut rest = String::new();
        if let Some(output) = self.output.take() {
            output.for_each(|line| {
                rest.push_str(&line.unwrap_or_default());
                rest.push('\n');
            });
        }
        let ended = self.child.wait().map_err(|error| error.to_string())?;
        if ended.success() { Ok(rest) } else { Err(format!("the attackers failed ({ended})")) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the time for which all threads of a process were on a processor, those that have ended
/// included.
pub(crate) fn busy_seconds(id: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The name may contain blanks. After it, utime and stime are the fields 12 and 13.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: u64 = fields.skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum();
    ticks as f64 / clock_ticks_per_second() as f64
}

pub(crate) fn run_on(core: usize) -> Result<(), String> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set)
        .map_err(|error| format!("cannot run on core {core}: {error}; two cores are needed"))
}
