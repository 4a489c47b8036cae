//! The completion port of Posthouse.
//!
//! Workers submit operations to a [`CompletionPort`] through a [`Lane`] and take completions from
//! it. A worker is a step function that the port calls ([`CompletionPort::spawn`]). Every submitted
//! operation ends in **exactly one terminal completion**, even if its submission fails or finishes
//! at once. So one place sees every result and releases every resource. An operation owns its
//! memory until that completion.
//!
//! Only this crate knows an operating system, and only this crate may use `unsafe`.
//! [`CompletionPort::open`] is the one place that selects the backend:
//!
//! | backend | layouts | implementation |
//! |---|---|---|
//! | `iocp` | shared, pinned | Windows: an I/O completion port for all workers, or one for each |
//! | `uring` | pinned | io_uring, one ring for each worker |
//! | `readiness` | pinned, shared | epoll and non-blocking calls |
//! | `simulation` | pinned, shared | a network in virtual time, driven by a seed ([`sim`]) |
//!
//! # Examples
//!
//! An echo server for one message, and its client, on a simulated network:
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::Duration;
//!
//! use posthouse_io::sim::{Faults, Network};
//! use posthouse_io::{
//!     Backend, Cancel, CompletionPort, Gather, LaneId, ListenOptions, Op, Options, Outcome,
//!     ReceiveMode, Segment, Tag, Turn,
//! };
//!
//! let network = Network::with(1, Faults::none());
//! let backend = Backend::Simulation(network.clone());
//! let (port, _) = CompletionPort::open(backend, &Options::default())?;
//! let any_port = SocketAddr::from(([127, 0, 0, 1], 0)).into();
//! let listener = port.listen(any_port, ListenOptions::default())?;
//! let address = listener.local_address();
//!
//! let mut unregistered = Some(listener);
//! let mut sockets = Vec::new();
//! let mut closed = 0;
//! port.spawn(LaneId(0), "echo", move |lane| {
//!     if let Some(listener) = unregistered.take() {
//!         sockets.push(lane.adopt_listener(listener));
//!         lane.submit(Tag(0), Op::Accept(sockets[0]));
//!     }
//!     while let Some(completion) = lane.next_completion() {
//!         match completion.outcome {
//!             Outcome::Accepted(new) => {
//!                 sockets.push(lane.adopt(*new));
//!                 lane.submit(Tag(1), Op::Receive(sockets[1], ReceiveMode::Once));
//!             }
//!             Outcome::Received(bytes) => {
//!                 let mut gather = Gather::default();
//!                 gather.push(Segment::Owned(bytes.to_vec()));
//!                 lane.submit(Tag(2), Op::Send(sockets[1], gather));
//!             }
//!             Outcome::Sent { .. } => {
//!                 lane.submit(Tag(3), Op::Close(sockets[1]));
//!                 lane.cancel(sockets[0], Cancel::Everything);
//!             }
//!             // The cancelled accept has ended, so the listener can be closed.
//!             Outcome::Failed(_) => lane.submit(Tag(4), Op::Close(sockets[0])),
//!             Outcome::Closed => closed += 1,
//!             other => panic!("unexpected: {other:?}"),
//!         }
//!     }
//!     if closed == 2 { Turn::Done } else { Turn::Sleep(None) }
//! })?;
//!
//! let client = network.dial(address);
//! client.send(b"hello");
//! assert_eq!(port.drain(Duration::from_secs(1)).workers, 0);
//! network.settle();
//! assert_eq!(client.take_received(), b"hello");
//! assert_eq!(port.counters().submitted, port.counters().completed);
//! # Ok::<(), std::io::Error>(())
//! ```

#![allow(unsafe_code, reason = "the system is here, so that it is nowhere else")]
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod address;
mod buffer;
mod counters;
mod error;
mod file_op;
#[cfg(any(target_os = "linux", windows))]
mod fs;
mod gather;
mod handle;
#[cfg(windows)]
mod iocp;
mod lane;
mod lane_ops;
mod memory;
#[cfg(any(target_os = "linux", windows))]
mod native;
mod notify;
mod op;
mod options;
mod port;
#[cfg(target_os = "linux")]
mod readiness;
mod shutdown_signal;
pub mod sim;
mod sync;
#[cfg(any(target_os = "linux", windows))]
mod sys;
mod token;
mod turn;
#[cfg(target_os = "linux")]
mod uring;

pub use address::{Address, AddressError, Name};
pub use buffer::Buffer;
pub use counters::{Counters, Drained};
pub use error::{Error, Failure};
pub use file_op::{
    FileEntry, FileIdentity, FileOp, FileOutcome, FileVersion, Metadata, PARTS_DIRECTORY,
    is_beneath,
};
pub use gather::{FileFault, FilePart, Gather, Segment};
pub use handle::{Directory, File, Listener, NewSocket, Usage};
pub use lane::Lane;
pub use notify::Notify;
pub use op::{Cancel, Completion, Op, Outcome, ReceiveMode, WatchMode};
pub use options::{Layout, ListenOptions, Options, ReadMode};
pub use port::{Backend, CompletionPort, Selected, parallelism};
pub use shutdown_signal::{ShutdownSignal, on_shutdown_signal};
pub use token::{LaneId, Socket, Tag};
pub use turn::{ThreadId, Turn, current_thread, on_worker};
