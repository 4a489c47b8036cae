//! Your own server, tested in a simulated network: deterministic, in virtual time, with faults.
//!
//! The same framework code runs here, unchanged, on a completion port that is simulated. A run is a
//! pure function of its seed: a failure prints the seed and how to replay it.
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

use std::io;
use std::net::IpAddr;
use std::ops::{Deref, Range};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use posthouse_io::Address;
use posthouse_io::sim::Network;
pub use posthouse_io::sim::{Faults, RawListener, RawStream};

use crate::builder::Builder;
use crate::client::{Client, ClientError};
use crate::directory::Directory;
use crate::endpoint::Endpoint;
use crate::error::StartError;
use crate::handler::Handler;
use crate::options::EndpointOptions;
use crate::target::Target;

/// A simulated network and everything that was started in it. There is one thread, yours: whoever
/// waits ([`Client::receive`], [`Endpoint::wait`], [`settle`](Self::settle)) drives the world.
#[derive(Clone, Debug)]
pub struct World {
    network: Network,
}

/// A simulated disk of a [`World`]. Clones name the same one.
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

/// The environment variable that makes [`check`] run one seed only.
const SEED_VARIABLE: &str = "POSTHOUSE_SEED";

/// Runs a scenario once for each seed, with [`Faults::typical`]: delays, cut and reordered
/// completions, narrow windows, but nothing that ends a connection. For resets, failing connects
/// and shortages say `world.faults(Faults::from_seed(world.seed()))` in the scenario. When it
/// panics, the seed and the way to replay it are printed.
///
/// With `POSTHOUSE_SEED=N` in the environment it runs seed N only.
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
    /// A world with [`Faults::typical`].
    pub fn new(seed: u64) -> Self {
        Self { network: Network::new(seed) }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.network.seed()
    }

    /// Starts an endpoint in this world. It can listen on any address that nobody listens on.
    pub fn start<H: Handler>(&self, builder: Builder<H>) -> Result<Endpoint<H>, StartError> {
        builder.network(self.network.clone()).start()
    }

    /// Connects a blocking client.
    pub fn client(&self, target: impl Into<Target>) -> Result<Client, ClientError> {
        self.client_with(target, EndpointOptions::default())
    }

    /// Connects a blocking client whose endpoint has options of its own.
    pub fn client_with(
        &self,
        target: impl Into<Target>,
        options: EndpointOptions,
    ) -> Result<Client, ClientError> {
        Client::start(target.into(), options, Some(self.network.clone()))
    }

    /// The disk of this name; it is made when it is first asked for. [`Disk::directory`] opens it.
    /// The part of a file that has arrived goes a moment after the file is there:
    /// [`settle`](Self::settle) before you look for parts.
    pub fn disk(&self, name: &str) -> Disk {
        Disk(self.network.disk(name))
    }

    /// A raw stream, for a peer that keeps to no protocol.
    ///
    /// # Panics
    ///
    /// Where the text is no address.
    pub fn dial(&self, address: &str) -> RawStream {
        self.network.dial(parse(address))
    }

    /// The same, from a host of its own: what is counted by address counts it apart.
    ///
    /// # Panics
    ///
    /// Where the text is no address.
    pub fn dial_from(&self, source: IpAddr, address: &str) -> RawStream {
        self.network.dial_from(source, parse(address))
    }

    /// A raw listener, for a server that keeps to no protocol.
    ///
    /// # Panics
    ///
    /// Where the text is no address.
    pub fn serve(&self, address: &str) -> io::Result<RawListener> {
        self.network.serve(parse(address))
    }

    /// From now on attempts to connect to the address vanish, as behind a firewall.
    ///
    /// # Panics
    ///
    /// Where the text is no address.
    pub fn blackhole(&self, address: &str) {
        self.network.blackhole(parse(address));
    }

    /// Lets everything happen that is on its way: until no worker has something to do and no byte
    /// is under way. Timers that are due later stay in the future.
    pub fn settle(&self) {
        self.network.settle();
    }

    /// Lets so much time pass, with everything that happens in it.
    pub fn run_for(&self, time: Duration) {
        self.network.run_until(Some(time), || None::<()>);
    }

    /// Runs until this gives something; `None` when the time is over or nothing can happen.
    pub fn run_until<T>(&self, time: Duration, ready: impl FnMut() -> Option<T>) -> Option<T> {
        self.network.run_until(Some(time), ready)
    }

    /// What goes wrong from now on.
    pub fn faults(&self, faults: Faults) {
        self.network.set_faults(faults);
    }

    /// The virtual time since the world began.
    pub fn now(&self) -> Duration {
        self.network.now()
    }

    /// A random number from the seed.
    pub fn random(&self) -> u64 {
        self.network.random()
    }

    /// Returns how often each fault has happened, for the framework's own campaign.
    #[doc(hidden)]
    pub fn fault_counts(&self) -> posthouse_io::sim::FaultCounts {
        self.network.fault_counts()
    }

    /// A hash over everything that has happened: equal for two runs of one seed.
    pub fn fingerprint(&self) -> u64 {
        self.network.fingerprint()
    }
}
