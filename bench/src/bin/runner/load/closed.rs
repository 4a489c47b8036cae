//! The closed loop: every echo is answered with another frame at once, so each connection always
//! has the same number of frames in flight.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::sockets::Sockets;
use super::{Load, Slice, Watch};
use crate::Outcome;

pub(super) struct Closed {
    sockets: Sockets,
    depth: u64,
}

impl Closed {
    pub(super) fn open(
        address: SocketAddr,
        payload_bytes: usize,
        depth: u32,
        connections: u32,
    ) -> Outcome<Self> {
        let sockets = Sockets::open(address, payload_bytes, connections)?;
        Ok(Self { sockets, depth: depth.into() })
    }

    fn frames_received(&self) -> u64 {
        let bytes: u64 = self.sockets.streams.iter().map(|stream| stream.received).sum();
        bytes / self.sockets.frame_bytes()
    }
}

impl Load for Closed {
    fn drive(&mut self, time: Duration) -> Outcome<Slice> {
        let mut slice = Slice::default();
        let before = self.frames_received();
        let watch = Watch::start();
        let end = Instant::now() + time;
        let frame_bytes = self.sockets.frame_bytes();
        for at in 0..self.sockets.streams.len() {
            let received = self.sockets.streams[at].received / frame_bytes;
            self.sockets.send(at, received + self.depth)?;
        }
        let mut driving = true;
        while self.sockets.outstanding() > 0 {
            let events = self.sockets.ready(true)?;
            driving = driving && Instant::now() < end;
            for event in &events {
                let at = event.data.u64() as usize;
                self.sockets.receive(at)?;
                let received = self.sockets.streams[at].received / frame_bytes;
                let frames = if driving { received + self.depth } else { 0 };
                self.sockets.send(at, frames)?;
            }
            self.sockets.done(events);
        }
        watch.stop(&mut slice);
        slice.units = self.frames_received() - before;
        Ok(slice)
    }
}
