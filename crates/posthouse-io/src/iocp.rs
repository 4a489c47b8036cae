//! The Windows backend: I/O completion ports.
//!
//! Operations are overlapped calls. Each is a box that the system owns from the call until its
//! packet is dequeued ([`operation::Operation`]). If the provider allows it, a call that ends at
//! once has no packet, and its box comes back from the call itself. A socket's state counts the
//! operations that the system has, and closes the handle only when it has none: after an earlier
//! close, the handle could belong to another socket before the last packet comes.
//!
//! Both layouts use the same code. Shared: all workers take packets from one port. Pinned: each
//! worker has a port of its own, and its locks are never contended.
//!
//! | file | content |
//! |---|---|
//! | `port` | the system's object: packets, and the waker that ends a wait |
//! | `operation` | an operation while the system has it, and the calls that begin one |
//! | `socket` | the state of one socket: its operations, and their results |
//! | `receiving`, `accepting` | the parts of a socket that have several operations in flight |
//! | `watching` | the watch of a socket that is not received from |
//! | `file_ops` | reads and writes of files |
//! | `lane` | a worker's access to a port |

mod accepting;
mod file_ops;
mod lane;
mod operation;
mod port;
mod receiving;
mod socket;
#[cfg(test)]
mod tests;
mod watching;

use std::io;
use std::time::{Duration, Instant};

pub(crate) use self::lane::{IocpCore, IocpLane};
use self::port::Event;
use crate::native::wake::Wake as _;
use crate::options::{Layout, Options};
use crate::sync::Arc;

/// Opens the cores of a port: one for all workers, or one for each.
pub(crate) fn cores(layout: Layout, options: &Options) -> io::Result<Vec<Arc<IocpCore>>> {
    let (count, workers) = match layout {
        Layout::Shared => (1, options.io_workers),
        Layout::Pinned => (options.io_workers, 1),
    };
    (0..count).map(|_| Ok(Arc::new(IocpCore::open(workers, layout, options)?))).collect()
}

/// Sends a packet through a small port and takes it.
pub(crate) fn probe() -> io::Result<()> {
    let (port, waker) = port::open(1)?;
    waker.wake();
    let until = Instant::now() + Duration::from_secs(5);
    let mut heard = false;
    while !heard && Instant::now() < until {
        port.wait::<1>(Some(Duration::from_secs(1)), |event| {
            heard |= matches!(event, Event::Waker);
        })?;
    }
    if heard {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::TimedOut, "a posted packet did not arrive"))
    }
}
