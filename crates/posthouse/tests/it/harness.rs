//! The environments of a scenario: real sockets or the simulation, pinned or shared.

use std::fmt;
use std::time::{Duration, Instant};

use posthouse::sim::{self, World};
use posthouse::{
    Backend, Builder, Client, ClientError, ConnectionOptions, Endpoint, EndpointOptions, Handler,
    Layout, Listener, Stats, Target, Tuning,
};

use crate::probe::Probe;
use crate::raw::Raw;
use crate::store::Store;

/// The maximum time that a test waits for anything: only a failing test waits that long. In
/// simulation this is virtual time.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The seeds that a scenario runs with, in each layout. The simulation is the same on every system,
/// so on Windows a few seeds are enough.
const SEEDS: std::ops::Range<u64> = 0..if cfg!(windows) { 4 } else { 20 };

/// The environments with real sockets: backend, layout, I/O workers, pending reads.
#[cfg(not(windows))]
const REAL: [(Backend, Layout, usize, usize); 3] = [
    (Backend::Uring, Layout::Pinned, 2, 1),
    (Backend::Readiness, Layout::Pinned, 2, 1),
    (Backend::Readiness, Layout::Shared, 4, 4),
];
#[cfg(windows)]
const REAL: [(Backend, Layout, usize, usize); 2] =
    [(Backend::Iocp, Layout::Shared, 4, 4), (Backend::Iocp, Layout::Pinned, 2, 1)];

/// The options of a scenario: those of its endpoint, and those of the connections of its listener.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub endpoint: EndpointOptions,
    pub connection: ConnectionOptions,
    pub tuning: Tuning,
}

impl Options {
    /// Changes some of the options.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Returns the builder of an endpoint with this listener.
    pub fn builder<H: Handler>(self, handler: H, listener: impl Into<Listener>) -> Builder<H> {
        let listener = listener.into().options(self.connection);
        Endpoint::builder(handler).listen(listener).options(self.endpoint).tuning(self.tuning)
    }
}

/// An environment in which a scenario runs.
pub struct Harness<'w> {
    backend: Backend,
    layout: Layout,
    io_workers: usize,
    pending_reads: usize,
    /// The simulated world, or `None` for real sockets and threads.
    world: Option<&'w World>,
}

/// Runs the scenario on real sockets and in simulation.
pub fn everywhere(scenario: impl Fn(&Harness<'_>)) {
    on_real_sockets(&scenario);
    in_simulation(&scenario);
}

/// Runs the scenario on real sockets, on every backend of this machine, in its layouts.
pub fn on_real_sockets(scenario: impl Fn(&Harness<'_>)) {
    for (backend, layout, io_workers, pending_reads) in REAL {
        if !is_here(backend) {
            continue;
        }
        let harness = Harness { backend, layout, io_workers, pending_reads, world: None };
        eprintln!("on {harness:?}");
        scenario(&harness);
    }
}

/// Reports that this machine lacks something that a test needs. Panics if the environment has
/// `POSTHOUSE_TESTS_NEED_ALL`.
#[track_caller]
pub fn not_tested(why: impl fmt::Display) {
    eprintln!("NOT TESTED: {why}");
    assert!(
        std::env::var_os("POSTHOUSE_TESTS_NEED_ALL").is_none(),
        "POSTHOUSE_TESTS_NEED_ALL is set, so no test may be skipped"
    );
}

/// Returns whether this machine has IPv6. If it has not, reports that the test is skipped.
pub fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::1]:0")
        .map_err(|error| not_tested(format_args!("no IPv6: {error}")))
        .is_ok()
}

/// Returns whether this machine has the backend. Sandboxes forbid io_uring. The part of the test on
/// io_uring is then skipped, or fails if `POSTHOUSE_TESTS_NEED_ALL` is set.
fn is_here(backend: Backend) -> bool {
    if backend != Backend::Uring {
        return true;
    }
    let options = EndpointOptions::default().with_backend(backend).with_io_workers(1);
    match Endpoint::builder(Probe::new()).options(options).start() {
        Ok(endpoint) => {
            // The endpoint ends before the test counts anything.
            endpoint.shutdown(Duration::ZERO);
            endpoint.wait().expect("the call is not made in a callback");
            true
        }
        Err(why) => {
            not_tested(format_args!("{backend:?}: {why}"));
            false
        }
    }
}

/// Runs the scenario in simulation, in both layouts, with every seed.
pub fn in_simulation(scenario: impl Fn(&Harness<'_>)) {
    for (layout, io_workers, pending_reads) in [(Layout::Pinned, 2, 1), (Layout::Shared, 4, 4)] {
        eprintln!("in simulation, {layout}");
        sim::check(SEEDS, |world| {
            let backend = Backend::Auto;
            let world = Some(world);
            scenario(&Harness { backend, layout, io_workers, pending_reads, world });
        });
    }
}

impl fmt::Debug for Harness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let system = if self.is_real() { format!("{:?}", self.backend) } else { "sim".into() };
        write!(f, "{system} {} with {} workers", self.layout, self.io_workers)
    }
}

impl<'w> Harness<'w> {
    /// Returns the same environment with other numbers of workers and pending reads.
    pub fn with(&self, io_workers: usize, pending_reads: usize) -> Self {
        Self { io_workers, pending_reads, ..*self }
    }

    /// Returns the simulated world. Panics on real sockets, so only scenarios for the simulation
    /// call it.
    pub fn world(&self) -> &'w World {
        self.world.expect("this scenario needs the simulation")
    }

    pub fn is_on_uring(&self) -> bool {
        self.is_real() && self.backend == Backend::Uring
    }

    pub fn is_real(&self) -> bool {
        self.world.is_none()
    }

    /// Returns the options of this harness: its layout, and no limit per address.
    pub fn options(&self) -> Options {
        Options {
            endpoint: EndpointOptions::default()
                .with_io_workers(self.io_workers)
                .with_backend(self.backend)
                .with_layout(self.layout)
                .with_max_connections_per_address(0),
            connection: ConnectionOptions::default(),
            tuning: Tuning::default().with_pending_reads(self.pending_reads),
        }
    }

    /// Returns an address to listen on.
    pub fn address(&self) -> &'static str {
        if self.is_real() { "127.0.0.1:0" } else { "10.0.0.1:9990" }
    }

    /// Returns one of several addresses to listen on.
    pub fn address_of(&self, number: u8) -> String {
        if self.is_real() { "127.0.0.1:0".to_owned() } else { format!("10.0.0.{number}:9990") }
    }

    /// Returns an IPv6 address to listen on.
    pub fn address6(&self) -> &'static str {
        if self.is_real() { "[::1]:0" } else { "[fd00::1:1]:9990" }
    }

    pub fn start<H: Handler>(&self, builder: Builder<H>) -> Endpoint<H> {
        let started = match self.world {
            Some(world) => world.start(builder),
            None => builder.start(),
        };
        started.expect("the endpoint starts")
    }

    /// Starts an endpoint that listens, with the options of this harness.
    pub fn serve<H: Handler>(&self, handler: H) -> Endpoint<H> {
        self.serve_with(handler, self.options())
    }

    pub fn serve_with<H: Handler>(&self, handler: H, options: Options) -> Endpoint<H> {
        self.start(options.builder(handler, self.address()))
    }

    /// Starts an endpoint with this listener.
    pub fn serve_at<H: Handler>(&self, handler: H, listener: impl Into<Listener>) -> Endpoint<H> {
        self.start(self.options().builder(handler, listener))
    }

    /// Starts an endpoint without a listener.
    pub fn client_side<H: Handler>(&self, handler: H) -> Endpoint<H> {
        self.client_side_with(handler, self.options())
    }

    /// Starts an endpoint without a listener, with other options. The options of connections are
    /// not used here: they belong to the target of each connection.
    pub fn client_side_with<H: Handler>(&self, handler: H, options: Options) -> Endpoint<H> {
        let Options { endpoint, tuning, .. } = options;
        self.start(Endpoint::builder(handler).options(endpoint).tuning(tuning))
    }

    /// Returns a place for files. In simulation it is the disk of this name.
    pub fn store(&self, name: &str) -> Store {
        match self.world {
            Some(world) => Store::Simulated(world.disk(name)),
            None => Store::real(),
        }
    }

    /// Connects a raw peer to the endpoint's first listener.
    pub fn dial<H: Handler>(&self, endpoint: &Endpoint<H>) -> Raw {
        self.dial_at(endpoint.addresses()[0])
    }

    pub fn dial_at(&self, address: posthouse::Address) -> Raw {
        match self.world {
            Some(world) => Raw::simulated(world.dial(&address.to_string())),
            None => Raw::real(address.socket_addr()),
        }
    }

    /// Connects a blocking client to the endpoint's first listener.
    pub fn client<H: Handler>(&self, endpoint: &Endpoint<H>) -> Client {
        self.client_with(target(endpoint), EndpointOptions::default()).expect("the client connects")
    }

    pub fn client_with(
        &self,
        target: Target,
        options: EndpointOptions,
    ) -> Result<Client, ClientError> {
        match self.world {
            Some(world) => world.client_with(target, options),
            None => Client::connect_with(target, options),
        }
    }

    /// Waits until `ready` returns a value, and returns it.
    pub fn until<T>(&self, what: &str, ready: impl FnMut() -> Option<T>) -> T {
        let value = match self.world {
            Some(world) => world.run_until(PATIENCE, ready),
            None => until_real(ready),
        };
        value.unwrap_or_else(|| panic!("timed out while waiting for {what} on {self:?}"))
    }

    /// Waits until the condition holds.
    pub fn wait_for(&self, what: &str, mut holds: impl FnMut() -> bool) {
        self.until(what, || holds().then_some(()));
    }

    /// Waits for this number of bytes from the endpoint, and takes them from the raw peer.
    pub fn read(&self, raw: &mut Raw, bytes: usize) -> Vec<u8> {
        self.wait_for(&format!("{bytes} bytes"), || raw.received().len() >= bytes);
        raw.take(bytes)
    }

    /// Waits for the next frame that a raw peer receives.
    pub fn read_frame(&self, raw: &mut Raw) -> (u8, Vec<u8>) {
        self.until("a frame", || raw.take_frame())
    }

    /// Waits until the other side has ended or reset the stream of a raw peer.
    pub fn wait_for_end(&self, raw: &mut Raw) {
        self.wait_for("the end of the stream", || raw.is_over());
    }

    /// Checks that an endpoint that echoes messages serves an honest peer.
    pub fn serves<H: Handler>(&self, endpoint: &Endpoint<H>) {
        let client = self.client(endpoint);
        client.send(60, b"honest").expect("the connection is open");
        let reply = client.receive(PATIENCE).expect("a reply arrives");
        assert_eq!((reply.kind, &reply.payload[..]), (60, &b"honest"[..]));
        client.close();
    }

    /// Ends the endpoint at once and checks that it leaves nothing. Returns its last statistics.
    pub fn end<H: Handler>(&self, endpoint: &Endpoint<H>) -> Stats {
        endpoint.shutdown(Duration::ZERO);
        self.ended(endpoint)
    }

    /// Waits for the end of an endpoint and checks that it leaves nothing. Returns its last
    /// statistics.
    pub fn ended<H: Handler>(&self, endpoint: &Endpoint<H>) -> Stats {
        endpoint.wait().expect("the call is not made in a callback");
        let stats = endpoint.stats();
        let left = (stats.connections, stats.sockets, stats.buffers_used, stats.assembly_bytes);
        assert_eq!(left, (0, 0, 0, 0), "left on {self:?}: {stats:?}");
        assert_eq!(stats.operations_submitted, stats.operations_completed, "{self:?}: {stats:?}");
        assert_eq!(stats.connected, stats.disconnected, "{self:?}: {stats:?}");
        stats
    }
}

/// Polls `ready` in real time until it returns a value, for at most [`PATIENCE`].
fn until_real<T>(mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        let value = ready();
        if value.is_some() || Instant::now() > until {
            return value;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Waits until the condition holds, outside of any harness.
#[cfg(target_os = "linux")]
pub fn wait_for_real(what: &str, mut holds: impl FnMut() -> bool) {
    until_real(|| holds().then_some(()))
        .unwrap_or_else(|| panic!("timed out while waiting for {what}"));
}

/// Returns the target of the first listener of an endpoint.
pub fn target<H: Handler>(endpoint: &Endpoint<H>) -> Target {
    Target::new(endpoint.addresses()[0])
}
