//! The results of a receiver's operations.

use super::actions::{ReceiverAction, ReceiverEvent, ReceiverOp, Room};
use super::part::Part;
use super::{Attempt, Cleanup, FileReceiver, Holding, OpKind, RoomState, Source, State};
use crate::transfer::TransferFrame;
use crate::transfer::failure::{Tell, TransferFailure};
use crate::transfer::operations::{DiskError, DiskFailure, DiskOutcome, OpNumber};
use crate::transfer::read_ahead::{Content, Taken};

impl<E> FileReceiver<E> {
    pub(super) fn on_success(&mut self, number: OpNumber, kind: OpKind, outcome: DiskOutcome) {
        match (kind, outcome) {
            (OpKind::LookUp, DiskOutcome::Found { bytes }) => self.on_found(bytes),
            (OpKind::Count, DiskOutcome::Done) => self.reserve(Attempt::Counted),
            (OpKind::OpenPart, DiskOutcome::Part { bytes }) => self.on_part(bytes),
            (OpKind::Read, DiskOutcome::Read(memory)) => self.on_read(number, memory),
            (OpKind::Truncate, DiskOutcome::Done) => self.hold_part(),
            (OpKind::Write, DiskOutcome::Written(0)) => {
                self.discard();
                self.fail(TransferFailure::NothingWritten);
            }
            (OpKind::Write, DiskOutcome::Written(bytes)) => self.on_written(bytes),
            (OpKind::Sync { covers }, DiskOutcome::Done) => {
                self.opened_part().synced = covers;
            }
            (OpKind::SyncName | OpKind::Publish, DiskOutcome::Done) => self.on_published(),
            (kind, outcome) => unreachable!("{kind:?} was answered {outcome:?}"),
        }
    }

    pub(super) fn on_failure(&mut self, kind: OpKind, DiskError { failure, error }: DiskError<E>) {
        match (kind, failure) {
            (OpKind::LookUp, DiskFailure::NotFound) => return self.reserve(Attempt::First),
            (OpKind::SyncName, DiskFailure::NotFound) => {
                return self.fail(TransferFailure::Changed("what was there is gone"));
            }
            (OpKind::Publish, DiskFailure::Exists) => {
                let given = Err(TransferFailure::Given(error));
                return self.finish(given, Tell::Peer, Cleanup::Remove);
            }
            // The name may be there all the same, if the disk failed after that.
            (OpKind::Publish, _) => self.spend(),
            // What came behind a write that failed has no place in the file any more.
            (OpKind::Write, _) => self.discard(),
            _ => {}
        }
        self.fail(TransferFailure::Given(error));
    }

    /// Takes a result that comes when the transfer has ended.
    pub(super) fn on_late(&mut self, kind: OpKind, result: Result<DiskOutcome, DiskError<E>>) {
        match result {
            Ok(DiskOutcome::Written(bytes)) if bytes > 0 => {
                self.opened_part().wrote(bytes);
            }
            Ok(DiskOutcome::Part { bytes }) => {
                self.part = Some(Part::new(bytes));
                // Empty it was made for this transfer.
                let cleanup = if bytes == 0 { Cleanup::Remove } else { Cleanup::Nothing };
                self.state = State::CleaningUp(cleanup);
            }
            Ok(DiskOutcome::Read(memory)) => self.actions.push_back(ReceiverAction::Free(memory)),
            Ok(DiskOutcome::Written(_)) | Err(_) if kind == OpKind::Write => self.discard(),
            Ok(_) | Err(_) => {}
        }
    }

    /// There is a file of that name. Of the same size it may be the same: the sender compares.
    fn on_found(&mut self, bytes: u64) {
        if bytes != self.config.size {
            return self.fail(TransferFailure::Exists { bytes: Some(bytes) });
        }
        self.state = State::Holding(Holding::boxed(Source::Final, bytes));
    }

    /// Reserves room for all of the file. Without room the directory is counted anew, and the part
    /// is opened all the same: with what it holds the rest may fit.
    fn reserve(&mut self, attempt: Attempt) {
        self.state = State::Reserving(attempt);
        self.room(Room::Reserve { bytes: self.config.size, files: 1 });
    }

    fn on_part(&mut self, bytes: u64) {
        let State::OpeningPart(room) = self.state else {
            unreachable!("a part was opened in {:?}", self.state);
        };
        self.part = Some(Part::new(bytes));
        let size = self.config.size;
        self.notify(ReceiverEvent::Moved(bytes.min(size)));
        match room {
            RoomState::Reserved => {
                if bytes > 0 {
                    self.room(Room::Shrink { bytes: bytes.min(size), files: 1 });
                }
                self.hold_part();
            }
            RoomState::Missing if bytes == 0 => self.fail(TransferFailure::NoRoom),
            RoomState::Missing => {
                self.state = State::Reserving(Attempt::Rest);
                self.room(Room::Reserve { bytes: size.saturating_sub(bytes), files: 0 });
            }
        }
    }

    /// Reads what the part holds, unless that is more than the file has.
    pub(super) fn hold_part(&mut self) {
        let held = self.held();
        if held > self.config.size {
            return self.truncate();
        }
        self.state = State::Holding(Holding::boxed(Source::Part, held));
    }

    pub(super) fn truncate(&mut self) {
        self.state = State::Truncating;
        // Nothing of it counts from now on, also if the transfer ends before it is cut; and what
        // was held counts as room that is needed again.
        let held = std::mem::replace(self.opened_part(), Part::new(0)).held;
        self.room(Room::Extend { bytes: held.min(self.config.size) });
        self.submit(OpKind::Truncate, ReceiverOp::Truncate);
    }

    fn on_read(&mut self, number: OpNumber, memory: Vec<u8>) {
        let Self { state: State::Holding(holding), actions, .. } = self else {
            unreachable!("a read ended in {:?}", self.state);
        };
        holding.reads.end(number, memory);
        loop {
            match holding.reads.take(|bytes| actions.push_back(ReceiverAction::Need(bytes))) {
                Taken::Piece(piece) => {
                    let Content::Memory(memory) = piece.content else {
                        unreachable!("what is there is read");
                    };
                    holding.hasher.update(&memory);
                    holding.hashed += memory.len() as u64;
                    actions.push_back(ReceiverAction::Free(memory));
                }
                Taken::End => {
                    let text = "what is there became shorter meanwhile";
                    return self.fail(TransferFailure::Changed(text));
                }
                Taken::Nothing => return,
            }
        }
    }

    fn on_written(&mut self, bytes: usize) {
        let part = self.opened_part();
        part.wrote(bytes);
        let written = part.written;
        self.notify(ReceiverEvent::Moved(written));
        let id = self.config.id;
        if let State::Moving(moving) = &mut self.state
            && let Some(limit) = moving.credit.renew(written)
        {
            self.actions.push_back(ReceiverAction::Frame(TransferFrame::Credit { id, limit }));
        }
    }

    /// The file is there, whole, under its name: both sides hear of it.
    pub(super) fn on_published(&mut self) {
        let (State::SyncingName { hash } | State::Publishing { hash }) = self.state else {
            unreachable!("published in {:?}", self.state);
        };
        let hash = *hash.as_bytes();
        self.spend();
        let id = self.config.id;
        self.actions.push_back(ReceiverAction::Frame(TransferFrame::Done { id, hash }));
        self.notify(ReceiverEvent::Moved(self.config.size));
        // The part's own name goes.
        let cleanup = if self.part.is_some() { Cleanup::Remove } else { Cleanup::Nothing };
        self.finish(Ok(hash), Tell::Nobody, cleanup);
    }
}
