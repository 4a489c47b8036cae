//! A file that goes out: opened, offered, read and sent as the receiver's credit allows. Where its
//! hash is known, the system may send it by itself, unread.

use std::time::Duration;

use posthouse_io::{
    Error, File, FileFault, FileOp, FileOutcome, FilePart, FileVersion, Metadata, Segment,
};
use posthouse_wire::{Action, FileName, FileSender, TransferFrame, TransferViolation, abort_code};

use super::receiving::MIN_COMPARE_BYTES_PER_SECOND;
use super::{MIN_CHUNK_BYTES, TransferCx, TransferState, Transfers};
use crate::directory::Directory;
use crate::transfer::{TransferError, TransferErrorKind, TransferHandle};

/// A line that takes longer for a chunk gets smaller ones: a message waits for one of them.
const MAX_CHUNK_TIME: Duration = Duration::from_millis(500);
/// A line that takes less gets larger ones.
const MIN_CHUNK_TIME: Duration = Duration::from_millis(50);

/// Hashes of shorter files are not kept: to make them again costs next to nothing.
const MIN_HASHED_FILE_BYTES: u64 = 16 * 1024;

/// A file that goes out.
pub(super) struct Sending {
    pub(super) progress: TransferHandle,
    /// The number of the request that it answers; 0: none.
    pub(super) answers: u32,
    name: FileName,
    step: Step,
    open: Option<Open>,
    /// A chunk that is sent next.
    chunk: Option<Segment>,
    /// How long the one is that the system sends next, while its first byte is read: what hangs
    /// then is the transfer, and not all that the connection has to say.
    sendfile_bytes: Option<usize>,
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
    fn restart(&mut self, id: u32, max_chunk_bytes: usize) {
        let outgoing = FileSender::new(id, self.metadata.bytes, max_chunk_bytes);
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
    DoneSent,
}

impl Sending {
    /// Returns the time at which the transfer expires, if it is the receiver's turn: long enough to
    /// compare what it holds, or for its disk to catch up.
    pub(super) fn expires_at(
        &self,
        last_activity: Duration,
        idle_timeout: Duration,
    ) -> Option<Duration> {
        let since = self.waiting_since?.max(last_activity);
        let size = self.open.as_ref().map_or(0, |open| open.metadata.bytes);
        Some(since + 4 * idle_timeout + Duration::from_secs(size / MIN_COMPARE_BYTES_PER_SECOND))
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
        tcx: &mut TransferCx<'_, '_>,
        directory: &Directory,
        source: &str,
        progress: TransferHandle,
    ) {
        let wrong = match FileName::parse(progress.name()) {
            // A path of this machine need not be a name that every system can hold.
            Ok(name) if posthouse_io::is_beneath(source) => {
                return self.begin_sending(tcx, 0, directory, (source, name), progress);
            }
            Ok(_) => "the path is not one beneath the directory".to_owned(),
            Err(error) => error.to_string(),
        };
        tcx.notify(progress, Err(TransferError::here(TransferErrorKind::BadName, wrong)));
    }

    pub(super) fn begin_sending(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
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
            sendfile_bytes: None,
            waiting_since: None,
            restarted: false,
        };
        let (directory, path) = (directory.io().clone(), source.into());
        let open = FileOp::Open { directory, path };
        self.begin(tcx, answers != 0, TransferState::Sending(sending), open);
    }

    fn sending(&mut self, slot: u8) -> &mut Sending {
        match &mut self.transfer(slot).state {
            TransferState::Sending(sending) => sending,
            _ => unreachable!("a transfer that sends"),
        }
    }

    /// An operation of a file that goes out has come back.
    pub(super) fn on_sending(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        result: Result<FileOutcome, Error>,
    ) {
        let done = match result {
            Ok(FileOutcome::Opened { file, metadata, version }) => {
                let outgoing = FileSender::new(0, metadata.bytes, tcx.max_chunk_bytes());
                let known = version.and_then(|version| tcx.cx.shared.hash_cache.get(version));
                let open = Open { file, metadata, version, known, outgoing };
                self.sending(slot).open = Some(open);
                self.sending(slot).progress.set_size(metadata.bytes);
                self.offer(tcx, slot)
            }
            Ok(FileOutcome::Read { memory }) => self.on_read(tcx, slot, memory),
            Ok(FileOutcome::Metadata { metadata, version }) => {
                self.on_checked(tcx, slot, metadata, version)
            }
            Ok(other) => unreachable!("a file that goes out was answered {other:?}"),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = done {
            self.end_sending(tcx, slot, Err(error), true);
        }
    }

    /// Says what there is to send. A second time for the same transfer: from its beginning.
    fn offer(&mut self, tcx: &mut TransferCx<'_, '_>, slot: u8) -> Result<(), TransferError> {
        if self.transfer(slot).id == 0 {
            let id = self.next_id(tcx);
            self.transfer(slot).id = id;
            self.slots_by_id.insert(id, slot);
        }
        let id = self.transfer(slot).id;
        let max_chunk_bytes = tcx.max_chunk_bytes();
        let sending = self.sending(slot);
        sending.step = Step::Offered;
        sending.waiting_since = Some(tcx.cx.now);
        let open = sending.open.as_mut().expect("a file that was opened");
        let Metadata { bytes, modified_ms, executable } = open.metadata;
        open.restart(id, max_chunk_bytes);
        let sent_frame = tcx.send_frame(TransferFrame::Offer {
            id,
            in_reply_to: sending.answers,
            size: bytes,
            modified_ms: Some(modified_ms),
            executable,
            name: sending.name.as_str().as_bytes(),
        });
        if sent_frame {
            return Ok(());
        }
        // The number was never said: it is the next one's.
        self.transfer(slot).id = 0;
        self.slots_by_id.remove(&id);
        self.next_id = id;
        Err(TransferError::here(TransferErrorKind::BadName, "longer than the peer takes"))
    }

    pub(super) fn on_accept(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        offset: u64,
        limit: u64,
        prefix: [u8; 32],
    ) -> Result<(), TransferError> {
        let sending = self.sending(slot);
        if sending.step != Step::Offered {
            let text = "an accept for what was not offered";
            return Err(TransferError::here(TransferErrorKind::Protocol, text));
        }
        sending.open().outgoing.accepted(offset, limit, prefix)?;
        sending.progress.set_resumed_from(offset);
        sending.step = Step::Moving;
        self.advance(tcx, slot);
        Ok(())
    }

    pub(super) fn on_credit(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        limit: u64,
    ) -> Result<(), TransferError> {
        let sending = self.sending(slot);
        if sending.step == Step::Offered && sending.restarted {
            return Ok(()); // it crossed the second offer
        }
        if let Step::Opening | Step::Offered = sending.step {
            let text = "credit for what was not accepted";
            return Err(TransferError::here(TransferErrorKind::Protocol, text));
        }
        sending.open().outgoing.credit(limit)?;
        self.advance(tcx, slot);
        Ok(())
    }

    /// Does what comes next, where nothing is being done and no chunk waits.
    fn advance(&mut self, tcx: &mut TransferCx<'_, '_>, slot: u8) {
        let chunk_bytes = self.chunk_bytes;
        let now = tcx.cx.now;
        let (busy, id) = (self.transfer(slot).busy, self.transfer(slot).id);
        // Only when it has left is it known whether it was the file's.
        let cleanup = tcx.strand.output.bulk_bytes() > 0 && self.chunk_of == (slot, id);
        let sending = self.sending(slot);
        if busy || sending.chunk.is_some() || sending.step != Step::Moving {
            return;
        }
        let open = sending.open.as_mut().expect("a file that was opened");
        let file = open.file.clone();
        let free_list = &mut tcx.cx.worker.free_list;
        sending.waiting_since = None;
        let op = match open.outgoing.next_action() {
            Action::Wait => {
                sending.waiting_since = Some(now);
                return;
            }
            Action::Prefix { offset, bytes } => {
                FileOp::Read { file, offset, bytes, memory: free_list.piece() }
            }
            Action::Chunk { offset, bytes }
                if open.known.is_some()
                    && !tcx.strand.has_records()
                    && tcx.cx.lane.prefers_sendfile(bytes.min(chunk_bytes)) =>
            {
                sending.sendfile_bytes = Some(bytes.min(chunk_bytes));
                FileOp::Read { file, offset, bytes: 1, memory: Vec::new() }
            }
            Action::Chunk { offset, bytes } => {
                let bytes = bytes.min(chunk_bytes);
                FileOp::Read { file, offset, bytes, memory: free_list.piece() }
            }
            Action::Done if cleanup && open.known.is_some() => return,
            Action::Done => {
                sending.step = Step::Checking;
                FileOp::Metadata { file }
            }
        };
        self.submit(tcx, slot, op);
    }

    fn on_read(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        memory: Vec<u8>,
    ) -> Result<(), TransferError> {
        if memory.is_empty() {
            return Err(changed("it became shorter"));
        }
        let id = self.transfer(slot).id;
        let sending = self.sending(slot);
        let open = sending.open.as_mut().expect("a file that was opened");
        if let Action::Prefix { .. } = open.outgoing.next_action() {
            if open.outgoing.prefix(&memory).is_ok() {
                self.advance(tcx, slot);
                return Ok(());
            }
            if std::mem::replace(&mut sending.restarted, true) {
                let error = changed("what the other side holds is not its beginning");
                tcx.refuse(id, abort_code::PREFIX_DIFFERS, error.text_for_peer());
                self.end_sending(tcx, slot, Err(error), false);
                return Ok(());
            }
            sending.progress.set_resumed_from(0);
            return self.offer(tcx, slot);
        }
        sending.chunk = Some(if let Some(bytes) = sending.sendfile_bytes.take() {
            let part = FilePart::new(open.file.clone(), open.outgoing.sent(), bytes);
            open.outgoing.skip_chunk(bytes);
            Segment::File(Box::new(part))
        } else {
            open.outgoing.chunk(&memory);
            Segment::Owned(memory)
        });
        self.ready.push_back(slot);
        self.send_next_chunk(tcx);
        Ok(())
    }

    /// Queues the next chunk once the one before has left, and reads on behind it.
    pub(super) fn send_next_chunk(&mut self, tcx: &mut TransferCx<'_, '_>) {
        // What was being read when the bye was said comes too late: that is the last frame.
        if !tcx.strand.is_open() || tcx.strand.output.bulk_bytes() > 0 {
            return;
        }
        if let Some(since) = self.chunk_since.take() {
            self.adapt_chunk_bytes(tcx.cx.now.saturating_sub(since), tcx.max_chunk_bytes());
            let (slot, id) = self.chunk_of;
            if self.slots_by_id.get(&id) == Some(&slot) {
                self.advance(tcx, slot);
            }
        }
        let Some(slot) = self.ready.pop_front() else { return };
        let id = self.transfer(slot).id;
        let sending = self.sending(slot);
        let chunk = sending.chunk.take().expect("a slot that is ready has a chunk");
        let sent = sending.open().outgoing.sent();
        sending.progress.set_moved(sent);
        let max = tcx.strand.send_limits().max_payload_bytes;
        let head = tcx.strand.append(&mut tcx.cx.worker.free_list, |tail| {
            posthouse_wire::encode_chunk_head(id, chunk.len(), max, tail)
        });
        assert_eq!(head, Ok(()), "a chunk is no larger than the peer takes");
        tcx.strand.output.push_bulk(&mut tcx.cx.worker.free_list, chunk);
        self.chunk_since = Some(tcx.cx.now);
        self.chunk_of = (slot, id);
        self.advance(tcx, slot);
    }

    /// Zeros leave in place of the last chunk that was queued. Its transfer may be over already.
    pub(super) fn on_chunk_fault(&mut self, tcx: &mut TransferCx<'_, '_>, fault: FileFault) {
        let (slot, id) = self.chunk_of;
        if self.slots_by_id.get(&id) != Some(&slot) {
            return;
        }
        let error = match fault {
            FileFault::Short => changed("it became shorter"),
            FileFault::Failed(error) => error.into(),
        };
        self.end_sending(tcx, slot, Err(error), true);
    }

    /// The last chunk took so long to leave.
    fn adapt_chunk_bytes(&mut self, took: Duration, max: usize) {
        if took > MAX_CHUNK_TIME {
            self.chunk_bytes /= 2;
        } else if took < MIN_CHUNK_TIME {
            self.chunk_bytes *= 2;
        }
        self.chunk_bytes = self.chunk_bytes.max(MIN_CHUNK_BYTES).min(max);
    }

    /// All has been sent: if the file is what it was, so is what was sent.
    fn on_checked(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        now: Metadata,
        version: Option<FileVersion>,
    ) -> Result<(), TransferError> {
        let id = self.transfer(slot).id;
        let sending = self.sending(slot);
        let open = sending.open.as_mut().expect("a file that was opened");
        if (now.bytes, now.modified_ms) != (open.metadata.bytes, open.metadata.modified_ms) {
            return Err(changed("its size or time is another than before"));
        }
        // Of another state the hash is not kept.
        open.version = open.version.filter(|before| version == Some(*before));
        sending.step = Step::DoneSent;
        sending.waiting_since = Some(tcx.cx.now);
        let hash = open.outgoing.done();
        tcx.send_frame(TransferFrame::Done { id, hash });
        Ok(())
    }

    pub(super) fn on_confirmed(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        hash: [u8; 32],
    ) -> Result<(), TransferError> {
        let sending = self.sending(slot);
        if sending.step != Step::DoneSent {
            let text = "it says done before it has all";
            return Err(TransferError::here(TransferErrorKind::Protocol, text));
        }
        sending.open().outgoing.confirmed(hash)?;
        let Open { metadata, version, .. } = *sending.open();
        sending.progress.set_moved(metadata.bytes);
        if let Some(version) = version
            && metadata.bytes >= MIN_HASHED_FILE_BYTES
        {
            tcx.cx.shared.hash_cache.insert(version, hash);
        }
        self.end_sending(tcx, slot, Ok(hash), false);
        Ok(())
    }

    /// A file that goes out is over; `notify_peer`: the peer is told.
    pub(super) fn end_sending(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        result: Result<[u8; 32], TransferError>,
        notify_peer: bool,
    ) {
        let id = self.transfer(slot).id;
        let TransferState::Sending(sending) = self.release(slot) else {
            unreachable!("a transfer that sends");
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
            tcx.cx.shared.hash_cache.remove(*version);
        }
        if let (Err(error), true) = (&result, notify_peer) {
            let id = if id == 0 { sending.answers } else { id };
            if id != 0 {
                tcx.abort(id, error);
            }
        }
        tcx.notify(sending.progress, result);
    }
}
