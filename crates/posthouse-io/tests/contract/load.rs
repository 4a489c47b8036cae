//! Many bytes, many receives, many workers: the order holds.

use crate::bed::{Bed, assert_same, pattern};
use crate::flow::{Reader, Sender};

/// Carries bytes both ways over several connections at once, with `pending` receives on each end,
/// and gives back how many completions overtook an older one.
fn carry(bed: &Bed, connections: usize, bytes: usize, pending: usize) -> usize {
    let listening = bed.listen(bed.lane(0));
    let mut flows = Vec::new();
    for n in 0..connections {
        let (near, far) = bed.pair_by(listening);
        for (from, to, salt) in [(near, far, 2 * n), (far, near, 2 * n + 1)] {
            let data = pattern(bytes, salt as u64 + 100);
            let reader = Reader::start(bed, to, pending);
            flows.push((from, Sender::start(bed, from, &data), reader, data));
        }
    }
    for (from, sender, _, _) in &flows {
        assert_eq!(sender.wait(bed), Ok(()));
        bed.shutdown(*from);
    }
    let mut overtaken = 0;
    for (_, _, reader, data) in &flows {
        let (got, end) = reader.wait(bed);
        assert_same(&got, data);
        assert_eq!(end, Ok(()));
        overtaken += reader.overtaken();
    }
    bed.close_all(flows.into_iter().map(|(end, ..)| end));
    bed.unlisten(listening);
    overtaken
}

pub fn some_megabytes_go_both_ways_unchanged(bed: &Bed) {
    carry(bed, 1, if bed.real { 8 << 20 } else { 100 << 10 }, 1);
}

pub fn the_order_holds_with_several_receives_pending_and_several_workers(bed: &Bed) {
    let (connections, bytes) = if bed.real { (8, 2 << 20) } else { (3, 30 << 10) };
    let overtaken = carry(bed, connections, bytes, 4);
    // Otherwise this test would not have seen what it is here for.
    if bed.real && !bed.sees_order {
        assert!(overtaken > 0, "several workers took completions out of order");
    }
}

pub fn steps_that_take_one_completion_and_sleep_leave_nothing_behind(bed: &Bed) {
    bed.driver.take_at_most(1);
    carry(bed, 3, if bed.real { 256 << 10 } else { 20 << 10 }, 2);
}
