//! The watch of a socket that the system does not poll.

use super::*;
use crate::op::WatchMode;

/// A watch of one peer, which acts when the watch waits.
fn outcome_of(port: &CompletionPort, peer_acts: fn(std::net::TcpStream)) -> Outcome {
    let (listener, address) = std_listener();
    let told = Arc::new(Mutex::new(None));
    let told_here = told.clone();
    let (waits, peer_may_act) = std::sync::mpsc::channel();
    let mut near = None;
    spawn(port, move |lane| {
        let near = *near.get_or_insert_with(|| {
            let socket = lane.socket();
            lane.submit(Tag(0), Op::Connect(socket, address));
            socket
        });
        while let Some(completion) = lane.next_completion() {
            match (completion.tag, completion.outcome) {
                (Tag(0), Outcome::Connected) => {
                    // A watch that is cancelled leaves nothing behind.
                    lane.submit(Tag(1), Op::Watch(near, WatchMode::End));
                    lane.cancel(near, crate::Cancel::Receives);
                }
                (Tag(1), Outcome::Failed(error)) => {
                    assert_eq!(error.failure, Failure::Cancelled);
                    lane.submit(Tag(2), Op::Watch(near, WatchMode::End));
                    waits.send(()).expect("the test waits");
                }
                (Tag(2), outcome) => {
                    *lock(&told_here) = Some(outcome);
                    lane.submit(Tag(3), Op::Close(near));
                }
                (Tag(3), Outcome::Closed) => return Turn::Done,
                other => panic!("{other:?}"),
            }
        }
        Turn::Sleep(None)
    });
    let peer = listener.accept().expect("a peer").0;
    peer_may_act.recv().expect("the watch waits");
    peer_acts(peer);
    assert_at_rest(port);
    let told = lock(&told).take();
    told.expect("an outcome")
}

fn reset(peer: std::net::TcpStream) {
    sys::reset_at_close(&peer.into());
}

/// The lane then peeks every five seconds.
#[test]
fn a_socket_that_the_system_does_not_poll_is_peeked_at() {
    let refused = TestFaults { no_poll: true, ..TestFaults::default() };
    for layout in [Layout::Shared, Layout::Pinned] {
        for layered in [false, true] {
            let faults = TestFaults { layered, ..refused };
            let ended = outcome_of(&open(layout, faults), drop);
            assert!(matches!(ended, Outcome::Ended), "{ended:?}");
            let ended = outcome_of(&open(layout, faults), reset);
            if posthouse_process::is_wine() && matches!(ended, Outcome::Ended) {
                eprintln!("NOT TESTED: Wine shows a reset that comes before a read as the end");
                continue;
            }
            let is_reset = |error: Error| error.failure == Failure::Reset;
            assert!(matches!(ended, Outcome::Failed(error) if is_reset(error)), "{ended:?}");
        }
    }
}
