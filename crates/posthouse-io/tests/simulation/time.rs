//! Time and workers in simulation: the order in which workers run, and the steps of the clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse_io::sim::{Faults, Network};
use posthouse_io::{Lane, LaneId, Layout, Op, Outcome, Tag, Turn};

use crate::fixture::{Fixture, address, open};

#[test]
fn time_stands_still_while_a_worker_can_run() {
    let network = Network::with(1, Faults::none());
    let port = open(&network, Layout::Pinned, 1);
    let left = Arc::new(AtomicUsize::new(1000));
    let counter = left.clone();
    port.spawn_background("sleeper", |_| Turn::Sleep(Some(Duration::from_micros(1)))).unwrap();
    let step = move |_: &mut Lane| match counter.fetch_sub(1, Ordering::Relaxed) {
        1 => Turn::Done,
        _ => Turn::Again,
    };
    port.spawn(LaneId(0), "busy", step).unwrap();
    while left.load(Ordering::Relaxed) > 0 {
        assert!(network.step());
        assert_eq!(network.now(), Duration::ZERO);
    }
    network.step();
    network.step();
    assert!(network.now() >= Duration::from_micros(1));
}

#[test]
fn a_sleep_ends_at_its_deadline_and_not_before() {
    let network = Network::with(1, Faults::none());
    let port = open(&network, Layout::Pinned, 1);
    let times = Arc::<Mutex<Vec<Duration>>>::default();
    let seen = times.clone();
    let step = move |lane: &mut Lane| {
        seen.lock().unwrap().push(lane.now());
        Turn::Sleep(Some(Duration::from_millis(7)))
    };
    port.spawn(LaneId(0), "ticker", step).unwrap();
    network.run_until(Some(Duration::from_millis(30)), || None::<()>);
    let millis: Vec<u128> = times.lock().unwrap().iter().map(Duration::as_millis).collect();
    assert_eq!(millis, [0, 7, 14, 21, 28]);
    assert_eq!(network.now(), Duration::from_millis(30), "the wait ended before its time-out");
}

#[test]
fn a_ports_time_begins_when_it_is_opened() {
    let network = Network::with(1, Faults::none());
    network.run_until(Some(Duration::from_secs(5)), || None::<()>);
    let port = open(&network, Layout::Pinned, 1);
    network.run_until(Some(Duration::from_secs(1)), || None::<()>);
    assert_eq!((port.now(), network.now()), (Duration::from_secs(1), Duration::from_secs(6)));
}

#[test]
fn a_wait_ends_early_where_nothing_can_happen_any_more() {
    let fixture = Fixture::new(&Network::new(1));
    fixture.network.settle();
    assert!(fixture.network.run_until(None, || None::<()>).is_none());
    assert!(!fixture.network.step());
}

#[test]
fn settling_lets_data_arrive_and_does_not_wait_for_deadlines() {
    let network = Network::with(1, Faults::none());
    let fixture = Fixture::new(&network);
    let (_socket, raw, _) = fixture.pair();
    let ticks = Arc::new(AtomicUsize::new(0));
    let counter = ticks.clone();
    let tick = move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        Turn::Sleep(Some(Duration::from_secs(1)))
    };
    fixture.port.spawn_background("heartbeat", tick).unwrap();
    let before = network.now();
    raw.send(b"x");
    network.settle();
    assert_eq!((ticks.load(Ordering::Relaxed), fixture.since(before)), (1, us(100)));
}

fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

#[test]
fn a_wake_up_while_a_worker_runs_makes_its_next_sleep_return() {
    for layout in [Layout::Pinned, Layout::Shared] {
        let network = Network::with(1, Faults::none());
        let port = open(&network, layout, 1);
        let waker = port.clone();
        let steps = Arc::new(AtomicUsize::new(0));
        let counter = steps.clone();
        let step = move |lane: &mut Lane| {
            if counter.fetch_add(1, Ordering::Relaxed) == 0 {
                waker.wake(lane.id());
                waker.wake(lane.id());
            }
            Turn::Sleep(None)
        };
        port.spawn(LaneId(0), "own", step).unwrap();
        network.settle();
        assert_eq!(steps.load(Ordering::Relaxed), 2, "{layout}: once, however often woken");
        port.wake(LaneId(0));
        port.wake(LaneId(0));
        network.settle();
        assert_eq!(steps.load(Ordering::Relaxed), 3, "{layout}: a sleeper wakes");
    }
}

#[test]
fn background_workers_sleep_until_their_time_or_until_they_are_woken() {
    for seed in 0..20 {
        let network = Network::new(seed);
        let port = open(&network, Layout::Pinned, 1);
        let steps = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let counter = steps.clone();
            let mut first = true;
            let step = move |_| {
                counter.fetch_add(1, Ordering::Relaxed);
                if std::mem::take(&mut first) { Turn::Sleep(None) } else { Turn::Done }
            };
            port.spawn_background("side", step).unwrap();
        }
        while steps.load(Ordering::Relaxed) < 3 {
            network.step();
        }
        port.wake_background();
        let drained = port.drain(Duration::from_secs(1));
        assert_eq!((drained.workers, steps.load(Ordering::Relaxed)), (0, 6));
    }
}

#[test]
fn a_background_worker_woken_while_it_runs_runs_again() {
    let network = Network::with(1, Faults::none());
    let port = open(&network, Layout::Pinned, 1);
    let waker = port.clone();
    let mut steps = 0;
    let step = move |_| {
        steps += 1;
        if steps == 1 {
            waker.wake_background();
        }
        if steps == 2 { Turn::Done } else { Turn::Sleep(None) }
    };
    port.spawn_background("own", step).unwrap();
    assert_eq!(port.drain(Duration::from_secs(1)).workers, 0);
}

#[test]
fn completions_wake_as_many_shared_workers_as_there_are() {
    let network = Network::with(1, Faults::none());
    let port = open(&network, Layout::Shared, 4);
    let taken = Arc::<Mutex<[usize; 4]>>::default();
    let jobs = Arc::new(Mutex::new(true));
    for worker in 0..4 {
        let taken = taken.clone();
        let jobs = jobs.clone();
        let step = move |lane: &mut Lane| {
            if std::mem::take(&mut *jobs.lock().unwrap()) {
                for tag in 0..100 {
                    lane.submit(Tag(tag), Op::Resolve("10.0.0.1:1".parse().unwrap()));
                }
            }
            while let Some(completion) = lane.next_completion() {
                assert!(matches!(completion.outcome, Outcome::Resolved(_)));
                taken.lock().unwrap()[worker] += 1;
            }
            Turn::Sleep(None)
        };
        port.spawn(LaneId(0), &format!("io-{worker}"), step).unwrap();
    }
    network.settle();
    let taken = *taken.lock().unwrap();
    assert_eq!(taken.iter().sum::<usize>(), 100);
    assert!(taken.iter().all(|count| *count > 0), "{taken:?}: a worker got no completions");
}

#[test]
fn drain_says_which_workers_did_not_end() {
    let network = Network::new(1);
    let port = open(&network, Layout::Pinned, 2);
    port.spawn(LaneId(0), "willing", |_| Turn::Done).unwrap();
    port.spawn(LaneId(1), "stubborn", |_| Turn::Sleep(None)).unwrap();
    let drained = port.drain(Duration::from_secs(3));
    assert_eq!((drained.workers, drained.leaked), (1, 0));
}

#[test]
fn a_step_can_open_and_drop_ports_and_drop_peers() {
    let network = Network::new(5);
    let outer = open(&network, Layout::Pinned, 1);
    let other = network.clone();
    let step = move |_: &mut Lane| {
        let inner = open(&other, Layout::Shared, 1);
        let address = "127.0.0.1:0".parse().unwrap();
        drop(inner.listen(address, posthouse_io::ListenOptions::default()).unwrap());
        inner.spawn(LaneId(0), "inner", |_| Turn::Done).unwrap();
        Turn::Done
    };
    outer.spawn(LaneId(0), "outer", step).unwrap();
    network.settle();
    assert_eq!(outer.drain(Duration::from_secs(1)).workers, 0);
}

#[test]
fn a_step_takes_no_more_than_its_share() {
    let network = Network::with(1, Faults::none());
    let port = open(&network, Layout::Shared, 1);
    let steps = Arc::<Mutex<Vec<usize>>>::default();
    let seen = steps.clone();
    let mut first = true;
    let step = move |lane: &mut Lane| {
        if std::mem::take(&mut first) {
            for tag in 0..1000 {
                lane.submit(Tag(tag), Op::Resolve("10.0.0.1:1".parse().unwrap()));
            }
            return Turn::Sleep(Some(Duration::from_secs(1)));
        }
        let mut taken = 0;
        while lane.next_completion().is_some() {
            taken += 1;
        }
        seen.lock().unwrap().push(taken);
        Turn::Sleep(None)
    };
    port.spawn(LaneId(0), "io", step).unwrap();
    network.settle();
    let steps = steps.lock().unwrap();
    assert_eq!(steps.iter().sum::<usize>(), 1000);
    assert!(steps.iter().all(|taken| *taken <= 16), "{steps:?}");
}

/// A clock that jumps a minute before every step.
fn jumping() -> Faults {
    let minute = Duration::from_mins(1);
    Faults { clock_jump_ppm: 1_000_000, clock_jump: minute..=minute, ..Faults::none() }
}

#[test]
fn a_jump_over_the_end_of_a_wait_leaves_nothing_undone_that_is_due() {
    for seed in 0..20 {
        let network = Network::with(seed, Faults::none());
        let server = network.serve(address()).unwrap();
        let port = open(&network, Layout::Pinned, 1);
        let ticks = Arc::<Mutex<Vec<(usize, Duration)>>>::default();
        for worker in 0..3 {
            let seen = ticks.clone();
            let tick = move |now| {
                seen.lock().unwrap().push((worker, now));
                Turn::Sleep(Some(Duration::from_secs(10)))
            };
            port.spawn_background("ticker", tick).unwrap();
        }
        let client = network.dial(address());
        network.set_faults(jumping());
        network.run_until(Some(Duration::from_secs(30)), || None::<()>);
        assert_eq!(network.now(), Duration::from_mins(1), "one jump, over the end");
        let mut ticks = ticks.lock().unwrap().clone();
        ticks.sort_unstable();
        assert_eq!(ticks, [0, 1, 2].map(|worker| (worker, network.now())));
        assert!(server.accept().is_some(), "seed {seed}: the attempt was due");
        // The next wait begins there.
        network.set_faults(Faults::none());
        network.run_until(Some(Duration::from_secs(1)), || None::<()>);
        assert_eq!(network.now(), Duration::from_secs(61));
        assert!(client.is_connected());
    }
}

#[test]
#[should_panic(expected = "livelock: workers spin")]
fn a_worker_that_spins_behind_a_jump_is_found() {
    let network = Network::with(1, jumping());
    let port = open(&network, Layout::Pinned, 1);
    port.spawn_background("spinner", |_| Turn::Again).unwrap();
    network.run_until(Some(Duration::from_secs(1)), || None::<()>);
}

#[test]
fn settling_goes_on_behind_a_jump() {
    let network = Network::with(1, Faults::none());
    let hours = Duration::from_hours(2);
    network.set_faults(Faults { clock_jump: hours..=hours, ..jumping() });
    let port = open(&network, Layout::Pinned, 1);
    let ended = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let ended = ended.clone();
        let end = move |_| {
            ended.fetch_add(1, Ordering::Relaxed);
            Turn::Done
        };
        port.spawn_background("once", end).unwrap();
    }
    network.settle();
    assert_eq!(ended.load(Ordering::Relaxed), 3, "a step was left out");
}
