//! The baseline: an echo server on epoll without any framework, on one thread.
//!
//! **Frozen.** Every ratio of the benchmark refers to this program. Change it only together with
//! all results that are kept.
//!
//! It is edge-triggered, and has one shared receive buffer and one send for all frames of a
//! receive, straight from the receive buffer. A hand-written echo server can do that; a server
//! whose replies differ from their requests cannot. A short read ends a turn without another call,
//! unless the peer's stream has ended. The server does not read from a peer that does not take its
//! replies.
//!
//! Measured against this program (40 pairs each, kernel 6.18): level-triggered 0.97 to 1.03, no
//! difference. Replies encoded into a buffer of their own: 1.00 at 64 B x 1, 1.04 at 64 B x 64,
//! 1.09 at 1 KiB x 16, 1.18 at 16 KiB x 4.

#![forbid(unsafe_code)]

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

use posthouse_bench::listening;
use posthouse_bench::scratch::Scratch;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

const LISTENER: u64 = u64::MAX;
const EVENTS: usize = 1024;

struct Connection {
    socket: OwnedFd,
    /// The beginning of an incomplete frame.
    partial: Vec<u8>,
    /// The bytes that the peer has not taken yet.
    unsent: Vec<u8>,
    /// True exactly when the peer's stream may have ended or failed. Then a short read does not
    /// mean that everything is read.
    hung_up: bool,
}

struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    scratch: Scratch,
}

fn main() -> io::Result<()> {
    let listener = listening::listen()?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut server = Server {
        epoll,
        listener,
        connections: Vec::new(),
        free: Vec::new(),
        scratch: Scratch::default(),
    };
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        match epoll::wait(&server.epoll, spare_capacity(&mut events), None) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        for event in &events {
            match event.data.u64() {
                LISTENER => server.accept()?,
                slot => server.turn(slot as usize, event.flags),
            }
        }
    }
}

impl Server {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = match accept_with(&self.listener, flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(error) => return Err(error.into()),
            };
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.epoll, &socket, EventData::new_u64(slot as u64), interest)?;
            let partial = Vec::new();
            let unsent = Vec::new();
            self.connections[slot] = Some(Connection { socket, partial, unsent, hung_up: false });
        }
    }

    fn turn(&mut self, slot: usize, flags: EventFlags) {
        let Some(connection) = &mut self.connections[slot] else { return };
        connection.hung_up |=
            flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        // Dropping the socket closes it and removes it from the epoll.
        if !connection.turn(flags, &mut self.scratch).unwrap_or(false) {
            self.connections[slot] = None;
            self.free.push(slot);
        }
    }
}

impl Connection {
    /// Returns false if the connection has ended.
    #[inline]
    fn turn(&mut self, flags: EventFlags, scratch: &mut Scratch) -> io::Result<bool> {
        let mut readable = flags.contains(EventFlags::IN);
        if !self.unsent.is_empty() {
            if !flags.contains(EventFlags::OUT) || !self.flush()? {
                return Ok(true);
            }
            // Bytes that arrived meanwhile were left in the socket.
            readable = true;
        }
        while readable || self.hung_up {
            let read = |room: &mut [u8]| {
                recv(&self.socket, room, RecvFlags::empty()).map(|(got, _)| got).map_err(Into::into)
            };
            let received = match scratch.receive(&mut self.partial, read) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            };
            if received.ended {
                return Ok(false);
            }
            let sent = write(&self.socket, received.frames)?;
            if sent < received.frames.len() {
                self.unsent.extend_from_slice(&received.frames[sent..]);
                return Ok(true);
            }
            readable = received.more;
        }
        Ok(true)
    }

    /// Returns true if nothing is left.
    fn flush(&mut self) -> io::Result<bool> {
        let sent = write(&self.socket, &self.unsent)?;
        self.unsent.drain(..sent);
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
        }
        Ok(self.unsent.is_empty())
    }
}

/// Sends as much as the socket takes.
#[inline]
fn write(socket: impl AsFd, mut bytes: &[u8]) -> io::Result<usize> {
    let all = bytes.len();
    while !bytes.is_empty() {
        match send(&socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::AGAIN) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(all - bytes.len())
}
