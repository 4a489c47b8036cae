//! The sink: the baseline server that the attackers attack. It accepts all connections, answers a
//! hello, and discards everything that it receives.

use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

use posthouse_bench::listening::{BACKLOG, tether};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, listen, recv, send};

use crate::frames;

const EVENTS: usize = 1024;
const RECEIVE_BYTES: usize = 64 * 1024;
/// The mark of the events of the standard input, which has no content.
const INPUT: u64 = u64::MAX;

struct Connection {
    socket: OwnedFd,
    /// The answer to the hello, until the first bytes arrive.
    answer: Option<Vec<u8>>,
}

struct Sink {
    epoll: OwnedFd,
    /// The listener without a key, and the one that demands a proof.
    listeners: [TcpListener; 2],
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
}

/// Runs the sink until its standard input ends.
pub(crate) fn run() -> io::Result<()> {
    tether()?;
    let open = || TcpListener::bind("127.0.0.1:0");
    let listeners = [open()?, open()?];
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    for (number, listener) in listeners.iter().enumerate() {
        listener.set_nonblocking(true)?;
        listen(listener, BACKLOG)?;
        epoll::add(&epoll, listener, EventData::new_u64(number as u64), EventFlags::IN)?;
    }
    epoll::add(&epoll, io::stdin(), EventData::new_u64(INPUT), EventFlags::IN)?;
    let [plain, keyed] = [listeners[0].local_addr()?, listeners[1].local_addr()?];
    writeln!(io::stdout(), "listening {plain} {keyed}")?;
    let buffer = vec![0; RECEIVE_BYTES];
    let mut sink = Sink { epoll, listeners, connections: Vec::new(), free: Vec::new(), buffer };
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        match epoll::wait(&sink.epoll, spare_capacity(&mut events), None) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        for event in &events {
            match event.data.u64() {
                INPUT => return Ok(()),
                number @ 0..2 => sink.accept(number as usize)?,
                number => sink.discard(number as usize - 2),
            }
        }
    }
}

impl Sink {
    fn accept(&mut self, number: usize) -> io::Result<()> {
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = match accept_with(&self.listeners[number], flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(error) => return Err(error.into()),
            };
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let data = EventData::new_u64(slot as u64 + 2);
            epoll::add(&self.epoll, &socket, data, EventFlags::IN)?;
            let answer = Some(frames::answer(number == 1));
            self.connections[slot] = Some(Connection { socket, answer });
        }
    }

    fn discard(&mut self, slot: usize) {
        let Some(connection) = &mut self.connections[slot] else { return };
        if !connection.discard(&mut self.buffer) {
            self.connections[slot] = None;
            self.free.push(slot);
        }
    }
}

impl Connection {
    /// Returns false if the connection has ended.
    fn discard(&mut self, buffer: &mut [u8]) -> bool {
        match recv(self.socket.as_fd(), buffer, RecvFlags::empty()) {
            Ok((0, _)) => return false,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return false,
        }
        match self.answer.take() {
            // 46 bytes always fit into the buffer of a new socket.
            Some(answer) => send(&self.socket, &answer, SendFlags::NOSIGNAL).is_ok(),
            None => true,
        }
    }
}
