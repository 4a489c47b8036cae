use std::cell::Cell;
use std::net::SocketAddr;

use super::*;

/// Places whose registry gives the slots in order, as many as there may be.
struct Fixture {
    admissions: Admissions,
    max_connections: usize,
    allocated: Cell<usize>,
    next_slot: Cell<u32>,
    evicted: Vec<Evicted>,
}

impl Fixture {
    fn new(max_connections: usize, max_unadmitted: usize, max_per_address: usize) -> Self {
        let admissions = Admissions::new(Bounds { max_unadmitted, max_per_address });
        let allocated = Cell::new(0);
        let next_slot = Cell::new(0);
        Self { admissions, max_connections, allocated, next_slot, evicted: Vec::new() }
    }

    fn accept_if(&mut self, ip: &str, is_unadmitted: bool) -> Result<Place, &'static str> {
        let prefix = prefix(ip);
        let newcomer = Newcomer { prefix, is_unadmitted, is_loopback: ip == "127.0.0.1" };
        let allocated = &self.allocated;
        let next = &self.next_slot;
        let max = self.max_connections;
        self.admissions.accept(newcomer, &mut self.evicted, |spare| {
            (allocated.get() < max + spare).then(|| {
                allocated.set(allocated.get() + 1);
                next.set(next.get() + 1);
                PeerId::new(next.get(), 1)
            })
        })
    }

    fn accept(&mut self, ip: &str) -> Place {
        self.accept_if(ip, true).expect("a place")
    }

    fn end(&self, ip: &str, place: Place) {
        self.allocated.set(self.allocated.get() - 1);
        let id = place.id;
        let ticket = place.ticket;
        self.admissions.release(Ended { id, accepted_from: Some(prefix(ip)), ticket });
    }

    /// Admits a peer, as its strand does: the ticket of an admitted peer is gone.
    fn admit(&self, ip: &str, place: &mut Place) -> bool {
        let ticket = place.ticket.expect("an unadmitted peer");
        let admitted = self.admissions.admit(prefix(ip), ticket);
        place.ticket = (!admitted).then_some(ticket);
        admitted
    }

    fn evicted(&mut self) -> Vec<PeerId> {
        self.evicted.drain(..).map(|evicted| evicted.id).collect()
    }
}

fn prefix(ip: &str) -> AddressPrefix {
    AddressPrefix::of(SocketAddr::new(ip.parse().unwrap(), 1).into(), 64)
}

const FLOODER: &str = "2001:db8::1";
const HONEST: &str = "192.0.2.1";

#[test]
fn the_prefix_with_the_most_loses_its_oldest() {
    let mut places = Fixture::new(100, 4, 0);
    let mut honest = places.accept(HONEST);
    let mut flood: Vec<Place> = (1..=3).map(|n| places.accept(&format!("2001:db8::{n}"))).collect();
    assert!(places.evicted().is_empty());
    for n in 0..1000 {
        let newest = places.accept(&format!("2001:db8::1:{n:x}"));
        let mut oldest = flood.remove(0);
        assert_eq!(places.evicted(), [oldest.id]);
        assert!(!places.admit(FLOODER, &mut oldest), "it has lost its place");
        places.end(FLOODER, oldest);
        flood.push(newest);
    }
    assert!(places.admit(HONEST, &mut honest), "its place is its own");
}

/// A newcomer counts before it is decided who loses a place.
#[test]
fn a_newcomer_makes_its_own_prefix_the_largest() {
    let mut places = Fixture::new(2, 2, 0);
    let _honest = places.accept(HONEST);
    let flooder = places.accept(FLOODER);
    places.accept(FLOODER);
    assert_eq!(places.evicted(), [flooder.id], "max_unadmitted is reached");

    let mut places = Fixture::new(2, 3, 0);
    let _honest = places.accept(HONEST);
    let flooder = places.accept(FLOODER);
    places.accept(FLOODER);
    assert_eq!(places.evicted(), [flooder.id], "max_connections is reached");
}

#[test]
fn of_several_prefixes_with_as_many_the_oldest_peer_goes() {
    let mut places = Fixture::new(100, 3, 0);
    let ips = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    let first: Vec<Place> = ips.iter().map(|ip| places.accept(ip)).collect();
    for (n, place) in first.iter().enumerate() {
        places.accept(&format!("198.51.100.{n}"));
        assert_eq!(places.evicted(), [place.id]);
    }
}

#[test]
fn who_is_admitted_or_gone_leaves_the_budget_and_who_was_admitted_stays() {
    let mut places = Fixture::new(100, 2, 0);
    for _ in 0..10 {
        let mut place = places.accept(HONEST);
        assert!(places.admit(HONEST, &mut place));
        let other = places.accept(HONEST);
        places.end(HONEST, other);
    }
    assert!(places.evicted().is_empty());
    assert_eq!(places.admissions.unadmitted(), 0);
    assert_eq!(places.accept_if(HONEST, false).map(|place| place.ticket), Ok(None));
}

#[test]
fn a_house_full_of_unadmitted_peers_has_room_for_each_newcomer() {
    let mut places = Fixture::new(4, 4, 0);
    let mut admitted = places.accept(HONEST);
    assert!(places.admit(HONEST, &mut admitted));
    let flood: Vec<Place> = (0..3).map(|_| places.accept(FLOODER)).collect();
    let open = places.accept_if(HONEST, false).expect("also for who is admitted at once");
    assert_eq!(places.evicted(), [flood[0].id]);
    let mut evicted = Vec::new();
    let outgoing = places.admissions.connect(&mut evicted, |spare| {
        assert!(spare <= 2, "the evicted do not count");
        (spare == 2).then_some(PeerId::new(99, 1))
    });
    assert!(outgoing.is_some(), "also for an outgoing connection");
    assert_eq!((evicted.len(), evicted[0].id), (1, flood[1].id));
    places.end(FLOODER, flood[0]);
    places.end(FLOODER, flood[1]);
    places.end(HONEST, open);
    places.end(HONEST, admitted);
    assert_eq!(places.admissions.evicted.load(Ordering::SeqCst), 0);
}

#[test]
fn of_a_full_address_an_unadmitted_peer_goes_and_an_admitted_one_does_not() {
    let mut places = Fixture::new(100, 10, 2);
    let mut first = places.accept(HONEST);
    let second = places.accept(HONEST);
    assert!(places.admit(HONEST, &mut first));
    let mut third = places.accept(HONEST);
    assert_eq!(places.evicted(), [second.id]);
    assert!(places.admit(HONEST, &mut third));
    let refused = places.accept_if(HONEST, true);
    assert_eq!(refused, Err("max_connections_per_address"));
    places.accept(FLOODER);
    places.end(HONEST, second);
    assert_eq!(places.accept_if(HONEST, true), refused, "its place was taken before");
    places.end(HONEST, first);
    places.accept(HONEST);
    for _ in 0..10 {
        places.accept("127.0.0.1");
    }
    assert_eq!(places.evicted().len(), 2, "loopback is exempt, but not from the budget");
}

#[test]
fn the_evicted_that_have_not_ended_are_bounded_and_a_flood_leaves_others_their_part() {
    let mut places = Fixture::new(100, 2, 0);
    let mut flood: Vec<Place> = (0..2).map(|_| places.accept(FLOODER)).collect();
    while let Ok(place) = places.accept_if(FLOODER, true) {
        flood.push(place);
    }
    assert_eq!(places.evicted().len(), MIN_EVICTED / 2);
    let refused = places.accept_if(FLOODER, true);
    assert_eq!(refused, Err("max_unadmitted"));
    let mut honest = 0;
    while places.accept_if(&format!("192.0.{}.{}", honest / 256, honest % 256), true).is_ok() {
        honest += 1;
    }
    assert_eq!(honest, MIN_EVICTED / 2, "the rest of the bound");
    places.end(FLOODER, flood[0]);
    places.accept(HONEST);
}
