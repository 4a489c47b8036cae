//! Offers that the handler answers later, or forgets.

use std::time::Duration;

use super::file_handler::FileHandler;
use super::transfer_checker::{Actor, Offered, TransferChecker};
use posthouse::{Destination, OfferResponder, OwnedOfferResponder, Peer};

/// An offer that is answered later.
#[derive(Debug)]
pub(super) struct KeptOffer {
    responder: OwnedOfferResponder,
    actor: Actor,
    offered: Offered,
    destination: Destination,
    /// True exactly when the callback has rejected the offer: a later answer has no effect.
    rejected: bool,
}

impl KeptOffer {
    /// Takes an offer from its responder.
    ///
    /// # Panics
    /// If the offer was taken before.
    pub(super) fn take(
        responder: &mut OfferResponder<'_>,
        actor: Actor,
        offered: Offered,
        destination: Destination,
    ) -> Self {
        let responder = responder.take().expect("an offer that was not taken before");
        Self { responder, actor, offered, destination, rejected: false }
    }

    /// Notes that the callback rejects the offer.
    pub(super) fn rejected(self) -> Self {
        Self { rejected: true, ..self }
    }

    fn accept(self, checker: &TransferChecker) {
        if !self.rejected {
            checker.takes(self.actor, &self.offered, true);
        }
        self.responder.accept(self.destination);
    }

    /// Rejects, drops or accepts the offer, as `way` decides.
    pub(super) fn answer(self, checker: &TransferChecker, way: u64) {
        match way % 4 {
            0 => self.responder.reject("later"),
            1 => drop(self.responder),
            _ => self.accept(checker),
        }
    }

    pub(super) fn accept_after(self, peer: &mut Peer<'_, FileHandler>, delay: Duration) {
        peer.after(delay, |peer| {
            self.accept(peer.handler().checker());
            Ok(())
        })
        .expect("a peer has few timers");
    }

    /// Answers as [`answer`](Self::answer) does, after a delay that may be too long.
    pub(super) fn answer_after(self, peer: &mut Peer<'_, FileHandler>, way: u64) {
        let delay = Duration::from_micros(1 << (way / 4 % 21));
        peer.after(delay, move |peer| {
            self.answer(peer.handler().checker(), way);
            Ok(())
        })
        .expect("a peer has few timers");
    }
}
