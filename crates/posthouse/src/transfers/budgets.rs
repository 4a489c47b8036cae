//! The budgets that transfers share, for memory and open files, and the part of them that one
//! connection has.
//!
//! Reads and windows have separate budgets. Memory that is read into leaves when the peer takes
//! bytes from its socket; a window waits for bytes that the peer must first read from its disk.
//! With one budget, the windows of two endpoints could hold all of it and wait for each other's
//! reads. For the same reason files that are sent and files that are received have separate
//! budgets: a file that is received is open while the peer waits for a place to open the file that
//! it sends. A transfer that waits for the place of a file has none.

use std::collections::VecDeque;

use crate::address_prefix::AddressPrefix;
use crate::fair_budget::{FairBudget, GrantsAwaited, Lease};
use crate::id::PeerId;
use crate::mailbox::PeerPost;
use crate::shared::Shared;
use crate::sync::{Arc, Weak};

/// A resource of the endpoint that transfers share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Bytes of files that were read, to send or to compare them.
    Reads,
    /// Bytes that peers may send, or have sent, and that are not written.
    Windows,
    /// Open files that are sent.
    SentFiles,
    /// Open files that are received: parts, and whole files that are compared.
    ReceivedFiles,
}

impl Resource {
    pub(crate) const ALL: [Self; 4] =
        [Self::Reads, Self::Windows, Self::SentFiles, Self::ReceivedFiles];
}

/// The budgets of an endpoint, in the order of [`Resource::ALL`].
pub(crate) struct FileBudgets([Arc<FairBudget>; 4]);

impl FileBudgets {
    /// Divides `max_bytes` into the budgets of memory, and `max_files` into those of open files.
    pub(crate) fn new(max_bytes: usize, max_files: usize, shared: &Weak<Shared>) -> Self {
        Self(Resource::ALL.map(|resource| {
            let shared = shared.clone();
            let max = match resource {
                Resource::Reads | Resource::Windows => max_bytes as u64 / 2,
                Resource::SentFiles => max_files as u64 / 2,
                Resource::ReceivedFiles => (max_files as u64).div_ceil(2),
            };
            FairBudget::new(max, move |peer| {
                if let Some(shared) = shared.upgrade() {
                    // It fails only if the connection has ended; then it takes back its room.
                    let _ = shared.post_bounded(peer, PeerPost::Granted(resource));
                }
            })
        }))
    }

    /// Returns the number of bytes in use.
    pub(crate) fn bytes_used(&self) -> u64 {
        self.used(Resource::Reads) + self.used(Resource::Windows)
    }

    /// Returns the number of open files.
    pub(crate) fn files_used(&self) -> u64 {
        self.used(Resource::SentFiles) + self.used(Resource::ReceivedFiles)
    }

    /// Returns the part that the connections of one address prefix may have.
    pub(crate) fn share(&self, resource: Resource) -> u64 {
        self.0[resource as usize].share()
    }

    fn used(&self, resource: Resource) -> u64 {
        self.0[resource as usize].used()
    }
}

/// The accounts of the transfers of one connection, in the order of [`Resource::ALL`].
pub(crate) struct TransferLeases([Account; 4]);

impl TransferLeases {
    pub(crate) fn new(budgets: &FileBudgets, prefix: AddressPrefix, peer: PeerId) -> Self {
        Self(budgets.0.each_ref().map(|budget| Account {
            lease: Lease::empty(budget, prefix, peer),
            waiting: VecDeque::new(),
        }))
    }

    pub(crate) fn account(&mut self, resource: Resource) -> &mut Account {
        &mut self.0[resource as usize]
    }

    /// Returns the number of bytes that the connection has.
    pub(crate) fn held_bytes(&self) -> u64 {
        let amount = |resource: Resource| self.0[resource as usize].lease.amount();
        amount(Resource::Reads) + amount(Resource::Windows)
    }

    /// Returns whether the connection has a part of the resource.
    pub(crate) fn has(&self, resource: Resource) -> bool {
        self.0[resource as usize].lease.amount() > 0
    }

    /// Returns the grants for which others wait, if the connection has a part of the resource.
    pub(crate) fn grants_awaited(&self, resource: Resource) -> GrantsAwaited {
        self.0[resource as usize].lease.grants_awaited()
    }

    /// Forgets the requests of a slot whose transfer has ended.
    pub(crate) fn forget(&mut self, slot: u8) {
        self.0.iter_mut().for_each(|account| account.forget(slot));
    }
}

/// The part of one budget.
///
/// Its lease waits exactly while slots wait, apart from the moment in which a grant is distributed.
pub(crate) struct Account {
    lease: Lease,
    /// The slots that wait, each with the amount that it needs.
    waiting: VecDeque<(u8, u64)>,
}

impl Account {
    /// Requests an amount for a slot, in addition to what is `in_use`. Returns false if the slot
    /// has to wait.
    pub(crate) fn request(&mut self, slot: u8, amount: u64, in_use: u64) -> bool {
        self.settle(in_use);
        let is_granted = self.waiting.is_empty() && self.lease.extend(amount);
        if !is_granted {
            self.waiting.push_back((slot, amount));
        }
        is_granted
    }

    /// Takes what was granted, after a notification. Returns whether something was.
    pub(crate) fn collect(&mut self) -> bool {
        self.lease.collect()
    }

    /// Returns the next slot that waits, if there is room for it. Call it after a notification,
    /// until it returns `None`: then nothing waits, or the budget notifies again.
    pub(crate) fn next_granted(&mut self, in_use: u64) -> Option<u8> {
        let (slot, amount) = *self.waiting.front()?;
        if self.lease.is_waiting() {
            return None;
        }
        // The lease waited for another amount if the slot that was the first has ended.
        if self.lease.amount() < in_use.saturating_add(amount) {
            self.settle(in_use);
            if !self.lease.extend(amount) {
                return None;
            }
        }
        self.waiting.pop_front();
        Some(slot)
    }

    /// Forgets the requests of a slot. If others wait, the lease keeps its turn for them.
    fn forget(&mut self, slot: u8) {
        self.waiting.retain(|(other, _)| *other != slot);
        if self.waiting.is_empty() {
            self.lease.stop_waiting();
        }
    }

    /// Gives back what is not in use. Whoever waits holds nothing that others could need.
    pub(crate) fn settle(&mut self, in_use: u64) {
        self.lease.shrink_to(in_use);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn account(budget: &Arc<FairBudget>, number: u32) -> Account {
        let address = SocketAddr::from(([192, 0, 2, number as u8], 1));
        let prefix = AddressPrefix::of(address.into(), 64);
        let lease = Lease::empty(budget, prefix, PeerId::new(number, 1));
        Account { lease, waiting: VecDeque::new() }
    }

    #[test]
    fn the_requests_of_ended_transfers_are_forgotten() {
        let budget = FairBudget::new(100, |_| {});
        let mut other = account(&budget, 1);
        assert!(other.request(0, 100, 0));
        let mut account = account(&budget, 2);
        for slot in 0..100 {
            assert!(!account.request(slot, 10, 0));
            account.forget(slot);
            assert!(account.waiting.is_empty() && !account.lease.is_waiting());
        }
        other.settle(0);
        account.collect();
        assert_eq!((account.next_granted(0), account.lease.amount(), budget.used()), (None, 0, 0));
    }

    /// The slot is used again for a transfer that needs more.
    #[test]
    fn a_grant_for_an_ended_transfer_is_not_lent_to_the_next_one() {
        let budget = FairBudget::new(1000, |_| {});
        let mut other = account(&budget, 1);
        assert!(other.request(0, 1000, 0));
        let mut account = account(&budget, 2);
        assert!(!account.request(7, 10, 0) && !account.request(8, 5, 0));
        account.forget(7);
        assert!(!account.request(7, 80, 0));
        other.settle(930);
        account.collect();
        assert_eq!(account.next_granted(0), Some(8));
        assert_eq!(account.next_granted(5), None, "80 do not fit beside 930");
        other.settle(0);
        account.collect();
        assert_eq!(account.next_granted(5), Some(7));
        assert_eq!((account.next_granted(85), budget.used()), (None, 85));
    }

    /// A notification that came too late must not end the wait of the lease.
    #[test]
    fn a_late_notification_changes_nothing() {
        let budget = FairBudget::new(1000, |_| {});
        let mut account = account(&budget, 1);
        assert!(account.request(6, 200, 0));
        assert!(!account.request(7, 100, 200));
        // The bytes of the first have left, and nobody has settled yet.
        account.collect();
        assert_eq!(account.next_granted(0), None);
        account.settle(0);
        account.collect();
        assert_eq!((account.next_granted(0), budget.used()), (Some(7), 100));
        assert_eq!((account.next_granted(100), account.lease.is_waiting()), (None, false));
    }
}
