//! The pauses of a connection because of the work that the peer's address causes: see
//! [`Pace`](crate::pace::Pace).
//!
//! An accepted peer whose address exceeds its pace is not read for a while. Between two such pauses
//! something of the peer is read.

use std::time::Duration;

use super::{Context, Strand};
use crate::pace::{MAX_PIECES_PAUSE, SMALL_PIECE};

/// Whether a peer is read, as far as the pace of its address is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pacing {
    /// It is read.
    #[default]
    Free,
    /// It is not read until this time.
    Paused(Cause, Duration),
    /// It is read again. There is no further pause until something is read that may cause work.
    Resumed(Cause),
    /// As `Resumed`, but no listing is sent until this time.
    ListsWait(Duration),
}

/// The work that caused a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Requests,
    /// Small pieces of a frame. The time of the frame goes on during the pause.
    Pieces,
}

impl Strand {
    /// Counts work that moves nothing. An accepted peer whose address causes too much of it is not
    /// read for a while.
    pub(crate) fn count_work(&mut self, cx: &Context<'_>, units: u64) {
        self.count(cx, units, Cause::Requests);
    }

    /// Counts a small piece of a frame, which costs a receive. Its pause is short, so that the
    /// frame can be completed in its time.
    pub(super) fn count_small_piece(&mut self, cx: &Context<'_>) {
        self.may_pause_again();
        self.count(cx, SMALL_PIECE, Cause::Pieces);
    }

    fn count(&mut self, cx: &Context<'_>, units: u64, cause: Cause) {
        let Some(peer) = self.stats.as_ref().map(|stats| stats.peer) else { return };
        if self.connects() || units == 0 {
            return;
        }
        let until = cx.shared.pace.count(cx.shared.prefix_of(peer), units, cx.now);
        let Some(until) = until.filter(|_| self.is_open()) else { return };
        let pacing = match self.pacing() {
            // What was requested before does not make them longer.
            Pacing::Paused(..) | Pacing::ListsWait(_) => return,
            Pacing::Resumed(_) => Pacing::ListsWait(until),
            Pacing::Free => {
                cx.shared.stats.rejection_pauses.add(1);
                let until = match cause {
                    Cause::Requests => until,
                    Cause::Pieces => until.min(cx.now + MAX_PIECES_PAUSE),
                };
                Pacing::Paused(cause, until)
            }
        };
        self.cold().pacing = pacing;
    }

    fn pacing(&self) -> Pacing {
        self.cold.as_ref().map_or(Pacing::Free, |cold| cold.pacing)
    }

    /// Notes that something of the peer is read that may cause work.
    pub(crate) fn may_pause_again(&mut self) {
        if matches!(self.pacing(), Pacing::Resumed(_) | Pacing::ListsWait(_)) {
            self.cold().pacing = Pacing::Free;
        }
    }

    /// Returns the time at which the pause, or the wait of the listings, ends.
    pub(super) fn paced_until(&self) -> Option<Duration> {
        match self.pacing() {
            Pacing::Paused(_, until) | Pacing::ListsWait(until) => Some(until),
            Pacing::Free | Pacing::Resumed(_) => None,
        }
    }

    /// Ends the pause, or the wait of the listings, when its time is over.
    pub(super) fn end_pause(&mut self, now: Duration) {
        if self.paced_until().is_some_and(|at| at <= now) {
            self.cold().pacing = match self.pacing() {
                Pacing::Paused(cause, _) => Pacing::Resumed(cause),
                _ => Pacing::Resumed(Cause::Requests),
            };
        }
    }

    /// Returns whether the peer is not read.
    #[inline]
    pub(super) fn is_paced(&self) -> bool {
        matches!(self.pacing(), Pacing::Paused(..))
    }

    /// Returns whether the pause that has just ended was for small pieces of a frame, and forgets
    /// it.
    pub(super) fn take_pieces(&mut self) -> bool {
        let is_for_pieces = self.pacing() == Pacing::Resumed(Cause::Pieces);
        if is_for_pieces {
            self.cold().pacing = Pacing::Resumed(Cause::Requests);
        }
        is_for_pieces
    }

    /// Returns whether the peer gets no listings now: it reads none, or its address has caused too
    /// much work.
    pub(crate) fn is_held_up(&self) -> bool {
        self.is_over_high() || matches!(self.pacing(), Pacing::Paused(..) | Pacing::ListsWait(_))
    }
}
