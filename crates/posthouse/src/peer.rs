//! A connection as its callbacks see it. Holding a `Peer` is being on its strand.

use std::fmt;
use std::time::Duration;

use posthouse_io::Address;
use posthouse_wire::ReplyStatus;

use crate::close::{Close, Outcome, Reason, ReasonKind};
use crate::connection::{Errand, PendingRequest, Phase, Strand};
use crate::core::Core;
use crate::directory::Directory;
use crate::endpoint::Endpoint;
use crate::error::{RequestError, SendError, Unsendable};
use crate::group::Group;
use crate::id::PeerId;
use crate::message::{Message, Ticket};
use crate::output::Spares;
use crate::registry::PeerInfo;
use crate::sync::Arc;
use crate::transfer::{FileEntry, Progress, TransferError};

/// One connection, inside one of its callbacks.
pub struct Peer<'a, S> {
    strand: &'a mut Strand<S>,
    core: &'a Arc<Core<S>>,
    spares: &'a mut Spares,
    now: Duration,
}

impl<S> fmt::Debug for Peer<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("id", &self.strand.id).finish_non_exhaustive()
    }
}

impl<'a, S: Default + Send + 'static> Peer<'a, S> {
    pub(crate) fn new(
        strand: &'a mut Strand<S>,
        core: &'a Arc<Core<S>>,
        spares: &'a mut Spares,
        now: Duration,
    ) -> Self {
        Self { strand, core, spares, now }
    }

    /// What belongs to this connection.
    pub fn state(&mut self) -> &mut S {
        self.strand.state.get_or_insert_default()
    }

    /// Its id, with which other threads can send to it.
    pub fn id(&self) -> PeerId {
        self.strand.id
    }

    /// The address of the other end. `None` for a connection that never came up.
    pub fn address(&self) -> Option<Address> {
        self.strand.record.as_ref().map(|record| record.peer)
    }

    /// Addresses, age and figures. `None` for a connection that never came up.
    pub fn info(&self) -> Option<PeerInfo> {
        let record = self.strand.record.as_ref()?;
        Some(crate::registry::info(record, self.queued_bytes(), self.now))
    }

    /// Whether what is sent now is queued: false once this connection is closing.
    pub fn is_open(&self) -> bool {
        self.takes_output()
    }

    /// Whether hello is agreed: then there are requests, heartbeats and goodbyes.
    pub fn has_hello(&self) -> bool {
        self.strand.has_hello()
    }

    /// What the peer's hello carried as its credential; empty without one. Opaque to Posthouse.
    pub fn credential(&self) -> &[u8] {
        self.strand.session.agreed().map_or(&[], |agreed| &agreed.credential)
    }

    /// Bytes queued for the peer and not yet handed to the system.
    pub fn queued_bytes(&self) -> usize {
        self.strand.output.queued_bytes()
    }

    /// Queues a message. It leaves when the callback returns, together with what else is queued,
    /// in the order of the calls.
    ///
    /// It cannot fail here. A message that cannot be sent closes the connection with a reason:
    /// one over [`send_queue_bytes`](crate::Options::send_queue_bytes) for a peer that does not
    /// read, one larger than the peer takes, a kind from 4 to 31 where hello is agreed, a kind
    /// other than 0 or a delimiter in the payload where the framing has no place for it. On a
    /// connection that is closing it does nothing.
    pub fn send(&mut self, kind: u8, payload: &[u8]) {
        if !self.takes_output() {
            return;
        }
        let spoken = self.strand.spoken();
        let rules = &self.strand.rules;
        let tail = |tail: &mut Vec<u8>| rules.encode(kind, payload, spoken, tail);
        let result = self.strand.output.append(self.spares, tail);
        self.after_append(payload.len(), result);
    }

    fn takes_output(&self) -> bool {
        self.strand.phase == Phase::Open && self.strand.wanted_close.is_none()
    }

    fn after_append(&mut self, bytes: usize, result: Result<(), Unsendable>) {
        match result {
            Ok(()) => {
                self.strand.sent_message();
                self.strand.check_high(self.core);
                self.strand.check_full(self.core, bytes + 64);
            }
            Err(error) => {
                let reason = Reason::new(ReasonKind::Unsendable, error.to_string());
                self.strand.want_close(Close::telling(8, "internal error"), reason);
            }
        }
    }

    /// Asks the peer and runs `then` with its reply, on this connection's strand: with the reply,
    /// or with the reason why there is none. It runs exactly once, before `disconnected`.
    ///
    /// ```no_run
    /// # fn example(peer: &mut posthouse::Peer<'_, ()>) {
    /// use std::time::Duration;
    /// peer.request(40, b"what time is it?", Duration::from_secs(2), |peer, reply| {
    ///     println!("{} says {:?}", peer.id(), reply?.payload());
    ///     Ok(())
    /// });
    /// # }
    /// ```
    #[doc(alias = "ask")]
    pub fn request(
        &mut self,
        kind: u8,
        payload: &[u8],
        timeout: Duration,
        then: impl FnOnce(&mut Peer<'_, S>, Result<Message<'_>, RequestError>) -> Outcome
        + Send
        + 'static,
    ) {
        if let Err(error) = self.try_request(kind, payload) {
            let outcome = then(self, Err(error));
            self.heed(outcome);
            return;
        }
        let until = self.now.saturating_add(timeout);
        let extras = self.strand.extras();
        let id = extras.last_request();
        extras.requests.insert(id, PendingRequest { until, then: Box::new(then) });
    }

    fn try_request(&mut self, kind: u8, payload: &[u8]) -> Result<(), RequestError> {
        let not_sent = |error| Err(RequestError::NotSent(error));
        if !self.takes_output() {
            return not_sent(SendError::NotConnected);
        }
        let (_, max) = self.strand.spoken();
        if !self.strand.has_hello() {
            return not_sent(Unsendable::NoHello.into());
        }
        if self.strand.extras().requests.len() >= self.core.options.requests_max {
            return Err(RequestError::TooMany);
        }
        let id = self.strand.extras().next_request();
        let encoded = self.strand.output.append(self.spares, |tail| {
            posthouse_wire::encode_request(id, kind, payload, max, tail)
        });
        if let Err(error) = encoded {
            return not_sent(error.into());
        }
        self.after_append(payload.len(), Ok(()));
        Ok(())
    }

    /// Answers a request. Without effect where the request was answered already, or came from a
    /// connection that is gone.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is used once")]
    pub fn reply(&mut self, ticket: Ticket, kind: u8, payload: &[u8]) {
        self.answer(&ticket, ReplyStatus::Ok, kind, payload);
    }

    /// Refuses a request; the text reaches the peer as
    /// [`RequestError::Refused`](crate::RequestError::Refused).
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is used once")]
    pub fn refuse(&mut self, ticket: Ticket, text: &str) {
        self.answer(&ticket, ReplyStatus::Refused, 0, text.as_bytes());
    }

    fn answer(&mut self, ticket: &Ticket, status: ReplyStatus, kind: u8, payload: &[u8]) {
        if ticket.peer != self.strand.id {
            return;
        }
        let open = self.strand.extras.as_mut().is_some_and(|e| e.open_tickets.remove(&ticket.id));
        if !open || !self.takes_output() {
            return;
        }
        let (_, max) = self.strand.spoken();
        let result = self.strand.output.append(self.spares, |tail| {
            posthouse_wire::encode_reply(ticket.id, status, kind, payload, max, tail)
        });
        self.after_append(payload.len(), result.map_err(Unsendable::Frame));
    }

    /// Offers a file to the peer: a regular file beneath the directory, by its relative path, which
    /// is also the name that the peer is told. It is opened and read as operations, so this does
    /// not wait; how it ends, [`Handler::transferred`](crate::Handler::transferred) tells. More
    /// than [`transfers_max`](crate::Options::transfers_max) wait for their turn, 4096 at most. On
    /// a connection that is closing nothing happens.
    ///
    /// ```no_run
    /// # fn example(peer: &mut posthouse::Peer<'_, ()>, outbox: &posthouse::Directory) {
    /// let progress = peer.offer(outbox, "reports/today.csv");
    /// # let _ = progress;
    /// # }
    /// ```
    pub fn offer(&mut self, directory: &Directory, name: &str) -> Progress {
        self.offer_as(directory, name, name)
    }

    /// The same under another name for the peer.
    pub fn offer_as(&mut self, directory: &Directory, path: &str, name: &str) -> Progress {
        let progress = Progress::new(name, false);
        let (directory, name, watched) = (directory.clone(), path.into(), progress.clone());
        self.run_errand(Errand::Offer { directory, name, progress: watched });
        progress
    }

    /// Asks the peer for a file, to be received into the directory under the same name; how it
    /// ends, [`Handler::transferred`](crate::Handler::transferred) tells. On a connection that is
    /// closing nothing happens.
    pub fn get(&mut self, directory: &Directory, name: &str) -> Progress {
        self.get_as(directory, name, name)
    }

    /// The same, to be kept under another name.
    pub fn get_as(&mut self, directory: &Directory, name: &str, keep_as: &str) -> Progress {
        let progress = Progress::new(name, true);
        let (directory, name, watched) = (directory.clone(), keep_as.into(), progress.clone());
        self.run_errand(Errand::Get { directory, name, progress: watched });
        progress
    }

    /// Asks the peer what files it has, and runs `then` with the first of them after the name
    /// `after`, in order (empty: from the beginning). Go on after the last one; none is the end.
    pub fn list(
        &mut self,
        after: &str,
        then: impl FnOnce(&mut Peer<'_, S>, Result<Vec<FileEntry>, TransferError>) -> Outcome
        + Send
        + 'static,
    ) {
        self.run_errand(Errand::List { after: after.into(), then: Box::new(then) });
    }

    /// Gives a transfer of this connection up. What the receiver has stays for the next attempt.
    pub fn cancel(&mut self, progress: &Progress) {
        self.run_errand(Errand::Cancel(progress.clone()));
    }

    fn run_errand(&mut self, errand: Errand<S>) {
        if self.takes_output() {
            self.strand.extras().errands.push_back(errand);
        }
    }

    /// Runs `then` on this connection's strand after this time, unless the connection is gone by
    /// then. About 100 bytes each while they wait. It is not taken back: let it look at the state,
    /// and do nothing where it is no longer wanted.
    #[doc(alias = "timer")]
    pub fn after(
        &mut self,
        delay: Duration,
        then: impl FnOnce(&mut Peer<'_, S>) -> Outcome + Send + 'static,
    ) {
        if self.strand.phase == Phase::Open {
            let at = self.now.saturating_add(delay);
            self.strand.extras().add_task(at, Box::new(then));
        }
    }

    /// The time since the endpoint started, as of this turn. In simulation it is virtual.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// A random number. In simulation it comes from the seed.
    pub fn random(&self) -> u64 {
        self.core.port.random()
    }

    /// Puts this connection into a group, until it leaves or ends.
    pub fn join(&mut self, group: &Group<S>) {
        if self.strand.phase == Phase::Open && group.members.join(self.strand.id) {
            self.strand.extras().groups.push(group.members.clone());
        }
    }

    /// Takes this connection out of a group.
    pub fn leave(&mut self, group: &Group<S>) {
        group.members.forget(self.strand.id);
        if let Some(extras) = &mut self.strand.extras {
            extras.groups.retain(|members| !Arc::ptr_eq(members, &group.members));
        }
    }

    /// Lifts the limits of a peer that is not admitted (16 KiB frames, a deadline), where
    /// [`admission_ms`](crate::Options::admission_ms) sets them.
    pub fn admit(&mut self) {
        self.strand.admit(self.core, self.now);
    }

    /// Delivers no further message of this peer until [`resume_reading`](Self::resume_reading).
    /// What it sends stays with the system, so that the peer is slowed down. Its pings are not
    /// answered meanwhile, but it is sent pings: it hears of this side, and is not called silent.
    pub fn pause_reading(&mut self) {
        self.strand.paused = true;
    }

    /// Goes on where [`pause_reading`](Self::pause_reading) stopped.
    pub fn resume_reading(&mut self) {
        self.strand.paused = false;
    }

    /// Closes this connection when the callback returns.
    pub fn close(&mut self, close: Close) {
        self.heed(Err(close));
    }

    fn heed(&mut self, outcome: Outcome) {
        if let Err(close) = outcome {
            let cause = close.cause.clone().unwrap_or_default();
            self.strand.want_close(close, Reason::new(ReasonKind::Closed, cause));
        }
    }

    /// The endpoint, to reach other connections with.
    pub fn endpoint(&self) -> Endpoint<S> {
        Endpoint::of(self.core)
    }
}
