//! The offers of the peer. An offer answers a request of this side, or the handler answers it, now
//! or later.

use posthouse_wire::{FileName, abort_code};

use super::receiving::NewFile;
use super::table::{MAX_SLOTS, PendingGet, PendingOffer, Side};
use crate::connection::{Context, Strand};
use crate::responder::OfferResponder;
use crate::transfer::{
    Destination, Offer, Reject, TransferError, TransferErrorKind, TransferHandle,
};

impl Strand {
    pub(super) fn on_offer(
        &mut self,
        cx: &mut Context<'_>,
        id: u32,
        in_reply_to: u32,
        offer: &Offer<'_>,
    ) {
        if offer.is_directory() && self.transfers().gets.contains_key(&in_reply_to) {
            let text = "a file was requested, and a directory was offered";
            return self.reject_offer(cx, id, in_reply_to, abort_code::PROTOCOL, text);
        }
        if let Some(get) = self.transfers().gets.remove(&in_reply_to) {
            return self.on_requested_offer(cx, id, offer, get);
        }
        if in_reply_to != 0 {
            let text = "the get is not awaited any more (it was cancelled, or has expired)";
            return self.refuse(cx, id, abort_code::CANCELLED, text);
        }
        if !self.may_begin(cx, id) {
            return;
        }
        let mut responder = OfferResponder::new(cx.shared, self.id, id);
        let answer =
            self.ask(cx, |callbacks, output| callbacks.offered(output, offer, &mut responder));
        match answer {
            Ok(Some(destination)) => self.accept_offer(cx, id, offer, destination),
            Ok(None) if responder.is_taken() => self.keep_offer(cx, id, offer),
            Ok(None) => self.refuse(cx, id, abort_code::REFUSED, "the program gave no answer"),
            Err(reject) => self.refuse(cx, id, abort_code::REFUSED, &reject.text),
        }
    }

    /// Rejects an offer that this side cannot handle. If it answers a request of this side, the
    /// request fails: no other answer comes.
    pub(super) fn reject_offer(
        &mut self,
        cx: &mut Context<'_>,
        id: u32,
        in_reply_to: u32,
        code: u16,
        text: &str,
    ) {
        self.refuse(cx, id, code, text);
        if let Some(get) = self.transfers().gets.remove(&in_reply_to) {
            let error = TransferError::here(TransferErrorKind::Protocol, text);
            self.notify(cx, get.progress, Err(error));
        }
    }

    /// Handles the offer that answers a request of this side.
    fn on_requested_offer(
        &mut self,
        cx: &mut Context<'_>,
        id: u32,
        offer: &Offer<'_>,
        get: PendingGet,
    ) {
        if self.transfers().slots_taken() >= MAX_SLOTS {
            let text = "too many transfers wait for the disk";
            self.refuse(cx, id, abort_code::BUSY, text);
            let busy = TransferError::here(TransferErrorKind::Busy, text);
            return self.notify(cx, get.progress, Err(busy));
        }
        let PendingGet { directory, name, progress, .. } = get;
        let directory = &directory;
        let begun_by = Side::Local;
        self.begin_receiving(cx, NewFile { id, begun_by, offer, directory, name, progress });
    }

    fn accept_offer(
        &mut self,
        cx: &mut Context<'_>,
        id: u32,
        offer: &Offer<'_>,
        destination: Destination,
    ) {
        let Destination { directory, name } = destination;
        match FileName::parse(name.as_deref().unwrap_or(offer.name)) {
            Ok(name) => {
                let progress = TransferHandle::new(offer.name, true);
                let begun_by = Side::Peer;
                let directory = &directory;
                let file = NewFile { id, begun_by, offer, directory, name, progress };
                self.begin_receiving(cx, file);
            }
            Err(error) => self.refuse(cx, id, abort_code::BAD_NAME, &error.to_string()),
        }
    }

    /// Keeps an offer that the handler answers later.
    fn keep_offer(&mut self, cx: &mut Context<'_>, id: u32, offer: &Offer<'_>) {
        let Offer { name, facts } = *offer;
        let name = FileName::parse(name).expect("an offer is kept only after its name was checked");
        let until = cx.now + self.transfer_timeout();
        let kept = PendingOffer { name, facts, until };
        self.transfers().offers.insert(id, kept);
    }

    /// Handles the answer of the program to a kept offer, unless the offer has expired.
    pub(crate) fn on_offer_answer(
        &mut self,
        cx: &mut Context<'_>,
        id: u32,
        answer: Result<Destination, Reject>,
    ) {
        if !self.has_transfers() || !self.may_transfer_now() {
            return;
        }
        let Some(kept) = self.transfers().offers.remove(&id) else { return };
        let offer = Offer { name: kept.name.as_str(), facts: kept.facts };
        match answer {
            // Other transfers may have taken the slots meanwhile.
            Ok(_) if self.transfers().slots_taken() >= MAX_SLOTS => {
                self.refuse(cx, id, abort_code::BUSY, "too many transfers wait for the disk");
            }
            Ok(destination) => self.accept_offer(cx, id, &offer, destination),
            Err(reject) => self.refuse(cx, id, abort_code::REFUSED, &reject.text),
        }
    }
}
