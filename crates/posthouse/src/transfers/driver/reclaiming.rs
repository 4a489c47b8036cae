//! The end of transfers that hold memory or open files for which others wait, and do not use them.
//!
//! A peer that sends, or takes, a byte now and then keeps its transfers for as long as it likes: a
//! line may be slow. But a few such peers, each from an address of its own, could hold a budget for
//! ever. So whoever holds a part of it must use that part in time if others wait and none of them
//! gets its turn.

use std::time::Duration;

use posthouse_wire::Tell;

use super::table::{TransferState, Transfers};
use crate::connection::{Context, Strand};
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
    grants: [Option<u64>; 4],
    /// The time of the next check, while the transfers hold anything.
    pub(super) next: Option<Duration>,
}

impl Transfers {
    /// Returns whether the peer has moved fewer bytes than its transfers hold.
    fn is_slow(&self) -> bool {
        let held = self.leases.as_ref().and_then(|leases| leases.held_bytes());
        let moved = self.moved_bytes - self.use_check.moved_bytes;
        held.is_some_and(|held| moved < held.max(MIN_USED_BYTES))
    }

    /// Returns the grants for which others wait, as of now.
    fn grants_awaited(&self) -> [Option<u64>; 4] {
        self.leases.as_ref().map_or([None; 4], |leases| leases.grants_awaited())
    }

    /// Starts the time to use what the transfers hold.
    fn renew_use_check(&mut self, now: Duration) {
        let holds_any = self.leases.as_ref().is_some_and(|it| it.held_bytes().is_some());
        let next = holds_any.then_some(now + USE_TIME);
        self.use_check = UseCheck { moved_bytes: self.moved_bytes, grants: [None; 4], next };
    }
}

impl Strand {
    /// Starts the time for the peer to use what its transfers get, if they had nothing before.
    pub(super) fn begin_use_check(&mut self, cx: &Context<'_>) {
        let transfers = self.transfers();
        if transfers.use_check.next.is_none() {
            transfers.renew_use_check(cx.now);
            transfers.use_check.next = Some(cx.now + USE_TIME);
        }
    }

    /// Ends transfers that hold what others wait for, if the peer has not used it in time.
    pub(super) fn check_use(&mut self, cx: &mut Context<'_>) {
        let transfers = self.transfers();
        if transfers.use_check.next.is_none_or(|at| at > cx.now) {
            return;
        }
        let awaited = transfers.grants_awaited();
        if !transfers.is_slow() || awaited == [None; 4] {
            return transfers.renew_use_check(cx.now);
        }
        let before = std::mem::replace(&mut transfers.use_check.grants, awaited);
        transfers.use_check.next = Some(cx.now + STUCK_TIME);
        let is_stuck = |resource: &Resource| {
            let now = awaited[*resource as usize];
            now.is_some() && now == before[*resource as usize]
        };
        let stuck: Vec<Resource> = Resource::ALL.into_iter().filter(is_stuck).collect();
        self.end_slow_transfers(cx, &stuck);
    }

    /// Ends the transfers that hold one of these resources and wait for the peer. One that waits
    /// for this side is not slow because of its peer.
    fn end_slow_transfers(&mut self, cx: &mut Context<'_>, stuck: &[Resource]) {
        let is_unread = self.output.queued_bytes() > 0;
        let is_slow = |state: &TransferState| {
            let waits_for_peer = match state {
                TransferState::Sending(sending) if sending.sender.is_ended() => false,
                TransferState::Sending(sending) => is_unread || !sending.sender.is_awaited(),
                TransferState::Receiving(receiving) => receiving.receiver.awaits_sender(),
                TransferState::Listing(_) | TransferState::Orphaned => false,
            };
            waits_for_peer && stuck.iter().any(|resource| state.holds(*resource) > 0)
        };
        while let Some(slot) = self.transfers().slot_of(is_slow) {
            let text = "others wait for the memory or open file of this transfer, which is slow";
            let busy = TransferError::here(TransferErrorKind::Busy, text);
            self.end_transfer(cx, slot, busy, Tell::Peer);
        }
        self.settle_leases();
    }
}
