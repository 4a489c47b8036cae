//! The attackers: one process with plain non-blocking sockets on epoll.
//!
//! A sweep gives each connection one turn of bounded work, so that no attack keeps the others from
//! theirs. In each turn a flood sends as much as its socket takes, up to a bound. Only A7 depends
//! on what it receives: it accepts the offers that answer its gets.

mod connection;
mod kind;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use posthouse_bench::listening::tether;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use connection::Connection;
use kind::{Kind, chosen};
pub(crate) use kind::{describe, is_kind, kinds};

const EVENTS: usize = 1024;
/// The mark of the events of the standard input, which has no content.
const INPUT: u64 = u64::MAX;
/// The pause after a sweep in which no connection had work.
const REST: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// The totals of one kind of attack.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) connects: u64,
    /// The connections that the attacked side ended.
    pub(crate) ended: u64,
    /// The attempts to connect that failed on this side, for example without a free port.
    pub(crate) failed: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, other: Self) {
        self.connects += other.connects;
        self.ended += other.ended;
        self.failed += other.failed;
        self.sent += other.sent;
        self.received += other.received;
    }
}

/// Attacks for `duration`, or until the standard input ends, by the kinds of attack that `only`
/// names, and prints the totals of each, one a line. A connection begins no turn with frames before
/// `pace` has passed since the last one.
pub(crate) fn run(
    [plain, keyed]: [SocketAddr; 2],
    duration: Duration,
    (only, pace): (&str, Duration),
) -> io::Result<()> {
    tether()?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, io::stdin(), EventData::new_u64(INPUT), EventFlags::IN)?;
    let begin = Instant::now();
    let mut connections = Vec::new();
    for attack in chosen(only) {
        let target = if attack.kind == Kind::A3 { keyed } else { plain };
        for number in 0..attack.connections {
            let route = [attack.source(number), target];
            connections.push(Connection::new(attack.kind, route, pace, begin));
        }
    }
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    let mut scratch = vec![0; 64 * 1024];
    let mut is_over = false;
    while !is_over {
        let now = Instant::now();
        is_over = now - begin > duration;
        let mut worked = false;
        for (index, connection) in connections.iter_mut().enumerate() {
            worked |= connection.turn(now, index as u32, &epoll, &mut scratch);
        }
        events.clear();
        let rest = if worked { Timespec { tv_sec: 0, tv_nsec: 0 } } else { REST };
        match epoll::wait(&epoll, spare_capacity(&mut events), Some(&rest)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let data = event.data.u64();
            if data == INPUT {
                is_over = true;
                continue;
            }
            connections[data as u32 as usize].on_event((data >> 32) as u32, event.flags);
        }
    }
    let mut out = io::stdout().lock();
    for attack in chosen(only) {
        let mut totals = Totals::default();
        let same = connections.iter().filter(|connection| connection.kind == attack.kind);
        same.for_each(|connection| totals.add(connection.totals));
        let Totals { connects, ended, failed, sent, received } = totals;
        writeln!(out, "{:?} {connects} {ended} {failed} {sent} {received}", attack.kind)?;
    }
    Ok(())
}
