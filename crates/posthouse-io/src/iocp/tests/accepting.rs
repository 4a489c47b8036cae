//! Accepts that fail, and peers that are lost.

use std::io::Read as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// The accept is neither repeated at once nor forever: its submitter gets one failure, after which
/// it may try again.
#[test]
fn an_accept_that_no_peer_comes_of_fails_once() {
    for failure in [Failure::NoBuffers, Failure::Reset] {
        let nobody = TestFaults { no_peer: Some(failure), ..TestFaults::default() };
        everywhere(nobody, |port| {
            let mut listener = Some(listen(port));
            let mut socket = None;
            let mut failures = 0;
            spawn(port, move |lane| {
                if let Some(listener) = listener.take() {
                    let adopted = *socket.insert(lane.adopt_listener(listener));
                    lane.submit(Tag(0), Op::Accept(adopted));
                }
                while let Some(completion) = lane.next_completion() {
                    match completion.outcome {
                        Outcome::Failed(error) => {
                            assert_eq!(error.failure, Failure::NoBuffers);
                            failures += 1;
                            assert_eq!(failures, 1, "told once");
                            lane.submit(Tag(1), Op::Close(socket.expect("adopted")));
                        }
                        Outcome::Closed => return Turn::Done,
                        other => panic!("a failure, not {other:?}"),
                    }
                }
                Turn::Sleep(None)
            });
            assert_at_rest(port);
        });
    }
}

/// A peer that has left is no loss. Of the other lost peers the log reports some, not each.
#[test]
fn peers_that_cannot_be_made_ready_are_dropped_and_told_of_now_and_then() {
    const PEERS: usize = 5;
    log::keep();
    for (failure, code, told) in
        [(Failure::Other, 4711, 3), (Failure::Reset, 4712, 0), (Failure::NotConnected, 4713, 0)]
    {
        let not_ready = Some(Error { failure, code });
        let port = open(Layout::Shared, TestFaults { not_ready, ..TestFaults::default() });
        let listener = listen(&port);
        let address = listener.local_address().socket_addr();
        let mut listener = Some(listener);
        let mut socket = None;
        let gone = Arc::new(AtomicBool::new(false));
        let seen = gone.clone();
        let mut cancelled = false;
        spawn(&port, move |lane| {
            if let Some(listener) = listener.take() {
                let adopted = *socket.insert(lane.adopt_listener(listener));
                lane.submit(Tag(0), Op::Accept(adopted));
            }
            let socket = socket.expect("adopted");
            if seen.load(Ordering::SeqCst) && !cancelled {
                cancelled = true;
                lane.cancel(socket, crate::Cancel::Everything);
            }
            while let Some(completion) = lane.next_completion() {
                match completion.outcome {
                    Outcome::Failed(error) => {
                        assert_eq!(error.failure, Failure::Cancelled);
                        lane.submit(Tag(1), Op::Close(socket));
                    }
                    Outcome::Closed => return Turn::Done,
                    other => panic!("no peer, and not {other:?}"),
                }
            }
            Turn::Sleep(None)
        });
        for _ in 0..PEERS {
            let mut peer = TcpStream::connect(address).expect("a connection");
            peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            let end = peer.read(&mut [0]);
            assert!(matches!(end, Ok(0)), "it is dropped: {end:?}");
        }
        gone.store(true, Ordering::SeqCst);
        port.wake(LaneId(0));
        assert_at_rest(&port);
        let lines = log::lines(&format!("os error {code}"));
        assert_eq!(lines.len(), told, "at the first, the second, the fourth: {lines:?}");
    }
}
