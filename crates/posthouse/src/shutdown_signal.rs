//! The graceful end of a process on SIGTERM, Ctrl-C or Ctrl-Break.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use posthouse::{Endpoint, Handler, HandlerResult, Message, Peer};
//! use posthouse::shutdown_signal::on_shutdown_signal;
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
//!     let server = Endpoint::builder(Echo).listen("127.0.0.1:9990").start()?;
//!     let ending = server.clone();
//!     on_shutdown_signal(move |_| ending.shutdown(Duration::from_secs(5)))?;
//!     Ok(server.wait()?)
//! }
//! ```

pub use posthouse_io::{ShutdownSignal, on_shutdown_signal};
