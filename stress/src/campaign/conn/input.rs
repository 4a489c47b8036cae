//! The receives of one end.

use posthouse_io::{Buffer, Failure, Op, Outcome, ReceiveMode};

use super::{Check, Conn, State, WorkerCx};
use crate::campaign::counts::Count;
use crate::campaign::receives::Verdict;
use crate::campaign::tags::OpKind;

impl Conn {
    /// Submits receives up to the wanted number, unless this end dawdles.
    pub(super) fn receive(&mut self, cx: &mut WorkerCx<'_>) {
        // Sometimes once more after the end, which must then be reported again.
        let seldom = self.summary.ended || self.part.dawdles;
        if self.random.one_in(16) != seldom {
            return;
        }
        while let Some((sequence, mode)) = self.receives.wanted(&mut self.random) {
            self.submit(OpKind::Receive, sequence, Op::Receive(self.socket, mode), cx);
            if mode == ReceiveMode::Stream {
                break;
            }
        }
    }

    pub(super) fn received(&mut self, verdict: Verdict, cx: &mut WorkerCx<'_>) -> Check {
        match verdict {
            Verdict { outcome: Outcome::Received(buffer), .. } => {
                // After this side's own reset, bytes that the system already had may still come.
                if self.summary.ended || (self.deaf && !self.reset) {
                    return Err(format!("{} bytes received after the end", buffer.len()));
                }
                self.check(self.summary.received, &buffer)?;
                let offset = self.summary.received;
                self.summary.received += buffer.len() as u32;
                cx.counts.add(Count::CheckedBytes, buffer.len() as u64);
                self.let_go(offset, buffer, cx);
                Ok(())
            }
            Verdict { outcome: Outcome::Ended, .. } => {
                if self.deaf {
                    return Err("a clean end after a failure".to_owned());
                }
                self.summary.ended = true;
                Ok(())
            }
            Verdict { outcome: Outcome::Failed(error), cancelled } => {
                let ended = error.failure == Failure::Cancelled;
                cx.counts.add(Count::ReceivesCancelled, ended.into());
                let reset = error.failure == Failure::Reset && !self.deaf && !self.reset;
                cx.counts.add(Count::FailedByReset, reset.into());
                self.deaf |= !ended;
                self.failed(error, cancelled)
            }
            Verdict { outcome, .. } => Err(format!("a receive completed with {outcome:?}")),
        }
    }

    fn check(&self, offset: u32, bytes: &[u8]) -> Check {
        match self.incoming.first_difference(offset, bytes) {
            _ if bytes.is_empty() => Err("a receive completed with no bytes".to_owned()),
            None => Ok(()),
            Some(at) => Err(format!(
                "a byte differs from the sent one: stream offset {}, {at} of {} in the buffer",
                offset as usize + at,
                bytes.len()
            )),
        }
    }

    /// Disposes of a buffer in one of four ways: recycles it, drops it here, drops it on another
    /// thread, or keeps it.
    fn let_go(&mut self, offset: u32, buffer: Buffer, cx: &mut WorkerCx<'_>) {
        match self.random.below(16) {
            0 if self.kept.is_none() => {
                cx.counts.count(Count::KeptBuffers);
                self.kept = Some((offset, buffer));
            }
            1 => {
                cx.counts.count(Count::DiscardedBuffers);
                cx.campaign.discard(buffer);
            }
            2..6 => drop(buffer),
            _ => {
                cx.counts.count(Count::RecycledBuffers);
                cx.lane.recycle(buffer);
            }
        }
    }

    /// Checks the kept buffer after a while, which must be unchanged, and recycles it.
    pub(super) fn release(&mut self, cx: &mut WorkerCx<'_>) -> Check {
        let over = matches!(self.state, State::Leaving | State::Closing);
        if (over || self.random.one_in(4))
            && let Some((offset, buffer)) = self.kept.take()
        {
            self.check(offset, &buffer).map_err(|what| format!("in a kept buffer: {what}"))?;
            cx.lane.recycle(buffer);
        }
        Ok(())
    }
}
