//! The thread that a world belongs to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use posthouse_io::sim::{Faults, Network};
use posthouse_io::{LaneId, Layout, Turn};

use crate::fixture::open;

/// Runs a call on another thread, and returns the text of its panic.
fn panic_elsewhere(call: impl FnOnce() + Send) -> String {
    let call = AssertUnwindSafe(call);
    let panic = thread::scope(|scope| scope.spawn(|| catch_unwind(call)).join().unwrap());
    *panic.expect_err("the call panics").downcast().expect("a text")
}

#[test]
fn a_call_from_another_thread_panics_and_changes_nothing() {
    let network = Network::with(7, Faults::none());
    let port = open(&network, Layout::Pinned, 1);
    port.spawn(LaneId(0), "worker", |_| Turn::Sleep(None)).unwrap();
    network.settle();
    let before = network.fingerprint();
    let calls: [Box<dyn FnOnce() + Send + '_>; 4] = [
        Box::new(|| port.wake(LaneId(0))),
        Box::new(|| port.assert_owned()),
        Box::new(|| _ = network.random()),
        Box::new(|| network.settle()),
    ];
    for call in calls {
        let text = panic_elsewhere(call);
        let name = thread::current().name().unwrap_or("without a name").to_owned();
        let owner = format!("this world belongs to the thread \"{name}\"");
        assert!(text.contains(&owner) && text.contains("callbacks or scripts"), "{text}");
    }
    assert_eq!(network.fingerprint(), before);
    port.assert_owned();
}

#[test]
fn a_world_belongs_to_the_first_thread_that_uses_it() {
    let network = Network::new(7);
    let there = network.clone();
    thread::spawn(move || there.settle()).join().unwrap();
    let text = catch_unwind(AssertUnwindSafe(|| network.now())).expect_err("it is too late");
    assert!(text.downcast_ref::<String>().unwrap().contains("without a name"));
}

/// A thread that panics drops what it has of a world, and its own message remains.
#[test]
fn a_thread_that_panics_may_drop_its_share_of_a_world() {
    let network = Network::new(7);
    let raw = network.dial("10.0.0.1:1".parse().unwrap());
    let text = panic_elsewhere(move || {
        let _raw = raw;
        panic!("{}", "its own reason");
    });
    assert_eq!(text, "its own reason");
}
