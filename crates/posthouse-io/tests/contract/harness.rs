//! The test harness: a port whose workers run the commands of the test. A test therefore reads from
//! top to bottom, although everything in it happens on lanes.
//!
//! A test submits an operation and gets its [`Tag`]. The harness keeps the completions of that tag
//! until the test asks for them. It checks every completion on arrival: it must belong to an
//! operation that was submitted and has not ended. [`Harness::finish`] checks that nothing is left.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use posthouse_io::sim::SplitMix64;
use posthouse_io::{
    Address, Backend, Buffer, Completion, CompletionPort, Drained, Error, Failure, Gather, Lane,
    LaneId, Layout, ListenOptions, Notify, Op, Options, Outcome, ReceiveMode, Segment, Selected,
    Socket, Tag,
};

use crate::driver::Driver;

/// The maximum time that a test waits for anything: only a failing test waits that long. In
/// simulation this is virtual time.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The buffers are small, so that little data causes many completions.
pub const BUFFER_BYTES: usize = 4096;

/// One end of a connection, or a listener.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub lane: LaneId,
    pub socket: Socket,
}

/// A listener that accepts.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    pub end: End,
    pub address: Address,
    pub accept: Tag,
}

pub struct Harness {
    pub port: CompletionPort,
    pub backend: Backend,
    pub selected: Selected,
    pub notify: Notify,
    pub driver: Arc<Driver>,
    /// True exactly when threads and time are real.
    pub real: bool,
    /// True exactly when one worker takes all completions of a socket, so that the test sees them
    /// in order.
    pub sees_order: bool,
}

/// The environment variable that forbids tests to skip anything.
const NEED_ALL: &str = "POSTHOUSE_TESTS_NEED_ALL";

/// Returns whether this machine has the backend. Sandboxes refuse io_uring; the tests of io_uring
/// then report that and pass, unless skipping is forbidden.
pub fn is_here(backend: &Backend) -> bool {
    let Backend::Uring = backend else { return true };
    match CompletionPort::open(Backend::Uring, &Options::default()) {
        Ok(_) => true,
        Err(why) => {
            not_tested(why);
            false
        }
    }
}

/// Reports that this machine lacks something that a test needs. Panics if the environment has
/// [`NEED_ALL`].
pub fn not_tested(why: impl std::fmt::Display) {
    eprintln!("passed over: {why}");
    assert!(std::env::var_os(NEED_ALL).is_none(), "{NEED_ALL} is set: {why}");
}

impl Harness {
    /// A port with its workers.
    pub fn new(backend: Backend, layout: Layout, io_workers: usize) -> Self {
        Self::with(backend, &Options { layout: Some(layout), io_workers, ..Options::default() })
    }

    /// Makes a port whose receives have memory from the beginning. Accessing a released buffer ends
    /// the process.
    #[cfg(windows)]
    pub fn pending(backend: Backend, layout: Layout, io_workers: usize) -> Self {
        let layout = Some(layout);
        let read_mode = posthouse_io::ReadMode::Pending;
        let options =
            Options { layout, io_workers, read_mode, guard_buffers: true, ..Options::default() };
        Self::with(backend, &options)
    }

    /// Makes a port for which accessing a released buffer ends the process.
    #[cfg(target_os = "linux")]
    pub fn guarded(backend: Backend, layout: Layout, io_workers: usize) -> Self {
        let layout = Some(layout);
        let options = Options { layout, io_workers, guard_buffers: true, ..Options::default() };
        Self::with(backend, &options)
    }

    pub fn with(backend: Backend, options: &Options) -> Self {
        let options = Options { buffer_bytes: BUFFER_BYTES, ..options.clone() };
        let io_workers = options.io_workers;
        let layout = options.layout.expect("a layout");
        let real = !matches!(backend, Backend::Simulation(_));
        let (port, selected) =
            CompletionPort::open(backend.clone(), &options).expect("the port opens");
        let notify = port.notify();
        let sees_order = layout == Layout::Pinned || io_workers == 1;
        let driver = Arc::new(Driver::new(port.lanes(), notify.clone(), sees_order));
        for worker in 0..io_workers {
            let lane = LaneId((worker % port.lanes()) as u16);
            let driver = driver.clone();
            let port_of_worker = port.clone();
            let step = move |lane: &mut Lane| driver.step(lane, &port_of_worker);
            port.spawn(lane, &format!("io-{worker}"), step).expect("the worker starts");
        }
        Self { port, backend, selected, notify, driver, real, sees_order }
    }

    /// The `n`-th lane, counting round and round.
    pub fn lane(&self, n: usize) -> LaneId {
        LaneId((n % self.port.lanes()) as u16)
    }

    /// Runs `call` on a worker of the lane and returns its result.
    pub fn on<R: Send + 'static>(
        &self,
        lane: LaneId,
        call: impl FnOnce(&mut Lane) -> R + Send + 'static,
    ) -> R {
        let slot = Arc::new(Mutex::new(None));
        let result = slot.clone();
        self.post(lane, move |lane| *lock(&result) = Some(call(lane)));
        self.until("a command to be run", || lock(&slot).take())
    }

    /// Posts `call` to a worker of the lane, and does not wait for it.
    pub fn post(&self, lane: LaneId, call: impl FnOnce(&mut Lane) + Send + 'static) {
        self.driver.post(lane, call);
        self.port.wake(lane);
    }

    /// Waits until `ready` returns a value, and returns it.
    pub fn until<T>(&self, what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
        let value = self.notify.wait_until(Some(PATIENCE), || {
            self.driver.check();
            ready()
        });
        value.unwrap_or_else(|| {
            panic!("timed out while waiting for {what}; {:?}", self.port.counters())
        })
    }

    pub fn submit(&self, lane: LaneId, op: Op) -> Tag {
        let driver = self.driver.clone();
        self.on(lane, move |lane| driver.submit(lane, op))
    }

    /// The next completion of an operation.
    pub fn completion(&self, tag: Tag) -> Completion {
        self.until(&format!("a completion of {tag:?}"), || self.driver.take_kept(tag))
    }

    /// Returns the terminal completion of an operation, which must be its next completion.
    #[track_caller]
    pub fn outcome(&self, tag: Tag) -> Outcome {
        let completion = self.completion(tag);
        assert!(!completion.more, "expected a terminal completion: {completion:?}");
        completion.outcome
    }

    /// Returns the failure of an operation.
    #[track_caller]
    pub fn failure(&self, tag: Tag) -> Failure {
        match self.outcome(tag) {
            Outcome::Failed(error) => error.failure,
            other => panic!("a failure, not {other:?}"),
        }
    }

    /// Listens at any port of this machine, and starts to accept.
    pub fn listen(&self, lane: LaneId) -> Listening {
        let any: Address = "127.0.0.1:0".parse().expect("an address");
        let listener = self.port.listen(any, ListenOptions::default()).expect("the listener opens");
        let address = listener.local_address();
        let socket = self.on(lane, move |lane| lane.adopt_listener(listener));
        let accept = self.submit(lane, Op::Accept(socket));
        Listening { end: End { lane, socket }, address, accept }
    }

    /// Ends accepting and closes the listener. Accepted peers that the test has not taken are
    /// dropped.
    pub fn unlisten(&self, listening: Listening) {
        self.cancel(listening.end);
        let last = loop {
            let completion = self.completion(listening.accept);
            if !completion.more {
                break completion.outcome;
            }
        };
        let cancelled = |error: &Error| error.failure == Failure::Cancelled;
        assert!(matches!(&last, Outcome::Failed(error) if cancelled(error)), "{last:?}");
        self.close(listening.end);
    }

    /// Starts to connect, and returns the end and the operation.
    pub fn connect(&self, lane: LaneId, address: Address) -> (End, Tag) {
        let driver = self.driver.clone();
        self.on(lane, move |on| {
            let socket = on.socket();
            (End { lane, socket }, driver.submit(on, Op::Connect(socket, address)))
        })
    }

    /// Returns the next accepted peer, registered with `lane`.
    pub fn accepted(&self, listening: Listening, lane: LaneId) -> (End, Address) {
        let completion = self.completion(listening.accept);
        assert!(completion.more, "accepting ended: {completion:?}");
        let Outcome::Accepted(new) = completion.outcome else {
            panic!("a peer, not {:?}", completion.outcome)
        };
        let peer = new.peer;
        let socket = self.on(lane, move |lane| lane.adopt(*new));
        (End { lane, socket }, peer)
    }

    /// Returns the two ends of a connection: one on the first lane, one on the last.
    pub fn pair(&self) -> (End, End) {
        let listening = self.listen(self.lane(0));
        let pair = self.pair_by(listening);
        self.unlisten(listening);
        pair
    }

    /// Returns the two ends of a connection through an existing listener.
    pub fn pair_by(&self, listening: Listening) -> (End, End) {
        let (near, connect) = self.connect(self.lane(0), listening.address);
        let (far, _) = self.accepted(listening, self.lane(self.port.lanes() - 1));
        assert!(matches!(self.outcome(connect), Outcome::Connected));
        (near, far)
    }

    pub fn receive(&self, end: End, mode: ReceiveMode) -> Tag {
        self.submit(end.lane, Op::Receive(end.socket, mode))
    }

    pub fn send(&self, end: End, bytes: &[u8]) -> Tag {
        self.submit(end.lane, Op::Send(end.socket, gather(bytes)))
    }

    /// Sends all of `bytes`, in as many operations as necessary.
    pub fn send_all(&self, end: End, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.outcome(self.send(end, bytes)) {
                Outcome::Sent { bytes: sent, .. } => bytes = &bytes[sent..],
                other => panic!("bytes sent, not {other:?}"),
            }
        }
    }

    /// Receives exactly `count` bytes.
    pub fn read(&self, end: End, count: usize) -> Vec<u8> {
        let mut read = Vec::new();
        while read.len() < count {
            read.extend_from_slice(&self.bytes(self.receive(end, ReceiveMode::Once)));
        }
        assert_eq!(read.len(), count, "no more bytes than were expected");
        read
    }

    /// Returns the bytes of a single receive.
    #[track_caller]
    pub fn bytes(&self, tag: Tag) -> Buffer {
        match self.outcome(tag) {
            Outcome::Received(buffer) => buffer,
            other => panic!("bytes, not {other:?}"),
        }
    }

    pub fn shutdown(&self, end: End) {
        self.on(end.lane, move |lane| lane.shutdown(end.socket));
    }

    pub fn reset(&self, end: End) {
        self.on(end.lane, move |lane| lane.reset(end.socket));
    }

    pub fn cancel(&self, end: End) {
        self.on(end.lane, move |lane| lane.cancel(end.socket, posthouse_io::Cancel::Everything));
    }

    pub fn cancel_receives(&self, end: End) {
        self.on(end.lane, move |lane| lane.cancel(end.socket, posthouse_io::Cancel::Receives));
    }

    pub fn close(&self, end: End) {
        let close = self.submit(end.lane, Op::Close(end.socket));
        assert!(matches!(self.outcome(close), Outcome::Closed));
    }

    pub fn close_all(&self, ends: impl IntoIterator<Item = End>) {
        ends.into_iter().for_each(|end| self.close(end));
    }

    /// Ends the workers, and checks that every operation has ended and nothing is left.
    pub fn finish(self) {
        self.until("every operation to end", || (self.driver.in_flight() == 0).then_some(()));
        self.driver.stop();
        (0..self.port.lanes()).for_each(|lane| self.port.wake(self.lane(lane)));
        let drained = self.port.drain(PATIENCE);
        assert_eq!(drained, Drained::default(), "a worker or an operation is left");
        // Completions that the test did not look at hold buffers and sockets.
        self.driver.forget();
        let counters = self.port.counters();
        assert_eq!(counters.submitted, counters.completed, "an operation did not end exactly once");
        assert_eq!(counters.sockets, 0, "a socket was leaked");
        assert_eq!(counters.buffers_used, 0, "a buffer was leaked");
    }
}

pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the bytes as one segment.
pub fn gather(bytes: &[u8]) -> Gather {
    let mut gather = Gather::default();
    gather.push(Segment::Owned(bytes.to_vec()));
    gather
}

/// Returns bytes that do not repeat within one test, so that a displaced piece is visible.
pub fn pattern(count: usize, salt: u64) -> Vec<u8> {
    let mut random = SplitMix64::new(salt);
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        bytes.extend_from_slice(&random.next_u64().to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// Reports the first difference of two long byte strings, instead of printing them.
#[track_caller]
pub fn assert_same(got: &[u8], expected: &[u8]) {
    let differ = got.iter().zip(expected).position(|(a, b)| a != b);
    assert!(
        differ.is_none() && got.len() == expected.len(),
        "{} bytes for {}, the first difference at {differ:?}",
        got.len(),
        expected.len(),
    );
}

#[track_caller]
pub fn assert_ended(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Ended), "expected the end, not {outcome:?}");
}
