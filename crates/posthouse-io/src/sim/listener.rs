//! Establishing connections: listeners, connection attempts, accept queues, and names.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::completions::{OpKind, Queued};
use super::stream::{InFlight, Phase};
use super::table::{Owner, SocketKind};
use super::world::{Event, World};
use super::{LaneAddr, Nanos, nanos};
use crate::address::{Address, Name};
use crate::error::{Error, Failure};
use crate::op::Outcome;
use crate::options::MAX_LOOK_UPS;
use crate::token::{Socket, Tag};

/// The number of retries of a connection attempt that meets a full accept queue, before it times
/// out, and the wait before the first. Each wait is twice the last (Linux: six retries, from one
/// second).
const MAX_SYN_RETRIES: u32 = 6;
const FIRST_SYN_RETRY: Duration = Duration::from_secs(1);

/// The first port for connecting ends, and the first for listeners that request any port.
const EPHEMERAL_FIRST: u16 = 32_768;
const CHOSEN_FIRST: u16 = 20_000;

/// A look-up that has not completed.
#[derive(Debug)]
pub(super) struct LookUp {
    at: LaneAddr,
    tag: Tag,
    name: Name,
}

/// A bound listener.
#[derive(Debug)]
pub(super) struct Listening {
    key: (IpAddr, u16),
    pub(super) accept: Option<InFlight>,
    /// The connections that nobody has accepted yet.
    pub(super) queue: VecDeque<Socket>,
    backlog: usize,
}

impl Listening {
    pub(super) fn address(&self) -> Address {
        SocketAddr::from(self.key).into()
    }
}

/// Returns the address of a host of the simulated network, of the family of `like`. The host's
/// number is part of the address.
pub(super) fn host(number: u16, like: IpAddr) -> IpAddr {
    match like {
        _ if like.is_loopback() => like,
        IpAddr::V4(_) => {
            let [high, low] = number.to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(10, 200, high, low))
        }
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number)),
    }
}

impl World {
    // ---- listening ----

    pub(super) fn listen(
        &mut self,
        address: Address,
        backlog: u32,
    ) -> io::Result<(Socket, Address)> {
        let port = match address.port() {
            0 => self.free_port(address.ip()),
            port => port,
        };
        let key = (address.ip(), port);
        if self.listening.contains_key(&key) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "address already in use"));
        }
        let listener = Listening {
            key,
            accept: None,
            queue: VecDeque::new(),
            backlog: backlog.max(1) as usize,
        };
        let socket = self.table.insert(Owner::Nobody, SocketKind::Listener(Box::new(listener)));
        self.listening.insert(key, socket);
        Ok((socket, SocketAddr::from(key).into()))
    }

    fn free_port(&mut self, ip: IpAddr) -> u16 {
        loop {
            let port = CHOSEN_FIRST + self.chosen;
            self.chosen = (self.chosen + 1) % (EPHEMERAL_FIRST - CHOSEN_FIRST);
            if !self.listening.contains_key(&(ip, port)) {
                return port;
            }
        }
    }

    /// Returns the listener at an address, or the one at all addresses with this port.
    fn listener_at(&self, address: Address) -> Option<Socket> {
        let any = match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        // A listener at all IPv6 addresses accepts IPv4 connections, too.
        [address.ip(), any, IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
            .into_iter()
            .find_map(|ip| self.listening.get(&(ip, address.port())).copied())
    }

    /// Closes a listener and resets the connections in its queue.
    fn unlisten(&mut self, socket: Socket) {
        let Some(listener) = self.table.listener(socket) else { return };
        let key = listener.key;
        let queue = std::mem::take(&mut listener.queue);
        if self.listening.get(&key) == Some(&socket) {
            self.listening.remove(&key);
        }
        for waiting in queue {
            self.send_reset(waiting);
            self.table.remove(waiting);
        }
    }

    // ---- accepting ----

    pub(super) fn accept(&mut self, at: LaneAddr, socket: Socket, in_flight: InFlight) {
        self.own(at, socket);
        let Some(listener) = self.table.listener(socket) else {
            self.bug(&format!("{:?} accepts on {socket:?}, which is a stream", in_flight.tag));
        };
        if listener.accept.is_some() {
            self.bug(&format!("a second accept in flight on {socket:?}: {:?}", in_flight.tag));
        }
        listener.accept = Some(in_flight);
        if listener.queue.is_empty() {
            return;
        }
        if self.at_once() {
            self.accept_ready(socket, true);
        } else {
            let when = self.later();
            self.schedule(when, Event::AcceptReady { listener: socket });
        }
    }

    /// Completes a pending accept with the connections in the queue.
    pub(super) fn accept_ready(&mut self, socket: Socket, at_once: bool) {
        let Some(at) = self.table.lane(socket) else { return };
        while let Some(listener) = self.table.listener(socket)
            && let (Some(in_flight), Some(waiting)) =
                (&listener.accept, listener.queue.front().copied())
        {
            let tag = in_flight.tag;
            if self.are_descriptors_short(at) {
                let Some(listener) = self.table.listener(socket) else { return };
                let Some(in_flight) = listener.accept.take() else { return };
                self.fail(at, socket, in_flight, OpKind::Accept, Failure::NoDescriptors, at_once);
                return;
            }
            if let Some(listener) = self.table.listener(socket) {
                listener.queue.pop_front();
            }
            let Some(stream) = self.table.stream(waiting) else { continue };
            stream.queue = None;
            let peer = stream.remote.expect("an accepted stream has a remote address");
            self.complete(at, Queued::accepted(socket, tag, waiting, peer), at_once);
        }
    }

    fn are_descriptors_short(&mut self, at: LaneAddr) -> bool {
        if self.now >= self.ports[at.port].short_until {
            if !self.random.chance(self.faults.no_descriptors_ppm) {
                return false;
            }
            let time = self.random.time(&self.faults.no_descriptors_time);
            self.ports[at.port].short_until = self.now + time;
        }
        self.fault_counts.no_descriptors += 1;
        true
    }

    // ---- connecting ----

    pub(super) fn connect(
        &mut self,
        at: LaneAddr,
        socket: Socket,
        in_flight: InFlight,
        address: Address,
    ) {
        if self.own_stream(at, socket).phase != Phase::Fresh {
            self.bug(&format!("{:?} connects {socket:?}, which has been used", in_flight.tag));
        }
        if self.are_descriptors_short(at) {
            return self.fail(at, socket, in_flight, OpKind::Connect, Failure::NoDescriptors, true);
        }
        self.own_stream(at, socket).connect = Some(in_flight);
        let source = host(self.ports[at.port].host, address.ip());
        self.start_connecting(socket, source, address);
    }

    /// Starts a connection attempt.
    pub(super) fn start_connecting(&mut self, socket: Socket, source: IpAddr, address: Address) {
        let port = self.ephemeral_port(source);
        let Some(stream) = self.table.stream(socket) else { return };
        stream.phase = Phase::Connecting;
        stream.local = Some(Address::from(SocketAddr::new(source, port)));
        stream.remote = Some(address);
        let when = self.arrival();
        self.schedule(when, Event::Syn { from: socket, attempt: 0 });
    }

    /// Returns the next port for connecting ends that no listener of `source` has.
    fn ephemeral_port(&mut self, source: IpAddr) -> u16 {
        loop {
            let port = EPHEMERAL_FIRST + self.ephemeral;
            self.ephemeral = (self.ephemeral + 1) % (u16::MAX - EPHEMERAL_FIRST);
            if self.listener_at(SocketAddr::new(source, port).into()).is_none() {
                return port;
            }
        }
    }

    /// Handles the arrival of a connection attempt at the other side.
    pub(super) fn syn_arrives(&mut self, from: Socket, attempt: u32) {
        let Some(stream) = self.table.stream(from) else { return };
        if stream.phase != Phase::Connecting {
            return;
        }
        let local = stream.local;
        let remote = stream.remote;
        let address = remote.expect("a connecting stream has a remote address");
        if self.blackholes.contains(&address) {
            return;
        }
        // A listener may have come at the very port of the connecting end: both ends are the same.
        let Some(socket) = self.listener_at(address).filter(|_| local != remote) else {
            return self.refuse(from, Failure::Refused);
        };
        if self.random.chance(self.faults.connect_fails_ppm) {
            self.fault_counts.connect_fails += 1;
            let ways = [Failure::Refused, Failure::Unreachable, Failure::TimedOut];
            let failure = ways[self.random.below(ways.len())];
            return self.refuse(from, failure);
        }
        let Some(listener) = self.table.listener(socket) else { return };
        if listener.queue.len() >= listener.backlog {
            self.fault_counts.backlog_full += 1;
            return self.retry_syn(from, attempt);
        }
        let end = self.new_stream(Owner::Nobody, Phase::Open);
        if let Some(stream) = self.table.stream(end) {
            stream.local = remote;
            stream.remote = local;
            stream.peer = Some(from);
            stream.queue = Some(socket);
        }
        if let Some(listener) = self.table.listener(socket) {
            listener.queue.push_back(end);
        }
        self.wake_scripts(socket);
        let when = self.arrival_in_order(from);
        if let Some(stream) = self.table.stream(from) {
            stream.peer = Some(end);
        }
        self.schedule(when, Event::Connected { to: from });
        let back: Nanos = self.arrival() - self.now;
        self.schedule(when + back, Event::AcceptReady { listener: socket });
    }

    fn retry_syn(&mut self, from: Socket, attempt: u32) {
        if attempt >= MAX_SYN_RETRIES {
            return self.refuse(from, Failure::TimedOut);
        }
        let when = self.arrival() + (nanos(FIRST_SYN_RETRY) << attempt);
        self.schedule(when, Event::Syn { from, attempt: attempt + 1 });
    }

    fn refuse(&mut self, from: Socket, failure: Failure) {
        let when = self.arrival();
        self.schedule(when, Event::ConnectFailed { to: from, failure });
    }

    pub(super) fn connected(&mut self, to: Socket) {
        let Some(stream) = self.table.stream(to) else { return };
        if stream.phase != Phase::Connecting {
            return;
        }
        stream.phase = Phase::Open;
        let connect = stream.connect.take();
        if let (Some(at), Some(InFlight { tag, .. })) = (self.table.lane(to), connect) {
            let queued = Queued::new(Some(to), tag, OpKind::Connect, false, Outcome::Connected);
            return self.complete(at, queued, false);
        }
        self.script_sends(to);
        self.wake_scripts(to);
    }

    pub(super) fn connect_failed(&mut self, to: Socket, failure: Failure) {
        let Some(stream) = self.table.stream(to) else { return };
        if stream.phase != Phase::Connecting {
            return;
        }
        stream.phase = Phase::Failed;
        if let Some(in_flight) = stream.connect.take()
            && let Some(at) = self.table.lane(to)
        {
            self.fail(at, to, in_flight, OpKind::Connect, failure, false);
        }
        self.wake_scripts(to);
    }

    // ---- releasing ----

    /// Releases the stream or the listener of a socket, as closing its handle does.
    pub(super) fn release(&mut self, socket: Socket) {
        if self.table.listener(socket).is_some() {
            self.unlisten(socket);
        } else {
            self.detach(socket);
        }
    }

    /// Does the same for a socket that is not registered with a lane, and frees its slot at once.
    pub(super) fn close_unowned(&mut self, socket: Socket) {
        if self.table.entry(socket).is_some() {
            self.release(socket);
            self.table.remove(socket);
        }
    }

    // ---- names ----

    /// Begins a look-up. If the host hangs, the look-up occupies one of the threads of the port.
    pub(super) fn resolve(&mut self, at: LaneAddr, in_flight: &InFlight, name: Name) {
        let InFlight { tag, number } = *in_flight;
        let is_address = name.as_address().is_some();
        let host = (at.port, name.host.clone());
        if !is_address && !self.hung_look_ups.contains(&host) {
            let hanging = self.hung_look_ups.iter().filter(|(port, _)| *port == at.port).count();
            if hanging >= MAX_LOOK_UPS {
                return self.end_look_up(at, tag, failed(Failure::NamesHang), true);
            }
        }
        let hangs = !is_address && self.hung_names.contains(&name.host);
        let range = match is_address {
            true => &self.faults.completion_delay,
            false => &self.faults.lookup_delay,
        };
        let when = self.now + self.random.time(range);
        self.look_ups.insert(number, LookUp { at, tag, name });
        if hangs {
            self.fault_counts.lookup_hangs += 1;
            self.hung_look_ups.insert(host);
        } else {
            self.schedule(when, Event::Resolved { number, tag });
        }
    }

    /// Ends a look-up that nobody awaits any more. If it has completed already, nothing happens.
    pub(super) fn cancel_look_up(&mut self, at: LaneAddr, tag: Tag) {
        let is_it = |look_up: &LookUp| look_up.tag == tag && look_up.at.port == at.port;
        let found = self.look_ups.iter().find(|(_, look_up)| is_it(look_up));
        if let Some(number) = found.map(|(number, _)| *number) {
            self.look_ups.remove(&number);
            self.end_look_up(at, tag, failed(Failure::Cancelled), true);
        }
    }

    /// Lets the hanging look-ups of a host end.
    pub(super) fn resume_name(&mut self, host: &str) {
        self.hung_names.remove(host);
        self.hung_look_ups.retain(|(_, hung)| **hung != *host);
        let of_host = |(_, look_up): &(&u64, &LookUp)| *look_up.name.host == *host;
        let waiting: Vec<_> = self
            .look_ups
            .iter()
            .filter(of_host)
            .map(|(number, look_up)| (*number, look_up.tag))
            .collect();
        for (number, tag) in waiting {
            // A look-up that began before the host hung has an event already: the first one counts.
            let when = self.now + self.random.time(&self.faults.lookup_delay);
            self.schedule(when, Event::Resolved { number, tag });
        }
    }

    /// Returns the addresses of a known name.
    pub(super) fn addresses_of(&self, name: &Name) -> Option<Vec<Address>> {
        let address = |ip: &IpAddr| Address::from(SocketAddr::new(*ip, name.port));
        Some(self.names.get(&name.host)?.iter().map(address).collect())
    }

    pub(super) fn resolved(&mut self, number: u64) {
        let Some(LookUp { at, tag, name }) = self.look_ups.remove(&number) else { return };
        let outcome = match (name.as_address(), self.names.get(&name.host)) {
            (Some(address), _) => Outcome::Resolved(vec![address]),
            (None, Some(_)) if self.random.chance(self.faults.lookup_fails_ppm) => {
                self.fault_counts.lookup_fails += 1;
                failed(Failure::NameNotFound)
            }
            (None, Some(_)) => Outcome::Resolved(self.addresses_of(&name).unwrap_or_default()),
            (None, None) => failed(Failure::NameNotFound),
        };
        self.end_look_up(at, tag, outcome, false);
    }

    fn end_look_up(&mut self, at: LaneAddr, tag: Tag, outcome: Outcome, at_once: bool) {
        self.complete(at, Queued::new(None, tag, OpKind::Resolve, false, outcome), at_once);
    }

    /// Forgets the look-ups of a port that is dropped.
    pub(super) fn forget_look_ups(&mut self, port: usize) {
        self.look_ups.retain(|_, look_up| look_up.at.port != port);
        self.hung_look_ups.retain(|(of, _)| *of != port);
    }
}

fn failed(failure: Failure) -> Outcome {
    Outcome::Failed(Error::new(failure))
}
