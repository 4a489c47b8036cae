//! The simulated backend: the completion port in virtual time.
//!
//! A [`Network`] is a small world of hosts that one seed decides about: how long bytes travel,
//! where they are cut, which worker runs next, what fails. Any number of ports (servers and
//! clients) share it through [`Backend::Simulation`](crate::Backend::Simulation), and any number of
//! disks ([`Network::disk`]), which can fill, fail, and lose what was not synced. There is no
//! thread and no clock: whoever waits drives the world ([`Network::run_until`], a
//! [`Notify`](crate::Notify), [`CompletionPort::drain`](crate::CompletionPort::drain)), one step of
//! one worker or one event at a time, and time moves only when no worker can run. A run is a pure
//! function of its seed and of what the driving thread does; [`Network::fingerprint`] tells two
//! runs apart.
//!
//! The world is also a checker of the code above it. It panics, naming its seed and the time, where
//! a socket is closed with operations in flight or used after, a second send is submitted, a file
//! is changed beside another operation on it or where others see it, a completion can no longer be
//! taken, a port is dropped with operations in flight that nobody abandoned, or workers spin.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::address::Address;
use crate::handle::SocketHandle;
use crate::notify::Waiting;
use crate::sync::{Arc, Mutex, MutexGuard, lock};
use crate::token::Socket;

mod completions;
mod disk;
mod ending;
mod faults;
mod lane;
mod listener;
mod log;
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
pub(crate) use port::SimPort;
pub use random::{SplitMix64, mix64};
pub use script::{RawListener, RawStream};
use world::World;

/// Steps and events after which one wait is called a livelock.
const MAX_STEPS: u64 = 50_000_000;
/// Steps and events with time standing still and nothing that succeeds, after which it is, too.
const MAX_IDLE: u64 = 1_000_000;
/// How far [`Network::settle`] lets time go.
const MAX_SETTLE: Duration = Duration::from_hours(1);

/// Virtual time since the world began, in nanoseconds.
type Nanos = u64;

fn nanos(time: Duration) -> Nanos {
    Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

fn duration(time: Nanos) -> Duration {
    Duration::from_nanos(time)
}

/// A lane of a port of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LaneAddr {
    port: usize,
    lane: usize,
}

/// A simulated network: clones name the same one.
#[derive(Clone)]
pub struct Network {
    seed: u64,
    world: Arc<Mutex<World>>,
}

impl Network {
    /// A network with [`Faults::typical`].
    pub fn new(seed: u64) -> Self {
        Self::with(seed, Faults::typical())
    }

    /// A network with these faults.
    pub fn with(seed: u64, faults: Faults) -> Self {
        Self { seed, world: Arc::new(Mutex::new(World::new(seed, faults))) }
    }

    /// Changes the faults from now on; connections keep their windows.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Virtual time since the network was made.
    pub fn now(&self) -> Duration {
        duration(self.lock().now)
    }

    /// A random number from the seed, for the test that drives the world.
    pub fn random(&self) -> u64 {
        let mut world = self.lock();
        let number = world.random.next();
        world.note(log::Note::Random, number, 0);
        number
    }

    /// How often each fault has happened.
    pub fn fault_counts(&self) -> FaultCounts {
        self.lock().fault_counts
    }

    /// A hash over everything that has happened. Equal seeds and equal drivers give equal
    /// fingerprints; where they do not, real time, real chance or an address has slipped in.
    pub fn fingerprint(&self) -> u64 {
        self.lock().log.fingerprint()
    }

    /// Keeps a line for everything that happens, or stops to; gives the lines kept so far. The
    /// first line that differs between two runs of one seed is where they diverge.
    pub fn trace(&self, on: bool) -> Vec<String> {
        self.lock().log.keep(on)
    }

    // ---- places ----

    /// Makes a host name resolve to these addresses (`localhost` does from the start).
    pub fn name(&self, host: &str, addresses: &[IpAddr]) {
        assert!(!addresses.is_empty(), "{host} resolves to at least one address");
        self.lock().names.insert(host.into(), addresses.to_vec());
    }

    /// From now on connection attempts to the address vanish: they never complete.
    pub fn blackhole(&self, address: Address) {
        self.lock().blackholes.insert(address);
    }

    /// Undoes [`blackhole`](Self::blackhole) for attempts that are made from now on.
    pub fn unblackhole(&self, address: Address) {
        self.lock().blackholes.remove(&address);
    }

    /// A scripted peer that connects to the address. It comes from the loopback address where it
    /// goes to one, and else from a host that all scripted peers share.
    pub fn dial(&self, address: Address) -> RawStream {
        RawStream::dial(self, None, address)
    }

    /// A scripted peer that connects from a given host.
    pub fn dial_from(&self, source: IpAddr, address: Address) -> RawStream {
        RawStream::dial(self, Some(source), address)
    }

    /// A scripted server. Its accept queue is as long as a real server's.
    pub fn serve(&self, address: Address) -> io::Result<RawListener> {
        let backlog = crate::options::ListenOptions::default().backlog;
        let (socket, address) = self.lock().listen(address, backlog)?;
        Ok(RawListener::new(self.clone(), socket, address))
    }

    // ---- driving ----

    /// Runs one step of a worker, or lets one event happen, moving time to it where no worker can
    /// run. False: nothing can happen any more.
    pub fn step(&self) -> bool {
        self.step_until(Nanos::MAX)
    }

    /// Drives the world until `ready` gives something. `None`: virtual time is over, or nothing can
    /// happen any more. Panics with "livelock" where the workers spin.
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
        self.lock().bug("livelock: the wait has taken all the steps it may");
    }

    /// Runs until no worker can run and nothing is on its way: no data, no connection attempt, no
    /// look-up, no operation on files, no late wake-up. Deadlines of sleeping workers pass only
    /// while something is on its way after them; at most an hour passes.
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

    /// One step, if there is something to do that is not after `limit`.
    fn step_until(&self, limit: Nanos) -> bool {
        assert!(!crate::turn::on_worker(), "a worker's step cannot drive the world");
        let mut world = self.lock();
        world.repeat_bug();
        if world.now > limit {
            return false;
        }
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
        self.run_worker(world);
        // A checker's verdict on this very step, if code above caught it.
        self.lock().repeat_bug();
        true
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }
}

impl Waiting for Network {
    /// Nobody sleeps here: the waiter drives the world, and checks its condition after each step.
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

/// An accepted stream or a bound listener that no lane has registered yet. Dropping it closes it.
#[derive(Debug)]
struct NewStream {
    network: Network,
    /// `None`: a lane has taken it over.
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
