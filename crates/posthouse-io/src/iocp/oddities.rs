//! What Windows does here and there, and no system that tests run on: here operations end as they
//! do then.

use std::cell::Cell;
use std::io::Read as _;
use std::time::Duration;

use super::operation::{Ended, Work};
use crate::error::Failure;
use crate::file::{FileOp, FileOutcome};
use crate::operation::{FileFault, FilePart, Gather, Op, Outcome, Segment};
use crate::port::{Backend, CompletionPort, Drained, Layout, ListenOptions, Options};
use crate::sync::{Arc, Mutex, lock};
use crate::system;
use crate::token::{LaneId, Tag};
use crate::worker::Turn;

/// What is odd.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Oddities {
    /// Sockets are those of a provider that is layered over the system's: every operation has a
    /// packet, and every packet says success.
    pub(super) layered: bool,
    /// Every accept fails at once, as if its peer had left.
    pub(super) peers_leave: bool,
    /// What sends a file fails with this number, when some of it has left.
    pub(super) file_error: Option<u32>,
}

thread_local! {
    /// Of the ports that this thread opens.
    static ODDITIES: Cell<Oddities> = Cell::default();
}

impl Oddities {
    pub(super) fn now() -> Self {
        ODDITIES.get()
    }

    /// Has a packet say success.
    pub(super) fn hide(self, ended: &mut Ended) {
        if self.layered {
            ended.result = Ok(ended.result.unwrap_or(0));
        }
    }

    /// Has an operation end in what it ends in where this is so.
    pub(super) fn distort(self, ended: &mut Ended) {
        if let (Some(code), Work::Send { gather, .. }) = (self.file_error, &ended.operation.work)
            && gather.file_ahead().is_some()
        {
            ended.result = Err(system::error(code));
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
const LAYOUTS: [Layout; 2] = [Layout::Shared, Layout::Pinned];

fn open(layout: Layout, oddities: Oddities) -> CompletionPort {
    ODDITIES.set(oddities);
    let options = Options { backend: Backend::Iocp, layout: Some(layout), ..Options::default() };
    let opened = CompletionPort::open(options);
    ODDITIES.take();
    opened.expect("a port").0
}

fn assert_at_rest(port: &CompletionPort) {
    assert_eq!(port.drain(PATIENCE), Drained::default(), "the worker ends");
    let counters = port.counters();
    assert_eq!(counters.submitted, counters.completed);
    assert_eq!((counters.sockets, counters.buffers_used), (0, 0));
}

/// Asked to end as soon as it has begun, a send ends well as long as the system takes it at once;
/// the first that waits for the peer ends with what ended it, and is not one of no bytes.
#[test]
fn a_send_through_a_layered_provider_fails_in_its_own_words() {
    for layout in LAYOUTS {
        let port = open(layout, Oddities { layered: true, ..Oddities::default() });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("an address").into();
        let mut near = None;
        port.spawn(LaneId(0), "io", move |lane| {
            let near = *near.get_or_insert_with(|| {
                let socket = lane.socket();
                lane.submit(Tag(0), Op::Connect(socket, address));
                socket
            });
            while let Some(completion) = lane.next() {
                match completion.outcome {
                    Outcome::Sent { bytes: 0, .. } => panic!("a failure, not a send of no bytes"),
                    Outcome::Connected | Outcome::Sent { .. } => {
                        let mut gather = Gather::default();
                        gather.push(Segment::Owned(vec![0; 256 * 1024]));
                        lane.submit(Tag(1), Op::Send(near, gather));
                        lane.cancel(near, crate::Cancel::Everything);
                    }
                    Outcome::Failed(error) => {
                        assert_eq!(error.failure, Failure::Cancelled);
                        lane.submit(Tag(2), Op::Close(near));
                    }
                    Outcome::Closed => return Turn::Done,
                    other => panic!("{other:?}"),
                }
            }
            Turn::Sleep(None)
        })
        .expect("the worker starts");
        let peer = listener.accept().expect("a peer");
        assert_at_rest(&port);
        drop(peer);
    }
}

/// It does not go on for ever: whoever accepts is told, once, that it may come again.
#[test]
fn an_accept_whose_peers_all_leave_ends_like_one_without_room() {
    for layout in LAYOUTS {
        let port = open(layout, Oddities { peers_leave: true, ..Oddities::default() });
        let any = "127.0.0.1:0".parse().expect("an address");
        let mut listener = Some(port.listen(any, ListenOptions::default()).expect("a listener"));
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
                        assert!(error.is_passing(), "{error:?}");
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

/// How much of it has left is not told: nothing follows it, neither zeros nor what comes after it.
/// The file is at fault where the number is one of files.
#[test]
fn a_file_that_fails_on_its_way_ends_the_connection_and_is_told_of() {
    let told = |code| FileFault::Failed(system::error(code));
    for (code, fault, failure) in [
        (33, Some(told(33)), Failure::Locked),
        (23, Some(told(23)), Failure::Disk),
        (1117, Some(told(1117)), Failure::Disk),
        (38, Some(FileFault::Short), Failure::Other),
        // Of the connection; and one of those that pass: there is no second try.
        (64, None, Failure::Reset),
        (1450, None, Failure::Reset),
    ] {
        for layout in LAYOUTS {
            let got = send_a_file_that_fails(layout, code);
            assert_eq!(got, (fault, Some(failure)), "{code}, {layout:?}");
        }
    }
}

/// Sends 1000 bytes of a file and four more; what was said of the file, and of the connection.
fn send_a_file_that_fails(layout: Layout, code: u32) -> (Option<FileFault>, Option<Failure>) {
    let oddities = Oddities { file_error: Some(code), layered: true, ..Oddities::default() };
    let port = open(layout, oddities);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address").into();
    let path = std::env::current_exe().expect("this program");
    let name = path.file_name().expect("a name").to_str().expect("a text").into();
    let directory = crate::Directory::open(path.parent().expect("a directory")).expect("it");
    let mut begun = Some(FileOp::Open { directory, path: name });
    let (mut near, mut file) = (None, None);
    let told = Arc::new(Mutex::new((None, None)));
    let told_here = told.clone();
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
                    let piece = FilePart::new(file.take().expect("opened"), 0, 1000);
                    let mut gather = Gather::default();
                    gather.push(Segment::File(Box::new(piece)));
                    gather.push(Segment::Owned(b"tail".to_vec()));
                    lane.submit(Tag(2), Op::Send(near.expect("a socket"), gather));
                }
                Outcome::Sent { bytes, mut gather } => {
                    assert_eq!(bytes, 0, "of the rest, nothing is sent");
                    gather.advance(bytes, |segment| match segment {
                        Segment::File(piece) => lock(&told_here).0 = piece.fault(),
                        other => panic!("the file is done, not {other:?}"),
                    });
                    lane.submit(Tag(2), Op::Send(near.expect("a socket"), gather));
                }
                Outcome::Failed(error) => {
                    lock(&told_here).1 = Some(error.failure);
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
    peer.read_to_end(&mut got).expect("all of it");
    assert!(got.len() <= 1000, "nothing follows");
    assert_at_rest(&port);
    *lock(&told)
}
