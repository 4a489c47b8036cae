//! What the peer says of files: where each frame goes, and what a new number may be.

use posthouse_wire::{FileName, TransferFrame, Violation, abort_code};

use super::{MAX_SLOTS, PendingGet, PendingOffer, TransferCx, TransferState, Transfers};
use crate::responder::OfferResponder;
use crate::transfer::{
    Destination, Offer, Reject, TransferError, TransferErrorKind, TransferHandle,
};

impl Transfers {
    pub(super) fn on_frame(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        frame: TransferFrame<'_>,
    ) -> Result<(), Violation> {
        self.last_activity = tcx.cx.now;
        match frame {
            TransferFrame::Offer { id, in_reply_to, size, modified_ms, executable, name } => {
                if let Some(slot) = self.slots_by_id.get(&id).copied() {
                    return self.offered_again(tcx, slot, frame.kind());
                }
                if self.known_id(tcx, id, frame.kind()).is_ok() {
                    return Ok(()); // said again, and over meanwhile
                }
                self.open_id(tcx, id, frame.kind())?;
                let name = match FileName::from_wire(name) {
                    Ok(name) => name,
                    Err(error) => {
                        tcx.refuse(id, abort_code::BAD_NAME, &error.to_string());
                        return Ok(());
                    }
                };
                let offer = Offer { name: name.as_str(), size, modified_ms, executable };
                self.on_offer(tcx, (id, in_reply_to), &offer);
            }
            TransferFrame::Get { id, name } => {
                self.open_id(tcx, id, frame.kind())?;
                self.on_get(tcx, id, name);
            }
            TransferFrame::List { id, after } => {
                self.open_id(tcx, id, frame.kind())?;
                self.on_list(tcx, id, after);
            }
            TransferFrame::Listed { id, entries, .. } => {
                self.known_id(tcx, id, frame.kind())?;
                self.on_listing(tcx, id, entries);
            }
            TransferFrame::Abort { id, code, text } => {
                self.known_id(tcx, id, frame.kind())?;
                self.on_abort(tcx, id, TransferError::of_peer(code, text));
            }
            TransferFrame::Accept { id, .. }
            | TransferFrame::Chunk { id, .. }
            | TransferFrame::Credit { id, .. }
            | TransferFrame::Done { id, .. } => {
                self.known_id(tcx, id, frame.kind())?;
                if let Some(slot) = self.slots_by_id.get(&id).copied() {
                    self.on_transfer(tcx, slot, frame);
                }
            }
        }
        self.run_waiting(tcx);
        Ok(())
    }

    /// The peer begins something under a number of its own: a new one.
    fn open_id(&mut self, tcx: &TransferCx<'_, '_>, id: u32, kind: u8) -> Result<(), Violation> {
        if tcx.strand.session.is_local_transfer(id) || id <= self.last_peer_id {
            return Err(Violation::OutOfState { kind });
        }
        self.last_peer_id = id;
        Ok(())
    }

    /// The peer speaks of something that has been begun. It may be over.
    fn known_id(&self, tcx: &TransferCx<'_, '_>, id: u32, kind: u8) -> Result<(), Violation> {
        let begun = match tcx.strand.session.is_local_transfer(id) {
            true => id < self.next_id,
            false => id <= self.last_peer_id,
        };
        if begun { Ok(()) } else { Err(Violation::OutOfState { kind }) }
    }

    fn on_offer(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        (id, in_reply_to): (u32, u32),
        offer: &Offer<'_>,
    ) {
        if let Some(get) = self.gets.remove(&in_reply_to) {
            if self.slots_taken() >= MAX_SLOTS {
                let text = "too much waits for the disk";
                tcx.refuse(id, abort_code::BUSY, text);
                let busy = TransferError::here(TransferErrorKind::Busy, text);
                return tcx.notify(get.progress, Err(busy));
            }
            let PendingGet { directory, name, progress, .. } = get;
            return self.begin_receiving(tcx, (id, false), offer, (&directory, name), progress);
        }
        if in_reply_to != 0 {
            // What was asked for is not wanted any more.
            return tcx.refuse(id, abort_code::CANCELLED, "");
        }
        if tcx.strand.is_unadmitted() {
            return tcx.refuse(id, abort_code::REFUSED, "not admitted yet");
        }
        if !self.has_room(true, tcx.max_transfers()) {
            return tcx.refuse(id, abort_code::BUSY, "too many transfers on this connection");
        }
        let (shared, peer) = (tcx.cx.shared, tcx.strand.id);
        let mut responder = OfferResponder::new(shared, peer, id);
        let answer = tcx.ask(|callbacks, output| callbacks.offered(output, offer, &mut responder));
        match answer {
            Ok(Some(destination)) => self.accept_offer(tcx, id, offer, destination),
            Ok(None) if responder.is_taken() => self.keep_offer(tcx, id, offer),
            Ok(None) => tcx.refuse(id, abort_code::REFUSED, "the program gave no answer"),
            Err(reject) => tcx.refuse(id, abort_code::REFUSED, &reject.text),
        }
    }

    fn accept_offer(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        id: u32,
        offer: &Offer<'_>,
        destination: Destination,
    ) {
        let Destination { directory, name } = destination;
        match FileName::parse(name.as_deref().unwrap_or(offer.name)) {
            Ok(name) => {
                let progress = TransferHandle::new(offer.name, true);
                self.begin_receiving(tcx, (id, true), offer, (&directory, name), progress);
            }
            Err(error) => tcx.refuse(id, abort_code::BAD_NAME, &error.to_string()),
        }
    }

    /// The handler answers the offer later.
    fn keep_offer(&mut self, tcx: &mut TransferCx<'_, '_>, id: u32, offer: &Offer<'_>) {
        let Offer { name, size, modified_ms, executable } = *offer;
        let name = FileName::parse(name).expect("the name of an offer has been checked");
        let until = tcx.timeout_at();
        self.offers.insert(id, PendingOffer { name, size, modified_ms, executable, until });
    }

    /// The program answers an offer that it has kept, unless the offer has expired.
    pub(super) fn answer_offer(
        &mut self,
        tcx: &mut TransferCx<'_, '_>,
        id: u32,
        answer: Result<Destination, Reject>,
    ) {
        let Some(kept) = self.offers.remove(&id) else { return };
        let PendingOffer { ref name, size, modified_ms, executable, .. } = kept;
        let offer = Offer { name: name.as_str(), size, modified_ms, executable };
        match answer {
            // Others may have taken the places meanwhile.
            Ok(_) if self.slots_taken() >= MAX_SLOTS => {
                tcx.refuse(id, abort_code::BUSY, "too much waits for the disk");
            }
            Ok(destination) => self.accept_offer(tcx, id, &offer, destination),
            Err(reject) => tcx.refuse(id, abort_code::REFUSED, &reject.text),
        }
    }

    fn on_get(&mut self, tcx: &mut TransferCx<'_, '_>, id: u32, name: &[u8]) {
        let name = match FileName::from_wire(name) {
            Ok(name) => name,
            Err(error) => return tcx.refuse(id, abort_code::BAD_NAME, &error.to_string()),
        };
        if tcx.strand.is_unadmitted() {
            return tcx.refuse(id, abort_code::REFUSED, "not admitted yet");
        }
        if !self.has_room(true, tcx.max_transfers()) {
            return tcx.refuse(id, abort_code::BUSY, "too many transfers on this connection");
        }
        let answer =
            tcx.ask(|callbacks, output| callbacks.download_requested(output, name.as_str()));
        let source = match answer {
            Ok(source) => source,
            Err(reject) => return tcx.refuse(id, abort_code::REFUSED, &reject.text),
        };
        if let Err(error) = FileName::parse(&source.path) {
            return tcx.refuse(id, abort_code::BAD_NAME, &error.to_string());
        }
        let progress = TransferHandle::new(name.as_str(), false);
        self.begin_sending(tcx, id, &source.directory, (&source.path, name.clone()), progress);
    }

    /// The peer gives something up.
    fn on_abort(&mut self, tcx: &mut TransferCx<'_, '_>, id: u32, error: TransferError) {
        if let Some(slot) = self.slots_by_id.get(&id).copied() {
            return self.end(tcx, slot, error, false);
        }
        if let Some(get) = self.gets.remove(&id) {
            return tcx.notify(get.progress, Err(error));
        }
        if let Some(list) = self.lists.remove(&id) {
            return tcx.strand.run_callback(tcx.cx, |callbacks, output| {
                (list.then)(callbacks, output, Err(error))
            });
        }
        if self.offers.remove(&id).is_some() {
            return; // the program's answer comes too late
        }
        // A request of its own, before it was answered.
        let answers =
            |state: &TransferState| matches!(state, TransferState::Sending(it) if it.answers == id);
        if let Some(slot) = self.slot_of(answers) {
            self.end(tcx, slot, error, false);
        }
    }

    /// What only the side that sends, or only the one that receives, may hear.
    fn on_transfer(&mut self, tcx: &mut TransferCx<'_, '_>, slot: u8, frame: TransferFrame<'_>) {
        let result = match (&self.transfer(slot).state, frame) {
            (TransferState::Sending(_), TransferFrame::Accept { offset, limit, prefix, .. }) => {
                self.on_accept(tcx, slot, offset, limit, prefix)
            }
            (TransferState::Sending(_), TransferFrame::Credit { limit, .. }) => {
                self.on_credit(tcx, slot, limit)
            }
            (TransferState::Sending(_), TransferFrame::Done { hash, .. }) => {
                self.on_confirmed(tcx, slot, hash)
            }
            (TransferState::Receiving(_), TransferFrame::Chunk { bytes, .. }) => {
                self.on_chunk(tcx, slot, bytes)
            }
            (TransferState::Receiving(_), TransferFrame::Done { hash, .. }) => {
                self.on_done(tcx, slot, hash)
            }
            _ => {
                let text = "a frame of the other side's part of a transfer";
                Err(TransferError::here(TransferErrorKind::Protocol, text))
            }
        };
        if let Err(error) = result {
            self.end(tcx, slot, error, true);
        }
    }
}
