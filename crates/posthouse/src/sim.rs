//! The simulation, which tests your own server: deterministic, in virtual time, with faults.
//!
//! The same framework code runs here, unchanged, on a simulated completion port. A run is a pure
//! function of its seed. A failure prints the seed and the way to replay it.
//!
//! ```
//! use std::time::Duration;
//! use posthouse::{Endpoint, Handler, HandlerResult, Message, Peer, sim};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type State = ();
//!     fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
//!         peer.send(message.kind(), message.payload());
//!         Ok(())
//!     }
//! }
//!
//! sim::check(0..20, |world| {
//!     let server = world.start(Endpoint::builder(Echo).listen("10.0.0.1:9990")).unwrap();
//!     let client = world.client("10.0.0.1:9990").unwrap();
//!     client.send(0, b"hello").unwrap();
//!     let reply = client.receive(Duration::from_secs(5)).unwrap();
//!     assert_eq!(reply.payload, b"hello");
//!     drop((client, server));
//! });
//! ```
//!
//! A world belongs to the first thread that uses it, and a call from another thread panics: it
//! would come at an arbitrary moment of the run. The test does the work of other threads between
//! its calls, in a callback or in a script ([`World::script`]).

use std::io;
use std::net::IpAddr;
use std::ops::{Deref, Range};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use posthouse_io::Address;
use posthouse_io::sim::{Network, ScriptsGuard};
// The campaign of `posthouse sim` draws its decisions from it; it is no part of the interface.
pub use posthouse_io::Turn;
#[doc(hidden)]
pub use posthouse_io::sim::SplitMix64;
pub use posthouse_io::sim::{Faults, RawListener, RawStream};

use crate::builder::Builder;
use crate::client::{Client, ClientError};
use crate::directory::Directory;
use crate::endpoint::Endpoint;
use crate::error::StartError;
use crate::handler::Handler;
use crate::options::EndpointOptions;
use crate::sync::Arc;
use crate::target::Target;

/// A simulated network, and everything that was started in it. It has no threads: a call that waits
/// ([`Client::receive`], [`Endpoint::wait`], [`settle`](Self::settle)) drives the world on the
/// caller's thread.
#[derive(Clone, Debug)]
pub struct World {
    network: Network,
    _scripts: Arc<ScriptsGuard>,
}

/// A simulated disk of a [`World`]. Clones refer to the same disk.
#[derive(Clone, Debug)]
pub struct Disk(posthouse_io::sim::Disk);

impl Disk {
    /// Opens the disk as a directory.
    pub fn directory(&self) -> Directory {
        Directory::without_quota(self.0.directory())
    }
}

impl Deref for Disk {
    type Target = posthouse_io::sim::Disk;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The environment variable with the one seed that [`check`] runs.
const SEED_VARIABLE: &str = "POSTHOUSE_SEED";

/// Runs a scenario once for each seed, with [`Faults::typical`]. These faults delay and reorder
/// completions, let operations transfer only a part, and narrow the TCP windows, but none of them
/// ends a connection. For resets, failing connects and shortages of resources, call
/// `world.faults(Faults::from_seed(world.seed()))` in the scenario.
///
/// With `POSTHOUSE_SEED=N` in the environment it runs seed N only.
///
/// # Panics
///
/// If the scenario panics. The function prints the seed and the way to replay it.
#[expect(clippy::print_stderr, reason = "the person who runs the test reads it")]
pub fn check(seeds: Range<u64>, scenario: impl Fn(&World)) {
    let only = std::env::var(SEED_VARIABLE).ok().and_then(|text| text.parse().ok());
    let seeds = only.map_or(seeds, |seed| seed..seed + 1);
    for seed in seeds {
        let world = World::new(seed);
        let run = catch_unwind(AssertUnwindSafe(|| {
            scenario(&world);
            world.settle();
        }));
        if let Err(panic) = run {
            eprintln!(
                "seed {seed} fails; replay it with {SEED_VARIABLE}={seed} in the environment"
            );
            resume_unwind(panic);
        }
    }
}

/// Parses an address of the simulated network.
///
/// # Panics
///
/// If the text is not an IP address with a port.
fn parse(address: &str) -> Address {
    address.parse().expect("an address such as 10.0.0.1:9990")
}

impl World {
    /// Makes a world with [`Faults::typical`].
    pub fn new(seed: u64) -> Self {
        let network = Network::new(seed);
        Self { _scripts: Arc::new(ScriptsGuard::new(&network)), network }
    }

    /// Returns the seed.
    pub fn seed(&self) -> u64 {
        self.network.seed()
    }

    /// Makes a host name resolve to these addresses. `localhost` resolves from the start.
    ///
    /// # Panics
    ///
    /// If there is no address.
    pub fn name(&self, host: &str, addresses: &[IpAddr]) {
        self.network.name(host, addresses);
    }

    /// Makes the look-ups of a host hang, as if no name server answered, until the name is resumed.
    pub fn hang_name(&self, host: &str) {
        self.network.hang_name(host);
    }

    /// Undoes [`hang_name`](Self::hang_name): the look-ups of the host end.
    pub fn resume_name(&self, host: &str) {
        self.network.resume_name(host);
    }

    /// Starts an endpoint in this world. It can listen on every address that has no listener yet.
    ///
    /// # Errors
    ///
    /// The errors of [`Builder::start`].
    pub fn start<H: Handler>(&self, builder: Builder<H>) -> Result<Endpoint<H>, StartError> {
        builder.network(self.network.clone()).start()
    }

    /// Connects a blocking client.
    ///
    /// # Errors
    ///
    /// The errors of [`Client::connect`].
    pub fn client(&self, target: impl Into<Target>) -> Result<Client, ClientError> {
        self.client_with(target, EndpointOptions::default())
    }

    /// Connects a blocking client whose endpoint has these options.
    ///
    /// # Errors
    ///
    /// The errors of [`Client::connect_with`].
    pub fn client_with(
        &self,
        target: impl Into<Target>,
        options: EndpointOptions,
    ) -> Result<Client, ClientError> {
        Client::start(target.into(), options, Some(self.network.clone()))
    }

    /// Returns the disk of this name, and creates it at the first call. [`Disk::directory`] opens
    /// it. The part file of a received file is removed a moment after the file appears: call
    /// [`settle`](Self::settle) before you check that no part file is left.
    pub fn disk(&self, name: &str) -> Disk {
        Disk(self.network.disk(name))
    }

    /// Connects a raw stream, for a peer that follows no protocol.
    ///
    /// # Panics
    ///
    /// If the text is not an address.
    pub fn dial(&self, address: &str) -> RawStream {
        self.network.dial(parse(address))
    }

    /// Connects a raw stream from this source address. The limits per address count the connection
    /// for this address.
    ///
    /// # Panics
    ///
    /// If the text is not an address.
    pub fn dial_from(&self, source: IpAddr, address: &str) -> RawStream {
        self.network.dial_from(source, parse(address))
    }

    /// Opens a raw listener, for a server that follows no protocol. [`RawListener::answer`] serves
    /// its peers in a script.
    ///
    /// # Errors
    ///
    /// The simulated system's error if the address cannot be bound.
    ///
    /// # Panics
    ///
    /// If the text is not an address.
    pub fn serve(&self, address: &str) -> io::Result<RawListener> {
        self.network.serve(parse(address))
    }

    /// Discards, from now on, every attempt to connect to the address, as a firewall that drops
    /// packets does.
    ///
    /// # Panics
    ///
    /// If the text is not an address.
    pub fn blackhole(&self, address: &str) {
        self.network.blackhole(parse(address));
    }

    /// Starts a script, for peers that must act while the test waits inside a call. `step` receives
    /// the present time. It runs as a task of the world: at first, when the time of its
    /// [`Turn::Sleep`] is over, and whenever something has happened to any raw peer of the world (a
    /// connection, bytes, room, an end, a reset). A panic in it reaches the test.
    ///
    /// The script ends when `step` returns [`Turn::Done`], and when the last handle of the world is
    /// dropped. (A script that itself holds such a handle keeps the world for ever.)
    ///
    /// ```
    /// use std::time::Duration;
    /// use posthouse::{Framing, Target, sim::{Turn, World}};
    ///
    /// let world = World::new(1);
    /// let listener = world.serve("10.0.0.1:9990").unwrap();
    /// let mut streams = Vec::new();
    /// world.script("a server that speaks first", move |_| {
    ///     while let Some(stream) = listener.accept() {
    ///         stream.send(b"who is there?\n");
    ///         streams.push(stream);
    ///     }
    ///     Turn::Sleep(None)
    /// });
    /// let client = world.client(Target::new("10.0.0.1:9990").framing(Framing::Lines)).unwrap();
    /// assert_eq!(client.receive(Duration::from_secs(5)).unwrap().payload, b"who is there?");
    /// ```
    pub fn script(&self, name: &str, step: impl FnMut(Duration) -> Turn + Send + 'static) {
        self.network.script(name, step);
    }

    /// Runs the world until no worker has anything to do and no byte is under way. Timers that are
    /// due later do not run, nor do scripts that sleep.
    pub fn settle(&self) {
        self.network.settle();
    }

    /// Runs the world for this time. If the clock jumps over the end of it, everything that is due
    /// then still happens.
    pub fn run_for(&self, time: Duration) {
        self.network.run_until(Some(time), || None::<()>);
    }

    /// Runs the world until `ready` returns `Some`, and returns its value; `None` if the time is
    /// over or nothing can happen any more.
    pub fn run_until<T>(&self, time: Duration, ready: impl FnMut() -> Option<T>) -> Option<T> {
        self.network.run_until(Some(time), ready)
    }

    /// Sets the faults that happen from now on.
    pub fn faults(&self, faults: Faults) {
        self.network.set_faults(faults);
    }

    /// Returns the virtual time since the world began.
    pub fn now(&self) -> Duration {
        self.network.now()
    }

    /// Returns a random number, derived from the seed.
    pub fn random(&self) -> u64 {
        self.network.random()
    }

    /// Returns the number of times that each fault has happened. It is meant for the framework's
    /// own simulated tests (`posthouse sim`).
    #[doc(hidden)]
    pub fn fault_counts(&self) -> posthouse_io::sim::FaultCounts {
        self.network.fault_counts()
    }

    /// Returns a hash over all events so far, which is equal for two runs of one seed.
    pub fn fingerprint(&self) -> u64 {
        self.network.fingerprint()
    }
}
