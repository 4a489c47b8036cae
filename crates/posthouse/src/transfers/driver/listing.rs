//! What files there are: asked of the peer, and answered.

use posthouse_io::{Error, FileEntry as IoEntry, FileOp, FileOutcome};
use posthouse_wire::{FileName, ListingEntries, ListingEntry, TransferFrame, abort_code};

use super::{ListTask, PendingList, TransferCx, TransferState, Transfers};
use crate::transfer::{FileEntry, TransferError, TransferErrorKind};

/// ListingEntries that one answer has at most; fewer where their names fill a frame.
const MAX_ENTRIES: usize = 1024;
/// Bytes that one answer has at most.
const MAX_LISTED_BYTES: usize = 64 * 1024;

/// A listing that the peer asked for, under this number.
pub(super) struct Listing {
    id: u32,
    directory: posthouse_io::Directory,
}

impl Transfers {
    pub(super) fn begin_list(&mut self, tcx: &mut TransferCx<'_, '_>, after: &str, then: ListTask) {
        let id = self.next_id(tcx);
        let until = tcx.timeout_at();
        if tcx.send_frame(TransferFrame::List { id, after: after.as_bytes() }) {
            self.lists.insert(id, PendingList { then, until });
        } else {
            let error = TransferError::here(TransferErrorKind::BadName, "");
            tcx.strand
                .run_callback(tcx.cx, |callbacks, output| then(callbacks, output, Err(error)));
        }
    }

    /// The peer's answer. Names that are none are left out.
    pub(super) fn on_listing(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        id: u32,
        entries: ListingEntries<'_>,
    ) {
        let Some(list) = self.lists.remove(&id) else { return };
        let entries = entries.filter_map(|entry| {
            let name = FileName::from_wire(entry.name).ok()?;
            let ListingEntry { size, modified_ms, executable, .. } = entry;
            Some(FileEntry { name: name.as_str().into(), size, modified_ms, executable })
        });
        let entries = entries.collect();
        tcx.strand
            .run_callback(tcx.cx, |callbacks, output| (list.then)(callbacks, output, Ok(entries)));
    }

    /// The peer asks.
    pub(super) fn on_list(&mut self, tcx: &mut TransferCx<'_, '_>, id: u32, after: &[u8]) {
        let Ok(after) = std::str::from_utf8(after) else {
            return tcx.refuse(id, abort_code::BAD_NAME, "not UTF-8");
        };
        if tcx.strand.is_unadmitted() {
            return tcx.refuse(id, abort_code::REFUSED, "not admitted yet");
        }
        if !self.has_room(true, tcx.max_transfers()) {
            return tcx.refuse(id, abort_code::BUSY, "too many transfers on this connection");
        }
        match tcx.ask(|callbacks, output| callbacks.list_requested(output, after)) {
            Err(reject) => tcx.refuse(id, abort_code::REFUSED, &reject.text),
            Ok(directory) => {
                let directory = directory.io().clone();
                let after = after.into();
                let listing = Listing { id, directory: directory.clone() };
                let list = FileOp::List { directory, after, max_entries: MAX_ENTRIES };
                self.begin(tcx, true, TransferState::Listing(listing), list);
            }
        }
    }

    pub(super) fn on_listed(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        slot: u8,
        result: Result<FileOutcome, Error>,
    ) {
        let TransferState::Listing(listing) = &self.transfer(slot).state else {
            unreachable!("a transfer that lists");
        };
        let id = listing.id;
        match result {
            Ok(FileOutcome::Listed { entries, more }) => {
                let sent_frame = listed(tcx, id, &entries, more);
                if let (false, Some(last)) = (sent_frame, entries.last()) {
                    // Nothing of it can be shown, and an empty answer would mean the end.
                    let (directory, after) = (listing.directory.clone(), last.path.clone());
                    let list = FileOp::List { directory, after, max_entries: MAX_ENTRIES };
                    return self.submit(tcx, slot, list);
                }
            }
            Ok(other) => unreachable!("a listing was answered {other:?}"),
            Err(error) => tcx.abort(id, &error.into()),
        }
        self.release(slot);
    }
}

/// Says as many entries as a frame takes; `after` goes on from there. False: nothing was said, for
/// none of these can be shown and others follow.
fn listed(tcx: &mut TransferCx<'_, '_>, id: u32, entries: &[IoEntry], more: bool) -> bool {
    // What could not be offered either is not shown.
    let entries = entries.iter().filter(|entry| FileName::parse(&entry.path).is_ok());
    let entries = entries.map(|entry| ListingEntry {
        size: entry.metadata.bytes,
        modified_ms: Some(entry.metadata.modified_ms),
        executable: entry.metadata.executable,
        name: entry.path.as_bytes(),
    });
    let max = tcx.strand.send_limits().max_payload_bytes;
    let listed = tcx.strand.append(&mut tcx.cx.worker.free_list, |tail| {
        posthouse_wire::encode_listed(id, more, entries, max.min(MAX_LISTED_BYTES), tail)
    });
    listed.is_some()
}
