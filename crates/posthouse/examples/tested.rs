//! A handler tested in simulation: a counter that must not lose a click, whatever the network does.
//!
//! `cargo run -p posthouse --example tested` runs it under three hundred seeds. In your crate
//! `main` would be a `#[test]`; a failure prints its seed, and `POSTHOUSE_SEED=N` replays it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use posthouse::{ClientError, Endpoint, Handler, HandlerResult, Message, Peer, sim};

/// Counts clicks, and tells each peer how many of its own there are.
#[derive(Default)]
struct Clicks {
    all: Arc<AtomicU64>,
}

impl Handler for Clicks {
    type State = u64;

    fn received(&self, peer: &mut Peer<'_, Self>, _: Message<'_>) -> HandlerResult {
        self.all.fetch_add(1, Ordering::Relaxed);
        *peer.state_mut() += 1;
        let own = peer.state().to_le_bytes();
        peer.send(0, &own);
        Ok(())
    }
}

fn main() {
    sim::check(0..300, |world| {
        let all = Arc::new(AtomicU64::new(0));
        let handler = Clicks { all: all.clone() };
        let server = world.start(Endpoint::builder(handler).listen("10.0.0.1:9990")).unwrap();

        let clients = [(); 3].map(|()| world.client("10.0.0.1:9990").unwrap());
        for _ in 0..5 {
            for client in &clients {
                client.send(0, b"click").unwrap();
            }
        }
        for client in &clients {
            for expected in 1..=5_u64 {
                let reply = client.receive(Duration::from_secs(10)).unwrap();
                assert_eq!(reply.payload, expected.to_le_bytes());
            }
            // Nothing more comes, however long one waits: time is virtual.
            let end = client.receive(Duration::from_mins(1));
            assert!(matches!(end, Err(ClientError::TimedOut)), "{end:?}");
        }
        assert_eq!(all.load(Ordering::Relaxed), 15);
        clients.into_iter().for_each(posthouse::Client::close);
        server.shutdown(Duration::from_secs(1));
        server.wait().unwrap();
    });
    println!("three hundred seeds, no click lost");
}
