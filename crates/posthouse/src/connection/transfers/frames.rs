//! What the peer says of files: where each frame goes, and what a new number may be.

use posthouse_wire::{FileName, TransferFrame, Violation, abort_code};

use super::{Getting, Hands, PLACES_MAX, Transfers, Work};
use crate::directory::Directory;
use crate::transfer::{
    Answer, AnswerKind, Offer, Progress, TransferError, TransferErrorKind, Wanted,
};

impl<S: Default + Send + 'static> Transfers<S> {
    pub(super) fn take_frame(
        &mut self,
        hands: &mut Hands<'_, '_, S>,
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
    fn open_id(&mut self, hands: &Hands<'_, '_, S>, id: u32, kind: u8) -> Result<(), Violation> {
        if hands.strand.session.is_local_transfer(id) || id <= self.last_peer_id {
            return Err(Violation::OutOfState { kind });
        }
        self.last_peer_id = id;
        Ok(())
    }

    /// The peer speaks of something that has been begun. It may be over.
    fn known_id(&self, hands: &Hands<'_, '_, S>, id: u32, kind: u8) -> Result<(), Violation> {
        let begun = match hands.strand.session.is_local_transfer(id) {
            true => id < self.next_id,
            false => id <= self.last_peer_id,
        };
        if begun { Ok(()) } else { Err(Violation::OutOfState { kind }) }
    }

    fn on_offer(
        &mut self,
        hands: &mut Hands<'_, '_, S>,
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
        if !self.has_room(true, hands.cx.core.options.transfers_max) {
            return hands.refuse(id, abort_code::BUSY, "too many transfers on this connection");
        }
        let answer = hands.ask(|handler, peer| handler.offered(peer, offer));
        let Some((directory, name)) = destination(hands, id, offer.name, answer) else { return };
        let progress = Progress::new(offer.name, true);
        self.begin_receiving(hands, (id, true), offer, (&directory, name), progress);
    }

    fn on_get(&mut self, hands: &mut Hands<'_, '_, S>, id: u32, name: &[u8]) {
        let name = match FileName::from_wire(name) {
            Ok(name) => name,
            Err(error) => return hands.refuse(id, abort_code::BAD_NAME, &error.to_string()),
        };
        if hands.strand.unadmitted {
            return hands.refuse(id, abort_code::REFUSED, "not admitted yet");
        }
        if !self.has_room(true, hands.cx.core.options.transfers_max) {
            return hands.refuse(id, abort_code::BUSY, "too many transfers on this connection");
        }
        let wanted = Wanted::File(name.as_str());
        let answer = hands.ask(|handler, peer| handler.wanted(peer, &wanted));
        let Some((directory, source)) = destination(hands, id, name.as_str(), answer) else {
            return;
        };
        let progress = Progress::new(name.as_str(), false);
        self.begin_sending(hands, id, &directory, (source.as_str(), name.clone()), progress);
    }

    /// The peer gives something up.
    fn on_abort(&mut self, hands: &mut Hands<'_, '_, S>, id: u32, error: TransferError) {
        if let Some(place) = self.places.get(&id).copied() {
            return self.end(hands, place, error, false);
        }
        if let Some(get) = self.gets.remove(&id) {
            return hands.tell(get.progress, Err(error));
        }
        if let Some(list) = self.lists.remove(&id) {
            return hands.strand.call(hands.cx, |_, peer| (list.then)(peer, Err(error)));
        }
        // A wish of its own, before it was answered.
        let answers = |work: &Work| matches!(work, Work::Sending(it) if it.answers == id);
        if let Some(place) = self.place_of(answers) {
            self.end(hands, place, error, false);
        }
    }

    /// What only the side that sends, or only the one that receives, may hear.
    fn on_transfer(&mut self, hands: &mut Hands<'_, '_, S>, place: u8, frame: TransferFrame<'_>) {
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

/// Where a handler wants something to go to, or to come from; a no has been said.
fn destination<S: Default + Send + 'static>(
    hands: &mut Hands<'_, '_, S>,
    id: u32,
    name: &str,
    answer: Answer,
) -> Option<(Directory, FileName)> {
    match answer.0 {
        AnswerKind::Refuse(text) => {
            hands.refuse(id, abort_code::REFUSED, &text);
            None
        }
        AnswerKind::Here { directory, name: other } => {
            match FileName::parse(other.as_deref().unwrap_or(name)) {
                Ok(name) => Some((directory, name)),
                Err(error) => {
                    hands.refuse(id, abort_code::BAD_NAME, &error.to_string());
                    None
                }
            }
        }
    }
}
