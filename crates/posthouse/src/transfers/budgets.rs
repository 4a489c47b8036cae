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
use crate::fair_budget::{FairBudget, Lease};
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
}

/// The part of one budget.
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

    /// Takes what was granted, after a notification.
    pub(crate) fn collect(&mut self) {
        self.lease.collect();
    }

    /// Returns the next slot that waits, if there is room for it. Call it after a notification,
    /// until it returns `None`: then nothing waits, or the budget notifies again.
    pub(crate) fn next_granted(&mut self, in_use: u64) -> Option<u8> {
        let (slot, amount) = *self.waiting.front()?;
        if self.lease.amount() < in_use.saturating_add(amount) {
            self.settle(in_use);
            if !self.lease.extend(amount) {
                return None;
            }
        }
        self.waiting.pop_front();
        Some(slot)
    }

    /// Gives back what is not in use. Whoever waits holds nothing that others could need.
    pub(crate) fn settle(&mut self, in_use: u64) {
        self.lease.shrink_to(in_use);
    }
}
