//! The end of transfers that hold memory or open files for which others wait, and do not use them.
//!
//! A peer that sends, or takes, a byte now and then keeps its transfers for as long as it likes: a
//! line may be slow. But a few such peers, each from an address of its own, could hold a budget for
//! ever. Therefore a connection that holds a part of it must use that part in time if others wait
//! and none of them gets its turn. The time begins with a grant, and again when the connection has
//! used enough.

use std::time::Duration;

use posthouse_wire::Tell;

use super::table::{TransferState, Transfers};
use crate::close::Close;
use crate::connection::{Context, Strand};
use crate::disconnect::{DisconnectKind, DisconnectReason};
use crate::fair_budget::GrantsAwaited;
use crate::transfer::{TransferError, TransferErrorKind};
use crate::transfers::budgets::Resource;

/// The time in which the peer must use what its transfers hold.
const USE_TIME: Duration = Duration::from_mins(2);
/// The minimum number of bytes in that time, for a connection that holds fewer bytes.
const MIN_USED_BYTES: u64 = 1024 * 1024;
/// The time in which nobody who waits gets a turn, after which slow transfers end.
const STUCK_TIME: Duration = Duration::from_secs(10);

/// A check whether the peer uses what its transfers hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UseCheck {
    /// The number of bytes that the connection had moved when the time to use it began.
    moved_bytes: u64,
    /// The grants at the last check of a peer that was too slow.
    grants: [GrantsAwaited; 4],
    /// The time of the next check; `None` exactly while the transfers hold nothing.
    pub(super) next: Option<Duration>,
}

impl Transfers {
    fn holds_any(&self) -> bool {
        self.leases.as_ref().is_some_and(|leases| leases.held_bytes().is_some())
    }

    /// Returns whether the peer has moved fewer bytes than its transfers hold.
    fn is_slow(&self) -> bool {
        let held = self.leases.as_ref().and_then(|leases| leases.held_bytes());
        let moved = self.moved_bytes - self.use_check.moved_bytes;
        held.is_some_and(|held| moved < held.max(MIN_USED_BYTES))
    }

    /// Starts the time to use what the transfers hold, if they held nothing before.
    pub(super) fn note_leases(&mut self, now: Duration) {
        if self.use_check.next.is_none() {
            self.renew_use_check(now);
        }
    }

    /// Starts the time to use what the transfers hold.
    pub(super) fn renew_use_check(&mut self, now: Duration) {
        let next = self.holds_any().then_some(now + USE_TIME);
        let grants = [GrantsAwaited::default(); 4];
        self.use_check = UseCheck { moved_bytes: self.moved_bytes, grants, next };
    }

    /// Ends the check if the transfers hold nothing any more.
    pub(super) fn end_use_check(&mut self) {
        if !self.holds_any() {
            self.use_check.next = None;
        }
    }
}

impl Strand {
    /// Ends transfers that hold what others wait for, if the peer has not used it in time.
    pub(crate) fn check_use(&mut self, cx: &mut Context<'_>) {
        if !self.has_transfers() {
            return;
        }
        let transfers = self.transfers();
        if transfers.use_check.next.is_none_or(|at| at > cx.now) {
            return;
        }
        let awaited = transfers
            .leases
            .as_ref()
            .map_or_else(Default::default, |leases| leases.grants_awaited());
        if !transfers.is_slow() || awaited == <[GrantsAwaited; 4]>::default() {
            return transfers.renew_use_check(cx.now);
        }
        let before = std::mem::replace(&mut transfers.use_check.grants, awaited);
        transfers.use_check.next = Some(cx.now + STUCK_TIME);
        let is_stuck = |resource: &Resource| {
            let at = *resource as usize;
            awaited[at].stands_still_since(before[at])
        };
        let stuck: Vec<Resource> = Resource::ALL.into_iter().filter(is_stuck).collect();
        self.end_slow_transfers(cx, &stuck);
    }

    /// Ends the transfers that hold one of these resources and wait for the peer. If none does, and
    /// the last chunk of an ended one holds it, the connection ends: a queued chunk cannot be
    /// withdrawn.
    fn end_slow_transfers(&mut self, cx: &mut Context<'_>, stuck: &[Resource]) {
        let mut has_ended = false;
        while let Some(slot) = self.slow_slot(stuck) {
            let text = "others wait for the memory or open file of this transfer, which is slow";
            let busy = TransferError::here(TransferErrorKind::Busy, text);
            self.end_transfer(cx, slot, busy, Tell::Peer);
            has_ended = true;
        }
        self.settle_leases();
        let transfers = self.transfers();
        let is_in_chunk = transfers.slot_of_last_chunk().is_none()
            && stuck.iter().any(|resource| transfers.in_queue(*resource) > 0);
        if has_ended || !is_in_chunk {
            return;
        }
        let text = "it took its file too slowly while others waited";
        let reason = DisconnectReason::new(DisconnectKind::TooSlow, text);
        self.close(cx, Close::abort(), reason);
    }

    /// Returns the slot of a transfer that holds one of these resources and waits for the peer. A
    /// transfer that waits for this side is not slow because of its peer.
    fn slow_slot(&mut self, stuck: &[Resource]) -> Option<u8> {
        let is_unread = self.output.queued_bytes() > 0;
        // What the peer has sent may wait here.
        let is_read = self.reads_transfers();
        let transfers = self.transfers();
        let last_chunk = transfers.slot_of_last_chunk();
        let waits_for_peer = |slot: u8, state: &TransferState| match state {
            TransferState::Sending(sending) if sending.sender.is_ended() => false,
            TransferState::Sending(sending) => {
                let waits_in_queue = sending.sender.has_chunk() || last_chunk == Some(slot);
                is_unread && waits_in_queue || is_read && !sending.sender.is_awaited()
            }
            TransferState::Receiving(receiving) => is_read && receiving.receiver.awaits_sender(),
            TransferState::Listing(_) | TransferState::Orphaned => false,
        };
        let holds_any =
            |state: &TransferState| stuck.iter().any(|resource| state.holds(*resource) > 0);
        let mut slots = transfers.slots();
        let slow =
            slots.find(|(slot, it)| holds_any(&it.state) && waits_for_peer(*slot, &it.state));
        slow.map(|(slot, _)| slot)
    }
}
