//! The promises of a receiver, kept beside it.

use std::collections::VecDeque;

use posthouse_wire::{
    FileReceiver, ReceiverConfig, ReceiverOp, Room, TransferFailure, TransferFrame, file_hash,
};

use super::Error;
use super::disk::Disk;
use crate::content::MAX_WHOLE_BYTES;

/// The maximum number of actions that follow an input.
pub(super) const MAX_ACTIONS: usize = 16;

#[expect(clippy::struct_excessive_bools, reason = "each is a fact that a check needs")]
pub(super) struct Model {
    pub(super) config: ReceiverConfig,
    /// Whether the last offer was accepted.
    pub(super) is_accepted: bool,
    /// The offset up to which the sender may send.
    pub(super) limit: u64,
    /// The bytes for which memory was asked, and those for which it was granted since the accept.
    asked: u64,
    granted: u64,
    pub(super) received: u64,
    /// The bytes that were received and not written.
    pub(super) queue: VecDeque<u8>,
    /// The number of bytes, the first of the queue, that a write in flight covers.
    pub(super) writing: usize,
    /// Whether a chunk has come since the last accept.
    has_chunks: bool,
    /// Whether the part is being truncated, or that has failed.
    pub(super) is_truncating: bool,
    is_publishing: bool,
    /// Whether bytes before those of the queue are lost.
    pub(super) is_torn: bool,
    /// The content as the receiver has seen it, if it is small.
    whole: Vec<u8>,
    /// The hash that the sender said, if it is right.
    pub(super) verified: Option<[u8; 32]>,
    /// Whether something has happened that may keep the file from arriving.
    pub(super) is_faulty: bool,
    /// The reserved bytes, files and directories.
    pub(super) reserved: Option<[u64; 3]>,
    /// Whether the receiver has counted its bytes without a reservation, which only the last action
    /// may follow.
    pub(super) is_settled: bool,
    lent: usize,
    has_said_done: bool,
    /// The result, once the program was told.
    pub(super) result: Option<Result<[u8; 32], TransferFailure<Error>>>,
    pub(super) is_released: bool,
}

impl Model {
    pub(super) fn new(config: ReceiverConfig) -> Self {
        Self {
            config,
            is_accepted: false,
            limit: 0,
            asked: 0,
            granted: 0,
            received: 0,
            queue: VecDeque::new(),
            writing: 0,
            has_chunks: false,
            is_truncating: false,
            is_publishing: false,
            is_torn: false,
            whole: Vec::new(),
            verified: None,
            is_faulty: false,
            reserved: None,
            is_settled: false,
            lent: 0,
            has_said_done: false,
            result: None,
            is_released: false,
        }
    }

    fn is_small(&self) -> bool {
        self.config.size <= MAX_WHOLE_BYTES
    }

    // ---- the sender ----

    /// Returns whether a chunk of this size keeps the rules.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        let end = self.received.saturating_add(bytes as u64);
        self.is_accepted
            && self.result.is_none()
            && self.verified.is_none()
            && end <= self.limit.min(self.config.size)
    }

    pub(super) fn take(&mut self, chunk: &[u8]) {
        self.has_chunks = true;
        self.received += chunk.len() as u64;
        self.queue.extend(chunk);
        if self.is_small() {
            self.whole.extend_from_slice(chunk);
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.is_accepted && self.received == self.config.size && self.verified.is_none()
    }

    /// Returns the hash of the file, if all of it was received.
    pub(super) fn hash(&self) -> Option<[u8; 32]> {
        (self.is_small() && self.is_whole()).then(|| file_hash(&self.whole))
    }

    pub(super) fn on_done(&mut self, hash: [u8; 32]) {
        if self.result.is_none() && self.hash() == Some(hash) {
            self.verified = Some(hash);
        } else {
            self.is_faulty = true;
        }
    }

    pub(super) fn discard(&mut self) {
        self.queue.clear();
        self.is_torn = false;
    }

    /// Returns whether the sender may say that the held bytes are not those of its file.
    pub(super) fn may_restart(&self) -> bool {
        self.is_accepted && !self.has_chunks && self.received > 0 && self.verified.is_none()
    }

    /// Takes note of a repeated offer.
    pub(super) fn restart(&mut self) {
        assert!(!self.has_chunks, "bytes have come");
        self.is_accepted = false;
        self.limit = 0;
        self.received = 0;
        self.granted = 0;
        self.whole.clear();
    }

    // ---- the receiver ----

    pub(super) fn say(&mut self, frame: &TransferFrame<'_>) {
        assert!(self.result.is_none(), "{frame:?} after the end");
        assert_eq!(frame.id(), self.config.id);
        match *frame {
            TransferFrame::Accept { offset, limit, prefix, .. } => {
                assert!(!self.is_accepted && offset <= limit);
                if self.is_small() {
                    assert_eq!(self.whole.len() as u64, offset);
                    assert_eq!(prefix, file_hash(&self.whole));
                }
                self.is_accepted = true;
                self.received = offset;
                self.check_limit(offset, limit);
            }
            TransferFrame::Credit { limit, .. } => {
                assert!(self.is_accepted && limit > self.limit, "credit that gives nothing");
                self.check_limit(self.limit, limit);
            }
            TransferFrame::Done { hash, delivery_id, .. } => {
                assert_eq!(delivery_id, self.config.delivery_id);
                assert!(!self.has_said_done && self.result.is_none());
                self.has_said_done = true;
                if self.verified.is_some() {
                    assert_eq!(self.verified, Some(hash));
                } else {
                    assert_eq!(hash, file_hash(b""), "done before the sender's");
                }
            }
            ref other => panic!("a receiver says {other:?}"),
        }
    }

    /// Checks that nothing is promised without memory, and nothing beyond the file.
    fn check_limit(&mut self, from: u64, limit: u64) {
        assert!(limit <= self.config.size, "credit beyond the file");
        assert!(limit - from <= self.granted, "credit without memory");
        self.granted -= limit - from;
        self.limit = limit;
    }

    pub(super) fn ask_window(&mut self, bytes: usize) {
        assert!(self.result.is_none() && bytes > 0);
        assert!(bytes as u64 <= self.config.window_bytes);
        self.asked = bytes as u64;
    }

    pub(super) fn grant_window(&mut self) {
        self.granted += std::mem::take(&mut self.asked);
    }

    pub(super) fn check_op(&mut self, op: &ReceiverOp, disk: &Disk) {
        match op {
            ReceiverOp::Write { offset, max_bytes } => {
                assert_eq!(*offset, disk.len(), "in order, without gaps");
                assert!(!self.queue.is_empty() && *max_bytes > 0, "a write of nothing");
                assert!(!self.is_torn, "a write behind one that failed");
                self.writing = self.queue.len().min(*max_bytes);
            }
            ReceiverOp::Read { bytes, memory, .. } => {
                assert!(memory.is_empty() && (1..=256 * 1024).contains(bytes));
                assert!(self.result.is_none());
            }
            ReceiverOp::Publish => {
                assert!(self.queue.is_empty(), "published before it is written");
                let hash = self.verified.expect("published before it is verified");
                self.is_publishing = true;
                assert_eq!(disk.len(), self.config.size);
                assert_eq!(file_hash(&self.whole), hash);
                assert!(disk.holds(&self.whole), "other bytes than the verified ones");
            }
            ReceiverOp::SyncName => assert!(self.verified.is_some()),
            ReceiverOp::RemovePart => self.check_removal(disk),
            ReceiverOp::Truncate => {
                assert!(self.queue.is_empty());
                self.is_truncating = true;
            }
            _ => assert!(self.result.is_none(), "{op:?} after the end"),
        }
    }

    /// Checks that nothing is lost that the next attempt could go on with.
    fn check_removal(&self, disk: &Disk) {
        let is_useless = match &self.result {
            None => false,
            Some(Ok(_) | Err(TransferFailure::HashDiffers | TransferFailure::Given("changed"))) => {
                true
            }
            Some(Err(_)) => self.is_publishing || self.is_truncating || disk.len() == 0,
        };
        assert!(is_useless, "{} bytes of a part are removed: {:?}", disk.len(), self.result);
    }

    /// Takes note of bytes that the receiver has read.
    pub(super) fn hold(&mut self, offset: u64, bytes: &[u8]) {
        if self.is_small() && self.result.is_none() {
            let at = offset as usize;
            self.whole.resize(self.whole.len().max(at + bytes.len()), 0);
            self.whole[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    pub(super) fn end(&mut self, result: Result<[u8; 32], TransferFailure<Error>>, disk: &Disk) {
        assert!(self.result.is_none(), "told of the end twice");
        assert_eq!(result.is_ok(), self.has_said_done, "done, and no other end");
        if result.is_ok() {
            assert!(disk.is_there(self.config.kind), "done, and nothing is there");
        }
        self.result = Some(result);
    }

    // ---- what was lent ----

    pub(super) fn lend(&mut self) -> Vec<u8> {
        self.lent += 1;
        Vec::new()
    }

    pub(super) fn give_back(&mut self) {
        self.lent = self.lent.checked_sub(1).expect("memory that was not lent");
    }

    pub(super) fn ask_room(&self) {
        assert_eq!(self.reserved, None, "room is reserved already");
    }

    pub(super) fn change_room(&mut self, room: Room, disk: &Disk) {
        if let Room::Spend { bytes } = room {
            assert_eq!(bytes, disk.written_bytes(), "the bytes of this transfer");
        }
        let Some([bytes, files, directories]) = self.reserved else {
            // Nothing was reserved, or it was spent or returned before the end.
            let is_settlement = matches!(room, Room::Spend { .. });
            assert!(is_settlement || room == Room::Return, "{room:?} without a reservation");
            self.is_settled |= is_settlement;
            return;
        };
        let less = |from: u64, by| from.checked_sub(by).expect("more than was reserved");
        self.reserved = match room {
            Room::Reserve { .. } => unreachable!("answered elsewhere"),
            Room::Shrink { bytes: by, files: of } => {
                Some([less(bytes, by), less(files, of), directories])
            }
            Room::Extend { bytes: by } => {
                Some([bytes.checked_add(by).expect("more than there is"), files, directories])
            }
            Room::Spend { bytes: spent } => {
                less(bytes, spent);
                assert!(files == 0 || disk.has_new_file(), "a file that does not exist is counted");
                assert!(directories == 0 || disk.has_new_directory, "a directory, likewise");
                None
            }
            Room::Return => None,
        };
    }

    pub(super) fn check_end(&self, succeeds: bool, receiver: &FileReceiver<Error>) {
        assert_eq!(self.lent, 0, "memory that did not come back");
        assert_eq!(self.reserved, None, "room that did not come back");
        assert_eq!(receiver.window_bytes(), 0, "a window that did not come back");
        let result = self.result.as_ref().expect("an end that was told");
        assert!(!succeeds || result.is_ok(), "{result:?}");
    }
}
