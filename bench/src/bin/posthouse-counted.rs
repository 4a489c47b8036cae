//! The server of `posthouse-echo` with a counting allocator, for `--profile` only. It answers a
//! frame of kind 255 with the number of allocations so far, as u64 LE.

#![forbid(unsafe_code)]

use std::alloc::System;
use std::error::Error;

use posthouse::{Endpoint, EndpointOptions, Handler, HandlerResult, Message, Peer};
use posthouse_bench::listening;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The kind of the request for the count.
const COUNT: u8 = 255;

struct Echo;

impl Handler for Echo {
    type State = ();

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        if message.kind() == COUNT {
            let stats = ALLOCATOR.stats();
            let count = (stats.allocations + stats.reallocations) as u64;
            peer.send(COUNT, &count.to_le_bytes());
        } else {
            peer.send(message.kind(), message.payload());
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    listening::tether()?;
    let mut options = EndpointOptions::default().with_io_workers(1).with_max_connections(20_000);
    let backend = listening::option("--backend").unwrap_or_else(|| "readiness".into());
    if let Err(error) = options.set("backend", &backend) {
        println!("not available: {error}");
        return Ok(());
    }
    let address = listening::address().to_string();
    let endpoint = Endpoint::builder(Echo).options(options).listen(address).start()?;
    listening::announce(endpoint.addresses()[0].socket_addr())?;
    Ok(endpoint.wait()?)
}
