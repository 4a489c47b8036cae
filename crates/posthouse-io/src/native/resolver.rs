//! Name look-ups with the system's resolver, on threads of their own because it blocks.
//!
//! The system's call cannot be cancelled, and lasts as long as name servers do not answer. So a
//! look-up owns nothing of the operation that waits for it: cancelling the operation ends it at
//! once, and the thread's late answer is dropped. Each host has at most one look-up, which all
//! operations on that host share, and each look-up has a thread of its own: a host whose name
//! servers do not answer delays no other host.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::PoisonError;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::address::{Address, Name};
use crate::error::{Error, Failure, look_up_timed_out};
use crate::op::{Completion, Outcome};
use crate::options::MAX_LOOK_UPS;
use crate::sync::{Arc, Condvar, Mutex, lock};
use crate::token::Tag;

/// The maximum number of hosts that wait for a thread while all threads look up others; one more
/// fails with [`Failure::NoBuffers`].
const MAX_WAITING: usize = 256;
/// The time after which the look-ups count as hung if none of them has ended. With all threads busy
/// a further look-up then fails with [`Failure::NamesHang`].
const STALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The time after which a thread without work ends.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The threads that look up names.
#[derive(Debug)]
pub(crate) struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    /// Returns the addresses of a host; it blocks.
    resolve: Box<dyn Fn(&str) -> Resolved + Send + Sync>,
    stall_timeout: Duration,
    state: Mutex<State>,
    /// A host waits for a thread, or the resolver is dropped.
    changed: Condvar,
}

/// The addresses of a host, with port 0.
type Resolved = Result<Vec<Address>, Error>;
type Post = Box<dyn FnOnce(Outcome) + Send>;

#[derive(Default)]
struct State {
    /// The look-ups that run or wait for a thread.
    look_ups: BTreeMap<Arc<str>, LookUp>,
    /// The hosts that wait for a thread.
    waiting: VecDeque<Arc<str>>,
    /// The host of each operation that waits for a look-up.
    hosts: BTreeMap<Waiter, Arc<str>>,
    threads: usize,
    /// The number of threads that look up a host. The others are free, or about to start.
    running: usize,
    /// The time at which the last free thread was given a host, or a look-up ended since. It has a
    /// meaning while all threads are busy.
    progress: Option<Instant>,
    callers: u64,
    closed: bool,
}

/// The look-up of one host.
#[derive(Default)]
struct LookUp {
    /// The operations that wait for it. If none is left, the answer is dropped.
    waiters: BTreeMap<Waiter, Post>,
    /// True exactly when a thread performs it.
    is_running: bool,
}

/// One that waits for a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Waiter {
    Operation(Tag),
    /// A thread that blocks.
    Caller(u64),
}

impl Default for Resolver {
    fn default() -> Self {
        Self::with(addresses_of, STALL_TIMEOUT)
    }
}

impl Resolver {
    fn with(
        resolve: impl Fn(&str) -> Resolved + Send + Sync + 'static,
        stall_timeout: Duration,
    ) -> Self {
        let shared = Arc::new(Shared {
            resolve: Box::new(resolve),
            stall_timeout,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        Self { shared }
    }

    /// Looks up `name` and posts the completion from another thread. Returns the completion at once
    /// if the host is an IP address, or if the look-up cannot be made.
    pub(crate) fn look_up(
        &self,
        tag: Tag,
        name: &Name,
        post: impl FnOnce(Completion) + Send + 'static,
    ) -> Option<Completion> {
        if let Some(address) = name.as_address() {
            return Some(terminal(tag, Outcome::Resolved(vec![address])));
        }
        let post = Box::new(move |outcome| post(terminal(tag, outcome)));
        let begun = self.shared.begin(Waiter::Operation(tag), name, post);
        begun.err().map(|error| terminal(tag, Outcome::Failed(error)))
    }

    /// Ends the operation that waits for a look-up. Returns its completion, or `None` if the
    /// operation has ended: then its completion has been posted, or is about to be.
    pub(crate) fn cancel(&self, tag: Tag) -> Option<Completion> {
        let cancelled = self.shared.forget(Waiter::Operation(tag));
        cancelled.then(|| terminal(tag, Outcome::Failed(Error::new(Failure::Cancelled))))
    }

    /// Looks up `name` and waits for the result, for this time at most.
    pub(crate) fn look_up_and_wait(
        &self,
        name: &Name,
        timeout: Duration,
    ) -> io::Result<Vec<Address>> {
        if let Some(address) = name.as_address() {
            return Ok(vec![address]);
        }
        let (tell, told) = channel();
        let waiter = {
            let mut state = lock(&self.shared.state);
            state.callers += 1;
            Waiter::Caller(state.callers)
        };
        let post = Box::new(move |outcome| {
            let _ = tell.send(outcome); // the caller may have stopped waiting
        });
        self.shared.begin(waiter, name, post)?;
        match told.recv_timeout(timeout) {
            Ok(Outcome::Resolved(addresses)) => Ok(addresses),
            Ok(Outcome::Failed(error)) => Err(error.into()),
            Ok(other) => unreachable!("a look-up ended in {other:?}"),
            Err(_) => {
                self.shared.forget(waiter);
                Err(look_up_timed_out())
            }
        }
    }
}

impl Drop for Resolver {
    /// Ends the threads without work. A thread that hangs ends when its look-up does.
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.closed = true;
        let forgotten = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.look_ups));
        drop(state);
        self.shared.changed.notify_all();
        drop(forgotten);
    }
}

impl Shared {
    /// Adds a waiter to the look-up of the host of `name`, which begins if there is none.
    fn begin(self: &Arc<Self>, waiter: Waiter, name: &Name, post: Post) -> Result<(), Error> {
        let Name { host, port } = name.clone();
        let post = Box::new(move |outcome| post(with_port(outcome, port)));
        let mut state = lock(&self.state);
        let host: Arc<str> = if let Some((host, _)) = state.look_ups.get_key_value(&*host) {
            host.clone()
        } else {
            let host: Arc<str> = host.into();
            self.queue(&mut state, host.clone())?;
            host
        };
        if let Some(look_up) = state.look_ups.get_mut(&host) {
            look_up.waiters.insert(waiter, post);
        }
        state.hosts.insert(waiter, host);
        Ok(())
    }

    /// Gives a host to a thread, or queues it if all threads are busy.
    fn queue(self: &Arc<Self>, state: &mut State, host: Arc<str>) -> Result<(), Error> {
        if state.free_threads() == 0
            && state.threads < MAX_LOOK_UPS
            && !self.start_thread(state)
            && state.threads == 0
        {
            return Err(Error::new(Failure::NoBuffers));
        }
        if state.free_threads() == 1 && state.threads == MAX_LOOK_UPS {
            state.progress = Some(Instant::now());
        } else if state.free_threads() == 0 {
            let is_full = state.threads == MAX_LOOK_UPS;
            let hangs = state.progress.is_some_and(|at| at.elapsed() >= self.stall_timeout);
            if is_full && hangs {
                return Err(Error::new(Failure::NamesHang));
            }
            let begin_soon = state.threads - state.running;
            if state.waiting.len() - begin_soon >= MAX_WAITING {
                return Err(Error::new(Failure::NoBuffers));
            }
        }
        state.look_ups.insert(host.clone(), LookUp::default());
        state.waiting.push_back(host);
        self.changed.notify_one();
        Ok(())
    }

    /// Starts a thread. Returns false if the system refuses it.
    fn start_thread(self: &Arc<Self>, state: &mut State) -> bool {
        let shared = self.clone();
        let name = format!("posthouse-names-{}", state.threads);
        let started = thread::Builder::new().name(name).spawn(move || shared.run());
        match &started {
            Ok(_) => state.threads += 1,
            Err(error) => tracing::warn!("cannot start a thread to look up names: {error}"),
        }
        started.is_ok()
    }

    fn run(&self) {
        while let Some(host) = self.next() {
            let resolved = (self.resolve)(&host);
            for post in lock(&self.state).end(&host) {
                post(outcome(&resolved));
            }
        }
    }

    /// Returns the next host, or `None` if the thread ends.
    fn next(&self) -> Option<Arc<str>> {
        let state = lock(&self.state);
        let has_work = |state: &mut State| !state.waiting.is_empty() || state.closed;
        let waited = self
            .changed
            .wait_timeout_while(state, IDLE_TIMEOUT, |state| !has_work(state))
            .unwrap_or_else(PoisonError::into_inner);
        let mut state = waited.0;
        let next = state.waiting.pop_front();
        match &next {
            Some(host) => {
                state.running += 1;
                if let Some(look_up) = state.look_ups.get_mut(host) {
                    look_up.is_running = true;
                }
            }
            None => state.threads -= 1,
        }
        next
    }

    /// Removes a waiter. Returns false if its look-up has ended. A look-up that no thread has begun
    /// is forgotten with its last waiter.
    fn forget(&self, waiter: Waiter) -> bool {
        let mut state = lock(&self.state);
        let Some(host) = state.hosts.remove(&waiter) else { return false };
        let Some(look_up) = state.look_ups.get_mut(&host) else { return false };
        let forgotten = look_up.waiters.remove(&waiter);
        if look_up.waiters.is_empty() && !look_up.is_running {
            state.look_ups.remove(&host);
            state.waiting.retain(|other| *other != host);
        }
        drop(state);
        forgotten.is_some()
    }
}

impl State {
    /// Returns the number of threads that no host has been given to.
    fn free_threads(&self) -> usize {
        (self.threads - self.running).saturating_sub(self.waiting.len())
    }

    /// Ends the look-up of a host. Returns the functions that post the result.
    fn end(&mut self, host: &str) -> impl Iterator<Item = Post> + use<> {
        self.running -= 1;
        self.progress = Some(Instant::now());
        let ended = self.look_ups.remove(host).unwrap_or_default();
        for waiter in ended.waiters.keys() {
            self.hosts.remove(waiter);
        }
        ended.waiters.into_values()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        write!(f, "Resolver({} threads, {} hosts)", state.threads, state.look_ups.len())
    }
}

/// Returns the addresses of a host from the system: at least one, each once. It blocks.
fn addresses_of(host: &str) -> Resolved {
    let not_found = |code| Error { failure: Failure::NameNotFound, code };
    let found = (host, 0).to_socket_addrs();
    let found = found.map_err(|error| not_found(error.raw_os_error().unwrap_or(0)))?;
    let mut addresses: Vec<Address> = Vec::new();
    // The system returns an address once for each of its sources.
    for address in found.map(Address::from) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(not_found(0)) } else { Ok(addresses) }
}

fn outcome(resolved: &Resolved) -> Outcome {
    match resolved {
        Ok(addresses) => Outcome::Resolved(addresses.clone()),
        Err(error) => Outcome::Failed(*error),
    }
}

fn with_port(outcome: Outcome, port: u16) -> Outcome {
    let with_port = |address: Address| {
        let mut address = address.socket_addr();
        address.set_port(port);
        Address::from(address)
    };
    match outcome {
        Outcome::Resolved(addresses) => {
            Outcome::Resolved(addresses.into_iter().map(with_port).collect())
        }
        other => other,
    }
}

fn terminal(tag: Tag, outcome: Outcome) -> Completion {
    Completion { tag, more: false, outcome }
}

#[cfg(test)]
mod tests;
