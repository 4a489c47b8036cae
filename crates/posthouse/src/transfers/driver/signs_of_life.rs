//! The signs of life of transfers: frames for a peer that waits for this side.

use std::time::Duration;

use posthouse_wire::TransferFrame;

use super::table::{TransferSlot, TransferState, Transfers};
use crate::connection::{Context, Strand};

/// The maximum time without a frame of any transfer, while the peer waits for one.
const MAX_SILENCE: Duration = Duration::from_secs(10);

impl Transfers {
    /// Returns a frame that shows that this side works, if the peer waits for it.
    fn sign_of_life(&self) -> Option<TransferFrame<'static>> {
        self.slots().find_map(|(_, transfer)| sign_of_life(transfer))
    }
}

fn sign_of_life(transfer: &TransferSlot) -> Option<TransferFrame<'static>> {
    let id = match &transfer.state {
        TransferState::Receiving(receiving) => return receiving.receiver.sign_of_life(),
        TransferState::Sending(sending) if !sending.sender.is_awaited() => 0,
        TransferState::Sending(sending) if transfer.id == 0 => sending.answers,
        TransferState::Sending(_) => transfer.id,
        TransferState::Listing(listing) => listing.id,
        TransferState::Orphaned => 0,
    };
    (id != 0).then_some(TransferFrame::Working { id })
}

impl Strand {
    /// Returns the time at which the next sign of life is due.
    pub(crate) fn sign_of_life_at(&self) -> Option<Duration> {
        let transfers = self.cold.as_ref()?.transfers.as_ref()?;
        transfers.sign_of_life()?;
        let heartbeat = self.session.agreed().and_then(|agreed| agreed.heartbeat);
        let interval = heartbeat.map_or(MAX_SILENCE, |heartbeat| heartbeat.min(MAX_SILENCE));
        Some(transfers.last_said + interval)
    }

    /// Sends a sign of life if one is due. Bytes that wait in the send queue are one, too.
    pub(crate) fn show_signs_of_life(&mut self, cx: &mut Context<'_>) {
        if self.sign_of_life_at().is_none_or(|at| at > cx.now) {
            return;
        }
        let waits = self.output.queued_bytes() > 0;
        let transfers = self.transfers();
        transfers.last_said = cx.now;
        if let (Some(frame), false) = (transfers.sign_of_life(), waits) {
            self.send_frame(cx, frame);
        }
    }
}
