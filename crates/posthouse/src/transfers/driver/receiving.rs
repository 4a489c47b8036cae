//! The receiving of a file: performs the actions of its [`FileReceiver`].

use std::fmt;

use posthouse_io::{Error, File, FileOp, FileOutcome, Segment};
use posthouse_wire::{
    DiskOutcome, Escaped, FileName, FileReceiver, OpNumber, ReceiverAction, ReceiverConfig,
    ReceiverEvent, ReceiverOp, Replace, Room, TransferFailure,
};

use super::table::{MAX_PEER_SLOTS, Side, TransferState};
use super::walking::Purpose;
use super::{disk_error, unexpected};
use crate::connection::output::FreeList;
use crate::connection::{Context, Strand};
use crate::directory::Directory;
use crate::quota::{Amount, Reservation};
use crate::transfer::{
    Offer, OfferFacts, TransferError, TransferErrorKind, TransferHandle, is_executable,
};
use crate::transfers::budgets::Resource;
use crate::transfers::write_queue::WriteQueue;

/// The minimum window of a transfer in bytes, so that each of many concurrent transfers proceeds.
const MIN_WINDOW_BYTES: u64 = 128 * 1024;
/// The number of windows after which a part is synced, so that the disk keeps up, and the end of a
/// transfer does not wait for a sync of the whole file.
const WINDOWS_OF_A_SYNC: u64 = 16;
/// The age in ms, one week, at which a part that nobody has changed is removed.
const PART_AGE_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// A file that is being received: its state machine, and the files of its operations.
pub(super) struct Receiving {
    pub(super) receiver: FileReceiver<TransferError>,
    pub(super) progress: TransferHandle,
    name: FileName,
    directory: Directory,
    facts: OfferFacts,
    /// The name of the part, which is different for each name, size and modification time.
    part: Box<str>,
    /// The file that was found, or the part.
    file: Option<File>,
    /// The bytes that are received and not written.
    queue: WriteQueue,
    reservation: Option<Reservation>,
    /// The sum of received files when the receiver began to make room.
    counted: Amount,
    /// The space that was to be reserved last.
    needed: Amount,
    /// True exactly while an operation gives the file its name.
    is_naming: bool,
}

/// A file that this side is about to receive.
pub(super) struct NewFile<'a> {
    pub(super) id: u32,
    pub(super) begun_by: Side,
    pub(super) offer: &'a Offer<'a>,
    pub(super) directory: &'a Directory,
    /// The name under which this side stores the file.
    pub(super) name: FileName,
    pub(super) progress: TransferHandle,
}

impl fmt::Display for Receiving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", Escaped(self.name.as_str()), self.receiver)
    }
}

impl Receiving {
    /// Stops waiting for the disk. Returns the handle if the end of the transfer has not been
    /// reported yet.
    pub(super) fn abandon(self: Box<Self>) -> Option<TransferHandle> {
        let Self { receiver, progress, reservation, .. } = *self;
        if let Some(reservation) = reservation {
            reservation.spend_all();
        }
        (!receiver.is_ended()).then_some(progress)
    }

    fn file(&self) -> File {
        self.file.clone().expect("the file is used only after it was opened")
    }

    /// Returns the operation on files for a request of the receiver.
    pub(super) fn file_op(&mut self, op: ReceiverOp) -> FileOp {
        let directory = self.directory.io().clone();
        let path = || self.name.as_str().into();
        let part = || self.part.clone();
        self.is_naming |= matches!(op, ReceiverOp::Publish | ReceiverOp::SyncName);
        match op {
            ReceiverOp::LookUp => FileOp::Open { directory, path: path() },
            ReceiverOp::LookUpDirectory => FileOp::LookUpDirectory { directory, path: path() },
            ReceiverOp::MakeDirectory => FileOp::MakeDirectory { directory, path: path() },
            ReceiverOp::Count => unreachable!("a count waits for its walk"),
            ReceiverOp::MakeRoom { bytes, files } => {
                self.counted = self.directory.spent();
                let (bytes, files) = self.directory.missing_room(amount_of(bytes, files));
                FileOp::FreeParts { directory, bytes, files }
            }
            ReceiverOp::OpenPart => FileOp::OpenPart { directory, name: part() },
            ReceiverOp::Read { offset, bytes, memory } => {
                FileOp::Read { file: self.file(), offset, bytes, memory }
            }
            ReceiverOp::Truncate => FileOp::Truncate { file: self.file(), bytes: 0 },
            ReceiverOp::Write { offset, max_bytes } => {
                let data = self.queue.take(max_bytes);
                FileOp::Write { file: self.file(), offset, data }
            }
            ReceiverOp::Sync => FileOp::Sync { file: self.file() },
            ReceiverOp::SyncName => FileOp::SyncName { directory, path: path(), file: self.file() },
            ReceiverOp::Publish => FileOp::Publish {
                directory,
                part: part(),
                file: self.file(),
                path: path(),
                modified_ns: self.facts.modified_ns,
                executable: is_executable(self.facts.mode),
            },
            ReceiverOp::RemovePart => {
                // The operation gets the last handle, because closing a large file also takes time.
                let name = part();
                let file = self.file();
                self.file = None;
                FileOp::RemovePart { directory, name, file }
            }
        }
    }

    /// Stores the outcome of an operation, and converts it for the receiver.
    fn take(&mut self, free_list: &mut FreeList, outcome: FileOutcome) -> DiskOutcome {
        match outcome {
            FileOutcome::Opened { file, metadata, .. } => {
                self.file = Some(file);
                DiskOutcome::Found { bytes: metadata.bytes }
            }
            FileOutcome::Part { file, bytes } => {
                self.file = Some(file);
                DiskOutcome::Part { bytes }
            }
            FileOutcome::Usage(usage) => {
                self.directory.counted(usage, self.counted);
                DiskOutcome::Done
            }
            FileOutcome::Read { memory } => DiskOutcome::Read(memory),
            FileOutcome::Written { bytes, mut data } => {
                data.advance(bytes, |segment| free_list.recycle(segment));
                self.queue.put_back(data);
                DiskOutcome::Written(bytes)
            }
            FileOutcome::Done => DiskOutcome::Done,
            outcome => unexpected(&outcome),
        }
    }

    fn change_room(&mut self, room: Room) {
        match room {
            Room::Reserve { bytes, files, directories } => {
                let amount = Amount { bytes: bytes.into(), files, directories };
                self.needed = amount;
                self.reservation = self.directory.reserve(amount);
                self.receiver.on_room(self.reservation.is_some());
            }
            Room::Shrink { bytes, files } => {
                if let Some(reservation) = &mut self.reservation {
                    reservation.shrink(amount_of(bytes, files));
                }
            }
            Room::Extend { bytes } => {
                if let Some(reservation) = &mut self.reservation {
                    reservation.extend(Amount::of_bytes(bytes));
                }
            }
            Room::Spend { bytes } => {
                if let Some(reservation) = self.reservation.take() {
                    reservation.spend(bytes);
                }
            }
            Room::Return => self.reservation = None,
        }
    }
}

pub(super) fn amount_of(bytes: u64, files: u64) -> Amount {
    Amount { files, ..Amount::of_bytes(bytes) }
}

impl Strand {
    pub(super) fn begin_receiving(&mut self, cx: &mut Context<'_>, file: NewFile<'_>) {
        let NewFile { id, begun_by, offer, directory, name, progress } = file;
        let facts = offer.facts;
        progress.set_size(facts.size);
        if let Some(id) = facts.delivery_id {
            progress.set_delivery_id(id);
        }
        let window_bytes = cx.shared.tuning.transfer_window_bytes as u64;
        // A window above the share of an address would leave no room for others.
        let share = cx.shared.file_budgets.share(Resource::Windows);
        let receiver = FileReceiver::new(ReceiverConfig {
            id,
            kind: facts.kind,
            size: facts.size,
            delivery_id: facts.delivery_id,
            window_bytes: self.share_of_window(window_bytes.min(share)),
            sync_bytes: WINDOWS_OF_A_SYNC * window_bytes,
        });
        let receiving = Receiving {
            receiver,
            progress,
            part: posthouse_wire::part_file_name(&name, facts.size, facts.modified_ns).into(),
            name,
            directory: directory.clone(),
            facts,
            file: None,
            queue: WriteQueue::default(),
            reservation: None,
            counted: Amount::default(),
            needed: Amount::default(),
            is_naming: false,
        };
        let now_ms = cx.now.as_millis() as u64;
        if self.transfers().slots_taken() < MAX_PEER_SLOTS && directory.is_expiry_due(now_ms) {
            let directory = directory.io().clone();
            cx.shared.stats.walks.add(1);
            let expire = FileOp::ExpireParts { directory, age_ms: PART_AGE_MS };
            self.begin_directory_op(cx, begun_by, TransferState::Orphaned, expire);
        }
        let state = TransferState::Receiving(Box::new(receiving));
        let slot = self.transfers().insert(id, begun_by, state);
        self.run_receiver(cx, slot);
    }

    /// Returns the window of one more transfer: all transfers share the window of the connection.
    fn share_of_window(&mut self, all: u64) -> u64 {
        let is_receiving = |state: &TransferState| matches!(state, TransferState::Receiving(_));
        let others = self.transfers().slots().filter(|(_, it)| is_receiving(&it.state)).count();
        (all / (others as u64 + 1)).max(MIN_WINDOW_BYTES)
    }

    /// Handles a chunk.
    pub(super) fn on_chunk(&mut self, cx: &mut Context<'_>, slot: u8, bytes: &[u8]) {
        let receiving = self.transfers().receiving(slot);
        if receiving.receiver.on_chunk(bytes).is_ok() {
            receiving.queue.push(bytes, || cx.worker.free_list.piece());
            self.transfers().moved_bytes += bytes.len() as u64;
        }
        self.run_receiver(cx, slot);
    }

    /// Handles the result of an operation of a file that is being received.
    pub(super) fn on_receiver_op(
        &mut self,
        cx: &mut Context<'_>,
        slot: u8,
        number: OpNumber,
        result: Result<FileOutcome, Error>,
    ) {
        let receiving = self.transfers().receiving(slot);
        if std::mem::take(&mut receiving.is_naming) {
            receiving.directory.changed();
        }
        let result = match result {
            Ok(outcome) => Ok(receiving.take(&mut cx.worker.free_list, outcome)),
            Err(error) => Err(disk_error(error)),
        };
        receiving.receiver.on_disk(number, result);
        self.run_receiver(cx, slot);
    }

    /// Performs the actions of a receiver until it waits.
    pub(super) fn run_receiver(&mut self, cx: &mut Context<'_>, slot: u8) {
        loop {
            let receiving = self.transfers().receiving(slot);
            let Some(action) = receiving.receiver.poll(cx.now) else { return };
            match action {
                ReceiverAction::Disk { number, op: ReceiverOp::Count } => {
                    let purpose = Purpose::Count { number, amount: receiving.needed };
                    let directory = receiving.directory.clone();
                    self.request_walk(cx, slot, directory, purpose);
                }
                ReceiverAction::Disk { number, op: ReceiverOp::MakeRoom { bytes, files } } => {
                    let purpose = Purpose::MakeRoom { number, bytes, files };
                    let directory = receiving.directory.clone();
                    self.request_walk(cx, slot, directory, purpose);
                }
                ReceiverAction::Disk { number, op } => {
                    let op = receiving.file_op(op);
                    self.submit_file(cx, slot, number, op);
                }
                ReceiverAction::Frame(frame) => {
                    self.send_frame(cx, frame);
                }
                ReceiverAction::NeedFile => {
                    if self.request_lease(cx, Resource::ReceivedFiles, slot, 1) {
                        self.transfers().receiving(slot).receiver.grant_file();
                    }
                }
                ReceiverAction::Need(bytes) => {
                    if self.request_lease(cx, Resource::Reads, slot, bytes) {
                        let memory = cx.worker.free_list.piece();
                        self.transfers().receiving(slot).receiver.grant(memory);
                    }
                }
                ReceiverAction::Window(bytes) => {
                    if self.request_lease(cx, Resource::Windows, slot, bytes) {
                        self.transfers().receiving(slot).receiver.extend();
                    }
                }
                ReceiverAction::NeedRest => {
                    receiving.receiver.grant(cx.worker.free_list.piece());
                }
                ReceiverAction::Free(memory) => {
                    cx.worker.free_list.recycle(Segment::Owned(memory));
                }
                ReceiverAction::Room(room) => receiving.change_room(room),
                ReceiverAction::Discard => receiving.queue = WriteQueue::default(),
                ReceiverAction::Notify(event) => self.on_receiver_event(cx, slot, event),
                ReceiverAction::Release => return self.transfers().release(slot),
            }
        }
    }

    /// Names the failure of a file that was to replace another one.
    fn refuse_replacement(
        &mut self,
        slot: u8,
        failure: TransferFailure<TransferError>,
    ) -> TransferFailure<TransferError> {
        let replace = self.transfers().receiving(slot).facts.replace;
        let exists = match &failure {
            TransferFailure::Exists { .. } => true,
            TransferFailure::Given(error) => error.kind() == TransferErrorKind::Exists,
            _ => false,
        };
        if exists && replace == Replace::Permitted {
            let kind = TransferErrorKind::MayNotReplace;
            return TransferFailure::Given(TransferError::here(kind, ""));
        }
        failure
    }

    fn on_receiver_event(
        &mut self,
        cx: &mut Context<'_>,
        slot: u8,
        event: ReceiverEvent<TransferError>,
    ) {
        let progress = self.transfers().receiving(slot).progress.clone();
        match event {
            ReceiverEvent::Moved(bytes) => progress.set_moved(bytes),
            ReceiverEvent::ResumedFrom(bytes) => progress.set_resumed_from(bytes),
            ReceiverEvent::Ended { result, tell } => {
                let id = self.transfers().withdraw(slot);
                let result = result.map_err(|failure| {
                    let failure = self.refuse_replacement(slot, failure);
                    self.say_end(cx, id, failure, tell)
                });
                if let Err(error) = &result {
                    self.count_failed(cx, slot, error);
                }
                self.notify(cx, progress, result);
                // A walk that has not begun is not needed any more.
                let forgotten = self.transfers().walks.forget(slot);
                if let Some(number) = forgotten.and_then(|purpose| purpose.receiver_op()) {
                    self.transfers()
                        .receiving(slot)
                        .receiver
                        .on_disk(number, Ok(DiskOutcome::Done));
                }
            }
        }
    }
}
