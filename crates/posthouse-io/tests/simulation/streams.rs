//! Streams: their bytes, and their ends.

use posthouse_io::sim::{Faults, Network};
use posthouse_io::{Cancel, Failure, Layout, Op, Outcome, ReceiveMode, Socket};

use crate::fixture::{Fixture, gather};

fn quiet(seed: u64) -> Network {
    Network::with(seed, Faults::none())
}

fn failure(outcome: &Outcome) -> Option<Failure> {
    match outcome {
        Outcome::Failed(error) => Some(error.failure),
        _ => None,
    }
}

/// Returns all bytes that a socket receives, up to the end or a failure.
fn read_out(fixture: &Fixture, socket: Socket) -> (Vec<u8>, Outcome) {
    let mut bytes = Vec::new();
    loop {
        match fixture.receive(socket) {
            Outcome::Received(buffer) => bytes.extend_from_slice(&buffer),
            end => return (bytes, end),
        }
    }
}

#[test]
fn what_a_script_sends_arrives_and_what_is_sent_reaches_the_script() {
    for seed in 0..100 {
        let fixture = Fixture::new(&Network::new(seed));
        let (socket, raw, listener) = fixture.pair();
        raw.send(b"from outside");
        raw.finish();
        assert_eq!(read_out(&fixture, socket).0, b"from outside");
        let mut left = b"from inside".to_vec();
        while !left.is_empty() {
            let Outcome::Sent { bytes, .. } = fixture.send(socket, &left) else { panic!("sent") };
            left.drain(..bytes);
        }
        fixture.network.settle();
        assert_eq!(raw.take_received(), b"from inside");
        assert!(raw.is_connected() && !raw.is_ended() && !raw.is_reset());
        fixture.close(&[socket, listener]);
        fixture.network.settle();
        assert!(raw.is_ended(), "a clean close is a clean end");
        fixture.end_clean();
    }
}

#[test]
fn a_half_closed_connection_carries_the_other_direction() {
    let fixture = Fixture::new(&quiet(1));
    let (socket, raw, _) = fixture.pair();
    raw.send(b"request");
    raw.finish();
    let (bytes, end) = read_out(&fixture, socket);
    assert_eq!((&bytes[..], matches!(end, Outcome::Ended)), (&b"request"[..], true));
    assert!(matches!(fixture.receive(socket), Outcome::Ended), "the end was lost");
    assert!(matches!(fixture.send(socket, b"reply"), Outcome::Sent { bytes: 5, .. }));
    fixture.on_lane(move |lane| lane.shutdown(socket));
    fixture.network.settle();
    assert_eq!(raw.take_received(), b"reply");
    assert!(raw.is_ended() && !raw.is_reset());
    let late = fixture.send(socket, b"late");
    assert_eq!(failure(&late), Some(Failure::NotConnected), "{late:?}");
}

#[test]
fn a_reset_fails_what_is_pending_and_what_comes_later() {
    for seed in 0..100 {
        let fixture = Fixture::new(&Network::new(seed));
        let (socket, raw, _) = fixture.pair();
        let receives = [(); 3].map(|()| fixture.submit(Op::Receive(socket, ReceiveMode::Once)));
        fixture.network.settle();
        raw.reset();
        for receive in receives {
            assert_eq!(failure(&fixture.outcome(receive)), Some(Failure::Reset));
        }
        assert_eq!(failure(&fixture.send(socket, b"x")), Some(Failure::Reset));
        assert_eq!(failure(&fixture.receive(socket)), Some(Failure::Reset));
    }
}

#[test]
fn a_reset_can_overtake_data() {
    let mut first = 0;
    let mut second = 0;
    for seed in 0..100 {
        let fixture = Fixture::new(&Network::new(seed));
        let (socket, raw, _) = fixture.pair();
        // The receive takes the data as soon as it arrives.
        let receive = fixture.submit(Op::Receive(socket, ReceiveMode::Once));
        raw.send(b"last words");
        raw.reset();
        *match fixture.outcome(receive) {
            Outcome::Received(_) => &mut second,
            _ => &mut first,
        } += 1;
    }
    assert!(first > 10 && second > 10, "first {first} times, second {second} times");
}

#[test]
fn a_reset_can_discard_what_was_not_taken() {
    let mut kept = 0;
    let mut lost = 0;
    for seed in 0..100 {
        let fixture = Fixture::new(&Network::new(seed));
        let (socket, raw, _) = fixture.pair();
        raw.send(b"last words");
        raw.reset();
        fixture.network.settle();
        let (bytes, end) = read_out(&fixture, socket);
        assert_eq!(failure(&end), Some(Failure::Reset), "a reset never looks like an end");
        assert!(b"last words".starts_with(&bytes));
        *if bytes.is_empty() { &mut lost } else { &mut kept } += 1;
    }
    assert!(kept > 10 && lost > 10, "{kept} streams were kept, {lost} lost");
}

#[test]
fn a_reset_of_ones_own_fails_what_is_pending_and_reaches_the_other_side() {
    let fixture = Fixture::new(&quiet(1));
    let (socket, raw, _) = fixture.pair();
    let receive = fixture.submit(Op::Receive(socket, ReceiveMode::Stream));
    fixture.on_lane(move |lane| lane.reset(socket));
    assert_eq!(failure(&fixture.outcome(receive)), Some(Failure::Reset));
    fixture.network.settle();
    assert!(raw.is_reset() && !raw.is_ended());
}

#[test]
fn closing_with_data_unread_resets_and_closing_without_ends() {
    for unread in [true, false] {
        let fixture = Fixture::new(&quiet(1));
        let (socket, raw, _) = fixture.pair();
        if unread {
            raw.send(b"unread");
            fixture.network.settle();
        }
        assert!(matches!(fixture.perform(Op::Close(socket)), Outcome::Closed));
        fixture.network.settle();
        assert_eq!((raw.is_reset(), raw.is_ended()), (unread, !unread));
    }
}

#[test]
fn data_sent_to_a_closed_peer_brings_a_reset_back() {
    let fixture = Fixture::new(&quiet(1));
    let (socket, raw, _) = fixture.pair();
    drop(raw);
    fixture.network.settle();
    assert!(matches!(fixture.send(socket, b"anybody there?"), Outcome::Sent { .. }));
    fixture.network.settle();
    assert_eq!(failure(&fixture.send(socket, b"and now?")), Some(Failure::Reset));
}

#[test]
fn data_on_its_way_to_an_end_that_closes_brings_a_reset_back() {
    let fixture = Fixture::new(&quiet(1));
    let (socket, raw, _) = fixture.pair();
    raw.send(b"too late");
    assert!(matches!(fixture.perform(Op::Close(socket)), Outcome::Closed));
    assert_eq!(
        fixture.network.fault_counts().immediate,
        1,
        "the close did not come before the data"
    );
    fixture.network.settle();
    assert!(raw.is_reset());
}

#[test]
fn a_peer_that_is_gone_makes_no_room() {
    let faults = Faults { window_bytes: 10..=10, ..Faults::none() };
    let fixture = Fixture::new(&Network::with(1, faults));
    let (socket, raw, _) = fixture.pair();
    drop(raw);
    assert!(matches!(fixture.send(socket, &[1; 25]), Outcome::Sent { bytes: 10, .. }));
    assert_eq!(failure(&fixture.send(socket, &[1; 15])), Some(Failure::Reset));
}

#[test]
fn a_stream_of_receives_keeps_its_order_where_others_lose_theirs() {
    let faults = Faults {
        partial_receive_ppm: 1_000_000,
        reorder_span: 64,
        immediate_ppm: 0,
        ..Faults::none()
    };
    let fixture = Fixture::with(&Network::with(1, faults), Layout::Shared);
    let (socket, raw, _) = fixture.pair();
    let (other, other_raw, _) = fixture.pair();
    let tags = [socket, other].map(|end| fixture.submit(Op::Receive(end, ReceiveMode::Stream)));
    let sent: Vec<u8> = (0..200).collect();
    for raw in [&raw, &other_raw] {
        raw.send(&sent);
        raw.finish();
    }
    let mut received = [Vec::new(), Vec::new()];
    let mut open = 2;
    while open > 0 {
        let completion = fixture.completion().expect("the stream continues to its end");
        let which = usize::from(completion.tag == tags[1]);
        match completion.outcome {
            Outcome::Received(buffer) => received[which].extend_from_slice(&buffer),
            Outcome::Ended => open -= 1,
            outcome => panic!("{outcome:?}"),
        }
    }
    assert_eq!(received, [sent.clone(), sent]);
    assert!(fixture.network.fault_counts().reordered > 0);
}

#[test]
fn a_connection_reset_by_chance_never_looks_ended() {
    for seed in 0..100 {
        let faults = Faults { reset_ppm: 200_000, ..Faults::typical() };
        let network = Network::new(seed);
        let fixture = Fixture::new(&network);
        let (socket, raw, _) = fixture.pair();
        network.set_faults(faults);
        for _ in 0..10 {
            raw.send(b"piece");
        }
        raw.finish();
        let (bytes, end) = read_out(&fixture, socket);
        match failure(&end) {
            None => assert_eq!(bytes.len(), 50, "seed {seed}: the stream ended early"),
            Some(failure) => assert_eq!(failure, Failure::Reset),
        }
        assert!(b"piece".repeat(10).starts_with(&bytes));
    }
}

#[test]
fn a_peer_that_stops_reading_fills_the_window_and_the_send_waits() {
    let faults = Faults { window_bytes: 1000..=1000, ..Faults::none() };
    let fixture = Fixture::new(&Network::with(1, faults));
    let (socket, raw, _) = fixture.pair();
    raw.stop_reading();
    assert!(matches!(fixture.send(socket, &[7; 1500]), Outcome::Sent { bytes: 1000, .. }));
    let waiting = fixture.submit(Op::Send(socket, gather(&[8; 500])));
    assert!(fixture.completion().is_none(), "a send into a full stream completed");
    assert_eq!((raw.received_bytes(), fixture.network.fault_counts().window_full), (0, 1));
    raw.resume_reading();
    assert!(matches!(fixture.outcome(waiting), Outcome::Sent { bytes: 500, .. }));
    fixture.network.settle();
    assert_eq!(raw.received_bytes(), 1500);
    // In the other direction, a scripted peer waits, too.
    raw.send(&[9; 2500]);
    fixture.network.settle();
    assert_eq!(raw.unsent_bytes(), 1500);
    let mut received = 0;
    while received < 2500 {
        let Outcome::Received(buffer) = fixture.receive(socket) else { panic!("received") };
        received += buffer.len();
    }
    assert_eq!(raw.unsent_bytes(), 0);
}

#[test]
fn a_send_that_waits_for_room_is_cancelled_or_reset() {
    let faults = Faults { window_bytes: 100..=100, ..Faults::none() };
    for by_reset in [true, false] {
        let fixture = Fixture::new(&Network::with(1, faults.clone()));
        let (socket, raw, _) = fixture.pair();
        raw.stop_reading();
        fixture.send(socket, &[7; 100]);
        let waiting = fixture.submit(Op::Send(socket, gather(b"more")));
        if by_reset {
            raw.reset();
        } else {
            fixture.on_lane(move |lane| lane.cancel(socket, Cancel::Everything));
        }
        let expected = if by_reset { Failure::Reset } else { Failure::Cancelled };
        assert_eq!(failure(&fixture.outcome(waiting)), Some(expected));
    }
}

#[test]
fn a_shutdown_fails_a_send_that_waits_for_room() {
    let faults = Faults { window_bytes: 100..=100, ..Faults::none() };
    let fixture = Fixture::new(&Network::with(1, faults));
    let (socket, raw, _) = fixture.pair();
    raw.stop_reading();
    fixture.send(socket, &[7; 100]);
    let waiting = fixture.submit(Op::Send(socket, gather(b"more")));
    fixture.on_lane(move |lane| lane.shutdown(socket));
    assert_eq!(failure(&fixture.outcome(waiting)), Some(Failure::NotConnected));
    raw.resume_reading();
    fixture.network.settle();
    assert_eq!((raw.received_bytes(), raw.is_ended()), (100, true));
}

#[test]
fn cancelling_receives_leaves_the_bytes_and_the_send() {
    let faults = Faults { window_bytes: 10..=10, ..Faults::none() };
    let fixture = Fixture::new(&Network::with(1, faults));
    let (socket, raw, _) = fixture.pair();
    raw.stop_reading();
    fixture.send(socket, &[1; 10]);
    let send = fixture.submit(Op::Send(socket, gather(b"waits")));
    let receive = fixture.submit(Op::Receive(socket, ReceiveMode::Stream));
    fixture.on_lane(move |lane| lane.cancel(socket, Cancel::Receives));
    assert_eq!(failure(&fixture.outcome(receive)), Some(Failure::Cancelled));
    raw.send(b"bytes");
    assert!(fixture.completion().is_none(), "the send still waits");
    assert!(matches!(fixture.receive(socket), Outcome::Received(b) if *b == *b"bytes"));
    raw.resume_reading();
    assert!(matches!(fixture.outcome(send), Outcome::Sent { bytes: 5, .. }));
}
