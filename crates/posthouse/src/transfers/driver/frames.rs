//! The frames of the peer: each belongs to a transfer or request, or starts one with a new number.

use posthouse_wire::{
    Entry, FileName, OfferAttributes, Tell, TransferFrame, TransferViolation, Violation, abort_code,
};

use super::sending::Source;
use super::table::{Side, TransferState};
use crate::connection::{Context, Strand};
use crate::transfer::{
    Offer, OfferFacts, Source as PublicSource, TransferError, TransferErrorKind, TransferHandle,
};

impl Strand {
    pub(super) fn take_transfer_frame(
        &mut self,
        cx: &mut Context<'_>,
        frame: TransferFrame<'_>,
    ) -> Result<(), Violation> {
        self.transfers().last_activity = cx.now;
        match frame {
            TransferFrame::Offer { id, in_reply_to, entry, replace, attributes } => {
                if let Some(slot) = self.transfers().slot_by_id(id) {
                    return self.on_repeated_offer(cx, slot, frame.kind());
                }
                if self.known_id(id, frame.kind()).is_ok() {
                    return Ok(()); // a repeated offer of a transfer that has ended meanwhile
                }
                self.open_id(id, frame.kind())?;
                let OfferAttributes { delivery_id, unknown_critical } = attributes;
                if let Some(attribute) = unknown_critical {
                    let text =
                        format!("the receiver does not know the critical attribute {attribute}");
                    let code = abort_code::UNKNOWN_ATTRIBUTE;
                    self.reject_offer(cx, id, in_reply_to, code, &text);
                    return Ok(());
                }
                let name = match FileName::from_wire(entry.name) {
                    Ok(name) => name,
                    Err(error) => {
                        let text = error.to_string();
                        self.reject_offer(cx, id, in_reply_to, abort_code::BAD_NAME, &text);
                        return Ok(());
                    }
                };
                let Entry { kind, size, modified_ns, mode, .. } = entry;
                let facts = OfferFacts { kind, size, modified_ns, mode, replace, delivery_id };
                let offer = Offer { name: name.as_str(), facts };
                self.on_offer(cx, id, in_reply_to, &offer);
            }
            TransferFrame::Working { id } => self.known_id(id, frame.kind())?,
            TransferFrame::Get { id, name } => {
                self.open_id(id, frame.kind())?;
                self.on_get(cx, id, name);
            }
            TransferFrame::List { id, after } => {
                self.open_id(id, frame.kind())?;
                self.on_list(cx, id, after);
            }
            TransferFrame::Listed { id, more, entries } => {
                self.known_id(id, frame.kind())?;
                self.on_listing(cx, id, more, entries);
            }
            TransferFrame::Abort { id, code, text } => {
                self.known_id(id, frame.kind())?;
                self.on_abort(cx, id, TransferError::of_peer(code, text));
            }
            TransferFrame::Accept { id, .. }
            | TransferFrame::Chunk { id, .. }
            | TransferFrame::Credit { id, .. }
            | TransferFrame::Done { id, .. } => {
                self.known_id(id, frame.kind())?;
                if let Some(slot) = self.transfers().slot_by_id(id) {
                    self.on_frame_of_transfer(cx, slot, frame);
                }
            }
        }
        self.run_waiting(cx);
        Ok(())
    }

    /// Checks the number of a transfer or request that the peer starts: it must be one of the
    /// numbers of the peer, and new.
    fn open_id(&mut self, id: u32, kind: u8) -> Result<(), Violation> {
        if self.session.is_local_transfer(id) || id <= self.transfers().last_peer_id {
            return Err(Violation::OutOfState { kind });
        }
        self.transfers().last_peer_id = id;
        Ok(())
    }

    /// Checks the number of a transfer or request that was started and may have ended.
    fn known_id(&mut self, id: u32, kind: u8) -> Result<(), Violation> {
        let begun = match self.session.is_local_transfer(id) {
            true => self.transfers().has_begun(id),
            false => id <= self.transfers().last_peer_id,
        };
        if begun { Ok(()) } else { Err(Violation::OutOfState { kind }) }
    }

    fn on_repeated_offer(
        &mut self,
        cx: &mut Context<'_>,
        slot: u8,
        kind: u8,
    ) -> Result<(), Violation> {
        let result = match &mut self.transfers().transfer(slot).state {
            TransferState::Receiving(receiving) => receiving.receiver.offered_again(),
            _ => Err(TransferViolation::OutOfTurn { kind }),
        };
        if result.is_ok() {
            self.run_receiver(cx, slot);
        }
        result.map_err(|_| Violation::OutOfState { kind })
    }

    fn on_get(&mut self, cx: &mut Context<'_>, id: u32, name: &[u8]) {
        let name = match FileName::from_wire(name) {
            Ok(name) => name,
            Err(error) => return self.refuse(cx, id, abort_code::BAD_NAME, &error.to_string()),
        };
        if !self.may_begin(cx, id) {
            return;
        }
        let answer =
            self.ask(cx, |callbacks, output| callbacks.download_requested(output, name.as_str()));
        let source = match answer {
            Ok(source) => source,
            Err(reject) => return self.refuse(cx, id, abort_code::REFUSED, &reject.text),
        };
        if let Err(error) = FileName::parse(&source.path) {
            return self.refuse(cx, id, abort_code::BAD_NAME, &error.to_string());
        }
        let progress = TransferHandle::new(name.as_str(), false);
        let PublicSource { directory, path, delivery_id, .. } = source;
        let source = Source { directory: &directory, path: &path, name, delivery_id };
        self.begin_sending(cx, id, source, progress);
    }

    /// Returns whether the peer may start a transfer or request; refuses it otherwise.
    pub(super) fn may_begin(&mut self, cx: &mut Context<'_>, id: u32) -> bool {
        if self.is_unadmitted() {
            self.refuse(cx, id, abort_code::REFUSED, "the connection is not admitted yet");
            return false;
        }
        let max = self.max_transfers();
        let has_room = self.transfers().has_room(Side::Peer, max);
        if !has_room {
            let text = "too many transfers on this connection";
            self.refuse(cx, id, abort_code::BUSY, text);
        }
        has_room
    }

    /// Handles the abort of the peer.
    fn on_abort(&mut self, cx: &mut Context<'_>, id: u32, error: TransferError) {
        let transfers = self.transfers();
        if let Some(slot) = transfers.slot_by_id(id) {
            return self.end_transfer(cx, slot, error, Tell::Nobody);
        }
        if let Some(get) = transfers.gets.remove(&id) {
            return self.notify(cx, get.progress, Err(error));
        }
        if let Some(list) = transfers.lists.remove(&id) {
            return self.run_callback(cx, |callbacks, output| {
                list.then.into_inner()(callbacks, output, Err(error))
            });
        }
        if transfers.offers.remove(&id).is_some() {
            return; // the answer of the program will be too late
        }
        // The peer aborts its own request before this side has answered it.
        let answers = |state: &TransferState| match state {
            TransferState::Sending(sending) => sending.answers == id && !sending.sender.is_ended(),
            _ => false,
        };
        if let Some(slot) = transfers.slot_of(answers) {
            self.end_transfer(cx, slot, error, Tell::Nobody);
        }
    }

    /// Handles a frame that only the sender, or only the receiver, of a transfer may send.
    fn on_frame_of_transfer(&mut self, cx: &mut Context<'_>, slot: u8, frame: TransferFrame<'_>) {
        match (&mut self.transfers().transfer(slot).state, frame) {
            (
                TransferState::Sending(sending),
                TransferFrame::Accept { offset, limit, prefix, .. },
            ) => {
                sending.sender.on_accept(offset, limit, prefix);
                self.run_sender(cx, slot);
            }
            (TransferState::Sending(sending), TransferFrame::Credit { limit, .. }) => {
                sending.sender.on_credit(limit);
                self.run_sender(cx, slot);
            }
            (TransferState::Sending(sending), TransferFrame::Done { hash, .. }) => {
                sending.sender.on_done(hash);
                self.run_sender(cx, slot);
            }
            (TransferState::Receiving(_), TransferFrame::Chunk { bytes, .. }) => {
                self.on_chunk(cx, slot, bytes);
            }
            (TransferState::Receiving(receiving), TransferFrame::Done { hash, .. }) => {
                receiving.receiver.on_done(hash);
                self.run_receiver(cx, slot);
            }
            _ => {
                let text = "a frame arrived that only the other side of the transfer may send";
                let error = TransferError::here(TransferErrorKind::Protocol, text);
                self.end_transfer(cx, slot, error, Tell::Peer);
            }
        }
    }
}
