//! A file that goes out: opened, offered, read and sent as the receiver's credit allows. Where its
//! hash is known, the system may send it by itself, unread.

use std::time::Duration;

use posthouse_io::{
    Error, File, FileFault, FileOp, FileOutcome, FilePart, FileVersion, Metadata, Segment,
};
use posthouse_wire::{Action, FileName, FileSender, TransferFrame, TransferViolation, abort_code};

use super::receiving::COMPARED_PER_SECOND;
use super::{CHUNK_BYTES_MIN, Hands, Phase, Transfers, Work};
use crate::directory::Directory;
use crate::transfer::{TransferError, TransferErrorKind, TransferHandle};

/// A line that takes longer for a chunk gets smaller ones: a message waits for one of them.
const CHUNK_TIME_MAX: Duration = Duration::from_millis(500);
/// A line that takes less gets larger ones.
const CHUNK_TIME_MIN: Duration = Duration::from_millis(50);

/// Hashes of shorter files are not kept: to make them again costs next to nothing.
const HASH_WORTH_BYTES: u64 = 16 * 1024;

/// A file that goes out.
pub(super) struct Sending {
    pub(super) progress: TransferHandle,
    /// The wish that it answers; 0: none.
    pub(super) answers: u32,
    name: FileName,
    step: Step,
    open: Option<Open>,
    /// A chunk that is sent next.
    chunk: Option<Segment>,
    /// How long the one is that the system sends next, while its first byte is read: what hangs
    /// then is the transfer, and not all that the connection has to say.
    unread: Option<usize>,
    /// Since when it is the receiver's turn.
    waiting_since: Option<Duration>,
    /// True exactly when the receiver was told that what it held is not the file's beginning.
    restarted: bool,
}

struct Open {
    file: File,
    metadata: Metadata,
    /// The state that it was in when it was opened.
    version: Option<FileVersion>,
    /// Its hash, where it was sent in this state before.
    known: Option<[u8; 32]>,
    outgoing: FileSender,
}

impl Open {
    /// Begins, with this number, or begins again.
    fn restart(&mut self, id: u32, chunk_bytes_max: usize) {
        let outgoing = FileSender::new(id, self.metadata.bytes, chunk_bytes_max);
        self.outgoing = match self.known {
            Some(hash) => outgoing.with_known_hash(hash),
            None => outgoing,
        };
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The file is being opened.
    Opening,
    /// Its answer is awaited.
    Offered,
    /// Read, compared and sent.
    Moving,
    /// All has been sent; whether the file is still what it was is looked up.
    Checking,
    /// Done has been said; the receiver's is awaited.
    Said,
}

impl Sending {
    /// Until when the receiver may be silent, where it is its turn: long enough to compare what it
    /// holds, or for its disk to catch up.
    pub(super) fn patience_ends(&self, heard: Duration, patience: Duration) -> Option<Duration> {
        let since = self.waiting_since?.max(heard);
        let size = self.open.as_ref().map_or(0, |open| open.metadata.bytes);
        Some(since + 4 * patience + Duration::from_secs(size / COMPARED_PER_SECOND))
    }

    fn open(&mut self) -> &mut Open {
        self.open.as_mut().expect("a file that was opened")
    }
}

impl From<TransferViolation> for TransferError {
    fn from(violation: TransferViolation) -> Self {
        TransferError::here(TransferErrorKind::Protocol, violation.to_string())
    }
}

fn changed(text: &str) -> TransferError {
    TransferError::here(TransferErrorKind::Changed, text)
}

impl Transfers {
    /// Begins to offer a file of this side's own accord.
    pub(super) fn begin_offer(
        &mut self,
        hands: &mut Hands<'_, '_>,
        directory: &Directory,
        source: &str,
        progress: TransferHandle,
    ) {
        let wrong = match FileName::parse(progress.name()) {
            // A path of this machine need not be a name that every system can hold.
            Ok(name) if posthouse_io::is_beneath(source) => {
                return self.begin_sending(hands, 0, directory, (source, name), progress);
            }
            Ok(_) => "the path is not one beneath the directory".to_owned(),
            Err(error) => error.to_string(),
        };
        hands.tell(progress, Err(TransferError::here(TransferErrorKind::BadName, wrong)));
    }

    pub(super) fn begin_sending(
        &mut self,
        hands: &mut Hands<'_, '_>,
        answers: u32,
        directory: &Directory,
        (source, name): (&str, FileName),
        progress: TransferHandle,
    ) {
        let sending = Sending {
            progress,
            answers,
            name,
            step: Step::Opening,
            open: None,
            chunk: None,
            unread: None,
            waiting_since: None,
            restarted: false,
        };
        let (directory, path) = (directory.io().clone(), source.into());
        let open = FileOp::Open { directory, path };
        self.begin(hands, answers != 0, Work::Sending(sending), open);
    }

    fn sending(&mut self, place: u8) -> &mut Sending {
        match &mut self.job(place).work {
            Work::Sending(sending) => sending,
            _ => unreachable!("a job that sends"),
        }
    }

    /// An operation of a file that goes out has come back.
    pub(super) fn on_sending(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        result: Result<FileOutcome, Error>,
    ) {
        let done = match result {
            Ok(FileOutcome::Opened { file, metadata, version }) => {
                let outgoing = FileSender::new(0, metadata.bytes, hands.chunk_bytes_max());
                let known = version.and_then(|version| hands.cx.core.known_hashes.of(version));
                let open = Open { file, metadata, version, known, outgoing };
                self.sending(place).open = Some(open);
                self.sending(place).progress.set_size(metadata.bytes);
                self.offer(hands, place)
            }
            Ok(FileOutcome::Read { memory }) => self.on_read(hands, place, memory),
            Ok(FileOutcome::Metadata { metadata, version }) => {
                self.on_checked(hands, place, metadata, version)
            }
            Ok(other) => unreachable!("a file that goes out was answered {other:?}"),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = done {
            self.end_sending(hands, place, Err(error), true);
        }
    }

    /// Says what there is to send. A second time for the same transfer: from its beginning.
    fn offer(&mut self, hands: &mut Hands<'_, '_>, place: u8) -> Result<(), TransferError> {
        if self.job(place).id == 0 {
            let id = self.next_id(hands);
            self.job(place).id = id;
            self.places.insert(id, place);
        }
        let id = self.job(place).id;
        let chunk_bytes_max = hands.chunk_bytes_max();
        let sending = self.sending(place);
        sending.step = Step::Offered;
        sending.waiting_since = Some(hands.cx.now);
        let open = sending.open.as_mut().expect("a file that was opened");
        let Metadata { bytes, modified_ms, executable } = open.metadata;
        open.restart(id, chunk_bytes_max);
        let said = hands.say(TransferFrame::Offer {
            id,
            in_reply_to: sending.answers,
            size: bytes,
            modified_ms: Some(modified_ms),
            executable,
            name: sending.name.as_str().as_bytes(),
        });
        if said {
            return Ok(());
        }
        // The number was never said: it is the next one's.
        self.job(place).id = 0;
        self.places.remove(&id);
        self.next_id = id;
        Err(TransferError::here(TransferErrorKind::BadName, "longer than the peer takes"))
    }

    pub(super) fn on_accept(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        offset: u64,
        limit: u64,
        prefix: [u8; 32],
    ) -> Result<(), TransferError> {
        let sending = self.sending(place);
        if sending.step != Step::Offered {
            let text = "an accept for what was not offered";
            return Err(TransferError::here(TransferErrorKind::Protocol, text));
        }
        sending.open().outgoing.accepted(offset, limit, prefix)?;
        sending.progress.set_resumed_from(offset);
        sending.step = Step::Moving;
        self.read_on(hands, place);
        Ok(())
    }

    pub(super) fn on_credit(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        limit: u64,
    ) -> Result<(), TransferError> {
        let sending = self.sending(place);
        if sending.step == Step::Offered && sending.restarted {
            return Ok(()); // it crossed the second offer
        }
        if let Step::Opening | Step::Offered = sending.step {
            let text = "credit for what was not accepted";
            return Err(TransferError::here(TransferErrorKind::Protocol, text));
        }
        sending.open().outgoing.credit(limit)?;
        self.read_on(hands, place);
        Ok(())
    }

    /// Does what comes next, where nothing is being done and no chunk waits.
    fn read_on(&mut self, hands: &mut Hands<'_, '_>, place: u8) {
        let chunk_bytes = self.chunk_bytes;
        let now = hands.cx.now;
        let (busy, id) = (self.job(place).busy, self.job(place).id);
        // Only when it has left is it known whether it was the file's.
        let leaving = hands.strand.output.bulk_bytes() > 0 && self.chunk_of == (place, id);
        let sending = self.sending(place);
        if busy || sending.chunk.is_some() || sending.step != Step::Moving {
            return;
        }
        let open = sending.open.as_mut().expect("a file that was opened");
        let file = open.file.clone();
        let spares = &mut hands.cx.local.spares;
        sending.waiting_since = None;
        let op = match open.outgoing.next_action() {
            Action::Wait => {
                sending.waiting_since = Some(now);
                return;
            }
            Action::Prefix { offset, bytes } => {
                FileOp::Read { file, offset, bytes, memory: spares.piece() }
            }
            Action::Chunk { offset, bytes }
                if open.known.is_some()
                    && hands.cx.lane.prefers_sendfile(bytes.min(chunk_bytes)) =>
            {
                sending.unread = Some(bytes.min(chunk_bytes));
                FileOp::Read { file, offset, bytes: 1, memory: Vec::new() }
            }
            Action::Chunk { offset, bytes } => {
                let bytes = bytes.min(chunk_bytes);
                FileOp::Read { file, offset, bytes, memory: spares.piece() }
            }
            Action::Done if leaving && open.known.is_some() => return,
            Action::Done => {
                sending.step = Step::Checking;
                FileOp::Metadata { file }
            }
        };
        self.submit(hands, place, op);
    }

    fn on_read(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        memory: Vec<u8>,
    ) -> Result<(), TransferError> {
        if memory.is_empty() {
            return Err(changed("it became shorter"));
        }
        let id = self.job(place).id;
        let sending = self.sending(place);
        let open = sending.open.as_mut().expect("a file that was opened");
        if let Action::Prefix { .. } = open.outgoing.next_action() {
            if open.outgoing.prefix(&memory).is_ok() {
                self.read_on(hands, place);
                return Ok(());
            }
            if std::mem::replace(&mut sending.restarted, true) {
                let error = changed("what the other side holds is not its beginning");
                hands.refuse(id, abort_code::PREFIX_DIFFERS, error.text_for_peer());
                self.end_sending(hands, place, Err(error), false);
                return Ok(());
            }
            sending.progress.set_resumed_from(0);
            return self.offer(hands, place);
        }
        sending.chunk = Some(if let Some(bytes) = sending.unread.take() {
            let part = FilePart::new(open.file.clone(), open.outgoing.sent(), bytes);
            open.outgoing.skip_chunk(bytes);
            Segment::File(Box::new(part))
        } else {
            open.outgoing.chunk(&memory);
            Segment::Owned(memory)
        });
        self.ready.push_back(place);
        self.feed(hands);
        Ok(())
    }

    /// Queues the next chunk once the one before has left, and reads on behind it.
    pub(super) fn feed(&mut self, hands: &mut Hands<'_, '_>) {
        // What was being read when the bye was said comes too late: that is the last frame.
        if hands.strand.phase != Phase::Open || hands.strand.output.bulk_bytes() > 0 {
            return;
        }
        if let Some(since) = self.chunk_since.take() {
            self.fit_chunks(hands.cx.now.saturating_sub(since), hands.chunk_bytes_max());
            let (place, id) = self.chunk_of;
            if self.places.get(&id) == Some(&place) {
                self.read_on(hands, place);
            }
        }
        let Some(place) = self.ready.pop_front() else { return };
        let id = self.job(place).id;
        let sending = self.sending(place);
        let chunk = sending.chunk.take().expect("a place that is ready has a chunk");
        let sent = sending.open().outgoing.sent();
        sending.progress.set_moved(sent);
        let max = hands.strand.spoken().payload_bytes_max;
        let output = &mut hands.strand.output;
        let head = output.append(&mut hands.cx.local.spares, |tail| {
            posthouse_wire::encode_chunk_head(id, chunk.len(), max, tail)
        });
        assert_eq!(head, Ok(()), "a chunk is no larger than the peer takes");
        output.push_bulk(&mut hands.cx.local.spares, chunk);
        self.chunk_since = Some(hands.cx.now);
        self.chunk_of = (place, id);
        self.read_on(hands, place);
    }

    /// Zeros leave in place of the last chunk that was queued. Its transfer may be over already.
    pub(super) fn on_chunk_fault(&mut self, hands: &mut Hands<'_, '_>, fault: FileFault) {
        let (place, id) = self.chunk_of;
        if self.places.get(&id) != Some(&place) {
            return;
        }
        let error = match fault {
            FileFault::Short => changed("it became shorter"),
            FileFault::Failed(error) => error.into(),
        };
        self.end_sending(hands, place, Err(error), true);
    }

    /// The last chunk took so long to leave.
    fn fit_chunks(&mut self, took: Duration, max: usize) {
        if took > CHUNK_TIME_MAX {
            self.chunk_bytes /= 2;
        } else if took < CHUNK_TIME_MIN {
            self.chunk_bytes *= 2;
        }
        self.chunk_bytes = self.chunk_bytes.max(CHUNK_BYTES_MIN).min(max);
    }

    /// All has been sent: if the file is what it was, so is what was sent.
    fn on_checked(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        now: Metadata,
        version: Option<FileVersion>,
    ) -> Result<(), TransferError> {
        let id = self.job(place).id;
        let sending = self.sending(place);
        let open = sending.open.as_mut().expect("a file that was opened");
        if (now.bytes, now.modified_ms) != (open.metadata.bytes, open.metadata.modified_ms) {
            return Err(changed("its size or time is another than before"));
        }
        // Of another state the hash is not kept.
        open.version = open.version.filter(|before| version == Some(*before));
        sending.step = Step::Said;
        sending.waiting_since = Some(hands.cx.now);
        let hash = open.outgoing.done();
        hands.say(TransferFrame::Done { id, hash });
        Ok(())
    }

    pub(super) fn on_confirmed(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        hash: [u8; 32],
    ) -> Result<(), TransferError> {
        let sending = self.sending(place);
        if sending.step != Step::Said {
            let text = "it says done before it has all";
            return Err(TransferError::here(TransferErrorKind::Protocol, text));
        }
        sending.open().outgoing.confirmed(hash)?;
        let Open { metadata, version, .. } = *sending.open();
        sending.progress.set_moved(metadata.bytes);
        if let Some(version) = version
            && metadata.bytes >= HASH_WORTH_BYTES
        {
            hands.cx.core.known_hashes.keep(version, hash);
        }
        self.end_sending(hands, place, Ok(hash), false);
        Ok(())
    }

    /// A file that goes out is over; `say`: the peer is told.
    pub(super) fn end_sending(
        &mut self,
        hands: &mut Hands<'_, '_>,
        place: u8,
        result: Result<[u8; 32], TransferError>,
        say: bool,
    ) {
        let id = self.job(place).id;
        let Work::Sending(sending) = self.release(place) else {
            unreachable!("a job that sends");
        };
        // Where the system sends the file, a file that cannot be read may end the connection, and
        // whether it was the file is not always told.
        let is_cut = |error: &TransferError| {
            sending.step == Step::Moving && error.kind() == TransferErrorKind::Disconnected
        };
        if let (Err(error), Some(Open { known: Some(_), version: Some(version), .. })) =
            (&result, &sending.open)
            && (error.doubts_the_file() || is_cut(error))
        {
            hands.cx.core.known_hashes.forget(*version);
        }
        if let (Err(error), true) = (&result, say) {
            let id = if id == 0 { sending.answers } else { id };
            if id != 0 {
                hands.abort(id, error);
            }
        }
        hands.tell(sending.progress, result);
    }
}
