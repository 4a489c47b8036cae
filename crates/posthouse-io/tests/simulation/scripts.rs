//! Scripts: tasks of the world that play the peers of a test.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse_io::Turn;
use posthouse_io::sim::{Faults, Network, RawStream, ScriptsGuard};

use crate::fixture::address;

/// Starts a script that counts its steps and sleeps without a limit.
fn counting(network: &Network, mut step: impl FnMut() + Send + 'static) -> Arc<AtomicUsize> {
    let steps = Arc::new(AtomicUsize::new(0));
    let counter = steps.clone();
    network.script("counting", move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        step();
        Turn::Sleep(None)
    });
    steps
}

#[test]
fn a_script_runs_at_each_event_of_a_scripted_peer_and_not_else() {
    let network = Network::with(1, Faults::none());
    let listener = network.serve(address()).unwrap();
    let steps = counting(&network, || {});
    let count = || {
        network.settle();
        steps.swap(0, Ordering::Relaxed)
    };
    assert_eq!((count(), count()), (1, 0), "at first, and then nothing happens");
    let client = network.dial(address());
    assert!(count() > 0, "a connection");
    let server = listener.accept().expect("it has come");
    count();
    client.send(b"hello");
    assert!(count() > 0 && server.take_received() == b"hello", "bytes");
    server.stop_reading();
    client.send(&vec![0; 1 << 20]);
    count();
    let waiting = client.unsent_bytes();
    server.resume_reading();
    assert!(count() > 0 && client.unsent_bytes() < waiting, "room");
    client.finish();
    assert!(count() > 0 && server.is_ended(), "an end");
    server.reset();
    assert!(count() > 0 && client.is_reset(), "a reset");
    let nowhere = network.dial("10.9.9.9:9".parse().unwrap());
    assert!(count() > 0 && nowhere.is_refused(), "a refusal");
    assert_eq!(count(), 0);
}

#[test]
fn a_script_sleeps_in_virtual_time_and_settling_does_not_wait_for_it() {
    let network = Network::with(1, Faults::none());
    network.run_until(Some(Duration::from_secs(5)), || None::<()>);
    let times = Arc::<Mutex<Vec<u64>>>::default();
    let seen = times.clone();
    network.script("ticking", move |now| {
        let mut seen = seen.lock().unwrap();
        seen.push(now.as_secs());
        if seen.len() == 3 { Turn::Done } else { Turn::Sleep(Some(Duration::from_secs(2))) }
    });
    network.settle();
    assert_eq!(*times.lock().unwrap(), [5]);
    network.run_until(Some(Duration::from_mins(1)), || None::<()>);
    assert_eq!(*times.lock().unwrap(), [5, 7, 9]);
}

#[test]
fn equal_seeds_run_scripts_equally() {
    let run = |seed| {
        let network = Network::with(seed, Faults::from_seed(seed));
        let _guard = ScriptsGuard::new(&network);
        network.serve(address()).unwrap().answer(|peer| peer.send(&peer.take_received()));
        let client = network.dial(address());
        client.send(&[7; 10_000]);
        network.settle();
        (network.fingerprint(), client.take_received().len())
    };
    for seed in 0..50 {
        assert_eq!(run(seed), run(seed));
    }
}

#[test]
fn a_panic_of_a_script_reaches_the_driver() {
    let network = Network::with(1, Faults::none());
    network.script("failing", |_| panic!("{}", "what the script expected"));
    let panic = catch_unwind(AssertUnwindSafe(|| network.settle())).expect_err("it panics");
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "what the script expected");
}

#[test]
#[should_panic(expected = "a worker's step cannot drive the world")]
fn a_script_cannot_drive_the_world() {
    let network = Network::with(1, Faults::none());
    let driven = network.clone();
    network.script("driving", move |_| {
        driven.step();
        Turn::Done
    });
    network.settle();
}

#[test]
fn scripts_that_end_release_what_they_hold() {
    let network = Network::with(1, Faults::none());
    let guard = ScriptsGuard::new(&network);
    let listener = network.serve(address()).unwrap();
    let held = Arc::new(());
    let start = |turn| {
        let held = held.clone();
        let raw: RawStream = network.dial(address());
        network.script("holding", move |_| {
            let _ = (&held, &raw);
            turn
        });
    };
    start(Turn::Sleep(None));
    start(Turn::Sleep(Some(Duration::from_secs(1))));
    network.settle();
    start(Turn::Done);
    assert_eq!(Arc::strong_count(&held), 4);
    network.settle();
    assert_eq!(Arc::strong_count(&held), 3, "the last one has ended");
    drop(guard);
    assert_eq!(Arc::strong_count(&held), 1);
    network.run_until(Some(Duration::from_secs(5)), || None::<()>);
    let peers: Vec<RawStream> = std::iter::from_fn(|| listener.accept()).collect();
    assert!(peers.len() == 2 && peers.iter().all(RawStream::is_ended), "{peers:?}");
}
