//! The campaign of the framework: runs a server and its clients under faults and checks every
//! contract.
//!
//! One seed decides everything: the layout, workers, pending reads, limits, faults, and the actions
//! of the clients. `posthouse sim` runs thousands of seeds.

#![forbid(unsafe_code)]

mod admission;
mod files;
mod held;
mod ledger;
mod names;
mod traffic;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use posthouse::record_layer::{CutRecords, RecordLayer};
use posthouse::sim::{Faults, RawStream, World};
use posthouse::{
    Close, ConnectionOptions, Endpoint, EndpointOptions, Handler, Layout, Listener, Target, Tuning,
};

use held::HeldPeer;
use ledger::{Ledger, Side};
use traffic::{ClientSide, Rng, ServerSide, SimulatedLine};

pub use admission::run_admission;
pub use files::run_files;

/// The counts of a run. [`merge`](Summary::merge) adds up several runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Messages delivered to handlers.
    pub messages: u64,
    /// Requests answered, rejected, timed out or ended by their connection.
    pub requests: u64,
    /// Calls of `connected`.
    pub connections: u64,
    /// Calls of `disconnected`.
    pub disconnections: u64,
    /// Injected faults: resets, failed submissions, shortages, cut and reordered completions.
    pub faults: u64,
    /// Operations submitted to the simulated completion port.
    pub operations: u64,
    /// Successful transfers of files.
    pub files: u64,
    /// Failed transfers of files.
    pub files_failed: u64,
    /// Bytes of files that were not sent because the receiver had them.
    pub resumed_bytes: u64,
    /// Disks that crashed.
    pub crashes: u64,
    /// A hash of all events of the run.
    pub fingerprint: u64,
}

impl Summary {
    /// Adds another run's counts.
    pub fn merge(&mut self, other: &Summary) {
        self.messages += other.messages;
        self.requests += other.requests;
        self.connections += other.connections;
        self.disconnections += other.disconnections;
        self.faults += other.faults;
        self.operations += other.operations;
        self.files += other.files;
        self.files_failed += other.files_failed;
        self.resumed_bytes += other.resumed_bytes;
        self.crashes += other.crashes;
        self.fingerprint ^= other.fingerprint.rotate_left(1);
    }
}

/// A contract that did not hold in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Violation {}

impl Violation {
    fn of(text: String) -> Self {
        Self { text }
    }
}

const SERVER: &str = "10.0.0.1:9990";
/// The virtual time within which everything must arrive after the end of all faults.
const ARRIVAL_TIME: Duration = Duration::from_secs(100);
/// The virtual time after which an endpoint that has not ended counts as hung.
const HANG_TIME: Duration = Duration::from_mins(10);

/// Runs one seed.
///
/// # Errors
///
/// The first contract that was broken.
///
/// # Panics
///
/// If an assertion of the framework or a checker of the simulated port fails. This is a broken
/// contract, too, and the text of the panic names it.
pub fn run(seed: u64) -> Result<Summary, Violation> {
    let mut rng = Rng::new(seed);
    let world = faulty_world(seed);
    let ledger = Arc::new(Ledger::default());
    let stream = Stream::of(seed);
    let settings = settings(&mut rng, stream);
    ledger.started(Side::Server(0), &settings.connection);
    let server_side = ServerSide::new(ledger.clone(), rng.next());
    let server = settings.start(&world, server_side, true);
    let clients = start_clients(&world, &mut rng, &ledger, stream);
    let mut raws: Vec<RawStream> = Vec::new();
    let mut held: Vec<HeldPeer> = Vec::new();
    drive(&world, &mut rng, &ledger, &server, &clients, (&mut raws, &mut held));
    if rng.one_in(2) {
        // After the end of all faults everything that was sent must arrive.
        world.faults(Faults::none());
        ledger.quiesce();
        world.run_for(ARRIVAL_TIME);
        ledger.nothing_is_stuck().map_err(Violation::of)?;
        let limit = Duration::from_millis(settings.connection.paused_end_timeout_ms);
        held.iter().try_for_each(|peer| peer.check(&ledger, limit))?;
    }
    let clients: Vec<_> = clients.into_iter().map(|client| client.endpoint).collect();
    let timeout = Duration::from_millis(rng.below(8_000));
    if rng.one_in(2) {
        for client in &clients {
            client.shutdown(timeout);
        }
    }
    server.shutdown(timeout);
    world.run_until(Duration::from_secs(20), || None::<()>);
    drop((raws, held));
    for client in &clients {
        client.shutdown(Duration::from_secs(1));
    }
    finish(&world, &ledger, &server, &clients)
}

fn faulty_world(seed: u64) -> World {
    let world = World::new(seed);
    world.faults(Faults::from_seed(seed));
    names::setup(&world);
    world
}

/// Locks a mutex and ignores a panic of an earlier holder: the data of the campaign is consistent
/// at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All options of an endpoint and of its connections.
#[derive(Clone, Debug)]
struct Settings {
    endpoint: EndpointOptions,
    connection: ConnectionOptions,
    tuning: Tuning,
    stream: Stream,
}

/// The form of the bytes on the connections of a run.
#[derive(Clone, Copy, Debug)]
enum Stream {
    Plain,
    /// The records of a record layer, cut by this seed.
    Records(u64),
}

impl Stream {
    /// Returns the form for a seed: records in one run of eight.
    fn of(seed: u64) -> Self {
        if seed % 8 == 5 { Stream::Records(seed) } else { Stream::Plain }
    }
}

impl Settings {
    /// Starts an endpoint, and listens if it is a server.
    fn start<H: Handler>(&self, world: &World, handler: H, listens: bool) -> Endpoint<H> {
        let builder = Endpoint::builder(handler).options(self.endpoint.clone());
        let builder = builder.tuning(self.tuning.clone());
        let builder = if listens { builder.listen(self.listener()) } else { builder };
        world.start(builder).expect("a simulated endpoint starts")
    }

    fn listener(&self) -> Listener {
        let listener = Listener::new(SERVER).options(self.connection.clone());
        match self.stream {
            Stream::Plain => listener,
            Stream::Records(seed) => listener.record_layer(move || records(seed)),
        }
    }

    /// Returns the server at this address as a target.
    fn target(&self, address: &str) -> Target {
        let target = Target::new(address).options(self.connection.clone());
        match self.stream {
            Stream::Plain => target,
            Stream::Records(seed) => target.record_layer(move || records(seed)),
        }
    }
}

/// The largest payload that a raw peer accepts: larger than any frame of a run.
const RAW_FRAME_BYTES: usize = 1 << 20;

/// Returns the hello of a raw peer with these features.
fn hello(features: u32) -> Vec<u8> {
    let mut payload = b"POSTHOUS".to_vec();
    payload.extend(1_u16.to_le_bytes());
    payload.extend(features.to_le_bytes());
    payload.extend((RAW_FRAME_BYTES as u32).to_le_bytes());
    payload.extend(0_u32.to_le_bytes());
    payload.extend([7; 16]);
    payload.extend([0; 3]);
    let mut frame = (1 + payload.len() as u32).to_le_bytes().to_vec();
    frame.push(4);
    frame.extend(payload);
    frame
}

fn records(seed: u64) -> Box<dyn RecordLayer> {
    Box::new(CutRecords::new(seed))
}

/// Room for what a side says in one breath: two messages, and an offer or a request for each file.
/// With less the connection would be closed each time.
const MIN_QUEUE_BYTES: usize = 2_000;

/// Draws the options of a server or of a client. Many limits are narrow, so that runs reach them.
fn settings(rng: &mut Rng, stream: Stream) -> Settings {
    let high = 1 + rng.below(40_000) as usize;
    let tuning = Tuning::default()
        .with_pending_reads(1 + rng.below(16) as usize)
        .with_receive_buffer_bytes(1024 << rng.below(5))
        .with_queue_high_bytes(high)
        .with_queue_low_bytes(rng.below(high as u64) as usize)
        .with_turn_messages(1 + rng.below(64) as usize)
        .with_turn_bytes(1 + rng.below(40_000) as usize);
    let endpoint = EndpointOptions::default()
        .with_io_workers(1 + rng.below(8) as usize)
        .with_layout(if rng.one_in(2) { Layout::Pinned } else { Layout::Shared })
        .with_max_connections(if rng.one_in(4) { 4 } else { 64 })
        .with_max_connections_per_address(if rng.one_in(4) { 2 } else { 0 });
    let connection = ConnectionOptions::default()
        .with_send_queue_bytes((high + rng.below(100_000) as usize).max(MIN_QUEUE_BYTES))
        .with_heartbeat_ms(if rng.one_in(2) { 0 } else { 100 + rng.below(5_000) })
        .with_close_timeout_ms(1 + rng.below(3_000))
        .with_connect_timeout_ms(100 + rng.below(10_000))
        .with_admission_timeout_ms(if rng.one_in(4) { 1 + rng.below(5_000) } else { 0 });
    let endpoint = endpoint.with_assembly_bytes(if rng.one_in(8) { 20_000 } else { 1 << 24 });
    let connection = connection.with_max_requests(1 + rng.below(20) as usize);
    let timeout_ms = if rng.one_in(4) { 0 } else { 1 + rng.below(30_000) };
    let connection = connection.with_paused_end_timeout_ms(timeout_ms);
    Settings { endpoint, connection, tuning, stream }
}

struct Client {
    endpoint: Endpoint<ClientSide>,
    settings: Settings,
}

fn start_clients(
    world: &World,
    rng: &mut Rng,
    ledger: &Arc<Ledger>,
    stream: Stream,
) -> Vec<Client> {
    let clients = 1 + rng.below(2);
    (0..clients)
        .map(|_| {
            let side = ClientSide::new(ledger.clone(), rng.next());
            let settings = settings(rng, stream);
            ledger.started(side.side(), &settings.connection);
            Client { endpoint: settings.start(world, side, false), settings }
        })
        .collect()
}

/// Acts as other threads and raw peers would, between the steps of the workers: connects, sends,
/// closes, dials.
fn drive(
    world: &World,
    rng: &mut Rng,
    ledger: &Arc<Ledger>,
    server: &Endpoint<ServerSide>,
    clients: &[Client],
    (rest, held): (&mut Vec<RawStream>, &mut Vec<HeldPeer>),
) {
    let mut raws = Vec::new();
    for _ in 0..4 + rng.below(20) {
        match rng.below(12) {
            0..=3 => {
                let without_hello = rng.one_in(3);
                let client = &clients[rng.below(clients.len() as u64) as usize];
                let target = client.settings.target(&names::server_address(world));
                let target = if without_hello { target.without_hello() } else { target };
                let _ = client.endpoint.connect(target, SimulatedLine::default());
            }
            4 | 5 => ledger.send_from_outside(server, rng),
            6 => {
                let everyone = server.everyone();
                ledger.send_to_group(&everyone);
            }
            7 => {
                if let Some(info) = server.peers().first() {
                    let close = if rng.one_in(2) { Close::abort() } else { Close::graceful() };
                    let _ = server.close(info.id, close);
                }
            }
            8 => raws.push(attack(world, rng)),
            9 => held.push(HeldPeer::dial(world, rng)),
            10 => {
                if let Some(peer) = held.last_mut() {
                    peer.meet_fate(rng);
                }
            }
            _ => match raws.pop() {
                Some(raw) => {
                    match rng.below(4) {
                        0 => raw.reset(),
                        1 => raw.finish(),
                        _ => raw.send(&rng.next().to_le_bytes()),
                    }
                    rest.push(raw);
                }
                None => ledger.answer_kept(world.now().subsec_micros().into()),
            },
        }
        world.run_for(Duration::from_micros(1 << rng.below(20)));
    }
    for peer in held {
        if rng.one_in(2) {
            peer.meet_fate(rng);
        }
    }
    rest.append(&mut raws);
}

/// Dials as a peer that follows no protocol.
fn attack(world: &World, rng: &mut Rng) -> RawStream {
    let raw = world.dial(SERVER);
    match rng.below(6) {
        0 => raw.send(&[0xff; 9]),
        1 => raw.send(&[0, 0, 0, 0, 9]),
        2 => raw.send(&[0x10, 0, 0, 0, 9, 1]),
        3 => raw.send(b"GET / HTTP/1.1\r\n\r\n"),
        4 => raw.stop_reading(),
        _ => raw.send(&rng.next().to_le_bytes()),
    }
    raw
}

/// Waits for the end of endpoints that shut down, and checks that they end and leave nothing.
fn await_end<H: Handler>(world: &World, endpoints: &[Endpoint<H>]) -> Result<(), Violation> {
    let over =
        world.run_until(HANG_TIME, || endpoints.iter().all(Endpoint::has_ended).then_some(()));
    if over.is_none() {
        let left: Vec<String> = endpoints.iter().map(|e| format!("{:?}", e.stats())).collect();
        return Err(Violation { text: format!("C3: the shutdown hangs: {}", left.join("; ")) });
    }
    let tally = world.fault_counts();
    if tally.abandoned > 0 && tally.disk_hangs + tally.clock_jump == 0 {
        let text = format!("C3: abandoned without a hung disk: {}", tally.abandoned);
        return Err(Violation { text });
    }
    for endpoint in endpoints {
        let stats = endpoint.stats();
        let memory = stats.assembly_bytes + stats.file_memory_bytes as usize;
        let rest = stats.connections + stats.sockets + stats.buffers_used + memory;
        let rest = rest + stats.open_files as usize;
        let leaked = stats.operations_submitted - stats.operations_completed;
        if rest > 0 || leaked > tally.abandoned {
            return Err(Violation { text: format!("C1, C3: resources are left: {stats:?}") });
        }
        if stats.connected != stats.disconnected {
            let text = format!("C6: connected and disconnected differ: {stats:?}");
            return Err(Violation { text });
        }
    }
    Ok(())
}

/// Waits for the end of the run, checks it, and returns its counts.
fn finish(
    world: &World,
    ledger: &Arc<Ledger>,
    server: &Endpoint<ServerSide>,
    clients: &[Endpoint<ClientSide>],
) -> Result<Summary, Violation> {
    await_end(world, std::slice::from_ref(server))?;
    await_end(world, clients)?;
    let mut summary = ledger.verdict().map_err(Violation::of)?;
    let operations = clients.iter().map(|client| client.stats().operations_submitted);
    summary.operations = server.stats().operations_submitted + operations.sum::<u64>();
    summary.faults = world.fault_counts().total();
    summary.fingerprint = world.fingerprint();
    Ok(summary)
}
