//! The receives of one end: those in flight, and their results in order.

use std::collections::VecDeque;

use posthouse_io::{Outcome, ReceiveMode};

use super::random::Random;
use super::tags::SEQUENCE_MASK;

/// The receives whose turn has not come, in the order of their submission.
#[derive(Debug)]
pub(super) struct Receives {
    waiting: VecDeque<Receive>,
    next_sequence: u16,
    /// The number of single receives that should be in flight at a time.
    at_once: usize,
    /// True exactly when one worker takes all completions of a socket. Otherwise the completions of
    /// a stream could not be ordered, and no streams are used.
    ordered: bool,
    /// True exactly when only one receive, of one buffer, is in flight at a time.
    single: bool,
}

#[derive(Debug)]
struct Receive {
    sequence: u16,
    mode: ReceiveMode,
    cancelled: bool,
    /// The outcomes that have come and are not handled yet; several for a stream.
    outcomes: VecDeque<Outcome>,
    /// True exactly when its terminal completion has come.
    over: bool,
}

/// The outcome of a receive, and whether the receive had been cancelled.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    pub(super) cancelled: bool,
}

/// The maximum number of receives in flight on one socket, cancelled ones included.
const MAX_WAITING: usize = 8;

impl Receives {
    pub(super) fn new(ordered: bool, single: bool) -> Self {
        Self { waiting: VecDeque::new(), next_sequence: 0, at_once: 1, ordered, single }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Marks all receives in flight as cancelled.
    pub(super) fn cancel(&mut self) {
        self.waiting.iter_mut().for_each(|receive| receive.cancelled = true);
    }

    /// Returns the next receive to submit, if there should be one.
    pub(super) fn wanted(&mut self, random: &mut Random) -> Option<(u16, ReceiveMode)> {
        let live = self.waiting.iter().filter(|r| !r.cancelled && !r.over).count();
        let stream = self.waiting.back().is_some_and(|r| r.mode == ReceiveMode::Stream && !r.over);
        let mode = match self.waiting.back() {
            // The new receive follows a receive that continues, or one that was cancelled.
            Some(last) if !last.cancelled && !last.over => {
                if stream || live >= self.at_once {
                    return None;
                }
                ReceiveMode::Once
            }
            // Sometimes it waits until the cancelled receives have ended.
            Some(_) if self.waiting.len() >= MAX_WAITING || random.one_in(3) => return None,
            _ if live > 0 => return None,
            _ => {
                self.at_once = if self.single { 1 } else { random.between(1, 4) as usize };
                if self.ordered && !self.single && random.one_in(2) {
                    ReceiveMode::Stream
                } else {
                    ReceiveMode::Once
                }
            }
        };
        let sequence = self.next_sequence;
        self.next_sequence = (sequence + 1) & SEQUENCE_MASK;
        let outcomes = VecDeque::new();
        self.waiting.push_back(Receive { sequence, mode, cancelled: false, outcomes, over: false });
        Some((sequence, mode))
    }

    /// Handles a completion. Returns whether an earlier receive is still awaited.
    pub(super) fn complete(
        &mut self,
        sequence: u16,
        more: bool,
        outcome: Outcome,
    ) -> Result<bool, String> {
        let at = self.waiting.iter().position(|receive| receive.sequence == sequence);
        let Some(at) = at.filter(|at| !self.waiting[*at].over) else {
            return Err(format!(
                "receive {sequence} is not in flight, but completed with {outcome:?}"
            ));
        };
        let receive = &mut self.waiting[at];
        if more && receive.mode == ReceiveMode::Once {
            return Err(format!("a single receive continues: {outcome:?}"));
        }
        receive.outcomes.push_back(outcome);
        receive.over = !more;
        Ok(at > 0)
    }

    /// Returns the next outcome to handle.
    pub(super) fn next(&mut self) -> Result<Option<Verdict>, String> {
        while let Some(first) = self.waiting.front_mut() {
            let cancelled = first.cancelled;
            if let Some(outcome) = first.outcomes.pop_front() {
                let last = first.over && first.outcomes.is_empty();
                let data = matches!(outcome, Outcome::Received(_));
                if first.mode == ReceiveMode::Stream && data == last {
                    return Err(format!(
                        "a stream of receives continues: {}, after {outcome:?}",
                        !last
                    ));
                }
                if last {
                    self.waiting.pop_front();
                }
                return Ok(Some(Verdict { outcome, cancelled }));
            }
            if !first.over {
                break;
            }
            self.waiting.pop_front();
        }
        Ok(None)
    }
}
