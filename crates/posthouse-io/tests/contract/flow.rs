//! A sender and a reader that go on by themselves, from completion to completion, on the lanes.

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
    /// What is said of each part of a file that came back.
    files: Vec<Option<FileFault>>,
    ended: Option<Result<(), Failure>>,
}

impl Sender {
    pub fn start(harness: &Harness, end: End, bytes: &[u8]) -> Self {
        Self::start_gather(harness, end, gather(bytes))
    }

    pub fn start_gather(harness: &Harness, end: End, gather: Gather) -> Self {
        let state = Arc::new(Mutex::new(Sending::default()));
        let (driver, shared) = (harness.driver.clone(), state.clone());
        harness.on(end.lane, move |lane| send_on(&driver, lane, end, &shared, gather));
        Self { end, state }
    }

    /// What the last send came to.
    pub fn wait(&self, harness: &Harness) -> Result<(), Failure> {
        harness.until("the sender to end", || lock(&self.state).ended)
    }

    /// Bytes that have left.
    pub fn sent(&self) -> usize {
        lock(&self.state).sent
    }

    /// What is said of each part of a file that was sent.
    pub fn files(&self) -> Vec<Option<FileFault>> {
        lock(&self.state).files.clone()
    }

    /// Cancels until a cancel has met a pending send. The peer does not read: there comes one.
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
    let (again, shared) = (driver.clone(), state.clone());
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
            other => panic!("a send came to {other:?}"),
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
    /// What each receive brought.
    pieces: BTreeMap<u64, Vec<u8>>,
    /// The first receive that brought no bytes, and what it brought instead.
    ended: Option<(u64, Result<(), Failure>)>,
    /// Receives whose completion was taken before that of an older one.
    overtaken: usize,
}

impl Reader {
    pub fn start(harness: &Harness, end: End, pending: usize) -> Self {
        let state = Arc::new(Mutex::new(Reading::default()));
        let (driver, shared) = (harness.driver.clone(), state.clone());
        harness.on(end.lane, move |lane| {
            let mut state = lock(&shared);
            (0..pending).for_each(|_| receive_on(&driver, lane, end, &shared, &mut state));
        });
        Self { state }
    }

    /// All bytes, in the order in which their receives were submitted, and what came after them.
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

    /// How many completions were taken before that of an older receive.
    pub fn overtaken(&self) -> usize {
        lock(&self.state).overtaken
    }
}

/// Submits the next receive. The state is locked meanwhile, so that numbers are in the order of
/// submission whichever worker submits.
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
    let (again, shared) = (driver.clone(), shared.clone());
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
            other => panic!("a receive came to {other:?}"),
        };
        if state.ended.is_none_or(|(first, _)| number < first) {
            state.ended = Some((number, ended));
        }
    });
}
