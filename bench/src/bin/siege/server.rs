//! The server under attack: an endpoint with the public interface of Posthouse and small budgets.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use posthouse::{
    ConnectionOptions, Destination, Directory, DisconnectReason, Endpoint, EndpointOptions,
    FinishedTransfer, Handler, HandlerResult, Key, Listener, Message, Offer, OfferResponder, Peer,
    Reject, Source, Tuning,
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
    // The text of `max_connections` gives 600 bytes, that of `max_unadmitted` 200 more.
    Term { name: "max_connections x 600 bytes", count: MAX_CONNECTIONS, bytes: 600 },
    Term { name: "connections not admitted, 128 and 1,024 evicted", count: 1152, bytes: 800 },
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

/// Runs the server until its standard input ends. Each line of the input gets the counters of the
/// endpoint as its answer.
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
        .start()?;
    if endpoint.backend() != backend {
        return Err(format!("runs on {}: {}", endpoint.backend(), endpoint.backend_reason()).into());
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
    endpoint.shutdown(std::time::Duration::from_secs(1));
    Ok(())
}
