//! The watch of a socket that is not received from: a poll of the ring.

use io_uring::opcode;
use rustix::io::Errno;

use super::request::RequestKind;
use super::ring::Cqe;
use super::socket::{LaneCx, Serving, SocketState};
use crate::native::socket_core::Watching;
use crate::op::Outcome;
use crate::sys;

impl SocketState {
    /// Submits the request of a watch. A poll reports the end of the stream whether it is asked for
    /// it or not, and at once if it is there already. A watch for failures is therefore a request
    /// that continues: it reports each change once.
    pub(super) fn arm_watch(&mut self, cx: &mut LaneCx<'_>) {
        if !self.is_watched() {
            return;
        }
        self.own.serving = Serving::Armed;
        let events = libc::POLLRDHUP.cast_unsigned().into();
        let poll = opcode::PollAdd::new(self.raw(), events);
        let entry = poll.multi(self.own.watching == Watching::Failure).build();
        // SAFETY: the request names no memory.
        unsafe { self.push(RequestKind::Watch, entry, cx) };
    }

    /// Submits the request of a watch again if the kernel does not have it. If the error of the
    /// connection is known, the watch ends.
    pub(super) fn rearm_watch(&mut self, cx: &mut LaneCx<'_>) {
        if self.is_served() {
            return;
        }
        match self.error {
            Some(error) => self.end_watch(|| Outcome::Failed(error), cx.done),
            None => self.arm_watch(cx),
        }
    }

    pub(super) fn on_watch(&mut self, completed: Cqe, cx: &mut LaneCx<'_>) {
        let ended = self.end_serving(completed).is_some();
        assert!(self.is_watched(), "the kernel watches where a watch waits");
        let cancelled = self.own.watching == Watching::Cancelled;
        let events = libc::c_short::try_from(completed.result.unwrap_or(0)).unwrap_or(0);
        let hung_up = events & (libc::POLLHUP | libc::POLLERR) != 0;
        let sending = self.output.is_some();
        if hung_up && !cancelled {
            self.learn_failure(sending);
        }
        if !ended {
            if (self.error.is_some() || hung_up && sending) && self.own.serving == Serving::Armed {
                self.cancel_input(cx);
            }
            return;
        }
        match (completed.result, self.error) {
            (_, Some(error)) => self.end_watch(|| Outcome::Failed(error), cx.done),
            _ if cancelled => self.end_cancelled(cx.done),
            // The error is known when the send has ended.
            _ if hung_up && sending => {}
            (Err(Errno::CANCELED), None) if sending => {}
            (Ok(_), None)
                if self.own.watching == Watching::End && events & libc::POLLRDHUP != 0 =>
            {
                self.end_watch(|| Outcome::Ended, cx.done);
            }
            // Both streams have ended: nothing more can happen.
            _ if hung_up => {}
            (Err(errno), None) if errno != Errno::CANCELED => {
                self.end_watch(|| Outcome::Failed(sys::error(errno)), cx.done);
            }
            _ => self.arm_watch(cx),
        }
    }
}
