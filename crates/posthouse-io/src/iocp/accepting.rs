//! Accepting: the system awaits several peers at a time. When one has come or failed, the next is
//! awaited in its place.

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

/// The maximum number of waiting peers that are accepted before other sockets have their turn.
const ACCEPTS_PER_POLL: usize = 16;

/// The maximum number of consecutive peers that left before they were accepted. The cause of so
/// many is more likely the system itself, or a flood; awaiting the next peer at once would use all
/// of a core.
const MAX_LOST_IN_A_ROW: u32 = 256;

/// An accept in progress.
#[derive(Debug)]
pub(super) struct Accepting {
    tag: Tag,
    /// The listener's address and its `no_delay` option, for the sockets of its peers.
    ip: IpAddr,
    no_delay: bool,
    /// The number of peers that the system awaits.
    awaited: usize,
    /// The number of accepts that have failed since the last peer came.
    lost_in_a_row: u32,
    cancelled: bool,
    /// The number of peers that came, did not leave, and were lost nevertheless: the system refused
    /// an option of their sockets.
    lost: u64,
    /// The error that prevented the last accept. No accept is started until a peer comes. When no
    /// peer is awaited any more, this error ends the operation.
    short_of: Option<Error>,
}

/// Returns whether an error concerns only the peer at the head of the queue, which left before it
/// was accepted, and not the listener.
fn is_per_connection(error: Error) -> bool {
    matches!(error.failure, Failure::Reset | Failure::Aborted | Failure::TimedOut)
}

/// Gives an accepted socket the options of every connected socket, and returns the peer's address.
fn ready(new: &OwnedSocket, listener: SOCKET, no_delay: bool) -> Result<Address, Error> {
    sys::now_accepted(new, listener)?;
    sys::prepare(new, no_delay)?;
    // There is no address if the peer has left.
    sys::peer_address(new).ok_or(Error::new(Failure::NotConnected))
}

impl Accepting {
    /// Drops an accepted peer that could not be made ready. If the peer has not left, the cause may
    /// affect all peers, and the submitter of the accept does not learn of it. So the log reports
    /// the first, the second, the fourth, and so on.
    fn drop_peer(&mut self, error: Error) {
        if is_per_connection(error) || error.failure == Failure::NotConnected {
            return;
        }
        self.lost += 1;
        if self.lost.is_power_of_two() {
            tracing::warn!(
                lost = self.lost,
                "an accepted peer is dropped because the system refused its socket options: {error}"
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

    /// Starts accepts until the system awaits as many peers as it should.
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

    /// Handles the end of one accept, successful or not.
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
                    // As in a shortage: the submitter tries again later.
                    accepting.short_of = Some(Error { failure: Failure::NoBuffers, ..error });
                }
            }
            // The operation's own cancel. Any other cancel is a failure for the submitter of the
            // accept.
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

    /// Ends the operation if it is to end and no peer is awaited any more.
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
