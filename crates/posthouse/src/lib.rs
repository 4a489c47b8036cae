//! Posthouse, a client/server framework in the style of completion ports: the operating system
//! reports each operation when it has completed.
//!
//! Write a [`Handler`]; an [`Endpoint`] carries many thousands of peers on a few threads and gives
//! each peer ordered messages, requests, files, groups, timers, limits and a clean end.
//!
//! ```no_run
//! use posthouse::{Endpoint, Handler, HandlerResult, Message, Peer};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type State = ();
//!
//!     fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
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
//! The compiler enforces many of Posthouse's promises through the types. Only a callback of a
//! connection, which gets a [`Peer`], can reach the connection's state. A payload is borrowed, so
//! nothing is copied unless you copy it. A [`PeerId`] is never reused, so a call with an old one
//! reaches no other connection. The simulation tests the promises that the compiler cannot enforce,
//! and it can test your handler: see [`sim`].
//!
//! # Where to look
//!
//! - Several protocols in one process: [`Endpoint::listen`] and [`Endpoint::attach`]; the listener
//!   of a peer is [`Peer::origin`].
//! - Answers from another thread or a tokio task: [`Responder::take`], [`Endpoint::send`],
//!   [`Endpoint::run`].
//! - The end of a connection: [`Close`], `?` and [`OrClose`] (see [`HandlerResult`]),
//!   [`Handler::disconnected`].
//! - Limits: [`EndpointOptions`], [`ConnectionOptions`], [`Tuning`]. By default, an endpoint
//!   accepts at most 64 connections from one address (an IPv4 address, or the first 64 bits of an
//!   IPv6 address), but any number from a loopback address
//!   ([`max_connections_per_address`](EndpointOptions::max_connections_per_address)). The
//!   rejections, failed transfers and listings that one address causes have a limit, too
//!   ([`max_rejections_per_second`](EndpointOptions::max_rejections_per_second)).
//! - Files: [`Directory`], [`Handler::offered`], [`Peer::offer_file`], [`Peer::fetch_file`],
//!   [`Client::list`], [`TransferError::may_succeed_later`].
//!
//! # Words
//!
//! - **lane**: a queue of completions, that is, of the results of finished I/O operations. In the
//!   pinned layout each I/O worker has its own lane, and a connection stays on one lane; in the
//!   shared layout all workers take from one lane.
//! - **strand**: the right to touch a connection's state. One worker at a time has it, so the
//!   callbacks of a connection run one after the other, in the order of their events. Code that has
//!   a `&mut Peer` runs on that connection's strand.
//! - **post**: a message, task, close or answer that is handed to a connection by a call on an
//!   [`Endpoint`], a [`Group`] or an owned responder, from any thread or callback. Posts wait until
//!   a worker of their lane takes them. If as many as [`max_posts`](Tuning::max_posts) wait, a
//!   further message, task or close fails with `Busy`.
//! - **hello**: the first frame of each side in the protocol of Posthouse (native framing only).
//!   Requests, heartbeats and file transfers need a hello of both sides. A *plain* peer sends none.
//! - **job**: long work that must not run in a callback. There are no job workers yet: use threads
//!   of your own.
#![forbid(unsafe_code)]
#![warn(clippy::print_stderr, clippy::print_stdout)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod address_prefix;
mod admissions;
mod builder;
mod callbacks;
mod client;
mod close;
mod config;
mod connection;
mod contained;
mod directory;
mod disconnect;
mod endpoint;
mod endpoint_timers;
mod erased;
mod error;
mod fair_budget;
mod gate;
mod group;
mod handler;
mod id;
mod listener;
mod listeners;
mod mailbox;
mod members;
mod message;
mod options;
mod output;
mod pace;
mod peer;
mod quota;
mod rate_limited_log;
#[doc(hidden)]
pub mod record_layer;
mod registry;
mod responder;
mod send_config;
mod shared;
pub mod shutdown_signal;
pub mod sim;
mod stats;
mod sync;
mod target;
mod timers;
mod transfer;
mod transfers;
mod watchdog;
mod worker;

pub use builder::Builder;
pub use client::{Client, ClientError};
pub use close::{Close, HandlerResult, OrClose};
pub use directory::Directory;
pub use disconnect::{DisconnectKind, DisconnectReason, Fault};
pub use endpoint::Endpoint;
pub use error::{
    Busy, ConnectError, ListenError, RequestError, RunError, SendError, StartError, WouldDeadlock,
};
pub use group::Group;
pub use handler::Handler;
pub use id::PeerId;
pub use listener::Listener;
pub use listeners::ListenerHandle;
pub use message::{Message, OwnedMessage};
pub use options::{
    Backend, ConnectionOptions, EndpointOptions, Hello, Layout, OptionsError, ReadMode, Tuning,
};
pub use output::Output;
pub use peer::{Peer, Timer};
pub use posthouse_io::{Address, AddressError};
// The program `posthouse` escapes its output with it. It is not part of the interface.
pub use posthouse_wire::DeliveryId;
#[doc(hidden)]
pub use posthouse_wire::Escaped;
pub use posthouse_wire::{
    Delimiter, EncodeError, Endian, Framing, FramingError, Key, KeyError, LengthField,
    PARTS_DIRECTORY,
};
pub use registry::PeerInfo;
pub use responder::{OfferResponder, OwnedOfferResponder, OwnedResponder, Responder};
pub use stats::Stats;
pub use target::{ConnectFailure, Target};
pub use transfer::{
    Destination, FileEntry, FileList, FinishedTransfer, Offer, Reject, Source, TransferError,
    TransferErrorKind, TransferHandle,
};

/// The examples of the README, which are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
