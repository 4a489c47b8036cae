//! How a command fails: a sentence for the person at the terminal, and whose doing it was.

use std::fmt;
use std::process::ExitCode;

use posthouse::StartError;

/// What every command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// A sentence that says what failed, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    text: String,
    /// True exactly when the command line or a file named on it is wrong.
    usage: bool,
}

impl Failure {
    /// The command line, or a file named on it, is wrong.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { text: text.into(), usage: true }
    }

    /// What was asked for was tried and did not succeed.
    pub(crate) fn runtime(text: impl Into<String>) -> Self {
        Self { text: text.into(), usage: false }
    }

    /// 2 for wrong usage, as clap exits, otherwise 1.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.usage { 2 } else { 1 })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Address(_) | StartError::Options(_) => Self::usage(error.to_string()),
            _ => Self::runtime(error.to_string()),
        }
    }
}
