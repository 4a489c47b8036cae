//! The driver of the transfers of a connection. It performs the actions of their state machines in
//! `posthouse-wire`.
//!
//! A [`FileSender`](posthouse_wire::FileSender) or a [`FileReceiver`](posthouse_wire::FileReceiver)
//! decides what happens; here its actions become operations on files, frames in the connection's
//! output, callbacks of the handler, and memory of the worker's free list. Each transfer has a slot
//! in a [table](table::Transfers); the slot and the number of the operation there are the sequence
//! number of its file operations. A slot is not used again while an operation of it is in flight.
//! Commands of callbacks wait as a [`TransferCommand`] until the turn settles, so that the table is
//! never changed under a callback.

mod chunks;
mod commands;
mod ending;
mod frames;
mod lending;
mod listing;
mod offers;
mod receiving;
mod reclaiming;
mod sending;
mod signs_of_life;
mod table;
mod walking;

use std::time::Duration;

use posthouse_io::{Error, Failure, FileOp, FileOutcome, Op, Outcome as IoOutcome};
use posthouse_wire::{
    DeliveryId, DiskError, DiskFailure, Escaped, OpNumber, TransferFailure, TransferFrame,
};

use crate::callbacks::Callbacks;
use crate::close::HandlerResult;
use crate::connection::{Context, Strand};
use crate::contained::Contained;
use crate::directory::Directory;
use crate::id::{FileSequence, Operation};
use crate::output::Output;
use crate::pace::REJECTION;
use crate::transfer::{
    FileList, FinishedTransfer, Reject, TransferError, TransferErrorKind, TransferHandle,
};

use table::TransferState;
pub(crate) use table::Transfers;
pub(crate) use walking::WalkKind;

/// The task that gets the entries of a listing, or the error.
pub(crate) type ListTask =
    Contained<Box<dyn FnOnce(&mut dyn Callbacks, Output<'_>, Listed) -> HandlerResult + Send>>;
type Listed = Result<FileList, TransferError>;

/// A command of a callback.
pub(crate) enum TransferCommand {
    /// Offers a file.
    Offer {
        directory: Directory,
        name: Box<str>,
        delivery_id: Option<DeliveryId>,
        progress: TransferHandle,
    },
    /// Requests a file.
    Get { directory: Directory, name: Box<str>, progress: TransferHandle },
    /// Requests a listing.
    List { after: Box<str>, then: ListTask },
    /// Cancels a transfer.
    Cancel(TransferHandle),
}

/// The calls of the connection to its transfers.
impl Strand {
    /// Runs the commands of callbacks, and sends the next chunk if there is room.
    pub(crate) fn run_transfers(&mut self, cx: &mut Context<'_>) {
        if self.has_transfers() && self.may_transfer_now() {
            self.run_commands(cx);
            self.send_next_chunk(cx);
            self.run_walks(cx);
        }
        if self.has_transfers() {
            self.settle_leases();
        }
    }

    /// Moves the time after which transfers expire that wait for the peer: this side did not read
    /// for `time`.
    pub(crate) fn postpone_expiry(&mut self, time: Duration, now: Duration) {
        if self.has_transfers() {
            let last_activity = &mut self.transfers().last_activity;
            *last_activity = (*last_activity + time).min(now);
        }
    }

    /// Handles a frame of a transfer.
    pub(crate) fn on_transfer_frame(&mut self, cx: &mut Context<'_>, frame: TransferFrame<'_>) {
        if !self.may_transfer_now() {
            return;
        }
        self.may_pause_again();
        self.on_first_message();
        if let Err(violation) = self.take_transfer_frame(cx, frame) {
            self.on_violation(cx, &violation);
        }
    }

    /// Handles the result of an operation on files.
    pub(crate) fn on_file(
        &mut self,
        cx: &mut Context<'_>,
        sequence: FileSequence,
        outcome: IoOutcome,
    ) {
        let result = match outcome {
            IoOutcome::File(outcome) => Ok(*outcome),
            IoOutcome::Failed(error) => Err(error),
            other => unreachable!("a file operation ended with {other:?}"),
        };
        let FileSequence { slot, number } = sequence;
        if self.transfers().walks.is_walking(slot) {
            self.on_walked(cx, slot, result);
            return self.run_waiting(cx);
        }
        match &self.transfers().transfer(slot).state {
            TransferState::Sending(_) => self.on_sender_op(cx, slot, OpNumber(number), result),
            TransferState::Receiving(_) => self.on_receiver_op(cx, slot, OpNumber(number), result),
            TransferState::Listing(_) => unreachable!("a listing needs walks only"),
            TransferState::Orphaned => self.transfers().release(slot),
        }
        self.run_waiting(cx);
    }

    /// Returns the next time at which this side does something for transfers whether or not it
    /// reads from the peer: a walk that may begin, or a check of what the transfers hold.
    pub(crate) fn transfers_continue_at(&self) -> Option<Duration> {
        let transfers = self.cold.as_ref()?.transfers.as_ref()?;
        transfers.walks.waits_until().into_iter().chain(transfers.next_use_check()).min()
    }

    /// Returns the time at which a transfer, or a request, expires.
    pub(crate) fn transfers_deadline(&self) -> Option<Duration> {
        let transfers = self.cold.as_ref()?.transfers.as_ref()?;
        transfers.deadline(self.transfer_timeout())
    }

    /// Returns the operations in flight, and the description of the transfer of one of them.
    pub(crate) fn busy_transfers(&self) -> (Vec<FileSequence>, Option<String>) {
        let transfers = self.cold.as_ref().and_then(|cold| cold.transfers.as_ref());
        transfers.map_or_else(Default::default, |transfers| transfers.in_flight())
    }

    /// Returns whether a verified file is about to get its name. Then the connection should end
    /// only after the peer has been told of it.
    pub(crate) fn is_finishing_transfers(&self) -> bool {
        let transfers = self.cold.as_ref().and_then(|cold| cold.transfers.as_ref());
        transfers.is_some_and(|transfers| transfers.is_finishing())
    }

    fn has_transfers(&self) -> bool {
        let cold = self.cold.as_ref();
        cold.is_some_and(|cold| cold.transfers.is_some() || !cold.commands.is_empty())
    }
}

/// The calls of the transfers to their connection.
impl Strand {
    fn transfers(&mut self) -> &mut Transfers {
        self.cold().transfers.get_or_insert_default()
    }

    /// Returns whether the connection sends and handles frames of transfers.
    fn may_transfer_now(&self) -> bool {
        self.is_open()
    }

    fn transfer_timeout(&self) -> Duration {
        Duration::from_millis(self.config.options.transfer_timeout_ms)
    }

    fn max_transfers(&self) -> usize {
        self.config.options.max_transfers
    }

    /// Returns the maximum number of bytes of a chunk to this peer.
    fn max_chunk_bytes(&self, cx: &Context<'_>) -> usize {
        let room = self.send_limits().max_payload_bytes - posthouse_wire::CHUNK_HEAD_BYTES;
        room.min(cx.shared.tuning.chunk_bytes)
    }

    /// Submits an operation of a transfer.
    fn submit_file(&mut self, cx: &mut Context<'_>, slot: u8, number: OpNumber, op: FileOp) {
        let sequence = FileSequence { slot, number: number.0 }.pack();
        self.submit(cx, Operation::File, sequence, Op::File(Box::new(op)));
    }

    /// Queues a frame. Returns false if it is larger than the peer accepts.
    fn send_frame(&mut self, cx: &mut Context<'_>, frame: TransferFrame<'_>) -> bool {
        if !self.may_transfer_now() {
            return true; // the peer would not get it
        }
        self.transfers().last_said = cx.now;
        let max = self.send_limits().max_payload_bytes;
        self.append(&mut cx.worker.free_list, |tail| frame.encode(max, tail)).is_ok()
    }

    fn send_abort(&mut self, cx: &mut Context<'_>, id: u32, error: &TransferError) {
        self.refuse(cx, id, error.code(), error.text_for_peer());
    }

    fn refuse(&mut self, cx: &mut Context<'_>, id: u32, code: u16, text: &str) {
        self.send_frame(cx, TransferFrame::Abort { id, code, text: text.as_bytes() });
        // What this side began is not the peer's doing.
        let units = if self.session.is_local_transfer(id) { 0 } else { REJECTION };
        self.count_reply(cx, units);
    }

    /// Reports the end of a transfer to the handler.
    fn notify(
        &mut self,
        cx: &mut Context<'_>,
        progress: TransferHandle,
        result: Result<[u8; 32], TransferError>,
    ) {
        let peer = self.id;
        match &result {
            Ok(_) => cx.shared.stats.transfers.add(1),
            Err(_) => cx.shared.stats.transfers_failed.add(1),
        }
        let incoming = progress.is_incoming();
        let bytes = progress.transferred_bytes();
        let name = Escaped(progress.name()).to_string();
        let delivery = progress.delivery_id().map(tracing::field::display);
        match &result {
            Ok(_) => tracing::debug!(%peer, name, delivery, incoming, bytes, "file transferred"),
            Err(error) => {
                let message = "file not transferred";
                tracing::debug!(%peer, name, delivery, incoming, bytes, %error, message);
            }
        }
        let transfer = FinishedTransfer { progress, result };
        self.run_callback(cx, |callbacks, output| callbacks.transferred(output, &transfer));
    }

    /// Asks the handler and returns its answer, unless the call failed.
    fn ask<T>(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut dyn Callbacks, Output<'_>) -> Result<T, Reject>,
    ) -> Result<T, Reject> {
        let mut answer = Err(Reject::new("internal error"));
        self.run_callback(cx, |callbacks, output| {
            answer = call(callbacks, output);
            Ok(())
        });
        answer
    }
}

impl TransferError {
    /// Converts the reason for which a state machine ended its transfer.
    fn of_failure(failure: TransferFailure<TransferError>) -> Self {
        use TransferErrorKind as Kind;
        let kind = match failure {
            TransferFailure::Given(error) => return error,
            TransferFailure::Violation(_) => Kind::Protocol,
            TransferFailure::Exists { .. } => Kind::Exists,
            TransferFailure::HashDiffers => Kind::HashDiffers,
            TransferFailure::PrefixDiffers | TransferFailure::Changed(_) => Kind::Changed,
            TransferFailure::Replaced => Kind::Replaced,
            TransferFailure::NoRoom => Kind::QuotaExceeded,
            TransferFailure::NothingWritten => Kind::Disk,
        };
        TransferError::here(kind, failure.to_string())
    }
}

/// Converts a failure of the disk for the state machines.
fn disk_error(error: Error) -> DiskError<TransferError> {
    let failure = match error.failure {
        Failure::NotFound => DiskFailure::NotFound,
        Failure::Exists => DiskFailure::Exists,
        _ => DiskFailure::Other,
    };
    DiskError { failure, error: error.into() }
}

/// Panics because of an outcome that no operation of a transfer has.
fn unexpected(outcome: &FileOutcome) -> ! {
    unreachable!("a file operation of a transfer ended with {outcome:?}")
}
