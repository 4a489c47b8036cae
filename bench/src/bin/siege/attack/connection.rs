//! One connection of an attacker.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    self as sys, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, sockopt,
};

use super::Totals;
use super::kind::Kind;
use crate::frames::{self, OfferReader};

/// The shortest time between two attempts of one connection to connect.
pub(crate) const RECONNECT: Duration = Duration::from_millis(100);
/// The time after which a flood that cannot send resets its connection and begins again.
const BLOCKED: Duration = Duration::from_millis(500);
const SLOW_READ_BYTES: usize = 1024;

pub(crate) struct Connection {
    pub(crate) kind: Kind,
    pub(crate) totals: Totals,
    source: SocketAddr,
    target: SocketAddr,
    /// The shortest time between two turns with frames.
    pace: Duration,
    next_fill: Instant,
    socket: Option<OwnedFd>,
    /// The number of the current socket, which marks its events.
    generation: u32,
    opened: Instant,
    /// The time before which the connection does not connect again.
    not_before: Instant,
    readable: bool,
    writable: bool,
    /// True exactly when an event has shown that the peer has ended or reset the connection.
    hung_up: bool,
    /// The last time at which the socket had room. A connection that only waits for its next turn
    /// is not blocked.
    last_writable: Instant,
    next_read: Instant,
    next_id: u32,
    random: u32,
    out: Vec<u8>,
    offers: OfferReader,
}

impl Connection {
    pub(crate) fn new(
        kind: Kind,
        [source, target]: [SocketAddr; 2],
        pace: Duration,
        now: Instant,
    ) -> Self {
        Self {
            kind,
            totals: Totals::default(),
            source,
            target,
            pace,
            next_fill: now,
            socket: None,
            generation: 0,
            opened: now,
            not_before: now,
            readable: false,
            writable: false,
            hung_up: false,
            last_writable: now,
            next_read: now,
            next_id: 1,
            random: 1,
            out: Vec::new(),
            offers: OfferReader::default(),
        }
    }

    pub(crate) fn on_event(&mut self, generation: u32, flags: EventFlags) {
        if generation == self.generation {
            self.readable |= flags.contains(EventFlags::IN);
            self.writable |= flags.contains(EventFlags::OUT);
            self.hung_up |= flags.intersects(EventFlags::HUP | EventFlags::ERR);
            // An attacker that reads learns of the end from the read.
            self.hung_up |= flags.contains(EventFlags::RDHUP) && !self.kind.reads();
        }
    }

    /// Does the work of one turn. Returns true if there may be more at once.
    pub(crate) fn turn(
        &mut self,
        now: Instant,
        index: u32,
        epoll: &OwnedFd,
        scratch: &mut [u8],
    ) -> bool {
        if self.socket.is_none() {
            if now >= self.not_before {
                self.connect(now, index, epoll);
            }
            return false;
        }
        let is_old = self.kind.lifetime().is_some_and(|lifetime| now - self.opened >= lifetime);
        if self.writable {
            self.last_writable = now;
        }
        let is_blocked = !self.kind.reads() && now - self.last_writable >= BLOCKED;
        if self.hung_up {
            self.totals.ended += 1;
        }
        if self.hung_up || is_old || is_blocked {
            self.close();
            return false;
        }
        let worked = self.read(now, scratch);
        self.write(now) || worked
    }

    fn connect(&mut self, now: Instant, index: u32, epoll: &OwnedFd) {
        self.not_before = now + RECONNECT;
        self.opened = now;
        self.last_writable = now;
        self.next_read = now;
        self.next_id = 1;
        (self.readable, self.writable, self.hung_up) = (false, false, false);
        self.offers = OfferReader::default();
        self.generation = self.generation.wrapping_add(1);
        self.out.clear();
        self.kind.begin(&mut self.out, ids(&mut self.next_id));
        let data = u64::from(self.generation) << 32 | u64::from(index);
        match self.open(data, epoll) {
            Ok(socket) => {
                self.totals.connects += 1;
                self.socket = Some(socket);
            }
            // It is tried again like a connection that ended.
            Err(Errno::CONNREFUSED | Errno::CONNRESET) => self.totals.ended += 1,
            Err(_) => self.totals.failed += 1,
        }
    }

    fn open(&self, data: u64, epoll: &OwnedFd) -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = sys::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        // Closing resets, so that no port waits for the end of a connection.
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        if let Some(bytes) = self.kind.receive_buffer_bytes() {
            sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
        }
        sys::bind(&socket, &self.source)?;
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        match sys::connect(&socket, &self.target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        epoll::add(epoll, &socket, EventData::new_u64(data), interest)?;
        Ok(socket)
    }

    fn close(&mut self) {
        self.socket = None;
        self.generation = self.generation.wrapping_add(1);
    }

    /// Returns true if there may be more to read at once.
    fn read(&mut self, now: Instant, scratch: &mut [u8]) -> bool {
        if !self.readable || !self.kind.reads() || now < self.next_read {
            return false;
        }
        let Some(socket) = &self.socket else { return false };
        let slow = self.kind.slow_read();
        let size = if slow.is_some() { SLOW_READ_BYTES } else { scratch.len() };
        match recv(socket, &mut scratch[..size], RecvFlags::empty()) {
            Ok((0, _)) => self.hung_up = true,
            Ok((bytes, _)) => {
                self.totals.received += bytes as u64;
                if let Some(pause) = slow {
                    self.next_read = now + pause;
                    for id in self.offers.read(&scratch[..bytes]) {
                        frames::push_accept(&mut self.out, id);
                    }
                    return false;
                }
                return true;
            }
            Err(Errno::AGAIN) => self.readable = false,
            Err(_) => self.hung_up = true,
        }
        false
    }

    /// Returns true if there may be more to write at once.
    fn write(&mut self, now: Instant) -> bool {
        let (writes, size) = self.kind.writes(self.random);
        let mut sent = 0;
        for _ in 0..writes {
            if !self.writable || self.hung_up {
                break;
            }
            if self.out.is_empty() {
                if now < self.next_fill {
                    break;
                }
                self.next_fill = now + self.pace;
                self.kind.fill(&mut self.out, ids(&mut self.next_id));
            }
            sent += self.send(size);
        }
        if sent > 0 {
            self.totals.sent += sent as u64;
            self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) >> 1;
        }
        sent > 0 && self.writable
    }

    /// Sends up to `size` bytes and returns how many were sent.
    fn send(&mut self, size: usize) -> usize {
        let Some(socket) = &self.socket else { return 0 };
        let piece = &self.out[..size.min(self.out.len())];
        if piece.is_empty() {
            return 0;
        }
        match send(socket, piece, SendFlags::NOSIGNAL) {
            Ok(bytes) => {
                self.out.drain(..bytes);
                return bytes;
            }
            Err(Errno::AGAIN) => self.writable = false,
            Err(_) => self.hung_up = true,
        }
        0
    }
}

/// Returns the ids of the connecting side in order: they are odd.
fn ids(next: &mut u32) -> impl FnMut() -> u32 {
    move || {
        let id = *next;
        *next = next.wrapping_add(2);
        id
    }
}
