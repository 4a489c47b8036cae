//! Connections to one server, in one epoll. Each has a stream that is checked byte for byte.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{
    self as sys, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt,
};
use rustix::time::Timespec;

use crate::Outcome;
use crate::pattern::Pattern;

/// The maximum number of bytes moved in one call.
const CALL_BYTES: usize = 256 * 1024;
/// The time after which a silent server has failed.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A connection and the position of its stream, in bytes.
#[derive(Debug)]
pub(super) struct Stream {
    socket: OwnedFd,
    number: u32,
    /// The position up to which bytes may be sent; the position sent so far; the position received
    /// and checked so far.
    allowed: u64,
    sent: u64,
    pub(super) received: u64,
}

pub(super) struct Sockets {
    epoll: OwnedFd,
    pub(super) streams: Vec<Stream>,
    pattern: Pattern,
    memory: Vec<u8>,
    events: Vec<Event>,
    /// The number of bytes that may be sent or were sent, and have not come back.
    outstanding: u64,
}

impl Sockets {
    pub(super) fn open(address: SocketAddr, payload_bytes: usize, count: u32) -> Outcome<Self> {
        let failed = |error: Errno| format!("cannot prepare connections: {error}");
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed)?;
        let mut streams = Vec::new();
        for number in 0..count {
            let socket = connect(address, None)
                .map_err(|error| format!("cannot connect to {address}: {error}"))?;
            ioctl_fionbio(&socket, true).map_err(failed)?;
            let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            epoll::add(&epoll, &socket, EventData::new_u64(number.into()), interest)
                .map_err(failed)?;
            streams.push(Stream { socket, number, allowed: 0, sent: 0, received: 0 });
        }
        let pattern = Pattern::new(payload_bytes);
        let memory = vec![0; CALL_BYTES + 2 * pattern.frame_bytes()];
        let events = Vec::with_capacity(1024);
        Ok(Self { epoll, streams, pattern, memory, events, outstanding: 0 })
    }

    pub(super) fn frame_bytes(&self) -> u64 {
        self.pattern.frame_bytes() as u64
    }

    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Returns the connections that may have data, at once if `wait` is false.
    pub(super) fn ready(&mut self, wait: bool) -> Outcome<Vec<Event>> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let time = if wait { SILENCE_MAX } else { Duration::ZERO };
        let time = Timespec::try_from(time).expect("the time fits");
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&time)) {
            Ok(0) if wait => {
                Err(format!("the server is silent, {} bytes outstanding", self.outstanding))
            }
            Ok(_) | Err(Errno::INTR) => Ok(events),
            Err(error) => Err(format!("cannot wait for echoes: {error}")),
        }
    }

    /// Takes back the memory of [`ready`](Self::ready).
    pub(super) fn done(&mut self, events: Vec<Event>) {
        self.events = events;
    }

    /// Permits the connection to send up to the end of `frames`, counted from its beginning, and
    /// sends as much as the socket takes.
    #[inline]
    pub(super) fn send(&mut self, at: usize, frames: u64) -> Outcome {
        let frame_bytes = self.pattern.frame_bytes() as u64;
        let stream = &mut self.streams[at];
        let allowed = stream.allowed.max(frames * frame_bytes);
        self.outstanding += allowed - stream.allowed;
        stream.allowed = allowed;
        while stream.sent < stream.allowed {
            // Whole frames are written; the part of the first one that was already sent is skipped.
            let first = stream.sent / frame_bytes;
            let skipped = (stream.sent % frame_bytes) as usize;
            let room = (CALL_BYTES as u64 / frame_bytes).max(1);
            let frames = (stream.allowed / frame_bytes - first).min(room);
            let out = &mut self.memory[..(frames * frame_bytes) as usize];
            self.pattern.write(stream.number, first, out);
            match sys::send(&stream.socket, &out[skipped..], SendFlags::NOSIGNAL) {
                Ok(sent) => stream.sent += sent as u64,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(format!("cannot send to the server: {error}")),
            }
        }
        Ok(())
    }

    /// Receives and checks the available bytes. Returns whether there were any.
    #[inline]
    pub(super) fn receive(&mut self, at: usize) -> Outcome<bool> {
        let stream = &mut self.streams[at];
        let before = stream.received;
        loop {
            let room = &mut self.memory[..CALL_BYTES];
            let got = match sys::recv(&stream.socket, room, RecvFlags::empty()) {
                Ok((_, 0)) => return Err("the server closed a connection".into()),
                Ok((_, got)) => got,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(format!("cannot receive from the server: {error}")),
            };
            if !self.pattern.is_at(stream.number, stream.received, &self.memory[..got]) {
                return Err(format!("a wrong echo at byte {} or after", stream.received));
            }
            stream.received += got as u64;
            self.outstanding = self
                .outstanding
                .checked_sub(got as u64)
                .ok_or("the server sent more bytes than it received")?;
            if got < CALL_BYTES {
                break;
            }
        }
        Ok(stream.received > before)
    }
}

/// Opens a blocking connection, from the source address of this number (127.1.0.0 and upwards) if
/// one is given. One address has ports for 14,000 connections that are not bound. Binding takes up
/// to 2 ms if an address has many connections.
pub(crate) fn connect(server: SocketAddr, source: Option<u32>) -> io::Result<OwnedFd> {
    let socket =
        sys::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(SILENCE_MAX))?;
    if let Some(source) = source {
        let [_, _, high, low] = source.to_be_bytes();
        sys::bind(&socket, &SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 0)))?;
    }
    sys::connect(&socket, &server)?;
    Ok(socket)
}
