//! The rights to answer a request or an offer, in the callback or later.

use posthouse_wire::ReplyStatus;

use crate::error::SendError;
use crate::id::PeerId;
use crate::mailbox::PeerPost;
use crate::shared::{SendBound, Shared};
use crate::sync::{Arc, Weak};
use crate::transfer::{Destination, Reject};

/// The right to answer a request, inside [`Handler::requested`](crate::Handler::requested).
///
/// The first call of [`reply`](Self::reply), [`reject`](Self::reject) or [`take`](Self::take)
/// counts; later calls have no effect. A request that is neither answered nor taken is rejected
/// when the callback returns. The answer is sent after the messages that the callback sends.
///
/// ```
/// use posthouse::{Handler, HandlerResult, Message, Peer, Responder};
///
/// struct Upper;
///
/// impl Handler for Upper {
///     type State = ();
///
///     fn requested(
///         &self,
///         _: &mut Peer<'_, Self>,
///         message: Message<'_>,
///         responder: &mut Responder<'_>,
///     ) -> HandlerResult {
///         responder.reply(message.kind(), &message.payload().to_ascii_uppercase());
///         Ok(())
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Responder<'a> {
    shared: &'a Arc<Shared>,
    peer: PeerId,
    id: u32,
    max_payload_bytes: usize,
    /// The encoded frame of the answer; empty until the callback has answered.
    frame: &'a mut Vec<u8>,
    answer: Answer,
}

/// The state of a request's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    None,
    /// The callback has answered: the frame of the reply is encoded and ready to be queued.
    Framed,
    Taken,
    Failed(SendError),
}

impl<'a> Responder<'a> {
    pub(crate) fn new(
        shared: &'a Arc<Shared>,
        (peer, id): (PeerId, u32),
        max_payload_bytes: usize,
        frame: &'a mut Vec<u8>,
    ) -> Self {
        Self { shared, peer, id, max_payload_bytes, frame, answer: Answer::None }
    }

    /// Answers the request. If the reply is larger than the peer accepts, the connection is closed,
    /// as it is after an invalid message.
    pub fn reply(&mut self, kind: u8, payload: &[u8]) {
        self.answer(ReplyStatus::Ok, kind, payload);
    }

    /// Rejects the request. The peer gets the text as
    /// [`RequestError::Rejected`](crate::RequestError::Rejected), cut to the size that the peer
    /// accepts.
    pub fn reject(&mut self, text: &str) {
        self.answer(ReplyStatus::Refused, 0, cut(text.as_bytes(), self.max_payload_bytes));
    }

    /// Takes the right to answer, so that any thread can answer later. `None` if the request is
    /// already answered or taken.
    ///
    /// A database thread or a tokio task answers in this way:
    ///
    /// ```no_run
    /// use posthouse::{Handler, HandlerResult, Message, Peer, Responder};
    ///
    /// struct Lookups;
    ///
    /// impl Handler for Lookups {
    ///     type State = ();
    ///
    ///     fn requested(
    ///         &self,
    ///         _: &mut Peer<'_, Self>,
    ///         message: Message<'_>,
    ///         responder: &mut Responder<'_>,
    ///     ) -> HandlerResult {
    ///         let Some(later) = responder.take() else { return Ok(()) };
    ///         let key = message.to_vec();
    ///         // With tokio: `self.runtime.spawn(async move { .. })`.
    ///         std::thread::spawn(move || match key.as_slice() {
    ///             b"slow" => drop(later.reply(40, b"found")),
    ///             _ => later.reject("no such key"),
    ///         });
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub fn take(&mut self) -> Option<OwnedResponder> {
        if self.answer != Answer::None {
            return None;
        }
        self.answer = Answer::Taken;
        let shared = Arc::downgrade(self.shared);
        Some(OwnedResponder { shared, peer: self.peer, id: self.id, answered: false })
    }

    fn answer(&mut self, status: ReplyStatus, kind: u8, payload: &[u8]) {
        if self.answer != Answer::None {
            return;
        }
        let max = self.max_payload_bytes;
        let framed = posthouse_wire::encode_reply(self.id, status, kind, payload, max, self.frame);
        self.answer = match framed {
            Ok(()) => Answer::Framed,
            Err(error) => Answer::Failed(error.into()),
        };
    }

    /// Returns the answer at the end of the callback, and rejects the request if it has none.
    pub(crate) fn finish(mut self) -> Answer {
        self.reject(FORGOTTEN);
        self.answer
    }
}

/// The right to answer a request later, from any thread and any callback.
/// [`Responder::take`] returns it.
///
/// It does not keep the endpoint running or the connection open. Dropping it rejects the request.
/// It takes about 40 bytes itself, and 8 bytes in its connection. A connection can have at most
/// [`max_requests`](crate::ConnectionOptions::max_requests) unanswered requests. Posthouse reserves
/// room for a rejection when the request arrives, so a rejection never fails because the send queue
/// is full.
#[derive(Debug)]
#[must_use = "dropping it rejects the request"]
pub struct OwnedResponder {
    shared: Weak<Shared>,
    peer: PeerId,
    id: u32,
    answered: bool,
}

impl OwnedResponder {
    /// Returns the id of the connection whose peer sent the request.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Answers the request, without blocking.
    ///
    /// # Errors
    ///
    /// [`SendError::NotConnected`] if the connection has ended. If the reply is too large or the
    /// send queue is full, the call returns another error, and Posthouse rejects the request.
    pub fn reply(mut self, kind: u8, payload: &[u8]) -> Result<(), SendError> {
        let sent = self.send(ReplyStatus::Ok, kind, payload);
        self.answered = matches!(sent, Ok(()) | Err(SendError::NotConnected));
        sent
    }

    /// Rejects the request. The peer gets the text as
    /// [`RequestError::Rejected`](crate::RequestError::Rejected), cut to the size that the peer
    /// accepts. The call has no effect if the connection has ended.
    pub fn reject(mut self, text: &str) {
        self.reject_with(text);
    }

    fn reject_with(&mut self, text: &str) {
        self.answered = true;
        // Fails only if the connection has ended.
        let _ = self.send(ReplyStatus::Refused, 0, text.as_bytes());
    }

    fn send(&self, status: ReplyStatus, kind: u8, payload: &[u8]) -> Result<(), SendError> {
        let shared = self.shared.upgrade().ok_or(SendError::NotConnected)?;
        let id = self.id;
        // The place of a rejection was reserved when the request arrived.
        let bound = if status == ReplyStatus::Ok { SendBound::Reply } else { SendBound::Reserved };
        shared.send_frame(
            self.peer,
            bound,
            |_, limits, frame| {
                let max = limits.max_payload_bytes;
                let payload = if status == ReplyStatus::Ok { payload } else { cut(payload, max) };
                Ok(posthouse_wire::encode_reply(id, status, kind, payload, max, frame)?)
            },
            |frame| PeerPost::Reply { id, frame },
        )
    }
}

impl Drop for OwnedResponder {
    fn drop(&mut self) {
        if !self.answered {
            self.reject_with(FORGOTTEN);
        }
    }
}

/// The text of the rejection of a request without an answer.
const FORGOTTEN: &str = "the program gave no answer";

/// Cuts a text between two characters, so that a reply with it fits.
fn cut(text: &[u8], max_payload_bytes: usize) -> &[u8] {
    let room = max_payload_bytes.saturating_sub(posthouse_wire::REPLY_HEAD_BYTES);
    let mut end = text.len().min(room);
    while end < text.len() && end > 0 && text[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    &text[..end]
}

/// The means to answer an offer later, inside [`Handler::offered`](crate::Handler::offered).
#[derive(Debug)]
pub struct OfferResponder<'a> {
    shared: &'a Arc<Shared>,
    peer: PeerId,
    id: u32,
    taken: bool,
}

impl<'a> OfferResponder<'a> {
    pub(crate) fn new(shared: &'a Arc<Shared>, peer: PeerId, id: u32) -> Self {
        Self { shared, peer, id, taken: false }
    }

    /// Takes the right to answer, so that any thread can answer later. Return `Ok(None)` from the
    /// callback then. A second call returns `None`.
    ///
    /// ```
    /// use posthouse::*;
    ///
    /// struct Inbox(Directory);
    ///
    /// impl Handler for Inbox {
    ///     type State = ();
    ///
    ///     fn offered(
    ///         &self,
    ///         _: &mut Peer<'_, Self>,
    ///         offer: &Offer<'_>,
    ///         responder: &mut OfferResponder<'_>,
    ///     ) -> Result<Option<Destination>, Reject> {
    ///         if let Some(later) = responder.take() {
    ///             let name = offer.name().to_owned();
    ///             let inbox = self.0.clone();
    ///             // Here: a check in a database.
    ///             std::thread::spawn(move || match name.ends_with(".csv") {
    ///                 true => later.accept(&inbox),
    ///                 false => later.reject("only .csv files are accepted"),
    ///             });
    ///         }
    ///         Ok(None)
    ///     }
    /// }
    /// ```
    pub fn take(&mut self) -> Option<OwnedOfferResponder> {
        if std::mem::replace(&mut self.taken, true) {
            return None;
        }
        let shared = Arc::downgrade(self.shared);
        Some(OwnedOfferResponder { shared, peer: self.peer, id: self.id, answered: false })
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.taken
    }
}

/// The right to answer an offer later, from any thread and any callback.
/// [`OfferResponder::take`] returns it.
///
/// It does not keep the endpoint running or the connection open. Dropping it rejects the offer. An
/// offer without an answer is rejected after
/// [`transfer_timeout_ms`](crate::ConnectionOptions::transfer_timeout_ms). Until then it counts as
/// one of the peer's [`max_transfers`](crate::ConnectionOptions::max_transfers).
#[derive(Debug)]
#[must_use = "dropping it rejects the offer"]
pub struct OwnedOfferResponder {
    shared: Weak<Shared>,
    peer: PeerId,
    id: u32,
    answered: bool,
}

impl OwnedOfferResponder {
    /// Returns the id of the connection whose peer offers the file.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Accepts the file. The call has no effect if the offer has expired or the connection has
    /// ended.
    pub fn accept(mut self, destination: impl Into<Destination>) {
        self.answer(Ok(destination.into()));
    }

    /// Rejects the file. The call has no effect if the offer has expired or the connection has
    /// ended.
    pub fn reject(mut self, reject: impl Into<Reject>) {
        self.answer(Err(reject.into()));
    }

    fn answer(&mut self, answer: Result<Destination, Reject>) {
        self.answered = true;
        let Some(shared) = self.shared.upgrade() else { return };
        let post = PeerPost::OfferAnswer { id: self.id, answer: Box::new(answer) };
        // Fails only if the connection has ended. The bound of the peer's transfers bounds the
        // waiting offers, and so these posts.
        let _ = shared.post_bounded(self.peer, post);
    }
}

impl Drop for OwnedOfferResponder {
    fn drop(&mut self) {
        if !self.answered {
            self.answer(Err(Reject::new("the program gave no answer")));
        }
    }
}
