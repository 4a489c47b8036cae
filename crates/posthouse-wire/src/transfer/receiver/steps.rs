//! The next steps of a receiver, and its end.

use std::time::Duration;

use super::actions::{ReceiverAction, ReceiverEvent, ReceiverOp, Room};
use super::part::{Credit, Part};
use super::{Cleanup, FileReceiver, MAX_WRITE_BYTES, Moving, OpKind, ReceiverConfig, State};
use crate::transfer::TransferFrame;
use crate::transfer::failure::{Tell, TransferFailure};

impl<E> FileReceiver<E> {
    pub(super) fn advance(&mut self, now: Duration) {
        match &mut self.state {
            State::Holding(holding) if holding.held.is_complete() => self.accept(now),
            State::Holding(holding) => {
                while let Some(bytes) = holding.held.read_on() {
                    self.actions.push_back(ReceiverAction::Need(bytes));
                }
            }
            State::Moving(_) => self.move_on(),
            State::CleaningUp(cleanup) => {
                let cleanup = *cleanup;
                self.clean_up(cleanup);
            }
            _ => {}
        }
    }

    /// Accepts the offer once there is memory for the first bytes.
    fn accept(&mut self, now: Duration) {
        let State::Holding(holding) = &mut self.state else {
            unreachable!("accepted in {:?}", self.state);
        };
        let ReceiverConfig { id, size, window_bytes, .. } = self.config;
        let offset = holding.held.bytes();
        let credit = match &mut holding.credit {
            Some(credit) => credit,
            none => {
                let credit = none.insert(Credit::new(size, window_bytes, offset));
                if let Some(bytes) = credit.ask(offset) {
                    self.actions.push_back(ReceiverAction::Window(bytes));
                }
                credit
            }
        };
        if credit.is_asked() {
            return;
        }
        let limit = credit.limit();
        let prefix = *holding.held.hash().as_bytes();
        let moving = Moving {
            source: holding.source,
            hasher: holding.held.hasher(),
            credit: *credit,
            verified: None,
            accepted_at: now,
        };
        self.state = State::Moving(Box::new(moving));
        self.notify(ReceiverEvent::ResumedFrom(offset));
        let accept = TransferFrame::Accept { id, offset, limit, prefix };
        self.actions.push_back(ReceiverAction::Frame(accept));
    }

    /// Writes the bytes that have arrived, syncs at the same time, and publishes the file once all
    /// of them are written.
    fn move_on(&mut self) {
        let State::Moving(moving) = &self.state else { return };
        let verified = moving.verified;
        let Some(part) = &self.part else {
            // Another transfer may be publishing the file now, so a found file need not stay.
            if let Some(hash) = verified {
                self.state = State::SyncingName { hash };
                self.submit(OpKind::SyncName, ReceiverOp::SyncName);
            }
            return;
        };
        let Part { written, synced, .. } = *part;
        let has_queue = !part.is_written();
        let is_unsynced = written - synced >= self.config.sync_bytes;
        let syncs = self.operations.any(|kind| matches!(kind, OpKind::Sync { .. }));
        if is_unsynced && !syncs && verified.is_none() {
            self.submit(OpKind::Sync { covers: written }, ReceiverOp::Sync);
        }
        if has_queue {
            return self.write();
        }
        if let Some(hash) = verified
            && self.operations.is_empty()
        {
            self.state = State::Publishing { hash };
            self.submit(OpKind::Publish, ReceiverOp::Publish);
        }
    }

    fn is_writing(&self) -> bool {
        self.operations.any(|kind| kind == OpKind::Write)
    }

    /// Submits the next write, unless a write is in flight: the part on the disk holds a beginning
    /// of the file at every moment.
    fn write(&mut self) {
        if self.is_writing() {
            return;
        }
        let offset = self.opened_part().written;
        self.submit(OpKind::Write, ReceiverOp::Write { offset, max_bytes: MAX_WRITE_BYTES });
    }

    /// Performs the work that is left of an ended transfer, one operation after the other.
    fn clean_up(&mut self, cleanup: Cleanup) {
        if !self.operations.is_empty() {
            return;
        }
        match (cleanup, &self.part) {
            (Cleanup::Keep, Some(part)) if !part.is_written() => self.write(),
            // Checked only now: the write that was in flight at the end could have been the first.
            (Cleanup::Keep, Some(part)) if part.is_empty() => self.remove_part(),
            (Cleanup::Remove, Some(_)) => self.remove_part(),
            _ => {
                self.spend();
                self.state = State::Over;
                self.actions.push_back(ReceiverAction::Release);
            }
        }
    }

    /// Removes the part, whose room is returned once it is gone. Bytes that were not written give
    /// their memory back before.
    fn remove_part(&mut self) {
        if !self.opened_part().is_written() {
            self.discard();
        }
        self.state = State::CleaningUp(Cleanup::Nothing);
        self.submit(OpKind::RemovePart, ReceiverOp::RemovePart);
    }

    /// Ends the transfer with a failure that this side or its disk found.
    pub(super) fn fail(&mut self, failure: TransferFailure<E>) {
        let cleanup = self.cleanup_on_failure();
        self.finish(Err(failure), Tell::Peer, cleanup);
    }

    pub(super) fn finish(
        &mut self,
        result: Result<[u8; 32], TransferFailure<E>>,
        tell: Tell,
        cleanup: Cleanup,
    ) {
        if self.is_ended() {
            return;
        }
        if let State::Holding(holding) = &mut self.state {
            self.actions.extend(holding.held.clear().map(ReceiverAction::Free));
        }
        self.state = State::CleaningUp(cleanup);
        self.notify(ReceiverEvent::Ended { result, tell });
    }

    /// Returns the cleanup after a failure: a part is kept, because it can be resumed.
    pub(super) fn cleanup_on_failure(&self) -> Cleanup {
        if self.part.is_some() { Cleanup::Keep } else { Cleanup::Nothing }
    }

    pub(super) fn discard(&mut self) {
        if let Some(part) = &mut self.part {
            part.discard();
        }
        self.actions.push_back(ReceiverAction::Discard);
    }

    pub(super) fn opened_part(&mut self) -> &mut Part {
        self.part.as_mut().expect("an operation on a part that has been opened")
    }

    /// Counts the bytes that this transfer has written as used.
    pub(super) fn spend(&mut self) {
        let bytes = self.part.as_ref().map_or(0, |part| part.written.saturating_sub(part.held));
        self.room(Room::Spend { bytes });
    }

    pub(super) fn room(&mut self, room: Room) {
        self.actions.push_back(ReceiverAction::Room(room));
    }

    pub(super) fn notify(&mut self, event: ReceiverEvent<E>) {
        self.actions.push_back(ReceiverAction::Notify(event));
    }

    pub(super) fn submit(&mut self, kind: OpKind, op: ReceiverOp) {
        let number = self.operations.begin(kind);
        self.actions.push_back(ReceiverAction::Disk { number, op });
    }
}
