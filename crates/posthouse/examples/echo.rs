//! The smallest server: it sends back what it gets. `cargo run -p posthouse --example echo`, then
//! `cargo run --release -- bench 127.0.0.1:9990` in another terminal.

use posthouse::{Endpoint, Handler, HandlerResult, Message, Peer};

struct Echo;

impl Handler for Echo {
    type State = ();

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        peer.send(message.kind(), message.payload());
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    Ok(Endpoint::builder(Echo).listen("127.0.0.1:9990").start()?.wait()?)
}
