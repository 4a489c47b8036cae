//! The results of a receiver's operations.

use blake3::{Hash, Hasher};

use super::actions::{ReceiverAction, ReceiverEvent, ReceiverOp, Room};
use super::part::Part;
use super::{
    Attempt, Cleanup, FileReceiver, Holding, OpKind, ReceiverConfig, RoomState, Source, State,
};
use crate::transfer::failure::{Tell, TransferFailure};
use crate::transfer::operations::{DiskError, DiskFailure, DiskOutcome, OpNumber};
use crate::transfer::prefix_hasher::{FileEnded, PrefixAction};
use crate::transfer::{EntryKind, TransferFrame};

impl<E> FileReceiver<E> {
    pub(super) fn on_success(&mut self, number: OpNumber, kind: OpKind, outcome: DiskOutcome) {
        match (kind, outcome) {
            (OpKind::LookUpDirectory, DiskOutcome::Done) => self.on_directory(),
            (OpKind::MakeDirectory, DiskOutcome::Done) => {
                self.spend();
                self.on_directory();
            }
            (OpKind::LookUp, DiskOutcome::Found { bytes }) => self.on_found(bytes),
            (OpKind::Count, DiskOutcome::Done) => self.reserve(Attempt::Counted),
            (OpKind::MakeRoom, DiskOutcome::Done) => self.reserve_rest(Attempt::RoomMade),
            (OpKind::OpenPart, DiskOutcome::Part { bytes }) => self.on_part(bytes),
            (OpKind::Read { .. }, DiskOutcome::Read(memory)) => self.on_read(number, memory),
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
            (OpKind::LookUp | OpKind::LookUpDirectory, DiskFailure::NotFound) => {
                return self.reserve(Attempt::First);
            }
            // The disk may have removed some parts. They use up the quota until the directory is
            // counted again.
            (OpKind::MakeRoom, _) => return self.fail(TransferFailure::NoRoom),
            // Nothing was made that could count.
            (OpKind::OpenPart | OpKind::MakeDirectory, _) => self.room(Room::Return),
            (OpKind::SyncName, DiskFailure::NotFound) => {
                return self.fail(TransferFailure::Changed("the existing file disappeared"));
            }
            (OpKind::Publish, DiskFailure::Exists) => {
                let given = Err(TransferFailure::Given(error));
                return self.finish(given, Tell::Peer, Cleanup::Remove);
            }
            // The file may have its name anyway, if the disk failed after giving it.
            (OpKind::Publish, _) => self.spend(),
            // The bytes after a failed write have no place in the file any more.
            (OpKind::Write, _) => self.discard(),
            _ => {}
        }
        self.fail(TransferFailure::Given(error));
    }

    /// Handles a result that arrives after the end of the transfer.
    pub(super) fn on_late(&mut self, kind: OpKind, result: Result<DiskOutcome, DiskError<E>>) {
        match result {
            Ok(DiskOutcome::Written(bytes)) if bytes > 0 => {
                self.opened_part().wrote(bytes);
            }
            Ok(DiskOutcome::Part { bytes }) => {
                self.part = Some(Part::new(bytes));
                // An empty part was created for this transfer. Another one counts already.
                let cleanup = if bytes == 0 { Cleanup::Remove } else { Cleanup::Nothing };
                self.state = State::CleaningUp(cleanup);
                self.room(Room::Return);
            }
            Ok(DiskOutcome::Done) if kind == OpKind::RemovePart => self.room(Room::Return),
            Ok(DiskOutcome::Read(memory)) => self.actions.push_back(ReceiverAction::Free(memory)),
            Ok(DiskOutcome::Written(_)) | Err(_) if kind == OpKind::Write => self.discard(),
            Err(_) if matches!(kind, OpKind::OpenPart | OpKind::MakeDirectory) => {
                self.room(Room::Return);
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// Handles a found file of that name. With the same size it may be the same file: the sender
    /// compares.
    fn on_found(&mut self, bytes: u64) {
        if bytes != self.config.size {
            return self.fail(TransferFailure::Exists { bytes: Some(bytes) });
        }
        self.state = State::Holding(Holding::boxed(Source::Final, bytes));
    }

    /// Reserves room for the whole file. If there is none, the receiver counts the directory again,
    /// and opens the part even so: the part may hold enough that the rest fits.
    fn reserve(&mut self, attempt: Attempt) {
        self.state = State::Reserving(attempt);
        let (files, directories) = match self.config.kind {
            EntryKind::File => (1, 0),
            EntryKind::Directory => (0, 1),
        };
        self.room(Room::Reserve { bytes: self.config.size, files, directories });
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
            RoomState::Missing if bytes == 0 => self.make_room(),
            RoomState::Missing => self.reserve_rest(Attempt::Rest),
        }
    }

    /// Reserves room for the bytes that the part does not hold. The part itself is counted.
    fn reserve_rest(&mut self, attempt: Attempt) {
        self.state = State::Reserving(attempt);
        let bytes = self.config.size.saturating_sub(self.held());
        self.room(Room::Reserve { bytes, files: 0, directories: 0 });
    }

    /// Makes room for the bytes that the part does not hold. A part that was created after the last
    /// count is not counted yet.
    pub(super) fn make_room(&mut self) {
        let held = self.held();
        self.state = State::MakingRoom;
        let bytes = self.config.size.saturating_sub(held);
        let files = u64::from(held == 0);
        self.submit(OpKind::MakeRoom, ReceiverOp::MakeRoom { bytes, files });
    }

    /// Reads the bytes of the part, or truncates it if it is larger than the file.
    pub(super) fn hold_part(&mut self) {
        let held = self.held();
        if held > self.config.size {
            return self.truncate();
        }
        self.state = State::Holding(Holding::boxed(Source::Part, held));
    }

    pub(super) fn truncate(&mut self) {
        self.state = State::Truncating;
        // The bytes of the part do not count from now on, even if the transfer ends before the part
        // is truncated. Their room is needed again.
        let held = std::mem::replace(self.opened_part(), Part::new(0)).held;
        self.room(Room::Extend { bytes: held.min(self.config.size) });
        self.submit(OpKind::Truncate, ReceiverOp::Truncate);
    }

    fn on_read(&mut self, number: OpNumber, memory: Vec<u8>) {
        let Self { state: State::Holding(holding), actions, .. } = self else {
            unreachable!("a read ended in {:?}", self.state);
        };
        let result = holding.held.end(number, memory, |action| {
            actions.push_back(match action {
                PrefixAction::Free(memory) => ReceiverAction::Free(memory),
                PrefixAction::NeedRest => ReceiverAction::NeedRest,
            });
        });
        if let Err(FileEnded) = result {
            let text = "the bytes that the receiver holds became fewer";
            self.fail(TransferFailure::Changed(text));
        }
    }

    fn on_written(&mut self, bytes: usize) {
        let part = self.opened_part();
        part.wrote(bytes);
        let written = part.written;
        self.notify(ReceiverEvent::Moved(written));
        if let State::Moving(moving) = &mut self.state
            && let Some(bytes) = moving.credit.ask(written)
        {
            self.actions.push_back(ReceiverAction::Window(bytes));
        }
    }

    /// Ends the transfer with success: the whole file has its name. Sends done to the sender.
    pub(super) fn on_published(&mut self) {
        let (State::SyncingName { hash } | State::Publishing { hash }) = self.state else {
            unreachable!("published in {:?}", self.state);
        };
        // A found file has no reservation.
        if self.part.is_some() {
            self.spend();
        }
        self.succeed(hash);
    }

    /// Ends the transfer of a directory with success. The hash is that of no bytes.
    fn on_directory(&mut self) {
        self.succeed(Hasher::new().finalize());
    }

    fn succeed(&mut self, hash: Hash) {
        let hash = *hash.as_bytes();
        let ReceiverConfig { id, delivery_id, .. } = self.config;
        let done = TransferFrame::Done { id, hash, delivery_id };
        self.actions.push_back(ReceiverAction::Frame(done));
        self.notify(ReceiverEvent::Moved(self.config.size));
        // The name of the part is removed.
        let cleanup = if self.part.is_some() { Cleanup::Remove } else { Cleanup::Nothing };
        self.finish(Ok(hash), Tell::Nobody, cleanup);
    }
}
