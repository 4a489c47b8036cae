//! A file that comes in: looked for, held against what is there, written, verified, published.

use std::fmt;
use std::time::Duration;

use posthouse_io::{Error, Failure, File, FileOp, FileOutcome, Gather, Segment};
use posthouse_wire::{FileName, FileReceiver, TransferFrame, Violation};

use super::{MAX_PEER_SLOTS, TransferCx, TransferState, Transfers};
use crate::directory::Directory;
use crate::quota::{Reservation, Spent};
use crate::transfer::{Offer, TransferError, TransferErrorKind, TransferHandle};
use posthouse_wire::Escaped;

/// Bytes that are read at a time to compare what is there.
const COMPARE_BYTES: usize = 256 * 1024;
/// What is written is synced so often: the disk keeps up, and the end does not wait for all of it.
const SYNC_BYTES: u64 = 64 << 20;
/// Credit is never less, so that many transfers at once each go on.
const MIN_WINDOW_BYTES: u64 = 128 * 1024;
/// The other side compares what is there with its own at so many bytes a second, at least.
pub(super) const MIN_COMPARE_BYTES_PER_SECOND: u64 = 8 << 20;
/// Parts that nobody touched for a week go.
const PART_AGE_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// A file that comes in.
pub(super) struct Receiving {
    progress: Option<TransferHandle>,
    name: FileName,
    directory: Directory,
    modified_ms: Option<i64>,
    executable: bool,
    /// The part's name: another for every name, size and time.
    part: Box<str>,
    file: Option<File>,
    step: Step,
    incoming: FileReceiver,
    window_bytes: u64,
    /// Received and not written.
    queue: Gather,
    /// Where the next read or write goes.
    offset: u64,
    /// How many bytes were there at first.
    held: u64,
    /// Bytes written since the last sync.
    unsynced: u64,
    /// True exactly when the sender's hash was right: what is written gets its final name.
    verified: bool,
    reservation: Option<Reservation>,
    /// Whether the directory was counted anew for this file, and what had come before.
    counted: Option<Spent>,
    /// It does not expire before this time.
    not_before: Duration,
    /// The cleanup when it ends early.
    cleanup: Cleanup,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Whether there is a file of the name is looked up.
    Looking,
    /// There is, of the same size: it is read.
    HoldingFinal,
    /// The part is being opened.
    OpeningPart,
    /// The directory is counted, because its quota seems used up.
    Counting,
    /// What the part holds is read.
    HoldingPart,
    /// What the part holds is of another file: it is cut.
    Truncating,
    /// Accepted: chunks come and are written. `of_final`: there is nothing to write.
    Moving { of_final: bool },
    /// The same, and the disk is asked to catch up.
    Syncing,
    /// There is nothing to write: what was found is brought to the disk for certain.
    SyncingName,
    /// It gets its final name.
    Publishing,
    /// It is over; the `cleanup` is done, then it goes.
    CleaningUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cleanup {
    /// What was received is written, for the next attempt.
    Keep,
    /// The part goes.
    Remove,
    /// Nothing.
    Nothing,
}

impl fmt::Display for Receiving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", Escaped(self.name.as_str()), self.step)
    }
}

impl Receiving {
    pub(super) fn is_open_for(&self, progress: &TransferHandle) -> bool {
        self.progress.as_ref() == Some(progress)
    }

    /// Whether all of it is there and right: nothing keeps it from its final name but the disk.
    pub(super) fn is_finishing(&self) -> bool {
        self.verified && !self.is_over()
    }

    pub(super) fn is_over(&self) -> bool {
        self.step == Step::CleaningUp
    }

    /// Stops waiting for the disk. Returns the handle if the transfer's end has yet to be told.
    pub(super) fn abandon(self) -> Option<TransferHandle> {
        if let Some(reservation) = self.reservation {
            reservation.spend_all();
        }
        self.progress
    }

    /// Returns the time at which the transfer expires, if it is the sender's turn.
    pub(super) fn expires_at(&self, after_last: Duration) -> Option<Duration> {
        let moving = matches!(self.step, Step::Moving { .. } | Step::Syncing);
        let written = self.incoming.received() == self.offset;
        (moving && !self.verified && written).then(|| after_last.max(self.not_before))
    }

    /// Returns what to do with the part when the transfer ends early: it is kept if it can be
    /// resumed.
    fn cleanup_on_failure(&self) -> Cleanup {
        if self.is_of_final() || self.file.is_none() { Cleanup::Nothing } else { Cleanup::Keep }
    }

    /// Whether what is open is a whole file under its final name, and no part.
    fn is_of_final(&self) -> bool {
        matches!(
            self.step,
            Step::HoldingFinal | Step::Moving { of_final: true } | Step::SyncingName
        )
    }

    /// Returns what to do with a part that no transfer can resume.
    fn cleanup_of_useless_part(&self) -> Cleanup {
        if self.is_of_final() { Cleanup::Nothing } else { Cleanup::Remove }
    }

    fn file(&self) -> File {
        self.file.clone().expect("a file that was opened")
    }
}

/// The name of a part: the same for the same file, another for every other.
fn part_file_name(offer: &Offer<'_>, name: &FileName) -> Box<str> {
    posthouse_wire::part_file_name(name, offer.size, offer.modified_ms).into()
}

impl Transfers {
    pub(super) fn begin_receiving(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        (id, by_peer): (u32, bool),
        offer: &Offer<'_>,
        (directory, name): (&Directory, FileName),
        progress: TransferHandle,
    ) {
        progress.set_size(offer.size);
        let window_bytes = self.window_bytes(tcx);
        let path = name.as_str().into();
        let receiving = Receiving {
            progress: Some(progress),
            part: part_file_name(offer, &name),
            name,
            directory: directory.clone(),
            modified_ms: offer.modified_ms,
            executable: offer.executable,
            file: None,
            step: Step::Looking,
            incoming: FileReceiver::new(id, offer.size, window_bytes),
            window_bytes,
            queue: Gather::default(),
            offset: 0,
            held: 0,
            unsynced: 0,
            verified: false,
            reservation: None,
            counted: None,
            not_before: Duration::ZERO,
            cleanup: Cleanup::Nothing,
        };
        let now_ms = tcx.cx.now.as_millis() as u64;
        if self.slots_taken() < MAX_PEER_SLOTS && directory.is_expiry_due(now_ms) {
            let directory = directory.io().clone();
            let expire = FileOp::ExpireParts { directory, age_ms: PART_AGE_MS };
            self.begin(tcx, by_peer, TransferState::Orphaned(None), expire);
        }
        let open = FileOp::Open { directory: directory.io().clone(), path };
        let slot = self.begin(tcx, by_peer, TransferState::Receiving(receiving), open);
        self.transfer(slot).id = id;
        self.slots_by_id.insert(id, slot);
    }

    /// What one more transfer may have under way: all of them share what a connection may.
    fn window_bytes(&self, tcx: &TransferCx<'_, '_>) -> u64 {
        let slots = self.slots.iter().flatten();
        let others = slots
            .filter(|transfer| matches!(transfer.state, TransferState::Receiving(_)))
            .count() as u64;
        let all = tcx.cx.shared.tuning.transfer_window_bytes as u64;
        (all / (others + 1)).max(MIN_WINDOW_BYTES)
    }

    fn receiving(&mut self, slot: u8) -> &mut Receiving {
        match &mut self.transfer(slot).state {
            TransferState::Receiving(receiving) => receiving,
            _ => unreachable!("a transfer that receives"),
        }
    }

    /// An operation of a file that comes in has come back.
    pub(super) fn on_receiving(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        result: Result<FileOutcome, Error>,
    ) {
        let step = self.receiving(slot).step;
        if step == Step::CleaningUp {
            return self.on_cleanup(tcx, slot, result);
        }
        let done = match (step, result) {
            (Step::Looking, Ok(FileOutcome::Opened { file, metadata, .. })) => {
                self.on_final(tcx, slot, file, metadata.bytes)
            }
            (Step::Looking, Err(error)) if error.failure == Failure::NotFound => {
                self.reserve(tcx, slot);
                Ok(())
            }
            (Step::OpeningPart, Ok(FileOutcome::Part { file, bytes })) => {
                self.on_part(tcx, slot, file, bytes)
            }
            (Step::Counting, Ok(FileOutcome::Usage(usage))) => {
                let receiving = self.receiving(slot);
                let before = receiving.counted.unwrap_or_default();
                receiving.directory.counted(usage, before);
                self.reserve(tcx, slot);
                Ok(())
            }
            (Step::HoldingFinal | Step::HoldingPart, Ok(FileOutcome::Read { memory })) => {
                self.on_held(tcx, slot, &memory)
            }
            (Step::Truncating, Ok(FileOutcome::Done)) => {
                self.restart(tcx, slot);
                Ok(())
            }
            (Step::Moving { .. }, Ok(FileOutcome::Written { bytes, data })) => {
                self.on_written(tcx, slot, bytes, data)
            }
            (Step::Syncing, Ok(FileOutcome::Done)) => {
                self.receiving(slot).step = Step::Moving { of_final: false };
                self.write_queued(tcx, slot);
                Ok(())
            }
            (Step::SyncingName | Step::Publishing, Ok(FileOutcome::Done)) => {
                self.on_published(tcx, slot);
                Ok(())
            }
            (Step::Publishing, Err(error)) => Err(self.not_published(slot, error)),
            (Step::SyncingName, Err(error)) if error.failure == Failure::NotFound => {
                let text = "what was there is gone";
                Err(TransferError::here(TransferErrorKind::Changed, text))
            }
            (_, Err(error)) => {
                // What came behind a write that failed has no place in the file any more.
                self.receiving(slot).queue = Gather::default();
                Err(error.into())
            }
            (step, Ok(other)) => unreachable!("{step:?} was answered {other:?}"),
        };
        if let Err(error) = done {
            self.end_receiving(tcx, slot, error, true);
        }
    }

    /// It did not get its name, as far as is known.
    fn not_published(&mut self, slot: u8, error: Error) -> TransferError {
        let receiving = self.receiving(slot);
        if error.failure == Failure::Exists {
            receiving.cleanup = Cleanup::Remove;
        } else if let Some(reservation) = receiving.reservation.take() {
            // The name may be there all the same, where the disk failed after that.
            reservation.spend(receiving.offset.saturating_sub(receiving.held));
        }
        error.into()
    }

    /// There is a file of that name. Of the same size it may be the same: the sender compares.
    fn on_final(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        file: File,
        bytes: u64,
    ) -> Result<(), TransferError> {
        let receiving = self.receiving(slot);
        if bytes != receiving.incoming.size() {
            let text = format!("it has {bytes} bytes");
            return Err(TransferError::here(TransferErrorKind::Exists, text));
        }
        receiving.file = Some(file);
        receiving.held = bytes;
        receiving.step = Step::HoldingFinal;
        self.read_held(tcx, slot);
        Ok(())
    }

    /// Takes room for all of it, then opens the part. Where there is none the directory is counted
    /// anew, and the part is opened all the same: with what it holds the rest may fit.
    fn reserve(&mut self, tcx: &mut TransferCx<'_, '_>, slot: u8) {
        let receiving = self.receiving(slot);
        let directory = &receiving.directory;
        receiving.reservation = directory.reserve(receiving.incoming.size(), 1);
        let (directory, none) = (directory.io().clone(), receiving.reservation.is_none());
        let op = if none && receiving.counted.is_none() {
            receiving.counted = Some(receiving.directory.spent());
            receiving.step = Step::Counting;
            FileOp::Usage { directory }
        } else {
            receiving.step = Step::OpeningPart;
            FileOp::OpenPart { directory, name: receiving.part.clone() }
        };
        self.submit(tcx, slot, op);
    }

    fn on_part(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        file: File,
        bytes: u64,
    ) -> Result<(), TransferError> {
        let receiving = self.receiving(slot);
        receiving.file = Some(file);
        receiving.held = bytes;
        let size = receiving.incoming.size();
        if let Some(progress) = &receiving.progress {
            progress.set_moved(bytes.min(size));
        }
        if let Some(reservation) = &mut receiving.reservation {
            if bytes > 0 {
                reservation.shrink(bytes.min(size), 1);
            }
        } else {
            let rest = receiving.directory.reserve(size.saturating_sub(bytes), 0);
            receiving.reservation = rest.filter(|_| bytes > 0);
            if receiving.reservation.is_none() {
                let text = "it would exceed the quota of the directory";
                return Err(TransferError::here(TransferErrorKind::NoSpace, text));
            }
        }
        if bytes > size {
            self.truncate(tcx, slot);
        } else {
            receiving.step = Step::HoldingPart;
            self.read_held(tcx, slot);
        }
        Ok(())
    }

    /// Reads on in what is there; at its end the transfer is accepted.
    fn read_held(&mut self, tcx: &mut TransferCx<'_, '_>, slot: u8) {
        let receiving = self.receiving(slot);
        let left = receiving.held - receiving.offset;
        if left == 0 {
            return self.accept(tcx, slot);
        }
        let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(COMPARE_BYTES);
        let (file, offset) = (receiving.file(), receiving.offset);
        self.submit(tcx, slot, FileOp::Read { file, offset, bytes, memory: Vec::new() });
    }

    fn on_held(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        memory: &[u8],
    ) -> Result<(), TransferError> {
        let receiving = self.receiving(slot);
        if memory.is_empty() {
            let text = "what is there became shorter meanwhile";
            return Err(TransferError::here(TransferErrorKind::Changed, text));
        }
        receiving.incoming.held(memory);
        receiving.offset += memory.len() as u64;
        self.read_held(tcx, slot);
        Ok(())
    }

    fn accept(&mut self, tcx: &mut TransferCx<'_, '_>, slot: u8) {
        let timeout_at = tcx.timeout_at();
        let id = self.transfer(slot).id;
        let receiving = self.receiving(slot);
        receiving.step = Step::Moving { of_final: receiving.step == Step::HoldingFinal };
        let (offset, limit, prefix) = receiving.incoming.accept();
        let comparing = Duration::from_secs(offset / MIN_COMPARE_BYTES_PER_SECOND);
        receiving.not_before = timeout_at + comparing;
        if let Some(progress) = &receiving.progress {
            progress.set_resumed_from(offset);
        }
        tcx.send_frame(TransferFrame::Accept { id, offset, limit, prefix });
    }

    /// The sender found that what is held is not the beginning of its file.
    pub(super) fn offered_again(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        kind: u8,
    ) -> Result<(), Violation> {
        let TransferState::Receiving(receiving) = &self.transfer(slot).state else {
            return Err(Violation::OutOfState { kind });
        };
        let untouched = receiving.incoming.received() == receiving.held && receiving.held > 0;
        match receiving.step {
            Step::Moving { of_final: true } => {
                let error = TransferError::here(TransferErrorKind::Exists, "");
                self.end_receiving(tcx, slot, error, true);
            }
            Step::Moving { of_final: false } if untouched => self.truncate(tcx, slot),
            _ => return Err(Violation::OutOfState { kind }),
        }
        Ok(())
    }

    fn truncate(&mut self, tcx: &mut TransferCx<'_, '_>, slot: u8) {
        let receiving = self.receiving(slot);
        receiving.step = Step::Truncating;
        // Nothing of it counts from now on, also where the transfer ends before it is cut; and what
        // was held counts as room that is needed again.
        let held = std::mem::take(&mut receiving.held);
        receiving.offset = 0;
        let size = receiving.incoming.size();
        if let Some(reservation) = &mut receiving.reservation {
            reservation.extend(held.min(size));
        }
        let file = receiving.file();
        self.submit(tcx, slot, FileOp::Truncate { file, bytes: 0 });
    }

    /// The part is empty: from the beginning.
    fn restart(&mut self, tcx: &mut TransferCx<'_, '_>, slot: u8) {
        let receiving = self.receiving(slot);
        let (id, size) = (receiving.incoming.id(), receiving.incoming.size());
        receiving.incoming = FileReceiver::new(id, size, receiving.window_bytes);
        self.accept(tcx, slot);
    }

    pub(super) fn on_chunk(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        bytes: &[u8],
    ) -> Result<(), TransferError> {
        let receiving = self.receiving(slot);
        if !matches!(receiving.step, Step::Moving { of_final: false } | Step::Syncing) {
            let text = "a chunk of what was not accepted, or is there already";
            return Err(TransferError::here(TransferErrorKind::Protocol, text));
        }
        receiving.incoming.chunk(bytes)?;
        let mut piece = tcx.cx.worker.free_list.piece();
        piece.extend_from_slice(bytes);
        receiving.queue.push(Segment::Owned(piece));
        self.write_queued(tcx, slot);
        Ok(())
    }

    /// Writes what is queued, where nothing is being written. One write at a time: what is on the
    /// disk is a beginning of the file at every moment, also when the process is killed.
    fn write_queued(&mut self, tcx: &mut TransferCx<'_, '_>, slot: u8) {
        if self.transfer(slot).busy {
            return;
        }
        let receiving = self.receiving(slot);
        if receiving.queue.is_empty() {
            return self.publish_when_whole(tcx, slot);
        }
        let data = std::mem::take(&mut receiving.queue);
        let (file, offset) = (receiving.file(), receiving.offset);
        self.submit(tcx, slot, FileOp::Write { file, offset, data });
    }

    /// Some bytes are written; the rest of them goes before what came since.
    fn wrote(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        (bytes, mut data): (usize, Gather),
    ) -> Result<(), TransferError> {
        if bytes == 0 {
            let text = "it takes no bytes";
            return Err(TransferError::here(TransferErrorKind::Disk, text));
        }
        let receiving = self.receiving(slot);
        data.advance(bytes, |segment| tcx.cx.worker.free_list.recycle(segment));
        receiving.queue.drain(|segment| data.push(segment));
        receiving.queue = data;
        receiving.offset += bytes as u64;
        receiving.unsynced += bytes as u64;
        Ok(())
    }

    fn on_written(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        bytes: usize,
        data: Gather,
    ) -> Result<(), TransferError> {
        self.wrote(tcx, slot, (bytes, data))?;
        let id = self.transfer(slot).id;
        let receiving = self.receiving(slot);
        if let Some(progress) = &receiving.progress {
            progress.set_moved(receiving.offset);
        }
        if let Some(limit) = receiving.incoming.written(bytes as u64) {
            tcx.send_frame(TransferFrame::Credit { id, limit });
        }
        let receiving = self.receiving(slot);
        if receiving.unsynced >= SYNC_BYTES {
            receiving.unsynced = 0;
            receiving.step = Step::Syncing;
            let file = receiving.file();
            self.submit(tcx, slot, FileOp::Sync { file });
        } else {
            self.write_queued(tcx, slot);
        }
        Ok(())
    }

    pub(super) fn on_done(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        hash: [u8; 32],
    ) -> Result<(), TransferError> {
        let receiving = self.receiving(slot);
        if !matches!(receiving.step, Step::Moving { .. } | Step::Syncing) {
            let text = "done with what was not accepted";
            return Err(TransferError::here(TransferErrorKind::Protocol, text));
        }
        if !receiving.incoming.done(hash)? {
            if receiving.step != (Step::Moving { of_final: true }) {
                receiving.cleanup = Cleanup::Remove;
            }
            return Err(TransferError::here(TransferErrorKind::HashDiffers, ""));
        }
        receiving.verified = true;
        self.write_queued(tcx, slot);
        Ok(())
    }

    fn publish_when_whole(&mut self, tcx: &mut TransferCx<'_, '_>, slot: u8) {
        let receiving = self.receiving(slot);
        if !receiving.verified || !receiving.incoming.is_written() {
            return;
        }
        let (directory, file) = (receiving.directory.io().clone(), receiving.file());
        let path = receiving.name.as_str().into();
        if receiving.step == (Step::Moving { of_final: true }) {
            // Another may be publishing it just now: that it was found does not mean that it stays.
            receiving.step = Step::SyncingName;
            return self.submit(tcx, slot, FileOp::SyncName { directory, path, file });
        }
        receiving.step = Step::Publishing;
        let op = FileOp::Publish {
            directory,
            part: receiving.part.clone(),
            file,
            path,
            modified_ms: receiving.modified_ms,
            executable: receiving.executable,
        };
        self.submit(tcx, slot, op);
    }

    /// It is there, whole, under its name: both sides hear of it, and the part's own name goes.
    fn on_published(&mut self, tcx: &mut TransferCx<'_, '_>, slot: u8) {
        let id = self.transfer(slot).id;
        let receiving = self.receiving(slot);
        let hash = receiving.incoming.hash();
        let size = receiving.incoming.size();
        let of_final = receiving.step != Step::Publishing;
        let progress = receiving.progress.take();
        if let Some(reservation) = receiving.reservation.take() {
            reservation.spend(size - receiving.held);
        }
        receiving.step = Step::CleaningUp;
        receiving.cleanup = if of_final { Cleanup::Nothing } else { Cleanup::Remove };
        self.slots_by_id.remove(&id);
        tcx.send_frame(TransferFrame::Done { id, hash });
        self.run_cleanup(tcx, slot);
        if let Some(progress) = progress {
            progress.set_moved(size);
            tcx.notify(progress, Ok(hash));
        }
    }

    /// A file that comes in ends early; `notify_peer`: the peer is told.
    pub(super) fn end_receiving(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        error: TransferError,
        notify_peer: bool,
    ) {
        let id = self.transfer(slot).id;
        let busy = self.transfer(slot).busy;
        let receiving = self.receiving(slot);
        let ended = error.kind() == TransferErrorKind::Disconnected && !error.is_by_peer();
        if busy && (receiving.step == Step::Publishing || receiving.is_finishing() && ended) {
            return; // it is there, or as good as: how that ends is how the transfer ends
        }
        let Some(progress) = receiving.progress.take() else { return };
        if error.is_by_peer() && error.kind() == TransferErrorKind::Changed {
            // Of that size and time there is no such file any more: nothing could go on with it.
            receiving.cleanup = receiving.cleanup_of_useless_part();
        }
        if receiving.cleanup == Cleanup::Nothing {
            receiving.cleanup = receiving.cleanup_on_failure();
        }
        receiving.step = Step::CleaningUp;
        self.slots_by_id.remove(&id);
        if notify_peer {
            tcx.abort(id, &error);
        }
        self.run_cleanup(tcx, slot);
        tcx.notify(progress, Err(error));
    }

    /// Does what is left of a file that is over, one operation after the other.
    fn run_cleanup(&mut self, tcx: &mut TransferCx<'_, '_>, slot: u8) {
        if self.transfer(slot).busy {
            return;
        }
        let receiving = self.receiving(slot);
        let is_empty = receiving.queue.is_empty() && receiving.held.max(receiving.offset) == 0;
        if receiving.cleanup == Cleanup::Keep && is_empty {
            // Looked at only now: what was being written when it ended could have been the first.
            receiving.cleanup = Cleanup::Remove;
        }
        match (receiving.cleanup, receiving.file.take()) {
            (Cleanup::Keep, Some(file)) if !receiving.queue.is_empty() => {
                receiving.file = Some(file.clone());
                let (data, offset) = (std::mem::take(&mut receiving.queue), receiving.offset);
                self.submit(tcx, slot, FileOp::Write { file, offset, data });
            }
            // The last handle goes with it: to close a large file takes its time, too.
            (Cleanup::Remove, Some(file)) => {
                receiving.cleanup = Cleanup::Nothing;
                receiving.reservation = None;
                let (directory, name) = (receiving.directory.io().clone(), receiving.part.clone());
                self.submit(tcx, slot, FileOp::RemovePart { directory, name, file });
            }
            _ => {
                if let Some(reservation) = receiving.reservation.take() {
                    reservation.spend(receiving.offset.saturating_sub(receiving.held));
                }
                self.release(slot);
            }
        }
    }

    fn on_cleanup(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        result: Result<FileOutcome, Error>,
    ) {
        let outcome = match result {
            Ok(FileOutcome::Written { bytes, data }) => self.wrote(tcx, slot, (bytes, data)),
            Ok(FileOutcome::Part { file, bytes: 0 }) => {
                // Opened too late: it was made for this.
                let receiving = self.receiving(slot);
                receiving.file = Some(file);
                receiving.cleanup = Cleanup::Remove;
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if outcome.is_err() {
            let receiving = self.receiving(slot);
            receiving.queue = Gather::default();
        }
        self.run_cleanup(tcx, slot);
    }
}
