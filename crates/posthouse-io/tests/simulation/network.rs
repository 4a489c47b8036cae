//! The network: what travels, how streams end, who can be reached.

use std::net::IpAddr;
use std::time::Duration;

use posthouse_io::sim::{Faults, Network};
use posthouse_io::{
    Address, Cancel, Failure, Lane, Layout, ListenOptions, Op, Outcome, ReceiveMode, Socket,
};

use crate::rig::{Rig, gather};

fn quiet(seed: u64) -> Network {
    Network::with(seed, Faults::none())
}

fn failure(outcome: &Outcome) -> Option<Failure> {
    match outcome {
        Outcome::Failed(error) => Some(error.failure),
        _ => None,
    }
}

/// Everything that a socket receives, to the end or the failure.
fn read_out(rig: &Rig, socket: Socket) -> (Vec<u8>, Outcome) {
    let mut bytes = Vec::new();
    loop {
        match rig.receive(socket) {
            Outcome::Received(buffer) => bytes.extend_from_slice(&buffer),
            end => return (bytes, end),
        }
    }
}

#[test]
fn what_a_script_sends_arrives_and_what_is_sent_reaches_the_script() {
    for seed in 0..100 {
        let rig = Rig::new(&Network::new(seed));
        let (socket, raw, listener) = rig.pair();
        raw.send(b"from outside");
        raw.finish();
        assert_eq!(read_out(&rig, socket).0, b"from outside");
        let mut left = b"from inside".to_vec();
        while !left.is_empty() {
            let Outcome::Sent { bytes, .. } = rig.send(socket, &left) else { panic!("sent") };
            left.drain(..bytes);
        }
        rig.network.settle();
        assert_eq!(raw.take_received(), b"from inside");
        assert!(raw.is_connected() && !raw.is_ended() && !raw.is_reset());
        rig.close(&[socket, listener]);
        rig.network.settle();
        assert!(raw.is_ended(), "a clean close is a clean end");
        rig.end_clean();
    }
}

#[test]
fn a_half_closed_connection_carries_the_other_direction() {
    let rig = Rig::new(&quiet(1));
    let (socket, raw, _) = rig.pair();
    raw.send(b"request");
    raw.finish();
    let (bytes, end) = read_out(&rig, socket);
    assert_eq!((&bytes[..], matches!(end, Outcome::Ended)), (&b"request"[..], true));
    assert!(matches!(rig.receive(socket), Outcome::Ended), "the end stays");
    assert!(matches!(rig.send(socket, b"reply"), Outcome::Sent { bytes: 5, .. }));
    rig.on_lane(move |lane| lane.shutdown(socket));
    rig.network.settle();
    assert_eq!(raw.take_received(), b"reply");
    assert!(raw.is_ended() && !raw.is_reset());
    let late = rig.send(socket, b"late");
    assert_eq!(failure(&late), Some(Failure::NotConnected), "{late:?}");
}

#[test]
fn a_reset_fails_what_is_pending_and_what_comes_later() {
    for seed in 0..100 {
        let rig = Rig::new(&Network::new(seed));
        let (socket, raw, _) = rig.pair();
        let receives = [(); 3].map(|()| rig.submit(Op::Receive(socket, ReceiveMode::Once)));
        rig.network.settle();
        raw.reset();
        for receive in receives {
            assert_eq!(failure(&rig.outcome(receive)), Some(Failure::Reset));
        }
        assert_eq!(failure(&rig.send(socket, b"x")), Some(Failure::Reset));
        assert_eq!(failure(&rig.receive(socket)), Some(Failure::Reset));
    }
}

#[test]
fn a_reset_can_overtake_data() {
    let (mut first, mut second) = (0, 0);
    for seed in 0..100 {
        let rig = Rig::new(&Network::new(seed));
        let (socket, raw, _) = rig.pair();
        // It takes the data as soon as that is there.
        let receive = rig.submit(Op::Receive(socket, ReceiveMode::Once));
        raw.send(b"last words");
        raw.reset();
        *match rig.outcome(receive) {
            Outcome::Received(_) => &mut second,
            _ => &mut first,
        } += 1;
    }
    assert!(first > 10 && second > 10, "first {first} times, second {second} times");
}

#[test]
fn a_reset_can_discard_what_was_not_taken() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..100 {
        let rig = Rig::new(&Network::new(seed));
        let (socket, raw, _) = rig.pair();
        raw.send(b"last words");
        raw.reset();
        rig.network.settle();
        let (bytes, end) = read_out(&rig, socket);
        assert_eq!(failure(&end), Some(Failure::Reset), "a reset never looks like an end");
        assert!(b"last words".starts_with(&bytes));
        *if bytes.is_empty() { &mut lost } else { &mut kept } += 1;
    }
    assert!(kept > 10 && lost > 10, "{kept} kept, {lost} lost");
}

#[test]
fn a_reset_of_ones_own_fails_what_is_pending_and_reaches_the_other_side() {
    let rig = Rig::new(&quiet(1));
    let (socket, raw, _) = rig.pair();
    let receive = rig.submit(Op::Receive(socket, ReceiveMode::Stream));
    rig.on_lane(move |lane| lane.reset(socket));
    assert_eq!(failure(&rig.outcome(receive)), Some(Failure::Reset));
    rig.network.settle();
    assert!(raw.is_reset() && !raw.is_ended());
}

#[test]
fn closing_with_data_unread_resets_and_closing_without_ends() {
    for unread in [true, false] {
        let rig = Rig::new(&quiet(1));
        let (socket, raw, _) = rig.pair();
        if unread {
            raw.send(b"unread");
            rig.network.settle();
        }
        assert!(matches!(rig.perform(Op::Close(socket)), Outcome::Closed));
        rig.network.settle();
        assert_eq!((raw.is_reset(), raw.is_ended()), (unread, !unread));
    }
}

#[test]
fn data_sent_to_a_closed_peer_brings_a_reset_back() {
    let rig = Rig::new(&quiet(1));
    let (socket, raw, _) = rig.pair();
    drop(raw);
    rig.network.settle();
    assert!(matches!(rig.send(socket, b"anybody there?"), Outcome::Sent { .. }));
    rig.network.settle();
    assert_eq!(failure(&rig.send(socket, b"and now?")), Some(Failure::Reset));
}

#[test]
fn data_on_its_way_to_an_end_that_closes_brings_a_reset_back() {
    let rig = Rig::new(&quiet(1));
    let (socket, raw, _) = rig.pair();
    raw.send(b"too late");
    assert!(matches!(rig.perform(Op::Close(socket)), Outcome::Closed));
    assert_eq!(rig.network.tally().immediate, 1, "it was closed before the data came");
    rig.network.settle();
    assert!(raw.is_reset());
}

#[test]
fn a_peer_that_is_gone_makes_no_room() {
    let faults = Faults { window_bytes: 10..=10, ..Faults::none() };
    let rig = Rig::new(&Network::with(1, faults));
    let (socket, raw, _) = rig.pair();
    drop(raw);
    assert!(matches!(rig.send(socket, &[1; 25]), Outcome::Sent { bytes: 10, .. }));
    assert_eq!(failure(&rig.send(socket, &[1; 15])), Some(Failure::Reset));
}

#[test]
fn a_stream_of_receives_keeps_its_order_where_others_lose_theirs() {
    let faults = Faults {
        partial_receive_ppm: 1_000_000,
        reorder_span: 64,
        immediate_ppm: 0,
        ..Faults::none()
    };
    let rig = Rig::with(&Network::with(1, faults), Layout::Shared);
    let (socket, raw, _) = rig.pair();
    let (other, other_raw, _) = rig.pair();
    let tags = [socket, other].map(|end| rig.submit(Op::Receive(end, ReceiveMode::Stream)));
    let sent: Vec<u8> = (0..200).collect();
    for raw in [&raw, &other_raw] {
        raw.send(&sent);
        raw.finish();
    }
    let mut received = [Vec::new(), Vec::new()];
    let mut open = 2;
    while open > 0 {
        let completion = rig.completion().expect("it goes on to the end");
        let which = usize::from(completion.tag == tags[1]);
        match completion.outcome {
            Outcome::Received(buffer) => received[which].extend_from_slice(&buffer),
            Outcome::Ended => open -= 1,
            outcome => panic!("{outcome:?}"),
        }
    }
    assert_eq!(received, [sent.clone(), sent]);
    assert!(rig.network.tally().reordered > 0);
}

#[test]
fn a_connection_reset_by_chance_never_looks_ended() {
    for seed in 0..100 {
        let faults = Faults { reset_ppm: 200_000, ..Faults::typical() };
        let network = Network::new(seed);
        let rig = Rig::new(&network);
        let (socket, raw, _) = rig.pair();
        network.set_faults(faults);
        for _ in 0..10 {
            raw.send(b"piece");
        }
        raw.finish();
        let (bytes, end) = read_out(&rig, socket);
        match failure(&end) {
            None => assert_eq!(bytes.len(), 50, "seed {seed}: ended, and not whole"),
            Some(failure) => assert_eq!(failure, Failure::Reset),
        }
        assert!(b"piece".repeat(10).starts_with(&bytes));
    }
}

#[test]
fn a_peer_that_stops_reading_fills_the_window_and_the_send_waits() {
    let faults = Faults { window_bytes: 1000..=1000, ..Faults::none() };
    let rig = Rig::new(&Network::with(1, faults));
    let (socket, raw, _) = rig.pair();
    raw.stop_reading();
    assert!(matches!(rig.send(socket, &[7; 1500]), Outcome::Sent { bytes: 1000, .. }));
    let waiting = rig.submit(Op::Send(socket, gather(&[8; 500])));
    assert!(rig.completion().is_none(), "there is no room, for ever");
    assert_eq!((raw.received_bytes(), rig.network.tally().window_full), (0, 1));
    raw.resume_reading();
    assert!(matches!(rig.outcome(waiting), Outcome::Sent { bytes: 500, .. }));
    rig.network.settle();
    assert_eq!(raw.received_bytes(), 1500);
    // The other way round: a script waits, too.
    raw.send(&[9; 2500]);
    rig.network.settle();
    assert_eq!(raw.unsent_bytes(), 1500);
    let mut received = 0;
    while received < 2500 {
        let Outcome::Received(buffer) = rig.receive(socket) else { panic!("received") };
        received += buffer.len();
    }
    assert_eq!(raw.unsent_bytes(), 0);
}

#[test]
fn a_send_that_waits_for_room_is_cancelled_or_reset() {
    let faults = Faults { window_bytes: 100..=100, ..Faults::none() };
    for by_reset in [true, false] {
        let rig = Rig::new(&Network::with(1, faults.clone()));
        let (socket, raw, _) = rig.pair();
        raw.stop_reading();
        rig.send(socket, &[7; 100]);
        let waiting = rig.submit(Op::Send(socket, gather(b"more")));
        if by_reset {
            raw.reset();
        } else {
            rig.on_lane(move |lane| lane.cancel(socket, Cancel::Everything));
        }
        let expected = if by_reset { Failure::Reset } else { Failure::Cancelled };
        assert_eq!(failure(&rig.outcome(waiting)), Some(expected));
    }
}

#[test]
fn a_shutdown_fails_a_send_that_waits_for_room() {
    let faults = Faults { window_bytes: 100..=100, ..Faults::none() };
    let rig = Rig::new(&Network::with(1, faults));
    let (socket, raw, _) = rig.pair();
    raw.stop_reading();
    rig.send(socket, &[7; 100]);
    let waiting = rig.submit(Op::Send(socket, gather(b"more")));
    rig.on_lane(move |lane| lane.shutdown(socket));
    assert_eq!(failure(&rig.outcome(waiting)), Some(Failure::NotConnected));
    raw.resume_reading();
    rig.network.settle();
    assert_eq!((raw.received_bytes(), raw.is_ended()), (100, true));
}

#[test]
fn cancelling_receives_leaves_the_bytes_and_the_send() {
    let faults = Faults { window_bytes: 10..=10, ..Faults::none() };
    let rig = Rig::new(&Network::with(1, faults));
    let (socket, raw, _) = rig.pair();
    raw.stop_reading();
    rig.send(socket, &[1; 10]);
    let send = rig.submit(Op::Send(socket, gather(b"waits")));
    let receive = rig.submit(Op::Receive(socket, ReceiveMode::Stream));
    rig.on_lane(move |lane| lane.cancel(socket, Cancel::Receives));
    assert_eq!(failure(&rig.outcome(receive)), Some(Failure::Cancelled));
    raw.send(b"bytes");
    assert!(rig.completion().is_none(), "the send still waits");
    assert!(matches!(rig.receive(socket), Outcome::Received(b) if *b == *b"bytes"));
    raw.resume_reading();
    assert!(matches!(rig.outcome(send), Outcome::Sent { bytes: 5, .. }));
}

#[test]
fn nobody_listening_is_a_refusal_and_a_black_hole_is_silence() {
    let rig = Rig::new(&quiet(1));
    let [socket, other] = [(); 2].map(|()| rig.on_lane(Lane::socket));
    let address: Address = "10.0.0.9:9000".parse().unwrap();
    let refused = rig.perform(Op::Connect(socket, address));
    assert_eq!(failure(&refused), Some(Failure::Refused));
    rig.network.blackhole(address);
    let connect = rig.submit(Op::Connect(other, address));
    assert!(rig.completion().is_none(), "nothing ever comes back");
    rig.on_lane(move |lane| lane.cancel(other, Cancel::Everything));
    assert_eq!(failure(&rig.outcome(connect)), Some(Failure::Cancelled));
    rig.close(&[socket, other]);
    rig.end_clean();
}

#[test]
fn a_full_accept_queue_makes_peers_wait_and_then_time_out() {
    let rig = Rig::new(&quiet(1));
    let options = ListenOptions { backlog: 2, ..ListenOptions::default() };
    let (listener, address) = rig.listen_with("127.0.0.1:0", options);
    let peers = [(); 3].map(|()| rig.network.dial(address));
    rig.network.settle();
    let up = peers.iter().filter(|peer| peer.is_connected()).count();
    let refused = peers.iter().filter(|peer| peer.is_refused()).count();
    assert_eq!((up, refused), (2, 1));
    // Whoever comes back while there is room again gets in.
    let late = rig.network.dial(address);
    rig.network.run_until(Some(Duration::from_millis(100)), || None::<()>);
    assert!(!late.is_connected());
    rig.submit(Op::Accept(listener));
    rig.network.settle();
    assert!(late.is_connected());
}

#[test]
fn closing_a_listener_resets_who_stands_in_its_queue() {
    let rig = Rig::new(&quiet(1));
    let (listener, address) = rig.listen("127.0.0.1:0");
    let raw = rig.network.dial(address);
    rig.network.settle();
    assert!(raw.is_connected());
    assert!(matches!(rig.perform(Op::Close(listener)), Outcome::Closed));
    rig.network.settle();
    assert!(raw.is_reset());
    let again = rig.network.dial(address);
    rig.network.settle();
    assert!(again.is_refused());
    rig.end_clean();
}

#[test]
fn a_peer_that_leaves_the_accept_queue_may_vanish_and_accepting_goes_on() {
    let (mut vanished, mut came) = (0, 0);
    for seed in 0..50 {
        let rig = Rig::new(&Network::new(seed));
        let (listener, address) = rig.listen("127.0.0.1:0");
        let gone = rig.network.dial(address);
        rig.network.settle();
        gone.reset();
        rig.network.settle();
        let _stays = rig.network.dial(address);
        rig.network.settle();
        let accept = rig.submit(Op::Accept(listener));
        rig.network.settle();
        let Outcome::Accepted(first) = rig.outcome(accept) else { panic!("accepted") };
        *if first.peer == gone.local_address() { &mut came } else { &mut vanished } += 1;
    }
    assert!(vanished > 5 && came > 5, "{vanished} vanished, {came} came");
}

#[test]
fn each_port_is_a_host_and_loopback_is_loopback() {
    let network = quiet(1);
    let (server, client) = (Rig::new(&network), Rig::new(&network));
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
    let rig = Rig::new(&quiet(1));
    let address = "127.0.0.1:9000".parse().unwrap();
    let first = rig.port.listen(address, ListenOptions::default()).unwrap();
    let second = rig.port.listen(address, ListenOptions::default()).unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
    drop(first);
    assert!(rig.port.listen(address, ListenOptions::default()).is_ok());
}

#[test]
fn names_resolve_as_they_are_given() {
    let network = quiet(1);
    let ips: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    network.name("example.org", &ips);
    let rig = Rig::new(&network);
    let look_up = |name: &str| rig.perform(Op::Resolve(name.parse().unwrap()));
    let Outcome::Resolved(found) = look_up("example.org:90") else { panic!("resolved") };
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.0.0.1:90", "[fd00::1]:90"]);
    let Outcome::Resolved(found) = look_up("10.9.9.9:90") else { panic!("resolved") };
    assert_eq!(found[0].to_string(), "10.9.9.9:90");
    assert_eq!(failure(&look_up("example.com:90")), Some(Failure::NameNotFound));
}

#[test]
fn a_foreign_server_can_be_played() {
    let network = quiet(1);
    let server = network.serve("10.0.0.5:80".parse().unwrap()).unwrap();
    let rig = Rig::new(&network);
    let socket = rig.on_lane(Lane::socket);
    assert!(matches!(rig.perform(Op::Connect(socket, server.local_address())), Outcome::Connected));
    let raw = server.accept().expect("it has come");
    assert!(server.accept().is_none());
    rig.send(socket, b"hello");
    rig.network.settle();
    assert_eq!(raw.take_received(), b"hello");
    raw.send(b"welcome");
    assert!(matches!(rig.receive(socket), Outcome::Received(b) if *b == *b"welcome"));
}

#[test]
fn a_peer_that_is_not_registered_is_closed_when_dropped_and_reset_when_refused() {
    for refuse in [true, false] {
        let rig = Rig::with(&quiet(1), Layout::Shared);
        let (listener, address) = rig.listen("127.0.0.1:0");
        let accept = rig.submit(Op::Accept(listener));
        let raw = rig.network.dial(address);
        let Outcome::Accepted(new) = rig.outcome(accept) else { panic!("accepted") };
        if refuse {
            new.refuse();
        } else {
            drop(new);
        }
        rig.network.settle();
        assert_eq!((raw.is_reset(), raw.is_ended()), (refuse, !refuse));
    }
}
