//! Connections that open, get one echo and close. The client closes first, so the server sees the
//! end of every stream. Loopback connects without the server's help, so blocking calls suffice.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::{Load, Slice, Watch, connect};
use crate::Outcome;
use crate::pattern::Pattern;

/// The number of source addresses, which are used in turn, because a closed connection occupies its
/// pair of ports for a minute.
const SOURCES: u32 = 250;

pub(super) struct ConnectChurn {
    address: SocketAddr,
    pattern: Pattern,
    at_a_time: u32,
    /// The number of connections so far.
    count: u32,
}

impl ConnectChurn {
    pub(super) fn new(address: SocketAddr, payload_bytes: usize, at_a_time: u32) -> Self {
        Self { address, pattern: Pattern::new(payload_bytes), at_a_time, count: 0 }
    }

    fn round(&mut self) -> Outcome {
        let failed = |what: &str, error| format!("cannot {what}: {error}");
        let mut frame = vec![0; self.pattern.frame_bytes()];
        let mut sockets = Vec::new();
        for _ in 0..self.at_a_time {
            let socket = connect(self.address, Some(self.count % SOURCES))
                .map_err(|error| failed("connect", error))?;
            self.pattern.write(self.count, 0, &mut frame);
            send(&socket, &frame, SendFlags::NOSIGNAL)
                .map_err(|error| failed("send", error.into()))?;
            sockets.push((self.count, socket));
            self.count = self.count.wrapping_add(1);
        }
        for (number, socket) in &sockets {
            let (_, got) = recv(socket, frame.as_mut_slice(), RecvFlags::WAITALL)
                .map_err(|error| failed("receive", error.into()))?;
            if got < frame.len() || !self.pattern.is_at(*number, 0, &frame) {
                return Err("a wrong echo".into());
            }
        }
        Ok(())
    }
}

impl Load for ConnectChurn {
    fn drive(&mut self, time: Duration) -> Outcome<Slice> {
        let mut slice = Slice::default();
        let watch = Watch::start();
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.round()?;
            slice.units += u64::from(self.at_a_time);
        }
        watch.stop(&mut slice);
        Ok(slice)
    }
}
