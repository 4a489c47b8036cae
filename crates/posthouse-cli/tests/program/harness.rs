//! The program as a child process, with bounded waits, killed if a test fails.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Far longer than anything here takes; then the test fails.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_mins(1);
/// What the program advises to make a directory with.
pub(crate) const MKDIR: &str = if cfg!(windows) { "mkdir" } else { "mkdir -p" };
/// How often it is looked whether something has happened that nobody tells.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// How a program is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopRequest {
    Interrupt,
    Terminate,
}

impl StopRequest {
    /// What the program ends with when it is asked a second time.
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

/// A path as this system writes it.
pub(crate) fn native(path: &str) -> String {
    path.replace('/', std::path::MAIN_SEPARATOR_STR)
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < TEST_TIMEOUT, "not in time: {what}");
        thread::park_timeout(POLL_INTERVAL);
    }
}

/// How a program ended.
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

/// Starts `serve` on ports that the system chooses; gives it and where it listens.
pub(crate) fn serve(arguments: &[&str]) -> (Program, SocketAddr) {
    let words = ["serve", "--listen", "127.0.0.1:0"].iter().chain(arguments);
    let mut program = Program::start(words);
    let line = program.stdout_line();
    let address = line.split([' ', ';']).find_map(|word| word.parse().ok());
    (program, address.unwrap_or_else(|| panic!("no address in {line:?}")))
}

/// Starts a program. Now and then Wine does not get to it at all, and the call that starts it says
/// that of itself (`ERROR_INTERNAL_ERROR`): what did not begin is started again.
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

    /// The same in another directory.
    pub(crate) fn start_in<S: AsRef<OsStr>>(
        directory: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse"));
        command
            .current_dir(directory)
            .args(arguments)
            .env_remove("POSTHOUSE_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        #[cfg(windows)]
        super::windows_console::give_one(&mut command);
        let mut child = spawn(&mut command);
        let stdout = lines(child.stdout.take().expect("it is piped"));
        let stderr = lines(child.stderr.take().expect("it is piped"));
        Self { child, stdout, stderr }
    }

    /// The next line on stdout, without its end.
    pub(crate) fn stdout_line(&mut self) -> String {
        match self.stdout.recv_timeout(TEST_TIMEOUT) {
            Ok(line) => line.trim_end().to_owned(),
            Err(error) => {
                let stderr: String = self.stderr.try_iter().collect();
                panic!("no line on stdout ({error}); on stderr: {stderr}")
            }
        }
    }

    /// Its first line on stdout; none where it ends without one.
    #[cfg(target_os = "linux")]
    pub(crate) fn first_line(&self) -> Option<String> {
        match self.stdout.recv_timeout(TEST_TIMEOUT) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("neither a line nor the end"),
        }
    }

    /// The next line on stderr, without its end.
    pub(crate) fn stderr_line(&mut self) -> String {
        let line = self.stderr.recv_timeout(TEST_TIMEOUT);
        line.expect("a line on stderr").trim_end().to_owned()
    }

    /// Whether its first thread lets time pass.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_sleeping(&self) -> bool {
        let at = std::fs::read_to_string(format!("/proc/{}/wchan", self.child.id()));
        at.is_ok_and(|at| at.contains("nanosleep"))
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_some()
    }

    /// Ends it at once, as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it still runs");
        self.child.wait().expect("it can be waited for");
    }

    /// Waits until it has ended by itself.
    pub(crate) fn finish(mut self) -> ProgramOutput {
        // The streams end with the process: nothing else holds them.
        let (stdout, stderr) = (rest(&self.stdout), rest(&self.stderr));
        let code = self.child.wait().expect("it can be waited for").code();
        ProgramOutput { code, stdout, stderr }
    }

    /// Asks it to end, as a person at its terminal does.
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
        kill_process(Pid::from_child(&self.child), signal).expect("it still runs");
    }

    #[cfg(windows)]
    pub(crate) fn request_stop(&self, request: StopRequest) {
        match request {
            // Ctrl-Break is the other way, and under Wine ends whoever is on the console, whatever
            // it has to say to that.
            StopRequest::Interrupt | StopRequest::Terminate => {
                super::windows_console::press_ctrl_c(&self.child)
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails where it has ended already.
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

    /// Every line of stdout, as JSON.
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

    /// Fails unless stderr is one line that has all of these in it.
    #[track_caller]
    pub(crate) fn expect_stderr(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is missing: {self:#?}");
        }
        assert_eq!(self.stderr.lines().count(), 1, "one sentence: {self:#?}");
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            // Refused where the test no longer listens.
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
            Err(RecvTimeoutError::Timeout) => panic!("it does not end; so far: {text}"),
        }
    }
}
