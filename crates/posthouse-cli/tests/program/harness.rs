//! The program as a child process, with bounded waits, killed if a test fails.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The time after which a test fails, far more than any step takes.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_mins(1);
/// The command that the program suggests to create a directory.
pub(crate) const MKDIR: &str = if cfg!(windows) { "mkdir" } else { "mkdir -p" };
/// The pause between two checks of a condition that sends no event.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A request to end, by a signal or the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopRequest {
    Interrupt,
    Terminate,
}

impl StopRequest {
    /// Returns the exit code of a program that gets this request as its second one.
    pub(crate) fn exit_code(self) -> i32 {
        match self {
            Self::Terminate if cfg!(unix) => 143,
            Self::Terminate | Self::Interrupt => 130,
        }
    }
}

/// A running program. Dropping it kills and reaps it.
pub(crate) struct Program {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

/// Returns a path with the separators of this system.
pub(crate) fn native(path: &str) -> String {
    path.replace('/', std::path::MAIN_SEPARATOR_STR)
}

/// Waits until the condition holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < TEST_TIMEOUT, "timed out while waiting: {what}");
        thread::park_timeout(POLL_INTERVAL);
    }
}

/// The exit code and the output of a program that has ended.
#[derive(Debug)]
pub(crate) struct ProgramOutput {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program to its end.
pub(crate) fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> ProgramOutput {
    Program::start(arguments).finish()
}

/// Starts `serve` on a port that the system chooses, and returns it with its address.
pub(crate) fn serve(arguments: &[&str]) -> (Program, SocketAddr) {
    let words = ["serve", "--listen", "127.0.0.1:0"].iter().chain(arguments);
    let mut program = Program::start(words);
    let line = program.stdout_line();
    let address = line.split([' ', ';']).find_map(|word| word.parse().ok());
    (program, address.unwrap_or_else(|| panic!("no address in {line:?}")))
}

/// Starts a program. Wine sometimes fails to start one, with `ERROR_INTERNAL_ERROR`. Then this
/// tries again.
pub(crate) fn spawn(command: &mut Command) -> Child {
    const NOT_BEGUN: i32 = 1359;
    for _ in 0..3 {
        match command.spawn() {
            Err(error) if cfg!(windows) && error.raw_os_error() == Some(NOT_BEGUN) => {
                eprintln!("started again: {error}");
            }
            child => return child.expect("the program starts"),
        }
    }
    command.spawn().expect("the program starts")
}

impl Program {
    pub(crate) fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        Self::start_in(Path::new("."), arguments)
    }

    /// Starts the program in another directory.
    pub(crate) fn start_in<S: AsRef<OsStr>>(
        directory: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        Self::start_with(directory, arguments, Stdio::piped())
    }

    /// Starts the program with this stdout. Only a pipe can be read.
    pub(crate) fn start_with<S: AsRef<OsStr>>(
        directory: &Path,
        arguments: impl IntoIterator<Item = S>,
        stdout: Stdio,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse"));
        command
            .current_dir(directory)
            .args(arguments)
            .env_remove("POSTHOUSE_LOG")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped());
        #[cfg(windows)]
        super::windows_console::set_own_console(&mut command);
        let mut child = spawn(&mut command);
        let stdout = child.stdout.take().map_or_else(|| channel().1, lines);
        let stderr = lines(child.stderr.take().expect("the stream is piped"));
        Self { child, stdout, stderr }
    }

    /// Returns the next line on stdout, without its end.
    pub(crate) fn stdout_line(&mut self) -> String {
        match self.stdout.recv_timeout(TEST_TIMEOUT) {
            Ok(line) => line.trim_end().to_owned(),
            Err(error) => {
                let stderr: String = self.stderr.try_iter().collect();
                panic!("no line on stdout ({error}); on stderr: {stderr}")
            }
        }
    }

    /// Returns the first line on stdout, or `None` if the program ends without one.
    #[cfg(target_os = "linux")]
    pub(crate) fn first_line(&self) -> Option<String> {
        match self.stdout.recv_timeout(TEST_TIMEOUT) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("neither a line nor the end arrived"),
        }
    }

    /// Returns the next line on stderr, without its end.
    pub(crate) fn stderr_line(&mut self) -> String {
        let line = self.stderr.recv_timeout(TEST_TIMEOUT);
        line.expect("a line on stderr").trim_end().to_owned()
    }

    /// Returns true if the first thread of the program sleeps.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_sleeping(&self) -> bool {
        let at = std::fs::read_to_string(format!("/proc/{}/wchan", self.child.id()));
        at.is_ok_and(|at| at.contains("nanosleep"))
    }

    /// Returns the most resident memory that the program has had.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak_memory_bytes(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the process still runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        let kib: usize = number.expect("a line of it").parse().expect("the kernel writes a number");
        kib << 10
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the process can be waited for").is_some()
    }

    /// Kills the program, as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the process still runs");
        self.child.wait().expect("the process can be waited for");
    }

    /// Waits until the program has ended by itself.
    pub(crate) fn finish(mut self) -> ProgramOutput {
        // The streams end with the process: nothing else holds them.
        let stdout = rest(&self.stdout);
        let stderr = rest(&self.stderr);
        let code = self.child.wait().expect("the process can be waited for").code();
        ProgramOutput { code, stdout, stderr }
    }

    /// Sends the interrupt that Ctrl-C sends.
    pub(crate) fn interrupt(&self) {
        self.request_stop(StopRequest::Interrupt);
    }

    #[cfg(unix)]
    pub(crate) fn request_stop(&self, request: StopRequest) {
        use rustix::process::{Pid, Signal, kill_process};

        let signal = match request {
            StopRequest::Interrupt => Signal::INT,
            StopRequest::Terminate => Signal::TERM,
        };
        kill_process(Pid::from_child(&self.child), signal).expect("the process still runs");
    }

    #[cfg(windows)]
    pub(crate) fn request_stop(&self, request: StopRequest) {
        match request {
            // Under Wine Ctrl-Break ends every process on the console, whatever its handler says.
            StopRequest::Interrupt | StopRequest::Terminate => {
                super::windows_console::press_ctrl_c(&self.child);
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The kill fails if the program has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl ProgramOutput {
    /// Fails unless the program ended with this code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Returns every line of stdout as JSON.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse = |line| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{error}: {line} in {self:#?}"))
        };
        self.stdout.lines().map(parse).collect()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// Fails unless stderr is one line that contains all of these.
    #[track_caller]
    pub(crate) fn expect_stderr(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is missing: {self:#?}");
        }
        assert_eq!(
            self.stderr.lines().count(),
            1,
            "the error has more than one sentence: {self:#?}"
        );
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            // The send fails after the test has ended.
            let _ = sender.send(std::mem::take(&mut line));
        }
    });
    receiver
}

fn rest(lines: &Receiver<String>) -> String {
    let mut text = String::new();
    loop {
        match lines.recv_timeout(TEST_TIMEOUT) {
            Ok(line) => text.push_str(&line),
            Err(RecvTimeoutError::Disconnected) => return text,
            Err(RecvTimeoutError::Timeout) => {
                panic!("the program does not end; its output so far: {text}")
            }
        }
    }
}
