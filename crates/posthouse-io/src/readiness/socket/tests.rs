//! Sends of files that a thread of the file pool performs; a socket whose registration failed.

use super::*;
use crate::buffer::BufferPool;
use crate::native::slot_table::Slot as _;

/// The state of a connected socket, and the objects that it needs.
struct Rig {
    poller: Poller,
    /// The waker and the listener.
    kept: (crate::native::lane_remote::Waker, OwnedFd),
    state: SocketState,
    socket: Socket,
    done: CompletionQueue,
}

impl Rig {
    fn new() -> Self {
        let (poller, waker) = super::super::poller::open().expect("a poller");
        let (listener, address) = sys::tests::listener(crate::ListenOptions::default());
        let near = sys::tests::connection(address);
        let mut state = SocketState::default();
        let socket = state.occupy(0);
        state.adopt(socket, near, &poller);
        let done = CompletionQueue::new(Arc::default());
        Self { poller, kept: (waker, listener), state, socket, done }
    }

    /// Sends, and returns the payload that is for a thread.
    fn send(&mut self, tag: u64, segment: crate::Segment) -> Option<Arc<SendfilePayload>> {
        let Self { poller, state, socket, done, .. } = self;
        let mut gather = Gather::default();
        gather.push(segment);
        state.submit(*socket, Tag(tag), Op::Send(*socket, gather), poller, done);
        state.take_sendfile_job(*socket, done).map(|job| job.payload)
    }

    /// Sends a file, and takes the payload as a thread would.
    fn begin(&mut self, tag: u64) -> Gather {
        self.send(tag, file()).expect("for a thread").take().expect("it is there").0
    }

    fn back(&mut self, gather: Gather, result: Result<usize, Errno>) {
        let sent = SendfileDone { socket: self.socket, gather, result };
        self.state.on_sendfile_done(sent, &mut self.done);
    }

    /// Returns the result of the only send that has ended.
    fn end(&mut self) -> (u64, Result<usize, Failure>) {
        let Completion { tag, outcome, .. } = self.done.pop().expect("a completion");
        assert!(self.done.pop().is_none(), "there is one");
        match outcome {
            Outcome::Sent { bytes, .. } => (tag.0, Ok(bytes)),
            Outcome::Failed(error) => (tag.0, Err(error.failure)),
            other => panic!("a send completed with {other:?}"),
        }
    }
}

fn file() -> crate::Segment {
    crate::Segment::File(Box::new(crate::FilePart::new(crate::handle::no_file(), 0, 10)))
}

fn memory() -> crate::Segment {
    crate::Segment::Owned(b"next".to_vec())
}

/// A thread that waits for a disk delays no other operation.
#[test]
fn a_send_that_is_away_is_cancelled_at_once() {
    let mut rig = Rig::new();
    let payload = rig.send(1, file()).expect("for a thread");
    assert!(rig.done.pop().is_none() && !rig.state.mark_queued(), "it is away");
    rig.state.cancel(Cancel::Everything, &mut rig.done);
    assert_eq!(rig.end(), (1, Err(Failure::Cancelled)));
    assert!(payload.take().is_none(), "no thread begins with it");
    assert!(rig.send(2, memory()).is_none());
    assert_eq!(rig.end(), (2, Ok(4)));

    let of_thread = rig.begin(3);
    rig.state.cancel(Cancel::Everything, &mut rig.done);
    assert_eq!(rig.end(), (3, Err(Failure::Cancelled)));
    assert!(rig.send(4, memory()).is_none());
    assert!(rig.done.pop().is_none(), "the bytes of two sends do not mix");
    rig.back(of_thread, Ok(4));
    assert_eq!(rig.end(), (4, Ok(4)));
}

#[test]
fn a_send_that_comes_back_ends_goes_on_or_waits() {
    let mut rig = Rig::new();
    let gather = rig.begin(1);
    rig.back(gather, Ok(7));
    assert_eq!(rig.end(), (1, Ok(7)));
    // The disk, and not the socket, is not ready.
    let gather = rig.begin(2);
    rig.back(gather, Err(Errno::AGAIN));
    assert_eq!(rig.end(), (2, Ok(0)));
    // A reset that a read saw meanwhile.
    let gather = rig.begin(3);
    rig.state.error = Some(sys::error(Errno::CONNRESET));
    rig.back(gather, Err(Errno::AGAIN));
    assert_eq!(rig.end(), (3, Err(Failure::Reset)));
    rig.state.error = None;
    // An error that the thread got for a cancelled send.
    let gather = rig.begin(4);
    rig.state.cancel(Cancel::Everything, &mut rig.done);
    rig.back(gather, Err(Errno::PIPE));
    assert_eq!(rig.end(), (4, Err(Failure::Cancelled)));
    assert!(rig.send(5, memory()).is_none());
    assert_eq!(rig.end(), (5, Err(Failure::Reset)));
    // A finished send does not keep the socket open.
    rig.state.error = None;
    rig.begin(6);
    rig.state.reset(&mut rig.done);
    assert_eq!(rig.end(), (6, Err(Failure::Reset)));
    drop(rig.state.vacate());
}

/// The system reports a reset to one call only, here the thread's, and shows a receive a clean end.
#[test]
fn an_end_that_is_seen_while_a_send_is_away_may_be_a_reset() {
    for (result, end) in [(Ok(4), Ok(4)), (Err(Errno::CONNRESET), Err(Failure::Reset))] {
        let mut rig = Rig::new();
        let far = sys::tests::peer(&rig.kept.1);
        let gather = rig.begin(1);
        assert_eq!(rig.state.start_receive(Tag(2), ReceiveMode::Once), Ok(()));
        drop(far);
        let near = rig.state.handle();
        let mut looked_at = [rustix::event::PollFd::new(near, rustix::event::PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut looked_at, None), Ok(1));
        let mut buffers = LanePool::new(BufferPool::of(&crate::Options::default()));
        rig.state.own.ready.add(Readiness::READABLE);
        rig.state.poll(&mut buffers, &mut rig.done);
        assert!(rig.done.pop().is_none() && !rig.state.mark_queued(), "it waits for the thread");
        rig.back(gather, result);
        assert_eq!(rig.end(), (1, end));
        assert!(rig.state.mark_queued(), "now it is looked at again");
        rig.state.poll(&mut buffers, &mut rig.done);
        let told = rig.done.pop().expect("a completion").outcome;
        match end {
            Ok(_) => assert!(matches!(told, Outcome::Ended), "{told:?}"),
            Err(why) => {
                assert!(matches!(told, Outcome::Failed(it) if it.failure == why), "{told:?}");
            }
        }
        drop(rig.state.vacate());
    }
}

/// The thread gets the error of the reset, and the watch sees the end without an error.
#[test]
fn an_end_that_is_watched_while_a_send_is_away_may_be_a_reset() {
    for (result, end) in [(Ok(4), Ok(4)), (Err(Errno::CONNRESET), Err(Failure::Reset))] {
        let mut rig = Rig::new();
        let gather = rig.begin(1);
        assert_eq!(rig.state.start_watch(Tag(2), crate::WatchMode::End), Ok(()));
        let mut buffers = LanePool::new(BufferPool::of(&crate::Options::default()));
        rig.state.own.ready.add(Readiness::ENDED);
        rig.state.own.ready.add(Readiness::HUNG_UP);
        assert!(rig.state.mark_queued(), "it is looked at");
        rig.state.poll(&mut buffers, &mut rig.done);
        assert!(rig.done.pop().is_none() && !rig.state.mark_queued(), "it waits for the thread");
        rig.back(gather, result);
        assert!(rig.state.mark_queued(), "now it is looked at again");
        assert_eq!(rig.end(), (1, end));
        rig.state.poll(&mut buffers, &mut rig.done);
        let told = rig.done.pop().expect("a completion").outcome;
        match end {
            Ok(_) => assert!(matches!(told, Outcome::Ended), "{told:?}"),
            Err(why) => {
                assert!(matches!(told, Outcome::Failed(it) if it.failure == why), "{told:?}");
            }
        }
        drop(rig.state.vacate());
    }
}

#[test]
fn what_could_not_be_registered_fails_its_first_operation() {
    let (poller, _alarm) = super::super::poller::open().expect("a poller");
    let (listener, address) = sys::tests::listener(crate::ListenOptions::default());
    let near = sys::tests::connection(address);
    let twin = near.try_clone().expect("a descriptor");
    drop(listener);

    // The system rejects a second registration of a descriptor.
    assert_eq!(poller.add(&near, 1), Ok(()));
    let mut buffers = LanePool::new(BufferPool::of(&crate::Options::default()));
    let mut done = CompletionQueue::new(Arc::default());
    let mut state = SocketState::default();
    let socket = state.occupy(0);
    state.adopt(socket, near, &poller);
    state.submit(socket, Tag(1), Op::Receive(socket, ReceiveMode::Once), &poller, &mut done);
    assert!(state.mark_queued(), "no event will come: it must be polled without");
    state.poll(&mut buffers, &mut done);
    let failed = done.pop().expect("a completion");
    assert!(matches!(failed.outcome, Outcome::Failed(_)) && !failed.more, "{failed:?}");
    assert!(done.pop().is_none() && !state.mark_queued());
    drop((state.vacate(), twin));
}
