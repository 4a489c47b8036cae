//! The sending of a file: performs the actions of its [`FileSender`]. If the hash of the file is
//! known, the system may send the file by itself, and this side does not read it.

use posthouse_io::{
    Error, File, FileIdentity, FileOp, FileOutcome, FileVersion, Metadata, Segment,
};
use posthouse_wire::{
    ChunkSizes, DeliveryId, DiskOutcome, Entry, EntryKind, FileFacts, FileName, FileSender,
    OfferAttributes, OpNumber, Replace, SenderAction, SenderEvent, SenderFrame, SenderOp, Tell,
    TransferFrame,
};

use super::table::{Side, TransferState};
use super::{disk_error, unexpected};
use crate::connection::{Context, Strand};
use crate::directory::Directory;
use crate::transfer::{TransferError, TransferErrorKind, TransferHandle};
use crate::transfers::budgets::Resource;

/// The minimum size in bytes of a file whose hash is kept. To hash a shorter file again costs next
/// to nothing.
const MIN_HASHED_FILE_BYTES: u64 = 16 * 1024;

/// A file that is being sent: its state machine, and the file of its operations.
pub(super) struct Sending {
    pub(super) sender: FileSender<TransferError>,
    pub(super) progress: TransferHandle,
    /// The number of the request that it answers; 0 if it answers none.
    pub(super) answers: u32,
    directory: Directory,
    path: Box<str>,
    /// The name that the peer gets.
    name: FileName,
    delivery_id: DeliveryId,
    /// The file as it was when it was opened last.
    opened: Option<Opened>,
    /// The file itself, while it is open.
    file: Option<File>,
}

/// A file to send.
pub(super) struct Source<'a> {
    pub(super) directory: &'a Directory,
    pub(super) path: &'a str,
    /// The name that the peer gets.
    pub(super) name: FileName,
    /// The number of the delivery; a random one if this is `None`.
    pub(super) delivery_id: Option<DeliveryId>,
}

fn random_delivery_id(cx: &Context<'_>) -> DeliveryId {
    let [high, low] = [cx.shared.port.random(), cx.shared.port.random()];
    DeliveryId((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
}

/// The file as it was when it was opened.
#[derive(Clone, Copy)]
struct Opened {
    metadata: Metadata,
    identity: Option<FileIdentity>,
    /// The version of the file when it was opened; `None` if the file has changed since then.
    version: Option<FileVersion>,
    /// The hash of the file, if this version of it was sent before.
    known: Option<[u8; 32]>,
}

impl Opened {
    /// Returns whether this is the file that was `offered`, unchanged as far as its file system
    /// tells.
    fn is_same_file(&self, offered: &Self) -> bool {
        // A file that was changed a moment ago has no version.
        let is_same_version = match (self.version, offered.version) {
            (Some(version), Some(offered)) => version == offered,
            _ => true,
        };
        self.identity == offered.identity && self.metadata == offered.metadata && is_same_version
    }
}

impl Sending {
    /// Ends the transfer for a reason from outside its state machine.
    pub(super) fn end(&mut self, cx: &Context<'_>, error: TransferError, tell: Tell) {
        // If the system sends the file, an unreadable file may end the connection, and the system
        // does not always report that the file was the cause.
        if self.sender.is_sending() && error.kind() == TransferErrorKind::Disconnected {
            self.forget_hash(cx);
        }
        self.sender.end(error, tell);
    }

    fn forget_hash(&self, cx: &Context<'_>) {
        if let Some(Opened { known: Some(_), version: Some(version), .. }) = self.opened {
            cx.shared.hash_cache.remove(version);
        }
    }

    fn opened(&self) -> &Opened {
        self.opened.as_ref().expect("the file is used only after it was opened")
    }

    pub(super) fn file(&self) -> File {
        self.file.clone().expect("the file is used only while it is open")
    }

    /// Returns the operation on files for a request of the sender.
    fn file_op(&self, op: SenderOp) -> FileOp {
        match op {
            SenderOp::Open | SenderOp::Reopen => {
                FileOp::Open { directory: self.directory.io().clone(), path: self.path.clone() }
            }
            SenderOp::Read { offset, bytes, memory } => {
                FileOp::Read { file: self.file(), offset, bytes, memory }
            }
            SenderOp::Probe { offset } => {
                FileOp::Read { file: self.file(), offset, bytes: 1, memory: Vec::new() }
            }
            SenderOp::Metadata => FileOp::Metadata { file: self.file() },
        }
    }

    /// Stores the outcome of an operation, and converts it for the sender.
    fn take(&mut self, cx: &Context<'_>, outcome: FileOutcome) -> DiskOutcome {
        match outcome {
            FileOutcome::Opened { file, metadata, identity, version } => {
                let known = version.and_then(|version| cx.shared.hash_cache.get(version));
                let opened = Opened { metadata, identity, version, known };
                let offered = self.opened.replace(opened);
                self.file = Some(file);
                let facts = facts(metadata);
                if let Some(offered) = offered {
                    let same_file = opened.is_same_file(&offered);
                    return DiskOutcome::Reopened { facts, same_file, known };
                }
                self.progress.set_size(metadata.bytes);
                DiskOutcome::Opened { facts, known }
            }
            FileOutcome::Read { memory } => DiskOutcome::Read(memory),
            FileOutcome::Metadata { metadata, version } => {
                if let Some(opened) = &mut self.opened {
                    // The hash of another version is not kept.
                    opened.version = opened.version.filter(|before| version == Some(*before));
                }
                DiskOutcome::Metadata(facts(metadata))
            }
            outcome => unexpected(&outcome),
        }
    }

    /// Stores the hash that the receiver has confirmed.
    fn keep_hash(&self, cx: &Context<'_>, hash: [u8; 32]) {
        let Some(Opened { metadata, version, .. }) = &self.opened else { return };
        self.progress.set_moved(metadata.bytes);
        if let Some(version) = version
            && metadata.bytes >= MIN_HASHED_FILE_BYTES
        {
            cx.shared.hash_cache.insert(*version, hash);
        }
    }
}

fn facts(metadata: Metadata) -> FileFacts {
    FileFacts { bytes: metadata.bytes, modified_ns: metadata.modified_ns }
}

impl Strand {
    /// Starts to offer a file that the peer has not requested.
    pub(super) fn begin_offer(
        &mut self,
        cx: &mut Context<'_>,
        (directory, source): (&Directory, &str),
        delivery_id: Option<DeliveryId>,
        progress: TransferHandle,
    ) {
        let wrong = match FileName::parse(progress.name()) {
            // A path of this machine need not be a name that every system can store.
            Ok(name) if posthouse_io::is_beneath(source) => {
                let source = Source { directory, path: source, name, delivery_id };
                return self.begin_sending(cx, 0, source, progress);
            }
            Ok(_) => "the path is outside the directory; use a relative path in it".to_owned(),
            Err(error) => error.to_string(),
        };
        self.notify(cx, progress, Err(TransferError::here(TransferErrorKind::BadName, wrong)));
    }

    /// Starts to send a file; `answers` is the number of the request that it answers, or 0.
    pub(super) fn begin_sending(
        &mut self,
        cx: &mut Context<'_>,
        answers: u32,
        source: Source<'_>,
        progress: TransferHandle,
    ) {
        let Source { directory, path, name, delivery_id } = source;
        let delivery_id = delivery_id.unwrap_or_else(|| random_delivery_id(cx));
        progress.set_delivery_id(delivery_id);
        let sending = Sending {
            sender: FileSender::new(self.max_chunk_bytes(cx)),
            progress,
            answers,
            directory: directory.clone(),
            path: path.into(),
            name,
            delivery_id,
            opened: None,
            file: None,
        };
        let begun_by = if answers == 0 { Side::Local } else { Side::Peer };
        let state = TransferState::Sending(Box::new(sending));
        let slot = self.transfers().insert(0, begun_by, state);
        self.run_sender(cx, slot);
    }

    /// Handles the result of an operation of a file that is being sent.
    pub(super) fn on_sender_op(
        &mut self,
        cx: &mut Context<'_>,
        slot: u8,
        number: OpNumber,
        result: Result<FileOutcome, Error>,
    ) {
        let sending = self.transfers().sending(slot);
        let result = match result {
            Ok(outcome) => Ok(sending.take(cx, outcome)),
            Err(error) => Err(disk_error(error)),
        };
        sending.sender.on_disk(number, result);
        self.run_sender(cx, slot);
        self.send_next_chunk(cx);
    }

    /// Performs the actions of a sender until it waits.
    pub(super) fn run_sender(&mut self, cx: &mut Context<'_>, slot: u8) {
        // Bytes that the system sends by itself do not pass the record layer.
        let has_records = self.has_records();
        loop {
            let transfers = self.transfers();
            let max_bytes = transfers.chunk_bytes;
            let sending = transfers.sending(slot);
            let mut prefers_unread = |bytes| !has_records && cx.lane.prefers_sendfile(bytes);
            let mut sizes = ChunkSizes { max_bytes, prefers_unread: &mut prefers_unread };
            let Some(action) = sending.sender.poll(cx.now, &mut sizes) else { break };
            match action {
                SenderAction::Disk { number, op } => {
                    let op = sending.file_op(op);
                    self.submit_file(cx, slot, number, op);
                }
                SenderAction::Frame(SenderFrame::Offer) => self.say_offer(cx, slot),
                SenderAction::Frame(SenderFrame::Done(hash)) => {
                    let id = transfers.transfer(slot).id;
                    self.send_frame(cx, TransferFrame::Done { id, hash, delivery_id: None });
                }
                SenderAction::NeedFile => {
                    if self.request_lease(cx, Resource::SentFiles, slot, 1) {
                        self.transfers().sending(slot).sender.grant_file();
                    }
                }
                SenderAction::Close => sending.file = None,
                SenderAction::Need(bytes) => {
                    if self.request_lease(cx, Resource::Reads, slot, bytes) {
                        let memory = cx.worker.free_list.piece();
                        self.transfers().sending(slot).sender.grant(memory);
                    }
                }
                SenderAction::NeedRest => sending.sender.grant(cx.worker.free_list.piece()),
                SenderAction::Free(memory) => {
                    cx.worker.free_list.recycle(Segment::Owned(memory));
                }
                SenderAction::Notify(event) => self.on_sender_event(cx, slot, event),
                SenderAction::Release => return self.transfers().release(slot),
            }
        }
        self.transfers().note_ready(slot);
    }

    /// Sends the offer of the file. A repeated offer has the same number.
    fn say_offer(&mut self, cx: &mut Context<'_>, slot: u8) {
        let first = self.session.first_transfer_id();
        let transfers = self.transfers();
        let id = match transfers.transfer(slot).id {
            0 => transfers.assign_id(slot, first),
            id => id,
        };
        let sending = transfers.sending(slot);
        let name = sending.name.clone();
        let in_reply_to = sending.answers;
        let delivery_id = Some(sending.delivery_id);
        let Metadata { bytes, modified_ns, mode } = sending.opened().metadata;
        let entry = Entry {
            kind: EntryKind::File,
            size: bytes,
            modified_ns: Some(modified_ns),
            mode,
            name: name.as_str().as_bytes(),
        };
        let is_sent = self.send_frame(
            cx,
            TransferFrame::Offer {
                id,
                in_reply_to,
                entry,
                replace: Replace::Never,
                attributes: OfferAttributes { delivery_id, unknown_critical: None },
            },
        );
        if !is_sent {
            let text = "the name is too long for a frame of the peer";
            let error = TransferError::here(TransferErrorKind::BadName, text);
            self.transfers().unassign_id(slot);
            self.transfers().sending(slot).sender.end(error, Tell::Peer);
        }
    }

    fn on_sender_event(
        &mut self,
        cx: &mut Context<'_>,
        slot: u8,
        event: SenderEvent<TransferError>,
    ) {
        let (result, tell) = match event {
            SenderEvent::ResumedFrom(bytes) => {
                return self.transfers().sending(slot).progress.set_resumed_from(bytes);
            }
            SenderEvent::Ended { result, tell } => (result, tell),
        };
        let id = self.transfers().withdraw(slot);
        let sending = self.transfers().sending(slot);
        let progress = sending.progress.clone();
        let answers = sending.answers;
        let id = if id == 0 { answers } else { id };
        let result = result.map_err(|failure| self.say_end(cx, id, failure, tell));
        if let Err(error) = &result {
            self.count_failed(cx, slot, error);
        }
        let sending = self.transfers().sending(slot);
        match &result {
            Ok(hash) => sending.keep_hash(cx, *hash),
            Err(error) if error.doubts_the_file() => sending.forget_hash(cx),
            Err(_) => {}
        }
        self.notify(cx, progress, result);
    }
}
