//! The open loop: frames are due at fixed times and sent then, independently of the echoes. The
//! latency of a frame counts from its due time, so a server that stalls is charged for every frame
//! that waited. The loop spins, so that no wake-up of its own is measured.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::sockets::{SILENCE_MAX, Sockets};
use super::{Load, Slice, Watch};
use crate::Outcome;

pub(super) struct Paced {
    sockets: Sockets,
    interval: Duration,
    /// The due times of the frames in flight, for each connection.
    due: Vec<VecDeque<Instant>>,
    /// The number of frames requested since the beginning, for each connection.
    asked: Vec<u64>,
}

impl Paced {
    pub(super) fn open(
        address: SocketAddr,
        payload_bytes: usize,
        connections: u32,
        per_second: u32,
    ) -> Outcome<Self> {
        let sockets = Sockets::open(address, payload_bytes, connections)?;
        let interval = Duration::from_secs(1) / per_second;
        let due = vec![VecDeque::new(); connections as usize];
        Ok(Self { sockets, interval, due, asked: vec![0; connections as usize] })
    }

    fn send_what_is_due(&mut self, next: &mut Instant, count: &mut usize) -> Outcome {
        let now = Instant::now();
        while *next <= now {
            let at = *count % self.due.len();
            self.due[at].push_back(*next);
            self.asked[at] += 1;
            self.sockets.send(at, self.asked[at])?;
            *count += 1;
            *next += self.interval;
        }
        Ok(())
    }

    fn receive_what_is_there(&mut self, slice: &mut Slice) -> Outcome {
        let events = self.sockets.ready(false)?;
        for event in &events {
            let at = event.data.u64() as usize;
            self.sockets.receive(at)?;
            let echoed = self.sockets.streams[at].received / self.sockets.frame_bytes();
            let under_way = (self.asked[at] - echoed) as usize;
            let now = Instant::now();
            while self.due[at].len() > under_way {
                let due = self.due[at].pop_front().expect("the length was just compared");
                let latency = now.duration_since(due).as_nanos();
                slice.latencies_ns.push(u32::try_from(latency).unwrap_or(u32::MAX));
                slice.units += 1;
            }
            self.sockets.send(at, 0)?;
        }
        self.sockets.done(events);
        Ok(())
    }
}

impl Load for Paced {
    fn drive(&mut self, time: Duration) -> Outcome<Slice> {
        let mut slice = Slice::default();
        let watch = Watch::start();
        let start = Instant::now();
        let mut next = start;
        let mut count = 0;
        while start.elapsed() < time {
            self.send_what_is_due(&mut next, &mut count)?;
            self.receive_what_is_there(&mut slice)?;
        }
        while self.sockets.outstanding() > 0 {
            self.receive_what_is_there(&mut slice)?;
            if start.elapsed() > time + SILENCE_MAX {
                return Err("the server is silent".into());
            }
        }
        watch.stop(&mut slice);
        Ok(slice)
    }
}
