//! What a console of Windows asks of a program: where Unix has signals, which other crates catch.
//!
//! A server ends well when it is asked to:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use posthouse::console::{ConsoleEvent, on_console_event};
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
//!     let server = Endpoint::builder(Echo).listen("127.0.0.1:9990").start()?;
//!     let ending = server.clone();
//!     on_console_event(move |event| {
//!         if event != ConsoleEvent::Logoff {
//!             ending.shutdown(Duration::from_secs(4));
//!             let _ = ending.wait();
//!         }
//!     })?;
//!     server.wait()?;
//!     Ok(())
//! }
//! ```

pub use posthouse_io::{ConsoleEvent, on_console_event};
