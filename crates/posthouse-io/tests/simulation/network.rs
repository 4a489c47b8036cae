//! The simulated network: its hosts, addresses and names, and its accept queues.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use posthouse_io::sim::{Faults, Network};
use posthouse_io::{Address, Cancel, Failure, Lane, Layout, ListenOptions, Op, Outcome, Tag};

use crate::fixture::Fixture;

fn quiet(seed: u64) -> Network {
    Network::with(seed, Faults::none())
}

fn failure(outcome: &Outcome) -> Option<Failure> {
    match outcome {
        Outcome::Failed(error) => Some(error.failure),
        _ => None,
    }
}

#[test]
fn nobody_listening_is_a_refusal_and_a_black_hole_is_silence() {
    let fixture = Fixture::new(&quiet(1));
    let [socket, other] = [(); 2].map(|()| fixture.on_lane(Lane::socket));
    let address: Address = "10.0.0.9:9000".parse().unwrap();
    let refused = fixture.perform(Op::Connect(socket, address));
    assert_eq!(failure(&refused), Some(Failure::Refused));
    fixture.network.blackhole(address);
    let connect = fixture.submit(Op::Connect(other, address));
    assert!(fixture.completion().is_none(), "a connect to a black hole completed");
    fixture.on_lane(move |lane| lane.cancel(other, Cancel::Everything));
    assert_eq!(failure(&fixture.outcome(connect)), Some(Failure::Cancelled));
    fixture.close(&[socket, other]);
    fixture.end_clean();
}

fn local(port: u16) -> Address {
    SocketAddr::from(([127, 0, 0, 1], port)).into()
}

#[test]
fn the_ends_of_a_connection_differ() {
    let fixture = Fixture::new(&quiet(1));
    // The first two ports that connecting ends get.
    let [first, second] = [32_768, 32_769].map(local);
    let sockets = [(); 2].map(|()| fixture.on_lane(Lane::socket));
    let (listener, _) = fixture.listen(&first.to_string());
    let connected = fixture.perform(Op::Connect(sockets[0], first));
    assert!(matches!(connected, Outcome::Connected), "{connected:?}");
    let near = fixture.on_lane(move |lane| lane.local_address(sockets[0]));
    assert_eq!(near, Some(second));
    // A listener comes at the port of the connecting end while the connect is on its way.
    let third = local(32_770);
    let port = fixture.port.clone();
    let other = sockets[1];
    let late = fixture.on_lane(move |lane| {
        lane.submit(Tag(77), Op::Connect(other, third));
        port.listen(third, ListenOptions::default()).expect("nobody listens there")
    });
    assert_eq!(failure(&fixture.outcome(Tag(77))), Some(Failure::Refused));
    drop(late);
    fixture.close(&[sockets[0], other, listener]);
    fixture.end_clean();
}

#[test]
fn a_full_accept_queue_makes_peers_wait_and_then_time_out() {
    let fixture = Fixture::new(&quiet(1));
    let options = ListenOptions { backlog: 2, ..ListenOptions::default() };
    let (listener, address) = fixture.listen_with("127.0.0.1:0", options);
    let peers = [(); 3].map(|()| fixture.network.dial(address));
    fixture.network.settle();
    let up = peers.iter().filter(|peer| peer.is_connected()).count();
    let refused = peers.iter().filter(|peer| peer.is_refused()).count();
    assert_eq!((up, refused), (2, 1));
    // A peer that connects after the queue has room again is accepted.
    let late = fixture.network.dial(address);
    fixture.network.run_until(Some(Duration::from_millis(100)), || None::<()>);
    assert!(!late.is_connected());
    fixture.submit(Op::Accept(listener));
    fixture.network.settle();
    assert!(late.is_connected());
}

#[test]
fn closing_a_listener_resets_who_stands_in_its_queue() {
    let fixture = Fixture::new(&quiet(1));
    let (listener, address) = fixture.listen("127.0.0.1:0");
    let raw = fixture.network.dial(address);
    fixture.network.settle();
    assert!(raw.is_connected());
    assert!(matches!(fixture.perform(Op::Close(listener)), Outcome::Closed));
    fixture.network.settle();
    assert!(raw.is_reset());
    let again = fixture.network.dial(address);
    fixture.network.settle();
    assert!(again.is_refused());
    fixture.end_clean();
}

#[test]
fn a_peer_that_leaves_the_accept_queue_may_vanish_and_accepting_goes_on() {
    let mut vanished = 0;
    let mut came = 0;
    for seed in 0..50 {
        let fixture = Fixture::new(&Network::new(seed));
        let (listener, address) = fixture.listen("127.0.0.1:0");
        let gone = fixture.network.dial(address);
        fixture.network.settle();
        gone.reset();
        fixture.network.settle();
        let _stays = fixture.network.dial(address);
        fixture.network.settle();
        let accept = fixture.submit(Op::Accept(listener));
        fixture.network.settle();
        let Outcome::Accepted(first) = fixture.outcome(accept) else { panic!("accepted") };
        *if first.peer == gone.local_address() { &mut came } else { &mut vanished } += 1;
    }
    assert!(vanished > 5 && came > 5, "{vanished} connections vanished, {came} arrived");
}

#[test]
fn each_port_is_a_host_and_loopback_is_loopback() {
    let network = quiet(1);
    let server = Fixture::new(&network);
    let client = Fixture::new(&network);
    for (listen, expected) in [("0.0.0.0:700", "10.200.0.2"), ("[::]:800", "fd00::2")] {
        let (listener, local) = server.listen(listen);
        let accept = server.submit(Op::Accept(listener));
        let target = match expected.parse::<IpAddr>().unwrap() {
            IpAddr::V4(_) => "10.1.1.1:700",
            IpAddr::V6(_) => "[2001:db8::1]:800",
        };
        let socket = client.on_lane(Lane::socket);
        assert!(matches!(
            client.perform(Op::Connect(socket, target.parse().unwrap())),
            Outcome::Connected
        ));
        let Outcome::Accepted(new) = server.outcome(accept) else { panic!("accepted") };
        assert_eq!(new.peer.ip(), expected.parse::<IpAddr>().unwrap());
        assert_eq!(client.on_lane(move |lane| lane.local_address(socket)), Some(new.peer));
        let accepted = server.on_lane(move |lane| lane.adopt(*new));
        let here = server.on_lane(move |lane| lane.local_address(accepted));
        assert_eq!(here, Some(target.parse().unwrap()));
        assert_eq!(local.to_string(), listen);
    }
    let source = "192.0.2.7".parse().unwrap();
    let raw = network.dial_from(source, "10.1.1.1:700".parse().unwrap());
    assert_eq!(raw.local_address().ip(), source);
    let local = network.dial("127.0.0.1:700".parse().unwrap());
    assert!(local.local_address().is_loopback());
}

#[test]
fn an_address_in_use_is_told_and_free_again_after_the_listener() {
    let fixture = Fixture::new(&quiet(1));
    let address = "127.0.0.1:9000".parse().unwrap();
    let first = fixture.port.listen(address, ListenOptions::default()).unwrap();
    let second = fixture.port.listen(address, ListenOptions::default()).unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
    drop(first);
    assert!(fixture.port.listen(address, ListenOptions::default()).is_ok());
}

#[test]
fn names_resolve_as_they_are_given() {
    let network = quiet(1);
    let ips: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    network.name("example.org", &ips);
    let fixture = Fixture::new(&network);
    let look_up = |name: &str| fixture.perform(Op::Resolve(name.parse().unwrap()));
    let Outcome::Resolved(found) = look_up("example.org:90") else { panic!("resolved") };
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.0.0.1:90", "[fd00::1]:90"]);
    let Outcome::Resolved(found) = look_up("10.9.9.9:90") else { panic!("resolved") };
    assert_eq!(found[0].to_string(), "10.9.9.9:90");
    assert_eq!(failure(&look_up("example.com:90")), Some(Failure::NameNotFound));
}

#[test]
fn a_look_up_that_hangs_is_cancelled_and_leaves_nothing() {
    let network = quiet(1);
    let name = |text: &str| text.parse::<posthouse_io::Name>().unwrap();
    network.hang_name("localhost");
    let fixture = Fixture::new(&network);
    let one = fixture.submit(Op::Resolve(name("localhost:1")));
    let other = fixture.submit(Op::Resolve(name("localhost:2")));
    assert!(fixture.completion().is_none(), "no name server answers");
    fixture.on_lane(move |lane| lane.cancel_look_up(one));
    assert_eq!(failure(&fixture.outcome(one)), Some(Failure::Cancelled));
    network.resume_name("localhost");
    assert!(matches!(fixture.outcome(other), Outcome::Resolved(_)));
    fixture.on_lane(move |lane| lane.cancel_look_up(other));
    assert!(fixture.completion().is_none());
    fixture.end_clean();
}

#[test]
fn a_foreign_server_can_be_played() {
    let network = quiet(1);
    let server = network.serve("10.0.0.5:80".parse().unwrap()).unwrap();
    let fixture = Fixture::new(&network);
    let socket = fixture.on_lane(Lane::socket);
    assert!(matches!(
        fixture.perform(Op::Connect(socket, server.local_address())),
        Outcome::Connected
    ));
    let raw = server.accept().expect("the peer has connected");
    assert!(server.accept().is_none());
    fixture.send(socket, b"hello");
    fixture.network.settle();
    assert_eq!(raw.take_received(), b"hello");
    raw.send(b"welcome");
    assert!(matches!(fixture.receive(socket), Outcome::Received(b) if *b == *b"welcome"));
}

#[test]
fn a_peer_that_is_not_registered_is_closed_when_dropped_and_reset_when_refused() {
    for refuse in [true, false] {
        let fixture = Fixture::with(&quiet(1), Layout::Shared);
        let (listener, address) = fixture.listen("127.0.0.1:0");
        let accept = fixture.submit(Op::Accept(listener));
        let raw = fixture.network.dial(address);
        let Outcome::Accepted(new) = fixture.outcome(accept) else { panic!("accepted") };
        if refuse {
            new.refuse();
        } else {
            drop(new);
        }
        fixture.network.settle();
        assert_eq!((raw.is_reset(), raw.is_ended()), (refuse, !refuse));
    }
}
