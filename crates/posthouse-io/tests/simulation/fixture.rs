//! A port whose lane the test uses directly: closures run on its worker, and completions are kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse_io::sim::{Network, RawStream};
use posthouse_io::{
    Address, Backend, Completion, CompletionPort, Gather, Lane, LaneId, Layout, ListenOptions, Op,
    Options, Outcome, ReceiveMode, Segment, Socket, Tag, Turn,
};

type Job = Box<dyn FnOnce(&mut Lane) + Send>;

#[derive(Default)]
struct Shared {
    jobs: VecDeque<Job>,
    completions: VecDeque<Completion>,
    steps: usize,
    ending: bool,
}

pub(crate) struct Fixture {
    pub(crate) network: Network,
    pub(crate) port: CompletionPort,
    shared: Arc<Mutex<Shared>>,
    next_tag: Mutex<u64>,
}

/// Opens a port of the network.
pub(crate) fn open(network: &Network, layout: Layout, io_workers: usize) -> CompletionPort {
    let options =
        Options { layout: Some(layout), io_workers, buffer_bytes: 4096, ..Options::default() };
    CompletionPort::open(Backend::Simulation(network.clone()), &options).unwrap().0
}

/// Returns the address of a scripted server.
pub(crate) fn address() -> Address {
    "10.0.0.9:9990".parse().unwrap()
}

pub(crate) fn gather(bytes: &[u8]) -> Gather {
    let mut gather = Gather::default();
    gather.push(Segment::Owned(bytes.to_vec()));
    gather
}

impl Fixture {
    /// Opens a port with one worker.
    pub(crate) fn new(network: &Network) -> Self {
        Self::with(network, Layout::Pinned)
    }

    pub(crate) fn with(network: &Network, layout: Layout) -> Self {
        let port = open(network, layout, 1);
        let shared = Arc::<Mutex<Shared>>::default();
        let state = shared.clone();
        let step = move |lane: &mut Lane| {
            let jobs = std::mem::take(&mut state.lock().unwrap().jobs);
            for job in jobs {
                job(lane);
            }
            while let Some(completion) = lane.next_completion() {
                state.lock().unwrap().completions.push_back(completion);
            }
            let mut state = state.lock().unwrap();
            state.steps += 1;
            if state.ending { Turn::Done } else { Turn::Sleep(None) }
        };
        port.spawn(LaneId(0), "fixture", step).unwrap();
        Self { network: network.clone(), port, shared, next_tag: Mutex::new(0) }
    }

    /// Runs a closure on the worker.
    pub(crate) fn on_lane<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Lane) -> T + Send + 'static,
    ) -> T {
        let result = Arc::new(Mutex::new(None));
        let out = result.clone();
        let job = Box::new(move |lane: &mut Lane| *out.lock().unwrap() = Some(job(lane)));
        self.shared.lock().unwrap().jobs.push_back(job);
        self.port.wake(LaneId(0));
        self.network
            .run_until(None, || result.lock().unwrap().take())
            .expect("the worker runs the step")
    }

    pub(crate) fn submit(&self, op: Op) -> Tag {
        let tag = {
            let mut next = self.next_tag.lock().unwrap();
            *next += 1;
            Tag(*next)
        };
        self.on_lane(move |lane| lane.submit(tag, op));
        tag
    }

    /// Returns the virtual time that has passed since `before`.
    pub(crate) fn since(&self, before: Duration) -> Duration {
        self.network.now().checked_sub(before).expect("time never goes back")
    }

    pub(crate) fn steps(&self) -> usize {
        self.shared.lock().unwrap().steps
    }

    /// Returns the next completion, or `None` if no completion can arrive in time.
    pub(crate) fn completion(&self) -> Option<Completion> {
        let take = || self.shared.lock().unwrap().completions.pop_front();
        self.network.run_until(Some(Duration::from_mins(10)), take)
    }

    /// Returns the outcome of the next completion, which must be of this operation.
    pub(crate) fn outcome(&self, tag: Tag) -> Outcome {
        let completion = self.completion().expect("a completion comes");
        assert_eq!(completion.tag, tag, "{completion:?}");
        completion.outcome
    }

    pub(crate) fn perform(&self, op: Op) -> Outcome {
        let tag = self.submit(op);
        self.outcome(tag)
    }

    pub(crate) fn send(&self, socket: Socket, bytes: &[u8]) -> Outcome {
        self.perform(Op::Send(socket, gather(bytes)))
    }

    pub(crate) fn receive(&self, socket: Socket) -> Outcome {
        self.perform(Op::Receive(socket, ReceiveMode::Once))
    }

    pub(crate) fn listen(&self, address: &str) -> (Socket, Address) {
        self.listen_with(address, ListenOptions::default())
    }

    pub(crate) fn listen_with(&self, address: &str, options: ListenOptions) -> (Socket, Address) {
        let listener = self.port.listen(address.parse().unwrap(), options).unwrap();
        let local = listener.local_address();
        (self.on_lane(move |lane| lane.adopt_listener(listener)), local)
    }

    /// Returns the socket that was accepted for a scripted peer, the peer, and the listener, which
    /// continues to accept.
    pub(crate) fn pair(&self) -> (Socket, RawStream, Socket) {
        let (listener, address) = self.listen("127.0.0.1:0");
        let accept = self.submit(Op::Accept(listener));
        let raw = self.network.dial(address);
        let Outcome::Accepted(new) = self.outcome(accept) else { panic!("accepted") };
        (self.on_lane(move |lane| lane.adopt(*new)), raw, listener)
    }

    /// Cancels the operations in flight on sockets and closes the sockets.
    pub(crate) fn close(&self, sockets: &[Socket]) {
        for socket in sockets.iter().copied() {
            self.on_lane(move |lane| lane.cancel(socket, posthouse_io::Cancel::Everything));
            self.network.settle();
            let tag = self.submit(Op::Close(socket));
            while self.completion().expect("a close completes").tag != tag {}
        }
    }

    /// Ends the worker.
    pub(crate) fn end(&self) {
        self.shared.lock().unwrap().ending = true;
        self.port.wake(LaneId(0));
        let left = self.port.drain(Duration::from_mins(1));
        assert_eq!(left.workers, 0);
    }

    /// Ends the port, and checks that nothing is left.
    pub(crate) fn end_clean(self) {
        self.network.settle();
        self.end();
        self.shared.lock().unwrap().completions.clear();
        let counters = self.port.counters();
        assert_eq!(counters.submitted, counters.completed, "{counters:?}");
        assert_eq!((counters.sockets, counters.buffers_used), (0, 0), "{counters:?}");
    }
}
