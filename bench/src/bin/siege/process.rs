//! The processes of the measurement, each pinned to one core.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use posthouse_bench::processes::{Ticks, spawn_on};
use rustix::param::clock_ticks_per_second;

use crate::interrupt;

/// The longest wait for an answer of a process.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);
/// The longest wait for the end of a process whose output is not needed any more.
const END: Duration = Duration::from_secs(2);
/// The interval at which a wait looks for a signal and for the end of a process.
const STEP: Duration = Duration::from_millis(10);

/// A process that this program ends: it closes the input of the process, waits, and at last kills
/// the process.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
}

/// The reason why a process printed no line.
#[derive(Debug)]
enum NoLine {
    Interrupted(String),
    TooLate,
    Ended,
}

impl Process {
    /// Starts the part `name` of this program as a process of its own, on one core.
    pub(crate) fn start<S: AsRef<OsStr>>(
        core: usize,
        name: &'static str,
        arguments: &[S],
    ) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.arg(name).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Only this program gets the signal of a terminal.
        command.process_group(0);
        let mut child = spawn_on(core, &mut command)?;
        let input = child.stdin.take();
        let lines = child.stdout.take().map(|output| BufReader::new(output).lines());
        let (sender, output) = channel();
        // The thread ends with the output of the process.
        thread::spawn(move || {
            let lines = lines.into_iter().flatten().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
        Ok(Self { name, child, input, output })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn next(&self, until: Instant) -> Result<String, NoLine> {
        loop {
            interrupt::check().map_err(NoLine::Interrupted)?;
            match self.output.recv_timeout(STEP) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Disconnected) => return Err(NoLine::Ended),
                Err(RecvTimeoutError::Timeout) if Instant::now() >= until => {
                    return Err(NoLine::TooLate);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Returns the next line that the process prints.
    pub(crate) fn line(&mut self, limit: Duration) -> Result<String, String> {
        self.next(Instant::now() + limit).map_err(|reason| match reason {
            NoLine::Interrupted(reason) => reason,
            NoLine::TooLate => {
                format!("the process `{}` printed nothing for {} s", self.name, limit.as_secs())
            }
            NoLine::Ended => self.end_text(),
        })
    }

    /// Returns the lines that the process has printed since the last call.
    pub(crate) fn new_lines(&self) -> impl Iterator<Item = String> {
        self.output.try_iter()
    }

    /// Returns the answer of the process to an empty line.
    pub(crate) fn ask(&mut self) -> Result<String, String> {
        let input = self.input.as_mut().ok_or("the input is closed")?;
        // A pipe always has room for one byte here: the process has read those before.
        if input.write_all(b"\n").is_err() {
            return Err(self.end_text());
        }
        self.line(ANSWER)
    }

    /// Fails if the process has ended.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(self.end_text()),
        }
    }

    fn end_text(&mut self) -> String {
        let how = self.wait(END).map_or("is closing".to_owned(), |ended| ended.to_string());
        format!("the process `{}` has ended early ({how})", self.name)
    }

    /// Closes the input, waits for the end of the process and returns the rest of its output.
    pub(crate) fn finish(&mut self, limit: Duration) -> Result<Vec<String>, String> {
        self.input = None;
        let until = Instant::now() + limit;
        let mut rest = Vec::new();
        let late = format!("the process `{}` did not end in {} s", self.name, limit.as_secs());
        loop {
            match self.next(until) {
                Ok(line) => rest.push(line),
                Err(NoLine::Ended) => break,
                Err(NoLine::TooLate) => return Err(late),
                Err(NoLine::Interrupted(reason)) => return Err(reason),
            }
        }
        let ended = self.wait(END).ok_or(late)?;
        if ended.success() {
            return Ok(rest);
        }
        Err(format!("the process `{}` failed ({ended})", self.name))
    }

    fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let begin = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(None) if begin.elapsed() < limit => thread::sleep(STEP),
                result => return result.ok().flatten(),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.input = None;
        if self.wait(END).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Returns the addresses of the listeners without and with a key, if `line` announces them.
pub(crate) fn addresses(line: &str) -> Option<[SocketAddr; 2]> {
    let words: Vec<SocketAddr> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    words.try_into().ok()
}

/// Returns the time for which all threads of a process were on a processor, those that have ended
/// included.
pub(crate) fn busy_seconds(id: u32) -> f64 {
    Ticks::of(id).own as f64 / clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_addresses_are_an_announcement() {
        let found = addresses("listening 127.0.0.1:1 127.0.0.1:2").expect("two addresses");
        assert_eq!(found.map(|address| address.port()), [1, 2]);
        assert_eq!(addresses("listening 127.0.0.1:1"), None);
    }
}
