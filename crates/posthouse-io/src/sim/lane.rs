//! The lane of a simulated worker, for one step.

use std::time::Duration;

use super::completions::{Delivery, Queued};
use super::stream::Phase;
use super::table::{Owner, SocketKind};
use super::world::World;
use super::{LaneAddr, Network, NewStream};
use crate::address::Address;
use crate::buffer::Buffer;
use crate::handle::{NewSocket, SocketHandle};
use crate::lane_ops::LaneOps;
use crate::op::{Cancel, Completion, Op, Outcome};
use crate::sync::MutexGuard;
use crate::token::{LaneId, Socket, Tag};

#[derive(Debug)]
pub(crate) struct SimLane {
    network: Network,
    worker: usize,
    at: LaneAddr,
    now: Duration,
    /// The number of completions that this step may still take.
    left: usize,
}

impl SimLane {
    pub(super) fn new(
        network: Network,
        worker: usize,
        at: LaneAddr,
        now: Duration,
        batch: usize,
    ) -> Self {
        Self { network, worker, at, now, left: batch }
    }

    /// Locks the world, and checks that this lane's worker is the running one.
    fn enter(&self) -> MutexGuard<'_, World> {
        let mut world = self.network.lock();
        if world.running != Some(self.worker) {
            world.bug("a lane is used outside of its worker's step");
        }
        world
    }
}

impl LaneOps for SimLane {
    fn id(&self) -> LaneId {
        LaneId(self.at.lane as u16)
    }

    fn now(&self) -> Duration {
        self.now
    }

    fn next_completion(&mut self) -> Option<Completion> {
        let mut world = self.enter();
        if self.left == 0 {
            return None;
        }
        let Queued { tag, more, result, .. } = world.take(self.at)?;
        drop(world);
        self.left -= 1;
        let outcome = match result {
            Delivery::Plain(outcome) => outcome,
            Delivery::Accepted(stream, peer) => {
                let handle = Box::new(NewStream::new(self.network.clone(), stream));
                Outcome::Accepted(Box::new(NewSocket { peer, handle }))
            }
        };
        Some(Completion { tag, more, outcome })
    }

    fn should_yield(&mut self) -> bool {
        self.enter().should_yield()
    }

    fn prefers_sendfile(&mut self, _: usize) -> bool {
        let mut world = self.enter();
        let ppm = world.faults.sendfile_ppm;
        world.random.chance(ppm)
    }

    fn submit(&mut self, tag: Tag, op: Op) {
        let mut world = self.enter();
        let at = self.at;
        match op {
            Op::Accept(socket) => {
                let in_flight = world.launch(at, tag, Some(socket));
                world.accept(at, socket, in_flight);
            }
            Op::Connect(socket, address) => {
                let in_flight = world.launch(at, tag, Some(socket));
                world.connect(at, socket, in_flight, address);
            }
            Op::Receive(socket, mode) => {
                let in_flight = world.launch(at, tag, Some(socket));
                world.receive(at, socket, in_flight, mode);
            }
            Op::Watch(socket, mode) => {
                let in_flight = world.launch(at, tag, Some(socket));
                world.watch(at, socket, in_flight, mode);
            }
            Op::Send(socket, gather) => {
                let in_flight = world.launch(at, tag, Some(socket));
                world.send(at, socket, in_flight, gather);
            }
            Op::Close(socket) => {
                let in_flight = world.launch(at, tag, Some(socket));
                world.close(at, socket, in_flight);
            }
            Op::Resolve(name) => {
                let in_flight = world.launch(at, tag, None);
                world.resolve(at, &in_flight, name);
            }
            Op::File(op) => {
                let in_flight = world.launch(at, tag, None);
                world.file(at, in_flight, op);
            }
        }
    }

    fn cancel(&mut self, socket: Socket, what: Cancel) {
        self.enter().cancel(self.at, socket, what);
    }

    fn cancel_look_up(&mut self, tag: Tag) {
        self.enter().cancel_look_up(self.at, tag);
    }

    fn abandon(&mut self, tag: Tag) {
        self.enter().abandon(self.at, tag);
    }

    fn shutdown(&mut self, socket: Socket) {
        self.enter().shutdown(self.at, socket);
    }

    fn reset(&mut self, socket: Socket) {
        self.enter().reset(self.at, socket);
    }

    fn socket(&mut self) -> Socket {
        let mut world = self.enter();
        world.ports[self.at.port].sockets += 1;
        world.new_stream(Owner::Lane(self.at), Phase::Fresh)
    }

    fn adopt(&mut self, handle: Box<dyn SocketHandle>) -> Socket {
        let mut world = self.enter();
        let stream = match handle.downcast::<NewStream>() {
            Some(stream) if stream.is_of(&self.network) => stream,
            Some(_) => world.bug("a socket of another network is adopted"),
            None => world.bug("a socket of a real system is used in simulation"),
        };
        let socket = stream.into_socket();
        world.ports[self.at.port].sockets += 1;
        world.table.entry(socket).expect("a new stream is live").owner = Owner::Lane(self.at);
        socket
    }

    fn local_address(&mut self, socket: Socket) -> Option<Address> {
        match &self.enter().own(self.at, socket).kind {
            SocketKind::Stream(stream) => stream.local,
            SocketKind::Listener(listener) => Some(listener.address()),
        }
    }

    fn recycle(&mut self, buffer: Buffer) {
        self.enter().lane(self.at).pool.give_back(buffer);
    }

    fn wait(&mut self, _: Option<Duration>) {
        unreachable!("a simulated lane has no thread")
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::options::{Layout, Options};
    use crate::sim::SimPort;
    use crate::sync::{Arc, Mutex, lock};
    use crate::turn::Turn;
    use crate::{Lane, lane::LaneKind};

    #[test]
    fn a_lane_used_outside_of_its_step_is_a_bug() {
        // Only code inside this crate can keep a lane beyond its step.
        let network = Network::new(7);
        let port = SimPort::open(network.clone(), Layout::Pinned, &Options::default());
        let kept = Arc::new(Mutex::new(None));
        let slot = kept.clone();
        let step = move |lane: &mut Lane| {
            let LaneKind::Simulated(SimLane { network, worker, at, now, left }) = &lane.kind else {
                unreachable!("this is the simulation");
            };
            *lock(&slot) = Some(SimLane::new(network.clone(), *worker, *at, *now, *left));
            Turn::Done
        };
        port.spawn(LaneId(0), "careless", Box::new(step)).unwrap();
        network.settle();
        let mut lane = lock(&kept).take().expect("the step has run");
        let next = AssertUnwindSafe(|| lane.next_completion());
        let said = catch_unwind(next).expect_err("the checker fires");
        let text = said.downcast_ref::<String>().expect("with a text");
        assert!(text.contains("outside of its worker's step"), "{text}");
    }
}
