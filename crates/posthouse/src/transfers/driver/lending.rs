//! The lending of memory to transfers, within the budgets of the endpoint.

use super::table::{TransferState, Transfers};
use crate::connection::{Context, Strand};
use crate::transfers::memory::{Account, MemoryUse, TransferMemory};

impl Transfers {
    /// Returns the number of bytes that the transfers and the queued chunk hold.
    fn in_use(&self, usage: MemoryUse) -> u64 {
        let of_slots = self.slots().map(|(_, transfer)| match (&transfer.state, usage) {
            (TransferState::Sending(sending), MemoryUse::Reads) => sending.sender.read_bytes(),
            (TransferState::Receiving(receiving), MemoryUse::Reads) => {
                receiving.receiver.read_bytes()
            }
            (TransferState::Receiving(receiving), MemoryUse::Windows) => {
                receiving.receiver.window_bytes()
            }
            _ => 0,
        });
        let queued = if usage == MemoryUse::Reads { self.last_chunk.memory_bytes } else { 0 };
        of_slots.sum::<u64>() + queued
    }

    /// Returns the account and the number of bytes in use; `None` if nothing was lent.
    fn account(&mut self, usage: MemoryUse) -> Option<(&mut Account, u64)> {
        self.memory.as_ref()?;
        let in_use = self.in_use(usage);
        Some((self.memory.as_mut()?.account(usage), in_use))
    }
}

impl Strand {
    /// Requests memory for a transfer. Returns false if the transfer has to wait.
    pub(super) fn request_memory(
        &mut self,
        cx: &Context<'_>,
        usage: MemoryUse,
        slot: u8,
        bytes: usize,
    ) -> bool {
        if self.transfers().memory.is_none() {
            let peer = self.stats.as_ref().map(|stats| stats.peer);
            let Some(peer) = peer else { return true };
            let prefix = cx.shared.prefix_of(peer);
            let memory = TransferMemory::new(&cx.shared.file_memory, prefix, self.id);
            self.transfers().memory = Some(Box::new(memory));
        }
        let account = self.transfers().account(usage);
        account.is_none_or(|(account, in_use)| account.request(slot, bytes as u64, in_use))
    }

    /// Lends the memory that was granted to the transfers that waited for it.
    pub(crate) fn on_memory_granted(&mut self, cx: &mut Context<'_>, usage: MemoryUse) {
        if !self.has_transfers() {
            return;
        }
        if let Some((account, _)) = self.transfers().account(usage) {
            account.collect();
        }
        while let Some((account, in_use)) = self.transfers().account(usage)
            && let Some(slot) = account.next_granted(in_use)
        {
            self.lend(cx, usage, slot);
        }
        self.settle_memory();
    }

    /// Gives back the memory that transfers do not use any more.
    pub(super) fn settle_memory(&mut self) {
        for usage in [MemoryUse::Reads, MemoryUse::Windows] {
            if let Some((account, in_use)) = self.transfers().account(usage) {
                account.settle(in_use);
            }
        }
    }

    /// Lends memory to a transfer, which may have ended meanwhile.
    fn lend(&mut self, cx: &mut Context<'_>, usage: MemoryUse, slot: u8) {
        let Some(state) = self.transfers().state_of(slot) else { return };
        match (state, usage) {
            (TransferState::Sending(sending), MemoryUse::Reads) => {
                sending.sender.grant(cx.worker.free_list.piece());
                self.run_sender(cx, slot);
                self.send_next_chunk(cx);
            }
            (TransferState::Receiving(receiving), MemoryUse::Reads) => {
                receiving.receiver.grant(cx.worker.free_list.piece());
                self.run_receiver(cx, slot);
            }
            (TransferState::Receiving(receiving), MemoryUse::Windows) => {
                receiving.receiver.extend();
                self.run_receiver(cx, slot);
            }
            _ => {}
        }
    }
}
