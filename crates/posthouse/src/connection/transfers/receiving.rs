//! A file that comes in: looked for, held against what is there, written, verified, published.

use std::fmt;
use std::time::Duration;

use posthouse_io::{Error, Failure, File, FileOp, FileOutcome, Gather, Segment};
use posthouse_wire::{FileName, FileReceiver, TransferFrame, Violation};

use super::{Hands, JOBS_MAX, Transfers, Work};
use crate::directory::{Directory, Reservation, Spent};
use crate::transfer::{Offer, TransferError, TransferErrorKind, TransferHandle};
use posthouse_wire::Escaped;

/// Bytes that are read at a time to compare what is there.
const HELD_BYTES: usize = 256 * 1024;
/// What is written is synced so often: the disk keeps up, and the end does not wait for all of it.
const SYNC_BYTES: u64 = 64 << 20;
/// Credit is never less, so that many transfers at once each go on.
const WINDOW_BYTES_MIN: u64 = 128 * 1024;
/// The other side compares what is there with its own at so many bytes a second, at least.
pub(super) const COMPARED_PER_SECOND: u64 = 8 << 20;
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
    /// The sender has at least until then.
    patience: Duration,
    /// What is left to do when it ends early.
    leaving: Leaving,
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
    /// It is over; what is in `leaving` is done, then it goes.
    Leaving,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
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
        self.step == Step::Leaving
    }

    /// The disk is at it and is not awaited any more. Gives whose end has yet to be told.
    pub(super) fn give_up(self) -> Option<TransferHandle> {
        if let Some(reservation) = self.reservation {
            reservation.spend_all();
        }
        self.progress
    }

    /// Until when the sender may be silent, where it is its turn.
    pub(super) fn patience_ends(&self, after_last: Duration) -> Option<Duration> {
        let moving = matches!(self.step, Step::Moving { .. } | Step::Syncing);
        let written = self.incoming.received() == self.offset;
        (moving && !self.verified && written).then(|| after_last.max(self.patience))
    }

    /// What of it is worth keeping when it ends early.
    fn what_stays(&self) -> Leaving {
        if self.is_of_final() || self.file.is_none() { Leaving::Nothing } else { Leaving::Keep }
    }

    /// Whether what is open is a whole file under its final name, and no part.
    fn is_of_final(&self) -> bool {
        matches!(
            self.step,
            Step::HoldingFinal | Step::Moving { of_final: true } | Step::SyncingName
        )
    }

    /// That nothing of it is worth keeping.
    fn what_goes(&self) -> Leaving {
        if self.is_of_final() { Leaving::Nothing } else { Leaving::Remove }
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
        hands: &mut Hands<'_, '_>,
        (id, by_peer): (u32, bool),
        offer: &Offer<'_>,
        (directory, name): (&Directory, FileName),
        progress: TransferHandle,
    ) {
        progress.set_size(offer.size);
        let window_bytes = self.window_bytes(hands);
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
            patience: Duration::ZERO,
            leaving: Leaving::Nothing,
        };
        let now_ms = hands.cx.now.as_millis() as u64;
        if self.places_taken() < JOBS_MAX && directory.is_expiry_due(now_ms) {
            let directory = directory.io().clone();
            let expire = FileOp::ExpireParts { directory, age_ms: PART_AGE_MS };
            self.begin(hands, by_peer, Work::Chore(None), expire);
        }
        let open = FileOp::Open { directory: directory.io().clone(), path };
        let place = self.begin(hands, by_peer, Work::Receiving(receiving), open);
        self.job(place).id = id;
        self.places.insert(id, place);
    }

    /// What one more transfer may have under way: all of them share what a connection may.
    fn window_bytes(&self, hands: &Hands<'_, '_>) -> u64 {
        let jobs = self.jobs.iter().flatten();
        let others = jobs.filter(|job| matches!(job.work, Work::Receiving(_))).count() as u64;
        let all = hands.cx.core.tuning.transfer_window_bytes as u64;
        (all / (others + 1)).max(WINDOW_BYTES_MIN)
    }

    fn receiving(&mut self, place: u8) -> &mut Receiving {
        match &mut self.job(place).work {
            Work::Receiving(receiving) => receiving,
            _ => unreachable!("a job that receives"),
        }
    }

    /// An operation of a file that comes in has come back.
    pub(super) fn on_receiving(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        result: Result<FileOutcome, Error>,
    ) {
        let step = self.receiving(place).step;
        if step == Step::Leaving {
            return self.on_leaving(hands, place, result);
        }
        let done = match (step, result) {
            (Step::Looking, Ok(FileOutcome::Opened { file, metadata, .. })) => {
                self.on_final(hands, place, file, metadata.bytes)
            }
            (Step::Looking, Err(error)) if error.failure == Failure::NotFound => {
                self.reserve(hands, place);
                Ok(())
            }
            (Step::OpeningPart, Ok(FileOutcome::Part { file, bytes })) => {
                self.on_part(hands, place, file, bytes)
            }
            (Step::Counting, Ok(FileOutcome::Usage(usage))) => {
                let receiving = self.receiving(place);
                let before = receiving.counted.unwrap_or_default();
                receiving.directory.counted(usage, before);
                self.reserve(hands, place);
                Ok(())
            }
            (Step::HoldingFinal | Step::HoldingPart, Ok(FileOutcome::Read { memory })) => {
                self.on_held(hands, place, &memory)
            }
            (Step::Truncating, Ok(FileOutcome::Done)) => {
                self.restart(hands, place);
                Ok(())
            }
            (Step::Moving { .. }, Ok(FileOutcome::Written { bytes, data })) => {
                self.on_written(hands, place, bytes, data)
            }
            (Step::Syncing, Ok(FileOutcome::Done)) => {
                self.receiving(place).step = Step::Moving { of_final: false };
                self.write_on(hands, place);
                Ok(())
            }
            (Step::SyncingName | Step::Publishing, Ok(FileOutcome::Done)) => {
                self.on_published(hands, place);
                Ok(())
            }
            (Step::Publishing, Err(error)) => Err(self.not_published(place, error)),
            (Step::SyncingName, Err(error)) if error.failure == Failure::NotFound => {
                let text = "what was there is gone";
                Err(TransferError::here(TransferErrorKind::Changed, text))
            }
            (_, Err(error)) => {
                // What came behind a write that failed has no place in the file any more.
                self.receiving(place).queue = Gather::default();
                Err(error.into())
            }
            (step, Ok(other)) => unreachable!("{step:?} was answered {other:?}"),
        };
        if let Err(error) = done {
            self.end_receiving(hands, place, error, true);
        }
    }

    /// It did not get its name, as far as is known.
    fn not_published(&mut self, place: u8, error: Error) -> TransferError {
        let receiving = self.receiving(place);
        if error.failure == Failure::Exists {
            receiving.leaving = Leaving::Remove;
        } else if let Some(reservation) = receiving.reservation.take() {
            // The name may be there all the same, where the disk failed after that.
            reservation.spend(receiving.offset.saturating_sub(receiving.held));
        }
        error.into()
    }

    /// There is a file of that name. Of the same size it may be the same: the sender compares.
    fn on_final(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        file: File,
        bytes: u64,
    ) -> Result<(), TransferError> {
        let receiving = self.receiving(place);
        if bytes != receiving.incoming.size() {
            let text = format!("it has {bytes} bytes");
            return Err(TransferError::here(TransferErrorKind::Exists, text));
        }
        receiving.file = Some(file);
        receiving.held = bytes;
        receiving.step = Step::HoldingFinal;
        self.read_held(hands, place);
        Ok(())
    }

    /// Takes room for all of it, then opens the part. Where there is none the directory is counted
    /// anew, and the part is opened all the same: with what it holds the rest may fit.
    fn reserve(&mut self, hands: &mut Hands<'_, '_>, place: u8) {
        let receiving = self.receiving(place);
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
        self.submit(hands, place, op);
    }

    fn on_part(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        file: File,
        bytes: u64,
    ) -> Result<(), TransferError> {
        let receiving = self.receiving(place);
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
            self.truncate(hands, place);
        } else {
            receiving.step = Step::HoldingPart;
            self.read_held(hands, place);
        }
        Ok(())
    }

    /// Reads on in what is there; at its end the transfer is accepted.
    fn read_held(&mut self, hands: &mut Hands<'_, '_>, place: u8) {
        let receiving = self.receiving(place);
        let left = receiving.held - receiving.offset;
        if left == 0 {
            return self.accept(hands, place);
        }
        let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(HELD_BYTES);
        let (file, offset) = (receiving.file(), receiving.offset);
        self.submit(hands, place, FileOp::Read { file, offset, bytes, memory: Vec::new() });
    }

    fn on_held(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        memory: &[u8],
    ) -> Result<(), TransferError> {
        let receiving = self.receiving(place);
        if memory.is_empty() {
            let text = "what is there became shorter meanwhile";
            return Err(TransferError::here(TransferErrorKind::Changed, text));
        }
        receiving.incoming.held(memory);
        receiving.offset += memory.len() as u64;
        self.read_held(hands, place);
        Ok(())
    }

    fn accept(&mut self, hands: &mut Hands<'_, '_>, place: u8) {
        let timeout_at = hands.timeout_at();
        let id = self.job(place).id;
        let receiving = self.receiving(place);
        receiving.step = Step::Moving { of_final: receiving.step == Step::HoldingFinal };
        let (offset, limit, prefix) = receiving.incoming.accept();
        let comparing = Duration::from_secs(offset / COMPARED_PER_SECOND);
        receiving.patience = timeout_at + comparing;
        if let Some(progress) = &receiving.progress {
            progress.set_resumed_from(offset);
        }
        hands.say(TransferFrame::Accept { id, offset, limit, prefix });
    }

    /// The sender found that what is held is not the beginning of its file.
    pub(super) fn offered_again(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        kind: u8,
    ) -> Result<(), Violation> {
        let Work::Receiving(receiving) = &self.job(place).work else {
            return Err(Violation::OutOfState { kind });
        };
        let untouched = receiving.incoming.received() == receiving.held && receiving.held > 0;
        match receiving.step {
            Step::Moving { of_final: true } => {
                let error = TransferError::here(TransferErrorKind::Exists, "");
                self.end_receiving(hands, place, error, true);
            }
            Step::Moving { of_final: false } if untouched => self.truncate(hands, place),
            _ => return Err(Violation::OutOfState { kind }),
        }
        Ok(())
    }

    fn truncate(&mut self, hands: &mut Hands<'_, '_>, place: u8) {
        let receiving = self.receiving(place);
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
        self.submit(hands, place, FileOp::Truncate { file, bytes: 0 });
    }

    /// The part is empty: from the beginning.
    fn restart(&mut self, hands: &mut Hands<'_, '_>, place: u8) {
        let receiving = self.receiving(place);
        let (id, size) = (receiving.incoming.id(), receiving.incoming.size());
        receiving.incoming = FileReceiver::new(id, size, receiving.window_bytes);
        self.accept(hands, place);
    }

    pub(super) fn on_chunk(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        bytes: &[u8],
    ) -> Result<(), TransferError> {
        let receiving = self.receiving(place);
        if !matches!(receiving.step, Step::Moving { of_final: false } | Step::Syncing) {
            let text = "a chunk of what was not accepted, or is there already";
            return Err(TransferError::here(TransferErrorKind::Protocol, text));
        }
        receiving.incoming.chunk(bytes)?;
        let mut piece = hands.cx.local.spares.piece();
        piece.extend_from_slice(bytes);
        receiving.queue.push(Segment::Owned(piece));
        self.write_on(hands, place);
        Ok(())
    }

    /// Writes what is queued, where nothing is being written. One write at a time: what is on the
    /// disk is a beginning of the file at every moment, also when the process is killed.
    fn write_on(&mut self, hands: &mut Hands<'_, '_>, place: u8) {
        if self.job(place).busy {
            return;
        }
        let receiving = self.receiving(place);
        if receiving.queue.is_empty() {
            return self.publish_when_whole(hands, place);
        }
        let data = std::mem::take(&mut receiving.queue);
        let (file, offset) = (receiving.file(), receiving.offset);
        self.submit(hands, place, FileOp::Write { file, offset, data });
    }

    /// Some bytes are written; the rest of them goes before what came since.
    fn wrote(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        (bytes, mut data): (usize, Gather),
    ) -> Result<(), TransferError> {
        if bytes == 0 {
            let text = "it takes no bytes";
            return Err(TransferError::here(TransferErrorKind::Disk, text));
        }
        let receiving = self.receiving(place);
        data.advance(bytes, |segment| hands.cx.local.spares.keep(segment));
        receiving.queue.drain(|segment| data.push(segment));
        receiving.queue = data;
        receiving.offset += bytes as u64;
        receiving.unsynced += bytes as u64;
        Ok(())
    }

    fn on_written(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        bytes: usize,
        data: Gather,
    ) -> Result<(), TransferError> {
        self.wrote(hands, place, (bytes, data))?;
        let id = self.job(place).id;
        let receiving = self.receiving(place);
        if let Some(progress) = &receiving.progress {
            progress.set_moved(receiving.offset);
        }
        if let Some(limit) = receiving.incoming.written(bytes as u64) {
            hands.say(TransferFrame::Credit { id, limit });
        }
        let receiving = self.receiving(place);
        if receiving.unsynced >= SYNC_BYTES {
            receiving.unsynced = 0;
            receiving.step = Step::Syncing;
            let file = receiving.file();
            self.submit(hands, place, FileOp::Sync { file });
        } else {
            self.write_on(hands, place);
        }
        Ok(())
    }

    pub(super) fn on_done(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        hash: [u8; 32],
    ) -> Result<(), TransferError> {
        let receiving = self.receiving(place);
        if !matches!(receiving.step, Step::Moving { .. } | Step::Syncing) {
            let text = "done with what was not accepted";
            return Err(TransferError::here(TransferErrorKind::Protocol, text));
        }
        if !receiving.incoming.done(hash)? {
            if receiving.step != (Step::Moving { of_final: true }) {
                receiving.leaving = Leaving::Remove;
            }
            return Err(TransferError::here(TransferErrorKind::HashDiffers, ""));
        }
        receiving.verified = true;
        self.write_on(hands, place);
        Ok(())
    }

    fn publish_when_whole(&mut self, hands: &mut Hands<'_, '_>, place: u8) {
        let receiving = self.receiving(place);
        if !receiving.verified || !receiving.incoming.is_written() {
            return;
        }
        let (directory, file) = (receiving.directory.io().clone(), receiving.file());
        let path = receiving.name.as_str().into();
        if receiving.step == (Step::Moving { of_final: true }) {
            // Another may be publishing it just now: that it was found does not mean that it stays.
            receiving.step = Step::SyncingName;
            return self.submit(hands, place, FileOp::SyncName { directory, path, file });
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
        self.submit(hands, place, op);
    }

    /// It is there, whole, under its name: both sides hear of it, and the part's own name goes.
    fn on_published(&mut self, hands: &mut Hands<'_, '_>, place: u8) {
        let id = self.job(place).id;
        let receiving = self.receiving(place);
        let hash = receiving.incoming.hash();
        let size = receiving.incoming.size();
        let of_final = receiving.step != Step::Publishing;
        let progress = receiving.progress.take();
        if let Some(reservation) = receiving.reservation.take() {
            reservation.spend(size - receiving.held);
        }
        receiving.step = Step::Leaving;
        receiving.leaving = if of_final { Leaving::Nothing } else { Leaving::Remove };
        self.places.remove(&id);
        hands.say(TransferFrame::Done { id, hash });
        self.leave(hands, place);
        if let Some(progress) = progress {
            progress.set_moved(size);
            hands.tell(progress, Ok(hash));
        }
    }

    /// A file that comes in ends early; `say`: the peer is told.
    pub(super) fn end_receiving(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        error: TransferError,
        say: bool,
    ) {
        let id = self.job(place).id;
        let busy = self.job(place).busy;
        let receiving = self.receiving(place);
        let ended = error.kind() == TransferErrorKind::Disconnected && !error.is_by_peer();
        if busy && (receiving.step == Step::Publishing || receiving.is_finishing() && ended) {
            return; // it is there, or as good as: how that ends is how the transfer ends
        }
        let Some(progress) = receiving.progress.take() else { return };
        if error.is_by_peer() && error.kind() == TransferErrorKind::Changed {
            // Of that size and time there is no such file any more: nothing could go on with it.
            receiving.leaving = receiving.what_goes();
        }
        if receiving.leaving == Leaving::Nothing {
            receiving.leaving = receiving.what_stays();
        }
        receiving.step = Step::Leaving;
        self.places.remove(&id);
        if say {
            hands.abort(id, &error);
        }
        self.leave(hands, place);
        hands.tell(progress, Err(error));
    }

    /// Does what is left of a file that is over, one operation after the other.
    fn leave(&mut self, hands: &mut Hands<'_, '_>, place: u8) {
        if self.job(place).busy {
            return;
        }
        let receiving = self.receiving(place);
        let is_empty = receiving.queue.is_empty() && receiving.held.max(receiving.offset) == 0;
        if receiving.leaving == Leaving::Keep && is_empty {
            // Looked at only now: what was being written when it ended could have been the first.
            receiving.leaving = Leaving::Remove;
        }
        match (receiving.leaving, receiving.file.take()) {
            (Leaving::Keep, Some(file)) if !receiving.queue.is_empty() => {
                receiving.file = Some(file.clone());
                let (data, offset) = (std::mem::take(&mut receiving.queue), receiving.offset);
                self.submit(hands, place, FileOp::Write { file, offset, data });
            }
            // The last handle goes with it: to close a large file takes its time, too.
            (Leaving::Remove, Some(file)) => {
                receiving.leaving = Leaving::Nothing;
                receiving.reservation = None;
                let (directory, name) = (receiving.directory.io().clone(), receiving.part.clone());
                self.submit(hands, place, FileOp::RemovePart { directory, name, file });
            }
            _ => {
                if let Some(reservation) = receiving.reservation.take() {
                    reservation.spend(receiving.offset.saturating_sub(receiving.held));
                }
                self.release(place);
            }
        }
    }

    fn on_leaving(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        result: Result<FileOutcome, Error>,
    ) {
        let outcome = match result {
            Ok(FileOutcome::Written { bytes, data }) => self.wrote(hands, place, (bytes, data)),
            Ok(FileOutcome::Part { file, bytes: 0 }) => {
                // Opened too late: it was made for this.
                let receiving = self.receiving(place);
                receiving.file = Some(file);
                receiving.leaving = Leaving::Remove;
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if outcome.is_err() {
            let receiving = self.receiving(place);
            receiving.queue = Gather::default();
        }
        self.leave(hands, place);
    }
}
