//! The end of a connection that the system holds: a disk that hangs, a look-up that does not come
//! back.
//!
//! A cancel does not reach these operations, so in a shutdown they have their time, past its
//! deadline, and then the connection ends without them. What they own stays theirs, whoever has
//! them: it is leaked, and counted as submitted and not completed.

use std::fmt;

use super::{Context, Strand};
use crate::id::{Operation, pack};

/// What a connection is given up for.
struct Held {
    operations: u16,
    /// One of them.
    example: String,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, example } = self;
        let s = if *operations == 1 { "" } else { "s" };
        write!(f, "the system did not end {operations} operation{s}: {example}")
    }
}

impl Strand {
    /// Ends the wait for what is in flight, where all of it is such as cannot be cancelled, and the
    /// shutdown does not wait any longer.
    pub(super) fn stop_waiting(&mut self, cx: &mut Context<'_>) -> bool {
        if cx.core.life.gives_up_at().is_none_or(|at| cx.now < at) {
            return false;
        }
        let (places, example) = self.busy_transfers();
        let files = places.into_iter().map(|place| (Operation::File, place));
        let look_up = self.resolving.then_some((Operation::Resolve, 0));
        let held: Vec<_> = files.chain(look_up).collect();
        if usize::from(self.in_flight) != held.len() {
            return false; // the rest has been cancelled, and comes
        }
        for (operation, place) in held {
            cx.lane.abandon(pack(self.id, operation, place));
        }
        self.given_up = std::mem::take(&mut self.in_flight);
        let example = example.unwrap_or_else(|| "looking a name up".to_owned());
        self.say_given_up(cx, &Held { operations: self.given_up, example });
        self.give_up_transfers(cx);
        true
    }

    fn say_given_up(&mut self, cx: &Context<'_>, held: &Held) {
        if let Some(others_since) = cx.core.given_up_logged.may_log(cx.now) {
            tracing::error!(peer = %self.id, others_since, "connection given up: {held}");
        }
        if let Some(reason) = self.reason.as_mut().filter(|reason| reason.detail.is_empty()) {
            reason.detail = held.to_string().into();
        }
    }

    /// Whether this is the late end of an operation that was given up: nothing comes of it.
    pub(super) fn ends_given_up(&mut self, operation: Operation) -> bool {
        let is_one = matches!(operation, Operation::File | Operation::Resolve) && self.given_up > 0;
        self.given_up -= u16::from(is_one);
        is_one
    }
}
