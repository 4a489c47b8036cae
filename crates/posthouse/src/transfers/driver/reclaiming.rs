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

/// A check whether the peer uses what its transfers hold of one resource.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UseCheck {
    /// The number of bytes that the connection had moved when the time to use it began.
    moved_bytes: u64,
    /// The grants at the last check of a peer that was too slow.
    grants: GrantsAwaited,
    /// The time of the next check; `None` exactly while the transfers hold nothing of it.
    next: Option<Duration>,
}

impl Transfers {
    /// Returns the time of the next check.
    pub(super) fn next_use_check(&self) -> Option<Duration> {
        self.use_checks.iter().filter_map(|check| check.next).min()
    }

    /// Starts the time to use what the transfers hold of a resource. Each resource has a time of
    /// its own: a grant of one shows nothing about those that wait for another.
    pub(super) fn renew_use_check(&mut self, resource: Resource, now: Duration) {
        let holds_any = self.leases.as_ref().is_some_and(|leases| leases.has(resource));
        let next = holds_any.then_some(now + USE_TIME);
        let (moved_bytes, grants) = (self.moved_bytes, GrantsAwaited::default());
        self.use_checks[resource as usize] = UseCheck { moved_bytes, grants, next };
    }

    /// Ends the checks of the resources of which the transfers hold nothing any more.
    pub(super) fn end_use_checks(&mut self) {
        let Some(leases) = &self.leases else { return };
        for resource in Resource::ALL {
            if !leases.has(resource) {
                self.use_checks[resource as usize].next = None;
            }
        }
    }

    /// Checks the use of a resource if it is time. Returns whether the peer has not used it in its
    /// time, and others wait for it and none of them gets its turn.
    fn check_use_of(&mut self, resource: Resource, now: Duration) -> bool {
        let Some(leases) = &self.leases else { return false };
        let (held, awaited) = (leases.held_bytes(), leases.grants_awaited(resource));
        let moved = self.moved_bytes;
        let check = &mut self.use_checks[resource as usize];
        if check.next.is_none_or(|at| at > now) {
            return false;
        }
        let is_slow = moved - check.moved_bytes < held.max(MIN_USED_BYTES);
        if !is_slow || awaited == GrantsAwaited::default() {
            self.renew_use_check(resource, now);
            return false;
        }
        check.next = Some(now + STUCK_TIME);
        awaited.stands_still_since(std::mem::replace(&mut check.grants, awaited))
    }
}

impl Strand {
    /// Ends transfers that hold what others wait for, if the peer has not used it in time.
    pub(crate) fn check_use(&mut self, cx: &mut Context<'_>) {
        if !self.has_transfers() {
            return;
        }
        let transfers = self.transfers();
        let is_stuck = |resource: &Resource| transfers.check_use_of(*resource, cx.now);
        let stuck: Vec<Resource> = Resource::ALL.into_iter().filter(is_stuck).collect();
        if !stuck.is_empty() {
            self.end_slow_transfers(cx, &stuck);
        }
    }

    /// Ends the transfers that hold one of these resources and wait for the peer. If none does, and
    /// the last chunk of an ended one holds it, the connection ends: a queued chunk cannot be
    /// withdrawn.
    fn end_slow_transfers(&mut self, cx: &mut Context<'_>, stuck: &[Resource]) {
        let mut has_ended = false;
        while let Some(slot) = self.slow_slot(stuck, cx.now) {
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
    /// transfer that waits for this side is not slow because of its peer, and one that has waited
    /// for memory has its own time from then on.
    fn slow_slot(&mut self, stuck: &[Resource], now: Duration) -> Option<u8> {
        let is_unread = self.output.queued_bytes() > 0;
        // While the handler has paused reading, what the peer has sent may wait here. All other
        // reasons for not reading are the peer's doing.
        let is_read = !self.paused;
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
        let has_time = |lent_at: Option<Duration>| lent_at.is_some_and(|at| now < at + USE_TIME);
        let mut slots = transfers.slots();
        let slow = slots.find(|(slot, it)| {
            holds_any(&it.state) && !has_time(it.lent_at) && waits_for_peer(*slot, &it.state)
        });
        slow.map(|(slot, _)| slot)
    }
}
