//! The io_uring baseline: an echo server on io_uring without any framework, on one thread.
//!
//! **Frozen**, as `baseline-epoll` is.
//!
//! It has one registered ring (SINGLE_ISSUER, COOP_TASKRUN, DEFER_TASKRUN), multishot accept into
//! direct descriptors, multishot receive from a ring of provided buffers, one send in flight per
//! connection, and one call for submitting and waiting. Whole frames are echoed straight from the
//! receive buffer, which is given back when the send is done. Bytes that arrive while a send is in
//! flight are gathered for the next send. The server does not read from a peer that does not take
//! its replies.
//!
//! The buffers are 128 of 128 KiB. Measured against the epoll baseline (32 pairs each, kernel
//! 6.18): with 16 KiB 1.65 at 1 KiB x 16 and 1.9 at 16 KiB x 4, because the stream arrives in small
//! pieces; with 64 KiB 1.03 and 1.1 to 1.4; with 128 KiB 0.99 and 1.01; 256 KiB is no better. 32 or
//! 64 buffers are too few for 1,000 connections (1.2 to 2.0: receives end without a buffer and are
//! armed again).

#[allow(unsafe_code, reason = "a ring by hand")]
mod buffers;
#[allow(unsafe_code, reason = "a ring by hand")]
mod ring;

use std::io;
use std::os::fd::AsRawFd as _;

use buffers::Buffers;
use posthouse_bench::frame::{self, Refused};
use posthouse_bench::listening;
use ring::{Completion, Queue, Ring};

/// The number of gathered bytes over which a peer is not read from until they have left.
const GATHERED_BYTES_MAX: usize = 1 << 20;
/// The maximum number of simultaneous connections: the size of the table of direct descriptors.
const CONNECTIONS_MAX: u32 = 19_000;

/// The send in flight.
enum Sending {
    Nothing,
    /// The bytes from `at` to `end` of the receive buffer with this id.
    Received {
        id: u16,
        at: usize,
        end: usize,
    },
    /// The gathered bytes from `at` on.
    Gathered {
        bytes: Vec<u8>,
        at: usize,
    },
}

struct Connection {
    /// The beginning of an incomplete frame.
    partial: Vec<u8>,
    /// The replies for the next send.
    gathered: Vec<u8>,
    sending: Sending,
    /// True exactly while the multishot receive is armed.
    receiving: bool,
    phase: Phase,
    /// True exactly when the receive was cancelled because too many bytes are gathered.
    paused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    /// Nothing more is read: the peer's stream ended, failed or violated the protocol.
    Ended,
    /// The close was submitted.
    Closing,
}

impl Connection {
    fn new() -> Self {
        Self {
            partial: Vec::new(),
            gathered: Vec::new(),
            sending: Sending::Nothing,
            receiving: false,
            paused: false,
            phase: Phase::Open,
        }
    }
}

struct Server<'r> {
    queue: Queue<'r>,
    buffers: Buffers,
    listener: i32,
    connections: Vec<Option<Connection>>,
    /// The connections whose receive ended because no buffer was free.
    starved: Vec<u32>,
}

fn main() -> io::Result<()> {
    let number = |name, default| {
        listening::option(name).map_or(default, |word| word.parse().expect("a number"))
    };
    let buffers = Buffers::new(number("--buffers", 128) as u16, number("--buffer-bytes", 131_072));
    let mut ring = Ring::new(CONNECTIONS_MAX)?;
    buffers.register(&ring)?;
    let listener = listening::listen()?;
    let (queue, mut completions) = ring.split()?;
    let mut server = Server {
        queue,
        buffers,
        listener: listener.as_raw_fd(),
        connections: Vec::new(),
        starved: Vec::new(),
    };
    server.queue.accept(server.listener);
    loop {
        server.queue.submit_and_wait()?;
        completions.sync();
        for completion in &mut completions {
            server.complete(&Completion::from(completion));
        }
        server.feed();
    }
}

impl Server<'_> {
    fn complete(&mut self, completion: &Completion) {
        match *completion {
            Completion::Accepted { result, more } => {
                // A shortage of slots refuses one connection and changes nothing else.
                if let Ok(slot) = u32::try_from(result) {
                    self.open(slot);
                }
                if !more {
                    self.queue.accept(self.listener);
                }
            }
            Completion::Received { slot, result, buffer, more } => {
                self.received(slot, result, buffer, more);
            }
            Completion::Sent { slot, result } => self.sent(slot, result),
            Completion::Closed { slot } => self.connections[slot as usize] = None,
            Completion::Other => {}
        }
    }

    fn open(&mut self, slot: u32) {
        let at = slot as usize;
        if self.connections.len() <= at {
            self.connections.resize_with(at + 1, || None);
        }
        self.connections[at] = Some(Connection::new());
        self.settle(slot);
    }

    #[inline]
    fn received(&mut self, slot: u32, result: i32, buffer: Option<u16>, more: bool) {
        let connection = connection(&mut self.connections, slot);
        connection.receiving = more;
        if let Some(id) = buffer {
            let end = usize::try_from(result).unwrap_or(0);
            if connection.phase != Phase::Open
                || !connection.echo(&mut self.queue, &self.buffers, slot, id, end)
            {
                self.buffers.give_back(id);
            }
        }
        match result {
            1.. => {}
            result if result == -libc::ENOBUFS => self.starved.push(slot),
            result if result == -libc::ECANCELED => {}
            _ => connection.phase = connection.phase.max(Phase::Ended),
        }
        if result != -libc::ENOBUFS {
            self.settle(slot);
        }
    }

    #[inline]
    fn sent(&mut self, slot: u32, result: i32) {
        let connection = connection(&mut self.connections, slot);
        let Ok(sent) = usize::try_from(result) else {
            if let Sending::Received { id, .. } = connection.sending {
                self.buffers.give_back(id);
            }
            connection.sending = Sending::Nothing;
            connection.gathered.clear();
            connection.refuse(&mut self.queue, slot);
            return self.settle(slot);
        };
        match &mut connection.sending {
            Sending::Received { id, at, end } => {
                *at += sent;
                if at < end {
                    return self.queue.send(slot, self.buffers.bytes(*id, *at..*end));
                }
                self.buffers.give_back(*id);
            }
            Sending::Gathered { bytes, at } => {
                *at += sent;
                if *at < bytes.len() {
                    return self.queue.send(slot, &bytes[*at..]);
                }
            }
            Sending::Nothing => unreachable!("a send that was not submitted"),
        }
        connection.next_send(&mut self.queue, slot);
        self.settle(slot);
    }

    /// Performs the next step of a connection's state: another receive, a pause, or the close.
    #[inline]
    fn settle(&mut self, slot: u32) {
        let connection = connection(&mut self.connections, slot);
        let quiet = matches!(connection.sending, Sending::Nothing);
        if connection.phase != Phase::Open {
            if quiet && !connection.receiving && connection.phase != Phase::Closing {
                connection.phase = Phase::Closing;
                self.queue.close(slot);
            }
        } else if connection.gathered.len() > GATHERED_BYTES_MAX {
            if connection.receiving && !connection.paused {
                self.queue.cancel_receive(slot);
            }
            connection.paused = true;
        } else if connection.receiving {
            connection.paused = false;
        } else if quiet || !connection.paused {
            connection.paused = false;
            connection.receiving = true;
            self.queue.receive(slot);
        }
    }

    /// Arms the receives that had no buffer, as soon as there are buffers.
    fn feed(&mut self) {
        if self.starved.is_empty() || self.buffers.free() == 0 {
            return;
        }
        for slot in std::mem::take(&mut self.starved) {
            if self.connections[slot as usize].is_some() {
                self.settle(slot);
            }
        }
    }
}

impl Connection {
    /// Echoes the content of a buffer. Returns true if the buffer is in use until the send is done.
    #[inline]
    fn echo(
        &mut self,
        queue: &mut Queue<'_>,
        buffers: &Buffers,
        slot: u32,
        id: u16,
        end: usize,
    ) -> bool {
        let bytes = buffers.bytes(id, 0..end);
        if self.partial.is_empty() && matches!(self.sending, Sending::Nothing) {
            let Ok((whole, _)) = frame::whole(bytes) else {
                self.refuse(queue, slot);
                return false;
            };
            self.partial.extend_from_slice(&bytes[whole..]);
            if whole == 0 {
                return false;
            }
            self.sending = Sending::Received { id, at: 0, end: whole };
            queue.send(slot, &bytes[..whole]);
            return true;
        }
        if self.gather(bytes).is_err() {
            self.refuse(queue, slot);
        } else if matches!(self.sending, Sending::Nothing) {
            self.next_send(queue, slot);
        }
        false
    }

    /// Adds the frames that `bytes` completes to the replies of the next send.
    fn gather(&mut self, mut bytes: &[u8]) -> Result<(), Refused> {
        while !self.partial.is_empty() && !bytes.is_empty() {
            // The incomplete frame is first extended up to its length field, then to its end.
            let (_, need) = frame::whole(&self.partial)?;
            let take = bytes.len().min(need - self.partial.len());
            self.partial.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if frame::whole(&self.partial)?.0 > 0 {
                self.gathered.append(&mut self.partial);
            }
        }
        let (whole, _) = frame::whole(bytes)?;
        self.gathered.extend_from_slice(&bytes[..whole]);
        self.partial.extend_from_slice(&bytes[whole..]);
        Ok(())
    }

    /// Sends the gathered bytes, in the memory of the previous send.
    fn next_send(&mut self, queue: &mut Queue<'_>, slot: u32) {
        let sending = std::mem::replace(&mut self.sending, Sending::Nothing);
        if self.gathered.is_empty() {
            return;
        }
        let mut bytes = match sending {
            Sending::Gathered { bytes, .. } => bytes,
            _ => Vec::new(),
        };
        bytes.clear();
        std::mem::swap(&mut bytes, &mut self.gathered);
        queue.send(slot, &bytes);
        self.sending = Sending::Gathered { bytes, at: 0 };
    }

    /// Stops reading: a shutdown ends the receive, and then the connection is closed.
    fn refuse(&mut self, queue: &mut Queue<'_>, slot: u32) {
        if self.phase == Phase::Open {
            self.phase = Phase::Ended;
            queue.shutdown(slot);
        }
    }
}

fn connection(connections: &mut [Option<Connection>], slot: u32) -> &mut Connection {
    connections[slot as usize].as_mut().expect("the completion belongs to an open connection")
}
