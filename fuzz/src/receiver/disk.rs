//! The disk of a receiver: one part and one file under the final name.

use posthouse_wire::{DiskError, DiskFailure, DiskOutcome, EntryKind, ReceiverOp};

use super::Error;
use super::model::Model;
use crate::content::content;
use crate::input::Input;

/// The file that the receiver finds under the final name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    File { bytes: u64 },
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact that a check needs")]
pub(super) struct Disk {
    found: Found,
    has_directory: bool,
    /// The bytes of the part that it had at the beginning, if it exists.
    old_bytes: u64,
    /// Whether the old bytes are those of the file.
    is_old_right: bool,
    /// The bytes that were written.
    written: Vec<u8>,
    /// Whether the transfer has created the part.
    has_new_part: bool,
    is_published: bool,
    pub(super) has_new_directory: bool,
}

impl Disk {
    pub(super) fn new(input: &mut Input<'_>, size: u64) -> Self {
        let found = match input.byte() {
            0..0xd0 => Found::Nothing,
            0xd0..0xf0 => Found::File { bytes: size },
            _ => Found::File { bytes: input.near(size) },
        };
        let old_bytes = match input.byte() {
            0..0x80 => 0,
            0x80..0xc0 => size / 2,
            _ => input.near(size),
        };
        Self {
            found,
            has_directory: input.rarely(4),
            old_bytes,
            is_old_right: !input.rarely(4),
            written: Vec::new(),
            has_new_part: false,
            is_published: false,
            has_new_directory: false,
        }
    }

    /// Returns whether nothing keeps the right file from arriving.
    pub(super) fn is_right(&self) -> bool {
        self.found == Found::Nothing && self.is_old_right
    }

    pub(super) fn len(&self) -> u64 {
        self.old_bytes + self.written.len() as u64
    }

    /// Returns the number of bytes that were written since the part was opened or truncated.
    pub(super) fn written_bytes(&self) -> u64 {
        self.written.len() as u64
    }

    fn read(&self, offset: u64, bytes: usize) -> Vec<u8> {
        if self.found != Found::Nothing {
            return content(offset, bytes);
        }
        assert!(offset + bytes as u64 <= self.old_bytes, "a read of bytes that just came");
        let mut read = content(offset, bytes);
        if !self.is_old_right && offset == 0 {
            read[0] ^= 0x80;
        }
        read
    }

    /// Performs an operation; `choice` may make it end short.
    pub(super) fn perform(
        &mut self,
        op: ReceiverOp,
        choice: u8,
        input: &mut Input<'_>,
        model: &mut Model,
    ) -> Result<DiskOutcome, DiskError<Error>> {
        let not_found = DiskError { failure: DiskFailure::NotFound, error: "not found" };
        Ok(match op {
            ReceiverOp::LookUp => match self.found {
                Found::Nothing => return Err(not_found),
                Found::File { bytes } => DiskOutcome::Found { bytes },
            },
            ReceiverOp::LookUpDirectory if self.has_directory => DiskOutcome::Done,
            ReceiverOp::LookUpDirectory => return Err(not_found),
            ReceiverOp::MakeDirectory => {
                self.has_new_directory = true;
                DiskOutcome::Done
            }
            ReceiverOp::OpenPart => {
                self.has_new_part = self.old_bytes == 0;
                DiskOutcome::Part { bytes: self.len() }
            }
            ReceiverOp::Read { offset, bytes, mut memory } => {
                let read = match choice {
                    0xec.. => 0,
                    0xa0.. => 1 + input.below(bytes),
                    _ => bytes,
                };
                model.is_faulty |= read == 0;
                if read > 0 {
                    memory.extend(self.read(offset, read));
                }
                model.hold(offset, &memory);
                DiskOutcome::Read(memory)
            }
            ReceiverOp::Truncate => {
                self.old_bytes = 0;
                self.written.clear();
                self.is_old_right = true;
                model.is_truncating = false;
                DiskOutcome::Done
            }
            ReceiverOp::Write { .. } => {
                let max = model.writing;
                let bytes = match choice {
                    0xec.. => 0,
                    0xa0.. => 1 + input.below(max),
                    _ => max,
                };
                model.is_faulty |= bytes == 0;
                self.written.extend(model.queue.drain(..bytes));
                DiskOutcome::Written(bytes)
            }
            ReceiverOp::Publish => {
                self.is_published = true;
                DiskOutcome::Done
            }
            ReceiverOp::RemovePart => {
                self.has_new_part = false;
                DiskOutcome::Done
            }
            // Nothing gives way.
            ReceiverOp::MakeRoom { .. } if choice < 0x80 => {
                return Err(DiskError { failure: DiskFailure::Other, error: "no parts" });
            }
            ReceiverOp::MakeRoom { .. }
            | ReceiverOp::Count
            | ReceiverOp::Sync
            | ReceiverOp::SyncName => DiskOutcome::Done,
        })
    }

    /// Returns whether the transfer has made a file that was not there before.
    pub(super) fn has_new_file(&self) -> bool {
        self.has_new_part || self.is_published
    }

    /// Returns whether the offered file or directory has its name.
    pub(super) fn is_there(&self, kind: EntryKind) -> bool {
        match kind {
            EntryKind::File => self.is_published || self.found != Found::Nothing,
            EntryKind::Directory => self.has_directory || self.has_new_directory,
        }
    }

    /// Returns whether the part has exactly these bytes.
    pub(super) fn holds(&self, whole: &[u8]) -> bool {
        let mut bytes = self.read_old();
        bytes.extend_from_slice(&self.written);
        bytes == whole
    }

    fn read_old(&self) -> Vec<u8> {
        if self.old_bytes == 0 { Vec::new() } else { self.read(0, self.old_bytes as usize) }
    }
}
