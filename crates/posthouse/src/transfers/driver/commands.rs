//! The commands of the callbacks of this side: offers, requests, cancels. Those over the bounds
//! wait.

use posthouse_wire::{FileName, TransferFrame};

use super::TransferCommand;
use super::table::{PendingGet, Side, TransferState};
use crate::connection::{Context, Strand};
use crate::directory::Directory;
use crate::transfer::{TransferError, TransferErrorKind, TransferHandle};

/// The maximum number of offers and requests of this side that wait for their turn.
const MAX_WAITING: usize = 4096;

impl Strand {
    pub(super) fn run_commands(&mut self, cx: &mut Context<'_>) {
        let mut commands = std::mem::take(&mut self.cold().commands);
        while let Some(command) = commands.pop_front() {
            match command {
                TransferCommand::Cancel(progress) => self.cancel_transfer(cx, &progress),
                command if !self.session.may_transfer() => {
                    let kind = TransferErrorKind::Unsupported;
                    self.fail_command(cx, command, TransferError::here(kind, ""));
                }
                command if self.transfers().waiting.len() >= MAX_WAITING => {
                    let text = "too many offers and requests of this side wait on the connection";
                    let busy = TransferError::here(TransferErrorKind::Busy, text);
                    self.fail_command(cx, command, busy);
                }
                command => self.transfers().waiting.push_back(command),
            }
        }
        self.run_waiting(cx);
    }

    /// Starts the commands that may start now. They wait while the send queue is over its high
    /// mark: the commands of this side must not fill the queue beyond its bound.
    pub(super) fn run_waiting(&mut self, cx: &mut Context<'_>) {
        let max = self.max_transfers().max(1);
        while self.may_transfer_now()
            && !self.is_over_high()
            && self.transfers().has_room(Side::Local, max)
        {
            match self.transfers().waiting.pop_front() {
                Some(command) if self.transfers().is_out_of_ids() => {
                    let text = "the connection has no transfer numbers left; connect again";
                    let busy = TransferError::here(TransferErrorKind::Busy, text);
                    self.fail_command(cx, command, busy);
                }
                Some(TransferCommand::Offer { directory, name, delivery_id, progress }) => {
                    self.begin_offer(cx, (&directory, &name), delivery_id, progress);
                }
                Some(TransferCommand::Get { directory, name, progress }) => {
                    self.begin_get(cx, directory, &name, progress);
                }
                Some(TransferCommand::List { after, then }) => self.begin_list(cx, &after, then),
                Some(TransferCommand::Cancel(_)) => unreachable!("a cancel does not wait"),
                None => return,
            }
        }
    }

    fn begin_get(
        &mut self,
        cx: &mut Context<'_>,
        directory: Directory,
        name: &str,
        progress: TransferHandle,
    ) {
        let bad_name =
            |text: &str| Err(TransferError::here(TransferErrorKind::BadName, text.to_owned()));
        let name = match FileName::parse(name) {
            Ok(name) => name,
            Err(error) => return self.notify(cx, progress, bad_name(&error.to_string())),
        };
        let first = self.session.first_transfer_id();
        let id = self.transfers().next_id(first);
        let until = cx.now + self.transfer_timeout();
        if self.send_frame(cx, TransferFrame::Get { id, name: progress.name().as_bytes() }) {
            let get = PendingGet { directory, name, progress, until };
            self.transfers().gets.insert(id, get);
        } else {
            self.notify(cx, progress, bad_name("the name is too long for a frame of the peer"));
        }
    }

    fn cancel_transfer(&mut self, cx: &mut Context<'_>, progress: &TransferHandle) {
        let error = || TransferError::here(TransferErrorKind::Cancelled, "");
        let waits = |command: &TransferCommand| match command {
            TransferCommand::Offer { progress: it, .. }
            | TransferCommand::Get { progress: it, .. } => it == progress,
            _ => false,
        };
        let transfers = self.transfers();
        if let Some(at) = transfers.waiting.iter().position(waits) {
            transfers.waiting.remove(at);
            return self.notify(cx, progress.clone(), Err(error()));
        }
        if let Some((id, _)) = transfers.gets.iter().find(|(_, get)| get.progress == *progress) {
            let id = *id;
            transfers.gets.remove(&id);
            self.send_abort(cx, id, &error());
            return self.notify(cx, progress.clone(), Err(error()));
        }
        if let Some(slot) = transfers.slot_of(|state| match state {
            TransferState::Sending(sending) => sending.progress == *progress,
            TransferState::Receiving(receiving) => receiving.progress == *progress,
            _ => false,
        }) {
            self.end_transfer(cx, slot, error(), posthouse_wire::Tell::Peer);
        }
    }

    pub(super) fn fail_command(
        &mut self,
        cx: &mut Context<'_>,
        command: TransferCommand,
        error: TransferError,
    ) {
        match command {
            TransferCommand::Offer { progress, .. } | TransferCommand::Get { progress, .. } => {
                self.notify(cx, progress, Err(error));
            }
            TransferCommand::List { then, .. } => {
                self.run_callback(cx, |callbacks, output| {
                    then.into_inner()(callbacks, output, Err(error))
                });
            }
            TransferCommand::Cancel(_) => {}
        }
    }
}
