//! The memory of files: the budgets of the endpoint, and what one connection has of them.
//!
//! Reads and windows have separate budgets. Memory that is read into leaves when the peer takes
//! bytes from its socket; a window waits for bytes that the peer must first read from its disk.
//! With one budget, the windows of two endpoints could hold all of it and wait for each other's
//! reads.

use std::collections::VecDeque;

use crate::address_prefix::AddressPrefix;
use crate::fair_budget::{FairBudget, Lease};
use crate::id::PeerId;
use crate::mailbox::PeerPost;
use crate::shared::Shared;
use crate::sync::{Arc, Weak};

/// The use of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryUse {
    /// Bytes of files that were read, to send or to compare them.
    Reads,
    /// Bytes that peers may send, or have sent, and that are not written.
    Windows,
}

/// The budgets of an endpoint.
pub(crate) struct FileMemory {
    reads: Arc<FairBudget>,
    windows: Arc<FairBudget>,
}

impl FileMemory {
    /// Divides `max` bytes into both budgets.
    pub(crate) fn new(max: usize, shared: &Weak<Shared>) -> Self {
        let budget = |usage| {
            let shared = shared.clone();
            FairBudget::new(max as u64 / 2, move |peer| {
                if let Some(shared) = shared.upgrade() {
                    // It fails only if the connection has ended; then it takes back its room.
                    let _ = shared.post_bounded(peer, PeerPost::MemoryGranted(usage));
                }
            })
        };
        Self { reads: budget(MemoryUse::Reads), windows: budget(MemoryUse::Windows) }
    }

    /// Returns the number of bytes in use.
    pub(crate) fn used(&self) -> u64 {
        self.reads.used() + self.windows.used()
    }
}

/// The memory of the transfers of one connection.
pub(crate) struct TransferMemory {
    reads: Account,
    windows: Account,
}

/// The part of one budget.
pub(crate) struct Account {
    lease: Lease,
    /// The slots that wait for memory, with the number of bytes.
    waiting: VecDeque<(u8, u64)>,
}

impl TransferMemory {
    pub(crate) fn new(budgets: &FileMemory, prefix: AddressPrefix, peer: PeerId) -> Self {
        let account = |budget| Account {
            lease: Lease::empty(budget, prefix, peer),
            waiting: VecDeque::new(),
        };
        Self { reads: account(&budgets.reads), windows: account(&budgets.windows) }
    }

    pub(crate) fn account(&mut self, usage: MemoryUse) -> &mut Account {
        match usage {
            MemoryUse::Reads => &mut self.reads,
            MemoryUse::Windows => &mut self.windows,
        }
    }
}

impl Account {
    /// Requests memory for a slot, in addition to the `in_use` bytes. Returns false if the slot has
    /// to wait.
    pub(crate) fn request(&mut self, slot: u8, bytes: u64, in_use: u64) -> bool {
        self.settle(in_use);
        let is_granted = self.waiting.is_empty() && self.lease.extend(bytes);
        if !is_granted {
            self.waiting.push_back((slot, bytes));
        }
        is_granted
    }

    /// Takes what was granted, after a notification.
    pub(crate) fn collect(&mut self) {
        self.lease.collect();
    }

    /// Returns the next slot that waits, if there is memory for it. Call it after a notification,
    /// until it returns `None`: then nothing waits, or the budget notifies again.
    pub(crate) fn next_granted(&mut self, in_use: u64) -> Option<u8> {
        let (slot, bytes) = *self.waiting.front()?;
        if self.lease.amount() < in_use.saturating_add(bytes) {
            self.settle(in_use);
            if !self.lease.extend(bytes) {
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
