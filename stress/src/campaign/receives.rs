//! The receives of one end: which are in flight, and what they came to, in their order.

use std::collections::VecDeque;

use posthouse_io::{Outcome, ReceiveMode};

use super::random::Random;
use super::tags::SEQUENCE_MASK;

/// Receives whose turn has not come, in the order of their submission.
#[derive(Debug)]
pub(super) struct Receives {
    waiting: VecDeque<Receive>,
    next_sequence: u16,
    /// How many single receives are wanted at once.
    at_once: usize,
    /// Whether one worker takes all completions of a socket. Else a stream's could not be put into
    /// their order, and there is none.
    ordered: bool,
    /// Whether there is only one at a time, of one buffer.
    single: bool,
}

#[derive(Debug)]
struct Receive {
    sequence: u16,
    mode: ReceiveMode,
    cancelled: bool,
    /// What has come and is not yet seen to: of a stream several.
    outcomes: VecDeque<Outcome>,
    /// True exactly when its terminal completion has come.
    over: bool,
}

/// What a receive brought, and whether it had been asked to end.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    pub(super) cancelled: bool,
}

/// Receives in flight on one socket, cancelled ones included.
const MAX_WAITING: usize = 8;

impl Receives {
    pub(super) fn new(ordered: bool, single: bool) -> Self {
        Self { waiting: VecDeque::new(), next_sequence: 0, at_once: 1, ordered, single }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whatever is in flight has been asked to end.
    pub(super) fn cancel(&mut self) {
        self.waiting.iter_mut().for_each(|receive| receive.cancelled = true);
    }

    /// The next receive to submit, if there should be one.
    pub(super) fn wanted(&mut self, random: &mut Random) -> Option<(u16, ReceiveMode)> {
        let live = self.waiting.iter().filter(|r| !r.cancelled && !r.over).count();
        let stream = self.waiting.back().is_some_and(|r| r.mode == ReceiveMode::Stream && !r.over);
        let mode = match self.waiting.back() {
            // What follows a receive that goes on, or that has been cancelled.
            Some(last) if !last.cancelled && !last.over => {
                if stream || live >= self.at_once {
                    return None;
                }
                ReceiveMode::Once
            }
            // Now and then it waits until what was cancelled has ended.
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

    /// A completion has come; whether an earlier receive is still awaited.
    pub(super) fn complete(
        &mut self,
        sequence: u16,
        more: bool,
        outcome: Outcome,
    ) -> Result<bool, String> {
        let at = self.waiting.iter().position(|receive| receive.sequence == sequence);
        let Some(at) = at.filter(|at| !self.waiting[*at].over) else {
            return Err(format!("receive {sequence} is not in flight, but {outcome:?} has come"));
        };
        let receive = &mut self.waiting[at];
        if more && receive.mode == ReceiveMode::Once {
            return Err(format!("a single receive goes on: {outcome:?}"));
        }
        receive.outcomes.push_back(outcome);
        receive.over = !more;
        Ok(at > 0)
    }

    /// What is to be seen to next.
    pub(super) fn next(&mut self) -> Result<Option<Verdict>, String> {
        while let Some(first) = self.waiting.front_mut() {
            let cancelled = first.cancelled;
            if let Some(outcome) = first.outcomes.pop_front() {
                let last = first.over && first.outcomes.is_empty();
                let data = matches!(outcome, Outcome::Received(_));
                if first.mode == ReceiveMode::Stream && data == last {
                    return Err(format!("a stream that goes on: {}, with {outcome:?}", !last));
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
