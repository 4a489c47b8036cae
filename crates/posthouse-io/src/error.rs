//! The failures of operations, one set for all systems.

use std::fmt;
use std::io;

use crate::options::LOOK_UP_TIMEOUT;

/// The reason why an operation failed, the same on every system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// The operation was cancelled by [`Lane::cancel`](crate::Lane::cancel).
    Cancelled,
    /// The peer, or this side, reset the connection.
    Reset,
    /// The connection was aborted: by this system (a driver, a firewall, an administrator), or by a
    /// peer that left the accept queue.
    Aborted,
    /// Nobody listens at the address.
    Refused,
    /// No route to the address.
    Unreachable,
    /// The system ended the connection after its own time-out.
    TimedOut,
    /// The socket is not connected, or its sending side has been shut down.
    NotConnected,
    /// No file descriptor is free, in the process or in the system. Transient: try again later.
    NoDescriptors,
    /// The system has no free buffer or memory. Transient: try again later.
    NoBuffers,
    /// The address is in use.
    AddressInUse,
    /// The address cannot be used on this machine.
    AddressNotAvailable,
    /// The system denied the operation (a privileged port, a firewall rule, a sandbox).
    Denied,
    /// The name has no address, or could not be looked up.
    NameNotFound,
    /// The maximum number of look-ups (64 host names) run, and none of them has ended for five
    /// seconds.
    NamesHang,
    /// There is no such file or directory.
    NotFound,
    /// Something of that name already exists.
    Exists,
    /// The path does not lead to a regular file, or leads through a link.
    NotAFile,
    /// Somebody else holds the lock.
    Locked,
    /// The disk or a quota of the system is full, or the file is too large for the file system.
    NoSpace,
    /// The disk failed to read or write.
    Disk,
    /// The system does not support the operation (an address family that is switched off, ...).
    Unsupported,
    /// Any other failure; [`Error::code`] has the system's number.
    Other,
}

/// A failed operation: the reason, and the system's own number for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Error {
    /// The reason, the same on every system.
    pub failure: Failure,
    /// The system's error number; zero if there is none.
    pub code: i32,
}

impl Error {
    /// Returns an error that has no system number.
    pub fn new(failure: Failure) -> Self {
        Self { failure, code: 0 }
    }

    /// Returns the meaning of an error number of this system.
    pub fn from_os(code: i32) -> Self {
        #[cfg(target_os = "linux")]
        return crate::sys::error(rustix::io::Errno::from_raw_os_error(code));
        #[cfg(windows)]
        return crate::sys::error(code.cast_unsigned());
        #[cfg(not(any(target_os = "linux", windows)))]
        Self { failure: Failure::Other, code }
    }

    /// Returns whether the shortage may end by itself, so that the operation can be submitted again
    /// later.
    pub fn is_transient(&self) -> bool {
        matches!(self.failure, Failure::NoDescriptors | Failure::NoBuffers)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.failure {
            Failure::Cancelled => "cancelled",
            Failure::Reset => "connection reset",
            Failure::Aborted => "connection aborted by the local system",
            Failure::Refused => "connection refused (no program listens at the address)",
            Failure::Unreachable => "no route to the address",
            Failure::TimedOut => "connection timed out",
            Failure::NotConnected => "not connected",
            Failure::NoDescriptors if cfg!(windows) => "no free handle",
            Failure::NoDescriptors => "no free file descriptor (see `ulimit -n`)",
            Failure::NoBuffers => "the system has no free buffer or memory",
            Failure::AddressInUse => "address already in use",
            Failure::AddressNotAvailable => "address not available on this machine",
            Failure::Denied => "permission denied",
            Failure::NameNotFound => "name not found",
            Failure::NamesHang => "64 name look-ups hang: the name servers do not answer",
            Failure::NotFound => "no such file or directory",
            Failure::Exists => "already exists",
            Failure::NotAFile => "not a regular file, or behind a link",
            Failure::Locked => "locked by another holder",
            Failure::NoSpace => "no space left, or the file is too large for the file system",
            Failure::Disk => "the disk failed",
            Failure::Unsupported => "not supported by this system",
            Failure::Other => "system error",
        };
        match self.code {
            0 => f.write_str(text),
            code => write!(f, "{text} (os error {code})"),
        }
    }
}

impl std::error::Error for Error {}

/// Returns the error of a caller that has waited for a look-up for [`LOOK_UP_TIMEOUT`].
pub(crate) fn look_up_timed_out() -> io::Error {
    let text = format!("the host name could not be looked up in {} s", LOOK_UP_TIMEOUT.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error.code {
            0 => io::Error::other(error),
            code => io::Error::from_raw_os_error(code),
        }
    }
}
