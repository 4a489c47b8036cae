//! The listings that this side requests, and those that it sends.

use posthouse_io::{Error, FileEntry as IoEntry, FileOp, FileOutcome};
use posthouse_wire::{
    Entry, EntryKind, FileName, ListingEntries, OpNumber, TransferFrame, abort_code,
};

use super::table::{PendingList, Side, TransferState};
use super::{ListTask, unexpected};
use crate::connection::{Context, Strand};
use crate::transfer::{FileEntry, TransferError, TransferErrorKind};

/// The maximum number of entries of one answer; fewer if their names fill a frame.
const MAX_ENTRIES: usize = 1024;
/// The maximum size in bytes of one answer to a list. The entries that do not fit are left for the
/// next answer.
const MAX_LISTED_BYTES: usize = 64 * 1024;

/// A listing that the peer requested with this number.
pub(super) struct Listing {
    pub(super) id: u32,
    directory: posthouse_io::Directory,
}

impl Strand {
    pub(super) fn begin_list(&mut self, cx: &mut Context<'_>, after: &str, then: ListTask) {
        let first = self.session.first_transfer_id();
        let id = self.transfers().next_id(first);
        let until = cx.now + self.transfer_timeout();
        if self.send_frame(cx, TransferFrame::List { id, after: after.as_bytes() }) {
            self.transfers().lists.insert(id, PendingList { then, until });
        } else {
            let text = "the name to continue after is too long for a frame of the peer";
            let error = TransferError::here(TransferErrorKind::BadName, text);
            self.run_callback(cx, |callbacks, output| then(callbacks, output, Err(error)));
        }
    }

    /// Handles the answer of the peer. Entries with invalid names are left out.
    pub(super) fn on_listing(
        &mut self,
        cx: &mut Context<'_>,
        id: u32,
        entries: ListingEntries<'_>,
    ) {
        let Some(list) = self.transfers().lists.remove(&id) else { return };
        let entries = entries.filter_map(|entry| {
            let name = FileName::from_wire(entry.name).ok()?;
            let Entry { kind, size, modified_ns, mode, .. } = entry;
            let is_file = kind == EntryKind::File;
            is_file.then(|| FileEntry { name: name.as_str().into(), size, modified_ns, mode })
        });
        let entries = entries.collect();
        self.run_callback(cx, |callbacks, output| (list.then)(callbacks, output, Ok(entries)));
    }

    /// Handles the listing request of the peer.
    pub(super) fn on_list(&mut self, cx: &mut Context<'_>, id: u32, after: &[u8]) {
        let Ok(after) = std::str::from_utf8(after) else {
            return self.refuse(
                cx,
                id,
                abort_code::BAD_NAME,
                "the name to continue after is not UTF-8",
            );
        };
        if !self.may_begin(cx, id) {
            return;
        }
        match self.ask(cx, |callbacks, output| callbacks.list_requested(output, after)) {
            Err(reject) => self.refuse(cx, id, abort_code::REFUSED, &reject.text),
            Ok(directory) => {
                let directory = directory.io().clone();
                let listing = Listing { id, directory: directory.clone() };
                let list =
                    FileOp::List { directory, after: after.into(), max_entries: MAX_ENTRIES };
                self.begin_directory_op(cx, Side::Peer, TransferState::Listing(listing), list);
            }
        }
    }

    pub(super) fn on_listed(
        &mut self,
        cx: &mut Context<'_>,
        slot: u8,
        result: Result<FileOutcome, Error>,
    ) {
        let TransferState::Listing(Listing { id, directory }) =
            &self.transfers().transfer(slot).state
        else {
            unreachable!("the slot of a listing holds no listing");
        };
        let id = *id;
        let directory = directory.clone();
        match result {
            Ok(FileOutcome::Listed { entries, more }) => {
                let sent_frame = self.send_listed(cx, id, &entries, more);
                if let (false, Some(last)) = (sent_frame, entries.last()) {
                    // An answer can show none of these, and an empty one would mean the end.
                    let after = last.path.clone();
                    let list = FileOp::List { directory, after, max_entries: MAX_ENTRIES };
                    return self.submit_file(cx, slot, OpNumber(0), list);
                }
            }
            Ok(other) => unexpected(&other),
            Err(error) => self.send_abort(cx, id, &error.into()),
        }
        self.transfers().release(slot);
    }

    /// Sends as many entries as fit into a frame. Returns false if it has sent nothing, because the
    /// peer can be shown none of these entries and others follow.
    fn send_listed(
        &mut self,
        cx: &mut Context<'_>,
        id: u32,
        entries: &[IoEntry],
        more: bool,
    ) -> bool {
        // Files that could not be offered either are not shown.
        let entries = entries.iter().filter(|entry| FileName::parse(&entry.path).is_ok());
        let entries = entries.map(|entry| Entry {
            kind: EntryKind::File,
            size: entry.metadata.bytes,
            modified_ns: Some(entry.metadata.modified_ns),
            mode: entry.metadata.mode,
            name: entry.path.as_bytes(),
        });
        let max = self.send_limits().max_payload_bytes.min(MAX_LISTED_BYTES);
        let listed = self.append(&mut cx.worker.free_list, |tail| {
            posthouse_wire::encode_listed(id, more, entries, max, tail)
        });
        self.count_reply();
        listed.is_some()
    }
}
