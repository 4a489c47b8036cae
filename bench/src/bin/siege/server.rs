//! The server under attack: an endpoint with the public interface of Posthouse and small budgets.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use posthouse::{
    ConnectionOptions, Destination, Directory, DisconnectReason, Endpoint, EndpointOptions,
    FinishedTransfer, Handler, HandlerResult, Key, Listener, Message, Offer, OfferResponder, Peer,
    Reject, Source, Stats, Tuning,
};
use posthouse_bench::listening::tether;

use crate::fixture;

const MAX_CONNECTIONS: usize = 640;
const MAX_UNADMITTED: usize = 128;
const ASSEMBLY_BYTES: usize = 8 << 20;
const FILE_MEMORY_BYTES: usize = 128 << 20;
const SEND_QUEUE_BYTES: usize = 256 << 10;
const MAX_OPEN_FILES: usize = 256;
const RECEIVE_BUFFER_BYTES: usize = 16 << 10;
const MAX_FREE_BUFFERS: usize = 64;
const QUEUE_HIGH_BYTES: usize = 128 << 10;
const CHUNK_BYTES: usize = 64 << 10;

struct FileServer {
    outbox: Directory,
    inbox: Directory,
    inbox_path: PathBuf,
    /// The number of connections that ended for each reason.
    ends: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Handler for FileServer {
    type State = ();

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        peer.send(message.kind(), message.payload());
        Ok(())
    }

    fn offered(
        &self,
        _: &mut Peer<'_, Self>,
        _: &Offer<'_>,
        _: &mut OfferResponder<'_>,
    ) -> Result<Option<Destination>, Reject> {
        Ok(Some(Destination::new(&self.inbox)))
    }

    fn download_requested(&self, _: &mut Peer<'_, Self>, name: &str) -> Result<Source, Reject> {
        Ok(Source::new(&self.outbox, name))
    }

    fn list_requested(&self, _: &mut Peer<'_, Self>, _: &str) -> Result<Directory, Reject> {
        Ok(self.outbox.clone())
    }

    fn transferred(&self, _: &mut Peer<'_, Self>, transfer: &FinishedTransfer) -> HandlerResult {
        // Received files are removed at once, so that the directory does not grow in the run.
        if transfer.is_incoming() && transfer.result().is_ok() {
            fs::remove_file(self.inbox_path.join(transfer.name()))?;
        }
        Ok(())
    }

    fn disconnected(&self, _: &mut Peer<'_, Self>, reason: &DisconnectReason) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let text = reason.to_string();
        // The number of unsent bytes follows in brackets.
        let cause = text.split(" (").next().unwrap_or_default();
        *ends.entry(cause.to_owned()).or_default() += 1;
    }
}

fn endpoint_options() -> EndpointOptions {
    EndpointOptions::default()
        .with_io_workers(1)
        .with_max_connections(MAX_CONNECTIONS)
        .with_max_unadmitted(MAX_UNADMITTED)
        .with_assembly_bytes(ASSEMBLY_BYTES)
        .with_file_memory_bytes(FILE_MEMORY_BYTES)
        .with_max_open_files(MAX_OPEN_FILES)
}

fn connection_options() -> ConnectionOptions {
    ConnectionOptions::default().with_send_queue_bytes(SEND_QUEUE_BYTES).with_max_requests(0)
}

fn tuning() -> Tuning {
    Tuning::default()
        .with_receive_buffer_bytes(RECEIVE_BUFFER_BYTES)
        .with_max_free_buffers(MAX_FREE_BUFFERS)
        .with_queue_high_bytes(QUEUE_HIGH_BYTES)
        .with_chunk_bytes(CHUNK_BYTES)
}

/// One term of the memory that the configuration permits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub(crate) name: &'static str,
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}

/// The memory that the configuration permits beyond that of the idle server.
pub(crate) const BUDGET: &[Term] = &[
    Term { name: "file_memory_bytes", count: 1, bytes: FILE_MEMORY_BYTES },
    Term { name: "assembly_bytes", count: 1, bytes: ASSEMBLY_BYTES },
    Term {
        name: "max_connections x send_queue_bytes",
        count: MAX_CONNECTIONS,
        bytes: SEND_QUEUE_BYTES,
    },
    // The text of `max_connections` gives 650 bytes, that of `max_unadmitted` 800.
    Term { name: "max_connections x 650 bytes", count: MAX_CONNECTIONS, bytes: 650 },
    Term {
        name: "(max_unadmitted + 1,024 evicted connections) x 800 bytes",
        count: MAX_UNADMITTED + 1024,
        bytes: 800,
    },
    Term { name: "max_open_files x 1 KiB", count: MAX_OPEN_FILES, bytes: 1024 },
    // Those of the pool, and 32 more of the lane.
    Term {
        name: "(max_free_buffers + 32) x receive_buffer_bytes",
        count: MAX_FREE_BUFFERS + 32,
        bytes: RECEIVE_BUFFER_BYTES,
    },
    // A worker on io_uring lends no more at once; one on epoll has one buffer in use.
    Term {
        name: "1,024 lent receive buffers x receive_buffer_bytes",
        count: 1024,
        bytes: RECEIVE_BUFFER_BYTES,
    },
];

pub(crate) fn budget_bytes() -> usize {
    BUDGET.iter().map(|term| term.count * term.bytes).sum()
}

/// The state of the server after its shutdown.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// True exactly when every operation was completed and no budget was in use.
    pub(crate) is_clean: bool,
    pub(crate) text: String,
}

impl Ending {
    fn of(stats: &Stats) -> Self {
        let Stats { operations_submitted: submitted, operations_completed: completed, .. } = *stats;
        let in_use = [
            stats.connections as u64,
            stats.open_files,
            stats.file_memory_bytes,
            stats.assembly_bytes as u64,
        ];
        let [connections, files, file_memory, assembly] = in_use;
        let text = format!(
            "{submitted} operations submitted, {completed} completed; in use: {connections} \
             connections, {files} files, {file_memory} bytes of file memory, {assembly} of assembly"
        );
        Self { is_clean: submitted == completed && in_use == [0; 4], text }
    }

    fn line(&self) -> String {
        format!("{}: {}", if self.is_clean { "clean" } else { "not clean" }, self.text)
    }

    /// Parses a line of the server.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (state, text) = line.split_once(": ")?;
        let is_clean = match state {
            "clean" => true,
            "not clean" => false,
            _ => return None,
        };
        Some(Self { is_clean, text: text.to_owned() })
    }
}

/// Runs the server until its standard input ends, and prints its [`Ending`]. Each line of the input
/// gets the counters of the endpoint as its answer.
pub(crate) fn run(backend: &str, root: &Path, group: Option<&Path>) -> Result<(), Box<dyn Error>> {
    tether()?;
    if let Some(group) = group {
        // Memory is charged to the group of the time of its allocation, so the process joins first.
        fs::write(group.join("cgroup.procs"), std::process::id().to_string())?;
    }
    let mut options = endpoint_options();
    options.set("backend", backend)?;
    let inbox_path = fixture::inbox(root);
    let inbox =
        Directory::open(&inbox_path)?.with_quota(fixture::QUOTA_BYTES, fixture::QUOTA_FILES)?;
    let outbox = Directory::open(fixture::outbox(root))?;
    let listener = || Listener::new("127.0.0.1:0").options(connection_options());
    let ends = Arc::<Mutex<BTreeMap<String, u64>>>::default();
    let server = FileServer { outbox, inbox, inbox_path, ends: ends.clone() };
    let endpoint = Endpoint::builder(server)
        .options(options)
        .tuning(tuning())
        .listen(listener().name("plain"))
        .listen(listener().name("keyed").key(Key::new(fixture::KEY)?))
        .start();
    let endpoint = match endpoint {
        Ok(endpoint) => endpoint,
        Err(error) => {
            writeln!(io::stdout(), "not available: {error}")?;
            return Ok(());
        }
    };
    if endpoint.backend() != backend {
        let (other, reason) = (endpoint.backend(), endpoint.backend_reason());
        writeln!(io::stdout(), "not available: it runs on {other}: {reason}")?;
        return Ok(());
    }
    let mut line = "listening".to_owned();
    for address in endpoint.addresses() {
        write!(line, " {}", address.socket_addr())?;
    }
    println!("{line}");
    for line in io::stdin().lock().lines() {
        line?;
        let ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(io::stdout(), "{:?}, ends: {ends:?}", endpoint.stats())?;
    }
    endpoint.shutdown(Duration::from_secs(1));
    endpoint.wait()?;
    writeln!(io::stdout(), "{}", Ending::of(&endpoint.stats()).line())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_survives_its_text() {
        for is_clean in [true, false] {
            let ending = Ending { is_clean, text: "2 submitted: 2".to_owned() };
            let parsed = Ending::parse(&ending.line()).expect("an ending");
            assert_eq!((parsed.is_clean, parsed.text), (is_clean, ending.text));
        }
        assert!(Ending::parse("Stats { connections: 1 }").is_none());
    }
}
