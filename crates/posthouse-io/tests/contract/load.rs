//! Many bytes, receives and workers: the order is kept.

use crate::flow::{Reader, Sender};
use crate::harness::{Harness, assert_same, pattern};

/// Carries bytes both ways over several connections at once, with `pending` receives on each end.
/// Returns the number of completions that overtook an older one.
fn carry(harness: &Harness, connections: usize, bytes: usize, pending: usize) -> usize {
    let listening = harness.listen(harness.lane(0));
    let mut flows = Vec::new();
    for n in 0..connections {
        let (near, far) = harness.pair_by(listening);
        for (from, to, salt) in [(near, far, 2 * n), (far, near, 2 * n + 1)] {
            let data = pattern(bytes, salt as u64 + 100);
            let reader = Reader::start(harness, to, pending);
            flows.push((from, Sender::start(harness, from, &data), reader, data));
        }
    }
    for (from, sender, _, _) in &flows {
        assert_eq!(sender.wait(harness), Ok(()));
        harness.shutdown(*from);
    }
    let mut overtaken = 0;
    for (_, _, reader, data) in &flows {
        let (got, end) = reader.wait(harness);
        assert_same(&got, data);
        assert_eq!(end, Ok(()));
        overtaken += reader.overtaken();
    }
    harness.close_all(flows.into_iter().map(|(end, ..)| end));
    harness.unlisten(listening);
    overtaken
}

pub fn some_megabytes_go_both_ways_unchanged(harness: &Harness) {
    carry(harness, 1, if harness.real { 8 << 20 } else { 100 << 10 }, 1);
}

pub fn the_order_holds_with_several_receives_pending_and_several_workers(harness: &Harness) {
    let (connections, bytes) = if harness.real { (8, 2 << 20) } else { (3, 30 << 10) };
    let overtaken = carry(harness, connections, bytes, 4);
    // Without overtaking completions this test would not have tested their order.
    if harness.real && !harness.sees_order {
        assert!(overtaken > 0, "several workers took completions out of order");
    }
}

pub fn steps_that_take_one_completion_and_sleep_leave_nothing_behind(harness: &Harness) {
    harness.driver.take_at_most(1);
    carry(harness, 3, if harness.real { 256 << 10 } else { 20 << 10 }, 2);
}
