//! The backends and layouts that work here, each tested with a connection.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use posthouse::{Endpoint, EndpointOptions, Framing, Listener};
use serde::Serialize;

use crate::echo::Echo;

/// All backends in the order of preference, each with its system.
const BACKENDS: [(&str, &str); 3] =
    [("iocp", "windows"), ("uring", "linux"), ("readiness", "linux")];
const LAYOUTS: [&str; 2] = ["pinned", "shared"];

/// The timeout of a round trip over loopback, far more than it takes.
const ROUND_TRIP_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize)]
pub(super) struct Backends {
    /// The backend that `auto` chooses.
    auto: Option<AutoChoice>,
    auto_error: Option<String>,
    tried: Vec<BackendTest>,
    /// The backends for other systems.
    absent: Vec<&'static str>,
}

/// The backend and layout of an endpoint, with the reason for them.
#[derive(Debug, Serialize)]
pub(super) struct AutoChoice {
    backend: &'static str,
    layout: String,
    reason: String,
}

/// The test of one backend in one layout.
#[derive(Debug, Serialize)]
struct BackendTest {
    backend: &'static str,
    layout: &'static str,
    works: bool,
    error: Option<String>,
}

impl Backends {
    /// Tests every backend in every layout.
    pub(super) fn test() -> Self {
        let (auto, auto_error) = split(round_trip(&EndpointOptions::default()));
        let mut backends = Self { auto, auto_error, tried: Vec::new(), absent: Vec::new() };
        for (backend, system) in BACKENDS {
            if system != std::env::consts::OS {
                backends.absent.push(backend);
                continue;
            }
            for layout in LAYOUTS {
                let mut options = EndpointOptions::default();
                let result = options
                    .set("backend", backend)
                    .and_then(|()| options.set("layout", layout))
                    .map_err(|error| error.to_string())
                    .and_then(|()| round_trip(&options));
                let (works, error) = split(result);
                backends.tried.push(BackendTest { backend, layout, works: works.is_some(), error });
            }
        }
        backends
    }

    /// Returns the choice of `auto`, or the reason why there is none.
    pub(super) fn auto(&self) -> Result<&AutoChoice, &str> {
        self.auto.as_ref().ok_or(self.auto_error.as_deref().unwrap_or_default())
    }
}

impl fmt::Display for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.auto() {
            Ok(AutoChoice { backend, layout, reason }) => {
                writeln!(f, "  auto takes {backend}, {layout}: {reason}")?;
            }
            Err(why) => writeln!(f, "  auto finds no backend: {why}")?,
        }
        for BackendTest { backend, layout, error, .. } in &self.tried {
            let found = error.as_deref().unwrap_or("works, tested over loopback");
            writeln!(f, "  {backend:<14} {layout:<10} {found}")?;
        }
        for backend in &self.absent {
            writeln!(f, "  {backend:<14} {:<10} for another system", "")?;
        }
        Ok(())
    }
}

fn split<T>(result: Result<T, String>) -> (Option<T>, Option<String>) {
    match result {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(error)),
    }
}

/// Starts an echo server, exchanges one message with it, and returns its backend.
fn round_trip(options: &EndpointOptions) -> Result<AutoChoice, String> {
    let endpoint = Endpoint::builder(Echo)
        .listen(Listener::new("127.0.0.1:0").framing(Framing::Raw))
        .options(options.clone())
        .start()
        .map_err(|error| error.to_string())?;
    let echoed = echo(&endpoint);
    endpoint.shutdown(Duration::ZERO);
    endpoint.wait().map_err(|error| error.to_string())?;
    echoed.map(|()| AutoChoice {
        backend: endpoint.backend(),
        layout: endpoint.layout().to_string(),
        reason: endpoint.backend_reason().to_owned(),
    })
}

fn echo(endpoint: &Endpoint<Echo>) -> Result<(), String> {
    let address = endpoint.addresses()[0].socket_addr();
    let failed = |error: std::io::Error| format!("it starts but does not echo: {error}");
    let mut stream = TcpStream::connect_timeout(&address, ROUND_TRIP_TIMEOUT).map_err(failed)?;
    stream.set_read_timeout(Some(ROUND_TRIP_TIMEOUT)).map_err(failed)?;
    let sent = *b"posthouse";
    let mut received = [0; 9];
    stream.write_all(&sent).map_err(failed)?;
    stream.read_exact(&mut received).map_err(failed)?;
    if received == sent { Ok(()) } else { Err("it starts but echoes other bytes".into()) }
}
