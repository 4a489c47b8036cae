//! The load on one server, in slices: nothing is in flight before and after a slice.

mod closed;
mod connect_churn;
mod paced;
mod sockets;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::Outcome;

pub(crate) use sockets::connect;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A closed loop: each connection has `depth` frames in flight.
    Echo { payload_bytes: usize, depth: u32, connections: u32 },
    /// An open loop: this number of frames a second, each sent when it is due, independently of the
    /// echoes.
    Paced { payload_bytes: usize, connections: u32, per_second: u32 },
    /// Connections that open, get one echo and close; `at_a_time` of them at a time.
    ConnectChurn { payload_bytes: usize, at_a_time: u32 },
}

impl Work {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Echo { payload_bytes, depth, connections } => {
                format!("{} x {depth}, {} connections", size(payload_bytes), grouped(connections))
            }
            Self::Paced { payload_bytes, connections, per_second } => format!(
                "{} paced at {}/s, {} connections",
                size(payload_bytes),
                grouped(per_second),
                grouped(connections)
            ),
            Self::ConnectChurn { payload_bytes, at_a_time } => {
                format!("connect, echo {}, close; {at_a_time} at a time", size(payload_bytes))
            }
        }
    }

    /// Returns the unit that is counted.
    pub(crate) fn unit(self) -> &'static str {
        if matches!(self, Self::ConnectChurn { .. }) { "connection" } else { "frame" }
    }
}

fn size(bytes: usize) -> String {
    if bytes.is_multiple_of(1024) { format!("{} KiB", bytes / 1024) } else { format!("{bytes} B") }
}

fn grouped(number: u32) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", number / 1000, number % 1000),
    }
}

/// The result of one slice.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// The number of frames echoed, or of connections served.
    pub(crate) units: u64,
    pub(crate) wall: Duration,
    /// The processor time of this process.
    pub(crate) load_cpu: Duration,
    /// The nanoseconds from the due time of a frame to the check of its echo, for paced work only.
    /// In a closed loop a slow server gets fewer frames, so these times would mean little.
    pub(crate) latencies_ns: Vec<u32>,
}

pub(crate) trait Load {
    /// Drives the server for this time and then until every frame has come back.
    fn drive(&mut self, time: Duration) -> Outcome<Slice>;
}

/// Opens connections to the server at `address`, ready for slices of `work`.
pub(crate) fn open(work: Work, address: SocketAddr) -> Outcome<Box<dyn Load>> {
    Ok(match work {
        Work::Echo { payload_bytes, depth, connections } => {
            Box::new(closed::Closed::open(address, payload_bytes, depth, connections)?)
        }
        Work::Paced { payload_bytes, connections, per_second } => {
            Box::new(paced::Paced::open(address, payload_bytes, connections, per_second)?)
        }
        Work::ConnectChurn { payload_bytes, at_a_time } => {
            Box::new(connect_churn::ConnectChurn::new(address, payload_bytes, at_a_time))
        }
    })
}

/// A stop watch for the elapsed time and for the processor time of this thread.
struct Watch {
    wall: Instant,
    cpu: Duration,
}

impl Watch {
    fn start() -> Self {
        Self { wall: Instant::now(), cpu: on_core() }
    }

    fn stop(&self, slice: &mut Slice) {
        slice.wall = self.wall.elapsed();
        slice.load_cpu = on_core().saturating_sub(self.cpu);
    }
}

fn on_core() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
