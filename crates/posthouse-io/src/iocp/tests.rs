//! Behaviours of Windows that no test machine shows. The tests imitate them: calls fail at once,
//! and operations end as on such systems.

mod accepting;
pub(super) mod file_ops;
#[path = "../../tests/shared/log.rs"]
mod log;
mod sending;
mod watching;

use std::cell::Cell;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use super::operation::{Ended, Operation, OperationKind};
use super::socket::SocketState;
use crate::address::Address;
use crate::counters::Drained;
use crate::error::{Error, Failure};
use crate::file_op::{FileOp, FileOutcome};
use crate::gather::{FileFault, FilePart, Gather, Segment};
use crate::lane::Lane;
use crate::native::socket_core::{Link, Stage};
use crate::op::{Op, Outcome, ReceiveMode};
use crate::options::{Layout, ListenOptions, Options, ReadMode};
use crate::port::{Backend, CompletionPort};
use crate::sync::{Arc, Mutex, lock};
use crate::sys;
use crate::token::{LaneId, Socket, Tag};
use crate::turn::Turn;

/// The behaviours to imitate.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent faults of the system")]
pub(super) struct TestFaults {
    /// The sockets are those of a provider that is layered over the system's: every call that does
    /// not fail has a packet, and every packet reports success.
    pub(super) layered: bool,
    /// The system has no memory for receives.
    pub(super) no_memory: bool,
    /// The system does not poll sockets.
    pub(super) no_poll: bool,
    /// Every accept fails in the call with this failure.
    pub(super) no_peer: Option<Failure>,
    /// The options of an accepted socket are refused with this error.
    pub(super) not_ready: Option<Error>,
    /// The system cannot send files.
    pub(super) no_files: bool,
    /// A call that sends a file fails with this number after some of it has left.
    pub(super) file_error: Option<u32>,
    /// The file pool has no threads for reads and writes.
    pub(super) no_threads: bool,
}

thread_local! {
    /// The behaviours of the ports that this thread opens.
    static TEST_FAULTS: Cell<TestFaults> = Cell::default();
}

impl TestFaults {
    pub(super) fn now() -> Self {
        TEST_FAULTS.get()
    }

    /// Makes a packet report success.
    pub(super) fn hide(self, ended: &mut Ended) {
        if self.layered {
            ended.result = Ok(ended.result.unwrap_or(0));
        }
    }

    /// Replaces the result of an operation with the imitated one.
    pub(super) fn distort(self, ended: &mut Ended) {
        if let (Some(code), OperationKind::Send { gather, .. }) =
            (self.file_error, &ended.operation.work)
            && gather.file_ahead().is_some()
        {
            ended.result = Err(sys::error(code));
        }
    }

    pub(super) fn has_no_thread_for(self, op: &FileOp) -> bool {
        self.no_threads && matches!(op, FileOp::Read { .. } | FileOp::Write { .. })
    }
}

/// Returns the operation of a refused call.
pub(super) fn refused(operation: Box<Operation>, failure: Failure) -> Ended {
    Ended { operation, result: Err(Error::new(failure)) }
}

#[test]
fn a_socket_that_is_connected_to_itself_is_refused() {
    let socket = sys::connected_to_itself();
    let local = sys::local_address(&socket).expect("it is bound");
    assert_eq!(sys::peer_address(&socket), Some(local));
    let mut state = SocketState::default();
    state.link = Link::Open(Stage::Unconnected, socket);
    assert_eq!(state.check_ends().expect_err("its ends are one").failure, Failure::Refused);
    drop(state);
    TcpListener::bind(local.socket_addr()).expect("the port is free");
}

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test in both layouts, with this system's own sockets and with those of a layered
/// provider.
fn everywhere(faults: TestFaults, test: impl Fn(&CompletionPort)) {
    for layout in [Layout::Shared, Layout::Pinned] {
        for layered in [false, true] {
            let port = open(layout, TestFaults { layered, ..faults });
            test(&port);
            assert_at_rest(&port);
        }
    }
}

fn open(layout: Layout, faults: TestFaults) -> CompletionPort {
    let layout = Some(layout);
    let read_mode = ReadMode::Pending;
    TEST_FAULTS.set(faults);
    let options = Options { layout, read_mode, ..Options::default() };
    let opened = CompletionPort::open(Backend::Iocp, &options);
    TEST_FAULTS.take();
    opened.expect("a port").0
}

fn listen(port: &CompletionPort) -> crate::Listener {
    let any = SocketAddr::from(([127, 0, 0, 1], 0)).into();
    port.listen(any, ListenOptions::default()).expect("a listener")
}

/// A listener of the standard library, and its address.
fn std_listener() -> (TcpListener, Address) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a listener");
    let address = listener.local_addr().expect("an address").into();
    (listener, address)
}

/// Starts a worker on the first lane.
fn spawn(port: &CompletionPort, step: impl FnMut(&mut Lane) -> Turn + Send + 'static) {
    port.spawn(LaneId(0), "io", step).expect("the worker starts");
}

fn assert_at_rest(port: &CompletionPort) {
    assert_eq!(port.drain(PATIENCE), Drained::default(), "the worker ends");
    let counters = port.counters();
    assert_eq!(counters.submitted, counters.completed);
    assert_eq!((counters.sockets, counters.buffers_used), (0, 0));
}

/// Only server editions send files with TransmitFile.
#[test]
fn a_server_edition_is_told_from_the_others() {
    let key = r"HKLM\System\CurrentControlSet\Control\ProductOptions";
    let query =
        std::process::Command::new("reg").args(["query", key, "/v", "ProductType"]).output();
    let told = String::from_utf8_lossy(&query.expect("reg runs").stdout).into_owned();
    let is_client = told.contains("WinNT");
    assert!(is_client || told.contains("ServerNT") || told.contains("LanmanNT"), "{told}");
    assert_eq!(crate::sys::is_server(), !is_client, "{told}");
}

/// A probe replaces the receives that have no memory, and those behind it: each gets its own bytes.
#[test]
fn receives_that_the_system_has_no_memory_for_get_their_bytes_all_the_same() {
    let short = TestFaults { no_memory: true, ..TestFaults::default() };
    everywhere(short, assert_receives_get_their_bytes);
}

#[test]
fn receives_get_their_bytes_whether_the_system_tells_in_the_call_or_later() {
    everywhere(TestFaults::default(), assert_receives_get_their_bytes);
}

fn assert_receives_get_their_bytes(port: &CompletionPort) {
    const ACCEPT: Tag = Tag(0);
    const RECEIVES: u64 = 4;
    let mut listener = Some(listen(port));
    let told = Arc::new(Mutex::new(Vec::new()));
    let told_here = told.clone();
    let mut sockets: Vec<Socket> = Vec::new();
    let mut closed = 0;
    spawn(port, move |lane| {
        if let Some(listener) = listener.take() {
            let address = listener.local_address();
            sockets = vec![lane.adopt_listener(listener), lane.socket()];
            lane.submit(ACCEPT, Op::Accept(sockets[0]));
            lane.submit(Tag(1), Op::Connect(sockets[1], address));
        }
        while let Some(completion) = lane.next_completion() {
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
    });
    assert_at_rest(port);
    let told = lock(&told);
    let bytes: Vec<u8> = told.iter().filter_map(|(_, bytes)| bytes.clone()).flatten().collect();
    assert_eq!(bytes, b"all the same", "{told:?}");
    assert!(told.iter().map(|(n, _)| *n).eq(10..10 + RECEIVES), "in their order: {told:?}");
    assert_eq!(told.last().expect("told").1, None, "the end comes last: {told:?}");
}
