use std::net::SocketAddr;

use super::*;

/// A budget, and the connections that were notified.
struct Fixture {
    budget: Arc<FairBudget>,
    notified: Arc<Mutex<Vec<PeerId>>>,
}

impl Fixture {
    fn new(max: u64) -> Self {
        let notified = Arc::new(Mutex::new(Vec::new()));
        let kept = notified.clone();
        let budget = FairBudget::new(max, move |peer| lock(&kept).push(peer));
        Self { budget, notified }
    }

    fn lease(&self, ip: &str, number: u32) -> Lease {
        let prefix = AddressPrefix::of(SocketAddr::new(ip.parse().unwrap(), 1).into(), 64);
        Lease::empty(&self.budget, prefix, PeerId::new(number, 1))
    }

    /// Returns a lease of this amount, which is there.
    fn taken(&self, ip: &str, number: u32, amount: u64) -> Lease {
        let mut lease = self.lease(ip, number);
        assert!(lease.extend(amount), "{number} has to wait");
        lease
    }

    /// Returns a lease that waits.
    fn waiting(&self, ip: &str, number: u32, amount: u64) -> Lease {
        let mut lease = self.lease(ip, number);
        assert!(!lease.extend(amount), "{number} need not wait");
        lease
    }

    /// Returns the connections that were notified since the last call.
    fn notified(&self) -> Vec<u32> {
        lock(&self.notified).drain(..).map(PeerId::slot).collect()
    }

    fn assert_empty(&self) {
        let state = lock(&self.budget.state);
        assert!(state.used == 0 && state.by_prefix.is_empty() && state.turns.is_empty());
    }

    fn turns(&self) -> usize {
        lock(&self.budget.state).turns.len()
    }
}

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";
const C: &str = "192.0.2.3";

#[test]
fn a_prefix_gets_a_quarter_and_others_find_room() {
    let it = Fixture::new(400);
    let first = it.taken(A, 1, 60);
    let mut second = it.waiting(A, 2, 60);
    let other = it.taken(B, 3, 100);
    assert!(it.notified().is_empty());
    drop(first);
    assert_eq!(it.notified(), [2]);
    second.collect();
    assert_eq!((second.amount(), it.budget.used()), (60, 160));
    second.collect();
    assert_eq!(second.amount(), 60, "collected once");
    drop((second, other));
    it.assert_empty();
}

#[test]
fn prefixes_take_turns_and_connections_of_one_keep_their_order() {
    let it = Fixture::new(40);
    let held: Vec<Lease> = (10..14).map(|n| it.taken(&format!("198.51.100.{n}"), n, 10)).collect();
    let waiting: Vec<Lease> = (1..=3).map(|number| it.waiting(A, number, 10)).collect();
    let other = it.waiting(B, 4, 10);
    let mut order = Vec::new();
    for lease in held {
        drop(lease);
        order.extend(it.notified());
    }
    // The third of one prefix waits for its share.
    assert_eq!(order, [1, 4]);
    for lease in waiting {
        drop(lease);
        order.extend(it.notified());
    }
    assert_eq!(order, [1, 4, 2, 3]);
    drop(other);
    it.assert_empty();
}

#[test]
fn whoever_holds_nothing_gets_any_amount_in_turn() {
    let it = Fixture::new(10);
    let large = it.taken(A, 1, 1000);
    let _next = it.waiting(B, 2, 500);
    drop(large);
    assert_eq!(it.notified(), [2]);
}

#[test]
fn nobody_passes_those_that_wait() {
    let it = Fixture::new(100);
    let held = it.taken(A, 1, 90);
    let _waits = it.waiting(B, 2, 20);
    let _would_fit = it.waiting(C, 3, 5);
    drop(held);
    assert_eq!(it.notified(), [2, 3]);
}

#[test]
fn a_prefix_that_waits_for_its_own_share_holds_up_no_other() {
    let it = Fixture::new(400);
    let _held = it.taken(A, 1, 60);
    let _large = it.waiting(A, 2, 60);
    let _small = it.waiting(A, 3, 10);
    let _other = it.taken(B, 4, 100);
    assert!(it.notified().is_empty());
}

#[test]
fn those_that_are_gone_hold_up_nobody() {
    let it = Fixture::new(100);
    let first = it.taken(A, 1, 90);
    let gone = it.waiting(B, 2, 50);
    let mut next = it.waiting(C, 3, 50);
    drop(gone);
    assert!(it.notified().is_empty());
    drop(first);
    assert_eq!(it.notified(), [3]);
    // One that ends before it collects gives back what it was granted.
    let granted = it.waiting(A, 4, 60);
    next.collect();
    drop(next);
    assert_eq!(it.notified(), [4]);
    let last = it.waiting(B, 5, 80);
    drop(granted);
    assert_eq!(it.notified(), [5]);
    drop(last);
    it.assert_empty();
}

#[test]
fn a_lease_grows_and_shrinks() {
    let it = Fixture::new(400);
    let mut lease = it.taken(A, 1, 60);
    assert!(lease.extend(40) && !lease.extend(1));
    lease.shrink_to(30);
    assert_eq!((it.notified(), it.budget.used()), (vec![1], 31));
    lease.collect();
    lease.shrink_to(50);
    assert_eq!(lease.amount(), 31);
    drop(lease);
    it.assert_empty();
}

#[test]
fn a_prefix_has_one_turn_however_often_it_waits_and_leaves() {
    let it = Fixture::new(100);
    let held = it.taken(A, 1, 100);
    let _first = it.waiting(B, 2, 10);
    for number in 3..20 {
        drop(it.waiting(C, number, 10));
        assert_eq!(it.turns(), 1, "the one that left has no turn");
        let _again = it.waiting(C, number, 10);
        assert_eq!(it.turns(), 2);
    }
    drop(held);
    assert_eq!(it.notified(), [2]);
}

#[test]
fn a_prefix_that_was_granted_and_waits_again_has_one_turn() {
    let it = Fixture::new(100);
    let mut held = it.taken(A, 1, 100);
    let _granted = it.waiting(B, 2, 10);
    let _first = it.waiting(C, 3, 60);
    held.shrink_to(80);
    assert_eq!(it.notified(), [2]);
    let _again = it.waiting(B, 4, 10);
    assert_eq!(it.turns(), 2);
}

#[test]
fn whoever_holds_something_knows_of_the_turns_of_others() {
    let it = Fixture::new(400);
    let held = it.taken(A, 1, 100);
    let mut other = it.taken(B, 2, 100);
    let nobody = GrantsAwaited::default();
    assert_eq!(held.grants_awaited(), nobody);
    let more: Vec<Lease> = [C, "192.0.2.4"].iter().map(|ip| it.taken(ip, 4, 100)).collect();
    let waits = it.waiting("192.0.2.5", 5, 50);
    assert_eq!(waits.grants_awaited(), nobody, "it holds nothing");
    let _next = it.waiting("192.0.2.6", 6, 60);
    let before = held.grants_awaited();
    assert!(held.grants_awaited().stands_still_since(before));
    assert!(!before.stands_still_since(nobody), "the wait has just begun");
    other.shrink_to(40);
    assert_eq!(it.notified(), [5]);
    assert!(!held.grants_awaited().stands_still_since(before), "one has had its turn");
    drop(more);
    assert_eq!((it.notified(), held.grants_awaited()), (vec![6], nobody));
}

/// Those that wait for the share of their own prefix do not take part in the turns.
#[test]
fn the_turns_of_other_prefixes_do_not_help_those_that_wait_for_a_share() {
    let it = Fixture::new(400);
    let mut held = it.taken(A, 1, 60);
    let _sibling = it.waiting(A, 2, 50);
    let mut rest: Vec<Lease> = [B, C, "192.0.2.4"].iter().map(|ip| it.taken(ip, 3, 100)).collect();
    let _other = it.waiting("192.0.2.5", 5, 50);
    let before = held.grants_awaited();
    rest.pop();
    assert_eq!(it.notified(), [5]);
    assert!(held.grants_awaited().stands_still_since(before), "the sibling still waits");
    held.shrink_to(20);
    assert_eq!(it.notified(), [2]);
    assert!(!held.grants_awaited().stands_still_since(before));
}

#[test]
fn a_waiter_is_told_once_until_it_has_looked() {
    let it = Fixture::new(100);
    let held = it.taken(A, 1, 100);
    let mut waits = it.waiting(B, 2, 10);
    it.budget.notify_waiting();
    it.budget.notify_waiting();
    assert_eq!(it.notified(), [2]);
    waits.collect();
    assert!(waits.is_waiting());
    it.budget.notify_waiting();
    assert_eq!(it.notified(), [2]);
    drop(held);
    assert_eq!(it.notified(), [2]);
    waits.collect();
    assert!(!waits.is_waiting());
}

#[test]
fn one_that_waits_already_goes_on_waiting_for_the_first_amount() {
    let it = Fixture::new(100);
    let held = it.taken(A, 1, 100);
    let mut waits = it.waiting(B, 2, 10);
    assert!(!waits.extend(60));
    drop(held);
    waits.collect();
    assert_eq!((waits.amount(), it.budget.used()), (10, 10));
    assert!(waits.extend(5));
    drop(waits);
    it.assert_empty();
}

#[test]
fn one_that_stops_waiting_gives_back_what_it_has_not_collected() {
    let it = Fixture::new(100);
    let held = it.taken(A, 1, 100);
    let mut waits = it.waiting(B, 2, 60);
    let mut next = it.waiting(C, 3, 60);
    drop(held);
    waits.stop_waiting();
    assert_eq!(it.notified(), [2, 3]);
    next.collect();
    waits.collect();
    assert_eq!((waits.amount(), next.amount(), it.budget.used()), (0, 60, 60));
    drop((waits, next));
    it.assert_empty();
}
