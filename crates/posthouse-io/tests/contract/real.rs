//! Tests of every real backend in each of its layouts that a simulated network cannot run: in
//! simulation one worker runs at a time, and every address answers.

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use posthouse_io::{
    Address, Backend, CompletionPort, Failure, LaneId, Layout, ListenOptions, Op, Options,
    ReceiveMode, Turn,
};

use crate::harness::{BUFFER_BYTES, End, Harness, PATIENCE, gather, is_here, lock};

/// Every backend of this system in each of its layouts.
#[cfg(target_os = "linux")]
pub const ALL: [(Backend, Layout); 3] = [
    (Backend::Readiness, Layout::Pinned),
    (Backend::Readiness, Layout::Shared),
    (Backend::Uring, Layout::Pinned),
];
#[cfg(windows)]
pub const ALL: [(Backend, Layout); 2] =
    [(Backend::Iocp, Layout::Shared), (Backend::Iocp, Layout::Pinned)];

/// The backend of this system whose workers share one lane.
const SHARED: Backend = if cfg!(windows) { Backend::Iocp } else { Backend::Readiness };

/// Runs a test on each of them.
pub fn on_all(test: impl Fn(&Harness)) {
    for (backend, layout) in ALL.into_iter().filter(|(backend, _)| is_here(backend)) {
        eprintln!("on {backend:?}, {layout}");
        let harness = Harness::new(backend, layout, 4);
        test(&harness);
        harness.finish();
    }
}

#[test]
fn a_connect_that_nobody_answers_is_cancelled_or_reset() {
    on_all(|harness| {
        let any: Address = "127.0.0.1:0".parse().expect("an address");
        let no_room = ListenOptions { backlog: 0, ..ListenOptions::default() };
        let full = harness.port.listen(any, no_room).expect("the listener opens");
        let address = full.local_address();
        let _first =
            TcpStream::connect(address.socket_addr()).expect("the port has room for one socket");
        let (one, connect) = harness.connect(harness.lane(0), address);
        harness.cancel(one);
        assert_eq!(harness.failure(connect), Failure::Cancelled);
        let (other, connect) = harness.connect(harness.lane(0), address);
        harness.reset(other);
        assert_eq!(harness.failure(connect), Failure::Reset);
        harness.close_all([one, other]);
    });
}

#[test]
fn wake_ups_from_many_threads_are_not_lost() {
    // Wine's server has one thread for all operations.
    const EACH: usize = if cfg!(windows) { 1000 } else { 10_000 };
    on_all(|harness| {
        let ran = Arc::new(AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for n in 0..4 {
                let driver = harness.driver.clone();
                let port = harness.port.clone();
                let ran = ran.clone();
                let lane = harness.lane(n % 2);
                scope.spawn(move || {
                    for _ in 0..EACH {
                        let ran = ran.clone();
                        let driver_of_call = driver.clone();
                        driver.post(lane, move |_| {
                            ran.fetch_add(1, Ordering::SeqCst);
                            driver_of_call.notify_all();
                        });
                        port.wake(lane);
                    }
                });
            }
        });
        harness.until("all commands", || (ran.load(Ordering::SeqCst) == 4 * EACH).then_some(()));
    });
}

/// Workers that wait for each other inside their completions.
#[derive(Default)]
struct Meeting {
    here: Mutex<usize>,
    came: Condvar,
}

impl Meeting {
    /// Returns whether `count` workers arrived in time.
    fn join(&self, count: usize) -> bool {
        let mut here = lock(&self.here);
        *here += 1;
        self.came.notify_all();
        let alone = |here: &mut usize| *here < count;
        let limit = Duration::from_secs(30);
        !self.came.wait_timeout_while(here, limit, alone).expect("no thread panicked").1.timed_out()
    }
}

#[test]
fn several_receives_of_one_socket_are_taken_by_several_workers() {
    const WORKERS: usize = 3;
    let harness = Harness::new(SHARED, Layout::Shared, WORKERS);
    for _ in 0..20 {
        let (near, far) = harness.pair();
        let meeting = Arc::new(Meeting::default());
        let met = Arc::new(AtomicUsize::new(0));
        let driver = harness.driver.clone();
        let all_met = met.clone();
        harness.on(far.lane, move |lane| {
            for _ in 0..WORKERS {
                let meeting = meeting.clone();
                let met = met.clone();
                let op = Op::Receive(far.socket, ReceiveMode::Once);
                driver.submit_then(lane, op, move |_, _| {
                    met.fetch_add(usize::from(meeting.join(WORKERS)), Ordering::SeqCst);
                });
            }
        });
        // One event brings as many bytes as all workers can receive.
        harness.send_all(near, &vec![7; WORKERS * BUFFER_BYTES]);
        harness.until("the workers", || (all_met.load(Ordering::SeqCst) == WORKERS).then_some(()));
        harness.close_all([near, far]);
    }
    harness.finish();
}

#[test]
fn a_worker_that_is_busy_leaves_the_rest_of_its_batch_to_others() {
    const WORKERS: usize = 4;
    let harness = Harness::new(SHARED, Layout::Shared, WORKERS);
    let pairs: Vec<_> = (0..WORKERS).map(|_| harness.pair()).collect();
    for _ in 0..20 {
        let meeting = Arc::new(Meeting::default());
        let met = Arc::new(AtomicUsize::new(0));
        let driver = harness.driver.clone();
        let all_met = met.clone();
        let ends = pairs.clone();
        harness.on(LaneId(0), move |lane| {
            for (near, far) in ends {
                let meeting = meeting.clone();
                let met = met.clone();
                let op = Op::Receive(far.socket, ReceiveMode::Once);
                driver.submit_then(lane, op, move |_, _| {
                    met.fetch_add(usize::from(meeting.join(WORKERS)), Ordering::SeqCst);
                });
                driver.submit_then(lane, Op::Send(near.socket, gather(b"x")), |_, _| {});
            }
        });
        harness.until("the workers", || (all_met.load(Ordering::SeqCst) == WORKERS).then_some(()));
    }
    harness.close_all(pairs.into_iter().flat_map(|(near, far)| [near, far]));
    harness.finish();
}

#[test]
fn completions_that_a_busy_worker_leaves_behind_reach_all_the_others() {
    const WORKERS: usize = 4;
    const HANDLERS: usize = 2 * WORKERS;
    let harness = Harness::new(SHARED, Layout::Shared, WORKERS);
    // In the second round the command itself takes part in the meeting, so its worker takes no
    // completions.
    for in_command in [false, true] {
        let meeting = Arc::new(Meeting::default());
        let met = Arc::new(AtomicUsize::new(0));
        let driver = harness.driver.clone();
        let all_met = met.clone();
        let socket = harness.on(LaneId(0), move |lane| {
            let socket = lane.socket();
            for _ in 0..HANDLERS {
                let meeting = meeting.clone();
                let met = met.clone();
                // The receive fails at its submission: the socket is not connected.
                let op = Op::Receive(socket, ReceiveMode::Once);
                driver.submit_then(lane, op, move |_, _| {
                    met.fetch_add(usize::from(meeting.join(WORKERS)), Ordering::SeqCst);
                });
            }
            if in_command {
                meeting.join(WORKERS);
            }
            socket
        });
        harness.until("the workers", || (all_met.load(Ordering::SeqCst) == HANDLERS).then_some(()));
        harness.close(End { lane: LaneId(0), socket });
    }
    harness.finish();
}

#[test]
fn a_worker_that_panics_has_ended_and_the_others_go_on() {
    for (backend, layout) in ALL {
        let options = Options { layout: Some(layout), ..Options::default() };
        let options = Options { io_workers: 2, ..options };
        let (port, _) = CompletionPort::open(backend, &options).expect("the port opens");
        port.spawn(LaneId(0), "doomed", |_| panic!("a panic that this test is about"))
            .expect("the worker starts");
        let other = LaneId(u16::from(layout == Layout::Pinned));
        let mut steps = 0;
        port.spawn(other, "well", move |_| {
            steps += 1;
            if steps < 100 { Turn::Sleep(Some(Duration::from_micros(50))) } else { Turn::Done }
        })
        .expect("the worker starts");
        assert_eq!(port.drain(PATIENCE), posthouse_io::Drained::default());
    }
}

#[test]
fn a_worker_that_does_not_end_is_counted_and_can_end_later() {
    for (backend, layout) in ALL {
        let options = Options { layout: Some(layout), ..Options::default() };
        let (port, _) = CompletionPort::open(backend, &options).expect("the port opens");
        let stop = Arc::new(AtomicUsize::new(0));
        let seen = stop.clone();
        port.spawn(LaneId(0), "io", move |_| match seen.load(Ordering::SeqCst) {
            0 => Turn::Sleep(None),
            _ => Turn::Done,
        })
        .expect("the worker starts");
        assert_eq!(port.drain(Duration::from_millis(20)).workers, 1);
        stop.store(1, Ordering::SeqCst);
        port.wake(LaneId(0));
        assert_eq!(port.drain(PATIENCE).workers, 0);
    }
}
