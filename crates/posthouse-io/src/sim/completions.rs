//! Operations and their completions: the counts, and the order in which they are taken.

use super::LaneAddr;
use super::disk::{FileId, FileUse};
use super::log::Note;
use super::port::{LaneState, SocketlessOp};
use super::stream::InFlight;
use super::table::SocketKind;
use super::world::{Event, World};
use crate::address::Address;
use crate::error::{Error, Failure};
use crate::op::Outcome;
use crate::options::Layout;
use crate::token::{Socket, Tag};

/// The kind of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpKind {
    Accept,
    Connect,
    Receive,
    Send,
    Close,
    Resolve,
    File,
    Watch,
}

/// A completion that waits to be taken.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) socket: Option<Socket>,
    /// The open file of its operation, and its use there.
    pub(super) file: Option<(FileId, FileUse)>,
    pub(super) tag: Tag,
    pub(super) kind: OpKind,
    pub(super) more: bool,
    pub(super) result: Delivery,
}

/// The outcome of a completion. An accepted stream becomes a value that closes on drop only when
/// the completion is taken, because such a value must not be dropped inside the world.
#[derive(Debug)]
pub(super) enum Delivery {
    Plain(Outcome),
    Accepted(Socket, Address),
}

impl Queued {
    pub(super) fn new(
        socket: Option<Socket>,
        tag: Tag,
        kind: OpKind,
        more: bool,
        outcome: Outcome,
    ) -> Self {
        Self { socket, file: None, tag, kind, more, result: Delivery::Plain(outcome) }
    }

    pub(super) fn accepted(listener: Socket, tag: Tag, stream: Socket, peer: Address) -> Self {
        let result = Delivery::Accepted(stream, peer);
        Self { socket: Some(listener), file: None, tag, kind: OpKind::Accept, more: true, result }
    }

    fn is_failure(&self) -> bool {
        matches!(self.result, Delivery::Plain(Outcome::Failed(_)))
    }
}

impl World {
    /// Counts a submitted operation as in flight.
    pub(super) fn launch(&mut self, at: LaneAddr, tag: Tag, socket: Option<Socket>) -> InFlight {
        if let Some(socket) = socket {
            self.own(at, socket).in_flight += 1;
        }
        let port = &mut self.ports[at.port];
        port.submitted += 1;
        port.in_flight += 1;
        if socket.is_none() {
            port.socketless.push(SocketlessOp { tag, abandoned: false });
        }
        self.note(Note::Submitted, tag.0, at.lane as u64);
        InFlight { tag, number: self.number() }
    }

    /// Abandons an operation: nobody awaits it any more.
    pub(super) fn abandon(&mut self, at: LaneAddr, tag: Tag) {
        self.note(Note::Abandoned, tag.0, at.lane as u64);
        self.fault_counts.abandoned += 1;
        let port = &mut self.ports[at.port];
        match port
            .socketless
            .iter_mut()
            .find(|socketless| socketless.tag == tag && !socketless.abandoned)
        {
            Some(socketless) => socketless.abandoned = true,
            // Another worker has just taken its completion and is passing it to this one.
            None if port.layout == Layout::Shared => {}
            None => {
                self.bug(&format!("{tag:?} is abandoned, but is not a file operation in flight"))
            }
        }
    }

    /// Returns whether a completion belongs to an abandoned operation of a lane without workers.
    fn is_too_late(&self, at: LaneAddr, queued: &Queued) -> bool {
        let port = &self.ports[at.port];
        let abandoned = port
            .socketless
            .iter()
            .any(|socketless| socketless.tag == queued.tag && socketless.abandoned);
        abandoned && port.lanes.get(at.lane).is_none_or(LaneState::has_no_worker_left)
    }

    /// Discards the completions of abandoned operations that the last worker of a lane left.
    pub(super) fn discard_left(&mut self, at: LaneAddr) {
        let lane = self.lane(at);
        let left: Vec<Queued> = lane.local.drain(..).chain(lane.queue.drain(..)).collect();
        for queued in left {
            if self.is_too_late(at, &queued) {
                self.ports[at.port].completed -= 1;
                self.discard(&queued);
            } else {
                self.lane(at).queue.push_back(queued);
            }
        }
    }

    /// Discards a completion that nobody takes. The operation remains in flight, as on a real port.
    fn discard(&mut self, queued: &Queued) {
        self.note(Note::Discarded, queued.tag.0, queued.kind as u64);
        if let Some(file) = queued.file {
            self.file_landed(file);
        }
    }

    pub(super) fn fail(
        &mut self,
        at: LaneAddr,
        socket: Socket,
        in_flight: InFlight,
        kind: OpKind,
        failure: Failure,
        at_once: bool,
    ) {
        let tag = in_flight.into_tag();
        let outcome = Outcome::Failed(Error::new(failure));
        self.complete(at, Queued::new(Some(socket), tag, kind, false, outcome), at_once);
    }

    /// Queues a completion and makes a worker of the lane run.
    pub(super) fn complete(&mut self, at: LaneAddr, queued: Queued, at_once: bool) {
        if self.is_too_late(at, &queued) {
            return self.discard(&queued);
        }
        self.note(Note::Queued, queued.tag.0, queued.kind as u64);
        let waiting = queued.socket.and_then(|socket| self.table.entry(socket)).map(|entry| {
            entry.queued += 1;
            entry.queued - 1
        });
        let port = &mut self.ports[at.port];
        port.completed += u64::from(!queued.more);
        let layout = port.layout;
        let lane = &mut port.lanes[at.lane];
        if lane.has_no_worker_left() {
            let tag = queued.tag;
            let kind = queued.kind;
            self.bug(&format!(
                "a lost completion: {tag:?} ({kind:?}), no worker of its lane is left"
            ));
        }
        // The local queue is taken first, so a completion behind others of its socket must not go
        // there.
        if at_once && layout == Layout::Pinned && waiting.is_none_or(|waiting| waiting == 0) {
            lane.local.push_back(queued);
        } else {
            lane.queue.push_back(queued);
        }
        self.call_for(at);
    }

    /// Takes the next completion of a lane.
    pub(super) fn take(&mut self, at: LaneAddr) -> Option<Queued> {
        let span = self.faults.reorder_span;
        let port = &mut self.ports[at.port];
        let lane = &mut port.lanes[at.lane];
        let queued = match port.layout {
            Layout::Pinned => lane.local.pop_front().or_else(|| lane.queue.pop_front())?,
            Layout::Shared => {
                let count = lane.queue.len().min(span.max(1));
                let mut chosen = if count > 1 { self.random.below(count) } else { 0 };
                // The completions of one operation keep their order.
                let tag = lane.queue.get(chosen)?.tag;
                chosen = lane.queue.iter().position(|queued| queued.tag == tag)?;
                self.fault_counts.reordered += u64::from(chosen > 0);
                lane.queue.remove(chosen)?
            }
        };
        self.info(at, &queued);
        Some(queued)
    }

    fn info(&mut self, at: LaneAddr, queued: &Queued) {
        self.note(Note::Taken, queued.tag.0, queued.kind as u64);
        if !queued.is_failure() {
            self.idle = 0;
        }
        let port = &mut self.ports[at.port];
        port.in_flight -= u64::from(!queued.more);
        if queued.socket.is_none() {
            let place = port.socketless.iter().position(|socketless| socketless.tag == queued.tag);
            port.socketless.swap_remove(place.expect("it was entered when it was submitted"));
        }
        if let Some(file) = queued.file {
            self.file_landed(file);
        }
        let Some(socket) = queued.socket else { return };
        let now = self.now;
        let entry = self.table.entry(socket).expect("a socket outlives its completions");
        entry.queued -= 1;
        entry.in_flight -= u32::from(!queued.more);
        if queued.kind == OpKind::Close {
            self.table.remove(socket);
            self.ports[at.port].sockets -= 1;
            return;
        }
        let SocketKind::Stream(stream) = &mut entry.kind else { return };
        if queued.kind == OpKind::Send {
            stream.sending = false;
        }
        if stream.is_ready() && !stream.receives.is_empty() && !stream.deliver_due {
            stream.deliver_due = true;
            self.schedule(now, Event::Deliver { to: socket });
        }
    }

    pub(super) fn closed(&mut self, at: LaneAddr, socket: Socket, tag: Tag, at_once: bool) {
        let queued = Queued::new(Some(socket), tag, OpKind::Close, false, Outcome::Closed);
        self.complete(at, queued, at_once);
    }
}
