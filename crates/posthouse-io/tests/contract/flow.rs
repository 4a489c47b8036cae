//! A sender and a reader that run on the lanes: each completion submits the next operation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use posthouse_io::{Failure, FileFault, Gather, Lane, Op, Outcome, ReceiveMode, Segment};

use crate::driver::Driver;
use crate::harness::{End, Harness, gather, lock};

/// Sends bytes until all have left or a send fails.
pub struct Sender {
    end: End,
    state: Arc<Mutex<Sending>>,
}

#[derive(Default)]
struct Sending {
    sent: usize,
    /// The fault, if any, of each file part whose bytes have all been sent.
    files: Vec<Option<FileFault>>,
    ended: Option<Result<(), Failure>>,
}

impl Sender {
    pub fn start(harness: &Harness, end: End, bytes: &[u8]) -> Self {
        Self::start_gather(harness, end, gather(bytes))
    }

    pub fn start_gather(harness: &Harness, end: End, gather: Gather) -> Self {
        let state = Arc::new(Mutex::new(Sending::default()));
        let driver = harness.driver.clone();
        let shared = state.clone();
        harness.on(end.lane, move |lane| send_on(&driver, lane, end, &shared, gather));
        Self { end, state }
    }

    /// Waits for the end of the sender and returns the result of its last send.
    pub fn wait(&self, harness: &Harness) -> Result<(), Failure> {
        harness.until("the sender to end", || lock(&self.state).ended)
    }

    /// Returns the number of bytes that have been sent.
    pub fn sent(&self) -> usize {
        lock(&self.state).sent
    }

    /// Returns the fault, if any, of each file part whose bytes have all been sent.
    pub fn files(&self) -> Vec<Option<FileFault>> {
        lock(&self.state).files.clone()
    }

    /// Cancels until a cancel meets a pending send. A send becomes pending at some point, because
    /// the peer does not read.
    pub fn cancel(&self, harness: &Harness) {
        while lock(&self.state).ended.is_none() {
            harness.cancel(self.end);
        }
        assert_eq!(self.wait(harness), Err(Failure::Cancelled));
    }
}

fn send_on(
    driver: &Arc<Driver>,
    lane: &mut Lane,
    end: End,
    state: &Arc<Mutex<Sending>>,
    gather: Gather,
) {
    let again = driver.clone();
    let shared = state.clone();
    driver.submit_then(lane, Op::Send(end.socket, gather), move |lane, completion| {
        let mut state = lock(&shared);
        match completion.outcome {
            Outcome::Sent { bytes, mut gather } => {
                state.sent += bytes;
                gather.advance(bytes, |segment| {
                    if let Segment::File(part) = segment {
                        state.files.push(part.fault());
                    }
                });
                if gather.is_empty() {
                    state.ended = Some(Ok(()));
                } else {
                    drop(state);
                    send_on(&again, lane, end, &shared, gather);
                }
            }
            Outcome::Failed(error) => state.ended = Some(Err(error.failure)),
            other => panic!("a send ended with {other:?}"),
        }
    });
}

/// Receives with several receives pending until the end of the stream, or a failure.
pub struct Reader {
    state: Arc<Mutex<Reading>>,
}

#[derive(Default)]
struct Reading {
    /// Receives are numbered in the order of their submission.
    next: u64,
    pending: usize,
    /// The bytes of each receive, by its number.
    pieces: BTreeMap<u64, Vec<u8>>,
    /// The number of the first receive without bytes, and its result: the end of the stream, or a
    /// failure.
    ended: Option<(u64, Result<(), Failure>)>,
    /// The number of receives whose completion a worker took after that of a newer receive.
    overtaken: usize,
}

impl Reader {
    pub fn start(harness: &Harness, end: End, pending: usize) -> Self {
        let state = Arc::new(Mutex::new(Reading::default()));
        let driver = harness.driver.clone();
        let shared = state.clone();
        harness.on(end.lane, move |lane| {
            let mut state = lock(&shared);
            (0..pending).for_each(|_| receive_on(&driver, lane, end, &shared, &mut state));
        });
        Self { state }
    }

    /// Returns all bytes, in the order in which their receives were submitted, and the result of
    /// the receive after them.
    pub fn wait(&self, harness: &Harness) -> (Vec<u8>, Result<(), Failure>) {
        let ended = harness.until("the reader to end", || {
            let state = lock(&self.state);
            state.ended.filter(|_| state.pending == 0)
        });
        let state = lock(&self.state);
        let after = state.pieces.range(ended.0..).next();
        assert_eq!(after, None, "bytes for a receive after one that was told the end");
        (state.pieces.values().flatten().copied().collect(), ended.1)
    }

    /// Returns the number of receives whose completion a worker took after that of a newer receive.
    pub fn overtaken(&self) -> usize {
        lock(&self.state).overtaken
    }
}

/// Submits the next receive. The caller holds the lock of the state, so that the numbers are in
/// the order of submission, whichever worker submits.
fn receive_on(
    driver: &Arc<Driver>,
    lane: &mut Lane,
    end: End,
    shared: &Arc<Mutex<Reading>>,
    state: &mut Reading,
) {
    let number = state.next;
    state.next += 1;
    state.pending += 1;
    let again = driver.clone();
    let shared = shared.clone();
    let op = Op::Receive(end.socket, ReceiveMode::Once);
    driver.submit_then(lane, op, move |lane, completion| {
        let mut state = lock(&shared);
        state.pending -= 1;
        let newer = state.pieces.last_key_value().is_some_and(|(last, _)| *last > number);
        state.overtaken += usize::from(newer);
        let ended = match completion.outcome {
            Outcome::Received(buffer) => {
                state.pieces.insert(number, buffer.to_vec());
                lane.recycle(buffer);
                return receive_on(&again, lane, end, &shared, &mut state);
            }
            Outcome::Ended => Ok(()),
            Outcome::Failed(error) => Err(error.failure),
            other => panic!("a receive ended with {other:?}"),
        };
        if state.ended.is_none_or(|(first, _)| number < first) {
            state.ended = Some((number, ended));
        }
    });
}
