//! The worker's part of the test harness: it runs the commands that the test posts, and keeps
//! every completion until the test takes it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use posthouse_io::{Completion, CompletionPort, Lane, LaneId, Notify, Op, Tag, Turn};

use crate::harness::lock;

type Command = Box<dyn FnOnce(&mut Lane) + Send>;

/// Handles the completions of an operation, on the worker that takes them.
type Then = Box<dyn FnMut(&mut Lane, Completion) + Send>;

/// The state that the test and the workers share.
pub struct Driver {
    commands: Vec<Mutex<VecDeque<Command>>>,
    operations: Mutex<Operations>,
    tags: AtomicU64,
    stop: AtomicBool,
    notify: Notify,
    /// The maximum number of completions that a step takes.
    max_taken: AtomicUsize,
    /// The number of steps of each lane.
    steps: Vec<AtomicU64>,
    /// True exactly when one worker takes all completions of a socket.
    sees_order: bool,
}

#[derive(Default)]
struct Operations {
    known: HashMap<Tag, Operation>,
    /// Operations without their terminal completion.
    in_flight: usize,
    /// The first completion that breaks the contract.
    fault: Option<String>,
}

#[derive(Default)]
struct Operation {
    ended: bool,
    kept: VecDeque<Completion>,
    then: Option<Arc<Mutex<Then>>>,
}

impl Driver {
    pub fn new(lanes: usize, notify: Notify, sees_order: bool) -> Self {
        Self {
            commands: (0..lanes).map(|_| Mutex::default()).collect(),
            operations: Mutex::default(),
            tags: AtomicU64::new(1),
            stop: AtomicBool::new(false),
            notify,
            max_taken: AtomicUsize::new(usize::MAX),
            steps: (0..lanes).map(|_| AtomicU64::new(0)).collect(),
            sees_order,
        }
    }

    /// Submits an operation whose completions are kept for the test.
    pub fn submit(&self, lane: &mut Lane, op: Op) -> Tag {
        self.begin(lane, op, None)
    }

    /// Submits an operation whose completions go to `then`.
    pub fn submit_then(
        &self,
        lane: &mut Lane,
        op: Op,
        then: impl FnMut(&mut Lane, Completion) + Send + 'static,
    ) -> Tag {
        self.begin(lane, op, Some(Arc::new(Mutex::new(Box::new(then)))))
    }

    /// Wakes the test, so that it checks its condition.
    pub fn notify_all(&self) {
        self.notify.notify_all();
    }

    /// Queues `call` for a worker of the lane, which runs it when it wakes.
    pub fn post(&self, lane: LaneId, call: impl FnOnce(&mut Lane) + Send + 'static) {
        lock(&self.commands[lane.index()]).push_back(Box::new(call));
    }

    fn begin(&self, lane: &mut Lane, op: Op, then: Option<Arc<Mutex<Then>>>) -> Tag {
        let tag = Tag(self.tags.fetch_add(1, Ordering::Relaxed));
        let mut operations = lock(&self.operations);
        operations.in_flight += 1;
        operations.known.insert(tag, Operation { then, ..Operation::default() });
        drop(operations);
        lane.submit(tag, op);
        tag
    }

    /// Returns the next kept completion of an operation.
    pub fn take_kept(&self, tag: Tag) -> Option<Completion> {
        let mut operations = lock(&self.operations);
        let operation = operations.known.get_mut(&tag).expect("the operation belongs to this test");
        operation.kept.pop_front()
    }

    /// Panics if a completion has broken the contract.
    pub fn check(&self) {
        if let Some(fault) = &lock(&self.operations).fault {
            panic!("{fault}");
        }
    }

    /// Operations without their terminal completion.
    pub fn in_flight(&self) -> usize {
        lock(&self.operations).in_flight
    }

    /// Forgets all operations and drops their completions.
    pub fn forget(&self) {
        lock(&self.operations).known.clear();
    }

    /// Limits each later step to `count` completions; the others are left to the steps after it.
    pub fn take_at_most(&self, count: usize) {
        self.max_taken.store(count, Ordering::SeqCst);
    }

    /// The number of steps that the workers of a lane have run.
    pub fn steps(&self, lane: LaneId) -> u64 {
        self.steps[lane.index()].load(Ordering::Relaxed)
    }

    /// Makes each worker end when it wakes next.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Runs the posted commands of a lane, then takes its completions: one step of a worker.
    pub fn step(&self, lane: &mut Lane, port: &CompletionPort) -> Turn {
        let id = lane.id();
        self.steps[id.index()].fetch_add(1, Ordering::Relaxed);
        loop {
            let command = lock(&self.commands[id.index()]).pop_front();
            let Some(command) = command else { break };
            command(lane);
            self.notify.notify_all();
            if lane.should_yield() {
                return Turn::Again;
            }
        }
        for _ in 0..self.max_taken.load(Ordering::SeqCst) {
            let Some(completion) = lane.next_completion() else { break };
            self.take(lane, completion);
            if lane.should_yield() {
                return Turn::Again;
            }
        }
        if self.stop.load(Ordering::SeqCst) {
            // In the shared layout a wake-up reaches one worker, which wakes the next one.
            port.wake(id);
            return Turn::Done;
        }
        Turn::Sleep(None)
    }

    fn take(&self, lane: &mut Lane, completion: Completion) {
        if let Some((then, completion)) = self.keep(completion) {
            lock(&then)(lane, completion);
        }
        // With no lock held: a waiting test checks its condition under the lock of `Notify`.
        self.notify.notify_all();
    }

    /// Keeps a completion for the test, or returns it with the handler of its operation.
    fn keep(&self, completion: Completion) -> Option<(Arc<Mutex<Then>>, Completion)> {
        let mut operations = lock(&self.operations);
        let Operations { known, in_flight, fault } = &mut *operations;
        let operation = known.get_mut(&completion.tag);
        // Another worker can store the later of two completions first.
        let late = |operation: &Operation| !self.sees_order && completion.more && operation.ended;
        let belongs = |operation: &&mut Operation| !operation.ended || late(operation);
        let Some(operation) = operation.filter(belongs) else {
            let text = || format!("after the end of its operation, or without one: {completion:?}");
            fault.get_or_insert_with(text);
            return None;
        };
        let last = !completion.more;
        *in_flight -= usize::from(last);
        operation.ended |= last;
        let Some(then) = operation.then.clone() else {
            operation.kept.push_back(completion);
            return None;
        };
        if last {
            known.remove(&completion.tag);
        }
        Some((then, completion))
    }
}
