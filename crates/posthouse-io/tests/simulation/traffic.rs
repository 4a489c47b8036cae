//! An echo server and its clients. They handle completions in any order, pieces of any size, and
//! every transient failure, as the framework above the port has to. The echoes are checked byte by
//! byte.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse_io::sim::{Faults, Network};
use posthouse_io::{
    Address, Cancel, Completion, CompletionPort, Counters, Lane, LaneId, Layout, ListenOptions,
    Listener, Op, Outcome, ReceiveMode, Socket, Tag, Turn,
};

use crate::fixture::{gather, open};

const AGAIN: Duration = Duration::from_millis(20);
const STREAM: u64 = 0xff_ffff;

/// The parameters of a run.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) layout: Layout,
    pub(crate) clients: usize,
    pub(crate) bytes: usize,
}

/// The result of a run.
pub(crate) struct Result {
    pub(crate) fingerprint: u64,
    pub(crate) lines: Vec<String>,
    /// The number of clients that received all of their bytes back.
    pub(crate) whole: usize,
    pub(crate) tally: posthouse_io::sim::FaultCounts,
}

/// The byte that a client sends at a position.
fn byte(client: usize, position: usize) -> u8 {
    (position.wrapping_mul(167) ^ (position >> 8) ^ client.wrapping_mul(59)) as u8
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Accept = 1,
    Connect,
    Receive,
    Send,
    Close,
    CloseListener,
}

fn tag(kind: Kind, peer: usize, sequence: u64) -> Tag {
    Tag((kind as u64) << 56 | (peer as u64) << 24 | sequence)
}

enum Piece {
    Bytes(Vec<u8>),
    End,
    Nothing,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one connection")]
struct Peer {
    socket: Option<Socket>,
    is_connected: bool,
    /// The bytes to send; those in flight come first.
    out: Vec<u8>,
    is_sending: bool,
    shut: bool,
    /// The receives: the next to submit, the next to handle, and those that completed early.
    submitted: u64,
    looked_at: u64,
    early: BTreeMap<u64, Piece>,
    receiving: usize,
    received: usize,
    ended: bool,
    failed: bool,
    closing: bool,
    closed: bool,
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts about one side")]
struct App {
    plan: Plan,
    /// The address to which a client connects; `None` for a server.
    target: Option<Address>,
    adopt: Option<Listener>,
    listener: Option<Socket>,
    accepting: bool,
    peers: Vec<Peer>,
    started: bool,
    stop: bool,
    again: Option<Duration>,
    done: bool,
}

impl App {
    fn step(&mut self, lane: &mut Lane) -> Turn {
        if !std::mem::replace(&mut self.started, true) {
            self.start(lane);
        }
        while let Some(completion) = lane.next_completion() {
            self.handle(lane, completion);
            if lane.should_yield() {
                return Turn::Again;
            }
        }
        if self.again.is_some_and(|at| at <= lane.now()) {
            self.again = None;
            self.retry(lane);
        }
        if self.stop {
            self.finish(lane);
        }
        match self.again {
            _ if self.done => Turn::Done,
            Some(at) => Turn::Sleep(Some(at.saturating_sub(lane.now()))),
            None => Turn::Sleep(None),
        }
    }

    fn start(&mut self, lane: &mut Lane) {
        if let Some(listener) = self.adopt.take() {
            self.listener = Some(lane.adopt_listener(listener));
        }
        if self.target.is_some() {
            for client in 0..self.plan.clients {
                let out = (0..self.plan.bytes).map(|i| byte(client, i)).collect();
                let socket = Some(lane.socket());
                self.peers.push(Peer { socket, out, ..Peer::default() });
            }
        }
        self.retry(lane);
    }

    /// Submits the missing operations: the accept, or connects.
    fn retry(&mut self, lane: &mut Lane) {
        if let Some(listener) = self.listener
            && !self.stop
            && !std::mem::replace(&mut self.accepting, true)
        {
            lane.submit(tag(Kind::Accept, 0, 0), Op::Accept(listener));
        }
        let Some(target) = self.target else { return };
        for (i, peer) in self.peers.iter_mut().enumerate() {
            if let Some(socket) = peer.socket
                && !peer.is_connected
                && !peer.failed
                && !peer.is_sending
            {
                // No other operation is in flight while the client connects.
                peer.is_sending = true;
                lane.submit(tag(Kind::Connect, i, 0), Op::Connect(socket, target));
            }
        }
    }

    fn handle(&mut self, lane: &mut Lane, completion: Completion) {
        let Completion { tag: Tag(tag), more, outcome } = completion;
        let kind = tag >> 56;
        let i = (tag >> 24 & 0xff_ffff) as usize;
        let sequence = tag & STREAM;
        let again = lane.now() + AGAIN;
        match outcome {
            Outcome::Accepted(new) => {
                let socket = Some(lane.adopt(*new));
                self.peers.push(Peer { socket, is_connected: true, ..Peer::default() });
                return self.go_on(lane, self.peers.len() - 1);
            }
            Outcome::Failed(error) if kind == Kind::Accept as u64 => {
                self.accepting = false;
                self.again = (error.is_transient()).then_some(again);
                return;
            }
            Outcome::Closed if kind == Kind::CloseListener as u64 => {
                self.done = true;
                return;
            }
            Outcome::Closed => self.peers[i].closed = true,
            Outcome::Connected => {
                self.peers[i].is_connected = true;
                self.peers[i].is_sending = false;
            }
            Outcome::Failed(error) if kind == Kind::Connect as u64 => {
                self.peers[i].is_sending = false;
                self.peers[i].failed = !error.is_transient();
                self.again = (error.is_transient()).then_some(again).or(self.again);
            }
            Outcome::Sent { bytes, gather } => {
                assert!(bytes <= gather.len());
                self.peers[i].out.drain(..bytes);
                self.peers[i].is_sending = false;
            }
            Outcome::Failed(_) if kind == Kind::Send as u64 => {
                self.peers[i].is_sending = false;
                self.peers[i].failed = true;
            }
            Outcome::Received(buffer) => {
                let piece = Piece::Bytes(buffer.to_vec());
                lane.recycle(buffer);
                self.received(i, sequence, more, piece);
            }
            Outcome::Ended => self.received(i, sequence, more, Piece::End),
            Outcome::Failed(error) => {
                self.peers[i].failed |= !error.is_transient();
                self.received(i, sequence, more, Piece::Nothing);
            }
            Outcome::Resolved(_) | Outcome::File(_) => unreachable!(),
        }
        self.go_on(lane, i);
    }

    fn received(&mut self, i: usize, sequence: u64, more: bool, piece: Piece) {
        let is_client = self.target.is_some();
        let peer = &mut self.peers[i];
        peer.receiving -= usize::from(!more);
        let sequence = if sequence == STREAM { peer.looked_at } else { sequence };
        assert!(peer.early.insert(sequence, piece).is_none(), "a sequence number told twice");
        while let Some(piece) = peer.early.remove(&peer.looked_at) {
            peer.looked_at += 1;
            match piece {
                Piece::Bytes(bytes) => {
                    assert!(!bytes.is_empty() && !peer.ended);
                    if is_client {
                        let expected = (peer.received..).map(|at| byte(i, at));
                        assert!(
                            bytes.iter().copied().eq(expected.take(bytes.len())),
                            "the numbers are out of order"
                        );
                    } else {
                        peer.out.extend(&bytes);
                    }
                    peer.received += bytes.len();
                }
                Piece::End => peer.ended = true,
                Piece::Nothing => {}
            }
        }
    }

    /// Submits the next operations of a connection.
    fn go_on(&mut self, lane: &mut Lane, i: usize) {
        let stream_mode = self.plan.layout == Layout::Pinned && self.plan.seed.is_multiple_of(2);
        let pending = if stream_mode { 1 } else { 1 + (self.plan.seed / 2 % 4) as usize };
        let is_client = self.target.is_some();
        let peer = &mut self.peers[i];
        let Some(socket) = peer.socket.filter(|_| !peer.closing) else { return };
        if peer.failed {
            lane.cancel(socket, Cancel::Everything);
            if !peer.is_sending && peer.receiving == 0 {
                peer.closing = true;
                lane.submit(tag(Kind::Close, i, 0), Op::Close(socket));
            }
            return;
        }
        if !peer.is_connected {
            return;
        }
        while !peer.ended && peer.receiving < pending {
            peer.receiving += 1;
            if stream_mode {
                lane.submit(
                    tag(Kind::Receive, i, STREAM),
                    Op::Receive(socket, ReceiveMode::Stream),
                );
            } else {
                let sequence = peer.submitted.max(peer.looked_at);
                peer.submitted = sequence + 1;
                lane.submit(
                    tag(Kind::Receive, i, sequence),
                    Op::Receive(socket, ReceiveMode::Once),
                );
            }
        }
        if !peer.out.is_empty() && !peer.is_sending {
            peer.is_sending = true;
            lane.submit(tag(Kind::Send, i, 0), Op::Send(socket, gather(&peer.out)));
        }
        let sent = peer.out.is_empty() && !peer.is_sending;
        if sent && (is_client || peer.ended) && !std::mem::replace(&mut peer.shut, true) {
            lane.shutdown(socket);
        }
        if peer.ended && peer.shut && peer.receiving == 0 {
            peer.closing = true;
            lane.submit(tag(Kind::Close, i, 0), Op::Close(socket));
        }
    }

    /// Ends the remaining connections, and then the worker, once the test has requested it.
    fn finish(&mut self, lane: &mut Lane) {
        for i in 0..self.peers.len() {
            let peer = &mut self.peers[i];
            if let Some(socket) = peer.socket.filter(|_| !peer.closing && !peer.failed) {
                peer.failed = true;
                lane.reset(socket);
                self.go_on(lane, i);
            }
        }
        let closed = self.peers.iter().all(|peer| peer.closed);
        match self.listener {
            Some(listener) if self.accepting => lane.cancel(listener, Cancel::Everything),
            Some(listener) if closed => {
                self.listener = None;
                lane.submit(tag(Kind::CloseListener, 0, 0), Op::Close(listener));
            }
            Some(_) => {}
            None => self.done |= closed && self.target.is_some(),
        }
    }

    fn is_over(&self) -> bool {
        !self.peers.is_empty() && self.peers.iter().all(|peer| peer.closed)
    }
}

struct Side {
    port: CompletionPort,
    app: Arc<Mutex<App>>,
}

impl Side {
    fn new(network: &Network, plan: Plan, target: Option<Address>) -> (Self, Option<Address>) {
        let workers = if plan.layout == Layout::Shared { 3 } else { 1 };
        let port = open(network, plan.layout, workers);
        let adopt = target.is_none().then(|| {
            port.listen("127.0.0.1:0".parse().unwrap(), ListenOptions::default()).unwrap()
        });
        let address = adopt.as_ref().map(Listener::local_address);
        let app = Arc::new(Mutex::new(App {
            plan,
            target,
            adopt,
            listener: None,
            accepting: false,
            peers: Vec::new(),
            started: false,
            stop: false,
            again: None,
            done: false,
        }));
        for worker in 0..workers {
            let app = app.clone();
            let port_again = port.clone();
            let step = move |lane: &mut Lane| {
                let turn = app.lock().unwrap().step(lane);
                if turn == Turn::Done {
                    // Wakes the other workers, so that they end, too.
                    port_again.wake(lane.id());
                }
                turn
            };
            port.spawn(LaneId(0), &format!("io-{worker}"), step).unwrap();
        }
        (Self { port, app }, address)
    }

    fn end(&self, seed: u64) {
        self.app.lock().unwrap().stop = true;
        self.port.wake(LaneId(0));
        let drained = self.port.drain(Duration::from_hours(1));
        assert_eq!((drained.workers, drained.leaked), (0, 0), "seed {seed}: all workers end");
        self.app.lock().unwrap().peers.clear();
        let Counters { submitted, completed, sockets, buffers_used, .. } = self.port.counters();
        assert_eq!(submitted, completed, "seed {seed}: each operation has completed");
        assert_eq!((sockets, buffers_used), (0, 0), "seed {seed}: resources are left");
    }
}

/// Runs a plan: the clients send, end their streams, and read their bytes back to the end.
pub(crate) fn run(plan: Plan, faults: Faults, trace: bool) -> Result {
    let network = Network::with(plan.seed, faults);
    network.trace(trace);
    let (server, address) = Side::new(&network, plan, None);
    let (client, _) = Side::new(&network, plan, address);
    let over = || client.app.lock().unwrap().is_over().then_some(());
    let _ = network.run_until(Some(Duration::from_hours(10)), over);
    let whole = |peer: &&Peer| peer.ended && !peer.failed && peer.received == plan.bytes;
    let whole = client.app.lock().unwrap().peers.iter().filter(whole).count();
    client.end(plan.seed);
    server.end(plan.seed);
    Result {
        fingerprint: network.fingerprint(),
        lines: network.trace(false),
        whole,
        tally: network.fault_counts(),
    }
}

fn plan(seed: u64, layout: Layout) -> Plan {
    Plan { seed, layout, clients: 1 + (seed % 4) as usize, bytes: 1 + (seed * 37 % 6000) as usize }
}

fn every_byte_comes_back(layout: Layout) {
    for seed in 0..1000 {
        let plan = plan(seed, layout);
        let mut faults = Faults::from_seed(seed).without_losses();
        if seed.is_multiple_of(3) {
            // The window is smaller than in any system, so nearly every send meets a full one.
            faults.window_bytes = 1..=64;
        }
        let result = run(plan, faults, false);
        assert_eq!(result.whole, plan.clients, "seed {seed}, {layout}: a client lacks messages");
    }
}

#[test]
fn bytes_arrive_whole_and_in_order_in_the_pinned_layout() {
    every_byte_comes_back(Layout::Pinned);
}

#[test]
fn bytes_arrive_whole_and_in_order_in_the_shared_layout() {
    every_byte_comes_back(Layout::Shared);
}

#[test]
fn whatever_fails_every_operation_completes_once_and_nothing_is_left() {
    for seed in 0..500 {
        for layout in [Layout::Pinned, Layout::Shared] {
            run(plan(seed, layout), Faults::from_seed(seed), false);
        }
    }
}

#[test]
fn a_seed_decides_about_everything() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..50 {
        for layout in [Layout::Pinned, Layout::Shared] {
            let [one, two] =
                [(); 2].map(|()| run(plan(seed, layout), Faults::from_seed(seed), true));
            let diverges = one.lines.iter().zip(&two.lines).find(|(one, two)| one != two);
            assert_eq!(diverges, None, "seed {seed}, {layout}");
            assert_eq!(one.fingerprint, two.fingerprint, "seed {seed}, {layout}");
            assert!(seen.insert(one.fingerprint), "seed {seed}, {layout}: two runs differ");
        }
    }
}

#[test]
fn keeping_lines_changes_nothing() {
    let run = |trace| run(plan(3, Layout::Shared), Faults::typical(), trace).fingerprint;
    assert_eq!(run(true), run(false));
}
