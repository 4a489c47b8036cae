//! The failure of a command: a message for the user, and the exit code.

use std::fmt;
use std::process::ExitCode;

use posthouse::{ListenError, StartError};

/// The result of a command.
pub(crate) type CommandResult<T = ()> = Result<T, Failure>;

/// A message to the user: what failed, where, and how to fix it.
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
    /// Makes a failure whose cause is the command line, or a file named on it.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::Usage }
    }

    /// Makes a failure of the work itself.
    pub(crate) fn runtime(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::Runtime }
    }

    /// Makes a failure whose cause is an interruption by the user.
    pub(crate) fn interrupted(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::Interrupted }
    }

    /// Adds another reason, if there is one.
    pub(crate) fn with(self, reason: Option<impl fmt::Display>) -> Self {
        match reason {
            None => self,
            Some(reason) => Self { text: format!("{}; {reason}", self.text), ..self },
        }
    }

    /// Returns 2 for wrong usage, as clap does, 130 for an interruption, as shells do, and 1
    /// otherwise.
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
            StartError::Options(_)
            | StartError::Listen(ListenError::Address(_) | ListenError::Options { .. }) => {
                Self::usage(error.to_string())
            }
            _ => Self::runtime(error.to_string()),
        }
    }
}
