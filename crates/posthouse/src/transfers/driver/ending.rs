//! The ends of transfers from outside their state machines: expiry, aborts, the end of the
//! connection.

use std::collections::BTreeMap;

use posthouse_wire::{EndCause, Tell, TransferFailure};

use super::table::{Life, Side, TransferState};
use crate::connection::{Context, Strand};
use crate::pace::FAILED_TRANSFER;
use crate::transfer::{TransferError, TransferErrorKind};

impl Strand {
    /// Ends every transfer with the connection. Received bytes are still written.
    pub(crate) fn end_transfers(&mut self, cx: &mut Context<'_>) {
        if !self.has_transfers() {
            return;
        }
        let gone = || TransferError::here(TransferErrorKind::Disconnected, "");
        let mut commands = std::mem::take(&mut self.cold().commands);
        let transfers = self.transfers();
        commands.append(&mut transfers.waiting);
        if std::mem::replace(&mut transfers.life, Life::Ended) == Life::Running {
            transfers.offers.clear();
            let slots: Vec<u8> = transfers.slots().map(|(slot, _)| slot).collect();
            for slot in slots {
                self.end_transfer(cx, slot, gone(), Tell::Nobody);
            }
            while let Some((_, get)) = self.transfers().gets.pop_first() {
                self.notify(cx, get.progress, Err(gone()));
            }
            while let Some((_, list)) = self.transfers().lists.pop_first() {
                self.run_callback(cx, |callbacks, output| {
                    list.then.into_inner()(callbacks, output, Err(gone()))
                });
            }
        }
        for command in commands {
            self.fail_command(cx, command, gone());
        }
        self.settle_leases();
    }

    /// Abandons all operations in flight and reports their transfers as failed.
    pub(crate) fn abandon_transfers(&mut self, cx: &mut Context<'_>) {
        if !self.has_transfers() {
            return;
        }
        assert!(
            self.transfers().life == Life::Ended,
            "transfers are abandoned before they have ended"
        );
        self.transfers().walks.abandon();
        for state in self.transfers().take_slots() {
            if let TransferState::Receiving(receiving) = state
                && let Some(progress) = receiving.abandon()
            {
                let text = "the disk did not answer before the endpoint ended";
                let error = TransferError::here(TransferErrorKind::Disk, text);
                self.notify(cx, progress, Err(error));
            }
        }
    }

    /// Ends the transfers, requests and kept offers that have expired, and closes idle files.
    pub(crate) fn expire_transfers(&mut self, cx: &mut Context<'_>) {
        if self.transfers_deadline().is_none_or(|at| at > cx.now) {
            return;
        }
        let now = cx.now;
        let expired = || TransferError::here(TransferErrorKind::Expired, "");
        let last_activity = self.transfers().last_activity;
        let idle_timeout = self.transfer_timeout();
        // A peer that sends frames of transfers need not say that it works on each request.
        if self.transfers().unheard_until(idle_timeout) <= now {
            self.expire_requests(cx);
        }
        while let Some((id, _)) =
            take_first(&mut self.transfers().offers, |offer| offer.until <= now)
        {
            self.send_abort(cx, id, &expired());
        }
        let is_over = |state: &TransferState| {
            state.expires_at(last_activity, idle_timeout).is_some_and(|at| at <= now)
        };
        while let Some(slot) = self.transfers().slot_of(is_over) {
            self.end_transfer(cx, slot, expired(), Tell::Peer);
        }
        let is_idle = |state: &TransferState| state.idle_file_until().is_some_and(|at| at <= now);
        while let Some(slot) = self.transfers().slot_of(is_idle) {
            self.transfers().sending(slot).sender.close_idle();
            self.run_sender(cx, slot);
        }
        self.run_waiting(cx);
    }

    /// Ends the requests that have waited for their answer for too long.
    fn expire_requests(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        let expired = || TransferError::here(TransferErrorKind::Expired, "");
        while let Some((id, get)) = take_first(&mut self.transfers().gets, |get| get.until <= now) {
            self.send_abort(cx, id, &expired());
            self.notify(cx, get.progress, Err(expired()));
        }
        while let Some((_, list)) =
            take_first(&mut self.transfers().lists, |list| list.until <= now)
        {
            self.run_callback(cx, |callbacks, output| {
                list.then.into_inner()(callbacks, output, Err(expired()))
            });
        }
    }

    /// Ends a transfer without success.
    pub(super) fn end_transfer(
        &mut self,
        cx: &mut Context<'_>,
        slot: u8,
        error: TransferError,
        tell: Tell,
    ) {
        match &mut self.transfers().transfer(slot).state {
            TransferState::Sending(sending) => {
                sending.end(cx, error, tell);
                self.run_sender(cx, slot);
            }
            TransferState::Receiving(receiving) => {
                let cause = end_cause(&error, tell);
                receiving.receiver.end(error, cause);
                self.run_receiver(cx, slot);
            }
            TransferState::Listing(_) => {
                let transfers = self.transfers();
                if transfers.walks.forget(slot).is_some() {
                    return transfers.release(slot);
                }
                transfers.transfer(slot).state = TransferState::Orphaned;
                transfers.withdraw(slot);
            }
            TransferState::Orphaned => {}
        }
    }

    /// Counts the work for a transfer that the peer began and that has failed, unless this side
    /// has cancelled it, its disk has failed, or the file that it sends has changed.
    pub(super) fn count_failed(&mut self, cx: &Context<'_>, slot: u8, error: &TransferError) {
        use TransferErrorKind as Kind;
        let transfer = self.transfers().transfer(slot);
        if transfer.begun_by != Side::Peer {
            return;
        }
        let sends = matches!(transfer.state, TransferState::Sending(_));
        let is_local = match error.kind() {
            _ if error.is_by_peer() => false,
            Kind::Cancelled | Kind::Disk | Kind::NoSpace => true,
            // The file here was changed.
            Kind::Changed | Kind::Replaced => sends,
            // A peer can also end its connections on purpose.
            _ => false,
        };
        if !is_local {
            self.count_work(cx, FAILED_TRANSFER);
        }
    }

    /// Converts the failure of a transfer, and sends its abort if the peer is to be told.
    pub(super) fn say_end(
        &mut self,
        cx: &mut Context<'_>,
        id: u32,
        failure: TransferFailure<TransferError>,
        tell: Tell,
    ) -> TransferError {
        let code = failure.code();
        let error = TransferError::of_failure(failure);
        if tell == Tell::Peer && id != 0 {
            self.refuse(cx, id, code.unwrap_or(error.code()), error.text_for_peer());
        }
        error
    }
}

/// Removes and returns the first entry of a map for which `is_it` holds.
fn take_first<V>(map: &mut BTreeMap<u32, V>, is_it: impl Fn(&V) -> bool) -> Option<(u32, V)> {
    map.extract_if(.., |_, value| is_it(value)).next()
}

fn end_cause(error: &TransferError, tell: Tell) -> EndCause {
    match (tell, error.is_by_peer(), error.kind()) {
        (Tell::Peer, ..) => EndCause::Local,
        (Tell::Nobody, true, TransferErrorKind::Changed) => EndCause::PeerFileChanged,
        (Tell::Nobody, true, _) => EndCause::Peer,
        (Tell::Nobody, false, _) => EndCause::Connection,
    }
}
