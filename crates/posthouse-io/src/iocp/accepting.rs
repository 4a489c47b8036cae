//! Accepting: several peers are awaited at a time, and whatever happens to one, the next is awaited
//! in its place.

use std::net::IpAddr;
use std::os::windows::io::OwnedSocket;

use windows_sys::Win32::Networking::WinSock::SOCKET;

use super::operation::{self, OperationKind};
use super::socket::{LaneCx, SocketState};
use crate::address::Address;
use crate::error::{Error, Failure};
use crate::handle::NewSocket;
use crate::native::socket_core::{Input, Started};
use crate::op::{Completion, Outcome};
use crate::sys;
use crate::token::Tag;

/// Peers that are taken, where they are there already, before other sockets have their turn.
const ACCEPTS_PER_POLL: usize = 16;

/// Peers that left before they were accepted, one after the other and none between them that came.
/// So many are rather the system's own doing, or a flood: to await the next at once would take all
/// of a core.
const MAX_LOST_IN_A_ROW: u32 = 256;

/// An accept that goes on.
#[derive(Debug)]
pub(super) struct Accepting {
    tag: Tag,
    /// The listener's own, and what its peers get.
    ip: IpAddr,
    no_delay: bool,
    /// Peers that the system awaits.
    awaited: usize,
    /// Accepts that have failed since a peer came.
    lost_in_a_row: u32,
    cancelled: bool,
    /// Peers that had come and not left, and were lost all the same: the system refused what each
    /// of them gets.
    lost: u64,
    /// What kept the last peer from being awaited. None is awaited anew until one comes; when none
    /// is awaited any more, it ends the accept.
    short_of: Option<Error>,
}

/// Whether an error is about the one peer that was at the head of the queue, and not about the
/// listener: it left before it was accepted.
fn is_per_connection(error: Error) -> bool {
    matches!(error.failure, Failure::Reset | Failure::Aborted | Failure::TimedOut)
}

/// Gives an accepted peer what every connected socket gets; the peer's address.
fn ready(new: &OwnedSocket, listener: SOCKET, no_delay: bool) -> Result<Address, Error> {
    sys::now_accepted(new, listener)?;
    sys::prepare(new, no_delay)?;
    // It has none where the peer has left.
    sys::peer_address(new).ok_or(Error::new(Failure::NotConnected))
}

impl Accepting {
    /// A peer that was accepted could not be made ready. Where that is not for its having left it
    /// may happen to all, and whoever accepts is not told: the log is, at the first, the second,
    /// the fourth, and so on.
    fn drop_peer(&mut self, error: Error) {
        if is_per_connection(error) || error.failure == Failure::NotConnected {
            return;
        }
        self.lost += 1;
        if self.lost.is_power_of_two() {
            tracing::warn!(
                lost = self.lost,
                "a peer that was accepted is dropped, the system refuses its options: {error}"
            );
        }
    }
}

impl SocketState {
    pub(super) fn start_accept(&mut self, tag: Tag, cx: &mut LaneCx<'_>) -> Started {
        self.check_accept()?;
        let listener = self.handle();
        let local = sys::local_address(listener);
        let local = local.ok_or(Error::new(Failure::AddressNotAvailable))?;
        let accepting = Accepting {
            tag,
            ip: local.ip(),
            no_delay: sys::has_no_delay(listener),
            awaited: 0,
            lost_in_a_row: 0,
            cancelled: false,
            lost: 0,
            short_of: None,
        };
        self.input = Input::Accept(Box::new(accepting));
        self.arm_accepts(cx);
        Ok(())
    }

    /// Has the system await as many peers as it should.
    pub(super) fn arm_accepts(&mut self, cx: &mut LaneCx<'_>) {
        for _ in 0..ACCEPTS_PER_POLL {
            let Input::Accept(accepting) = &mut self.input else { return };
            let ends = accepting.cancelled || self.error.is_some();
            if ends || accepting.short_of.is_some() || accepting.awaited >= cx.core.accepts {
                return self.end_accept(cx);
            }
            let new = match sys::stream_socket(accepting.ip) {
                Ok(new) => new,
                Err(error) => {
                    accepting.short_of = Some(error);
                    return self.end_accept(cx);
                }
            };
            accepting.awaited += 1;
            let functions = &cx.core.functions;
            let submitted = functions.accept(self.raw(), cx.socket, new, cx.free_list);
            if let Err(ended) = self.count(submitted) {
                let (work, result) = cx.free_list.keep(ended);
                let OperationKind::Accept { new, .. } = work else { unreachable!("an accept") };
                self.on_accept(new, result.map(drop), cx);
            }
        }
        self.need_poll();
    }

    /// A peer has come, or did not.
    pub(super) fn on_accept(
        &mut self,
        new: OwnedSocket,
        result: Result<(), Error>,
        cx: &mut LaneCx<'_>,
    ) {
        let listener = self.raw();
        let Input::Accept(accepting) = &mut self.input else {
            unreachable!("the system accepts where an accept waits")
        };
        accepting.awaited -= 1;
        accepting.lost_in_a_row = if result.is_ok() { 0 } else { accepting.lost_in_a_row + 1 };
        let no_delay = accepting.no_delay;
        match result {
            Ok(()) => {
                accepting.short_of = None;
                let ready = ready(&new, listener, no_delay);
                #[cfg(test)]
                let ready = cx.core.functions.faults.not_ready.map_or(ready, Err);
                match ready {
                    Ok(peer) => {
                        let new = NewSocket { peer, handle: Box::new(new) };
                        let outcome = Outcome::Accepted(Box::new(new));
                        cx.done.put(Completion { tag: accepting.tag, more: true, outcome });
                    }
                    Err(error) => accepting.drop_peer(error),
                }
            }
            Err(error) if is_per_connection(error) => {
                if accepting.lost_in_a_row >= MAX_LOST_IN_A_ROW {
                    // As in a shortage: whoever accepts comes again later.
                    accepting.short_of = Some(Error { failure: Failure::NoBuffers, ..error });
                }
            }
            // Of our own doing; or not, and then it is no cancel to whoever submitted the accept.
            Err(error) if error.failure == Failure::Cancelled => {
                if !accepting.cancelled && self.error.is_none() {
                    accepting.short_of = Some(Error { failure: Failure::Other, ..error });
                }
            }
            Err(error) => accepting.short_of = Some(error),
        }
    }

    pub(super) fn cancel_accepts(&mut self, cx: &mut LaneCx<'_>) {
        let Input::Accept(accepting) = &mut self.input else { return };
        accepting.cancelled = true;
        operation::cancel(self.raw(), None);
        self.end_accept(cx);
    }

    /// Ends the accept, where it is to end and no peer is awaited any more.
    fn end_accept(&mut self, cx: &mut LaneCx<'_>) {
        let Input::Accept(accepting) = &self.input else { return };
        if accepting.awaited > 0 {
            return;
        }
        let tag = accepting.tag;
        let cancelled = accepting.cancelled;
        let cancelled = cancelled.then(|| Error::new(Failure::Cancelled));
        let Some(error) = self.error.or(cancelled).or(accepting.short_of) else { return };
        self.input = Input::Nothing;
        cx.done.fail(tag, error);
    }
}
