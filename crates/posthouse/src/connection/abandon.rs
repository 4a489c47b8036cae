//! The end of a connection that is blocked on operations on a disk that hangs.
//!
//! These operations cannot be cancelled. In a shutdown they get a grace period after the deadline;
//! then the connection ends without them. They keep the memory and the files that they own, which
//! are leaked: the operations count as submitted and not completed.

use std::fmt;

use super::{Context, Phase, Strand};
use crate::id::{Operation, pack};

/// The operations for which a connection is abandoned.
struct Abandoned {
    operations: u16,
    /// A description of one of the operations.
    example: String,
}

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, example } = self;
        let s = if *operations == 1 { "" } else { "s" };
        write!(f, "the system did not end {operations} operation{s}, such as: {example}")
    }
}

impl Strand {
    /// Ends the wait for the operations in flight, if none of them can be cancelled and the grace
    /// period of the shutdown has passed. Returns whether it did.
    pub(super) fn abandon_if_due(&mut self, cx: &mut Context<'_>) -> bool {
        if cx.shared.lifecycle.abandon_at().is_none_or(|at| cx.now < at) {
            return false;
        }
        let (files, example) = self.busy_transfers();
        let Some(example) = example.filter(|_| usize::from(self.in_flight) == files.len()) else {
            return false; // the others have been cancelled, and will complete
        };
        for sequence in files {
            cx.lane.abandon(pack(self.id, Operation::File, sequence.pack()));
        }
        self.abandoned = std::mem::take(&mut self.in_flight);
        self.log_abandoned(cx, &Abandoned { operations: self.abandoned, example });
        self.abandon_transfers(cx);
        true
    }

    fn log_abandoned(&mut self, cx: &Context<'_>, stuck: &Abandoned) {
        if let Some(suppressed) = cx.shared.abandoned_logged.may_log(cx.now) {
            tracing::error!(peer = %self.id, suppressed, "connection abandoned: {stuck}");
        }
        if let Phase::Joining(joining) = &mut self.phase
            && joining.farewell.reason.detail.is_empty()
        {
            joining.farewell.reason.detail = stuck.to_string().into();
        }
    }

    /// Takes the late completion of an abandoned operation, which has no effect. Returns whether
    /// the completion was one.
    pub(super) fn take_abandoned(&mut self, operation: Operation) -> bool {
        let is_one = operation == Operation::File && self.abandoned > 0;
        self.abandoned -= u16::from(is_one);
        is_one
    }
}
