//! The completion port of Posthouse.
//!
//! Operations are submitted to a [`CompletionPort`] through a [`Lane`]; completions are taken from
//! it by I/O workers, which are step functions that the port calls ([`CompletionPort::spawn`]).
//! Every submitted operation ends in **exactly one terminal completion**, also when its submission
//! fails or finishes at once, so there is one place where a result is seen and a resource is let
//! go. An operation owns its memory until that completion.
//!
//! This is the only crate that knows an operating system, and the only one that may use `unsafe`.
//! Which system does the work is decided in one place, [`CompletionPort::open`]:
//!
//! | backend | layouts | what it is |
//! |---|---|---|
//! | `iocp` | shared, pinned | Windows: an I/O completion port for all workers, or one for each |
//! | `uring` | pinned | io_uring, one ring for each worker |
//! | `readiness` | pinned, shared | epoll and non-blocking calls |
//! | `simulation` | pinned, shared | a network in virtual time, driven by a seed ([`sim`]) |

#![allow(unsafe_code, reason = "the system is here, so that it is nowhere else")]
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod address;
mod buffer;
mod completions;
#[cfg(windows)]
mod console;
mod crew;
#[cfg(any(target_os = "linux", windows))]
mod disk;
mod error;
mod file;
#[cfg(any(target_os = "linux", windows))]
mod host;
#[cfg(windows)]
mod iocp;
mod lane;
#[cfg(target_os = "linux")]
mod lane_remote;
mod memory;
mod notify;
mod operation;
mod port;
#[cfg(all(test, windows))]
#[path = "../tests/shared/process.rs"]
mod process;
#[cfg(any(target_os = "linux", windows))]
mod queue;
#[cfg(target_os = "linux")]
mod readiness;
#[cfg(any(target_os = "linux", windows))]
mod receives;
mod resolver;
#[cfg(any(target_os = "linux", windows))]
mod shared_table;
mod shutdown_signal;
pub mod sim;
mod sync;
#[cfg(any(target_os = "linux", windows))]
mod system;
#[cfg(any(target_os = "linux", windows))]
mod table;
#[cfg(any(target_os = "linux", windows))]
mod threads;
mod token;
#[cfg(target_os = "linux")]
mod uring;
mod worker;

pub use address::{Address, AddressError, Name};
pub use buffer::Buffer;
pub use error::{Error, Failure};
pub use file::{
    Directory, File, FileEntry, FileOp, FileOutcome, FileVersion, Metadata, PARTS_DIRECTORY, Usage,
    is_beneath,
};
pub use lane::{Cancel, Lane};
pub use notify::Notify;
pub use operation::{
    Completion, FileFault, FilePart, Gather, NewSocket, Op, Outcome, ReceiveMode, Segment,
};
pub use port::{
    Backend, CompletionPort, Counters, Drained, Layout, ListenOptions, Listener, Options, ReadMode,
    Selected, parallelism,
};
pub use shutdown_signal::{ShutdownSignal, on_shutdown_signal};
pub use token::{LaneId, Socket, Tag};
pub use worker::{Turn, on_worker};
