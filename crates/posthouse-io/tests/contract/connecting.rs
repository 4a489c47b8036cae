//! Connecting: connect, accept, and refused connects.

use posthouse_io::{Failure, Op, Outcome, ReceiveMode};

use crate::harness::{Harness, assert_ended};

pub fn an_accepted_peer_has_the_address_of_the_connecting_end(harness: &Harness) {
    let listening = harness.listen(harness.lane(0));
    let (near, connect) = harness.connect(harness.lane(1), listening.address);
    let (far, peer) = harness.accepted(listening, harness.lane(2));
    assert!(matches!(harness.outcome(connect), Outcome::Connected));
    let local = harness.on(near.lane, move |lane| lane.local_address(near.socket));
    assert_eq!(local, Some(peer));
    let local = harness.on(far.lane, move |lane| lane.local_address(far.socket));
    assert_eq!(local, Some(listening.address));
    harness.close_all([near, far]);
    harness.unlisten(listening);
}

pub fn a_connect_to_where_nobody_listens_is_refused(harness: &Harness) {
    let listening = harness.listen(harness.lane(0));
    harness.unlisten(listening);
    let (near, connect) = harness.connect(harness.lane(0), listening.address);
    assert_eq!(harness.failure(connect), Failure::Refused);
    let receive = harness.receive(near, ReceiveMode::Once);
    assert_eq!(harness.failure(receive), Failure::NotConnected);
    let send = harness.send(near, b"to nobody");
    assert_eq!(harness.failure(send), Failure::NotConnected);
    harness.close(near);
}

pub fn a_socket_that_never_connected_fails_what_is_submitted_on_it(harness: &Harness) {
    let lane = harness.lane(0);
    let socket = harness.on(lane, posthouse_io::Lane::socket);
    let end = crate::harness::End { lane, socket };
    let stream = harness.receive(end, ReceiveMode::Stream);
    assert_eq!(harness.failure(stream), Failure::NotConnected);
    let send = harness.send(end, b"to nobody");
    assert_eq!(harness.failure(send), Failure::NotConnected);
    harness.close(end);
}

pub fn a_connect_that_is_cancelled_ends_once(harness: &Harness) {
    let listening = harness.listen(harness.lane(0));
    for _ in 0..20 {
        let driver = harness.driver.clone();
        let lane = harness.lane(1);
        let (socket, connect) = harness.on(lane, move |lane| {
            let socket = lane.socket();
            let connect = driver.submit(lane, Op::Connect(socket, listening.address));
            lane.cancel(socket, posthouse_io::Cancel::Everything);
            (socket, connect)
        });
        match harness.outcome(connect) {
            Outcome::Connected => {}
            Outcome::Failed(error) => assert_eq!(error.failure, Failure::Cancelled),
            other => panic!("connected or cancelled, not {other:?}"),
        }
        harness.close(crate::harness::End { lane, socket });
    }
    harness.unlisten(listening);
}

pub fn a_reset_ends_a_connect(harness: &Harness) {
    let listening = harness.listen(harness.lane(0));
    let driver = harness.driver.clone();
    let lane = harness.lane(1);
    let (socket, connect) = harness.on(lane, move |lane| {
        let socket = lane.socket();
        let connect = driver.submit(lane, Op::Connect(socket, listening.address));
        lane.reset(socket);
        (socket, connect)
    });
    match harness.outcome(connect) {
        Outcome::Connected => {}
        Outcome::Failed(error) => assert_eq!(error.failure, Failure::Reset),
        other => panic!("connected or reset, not {other:?}"),
    }
    harness.close(crate::harness::End { lane, socket });
    harness.unlisten(listening);
}

pub fn peers_that_come_while_nobody_accepts_are_accepted_later(harness: &Harness) {
    let listening = harness.listen(harness.lane(0));
    harness.cancel(listening.end);
    assert_eq!(harness.failure(listening.accept), Failure::Cancelled);

    let connects: Vec<_> =
        (0..5).map(|n| harness.connect(harness.lane(n), listening.address)).collect();
    for (_, connect) in &connects {
        assert!(matches!(harness.outcome(*connect), Outcome::Connected));
    }
    let accept = harness.submit(listening.end.lane, Op::Accept(listening.end.socket));
    let listening = crate::harness::Listening { accept, ..listening };
    for (n, (near, _)) in connects.into_iter().enumerate() {
        let (far, _) = harness.accepted(listening, harness.lane(n));
        harness.close_all([near, far]);
    }
    harness.unlisten(listening);
}

pub fn many_peers_at_once_are_all_accepted(harness: &Harness) {
    let many = if harness.real { 200 } else { 40 };
    let listening = harness.listen(harness.lane(0));
    let connects: Vec<_> =
        (0..many).map(|n| harness.connect(harness.lane(n), listening.address)).collect();
    let mut ends = Vec::new();
    for (n, (near, connect)) in connects.into_iter().enumerate() {
        let (far, _) = harness.accepted(listening, harness.lane(n + 1));
        assert!(matches!(harness.outcome(connect), Outcome::Connected));
        ends.extend([near, far]);
    }
    assert_eq!(harness.port.counters().sockets, ends.len() + 1);
    harness.close_all(ends);
    harness.unlisten(listening);
}

pub fn a_refused_peer_sees_a_reset_and_a_dropped_one_the_end(harness: &Harness) {
    let listening = harness.listen(harness.lane(0));
    for refuse in [true, false] {
        let (near, connect) = harness.connect(harness.lane(0), listening.address);
        let Outcome::Accepted(new) = harness.completion(listening.accept).outcome else {
            panic!("a peer");
        };
        assert!(matches!(harness.outcome(connect), Outcome::Connected));
        let receive = harness.receive(near, ReceiveMode::Once);
        if refuse {
            new.refuse();
            assert_eq!(harness.failure(receive), Failure::Reset);
        } else {
            drop(new);
            assert_ended(&harness.outcome(receive));
        }
        harness.close(near);
    }
    harness.unlisten(listening);
}

pub fn a_closed_listener_makes_room_for_another_at_its_address(harness: &Harness) {
    let listening = harness.listen(harness.lane(0));
    let taken = harness.port.listen(listening.address, posthouse_io::ListenOptions::default());
    assert_eq!(taken.expect_err("the address is taken").kind(), std::io::ErrorKind::AddrInUse);
    harness.unlisten(listening);
    harness
        .port
        .listen(listening.address, posthouse_io::ListenOptions::default())
        .expect("the address is free");
}
