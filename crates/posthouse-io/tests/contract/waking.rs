//! Sleeping and waking: no wake-up is lost, a sleep ends in time, every step gets its share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse_io::{
    CompletionPort, Drained, LaneId, Layout, Op, Options, Outcome, ReceiveMode, Tag, Turn,
};

use crate::driver::Driver;
use crate::harness::{Harness, PATIENCE, lock};

pub fn a_wake_is_not_lost_whether_the_worker_sleeps_runs_or_goes_to_sleep(harness: &Harness) {
    let done = Arc::new(AtomicU64::new(0));
    let rounds = if harness.real { 20_000 } else { 200 };
    let mut posted = 0;
    for round in 0..rounds {
        // Posts some commands at a time, so that wake-ups also reach a running worker.
        for _ in 0..=round % 4 {
            let done = done.clone();
            let driver = harness.driver.clone();
            posted += 1;
            harness.post(harness.lane(round), move |_| {
                done.fetch_add(1, Ordering::SeqCst);
                driver.notify_all();
            });
        }
        harness.until("a wake-up", || (done.load(Ordering::SeqCst) == posted).then_some(()));
    }
}

pub fn workers_wake_each_other(harness: &Harness) {
    let ball = Arc::new(Ball {
        driver: harness.driver.clone(),
        port: harness.port.clone(),
        passes: AtomicUsize::new(0),
        max_passes: if harness.real { 5_000 } else { 100 },
    });
    ball.clone().pass_to(LaneId(0));
    harness.until("the ball to come to rest", || {
        (ball.passes.load(Ordering::SeqCst) == ball.max_passes).then_some(())
    });
}

/// A ball that is passed from lane to lane.
struct Ball {
    driver: Arc<Driver>,
    port: CompletionPort,
    passes: AtomicUsize,
    max_passes: usize,
}

impl Ball {
    fn pass_to(self: Arc<Self>, lane: LaneId) {
        let ball = self.clone();
        self.driver.post(lane, move |_| {
            if ball.passes.fetch_add(1, Ordering::SeqCst) + 1 < ball.max_passes {
                let next = (lane.index() + 1) % ball.port.lanes();
                ball.pass_to(LaneId(next as u16));
            }
        });
        self.port.wake(lane);
    }
}

/// Opens a port of the same kind, without workers.
fn open(harness: &Harness, io_workers: usize) -> CompletionPort {
    let options =
        Options { layout: Some(harness.selected.layout), io_workers, ..Options::default() };
    CompletionPort::open(harness.backend.clone(), &options).expect("the port opens").0
}

pub fn a_sleep_ends_when_its_time_is_over_and_not_before(harness: &Harness) {
    const NAP: Duration = Duration::from_millis(3);
    let port = open(harness, 1);
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = times.clone();
    port.spawn(LaneId(0), "io", move |lane| {
        let mut times = lock(&seen);
        times.push(lane.now());
        if times.len() == 5 { Turn::Done } else { Turn::Sleep(Some(NAP)) }
    })
    .expect("the worker starts");
    assert_eq!(port.drain(PATIENCE), Drained::default());
    let times = lock(&times);
    // A worker may wake without a reason, before the time of its step has passed.
    let first = times[0];
    let last = times[4];
    assert!(last > first, "time passes while a worker sleeps: {times:?}");
    if harness.real {
        assert!(times.windows(2).all(|pair| pair[1] >= pair[0] + NAP), "{times:?}");
    }
    assert!(port.now() >= last);
}

pub fn a_step_gets_its_share_and_the_rest_comes_in_the_next_without_sleep(harness: &Harness) {
    const MANY: usize = 1000;
    let port = open(harness, 1);
    let share = if harness.selected.layout == Layout::Pinned { 256 } else { 16 };
    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = steps.clone();
    let mut socket = None;
    port.spawn(LaneId(0), "io", move |lane| {
        let socket = *socket.get_or_insert_with(|| {
            let socket = lane.socket();
            for n in 0..MANY as u64 {
                lane.submit(Tag(n), Op::Receive(socket, ReceiveMode::Once));
            }
            socket
        });
        let mut taken = 0;
        while let Some(completion) = lane.next_completion() {
            taken += 1;
            if matches!(completion.outcome, Outcome::Closed) {
                return Turn::Done;
            }
        }
        let mut steps = lock(&seen);
        steps.push(taken);
        if steps.iter().sum::<usize>() == MANY && taken > 0 {
            lane.submit(Tag(MANY as u64), Op::Close(socket));
        }
        Turn::Sleep(None)
    })
    .expect("the worker starts");
    assert_eq!(port.drain(PATIENCE), Drained::default());
    let steps = lock(&steps);
    assert!(steps.iter().all(|taken| *taken <= share), "{steps:?}");
    let counters = port.counters();
    assert_eq!((counters.submitted, counters.completed, counters.sockets), (1001, 1001, 0));
}

pub fn background_workers_are_woken_and_sleep_their_time(harness: &Harness) {
    const WAKES: u64 = 200;
    let port = open(harness, 1);
    let rounds = Arc::new(AtomicU64::new(0));
    let seen = rounds.clone();
    let notify = harness.notify.clone();
    port.spawn_background("woken", move |_| {
        let round = seen.fetch_add(1, Ordering::SeqCst);
        notify.notify_all();
        if round < WAKES { Turn::Sleep(None) } else { Turn::Done }
    })
    .expect("the worker starts");
    let mut naps = 0;
    port.spawn_background("timed", move |_| {
        naps += 1;
        if naps < 10 { Turn::Sleep(Some(Duration::from_micros(100))) } else { Turn::Done }
    })
    .expect("the worker starts");
    for round in 0..=WAKES {
        harness.until("a background worker's step", || {
            (rounds.load(Ordering::SeqCst) > round).then_some(())
        });
        port.wake_background();
    }
    assert_eq!(port.drain(PATIENCE), Drained::default());
}

pub fn random_numbers_differ(harness: &Harness) {
    let numbers: std::collections::BTreeSet<_> = (0..1000).map(|_| harness.port.random()).collect();
    assert_eq!(numbers.len(), 1000);
}
