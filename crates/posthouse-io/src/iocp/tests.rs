//! What the system does when it is short of something, which it is not in a test by itself: here
//! calls fail at once, as they do then.

pub(super) mod files;
#[path = "../../tests/contract/log.rs"]
mod log;

use std::cell::Cell;
use std::time::Duration;

use super::operation::{Ended, Operation};
use crate::error::{Error, Failure};
use crate::file::{FileOp, FileOutcome};
use crate::operation::{FileFault, FilePart, Gather, Op, Outcome, ReceiveMode, Segment};
use crate::port::{Backend, CompletionPort, Drained, Layout, ListenOptions, Options, ReadMode};
use crate::sync::{Arc, Mutex, lock};
use crate::token::{LaneId, Socket, Tag};
use crate::worker::Turn;

/// What is refused.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refusals {
    /// Memory for receives.
    pub(super) memory: bool,
    /// To await a peer.
    pub(super) peers: bool,
    /// To send a file.
    pub(super) files: bool,
    /// Threads for reads and writes of files.
    pub(super) threads: bool,
    /// What an accepted peer gets.
    pub(super) rest: Option<Error>,
    /// To tell success in the call, as where a provider is layered over the system's sockets: a
    /// packet comes for all that does not fail there.
    pub(super) at_once: bool,
}

thread_local! {
    /// Of the ports that this thread opens.
    static REFUSALS: Cell<Refusals> = Cell::default();
}

impl Refusals {
    pub(super) fn now() -> Self {
        REFUSALS.get()
    }

    pub(super) fn refuse_threads(self, op: &FileOp) -> bool {
        self.threads && matches!(op, FileOp::Read { .. } | FileOp::Write { .. })
    }
}

/// What a call that was refused gives back.
pub(super) fn refused(operation: Box<Operation>, failure: Failure) -> Ended {
    Ended { operation, result: Err(Error::new(failure)) }
}

/// The layouts, with systems that tell success in the call, and that do not.
const WAYS: [(Layout, Refusals); 4] = [
    (Layout::Shared, TOLD_AT_ONCE),
    (Layout::Pinned, TOLD_AT_ONCE),
    (Layout::Shared, TOLD_LATER),
    (Layout::Pinned, TOLD_LATER),
];
const TOLD_AT_ONCE: Refusals = Refusals {
    memory: false,
    peers: false,
    files: false,
    threads: false,
    rest: None,
    at_once: false,
};
const TOLD_LATER: Refusals = Refusals { at_once: true, ..TOLD_AT_ONCE };

const PATIENCE: Duration = Duration::from_secs(30);

fn open(layout: Layout, refusals: Refusals) -> CompletionPort {
    let (backend, layout, read_mode) = (Backend::Iocp, Some(layout), ReadMode::Pending);
    REFUSALS.set(refusals);
    let opened = CompletionPort::open(Options { backend, layout, read_mode, ..Options::default() });
    REFUSALS.take();
    opened.expect("a port").0
}

fn listen(port: &CompletionPort) -> crate::Listener {
    let any = "127.0.0.1:0".parse().expect("an address");
    port.listen(any, ListenOptions::default()).expect("a listener")
}

fn assert_at_rest(port: &CompletionPort) {
    assert_eq!(port.drain(PATIENCE), Drained::default(), "the worker ends");
    let counters = port.counters();
    assert_eq!(counters.submitted, counters.completed);
    assert_eq!((counters.sockets, counters.buffers_used), (0, 0));
}

/// Files are sent by TransmitFile on server editions only.
#[test]
fn a_server_edition_is_told_from_the_others() {
    let key = r"HKLM\System\CurrentControlSet\Control\ProductOptions";
    let query =
        std::process::Command::new("reg").args(["query", key, "/v", "ProductType"]).output();
    let told = String::from_utf8_lossy(&query.expect("reg runs").stdout).into_owned();
    let is_client = told.contains("WinNT");
    assert!(is_client || told.contains("ServerNT") || told.contains("LanmanNT"), "{told}");
    assert_eq!(crate::system::is_server(), !is_client, "{told}");
}

/// A probe stands in for what it has no memory for, and those behind it: each gets what is its.
#[test]
fn receives_that_the_system_has_no_memory_for_get_their_bytes_all_the_same() {
    for (layout, refusals) in WAYS {
        let port = open(layout, Refusals { memory: true, ..refusals });
        assert_receives_get_their_bytes(&port);
    }
}

#[test]
fn receives_get_their_bytes_whether_the_system_tells_in_the_call_or_later() {
    for (layout, refusals) in WAYS {
        assert_receives_get_their_bytes(&open(layout, refusals));
    }
}

fn assert_receives_get_their_bytes(port: &CompletionPort) {
    const ACCEPT: Tag = Tag(0);
    const RECEIVES: u64 = 4;
    let mut listener = Some(listen(port));
    let told = Arc::new(Mutex::new(Vec::new()));
    let told_here = told.clone();
    let mut sockets: Vec<Socket> = Vec::new();
    let mut closed = 0;
    port.spawn(LaneId(0), "io", move |lane| {
        if let Some(listener) = listener.take() {
            let address = listener.local_address();
            sockets = vec![lane.adopt_listener(listener), lane.socket()];
            lane.submit(ACCEPT, Op::Accept(sockets[0]));
            lane.submit(Tag(1), Op::Connect(sockets[1], address));
        }
        while let Some(completion) = lane.next() {
            match (completion.tag, completion.outcome) {
                (ACCEPT, Outcome::Accepted(new)) => {
                    sockets.push(lane.adopt(*new));
                    for n in 0..RECEIVES {
                        let op = Op::Receive(sockets[2], ReceiveMode::Once);
                        lane.submit(Tag(10 + n), op);
                    }
                    let mut gather = Gather::default();
                    gather.push(Segment::Owned(b"all the same".to_vec()));
                    lane.submit(Tag(2), Op::Send(sockets[1], gather));
                }
                (_, Outcome::Sent { bytes, .. }) => {
                    assert_eq!(bytes, 12);
                    lane.shutdown(sockets[1]);
                }
                (Tag(n @ 10..), Outcome::Received(buffer)) => {
                    lock(&told_here).push((n, Some(buffer.to_vec())));
                }
                (Tag(n @ 10..), Outcome::Ended) => lock(&told_here).push((n, None)),
                (ACCEPT, Outcome::Failed(_)) => {
                    for (n, socket) in (20..).zip(&sockets) {
                        lane.submit(Tag(n), Op::Close(*socket));
                    }
                }
                (_, Outcome::Connected) => {}
                (_, Outcome::Closed) => closed += 1,
                other => panic!("{other:?}"),
            }
        }
        if lock(&told_here).len() as u64 == RECEIVES && closed == 0 {
            lane.cancel(sockets[0], crate::Cancel::Everything);
        }
        if closed == 3 { Turn::Done } else { Turn::Sleep(None) }
    })
    .expect("the worker starts");
    assert_at_rest(port);
    let told = lock(&told);
    let bytes: Vec<u8> = told.iter().flat_map(|(_, bytes)| bytes.clone()).flatten().collect();
    assert_eq!(bytes, b"all the same", "{told:?}");
    assert!(told.iter().map(|(n, _)| *n).eq(10..10 + RECEIVES), "in their order: {told:?}");
    assert_eq!(told.last().expect("told").1, None, "the end comes last: {told:?}");
}

/// It is not tried again and again in the same breath: whoever accepts is told, once.
#[test]
fn an_accept_for_which_no_peer_can_be_awaited_fails() {
    for (layout, refusals) in WAYS {
        let port = open(layout, Refusals { peers: true, ..refusals });
        let mut listener = Some(listen(&port));
        let mut socket = None;
        let mut failures = 0;
        port.spawn(LaneId(0), "io", move |lane| {
            if let Some(listener) = listener.take() {
                let adopted = *socket.insert(lane.adopt_listener(listener));
                lane.submit(Tag(0), Op::Accept(adopted));
            }
            while let Some(completion) = lane.next() {
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
        })
        .expect("the worker starts");
        assert_at_rest(&port);
    }
}

/// A peer that has left is nobody's loss; of the others the log tells, and not of each.
#[test]
fn peers_that_cannot_be_made_ready_are_dropped_and_told_of_now_and_then() {
    log::keep();
    const PEERS: usize = 5;
    for (failure, code, told) in
        [(Failure::Other, 4711, 3), (Failure::Reset, 4712, 0), (Failure::NotConnected, 4713, 0)]
    {
        let rest = Some(Error { failure, code });
        let port = open(Layout::Shared, Refusals { rest, ..Refusals::default() });
        let listener = listen(&port);
        let address = listener.local_address().socket_addr();
        let mut listener = Some(listener);
        let mut socket = None;
        let gone = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = gone.clone();
        let mut cancelled = false;
        port.spawn(LaneId(0), "io", move |lane| {
            if let Some(listener) = listener.take() {
                let adopted = *socket.insert(lane.adopt_listener(listener));
                lane.submit(Tag(0), Op::Accept(adopted));
            }
            let socket = socket.expect("adopted");
            if seen.load(std::sync::atomic::Ordering::SeqCst) && !cancelled {
                cancelled = true;
                lane.cancel(socket, crate::Cancel::Everything);
            }
            while let Some(completion) = lane.next() {
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
        })
        .expect("the worker starts");
        for _ in 0..PEERS {
            let mut peer = std::net::TcpStream::connect(address).expect("a connection");
            peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            let end = std::io::Read::read(&mut peer, &mut [0]);
            assert!(matches!(end, Ok(0)), "it is dropped: {end:?}");
        }
        gone.store(true, std::sync::atomic::Ordering::SeqCst);
        port.wake(LaneId(0));
        assert_at_rest(&port);
        let lines = log::lines(&format!("os error {code}"));
        assert_eq!(lines.len(), told, "at the first, the second, the fourth: {lines:?}");
    }
}

/// Where the system takes a file for no send of its own, nothing is out of step: zeros leave, and
/// what sends it is told.
#[test]
fn a_file_that_the_system_does_not_send_is_made_up_with_zeros() {
    for (layout, refusals) in WAYS {
        let port = open(layout, Refusals { files: true, ..refusals });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("an address").into();
        let path = std::env::current_exe().expect("this program");
        let name = path.file_name().expect("a name").to_str().expect("a text").into();
        let directory = crate::Directory::open(path.parent().expect("a directory")).expect("it");
        let mut begun = Some(FileOp::Open { directory, path: name });
        let mut near = None;
        let mut file = None;
        let faults = Arc::new(Mutex::new(Vec::new()));
        let told = faults.clone();
        port.spawn(LaneId(0), "io", move |lane| {
            if let Some(open) = begun.take() {
                lane.submit(Tag(0), Op::File(Box::new(open)));
            }
            while let Some(completion) = lane.next() {
                match completion.outcome {
                    Outcome::File(outcome) => {
                        let FileOutcome::Opened { file: opened, .. } = *outcome else { panic!() };
                        file = Some(opened);
                        let socket = *near.insert(lane.socket());
                        lane.submit(Tag(1), Op::Connect(socket, address));
                    }
                    Outcome::Connected => {
                        let part = FilePart::new(file.take().expect("opened"), 0, 1000);
                        let mut gather = Gather::default();
                        gather.push(Segment::File(Box::new(part)));
                        gather.push(Segment::Owned(b"tail".to_vec()));
                        lane.submit(Tag(2), Op::Send(near.expect("a socket"), gather));
                    }
                    Outcome::Sent { bytes, mut gather } => {
                        assert_eq!(bytes, 1004);
                        gather.advance(bytes, |segment| {
                            if let Segment::File(part) = segment {
                                lock(&told).push(part.fault());
                            }
                        });
                        lane.submit(Tag(3), Op::Close(near.expect("a socket")));
                    }
                    Outcome::Closed => return Turn::Done,
                    other => panic!("{other:?}"),
                }
            }
            Turn::Sleep(None)
        })
        .expect("the worker starts");
        let (mut peer, _) = listener.accept().expect("a peer");
        peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let mut got = Vec::new();
        std::io::Read::read_to_end(&mut peer, &mut got).expect("all of it");
        assert_eq!(got, [vec![0; 1000], b"tail".to_vec()].concat());
        assert_at_rest(&port);
        let failed = FileFault::Failed(Error::new(Failure::Unsupported));
        assert_eq!(*lock(&faults), [Some(failed)]);
    }
}
