//! A connection as its own callbacks see it. Code that holds a `Peer` is on the strand.

use std::fmt;
use std::time::Duration;

use posthouse_io::Address;

use crate::callbacks::Callbacks;
use crate::close::{Close, HandlerResult};
use crate::connection::PendingRequest;
use crate::contained::Contained;
use crate::endpoint::Endpoint;
use crate::erased::with_peer;
use crate::error::{Busy, RequestError};
use crate::group::Group;
use crate::handler::Handler;
use crate::id::PeerId;
use crate::message::Message;
use crate::output::Output;
use crate::registry::PeerInfo;
use crate::sync::Arc;
use crate::transfer::{Destination, FileList, Source, TransferError, TransferHandle};
use crate::transfers::driver::TransferCommand;

/// A connection, inside one of its callbacks. Code that holds a `&mut Peer` is on the connection's
/// strand: no other callback of the connection runs at the same time.
pub struct Peer<'a, H: Handler> {
    endpoint: &'a Endpoint<H>,
    state: &'a mut H::State,
    output: Output<'a>,
}

impl<H: Handler> fmt::Debug for Peer<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl<'a, H: Handler> Peer<'a, H> {
    pub(crate) fn new(
        endpoint: &'a Endpoint<H>,
        state: &'a mut H::State,
        output: Output<'a>,
    ) -> Self {
        Self { endpoint, state, output }
    }

    /// Returns the handler.
    pub fn handler(&self) -> &'a H {
        self.endpoint.handler()
    }

    /// Returns the endpoint, which can reach other connections. A clone of it keeps the endpoint
    /// running.
    pub fn endpoint(&self) -> &'a Endpoint<H> {
        self.endpoint
    }

    /// Returns the id of this connection. Other threads pass it to
    /// [`Endpoint::send`](crate::Endpoint::send).
    pub fn id(&self) -> PeerId {
        self.output.strand.id
    }

    /// Returns the state of this connection.
    pub fn state(&self) -> &H::State {
        self.state
    }

    /// Returns the mutable state of this connection.
    ///
    /// `peer.send(1, peer.state().as_bytes())` does not compile, because the state is part of the
    /// peer: use [`split`](Self::split).
    pub fn state_mut(&mut self) -> &mut H::State {
        self.state
    }

    /// Returns the state and the output as two borrows, so that data in the state can be sent.
    ///
    /// ```
    /// # use posthouse::{Handler, HandlerResult, Message, Peer};
    /// struct Latest;
    ///
    /// impl Handler for Latest {
    ///     type State = Vec<u8>;
    ///
    ///     fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
    ///         let (state, output) = peer.split();
    ///         output.send(1, state);
    ///         *state = message.to_vec();
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub fn split(&mut self) -> (&mut H::State, &mut Output<'a>) {
        (self.state, &mut self.output)
    }

    pub(crate) fn output(&self) -> &Output<'a> {
        &self.output
    }

    /// Returns the name of the listener that accepted this connection, or of the target to which
    /// this side connected. [`Listener::name`](crate::Listener::name) and
    /// [`Target::name`](crate::Target::name) set it; the default is the text of the address. So one
    /// handler can serve several listeners:
    ///
    /// ```
    /// # use posthouse::{Handler, HandlerResult, Message, Peer};
    /// struct Gateway;
    ///
    /// impl Handler for Gateway {
    ///     type State = ();
    ///
    ///     fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
    ///         match peer.origin() {
    ///             "devices" => println!("a reading: {:?}", message.payload()),
    ///             other => println!("a message of {other}"),
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub fn origin(&self) -> &str {
        &self.output.strand.config.origin
    }

    /// Returns the address of the peer; `None` if the connection was never established.
    pub fn address(&self) -> Option<Address> {
        self.output.strand.stats.as_ref().map(|stats| stats.peer)
    }

    /// Returns addresses, age and counts; `None` if the connection was never established.
    pub fn info(&self) -> Option<PeerInfo> {
        let stats = self.output.strand.stats.as_ref()?;
        Some(crate::registry::info(stats, self.queued_bytes(), self.output.now))
    }

    /// Returns whether messages can be sent: `false` once this connection is closing.
    pub fn is_open(&self) -> bool {
        self.output.is_open()
    }

    /// Returns whether both sides have said hello. Requests, heartbeats, transfers and goodbyes
    /// need that.
    pub fn has_hello(&self) -> bool {
        self.output.strand.has_hello()
    }

    /// Returns the credential in the peer's hello, which is opaque to Posthouse. It is empty if the
    /// peer sent none.
    pub fn credential(&self) -> &[u8] {
        self.output.strand.session.agreed().map_or(&[], |agreed| &agreed.credential)
    }

    /// Returns the number of bytes queued for the peer and not yet handed to the system.
    pub fn queued_bytes(&self) -> usize {
        self.output.queued_bytes()
    }

    /// Queues a message. It is sent when the callback returns, together with everything else that
    /// is queued, in the order of the calls.
    ///
    /// The call cannot fail. Instead, a message closes the connection, with a reason for
    /// `disconnected`, if one of these is true:
    ///
    /// - the queue would exceed [`send_queue_bytes`](crate::ConnectionOptions::send_queue_bytes),
    ///   because the peer does not read;
    /// - the message is larger than the peer accepts;
    /// - its kind is 4 to 31, and both sides have said hello;
    /// - the framing cannot carry its kind (because the kind is not 0) or its payload (because the
    ///   payload contains the delimiter).
    ///
    /// The call has no effect on a connection that is closing.
    pub fn send(&mut self, kind: u8, payload: &[u8]) {
        self.output.send(kind, payload);
    }

    /// Sends a request and runs `then` on this connection's strand, with the reply or with an
    /// error. `then` runs exactly once, before `disconnected`. `?` in `then` closes this
    /// connection.
    ///
    /// At most [`max_requests`](crate::ConnectionOptions::max_requests) requests can wait for their
    /// replies, at about 100 bytes each; if that many wait, `then` runs at once with
    /// [`RequestError::TooMany`].
    ///
    /// ```
    /// # use posthouse::{Handler, HandlerResult, Peer};
    /// use std::time::Duration;
    ///
    /// struct Clock;
    ///
    /// impl Handler for Clock {
    ///     type State = ();
    ///
    ///     fn connected(&self, peer: &mut Peer<'_, Self>) -> HandlerResult {
    ///         peer.request(40, b"what time is it?", Duration::from_secs(2), |peer, reply| {
    ///             println!("{} says {:?}", peer.id(), reply?.payload());
    ///             Ok(())
    ///         });
    ///         Ok(())
    ///     }
    /// }
    /// ```
    #[doc(alias = "ask")]
    pub fn request(
        &mut self,
        kind: u8,
        payload: &[u8],
        timeout: Duration,
        then: impl FnOnce(&mut Peer<'_, H>, Result<Message<'_>, RequestError>) -> HandlerResult
        + Send
        + 'static,
    ) {
        match self.output.try_request(kind, payload) {
            Ok(id) => {
                let until = self.output.now.saturating_add(timeout);
                let pending = PendingRequest {
                    until,
                    then: Contained::new(Box::new(move |callbacks, output, reply| {
                        with_peer(callbacks, output, |peer| then(peer, reply))
                    })),
                };
                self.output.strand.cold().requests.insert(id, pending);
            }
            Err(error) => {
                let result = then(self, Err(error));
                self.output.apply_result(result);
            }
        }
    }

    /// Offers a file to the peer. The file is opened and read in the background, so the call does
    /// not block; [`Handler::transferred`] gets the result. If as many transfers as
    /// [`max_transfers`](crate::ConnectionOptions::max_transfers) are active, up to 4096 more wait
    /// for their turn; a further one fails with
    /// [`TransferErrorKind::Busy`](crate::TransferErrorKind::Busy). The call has no effect on a
    /// connection that is closing.
    ///
    /// ```
    /// # use posthouse::{Directory, Handler, Peer, Source};
    /// fn offer<H: Handler>(peer: &mut Peer<'_, H>, outbox: &Directory) {
    ///     let transfer = peer.offer_file(Source::new(outbox, "reports/today.csv"));
    ///     println!("offering {}", transfer.name());
    /// }
    /// ```
    pub fn offer_file(&mut self, source: Source) -> TransferHandle {
        let Source { directory, path, name, delivery_id } = source;
        let handle = TransferHandle::new(name.as_deref().unwrap_or(&path), false);
        let progress = handle.clone();
        let offer = TransferCommand::Offer { directory, name: path, delivery_id, progress };
        self.output.push_command(offer);
        handle
    }

    /// Requests a file from the peer; [`Handler::transferred`] gets the result. The bounds are
    /// those of [`offer_file`](Self::offer_file). The call has no effect on a connection that is
    /// closing.
    pub fn fetch_file(
        &mut self,
        name: &str,
        destination: impl Into<Destination>,
    ) -> TransferHandle {
        let Destination { directory, name: keep_as } = destination.into();
        let handle = TransferHandle::new(name, true);
        let name = keep_as.unwrap_or_else(|| name.into());
        let progress = handle.clone();
        self.output.push_command(TransferCommand::Get { directory, name, progress });
        handle
    }

    /// Requests a listing of the peer's files, and runs `then` with the first files whose names
    /// follow `after`, in order. An empty `after` starts at the beginning. To get the next page,
    /// pass [`FileList::next`] as `after`; if `next` is `None`, the list is complete. A page can
    /// have no files although others follow.
    ///
    /// `then` gets [`TransferErrorKind::Protocol`](crate::TransferErrorKind::Protocol) if the names
    /// are not in ascending order.
    pub fn list_files(
        &mut self,
        after: &str,
        then: impl FnOnce(&mut Peer<'_, H>, Result<FileList, TransferError>) -> HandlerResult
        + Send
        + 'static,
    ) {
        self.output.push_command(TransferCommand::List {
            after: after.into(),
            then: Contained::new(Box::new(move |callbacks, output, entries| {
                with_peer(callbacks, output, |peer| then(peer, entries))
            })),
        });
    }

    /// Cancels a transfer of this connection. The receiver keeps the received part for the next
    /// attempt.
    pub fn cancel_transfer(&mut self, transfer: &TransferHandle) {
        self.output.push_command(TransferCommand::Cancel(transfer.clone()));
    }

    /// Runs `then` on this connection's strand after this delay, unless the connection has ended
    /// or the timer is cancelled ([`Timer::cancel`]). Timers for the same time run in the order of
    /// the calls. A waiting timer costs about 100 bytes. If many timers are due at the same time,
    /// [`turn_messages`](crate::Tuning::turn_messages) of them run before other connections have
    /// their turn.
    ///
    /// ```
    /// use std::time::Duration;
    /// use posthouse::{Close, Handler, HandlerResult, Message, Peer, Timer};
    ///
    /// /// Closes the connection of a peer that pauses for longer than a minute.
    /// struct Chat;
    ///
    /// impl Handler for Chat {
    ///     type State = Option<Timer>;
    ///
    ///     fn received(&self, peer: &mut Peer<'_, Self>, _: Message<'_>) -> HandlerResult {
    ///         if let Some(timer) = peer.state_mut().take() {
    ///             timer.cancel(peer);
    ///         }
    ///         let minute = Duration::from_secs(60);
    ///         let timer = peer.after(minute, |_| Err(Close::graceful().log("too long a pause")))?;
    ///         *peer.state_mut() = Some(timer);
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Busy`] if [`max_timers`](crate::ConnectionOptions::max_timers) timers of this connection
    /// wait.
    #[doc(alias = "timer")]
    pub fn after(
        &mut self,
        delay: Duration,
        then: impl FnOnce(&mut Peer<'_, H>) -> HandlerResult + Send + 'static,
    ) -> Result<Timer, Busy> {
        let at = self.output.now.saturating_add(delay);
        let strand = &mut *self.output.strand;
        let id = strand.id;
        if !strand.is_open() {
            return Ok(Timer { id, key: (at, u64::MAX) });
        }
        let max = strand.config.options.max_timers;
        let cold = strand.cold();
        if cold.timers.len() >= max {
            return Err(Busy { max_timers: max });
        }
        let task = move |callbacks: &mut dyn Callbacks, output: Output<'_>| {
            with_peer(callbacks, output, then)
        };
        Ok(Timer { id, key: cold.add_timer(at, Contained::new(Box::new(task))) })
    }

    /// Returns the time since the endpoint started. A worker reads the clock once for several
    /// callbacks, so within one callback the time does not advance. In simulation the time is
    /// virtual.
    pub fn now(&self) -> Duration {
        self.output.now
    }

    /// Returns a random number. In simulation it comes from the seed.
    pub fn random(&self) -> u64 {
        self.output.shared.port.random()
    }

    /// Adds this connection to a group, until it leaves or ends.
    pub fn join(&mut self, group: &Group) {
        let strand = &mut *self.output.strand;
        if strand.is_open() && group.members.join(strand.id) {
            strand.cold().groups.push(group.members.clone());
        }
    }

    /// Removes this connection from a group.
    pub fn leave(&mut self, group: &Group) {
        group.members.remove(self.output.strand.id);
        if let Some(cold) = &mut self.output.strand.cold {
            cold.groups.retain(|members| !Arc::ptr_eq(members, &group.members));
        }
    }

    /// Admits the peer: lifts the limits (16 KiB frames, a deadline) that
    /// [`admission_timeout_ms`](crate::ConnectionOptions::admission_timeout_ms) sets for a peer
    /// before its admission. It has no effect if that option is 0.
    pub fn admit(&mut self) {
        self.output.strand.admit(self.output.shared, self.output.now);
    }

    /// Stops the delivery of messages of this peer until [`resume_reading`](Self::resume_reading).
    /// The data stays in the system's buffers, which slows the peer down. Meanwhile Posthouse does
    /// not answer the peer's pings, but it sends pings of its own, so that the peer does not take
    /// this side for silent.
    ///
    /// If the connection is reset, or the system's keep-alive finds that the peer has vanished, the
    /// connection ends at once, and its undelivered messages are lost. If the peer ends its stream,
    /// the connection ends when reading has resumed and everything before the end is delivered, or
    /// after [`paused_end_timeout_ms`](crate::ConnectionOptions::paused_end_timeout_ms).
    pub fn pause_reading(&mut self) {
        self.output.strand.paused = true;
    }

    /// Resumes the delivery that [`pause_reading`](Self::pause_reading) stopped.
    pub fn resume_reading(&mut self) {
        self.output.strand.paused = false;
    }

    /// Closes this connection when the callback returns. The first close of a callback counts.
    pub fn close(&mut self, close: Close) {
        self.output.apply_result(Err(close));
    }
}

/// A timer of a connection, which [`Peer::after`] returns. Dropping it does not cancel the timer.
#[derive(Debug)]
pub struct Timer {
    id: PeerId,
    key: (Duration, u64),
}

impl Timer {
    /// Cancels the timer and drops its closure. Returns whether the timer was waiting: `false` if
    /// it has run, or if it belongs to another connection.
    pub fn cancel<H: Handler>(self, peer: &mut Peer<'_, H>) -> bool {
        let strand = &mut *peer.output.strand;
        let timers = strand.cold.as_mut().filter(|_| strand.id == self.id);
        timers.is_some_and(|cold| cold.timers.remove(&self.key).is_some())
    }
}
