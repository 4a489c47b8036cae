//! Posthouse: a completion-port client/server framework.
//!
//! Write a [`Handler`]; an [`Endpoint`] carries many thousands of peers on a few threads and gives
//! each one ordered messages, requests, groups, timers, limits and a clean end.
//!
//! ```no_run
//! use posthouse::{Endpoint, Handler, Message, Outcome, Peer};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type State = ();
//!
//!     fn received(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Outcome {
//!         peer.send(message.kind(), message.payload());
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     Ok(Endpoint::builder(Echo).listen("127.0.0.1:9990").start()?.wait()?)
//! }
//! ```
//!
//! What it promises is in the types where it can be: a connection's state is reachable only on its
//! strand, through a [`Peer`]; a payload is borrowed, so nothing is copied unless you copy it; a
//! [`PeerId`] names one connection for ever. The rest is proven in simulation, and so can your own
//! handler be: see [`sim`].
#![forbid(unsafe_code)]

mod accepting;
mod builder;
mod client;
mod close;
mod connection;
#[cfg(windows)]
pub mod console;
mod core;
mod directory;
mod endpoint;
mod error;
mod gate;
mod group;
mod handler;
mod id;
mod known_hashes;
mod log_limit;
mod mailbox;
mod message;
mod options;
mod output;
mod peer;
mod registry;
mod rules;
pub mod sim;
mod stats;
mod sync;
mod target;
mod timers;
mod transfer;
mod watch;
mod worker;

pub use builder::Builder;
pub use client::{Client, ClientError, Received};
pub use close::{Close, Fault, Outcome, Reason, ReasonKind};
pub use directory::Directory;
pub use endpoint::Endpoint;
pub use error::{ConnectError, RequestError, SendError, StartError, Unsendable, WouldDeadlock};
pub use group::Group;
pub use handler::Handler;
pub use id::PeerId;
pub use message::{Message, Ticket};
pub use options::{Backend, Hello, Layout, Options, OptionsError, ReadMode, Tuning};
pub use peer::Peer;
pub use posthouse_io::{Address, AddressError};
// The program `posthouse` writes its lines with it; it is no part of the interface.
#[doc(hidden)]
pub use posthouse_wire::Escaped;
pub use posthouse_wire::{Framing, FramingError, Key, KeyError, PARTS_DIRECTORY};
pub use registry::PeerInfo;
pub use stats::Stats;
pub use target::Target;
pub use transfer::{
    Answer, FileEntry, Offer, Progress, Transfer, TransferError, TransferErrorKind, Wanted,
};

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
