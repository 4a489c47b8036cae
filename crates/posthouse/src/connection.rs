//! One connection: its state, and the one function that applies events to it.
//!
//! Code that holds a `&mut Connection` is on its strand. The life of a connection is a [`Phase`],
//! which has the data of that phase. Closing is a join: the connection starts no operation, waits
//! for the operations in flight, closes the handles, calls the handler once and releases the slot.

mod abandon;
mod close;
mod connect;
mod deadlines;
mod input;
pub(crate) mod output;
mod pacing;
mod phase;
mod receive;
mod records;
mod run;
mod send;
mod watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use posthouse_io::{Lane, Op, Outcome as IoOutcome};
use posthouse_wire::Session;

use crate::admissions::Ticket;
use crate::callbacks::Callbacks;
use crate::close::{Close, HandlerResult};
use crate::config::{ConnectionConfig, Role};
use crate::connection::output::{FreeList, Output};
use crate::contained::{self, Contained};
use crate::disconnect::{DisconnectKind, DisconnectReason};
use crate::error::RequestError;
use crate::id::{FileSequence, Operation, PeerId, pack};
use crate::mailbox::{PeerPost, PeerTask};
use crate::members::Members;
use crate::message::Message;
use crate::output::Output as PeerOutput;
use crate::registry::ConnectionStats;
use crate::shared::Shared;
use crate::sync::Arc;
use crate::timers::Timers;
use crate::transfers::driver::{TransferCommand, Transfers};
use crate::watchdog::CallbackMarker;

pub(crate) use input::FreeBacklogs;
use input::Input;
use pacing::Pacing;
use phase::{Awaits, Phase};
use records::Records;
pub(crate) use run::MessageRun;

/// The context of a running strand: its lane, its worker, the time.
pub(crate) struct Context<'a> {
    pub(crate) lane: &'a mut Lane,
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) worker: &'a mut WorkerState,
    /// The time, read once per turn.
    pub(crate) now: Duration,
}

/// The state of a worker that all its connections share.
#[derive(Debug)]
pub(crate) struct WorkerState {
    pub(crate) free_list: FreeList,
    pub(crate) free_backlogs: FreeBacklogs,
    pub(crate) timers: Timers,
    pub(crate) marker: Arc<CallbackMarker>,
    /// The protocol's own frames, before they are appended to a connection's output.
    pub(crate) control: Vec<u8>,
}

/// An event of a connection.
pub(crate) enum ConnectionEvent {
    Completion {
        operation: Operation,
        sequence: u16,
        more: bool,
        outcome: IoOutcome,
    },
    Post(PeerPost),
    /// The deadline that was armed for this time has passed.
    Deadline(Duration),
    /// The endpoint shuts down: the connection closes gracefully, after the deadline by force.
    Shutdown,
    /// The last turn did not deliver all input.
    Continue,
}

impl ConnectionEvent {
    /// Returns whether the event only ends a send or is a post. The connection can then be settled
    /// later, together with others or with its next receive. An event that delivers messages is
    /// settled before another connection has its turn, while the replies are in the cache.
    pub(crate) fn only_reports(&self) -> bool {
        match self {
            ConnectionEvent::Completion { operation, .. } => *operation == Operation::Send,
            ConnectionEvent::Post(_) => true,
            ConnectionEvent::Deadline(_)
            | ConnectionEvent::Shutdown
            | ConnectionEvent::Continue => false,
        }
    }
}

/// The state of a connection after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The connection waits for an event.
    Waiting,
    /// The connection has more to deliver, and gets another turn after the other connections.
    Unfinished,
    /// The connection has ended: its slot is released.
    Gone,
    /// The connection was abandoned, and its operations may still complete. It stays in its slot,
    /// which no other connection gets, as long as the worker lives.
    Abandoned,
}

pub(crate) struct Connection {
    input: Input,
    pub(crate) strand: Strand,
}

/// The bound of an idle connection's memory, beside the handler's side of it.
const _: () = assert!(size_of::<Connection>() <= 384);

/// A connection without its input. So a callback can hold a message that borrows from the input,
/// and change the rest.
pub(crate) struct Strand {
    pub(crate) id: PeerId,
    pub(crate) config: Arc<ConnectionConfig>,
    /// The handler's side. `None` exactly while a callback has it, and after the connection has
    /// ended.
    callbacks: Option<Box<dyn Callbacks>>,
    pub(crate) session: Session,
    pub(crate) output: Output,
    pub(crate) stats: Option<Arc<ConnectionStats>>,
    phase: Phase,
    /// The place in the budget of unadmitted peers, from the accept to the admission or the end.
    ticket: Option<Ticket>,
    /// The state that few connections need, in a box of its own to save memory.
    pub(crate) cold: Option<Box<ColdState>>,
    /// True exactly while the handler has paused reading.
    pub(crate) paused: bool,
    owes_writable: OwesWritable,
    /// The number of replies of the protocol that were queued since `replies_until` was 0.
    replies: u16,
    /// The number of bytes until replies are counted anew: all that was queued then has been sent.
    replies_until: u32,
    /// Whether another turn is queued, for the rest of the input.
    pub(crate) next_turn: NextTurn,
    /// Whether events were applied since the connection was settled.
    pub(crate) settling: Settling,
    /// The close that a callback has requested; it begins when the callback returns.
    requested_close: Option<Box<(Close, DisconnectReason)>>,
    /// The number of operations that have not ended.
    in_flight: u16,
    /// The number of abandoned operations that have not completed since.
    abandoned: u16,
    /// The earliest deadline that is armed with the worker; `MAX` if none is.
    armed: Duration,
    /// The deadline that was the earliest before `armed`. It still is armed with the worker, so it
    /// need not be armed again.
    armed_before: Duration,
    /// The time at which an operation is submitted again after a shortage.
    retry_at: Option<Duration>,
    /// The time of the next stall check, and the number of bytes sent at the last one. `None` if no
    /// output waits.
    stall: Option<(Duration, u64)>,
    /// The bytes of the queue that the gate counts.
    gated_bytes: usize,
    /// The bytes of messages from other threads that arrived when the connection was closing.
    late_bytes: u64,
}

/// The kind of events that have been applied to a connection since it was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settling {
    /// None: the connection is settled.
    Done,
    /// Only completions of sends.
    Sent,
    /// Other events.
    Due,
}

impl Settling {
    /// Returns the value after this event has been applied, too.
    pub(crate) fn with(self, event: &ConnectionEvent) -> Self {
        match event {
            ConnectionEvent::Completion { operation: Operation::Send, .. }
                if self != Settling::Due =>
            {
                Settling::Sent
            }
            _ => Settling::Due,
        }
    }
}

/// Whether `writable` is called as soon as the queue is below its low mark. The gate has a mark of
/// its own for messages of other threads, which the strand sees when bytes leave the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwesWritable {
    No,
    /// A message of another thread has found no room, and no byte of the queue will show it.
    Refused,
    /// The queue has exceeded its high mark, or has [`MAX_REPLIES`](send::MAX_REPLIES). An accepted
    /// peer is not read meanwhile.
    OverHigh,
}

/// Whether a worker has queued another turn of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextTurn {
    None,
    Queued,
}

/// The state that few connections need.
#[derive(Default)]
pub(crate) struct ColdState {
    pub(crate) groups: Vec<Arc<Members>>,
    pub(crate) requests: BTreeMap<u32, PendingRequest>,
    next_request: u32,
    /// The waiting timers of the program, by their time.
    pub(crate) timers: BTreeMap<(Duration, u64), PeerTask>,
    next_timer: u64,
    /// The requests of the peer that have no reply yet.
    pub(crate) open_requests: BTreeSet<u32>,
    /// The messages that a server sent before it answered this side's hello.
    early: VecDeque<(u8, Vec<u8>)>,
    early_bytes: usize,
    pub(crate) transfers: Option<Box<Transfers>>,
    records: Option<Box<Records>>,
    pacing: Pacing,
    /// The time since which this side has not read, as of the last settle; `None` while it reads.
    stopped_since: Option<Duration>,
    /// The file commands of callbacks.
    pub(crate) commands: VecDeque<TransferCommand>,
}

/// The task that runs with the reply to a request.
pub(crate) type ReplyTask = Contained<
    Box<dyn FnOnce(&mut dyn Callbacks, PeerOutput<'_>, Reply<'_>) -> HandlerResult + Send>,
>;
type Reply<'a> = Result<Message<'a>, RequestError>;

pub(crate) struct PendingRequest {
    pub(crate) until: Duration,
    pub(crate) then: ReplyTask,
}

impl Connection {
    pub(crate) fn new(
        id: PeerId,
        config: Arc<ConnectionConfig>,
        callbacks: Box<dyn Callbacks>,
    ) -> Self {
        let session = match config.role {
            Role::Connects => Session::connecting(),
            Role::Accepts => Session::accepted(),
        };
        let strand = Strand {
            id,
            config,
            callbacks: Some(callbacks),
            session,
            output: Output::default(),
            stats: None,
            phase: Phase::New,
            ticket: None,
            cold: None,
            paused: false,
            owes_writable: OwesWritable::No,
            replies: 0,
            replies_until: 0,
            next_turn: NextTurn::None,
            settling: Settling::Done,
            requested_close: None,
            in_flight: 0,
            abandoned: 0,
            armed: Duration::MAX,
            armed_before: Duration::MAX,
            retry_at: None,
            stall: None,
            gated_bytes: 0,
            late_bytes: 0,
        };
        Self { input: Input::default(), strand }
    }

    /// Applies one event. [`settle`](Self::settle) must follow, after one event or several.
    pub(crate) fn apply(&mut self, cx: &mut Context<'_>, event: ConnectionEvent) {
        match event {
            ConnectionEvent::Completion { operation, .. }
                if self.strand.take_abandoned(operation) => {}
            _ if matches!(self.strand.phase, Phase::Abandoned) => {
                let completes = matches!(event, ConnectionEvent::Completion { .. });
                assert!(!completes, "{}: a completion for what was abandoned", self.strand.id);
            }
            ConnectionEvent::Completion { operation, sequence, more, outcome } => {
                self.complete(cx, operation, sequence, more, outcome);
            }
            ConnectionEvent::Post(post) => self.on_post(cx, post),
            ConnectionEvent::Deadline(at) => self.on_deadline(cx, at),
            ConnectionEvent::Shutdown => self.strand.on_shutdown(cx),
            ConnectionEvent::Continue => {
                self.strand.next_turn = NextTurn::None;
                self.deliver(cx);
            }
        }
    }

    fn complete(
        &mut self,
        cx: &mut Context<'_>,
        operation: Operation,
        sequence: u16,
        more: bool,
        outcome: IoOutcome,
    ) {
        let strand = &mut self.strand;
        if !more {
            assert!(strand.in_flight > 0, "{}: a terminal completion too many", strand.id);
            strand.in_flight -= 1;
        }
        match operation {
            Operation::Receive => self.on_receive(cx, sequence as u8, more, outcome),
            Operation::Send => self.on_send(cx, outcome),
            Operation::Watch => self.on_watch(cx, outcome),
            Operation::Resolve => strand.on_resolved(cx, outcome),
            // A connection has few attempts, so their numbers fit a byte.
            Operation::Connect => strand.on_connect(cx, sequence as u8, outcome),
            Operation::Close => strand.finish_when_closed(cx),
            Operation::CloseAttempt => {}
            Operation::File => strand.on_file(cx, FileSequence::unpack(sequence), outcome),
            Operation::Accept | Operation::CloseListener => unreachable!("a listener's operation"),
        }
    }

    fn on_post(&mut self, cx: &mut Context<'_>, post: PeerPost) {
        let strand = &mut self.strand;
        match post {
            PeerPost::Adopt { new, ticket, .. } => {
                strand.adopt(cx, new, ticket);
                strand.on_shutdown(cx);
            }
            PeerPost::Connect { target, .. } => {
                strand.connect(cx, *target);
                strand.on_shutdown(cx);
            }
            PeerPost::Frame(frame) => strand.send_posted(cx, frame),
            PeerPost::SharedFrame(frame) => strand.send_shared(cx, &frame),
            PeerPost::Reply { id, frame } => strand.send_reply(cx, id, frame),
            PeerPost::OfferAnswer { id, answer } => strand.on_offer_answer(cx, id, *answer),
            PeerPost::Run(task) => {
                if strand.is_open() {
                    strand.run_task(cx, task);
                }
            }
            PeerPost::RoomFreed => strand.on_room_freed(cx),
            PeerPost::Close(close) => {
                let reason = close.reason();
                strand.close(cx, close, reason);
            }
            PeerPost::Evict => strand.on_evicted(cx),
            PeerPost::Granted(resource) => strand.on_granted(cx, resource),
            PeerPost::WalkGranted => strand.on_walk_granted(),
        }
    }

    /// Submits the operations that should be in flight, publishes the queue's size to the gate, and
    /// arms the deadline.
    pub(crate) fn settle(&mut self, cx: &mut Context<'_>) -> Settled {
        if matches!(self.strand.phase, Phase::Abandoned) {
            return Settled::Waiting;
        }
        let settling = std::mem::replace(&mut self.strand.settling, Settling::Done);
        let is_quiet = settling == Settling::Sent && self.strand.has_sent_all();
        if !is_quiet {
            self.progress(cx);
        }
        if self.notify_writable(cx) {
            self.progress(cx);
            self.strand.publish(cx);
        } else if is_quiet {
            return Settled::Waiting;
        }
        if matches!(self.strand.phase, Phase::Gone) {
            return self.leave();
        }
        self.arm(cx);
        if self.has_more_to_deliver() { Settled::Unfinished } else { Settled::Waiting }
    }
}

impl Connection {
    /// Returns whether the connection has ended, and stays for its abandoned operations.
    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(self.strand.phase, Phase::Abandoned)
    }

    /// Ends the last turn of the connection. If it has abandoned operations, it stays in its slot.
    fn leave(&mut self) -> Settled {
        if self.strand.abandoned == 0 {
            return Settled::Gone;
        }
        self.input = Input::default();
        self.strand.phase = Phase::Abandoned;
        Settled::Abandoned
    }
}

impl Strand {
    /// Runs a callback. The watchdog can see it, a panic is contained, and the close that it
    /// requests begins after it.
    pub(crate) fn run_callback(
        &mut self,
        cx: &mut Context<'_>,
        callback: impl FnOnce(&mut dyn Callbacks, PeerOutput<'_>) -> HandlerResult,
    ) {
        let shared = cx.shared;
        let now = cx.now;
        crate::sync::assert_none_held();
        let mut callbacks = self.callbacks.take().expect("one callback at a time, before the end");
        cx.worker.marker.enter(self.id);
        let free_list = &mut cx.worker.free_list;
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            callback(&mut *callbacks, PeerOutput::new(self, shared, free_list, now))
        }));
        cx.worker.marker.leave();
        let none = self.callbacks.replace(callbacks);
        debug_assert!(none.is_none(), "a callback ran within a callback");
        // Without this, every message would run the code that drops the value.
        std::mem::forget(none);
        match result {
            Ok(Ok(())) => {}
            Ok(Err(close)) => {
                let reason = close.reason();
                self.request_close(close, reason);
            }
            Err(panic) => self.on_panic(cx, panic),
        }
        self.close_if_requested(cx);
    }

    /// Runs a task of the program on this strand, as a callback.
    pub(crate) fn run_task(&mut self, cx: &mut Context<'_>, task: PeerTask) {
        self.run_callback(cx, |callbacks, output| task.into_inner()(callbacks, output));
    }

    /// Runs the task that waits for the reply to a request, as a callback.
    fn run_reply(&mut self, cx: &mut Context<'_>, task: ReplyTask, reply: Reply<'_>) {
        self.run_callback(cx, |callbacks, output| task.into_inner()(callbacks, output, reply));
    }

    /// Closes the connection if a callback requested it, or the queue is over its maximum.
    #[inline]
    fn close_if_requested(&mut self, cx: &mut Context<'_>) {
        if let Some(wanted) = self.requested_close.take() {
            self.close(cx, wanted.0, wanted.1);
        }
    }

    #[cold]
    fn on_panic(&mut self, cx: &mut Context<'_>, panic: Box<dyn std::any::Any + Send>) {
        let text = contained::text(&*panic);
        cx.shared.count_panic(cx.now, Some(self.id), text, "a callback panicked");
        let reason = DisconnectReason::new(DisconnectKind::Panicked, text);
        self.request_close(Close::internal_error(), reason);
        contained::drop_payload(panic);
    }

    /// Requests the end of the connection once the callback that runs has returned. The first
    /// request counts.
    pub(crate) fn request_close(&mut self, close: Close, reason: DisconnectReason) {
        if self.requested_close.is_none() {
            self.requested_close = Some(Box::new((close, reason)));
        }
    }

    pub(crate) fn cold(&mut self) -> &mut ColdState {
        self.cold.get_or_insert_default()
    }

    /// Returns the connection's gate, which exists as long as the connection.
    pub(crate) fn gate<'a>(&self, cx: &Context<'a>) -> &'a crate::gate::Gate {
        cx.shared.registry.gate(self.id).expect("a connection has a gate")
    }

    /// Returns whether `connected` has been called and the end has not begun.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.phase.is_open()
    }

    /// Returns whether messages can be queued: the connection is open, and no callback has
    /// requested its end.
    #[inline]
    pub(crate) fn takes_output(&self) -> bool {
        self.is_open() && self.requested_close.is_none()
    }

    /// Returns whether the handler has yet to admit the peer.
    pub(crate) fn is_unadmitted(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if matches!(open.awaits, Awaits::Admission(_)))
    }

    /// Returns whether this side made the connection.
    fn connects(&self) -> bool {
        self.config.role == Role::Connects
    }

    /// Returns whether nothing stops this side from reading: not the handler, nor the pace, nor a
    /// full queue.
    #[inline]
    fn may_read(&self) -> bool {
        !self.paused && !self.is_paced() && (!self.is_over_high() || self.connects())
    }

    /// Returns whether the next message may be passed to the handler.
    fn takes_messages(&self) -> bool {
        self.phase.takes_frames() && self.may_read()
    }

    pub(crate) fn submit(
        &mut self,
        cx: &mut Context<'_>,
        operation: Operation,
        sequence: u16,
        op: Op,
    ) {
        self.in_flight += 1;
        cx.lane.submit(pack(self.id, operation, sequence), op);
    }
}

impl ColdState {
    /// Returns a number for the next request, which no waiting request has.
    pub(crate) fn next_request(&mut self) -> u32 {
        loop {
            self.next_request = self.next_request.wrapping_add(1);
            if !self.requests.contains_key(&self.next_request) {
                return self.next_request;
            }
        }
    }

    /// Takes a request whose reply has not arrived in time.
    fn take_expired_request(&mut self, now: Duration) -> Option<PendingRequest> {
        let id = *self.requests.iter().find(|(_, request)| request.until <= now)?.0;
        self.requests.remove(&id)
    }

    /// Takes a timer that is due and has a number less than `last`.
    fn take_due_timer(&mut self, now: Duration, last: u64) -> Option<PeerTask> {
        let first = self.timers.first_entry()?;
        (first.key().0 <= now && first.key().1 < last).then(|| first.remove())
    }

    /// Adds a timer, and returns its key. Timers for the same time run in the order of the calls.
    pub(crate) fn add_timer(&mut self, at: Duration, task: PeerTask) -> (Duration, u64) {
        let key = (at, self.next_timer);
        self.timers.insert(key, task);
        self.next_timer += 1;
        key
    }
}
