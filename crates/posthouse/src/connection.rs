//! One connection: its state, and the one entry through which everything that happens to it comes.
//!
//! Whoever holds a `&mut Connection` is on its strand. The life of a connection is a [`Phase`];
//! each phase says what may start. Closing is a join: nothing new is started, what is in flight is
//! awaited, the handle is closed, the handler is told once, the slot is recycled.

mod abandon;
mod close;
mod connect;
mod deadlines;
mod input;
pub(crate) mod output;
mod phase;
mod receive;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use posthouse_io::{Completion, Lane, Op, Outcome as IoOutcome, Socket};
use posthouse_wire::Session;

use crate::callbacks::Callbacks;
use crate::close::{Close, HandlerResult};
use crate::config::ConnectionConfig;
use crate::connection::output::{FreeList, Output};
use crate::disconnect::{DisconnectKind, DisconnectReason};
use crate::error::RequestError;
use crate::id::{FileSequence, Operation, PeerId, pack};
use crate::mailbox::{PeerPost, PeerTask};
use crate::members::Members;
use crate::message::Message;
use crate::output::Output as PeerOutput;
use crate::registry::ConnectionStats;
use crate::send_config::SendLimits;
use crate::shared::Shared;
use crate::sync::Arc;
use crate::timers::Timers;
use crate::transfers::driver::{TransferCommand, Transfers};
use crate::watchdog::CallbackMarker;

use connect::ConnectPlan;
pub(crate) use input::FreeBacklogs;
use input::Input;
pub(crate) use phase::Phase;

/// The native framing adds so much to a payload.
const FRAME_OVERHEAD_BYTES: usize = 5;

/// The context of a strand that runs: its lane, its worker, the time.
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
    /// Answers of the protocol, before they join a connection's output.
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
    /// A deadline that was armed for this moment is over.
    Deadline(Duration),
    /// The endpoint shuts down: close gracefully, past the deadline by force.
    Shutdown,
    /// The last turn left something to deliver.
    Continue,
}

impl ConnectionEvent {
    /// Converts a completion into the event of its connection.
    pub(crate) fn from_completion(shared: &Shared, completion: Completion) -> (PeerId, Self) {
        let Completion { tag, more, outcome } = completion;
        let (owner, operation, sequence) = crate::id::unpack(tag);
        (
            shared.registry.owner(owner),
            ConnectionEvent::Completion { operation, sequence, more, outcome },
        )
    }
}

/// The state of a connection after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It waits for something.
    Waiting,
    /// It has more to deliver: give it another turn, after others had theirs.
    Unfinished,
    /// It is gone: release its slot and drop it.
    Gone,
    /// It is gone, and the system may still end what it was abandoned for: it stays in its slot,
    /// which no other connection gets, as long as the worker.
    Abandoned,
}

pub(crate) struct Connection {
    input: Input,
    pub(crate) strand: Strand,
}

/// Everything of a connection but its input, so that a callback can hold a message that borrows
/// from the input and act on the rest.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each said what it means")]
pub(crate) struct Strand {
    pub(crate) id: PeerId,
    pub(crate) config: Arc<ConnectionConfig>,
    /// The handler's side. `None` exactly while a callback has it, and once the connection is gone.
    callbacks: Option<Box<dyn Callbacks>>,
    pub(crate) session: Session,
    pub(crate) output: Output,
    pub(crate) stats: Option<Arc<ConnectionStats>>,
    pub(crate) phase: Phase,
    /// Rarely needed, so kept apart.
    pub(crate) cold: Option<Box<ColdState>>,
    socket: Option<Socket>,
    /// True exactly while the handler has paused reading.
    pub(crate) paused: bool,
    /// True exactly from the moment the queue passed its high mark until it is below the low one.
    pub(crate) over_high: bool,
    /// True exactly while a turn is queued for what is left to deliver.
    pub(crate) unfinished: bool,
    /// True exactly while the handler has yet to admit the peer.
    pub(crate) unadmitted: bool,
    /// True exactly when `connected` has been called and `disconnected` has not.
    notified: bool,
    outgoing: bool,
    /// Asked for by a callback; acted on when it returns.
    pub(crate) requested_close: Option<Box<(Close, DisconnectReason)>>,
    reason: Option<Box<DisconnectReason>>,
    /// Operations in flight.
    in_flight: u16,
    /// True exactly while one of them is a look-up.
    resolving: bool,
    /// Operations that were abandoned and have not ended since.
    abandoned: u16,
    /// The deadline of the phase: connecting, opening, admission, closing.
    pub(crate) phase_deadline: Option<Duration>,
    /// The earliest deadline that is armed with the worker; `MAX`: none.
    armed: Duration,
    /// The one that was the earliest before: it still is armed, and need not be again.
    armed_before: Duration,
    /// A passing shortage: submit again at this time.
    retry_at: Option<Duration>,
    /// While output waits: when to look whether the peer took enough, and what had left before.
    stall: Option<(Duration, u64)>,
    /// Bytes of the queue that the gate knows of.
    gated_bytes: usize,
    /// Bytes that other threads sent and that came when the connection was closing.
    late_bytes: u64,
}

/// The state that few connections need.
#[derive(Default)]
pub(crate) struct ColdState {
    plan: Option<ConnectPlan>,
    pub(crate) groups: Vec<Arc<Members>>,
    pub(crate) requests: BTreeMap<u32, PendingRequest>,
    next_request: u32,
    pub(crate) tasks: BTreeMap<(Duration, u64), PeerTask>,
    next_task: u64,
    /// Requests of the peer that have no reply yet.
    pub(crate) open_requests: BTreeSet<u32>,
    /// What a server said before it answered our hello.
    early: VecDeque<(u8, Vec<u8>)>,
    early_bytes: usize,
    pub(crate) transfers: Option<Box<Transfers>>,
    /// Commands of callbacks about files.
    pub(crate) commands: VecDeque<TransferCommand>,
}

/// What runs with a request's reply.
pub(crate) type ReplyTask =
    Box<dyn FnOnce(&mut dyn Callbacks, PeerOutput<'_>, Reply<'_>) -> HandlerResult + Send>;
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
        outgoing: bool,
    ) -> Self {
        let session = if outgoing { Session::connecting() } else { Session::accepted() };
        let strand = Strand {
            id,
            config,
            callbacks: Some(callbacks),
            session,
            output: Output::default(),
            stats: None,
            phase: Phase::New,
            cold: None,
            socket: None,
            paused: false,
            over_high: false,
            unfinished: false,
            unadmitted: false,
            notified: false,
            outgoing,
            requested_close: None,
            reason: None,
            in_flight: 0,
            resolving: false,
            abandoned: 0,
            phase_deadline: None,
            armed: Duration::MAX,
            armed_before: Duration::MAX,
            retry_at: None,
            stall: None,
            gated_bytes: 0,
            late_bytes: 0,
        };
        Self { input: Input::default(), strand }
    }

    /// Applies one event. [`settle`](Self::settle) must follow, after this or after
    /// several of them.
    pub(crate) fn apply(&mut self, cx: &mut Context<'_>, event: ConnectionEvent) {
        match event {
            ConnectionEvent::Completion { operation, .. }
                if self.strand.take_abandoned(operation) => {}
            _ if self.strand.phase == Phase::Abandoned => {
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
                self.strand.unfinished = false;
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
            Operation::Resolve => strand.on_resolved(cx, outcome),
            Operation::Connect => strand.on_connect(cx, outcome),
            Operation::Close => strand.on_closed(cx),
            Operation::File => strand.on_file(cx, FileSequence::unpack(sequence), outcome),
            Operation::Accept | Operation::CloseListener => unreachable!("a listener's operation"),
        }
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outcome: IoOutcome) {
        let strand = &mut self.strand;
        match outcome {
            IoOutcome::Sent { bytes, gather } => {
                if let Some(stats) = &strand.stats {
                    stats.sent_bytes(bytes);
                }
                let sent = strand.output.sent(&mut cx.worker.free_list, bytes, gather);
                if bytes == 0 {
                    strand.retry_later(cx);
                }
                if sent.sendfile_bytes > 0 {
                    cx.shared.stats.sendfile_bytes.add(sent.sendfile_bytes as u64);
                }
                if let Some(fault) = sent.fault {
                    strand.on_chunk_fault(cx, fault);
                }
                if sent.all && strand.output.queued_bytes() == 0 {
                    strand.stall = None;
                    strand.session.flushed();
                }
            }
            IoOutcome::Failed(error) => {
                strand.output.failed();
                strand.fail(cx, error);
            }
            other => unreachable!("a send ended in {other:?}"),
        }
    }

    /// Lets the gate know what has left. Below the low mark, where the queue was over the high one
    /// or another thread found it full, the handler is told, and reading goes on.
    fn notify_writable(&mut self, cx: &mut Context<'_>) {
        let refused = self.strand.publish(cx);
        let strand = &mut self.strand;
        let low = cx.shared.tuning.queue_low_bytes;
        if (strand.over_high || refused) && strand.output.message_bytes() <= low {
            strand.over_high = false;
            strand.gate(cx).clear_refused();
            if strand.phase == Phase::Open {
                strand.run_callback(cx, |callbacks, output| callbacks.writable(output));
            }
        }
    }

    fn on_post(&mut self, cx: &mut Context<'_>, post: PeerPost) {
        let strand = &mut self.strand;
        match post {
            PeerPost::Adopt { new, .. } => {
                strand.adopt(cx, new);
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
                if strand.phase == Phase::Open {
                    strand.run_callback(cx, task);
                }
            }
            PeerPost::Close(close) => {
                let reason = close.reason();
                strand.close(cx, close, reason);
            }
        }
    }

    /// Starts what should be in flight now, publishes what others may know, arms the deadline.
    pub(crate) fn settle(&mut self, cx: &mut Context<'_>) -> Settled {
        if self.strand.phase == Phase::Abandoned {
            return Settled::Waiting;
        }
        self.notify_writable(cx);
        self.strand.run_transfers(cx);
        self.strand.submit_send(cx);
        self.progress(cx);
        if self.strand.phase == Phase::Gone {
            return self.leave();
        }
        self.strand.publish(cx);
        self.arm(cx);
        if self.has_more_to_deliver() { Settled::Unfinished } else { Settled::Waiting }
    }
}

impl Connection {
    /// Ends the last turn: the connection is gone, except for what it was abandoned for.
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
    /// Runs a callback, with everything that goes with it: the watchdog can see it, a panic is
    /// contained, and what it asked for happens after it.
    pub(crate) fn run_callback(
        &mut self,
        cx: &mut Context<'_>,
        callback: impl FnOnce(&mut dyn Callbacks, PeerOutput<'_>) -> HandlerResult,
    ) {
        let (shared, now) = (cx.shared, cx.now);
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
        // Spares every message the code that would drop it.
        std::mem::forget(none);
        match result {
            Ok(Ok(())) => {}
            Ok(Err(close)) => {
                let reason = close.reason();
                self.request_close(close, reason);
            }
            Err(panic) => self.on_panic(cx, &*panic),
        }
        self.close_if_requested(cx);
    }

    /// Closes if a callback, or what it sent, asked for it.
    fn close_if_requested(&mut self, cx: &mut Context<'_>) {
        if let Some(wanted) = self.requested_close.take() {
            self.close(cx, wanted.0, wanted.1);
        }
    }

    fn on_panic(&mut self, cx: &mut Context<'_>, panic: &(dyn std::any::Any + Send)) {
        let text = panic_text(panic);
        cx.shared.stats.panics.add(1);
        tracing::error!(peer = %self.id, panic = text, "a callback panicked");
        let reason = DisconnectReason::new(DisconnectKind::Panicked, text);
        self.request_close(Close::internal_error(), reason);
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

    /// The connection's gate; it is there as long as the connection.
    pub(crate) fn gate<'a>(&self, cx: &Context<'a>) -> &'a crate::gate::Gate {
        cx.shared.registry.gate(self.id).expect("a connection has a gate")
    }

    /// True exactly when requests, replies and goodbyes can be sent.
    pub(crate) fn has_hello(&self) -> bool {
        self.config.is_native() && self.session.may_use_reserved_kinds()
    }

    /// The limits of a message to the peer.
    #[inline]
    pub(crate) fn send_limits(&self) -> SendLimits {
        let native = self.config.is_native();
        SendLimits {
            hello: native && self.session.kinds_are_reserved(),
            max_payload_bytes: match native {
                true => self.session.send_limit(&self.config.session),
                false => self.config.wire.max_payload_bytes,
            },
        }
    }

    pub(crate) fn sent_message(&mut self) {
        if let Some(stats) = &self.stats {
            stats.sent_message();
        }
    }

    /// Queues a frame that another thread encoded, and reserved room for.
    fn send_posted(&mut self, cx: &mut Context<'_>, frame: Vec<u8>) {
        self.gated_bytes += frame.len();
        if self.phase != Phase::Open {
            self.late_bytes += frame.len() as u64;
            return;
        }
        let limits = self.send_limits();
        let too_large = frame.len() > limits.max_payload_bytes + FRAME_OVERHEAD_BYTES;
        let reserved = limits.hello && posthouse_wire::is_reserved_kind(frame[4]);
        if self.config.is_native() && (too_large || reserved) {
            // It could be sent when it was encoded; hello was agreed since.
            let text = "a message was on its way when hello was agreed, and is not allowed since";
            return self.close_unsendable(text);
        }
        self.output.push_owned(&mut cx.worker.free_list, frame);
        self.sent_message();
        // Its sender has reserved room for it: the bound is kept.
        self.check_queue(usize::MAX);
    }

    /// Queues a frame of a group.
    pub(crate) fn send_shared(&mut self, cx: &mut Context<'_>, frame: &Arc<[u8]>) {
        let too_large = frame.len() > self.send_limits().max_payload_bytes + FRAME_OVERHEAD_BYTES;
        if self.config.is_native() && too_large {
            // The peer said that it takes no frame as large as this; the others get theirs.
            return cx.shared.stats.group_skips.add(1);
        }
        if self.phase == Phase::Open {
            self.output.push_shared(&mut cx.worker.free_list, frame);
            self.sent_message();
            self.check_queue(frame.len());
        }
    }

    /// Queues the answer to a request, which another thread encoded.
    fn send_reply(&mut self, cx: &mut Context<'_>, id: u32, frame: Vec<u8>) {
        self.gated_bytes += frame.len();
        let open = self.cold.as_mut().is_some_and(|e| e.open_requests.remove(&id));
        if self.phase != Phase::Open || !open {
            self.late_bytes += frame.len() as u64;
            return;
        }
        // A reply found room at the gate; a rejection has its place however full the queue is.
        self.output.push_owned(&mut cx.worker.free_list, frame);
        self.sent_message();
        self.check_queue(usize::MAX);
    }

    /// Compares the queue with its marks after a message of so many bytes was appended.
    #[inline]
    pub(crate) fn check_queue(&mut self, last_bytes: usize) {
        let queued = self.output.message_bytes();
        if queued > self.config.queue_high_bytes {
            self.on_high_queue(queued, last_bytes);
        }
    }

    /// Over the high mark an accepted peer is not read from; a connecting side goes on reading,
    /// because two ends that both stop would wait for each other for ever. Over the maximum the
    /// connection is closed, unless this message is all that is queued.
    #[cold]
    fn on_high_queue(&mut self, queued: usize, last_bytes: usize) {
        self.over_high = true;
        if queued > last_bytes && queued > self.config.options.send_queue_bytes {
            let text = format!("{queued} bytes queued");
            let reason = DisconnectReason::new(DisconnectKind::QueueFull, text);
            self.request_close(Close::abort(), reason);
        }
    }

    /// True exactly when the next message may be handed to the handler.
    fn takes_messages(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Opening)
            && !self.paused
            && (!self.over_high || self.outgoing)
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

    fn submit_send(&mut self, cx: &mut Context<'_>) {
        let sends = matches!(self.phase, Phase::Opening | Phase::Open | Phase::Draining);
        let Some(socket) = self.socket else { return };
        if !sends || !self.output.wants_send() || self.retry_at.is_some() {
            return;
        }
        let gather = self.output.start(&mut cx.worker.free_list);
        if self.stall.is_none() {
            let until = cx.now + Duration::from_millis(self.config.options.stall_timeout_ms);
            let sent = self.stats.as_ref().map_or(0, |stats| stats.bytes_sent());
            self.stall = Some((until, sent));
        }
        self.submit(cx, Operation::Send, 0, Op::Send(socket, gather));
    }

    /// A shortage that passes: nothing is lost, the operation is submitted again soon.
    fn retry_later(&mut self, cx: &mut Context<'_>) {
        const RETRY: Duration = Duration::from_millis(10);
        self.retry_at = Some(cx.now + RETRY);
        cx.shared.stats.shortages.add(1);
    }

    /// Lets the gate know what is queued. Returns whether something has left for which another
    /// thread waits.
    fn publish(&mut self, cx: &Context<'_>) -> bool {
        let queued = self.output.message_bytes();
        let known = std::mem::replace(&mut self.gated_bytes, queued);
        if queued > known {
            self.gate(cx).add(queued - known);
        }
        known > queued && self.gate(cx).release(known - queued)
    }
}

/// What a panic said, where it said something.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

impl ColdState {
    /// A number for the next request: one that no waiting request has.
    pub(crate) fn next_request(&mut self) -> u32 {
        loop {
            self.next_request = self.next_request.wrapping_add(1);
            if !self.requests.contains_key(&self.next_request) {
                return self.next_request;
            }
        }
    }

    /// Adds something to do at a time; what is for the same time is done in order.
    pub(crate) fn add_task(&mut self, at: Duration, task: PeerTask) {
        self.tasks.insert((at, self.next_task), task);
        self.next_task += 1;
    }
}
