//! The lending of memory and of places of open files to transfers, within the budgets of the
//! endpoint.

use super::table::{TransferState, Transfers};
use crate::connection::{Context, Strand};
use crate::transfers::budgets::{Account, Resource, TransferLeases};

impl Transfers {
    /// Returns the amount that the transfers and the queued chunk hold.
    fn in_use(&self, resource: Resource) -> u64 {
        let of_slots = self.slots().map(|(_, transfer)| transfer.state.holds(resource));
        of_slots.sum::<u64>() + self.in_queue(resource)
    }

    /// Returns the amount that the queued chunk holds beside its transfer.
    pub(super) fn in_queue(&self, resource: Resource) -> u64 {
        match resource {
            Resource::Reads if !self.last_chunk.has_file => self.last_chunk.bytes,
            // The transfer has ended, and its chunk still has the file open.
            Resource::SentFiles if self.slot_of_last_chunk().is_none() => {
                u64::from(self.last_chunk.has_file)
            }
            Resource::Reads | Resource::SentFiles | Resource::Windows | Resource::ReceivedFiles => {
                0
            }
        }
    }

    /// Returns the account and the amount in use; `None` if nothing was lent.
    fn account(&mut self, resource: Resource) -> Option<(&mut Account, u64)> {
        self.leases.as_ref()?;
        let in_use = self.in_use(resource);
        Some((self.leases.as_mut()?.account(resource), in_use))
    }
}

impl TransferState {
    /// Returns the amount that the transfer holds.
    pub(super) fn holds(&self, resource: Resource) -> u64 {
        match (self, resource) {
            (Self::Sending(sending), Resource::Reads) => sending.sender.read_bytes(),
            (Self::Sending(sending), Resource::SentFiles) => sending.sender.open_files(),
            (Self::Receiving(receiving), Resource::Reads) => receiving.receiver.read_bytes(),
            (Self::Receiving(receiving), Resource::Windows) => receiving.receiver.window_bytes(),
            (Self::Receiving(receiving), Resource::ReceivedFiles) => {
                receiving.receiver.open_files()
            }
            _ => 0,
        }
    }
}

impl Strand {
    /// Requests an amount for a transfer. Returns false if the transfer has to wait.
    pub(super) fn request_lease(
        &mut self,
        cx: &Context<'_>,
        resource: Resource,
        slot: u8,
        amount: usize,
    ) -> bool {
        if self.transfers().leases.is_none() {
            let peer = self.stats.as_ref().map(|stats| stats.peer);
            let Some(peer) = peer else { return true };
            let prefix = cx.shared.prefix_of(peer);
            let leases = TransferLeases::new(&cx.shared.file_budgets, prefix, self.id);
            self.transfers().leases = Some(Box::new(leases));
        }
        let account = self.transfers().account(resource);
        let is_lent =
            account.is_none_or(|(account, in_use)| account.request(slot, amount as u64, in_use));
        if is_lent {
            self.transfers().renew_use_check(resource, cx.now);
        }
        is_lent
    }

    /// Lends what was granted to the transfers that waited for it.
    pub(crate) fn on_granted(&mut self, cx: &mut Context<'_>, resource: Resource) {
        if !self.has_transfers() {
            return;
        }
        if let Some((account, _)) = self.transfers().account(resource)
            && account.collect()
        {
            // The queue moves, so the time to use what it has begins anew.
            self.transfers().renew_use_check(resource, cx.now);
        }
        while let Some((account, in_use)) = self.transfers().account(resource)
            && let Some(slot) = account.next_granted(in_use)
        {
            self.lend(cx, resource, slot);
        }
        self.settle_leases();
    }

    /// Gives back what transfers do not use any more.
    pub(super) fn settle_leases(&mut self) {
        for resource in Resource::ALL {
            if let Some((account, in_use)) = self.transfers().account(resource) {
                account.settle(in_use);
            }
        }
        self.transfers().end_use_checks();
    }

    /// Lends to a transfer, which may have ended meanwhile.
    fn lend(&mut self, cx: &mut Context<'_>, resource: Resource, slot: u8) {
        let Some(transfer) = self.transfers().used_slot(slot) else { return };
        if matches!(resource, Resource::Reads | Resource::Windows) {
            transfer.lent_at.get_or_insert(cx.now);
        }
        match (&mut transfer.state, resource) {
            (TransferState::Sending(sending), Resource::Reads) => {
                sending.sender.grant(cx.worker.free_list.piece());
                self.run_sender(cx, slot);
                self.send_next_chunk(cx);
            }
            (TransferState::Receiving(receiving), Resource::Reads) => {
                receiving.receiver.grant(cx.worker.free_list.piece());
                self.run_receiver(cx, slot);
            }
            (TransferState::Receiving(receiving), Resource::Windows) => {
                receiving.receiver.extend();
                self.run_receiver(cx, slot);
            }
            (TransferState::Sending(sending), Resource::SentFiles) => {
                sending.sender.grant_file();
                self.run_sender(cx, slot);
            }
            (TransferState::Receiving(receiving), Resource::ReceivedFiles) => {
                receiving.receiver.grant_file();
                self.run_receiver(cx, slot);
            }
            _ => {}
        }
    }
}
