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
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Usage,
    Runtime,
    Interrupted,
}

impl Failure {
    /// The command line, or a file named on it, is wrong.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::Usage }
    }

    /// What was asked for was tried and did not succeed.
    pub(crate) fn runtime(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::Runtime }
    }

    /// A person ended it before it was done.
    pub(crate) fn interrupted(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::Interrupted }
    }

    /// 2 for wrong usage, as clap exits; 130 for an interruption, as shells have it; otherwise 1.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Usage => 2,
            Kind::Runtime => 1,
            Kind::Interrupted => 130,
        })
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
