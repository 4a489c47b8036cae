//! Coming together: connect, accept, refuse.

use posthouse_io::{Failure, Op, Outcome, ReceiveMode};

use crate::bed::{Bed, assert_ended};

pub fn an_accepted_peer_has_the_address_of_the_connecting_end(bed: &Bed) {
    let listening = bed.listen(bed.lane(0));
    let (near, connect) = bed.connect(bed.lane(1), listening.address);
    let (far, peer) = bed.accepted(listening, bed.lane(2));
    assert!(matches!(bed.outcome(connect), Outcome::Connected));
    let local = bed.on(near.lane, move |lane| lane.local_address(near.socket));
    assert_eq!(local, Some(peer));
    let local = bed.on(far.lane, move |lane| lane.local_address(far.socket));
    assert_eq!(local, Some(listening.address));
    bed.close_all([near, far]);
    bed.unlisten(listening);
}

pub fn a_connect_to_where_nobody_listens_is_refused(bed: &Bed) {
    let listening = bed.listen(bed.lane(0));
    bed.unlisten(listening);
    let (near, connect) = bed.connect(bed.lane(0), listening.address);
    assert_eq!(bed.failure(connect), Failure::Refused);
    let receive = bed.receive(near, ReceiveMode::Once);
    assert_eq!(bed.failure(receive), Failure::NotConnected);
    let send = bed.send(near, b"to nobody");
    assert_eq!(bed.failure(send), Failure::NotConnected);
    bed.close(near);
}

pub fn a_socket_that_never_connected_fails_what_is_submitted_on_it(bed: &Bed) {
    let lane = bed.lane(0);
    let socket = bed.on(lane, posthouse_io::Lane::socket);
    let end = crate::bed::End { lane, socket };
    let stream = bed.receive(end, ReceiveMode::Stream);
    assert_eq!(bed.failure(stream), Failure::NotConnected);
    let send = bed.send(end, b"to nobody");
    assert_eq!(bed.failure(send), Failure::NotConnected);
    bed.close(end);
}

pub fn a_connect_that_is_cancelled_ends_once(bed: &Bed) {
    let listening = bed.listen(bed.lane(0));
    for _ in 0..20 {
        let (driver, lane) = (bed.driver.clone(), bed.lane(1));
        let (socket, connect) = bed.on(lane, move |lane| {
            let socket = lane.socket();
            let connect = driver.submit(lane, Op::Connect(socket, listening.address));
            lane.cancel(socket, posthouse_io::Cancel::Everything);
            (socket, connect)
        });
        match bed.outcome(connect) {
            Outcome::Connected => {}
            Outcome::Failed(error) => assert_eq!(error.failure, Failure::Cancelled),
            other => panic!("connected or cancelled, not {other:?}"),
        }
        bed.close(crate::bed::End { lane, socket });
    }
    bed.unlisten(listening);
}

pub fn a_reset_ends_a_connect(bed: &Bed) {
    let listening = bed.listen(bed.lane(0));
    let (driver, lane) = (bed.driver.clone(), bed.lane(1));
    let (socket, connect) = bed.on(lane, move |lane| {
        let socket = lane.socket();
        let connect = driver.submit(lane, Op::Connect(socket, listening.address));
        lane.reset(socket);
        (socket, connect)
    });
    match bed.outcome(connect) {
        Outcome::Connected => {}
        Outcome::Failed(error) => assert_eq!(error.failure, Failure::Reset),
        other => panic!("connected or reset, not {other:?}"),
    }
    bed.close(crate::bed::End { lane, socket });
    bed.unlisten(listening);
}

pub fn peers_that_come_while_nobody_accepts_are_accepted_later(bed: &Bed) {
    let listening = bed.listen(bed.lane(0));
    bed.cancel(listening.end);
    assert_eq!(bed.failure(listening.accept), Failure::Cancelled);

    let connects: Vec<_> = (0..5).map(|n| bed.connect(bed.lane(n), listening.address)).collect();
    for (_, connect) in &connects {
        assert!(matches!(bed.outcome(*connect), Outcome::Connected));
    }
    let accept = bed.submit(listening.end.lane, Op::Accept(listening.end.socket));
    let listening = crate::bed::Listening { accept, ..listening };
    for (n, (near, _)) in connects.into_iter().enumerate() {
        let (far, _) = bed.accepted(listening, bed.lane(n));
        bed.close_all([near, far]);
    }
    bed.unlisten(listening);
}

pub fn many_peers_at_once_are_all_accepted(bed: &Bed) {
    let many = if bed.real { 200 } else { 40 };
    let listening = bed.listen(bed.lane(0));
    let connects: Vec<_> = (0..many).map(|n| bed.connect(bed.lane(n), listening.address)).collect();
    let mut ends = Vec::new();
    for (n, (near, connect)) in connects.into_iter().enumerate() {
        let (far, _) = bed.accepted(listening, bed.lane(n + 1));
        assert!(matches!(bed.outcome(connect), Outcome::Connected));
        ends.extend([near, far]);
    }
    assert_eq!(bed.port.counters().sockets, ends.len() + 1);
    bed.close_all(ends);
    bed.unlisten(listening);
}

pub fn a_refused_peer_sees_a_reset_and_a_dropped_one_the_end(bed: &Bed) {
    let listening = bed.listen(bed.lane(0));
    for refuse in [true, false] {
        let (near, connect) = bed.connect(bed.lane(0), listening.address);
        let Outcome::Accepted(new) = bed.completion(listening.accept).outcome else {
            panic!("a peer");
        };
        assert!(matches!(bed.outcome(connect), Outcome::Connected));
        let receive = bed.receive(near, ReceiveMode::Once);
        if refuse {
            new.refuse();
            assert_eq!(bed.failure(receive), Failure::Reset);
        } else {
            drop(new);
            assert_ended(&bed.outcome(receive));
        }
        bed.close(near);
    }
    bed.unlisten(listening);
}

pub fn a_closed_listener_makes_room_for_another_at_its_address(bed: &Bed) {
    let listening = bed.listen(bed.lane(0));
    let taken = bed.port.listen(listening.address, posthouse_io::ListenOptions::default());
    assert_eq!(taken.expect_err("the address is taken").kind(), std::io::ErrorKind::AddrInUse);
    bed.unlisten(listening);
    bed.port
        .listen(listening.address, posthouse_io::ListenOptions::default())
        .expect("the address is free");
}
