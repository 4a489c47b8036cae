//! The watch of a socket that is not received from: a poll by the system, or a peek at times if the
//! system refuses that.

use std::time::Duration;

use super::operation::{self, OperationKind, OverlappedId, SocketEvents};
use super::socket::{LaneCx, SocketState};
use crate::error::{Error, Failure};
use crate::native::completion_queue::CompletionQueue;
use crate::native::socket_core::Watching;
use crate::op::Outcome;
use crate::sys;
use crate::token::Socket;

/// The time between two peeks at a socket that the system does not poll.
const PEEK_EVERY: Duration = Duration::from_secs(5);

/// The means by which a socket is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Watcher {
    #[default]
    Nothing,
    /// The system polls the socket.
    Poll(OverlappedId),
    /// The lane peeks at the socket, next when the socket's entry in the queue of peeks is due.
    Peeks,
}

/// The entry of a socket in the queue of peeks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PeekEntry {
    #[default]
    Nothing,
    /// The entry is in the queue, or is due and handled next. It may be older than the watch, and
    /// may outlast it.
    Queued,
}

/// The next peek at a socket, and its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peek {
    pub(super) at: Duration,
    pub(super) socket: Socket,
}

impl SocketState {
    /// Begins to poll for the events of the watch, if there is one.
    pub(super) fn arm_watch(&mut self, cx: &mut LaneCx<'_>) {
        if !self.is_watched() {
            return;
        }
        let events = match self.own.watching {
            Watching::End => SocketEvents::FAILED.and(SocketEvents::ENDED),
            Watching::Failure | Watching::Cancelled => SocketEvents::FAILED,
        };
        let submitted = cx.core.functions.poll(self.raw(), cx.socket, events, cx.free_list);
        match self.count(submitted) {
            Ok(id) => self.own.watcher = Watcher::Poll(id),
            Err(ended) => {
                let (work, result) = cx.free_list.keep(ended);
                let OperationKind::Poll { poll } = work else { unreachable!("a poll") };
                self.on_poll(poll.into_inner().events(), result.map(drop), cx);
            }
        }
    }

    /// Handles the end of a poll.
    pub(super) fn on_poll(
        &mut self,
        events: SocketEvents,
        result: Result<(), Error>,
        cx: &mut LaneCx<'_>,
    ) {
        self.own.watcher = Watcher::Nothing;
        if let Some(error) = self.error {
            return self.end_watch(|| Outcome::Failed(error), cx.done);
        }
        match result {
            _ if self.own.watching == Watching::Cancelled => {
                self.end_watch(|| Outcome::Failed(Error::new(Failure::Cancelled)), cx.done);
            }
            // A read has the reason: the system has discarded the bytes before it.
            Ok(()) if events.has_one_of(SocketEvents::FAILED) => {
                let reset = Error::new(Failure::Reset);
                self.fail_watch(sys::peek(self.handle()).err().unwrap_or(reset), cx);
            }
            Ok(()) if events.has_one_of(SocketEvents::ENDED) => {
                self.end_watch(|| Outcome::Ended, cx.done);
            }
            Ok(()) => self.arm_watch(cx),
            Err(error) if error.is_transient() => {
                self.end_watch(|| Outcome::Failed(error), cx.done);
            }
            Err(error) => {
                tracing::debug!(
                    "a socket is peeked at, because the system does not poll it: {error}"
                );
                self.peek(cx);
            }
        }
    }

    /// Ends the watch of a connection that has failed.
    fn fail_watch(&mut self, error: Error, cx: &mut LaneCx<'_>) {
        let error = self.set_error(error);
        self.end_watch(|| Outcome::Failed(error), cx.done);
    }

    /// Handles the entry of this socket that was taken from the queue of peeks, because it is due.
    /// The watch may have ended meanwhile.
    pub(super) fn on_peek_due(&mut self, cx: &mut LaneCx<'_>) {
        self.own.peek_entry = PeekEntry::Nothing;
        if self.own.watcher == Watcher::Peeks {
            self.peek(cx);
        }
    }

    /// Peeks at the socket, and arranges the next peek unless one is arranged already.
    fn peek(&mut self, cx: &mut LaneCx<'_>) {
        self.own.watcher = Watcher::Nothing;
        match sys::peek(self.handle()) {
            Err(error) => self.fail_watch(error, cx),
            Ok(Some(0)) if self.own.watching == Watching::End => {
                self.end_watch(|| Outcome::Ended, cx.done);
            }
            Ok(_) => {
                self.own.watcher = Watcher::Peeks;
                if self.own.peek_entry == PeekEntry::Nothing {
                    self.own.peek_entry = PeekEntry::Queued;
                    let at = cx.now + PEEK_EVERY;
                    cx.core.peeks().push_back(Peek { at, socket: cx.socket });
                }
            }
        }
    }

    /// Cancels the watch, if there is one. A poll ends with its packet.
    pub(super) fn cancel_watch(&mut self, cx: &mut LaneCx<'_>) {
        self.own.watching = Watching::Cancelled;
        if let Watcher::Poll(id) = self.own.watcher {
            operation::cancel(self.raw(), Some(id));
        }
        self.fail_peeking(Error::new(Failure::Cancelled), cx.done);
    }

    /// Fails a watch that the system does not know.
    pub(super) fn fail_peeking(&mut self, error: Error, done: &mut CompletionQueue) {
        if self.own.watcher == Watcher::Peeks {
            self.own.watcher = Watcher::Nothing;
            self.end_watch(|| Outcome::Failed(error), done);
        }
    }
}
