//! `cargo xtask start-under-wine WINE PROGRAM...`: the runner with which cargo starts Windows
//! programs.
//!
//! Wine sometimes does not start the program at all: it ends at once with an error and without
//! output (seen once in some five thousand starts). The programs that cargo starts here print
//! something before they fail. A program that failed without output has therefore not begun, and is
//! started again. A program that began and failed has failed: no test runs a second time. An
//! example in the documentation that is a program of its own prints nothing at first: if it fails,
//! it runs up to three times.

use std::io;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

/// The maximum number of starts of a program.
const STARTS_MAX: usize = 3;

/// Starts the program and returns its exit code.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let [wine, program @ ..] = words else {
        eprintln!("xtask: start-under-wine is for cargo: pass the path of Wine and a program");
        return ExitCode::FAILURE;
    };
    match started(Command::new(wine).args(program), io::stdout(), io::stderr()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("xtask: cannot run {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// Runs the command until it begins. Returns the low eight bits of its exit code; there are no
/// more.
fn started(
    command: &mut Command,
    mut output: impl io::Write,
    mut errors: impl io::Write + Send,
) -> io::Result<u8> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut starts = 0;
    loop {
        starts += 1;
        let mut child = command.spawn()?;
        let streams = child.stdout.take().zip(child.stderr.take());
        let (mut stdout, mut stderr) = streams.expect("pipes were requested");
        let said = thread::scope(|scope| -> io::Result<u64> {
            let other = scope.spawn(|| io::copy(&mut stderr, &mut errors));
            let said = io::copy(&mut stdout, &mut output)?;
            Ok(said + other.join().expect("the copying thread does not panic")?)
        })?;
        output.flush()?;
        let status = child.wait()?;
        if status.success() || said > 0 || starts == STARTS_MAX {
            return Ok(status.code().map_or(u8::MAX, |code| code as u8));
        }
        eprintln!("xtask: the program did not start ({status}): starting it again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the exit code and the output of a script; `$0` is a file that does not exist yet.
    fn script(text: &str) -> (u8, String) {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("mark");
        let mut said = Vec::new();
        let mut command = Command::new("sh");
        let code = started(command.args(["-c", text]).arg(&mark), &mut said, io::sink());
        (code.unwrap(), String::from_utf8(said).unwrap())
    }

    #[test]
    fn what_did_not_begin_is_started_again() {
        let second = r#"test -e "$0" && echo here && exit 0; : > "$0"; exit 1"#;
        assert_eq!(script(second), (0, "here\n".into()));
        assert_eq!(script("exit 3"), (3, String::new()));
    }

    #[test]
    fn what_began_and_failed_is_not() {
        let first = r#"test -e "$0" && exit 0; : > "$0"; echo began; exit 7"#;
        assert_eq!(script(first), (7, "began\n".into()));
        let panic = r#"test -e "$0" && exit 0; : > "$0"; echo panicked >&2; exit 7"#;
        assert_eq!(script(panic), (7, String::new()));
    }
}
