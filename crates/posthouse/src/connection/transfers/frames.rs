//! What the peer says of files: where each frame goes, and what a new number may be.

use posthouse_wire::{FileName, TransferFrame, Violation, abort_code};

use super::{Getting, Hands, PLACES_MAX, PendingOffer, Transfers, Work};
use crate::transfer::{
    Destination, Offer, OfferResponder, Reject, TransferError, TransferErrorKind, TransferHandle,
};

impl Transfers {
    pub(super) fn take_frame(
        &mut self,
        hands: &mut Hands<'_, '_>,
        frame: TransferFrame<'_>,
    ) -> Result<(), Violation> {
        self.heard = hands.cx.now;
        match frame {
            TransferFrame::Offer { id, in_reply_to, size, modified_ms, executable, name } => {
                if let Some(place) = self.places.get(&id).copied() {
                    return self.offered_again(hands, place, frame.kind());
                }
                if self.known_id(hands, id, frame.kind()).is_ok() {
                    return Ok(()); // said again, and over meanwhile
                }
                self.open_id(hands, id, frame.kind())?;
                let name = match FileName::from_wire(name) {
                    Ok(name) => name,
                    Err(error) => {
                        hands.refuse(id, abort_code::BAD_NAME, &error.to_string());
                        return Ok(());
                    }
                };
                let offer = Offer { name: name.as_str(), size, modified_ms, executable };
                self.on_offer(hands, (id, in_reply_to), &offer);
            }
            TransferFrame::Get { id, name } => {
                self.open_id(hands, id, frame.kind())?;
                self.on_get(hands, id, name);
            }
            TransferFrame::List { id, after } => {
                self.open_id(hands, id, frame.kind())?;
                self.on_list(hands, id, after);
            }
            TransferFrame::Listed { id, entries, .. } => {
                self.known_id(hands, id, frame.kind())?;
                self.on_listing(hands, id, entries);
            }
            TransferFrame::Abort { id, code, text } => {
                self.known_id(hands, id, frame.kind())?;
                self.on_abort(hands, id, TransferError::of_peer(code, text));
            }
            TransferFrame::Accept { id, .. }
            | TransferFrame::Chunk { id, .. }
            | TransferFrame::Credit { id, .. }
            | TransferFrame::Done { id, .. } => {
                self.known_id(hands, id, frame.kind())?;
                if let Some(place) = self.places.get(&id).copied() {
                    self.on_transfer(hands, place, frame);
                }
            }
        }
        self.run_waiting(hands);
        Ok(())
    }

    /// The peer begins something under a number of its own: a new one.
    fn open_id(&mut self, hands: &Hands<'_, '_>, id: u32, kind: u8) -> Result<(), Violation> {
        if hands.strand.session.is_local_transfer(id) || id <= self.last_peer_id {
            return Err(Violation::OutOfState { kind });
        }
        self.last_peer_id = id;
        Ok(())
    }

    /// The peer speaks of something that has been begun. It may be over.
    fn known_id(&self, hands: &Hands<'_, '_>, id: u32, kind: u8) -> Result<(), Violation> {
        let begun = match hands.strand.session.is_local_transfer(id) {
            true => id < self.next_id,
            false => id <= self.last_peer_id,
        };
        if begun { Ok(()) } else { Err(Violation::OutOfState { kind }) }
    }

    fn on_offer(
        &mut self,
        hands: &mut Hands<'_, '_>,
        (id, in_reply_to): (u32, u32),
        offer: &Offer<'_>,
    ) {
        if let Some(get) = self.gets.remove(&in_reply_to) {
            if self.places_taken() >= PLACES_MAX {
                let text = "too much waits for the disk";
                hands.refuse(id, abort_code::BUSY, text);
                let busy = TransferError::here(TransferErrorKind::Busy, text);
                return hands.tell(get.progress, Err(busy));
            }
            let Getting { directory, name, progress, .. } = get;
            return self.begin_receiving(hands, (id, false), offer, (&directory, name), progress);
        }
        if in_reply_to != 0 {
            // What was asked for is not wanted any more.
            return hands.refuse(id, abort_code::CANCELLED, "");
        }
        if hands.strand.unadmitted {
            return hands.refuse(id, abort_code::REFUSED, "not admitted yet");
        }
        if !self.has_room(true, hands.max_transfers()) {
            return hands.refuse(id, abort_code::BUSY, "too many transfers on this connection");
        }
        let (core, peer) = (hands.cx.core, hands.strand.id);
        let mut responder = OfferResponder::new(core, peer, id);
        let answer =
            hands.ask(|callbacks, output| callbacks.offered(output, offer, &mut responder));
        match answer {
            Ok(Some(destination)) => self.accept_offer(hands, id, offer, destination),
            Ok(None) if responder.is_taken() => self.keep_offer(hands, id, offer),
            Ok(None) => hands.refuse(id, abort_code::REFUSED, "the program gave no answer"),
            Err(reject) => hands.refuse(id, abort_code::REFUSED, &reject.text),
        }
    }

    fn accept_offer(
        &mut self,
        hands: &mut Hands<'_, '_>,
        id: u32,
        offer: &Offer<'_>,
        destination: Destination,
    ) {
        let Destination { directory, name } = destination;
        match FileName::parse(name.as_deref().unwrap_or(offer.name)) {
            Ok(name) => {
                let progress = TransferHandle::new(offer.name, true);
                self.begin_receiving(hands, (id, true), offer, (&directory, name), progress);
            }
            Err(error) => hands.refuse(id, abort_code::BAD_NAME, &error.to_string()),
        }
    }

    /// The handler answers the offer later.
    fn keep_offer(&mut self, hands: &mut Hands<'_, '_>, id: u32, offer: &Offer<'_>) {
        let Offer { name, size, modified_ms, executable } = *offer;
        let name = FileName::parse(name).expect("the name of an offer has been checked");
        let until = hands.timeout_at();
        self.offers.insert(id, PendingOffer { name, size, modified_ms, executable, until });
    }

    /// The program answers an offer that it has kept, unless the offer has expired.
    pub(super) fn answer_offer(
        &mut self,
        hands: &mut Hands<'_, '_>,
        id: u32,
        answer: Result<Destination, Reject>,
    ) {
        let Some(kept) = self.offers.remove(&id) else { return };
        let PendingOffer { ref name, size, modified_ms, executable, .. } = kept;
        let offer = Offer { name: name.as_str(), size, modified_ms, executable };
        match answer {
            // Others may have taken the places meanwhile.
            Ok(_) if self.places_taken() >= PLACES_MAX => {
                hands.refuse(id, abort_code::BUSY, "too much waits for the disk");
            }
            Ok(destination) => self.accept_offer(hands, id, &offer, destination),
            Err(reject) => hands.refuse(id, abort_code::REFUSED, &reject.text),
        }
    }

    fn on_get(&mut self, hands: &mut Hands<'_, '_>, id: u32, name: &[u8]) {
        let name = match FileName::from_wire(name) {
            Ok(name) => name,
            Err(error) => return hands.refuse(id, abort_code::BAD_NAME, &error.to_string()),
        };
        if hands.strand.unadmitted {
            return hands.refuse(id, abort_code::REFUSED, "not admitted yet");
        }
        if !self.has_room(true, hands.max_transfers()) {
            return hands.refuse(id, abort_code::BUSY, "too many transfers on this connection");
        }
        let answer =
            hands.ask(|callbacks, output| callbacks.download_requested(output, name.as_str()));
        let source = match answer {
            Ok(source) => source,
            Err(reject) => return hands.refuse(id, abort_code::REFUSED, &reject.text),
        };
        if let Err(error) = FileName::parse(&source.path) {
            return hands.refuse(id, abort_code::BAD_NAME, &error.to_string());
        }
        let progress = TransferHandle::new(name.as_str(), false);
        self.begin_sending(hands, id, &source.directory, (&source.path, name.clone()), progress);
    }

    /// The peer gives something up.
    fn on_abort(&mut self, hands: &mut Hands<'_, '_>, id: u32, error: TransferError) {
        if let Some(place) = self.places.get(&id).copied() {
            return self.end(hands, place, error, false);
        }
        if let Some(get) = self.gets.remove(&id) {
            return hands.tell(get.progress, Err(error));
        }
        if let Some(list) = self.lists.remove(&id) {
            return hands
                .strand
                .call(hands.cx, |callbacks, output| (list.then)(callbacks, output, Err(error)));
        }
        if self.offers.remove(&id).is_some() {
            return; // the program's answer comes too late
        }
        // A wish of its own, before it was answered.
        let answers = |work: &Work| matches!(work, Work::Sending(it) if it.answers == id);
        if let Some(place) = self.place_of(answers) {
            self.end(hands, place, error, false);
        }
    }

    /// What only the side that sends, or only the one that receives, may hear.
    fn on_transfer(&mut self, hands: &mut Hands<'_, '_>, place: u8, frame: TransferFrame<'_>) {
        let result = match (&self.job(place).work, frame) {
            (Work::Sending(_), TransferFrame::Accept { offset, limit, prefix, .. }) => {
                self.on_accept(hands, place, offset, limit, prefix)
            }
            (Work::Sending(_), TransferFrame::Credit { limit, .. }) => {
                self.on_credit(hands, place, limit)
            }
            (Work::Sending(_), TransferFrame::Done { hash, .. }) => {
                self.on_confirmed(hands, place, hash)
            }
            (Work::Receiving(_), TransferFrame::Chunk { bytes, .. }) => {
                self.on_chunk(hands, place, bytes)
            }
            (Work::Receiving(_), TransferFrame::Done { hash, .. }) => {
                self.on_done(hands, place, hash)
            }
            _ => {
                let text = "a frame of the other side's part of a transfer";
                Err(TransferError::here(TransferErrorKind::Protocol, text))
            }
        };
        if let Err(error) = result {
            self.end(hands, place, error, true);
        }
    }
}
