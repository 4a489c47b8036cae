//! The watch of a socket that the system does not poll.

use super::*;
use crate::buffer::{BufferPool, LanePool};
use crate::iocp::lane::IocpCore;
use crate::iocp::operation::FreeList;
use crate::iocp::socket::{LaneCx, SocketState};
use crate::native::completion_queue::CompletionQueue;
use crate::native::slot_table::Slot as _;
use crate::native::socket_core::Stage;
use crate::op::{Cancel, WatchMode};

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

/// A watch that begins again uses the entry of the cancelled watch before it.
#[test]
fn a_socket_that_is_watched_many_times_has_one_entry_in_the_queue_of_peeks() {
    let options = Options::default();
    TEST_FAULTS.set(TestFaults { no_poll: true, ..TestFaults::default() });
    let core = IocpCore::open(1, Layout::Pinned, &options);
    TEST_FAULTS.take();
    let core = core.expect("a port");
    let (listener, _) = std_listener();
    let near = listener.local_addr().and_then(std::net::TcpStream::connect).expect("a connection");
    near.set_nonblocking(true).expect("a socket that does not block");
    let peer = listener.accept().expect("a peer").0;
    let mut state = SocketState::default();
    let socket = state.occupy(0);
    state.adopt(near.into(), Stage::Connected, &core);
    let mut cx = LaneCx {
        socket,
        core: &core,
        done: &mut CompletionQueue::new(Arc::default()),
        buffers: &mut LanePool::new(BufferPool::of(&options)),
        free_list: &mut FreeList::default(),
        now: Duration::ZERO,
    };
    for _ in 0..100 {
        state.submit(Tag(0), Op::Watch(socket, WatchMode::End), &mut cx);
        state.cancel(Cancel::Receives, &mut cx);
        cx.now += Duration::from_millis(1);
    }
    assert_eq!(core.peeks().len(), 1, "the entries of one socket");

    let take_due = |cx: &mut LaneCx<'_>| {
        cx.now = core.peeks().pop_front().expect("an entry").at;
    };
    state.submit(Tag(1), Op::Watch(socket, WatchMode::End), &mut cx);
    take_due(&mut cx);
    state.on_peek_due(&mut cx);
    assert_eq!(core.peeks().len(), 1, "the watch continues");
    assert!(state.is_watched());

    state.cancel(Cancel::Receives, &mut cx);
    take_due(&mut cx);
    // Another worker begins a watch after this one has taken the entry.
    state.submit(Tag(2), Op::Watch(socket, WatchMode::End), &mut cx);
    state.on_peek_due(&mut cx);
    assert_eq!(core.peeks().len(), 1, "the new watch has an entry");

    state.cancel(Cancel::Receives, &mut cx);
    take_due(&mut cx);
    state.on_peek_due(&mut cx);
    assert_eq!(core.peeks().len(), 0, "nothing is watched");

    state.submit(Tag(3), Op::Watch(socket, WatchMode::End), &mut cx);
    drop(peer);
    while sys::peek(state.handle()) != Ok(Some(0)) {
        std::thread::yield_now();
    }
    take_due(&mut cx);
    state.on_peek_due(&mut cx);
    assert_eq!(core.peeks().len(), 0, "the watch has seen the end");
    assert!(!state.is_watched());
}
