//! The listings that this side requests, and those that it sends.

use posthouse_io::FileEntry as IoEntry;
use posthouse_wire::{Entry, EntryKind, FileName, ListingEntries, TransferFrame, abort_code};

use super::ListTask;
use super::table::{PendingList, Side, TransferState};
use super::walking::Purpose;
use crate::connection::{Context, Strand};
use crate::pace::{LISTED_BYTES_PER_UNIT, PASSED_NAMES_PER_UNIT, REJECTION};
use crate::transfer::{FileEntry, FileList, TransferError, TransferErrorKind};
use crate::transfers::walks::Snapshot;

/// The maximum number of entries of one answer; fewer if their names fill a frame.
const MAX_ENTRIES: usize = 1024;
/// The maximum size in bytes of one answer to a list. The entries that do not fit are left for the
/// next answer.
const MAX_LISTED_BYTES: usize = 64 * 1024;

/// The number of files after which a listing is aborted, if the peer accepts a name of none of
/// them.
const MAX_PASSED: usize = 16 * 1024;

/// A listing that the peer requested with this number.
pub(super) struct Listing {
    pub(super) id: u32,
}

impl Strand {
    pub(super) fn begin_list(&mut self, cx: &mut Context<'_>, after: &str, then: ListTask) {
        let first = self.session.first_transfer_id();
        let id = self.transfers().next_id(first);
        let until = cx.now + self.transfer_timeout();
        if self.send_frame(cx, TransferFrame::List { id, after: after.as_bytes() }) {
            self.transfers().lists.insert(id, PendingList { after: after.into(), then, until });
        } else {
            let text = "the name to continue after is too long for a frame of the peer";
            let error = TransferError::here(TransferErrorKind::BadName, text);
            self.run_callback(cx, |callbacks, output| {
                then.into_inner()(callbacks, output, Err(error))
            });
        }
    }

    /// Handles the answer of the peer.
    pub(super) fn on_listing(
        &mut self,
        cx: &mut Context<'_>,
        id: u32,
        more: bool,
        entries: ListingEntries<'_>,
    ) {
        let Some(list) = self.transfers().lists.remove(&id) else { return };
        let listed = file_list(&list.after, more, entries);
        self.run_callback(cx, |callbacks, output| {
            list.then.into_inner()(callbacks, output, listed)
        });
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
                let state = TransferState::Listing(Listing { id });
                let slot = self.transfers().insert(0, Side::Peer, state);
                let purpose = Purpose::List { id, after: after.into(), passed: 0 };
                self.request_walk(cx, slot, directory, purpose);
            }
        }
    }

    /// Sends as many entries as fit into a frame, or an abort. Returns false if it has sent nothing
    /// yet, because the peer can be shown none of the snapshot's entries and others follow. Then
    /// `after` is the last of them, and `passed` counts them.
    pub(super) fn send_listed(
        &mut self,
        cx: &mut Context<'_>,
        id: u32,
        after: &mut Box<str>,
        passed: &mut usize,
        snapshot: &Snapshot,
    ) -> bool {
        let max = self.send_limits().max_payload_bytes.min(MAX_LISTED_BYTES);
        let pages = snapshot.entries_after(after).chunks(MAX_ENTRIES);
        let count = pages.len();
        let mut last = None;
        for (page, entries) in pages.enumerate() {
            let more = snapshot.more || page + 1 < count;
            let before = self.output.queued_bytes();
            let listed = self.append(&mut cx.worker.free_list, |tail| {
                posthouse_wire::encode_listed(id, more, entries.iter().map(entry), max, tail)
            });
            if listed.is_some() {
                let bytes = self.output.queued_bytes() - before;
                let units = bytes.div_ceil(LISTED_BYTES_PER_UNIT);
                self.count_reply(cx, units as u64);
                return true;
            }
            // An answer can show none of these, and an empty one would mean the end.
            *passed += entries.len();
            self.count_work(cx, entries.len().div_ceil(PASSED_NAMES_PER_UNIT) as u64);
            last = entries.last();
            if *passed >= MAX_PASSED {
                let text =
                    "the largest payload of the peer is too small for the names of the files";
                self.refuse(cx, id, abort_code::BAD_NAME, text);
                return true;
            }
        }
        if let Some(last) = last {
            *after = last.path.clone();
            return false;
        }
        // There are no files after the name.
        self.append(&mut cx.worker.free_list, |tail| {
            posthouse_wire::encode_listed(id, false, [], max, tail)
        });
        self.count_reply(cx, REJECTION);
        true
    }
}

/// Converts the answer of a peer to the request for the names after `after`.
///
/// # Errors
///
/// The names do not ascend, or the list cannot be continued: such a list might never end.
fn file_list(
    after: &str,
    more: bool,
    entries: ListingEntries<'_>,
) -> Result<FileList, TransferError> {
    let broken = |text: &str| TransferError::here(TransferErrorKind::Protocol, text);
    let mut page = FileList::default();
    let mut last = after.as_bytes();
    for Entry { kind, size, modified_ns, mode, name } in entries {
        if name <= last {
            return Err(broken("the names in the list of the peer do not ascend"));
        }
        last = name;
        match (kind, FileName::from_wire(name)) {
            (EntryKind::Directory, _) => {}
            (EntryKind::File, Ok(name)) => {
                let name = name.as_str().into();
                page.files.push(FileEntry { name, size, modified_ns, mode });
            }
            (EntryKind::File, Err(_)) => page.invalid_names.push(name.into()),
        }
    }
    if more {
        let last = std::str::from_utf8(last);
        let text = "the list of the peer cannot be continued after a name that is not UTF-8";
        page.next = Some(last.map_err(|_| broken(text))?.into());
    }
    Ok(page)
}

fn entry(entry: &IoEntry) -> Entry<'_> {
    Entry {
        kind: EntryKind::File,
        size: entry.metadata.bytes,
        modified_ns: Some(entry.metadata.modified_ns),
        mode: entry.metadata.mode,
        name: entry.path.as_bytes(),
    }
}
