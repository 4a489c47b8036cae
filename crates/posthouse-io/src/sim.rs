//! The simulated backend: the completion port in virtual time.
//!
//! A [`Network`] is a small world of hosts. One seed decides everything in it: the time that bytes
//! travel, the places where they are cut, the worker that runs next, the failures. Any number of
//! ports (servers and clients) share it through
//! [`Backend::Simulation`](crate::Backend::Simulation), and any number of disks
//! ([`Network::disk`]), which can fill, fail, and lose data that was not synced. There is no thread
//! and no clock: the waiting thread drives the world ([`Network::run_until`], a
//! [`Notify`](crate::Notify), [`CompletionPort::drain`](crate::CompletionPort::drain)), one step of
//! one worker or one event at a time. Time moves only when no worker can run. A run is a pure
//! function of its seed and of the driving thread's calls; [`Network::fingerprint`] distinguishes
//! two runs. A call from another thread would come at an arbitrary moment of the run, so it panics:
//! a network belongs to the first thread that uses it.
//!
//! A test that waits inside a call (of a blocking client, say) has scripts for the peers that must
//! act meanwhile: [`Network::script`] and [`RawListener::answer`].
//!
//! The world also checks the code above it. It panics, with its seed and the time in the message,
//! if a socket is closed with operations in flight or used after its close, if a second send is
//! submitted, if a file is changed beside another operation on it or after its publication, if a
//! completion can no longer be taken, if a port is dropped with operations in flight that nobody
//! abandoned, or if workers spin.
//!
//! # Examples
//!
//! ```
//! use posthouse_io::sim::Network;
//! use std::net::SocketAddr;
//!
//! let network = Network::new(7);
//! let address = SocketAddr::from(([127, 0, 0, 1], 9990)).into();
//! let server = network.serve(address)?;
//! let client = network.dial(address);
//! client.send(b"hello");
//! let peer = network.run_until(None, || server.accept()).expect("the client connects");
//! network.settle();
//! assert_eq!(peer.take_received(), b"hello");
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::address::Address;
use crate::handle::SocketHandle;
use crate::notify::Waiting;
use crate::sync::{Arc, Mutex, MutexGuard, lock};
use crate::token::Socket;
use crate::turn::Turn;

mod completions;
mod disk;
mod ending;
mod faults;
mod lane;
mod listener;
mod log;
mod owner;
mod port;
mod random;
mod script;
mod stream;
mod table;
mod worker;
mod world;

pub use disk::Disk;
pub use faults::{FaultCounts, Faults};
pub(crate) use lane::SimLane;
use owner::Owner;
pub(crate) use port::SimPort;
pub use random::{SplitMix64, mix64};
pub use script::{RawListener, RawStream, ScriptsGuard};
use world::World;

/// The number of steps and events in one wait that counts as a livelock.
const MAX_STEPS: u64 = 50_000_000;
/// The number of steps and events that counts as a livelock if time stands still and no operation
/// succeeds.
const MAX_IDLE: u64 = 1_000_000;
/// The maximum time that [`Network::settle`] lets pass.
const MAX_SETTLE: Duration = Duration::from_hours(1);

/// Virtual time since the beginning of the world, in nanoseconds.
type Nanos = u64;

fn nanos(time: Duration) -> Nanos {
    Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

fn duration(time: Nanos) -> Duration {
    Duration::from_nanos(time)
}

/// The address of a lane in the world: its port and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LaneAddr {
    port: usize,
    lane: usize,
}

/// A simulated network. Clones refer to the same network.
#[derive(Clone)]
pub struct Network {
    seed: u64,
    world: Arc<Mutex<World>>,
    owner: Arc<Owner>,
}

impl Network {
    /// Returns a network with [`Faults::typical`].
    pub fn new(seed: u64) -> Self {
        Self::with(seed, Faults::typical())
    }

    /// Returns a network with these faults.
    pub fn with(seed: u64, faults: Faults) -> Self {
        let world = Arc::new(Mutex::new(World::new(seed, faults)));
        Self { seed, world, owner: Arc::default() }
    }

    /// Changes the faults from now on. Existing connections keep their windows.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Returns the seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the virtual time since the network was created.
    pub fn now(&self) -> Duration {
        duration(self.lock().now)
    }

    /// Returns a random number from the seed, for the test that drives the world.
    pub fn random(&self) -> u64 {
        let mut world = self.lock();
        let number = world.random.next();
        world.note(log::Note::Random, number, 0);
        number
    }

    /// Returns the number of times that each fault has happened.
    pub fn fault_counts(&self) -> FaultCounts {
        self.lock().fault_counts
    }

    /// Returns a hash of everything that has happened. Equal seeds and equal drivers give equal
    /// fingerprints. If they do not, the code depends on real time, real randomness or an address.
    pub fn fingerprint(&self) -> u64 {
        self.lock().log.fingerprint()
    }

    /// Starts or stops keeping a line for everything that happens, and returns the lines kept so
    /// far. The first line that differs between two runs of one seed shows where they diverge.
    pub fn trace(&self, on: bool) -> Vec<String> {
        self.lock().log.keep(on)
    }

    // ---- places ----

    /// Makes a host name resolve to these addresses, of which there must be at least one
    /// (asserted). `localhost` resolves from the start.
    pub fn name(&self, host: &str, addresses: &[IpAddr]) {
        assert!(!addresses.is_empty(), "{host} resolves to at least one address");
        self.lock().names.insert(host.into(), addresses.to_vec());
    }

    /// Makes the look-ups of a host hang, as if no name server answered, until the name is resumed.
    /// A port that looks up 64 such hosts fails every further look-up with
    /// [`Failure::NamesHang`](crate::Failure::NamesHang).
    pub fn hang_name(&self, host: &str) {
        self.lock().hung_names.insert(host.into());
    }

    /// Undoes [`hang_name`](Self::hang_name). The hanging look-ups of the host end.
    pub fn resume_name(&self, host: &str) {
        self.lock().resume_name(host);
    }

    /// Makes later connection attempts to the address vanish, so that they never complete.
    pub fn blackhole(&self, address: Address) {
        self.lock().blackholes.insert(address);
    }

    /// Undoes [`blackhole`](Self::blackhole) for later attempts.
    pub fn unblackhole(&self, address: Address) {
        self.lock().blackholes.remove(&address);
    }

    /// Returns a scripted peer that connects to the address. It connects from the loopback address
    /// if the address is a loopback address, and otherwise from a host that all scripted peers
    /// share.
    pub fn dial(&self, address: Address) -> RawStream {
        RawStream::dial(self, None, address)
    }

    /// Returns a scripted peer that connects from the given host.
    pub fn dial_from(&self, source: IpAddr, address: Address) -> RawStream {
        RawStream::dial(self, Some(source), address)
    }

    /// Returns a scripted server. Its accept queue is as long as that of a real server by default.
    ///
    /// # Errors
    ///
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) if a listener has the address already.
    pub fn serve(&self, address: Address) -> io::Result<RawListener> {
        let backlog = crate::options::ListenOptions::default().backlog;
        let (socket, address) = self.lock().listen(address, backlog)?;
        Ok(RawListener::new(self.clone(), socket, address))
    }

    // ---- scripts ----

    /// Starts a script: a task of the world, whoever drives the world. `step` receives the present
    /// time. [`Turn::Sleep`] lasts until its time is over or something happens to any scripted peer
    /// of the world: a connection, bytes, room, an end, a reset. A panic in `step` reaches the
    /// driving thread; waiting in `step` panics.
    ///
    /// # Examples
    ///
    /// ```
    /// use posthouse_io::Turn;
    /// use posthouse_io::sim::Network;
    /// use std::net::SocketAddr;
    /// use std::time::Duration;
    ///
    /// let network = Network::new(7);
    /// let address = SocketAddr::from(([127, 0, 0, 1], 9990)).into();
    /// network.serve(address)?.answer(|peer| peer.send(&peer.take_received()));
    /// let client = network.dial(address);
    /// network.script("late", move |now| {
    ///     if now < Duration::from_secs(1) {
    ///         return Turn::Sleep(Some(Duration::from_secs(1) - now));
    ///     }
    ///     if client.received_bytes() == 0 && client.unsent_bytes() == 0 {
    ///         client.send(b"hello");
    ///     }
    ///     if client.take_received() == b"hello" { Turn::Done } else { Turn::Sleep(None) }
    /// });
    /// network.run_until(Some(Duration::from_secs(2)), || None::<()>);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn script(&self, name: &str, step: impl FnMut(Duration) -> Turn + Send + 'static) {
        self.lock().start_script(name, Box::new(step));
    }

    /// Ends all scripts and drops what they hold. A script that holds a scripted peer also holds
    /// the network, so a network whose scripts never end is never freed.
    ///
    /// # Panics
    ///
    /// Panics in a script or on a worker.
    pub fn end_scripts(&self) {
        assert!(!crate::turn::on_worker(), "a step cannot end the scripts of the world");
        // What a script holds locks the world when it is dropped.
        let ended = self.lock().end_scripts();
        drop(ended);
    }

    // ---- driving ----

    /// Runs one step of a worker, or lets one event happen; time moves to the event if no worker
    /// can run. Returns false if nothing can happen any more.
    pub fn step(&self) -> bool {
        self.step_until(Nanos::MAX)
    }

    /// Drives the world until `ready` returns a value. Returns `None` if `timeout` of virtual time
    /// is over, or nothing can happen any more. If the clock jumps over the end of that time,
    /// everything that is due then still happens.
    ///
    /// # Panics
    ///
    /// Panics on a worker, and with "livelock" if the workers spin.
    pub fn run_until<T>(
        &self,
        timeout: Option<Duration>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        assert!(!crate::turn::on_worker(), "waiting drives the workers: it cannot be done on one");
        let limit = match timeout {
            Some(timeout) => self.lock().now.saturating_add(nanos(timeout)),
            None => Nanos::MAX,
        };
        for _ in 0..MAX_STEPS {
            if let Some(value) = ready() {
                return Some(value);
            }
            if !self.step_until(limit) {
                return ready();
            }
        }
        self.lock().bug("livelock: the wait has reached its maximum number of steps");
    }

    /// Runs until no worker can run and nothing is on its way: no data, no connection attempt, no
    /// look-up, no file operation, no late wake-up. Deadlines of sleeping workers pass only while
    /// something is on its way after them. At most one hour passes.
    pub fn settle(&self) {
        let limit = self.lock().now.saturating_add(nanos(MAX_SETTLE));
        for _ in 0..MAX_STEPS {
            let world = self.lock();
            if world.runnable.is_empty() && world.events.is_empty() {
                return;
            }
            drop(world);
            if !self.step_until(limit) {
                return;
            }
        }
        self.lock().bug("livelock: the world does not settle");
    }

    /// Runs one step if there is anything to do at or before `limit`, or if the clock has jumped
    /// over `limit`, at the time to which it jumped.
    fn step_until(&self, limit: Nanos) -> bool {
        assert!(!crate::turn::on_worker(), "a worker's step cannot drive the world");
        let mut world = self.lock();
        world.repeat_bug();
        if world.runnable.is_empty() && !world.is_event_due() && !world.advance(limit) {
            return false;
        }
        world.idle += 1;
        if world.idle > MAX_IDLE {
            world.bug("livelock: workers spin, time stands still and nothing succeeds");
        }
        if world.is_event_due() && (world.runnable.is_empty() || world.random.coin()) {
            world.happen();
            return true;
        }
        if world.now <= limit {
            world.maybe_jump();
        }
        self.run_worker(world);
        // The step may have caught a checker's panic.
        self.lock().repeat_bug();
        true
    }

    /// Locks the world.
    ///
    /// # Panics
    ///
    /// Panics on a thread that does not own it.
    fn lock(&self) -> MutexGuard<'_, World> {
        self.assert_owned();
        lock(&self.world)
    }

    /// Makes the caller's thread the owner, if there is none yet.
    ///
    /// # Panics
    ///
    /// Panics if another thread owns the world.
    pub(crate) fn assert_owned(&self) {
        self.owner.assert_current(self.seed);
    }
}

impl Waiting for Network {
    /// Does nothing: the waiter drives the world, and checks its condition after each step.
    fn notify_all(&self) {}

    fn wait_until(&self, timeout: Option<Duration>, is_ready: &mut dyn FnMut() -> bool) {
        self.run_until(timeout, || is_ready().then_some(()));
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Network(seed {})", self.seed)
    }
}

/// An accepted stream or a bound listener that is not yet registered with a lane. Dropping it
/// closes it.
#[derive(Debug)]
struct NewStream {
    network: Network,
    /// The socket; `None` if a lane has taken it.
    socket: Option<Socket>,
}

impl NewStream {
    fn new(network: Network, socket: Socket) -> Self {
        Self { network, socket: Some(socket) }
    }

    fn is_of(&self, network: &Network) -> bool {
        Arc::ptr_eq(&self.network.world, &network.world)
    }

    fn into_socket(mut self) -> Socket {
        self.socket.take().expect("it is taken once")
    }
}

impl SocketHandle for NewStream {
    fn refuse(self: Box<Self>) {
        if let Some(socket) = self.socket {
            self.network.lock().reset_now(socket);
        }
    }
}

impl Drop for NewStream {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            self.network.lock().close_unowned(socket);
        }
    }
}
