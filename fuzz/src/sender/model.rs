//! The promises of a sender, kept beside it.

use posthouse_wire::{Chunk, DiskFailure, SenderFrame, SenderOp, TransferFailure, file_hash};

use super::{Error, content};
use crate::content::MAX_WHOLE_BYTES;
use crate::input::Input;

/// The maximum number of actions that follow an input.
pub(super) const MAX_ACTIONS: usize = 16;

/// The maximum number of bytes of a read for the comparison, whatever the size of a chunk is.
const MAX_PREFIX_READ_BYTES: usize = 256 * 1024;

/// The least capacity of memory that was lent.
const LENT_BYTES: usize = 64;

#[expect(clippy::struct_excessive_bools, reason = "each is a fact that a check needs")]
pub(super) struct Model {
    pub(super) max_chunk_bytes: usize,
    /// The size of the file.
    pub(super) size: u64,
    /// The hash with which the file was opened last, before its bytes were read or sent.
    pub(super) known: Option<[u8; 32]>,
    /// Whether the file has been opened again since the last accept.
    is_reopened: bool,
    /// Whether the file did not exist any more when it was opened again.
    is_gone: bool,
    pub(super) offers: u32,
    /// The valid accepts.
    pub(super) accepts: u32,
    /// The offset up to which bytes may be sent.
    pub(super) limit: u64,
    /// The number of bytes that the receiver says it has.
    held: u64,
    sent: u64,
    /// Whether a chunk is on its way out, and is not read before.
    pub(super) is_leaving: bool,
    pub(super) is_unread: bool,
    /// Whether the file became shorter, or has changed.
    pub(super) is_cut: bool,
    /// Whether the second accept claims bytes that are not those of the file.
    pub(super) is_doomed: bool,
    is_checked: bool,
    pub(super) said_hash: Option<[u8; 32]>,
    /// The hash in the last done of the receiver.
    pub(super) confirmed: Option<[u8; 32]>,
    /// The result, once the program was told.
    pub(super) result: Option<Result<[u8; 32], TransferFailure<Error>>>,
    pub(super) is_released: bool,
    lent: usize,
}

impl Model {
    pub(super) fn new(input: &mut Input<'_>, max_chunk_bytes: usize) -> Self {
        let size = input.number().min(i64::MAX as u64);
        let known = input.rarely(4).then(|| known_hash(size));
        Self {
            max_chunk_bytes,
            size,
            known,
            is_reopened: false,
            is_gone: false,
            offers: 0,
            accepts: 0,
            limit: 0,
            held: 0,
            sent: 0,
            is_leaving: false,
            is_unread: false,
            is_cut: false,
            is_doomed: false,
            is_checked: false,
            said_hash: None,
            confirmed: None,
            result: None,
            is_released: false,
            lent: 0,
        }
    }

    /// Returns the maximum number of bytes of a read.
    pub(super) fn max_read_bytes(&self) -> usize {
        self.max_chunk_bytes.max(MAX_PREFIX_READ_BYTES)
    }

    /// Returns whether an offer waits for its accept.
    pub(super) fn is_offered(&self) -> bool {
        self.offers > self.accepts && self.result.is_none()
    }

    pub(super) fn on_accept(&mut self, offset: u64, limit: u64) {
        if self.is_offered() && offset <= self.size && limit >= offset {
            self.accepts += 1;
            self.limit = limit.min(self.size);
            self.held = offset;
            self.sent = offset;
            self.is_reopened = false;
        }
    }

    pub(super) fn on_credit(&mut self, limit: u64) {
        if self.accepts > 0 && self.accepts == self.offers {
            self.limit = self.limit.max(limit.min(self.size));
        }
    }

    /// Checks that an operation stays within the file and the credit.
    pub(super) fn check_op(&mut self, op: &SenderOp) {
        assert!(self.result.is_none(), "{op:?} after the end");
        match op {
            SenderOp::Open => assert_eq!(self.offers, 0),
            SenderOp::Reopen => assert_eq!(self.accepts, self.offers),
            SenderOp::Metadata => {
                assert_eq!(self.sent, self.size, "checked before the last byte");
                assert!(!self.is_leaving || !self.is_unread, "checked before it has left");
                self.is_checked = true;
            }
            SenderOp::Read { offset, bytes, memory } => {
                let end = offset + *bytes as u64;
                let compares = *offset < self.held;
                let max = if compares { MAX_PREFIX_READ_BYTES } else { self.max_chunk_bytes };
                assert!(memory.is_empty() && (1..=max).contains(bytes));
                let end_allowed = if compares { self.held } else { self.limit };
                assert!(end <= end_allowed, "read beyond the credit: {op:?}");
            }
            SenderOp::Probe { offset } => {
                assert!(self.known.is_some() && *offset < self.limit);
            }
        }
    }

    /// Returns the hash with which the file is opened again, which may be known by now, or not any
    /// more. The hash counts from the first time after an accept.
    pub(super) fn reopen(&mut self, changes: bool) -> Option<[u8; 32]> {
        let known = match self.known {
            Some(_) if changes => None,
            None if changes => Some(known_hash(self.size)),
            known => known,
        };
        if !std::mem::replace(&mut self.is_reopened, true) {
            self.known = known;
        }
        known
    }

    /// Takes note of an operation that fails.
    pub(super) fn fail(&mut self, op: &SenderOp, failure: DiskFailure) {
        let is_gone = *op == SenderOp::Reopen && failure == DiskFailure::NotFound;
        self.is_gone |= is_gone && self.result.is_none();
    }

    /// Checks that the sender needs credit, and has not sent the whole file.
    pub(super) fn check_idle(&self) {
        assert!(self.sent == self.limit && self.sent < self.size, "it waits for no credit");
        assert!(!self.is_leaving || !self.is_unread, "the system sends from the file");
    }

    pub(super) fn say(&mut self, frame: SenderFrame) {
        assert!(self.result.is_none() && self.said_hash.is_none(), "{frame:?} after the end");
        match frame {
            SenderFrame::Offer => {
                self.offers += 1;
                assert!(self.offers <= 2 && self.accepts == self.offers - 1);
                assert!(self.offers == 1 || self.held > 0, "offered again without a reason");
            }
            SenderFrame::Done(hash) => {
                assert!(self.is_checked && self.sent == self.size, "done too early");
                assert!(!self.is_cut, "done, and the file has changed");
                if self.size <= MAX_WHOLE_BYTES {
                    assert_eq!(hash, file_hash(&content(0, self.size as usize)));
                }
                self.said_hash = Some(hash);
            }
        }
    }

    pub(super) fn send(&mut self, offset: u64, chunk: &Chunk) {
        assert!(self.result.is_none() && self.accepts == self.offers);
        assert_eq!(offset, self.sent, "chunks are sent in order");
        assert!((1..=self.max_chunk_bytes).contains(&chunk.len()));
        self.sent += chunk.len() as u64;
        assert!(self.sent <= self.limit, "sent beyond the credit");
        match chunk {
            Chunk::Memory(memory) => assert_eq!(*memory, content(offset, memory.len())),
            Chunk::Unread { offset: from, .. } => {
                assert!(self.known.is_some() && *from == offset);
            }
        }
        self.is_leaving = true;
        self.is_unread = matches!(chunk, Chunk::Unread { .. });
    }

    pub(super) fn end(&mut self, result: Result<[u8; 32], TransferFailure<Error>>) {
        assert!(self.result.is_none(), "told of the end twice");
        if let Ok(hash) = &result {
            assert_eq!((self.said_hash, self.confirmed), (Some(*hash), Some(*hash)));
            assert!(!self.is_cut);
        }
        if self.is_gone {
            assert!(matches!(result, Err(TransferFailure::Changed(_))), "{result:?}");
        }
        self.result = Some(result);
    }

    // ---- memory ----

    pub(super) fn lend(&mut self) -> Vec<u8> {
        self.lent += 1;
        Vec::with_capacity(LENT_BYTES + self.max_chunk_bytes)
    }

    /// Takes memory back. The memory of a probe was not lent, and is smaller.
    pub(super) fn give_back(&mut self, memory: &Vec<u8>) {
        if memory.capacity() >= LENT_BYTES {
            self.lent = self.lent.checked_sub(1).expect("memory that was not lent");
        }
    }

    pub(super) fn check_end(&self, succeeds: bool) {
        assert_eq!(self.lent, 0, "memory that did not come back");
        let result = self.result.as_ref().expect("an end that was told");
        assert!(!succeeds || result.is_ok(), "{result:?}");
    }
}

/// Returns the hash of a file as the caller knows it. That of a large file is any.
fn known_hash(size: u64) -> [u8; 32] {
    match size {
        0..=MAX_WHOLE_BYTES => file_hash(&content(0, size as usize)),
        _ => [3; 32],
    }
}
