//! The Posthouse contender: the handler of its README, one I/O worker, the backend by name
//! (`--backend readiness`, `--backend uring`).

#![forbid(unsafe_code)]

use std::error::Error;
use std::process::ExitCode;

use posthouse::{Endpoint, EndpointOptions, Handler, HandlerResult, Message, Peer};
use posthouse_bench::listening;

struct Echo;

impl Handler for Echo {
    type State = ();

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        peer.send(message.kind(), message.payload());
        Ok(())
    }
}

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("not available: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Box<dyn Error>> {
    listening::tether()?;
    let mut options = EndpointOptions::default().with_io_workers(1).with_max_connections(20_000);
    let backend = listening::option("--backend").unwrap_or_else(|| "readiness".into());
    options.set("backend", &backend)?;
    let endpoint = Endpoint::builder(Echo)
        .options(options)
        .listen(listening::address().to_string())
        .start()?;
    if endpoint.backend() != backend {
        return Err(format!("runs on {}: {}", endpoint.backend(), endpoint.backend_reason()).into());
    }
    listening::announce(endpoint.addresses()[0].socket_addr())?;
    Ok(endpoint.wait()?)
}
