//! The chunks of all transfers of a connection: its output holds one chunk at a time.

use std::time::Duration;

use posthouse_io::{FileFault, FilePart, Segment};
use posthouse_wire::{Chunk, Tell};

use super::table::{LastChunk, Transfers};
use crate::connection::{Context, Strand};

/// The minimum size in bytes to which a slow line reduces the chunks.
const MIN_CHUNK_BYTES: usize = 4 * 1024;
/// The time to send a chunk above which the next chunks are halved, because a message may have to
/// wait for a chunk.
const MAX_CHUNK_TIME: Duration = Duration::from_millis(500);
/// The time to send a chunk below which the size of the next chunks is doubled.
const MIN_CHUNK_TIME: Duration = Duration::from_millis(50);

impl Transfers {
    /// Adds a transfer to the queue of the ready ones, if it has a chunk and is not there yet.
    pub(super) fn note_ready(&mut self, slot: u8) {
        if self.sending(slot).sender.has_chunk() && !self.ready.contains(&slot) {
            self.ready.push_back(slot);
        }
    }

    /// Returns the slot of the last queued chunk, if its transfer has not ended.
    pub(super) fn slot_of_last_chunk(&self) -> Option<u8> {
        let LastChunk { slot, id, .. } = self.last_chunk;
        self.slot_by_id(id).filter(|it| *it == slot)
    }

    /// Adapts the size of the next chunks to the time that the last chunk took to leave.
    fn adapt_chunk_bytes(&mut self, took: Duration, max: usize) {
        if took > MAX_CHUNK_TIME {
            self.chunk_bytes /= 2;
        } else if took < MIN_CHUNK_TIME {
            self.chunk_bytes *= 2;
        }
        self.chunk_bytes = self.chunk_bytes.max(MIN_CHUNK_BYTES).min(max);
    }
}

impl Strand {
    /// Queues the next chunk once the previous one has left, and starts the next reads.
    pub(super) fn send_next_chunk(&mut self, cx: &mut Context<'_>) {
        // A chunk whose read ends after the bye is too late: the bye is the last frame.
        if !self.may_transfer_now() || self.output.bulk_bytes() > 0 {
            return;
        }
        if let LastChunk { since: Some(since), bytes, .. } = self.transfers().last_chunk {
            let max = self.max_chunk_bytes(cx);
            let transfers = self.transfers();
            let slot = transfers.slot_of_last_chunk();
            transfers.last_chunk = LastChunk::default();
            transfers.moved_bytes += bytes;
            transfers.adapt_chunk_bytes(cx.now.saturating_sub(since), max);
            if let Some(slot) = slot {
                transfers.sending(slot).sender.chunk_left();
                self.run_sender(cx, slot);
            }
        }
        while let Some(slot) = self.transfers().ready.pop_front() {
            let chunk = self.transfers().sending(slot).sender.take_chunk();
            if let Some(chunk) = chunk {
                self.queue_chunk(cx, slot, chunk);
                return self.run_sender(cx, slot);
            }
            self.run_sender(cx, slot); // its file has become shorter
        }
    }

    fn queue_chunk(&mut self, cx: &mut Context<'_>, slot: u8, chunk: Chunk) {
        let transfers = self.transfers();
        let id = transfers.transfer(slot).id;
        let (bytes, has_file) = match &chunk {
            Chunk::Memory(memory) => (memory.len() as u64, false),
            Chunk::Unread { bytes, .. } => (*bytes as u64, true),
        };
        transfers.last_chunk = LastChunk { since: Some(cx.now), bytes, has_file, slot, id };
        transfers.last_said = cx.now;
        let sending = transfers.sending(slot);
        sending.progress.set_moved(sending.sender.sent());
        let segment = match chunk {
            Chunk::Memory(memory) => Segment::Owned(memory),
            Chunk::Unread { offset, bytes } => {
                Segment::File(Box::new(FilePart::new(sending.file(), offset, bytes)))
            }
        };
        let max = self.send_limits().max_payload_bytes;
        let head = self.append(&mut cx.worker.free_list, |tail| {
            posthouse_wire::encode_chunk_head(id, segment.len(), max, tail)
        });
        assert_eq!(head, Ok(()), "a chunk is larger than the peer accepts");
        self.output.push_bulk(&mut cx.worker.free_list, segment);
    }

    /// Fails the transfer of the last queued chunk, because zeros leave in place of the chunk. The
    /// transfer may have ended already.
    pub(crate) fn on_chunk_fault(&mut self, cx: &mut Context<'_>, fault: FileFault) {
        let Some(slot) = self.transfers().slot_of_last_chunk() else { return };
        let sending = self.transfers().sending(slot);
        match fault {
            FileFault::Short => sending.sender.chunk_cut(),
            FileFault::Failed(error) => sending.end(cx, error.into(), Tell::Peer),
        }
        self.run_sender(cx, slot);
    }
}
