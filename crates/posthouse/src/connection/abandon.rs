//! The end of a connection that the system holds: a disk that hangs, a look-up that does not come
//! back.
//!
//! A cancel does not reach these operations, so in a shutdown they have their time, past its
//! deadline, and then the connection ends without them. What they own stays theirs, whoever has
//! them: it is leaked, and counted as submitted and not completed.

use std::fmt;

use super::{Context, Phase, Strand};
use crate::id::{Operation, pack};

/// The operations for which a connection is abandoned.
struct Abandoned {
    operations: u16,
    /// One of them.
    example: String,
}

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, example } = self;
        let s = if *operations == 1 { "" } else { "s" };
        write!(f, "the system did not end {operations} operation{s}: {example}")
    }
}

impl Strand {
    /// Ends the wait for the operations in flight if none of them can be cancelled and the shutdown
    /// waits no longer.
    pub(super) fn abandon_if_due(&mut self, cx: &mut Context<'_>) -> bool {
        if cx.shared.lifecycle.abandon_at().is_none_or(|at| cx.now < at) {
            return false;
        }
        let (files, example) = self.busy_transfers();
        let files = files.into_iter().map(|sequence| (Operation::File, sequence.pack()));
        let look_ups = (0..self.in_flight.look_ups).map(|_| (Operation::Resolve, 0));
        let stuck: Vec<_> = files.chain(look_ups).collect();
        if usize::from(self.in_flight.all) != stuck.len() {
            return false; // the rest has been cancelled, and comes
        }
        for (operation, sequence) in stuck {
            cx.lane.abandon(pack(self.id, operation, sequence));
        }
        self.abandoned = std::mem::take(&mut self.in_flight).all;
        let example = example.unwrap_or_else(|| "looking a name up".to_owned());
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

    /// Takes the late end of an abandoned operation: nothing comes of it. Returns whether it was
    /// one.
    pub(super) fn take_abandoned(&mut self, operation: Operation) -> bool {
        let is_one =
            matches!(operation, Operation::File | Operation::Resolve) && self.abandoned > 0;
        self.abandoned -= u16::from(is_one);
        is_one
    }
}
