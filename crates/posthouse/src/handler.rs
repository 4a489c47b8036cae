//! The trait with which a user defines the behavior of connections.

use crate::close::{Close, HandlerResult};
use crate::directory::Directory;
use crate::disconnect::DisconnectReason;
use crate::endpoint::Endpoint;
use crate::message::Message;
use crate::peer::Peer;
use crate::responder::{OfferResponder, Responder};
use crate::target::ConnectFailure;
use crate::transfer::{Destination, FinishedTransfer, Offer, Reject, Source};

/// The behavior of one kind of connection. Every method has a default.
///
/// The callbacks of one connection run one at a time, in order: `connected` first, `disconnected`
/// last and exactly once, with no callback after it. Different connections run on different threads
/// at the same time, so data that they share in `self` must be `Sync`. Keep the data of one
/// connection in [`State`](Self::State), which needs no lock.
///
/// The closure of a reply or a timer cannot borrow `self`. It gets the handler by
/// [`Peer::handler`].
///
/// ```
/// # use std::sync::Mutex;
/// # use std::time::Duration;
/// # use posthouse::{Handler, HandlerResult, Message, Peer};
/// #[derive(Default)]
/// struct Scores(Mutex<Vec<u64>>);
///
/// impl Handler for Scores {
///     type State = u64;
///
///     fn received(&self, peer: &mut Peer<'_, Self>, _: Message<'_>) -> HandlerResult {
///         *peer.state_mut() += 1;
///         peer.after(Duration::from_secs(1), |peer| {
///             peer.handler().0.lock().unwrap().push(*peer.state());
///             Ok(())
///         })?;
///         Ok(())
///     }
/// }
/// ```
///
/// Callbacks run on I/O workers: keep them short. Long work belongs on another thread or a tokio
/// task, which answers through [`OwnedResponder`](crate::OwnedResponder), [`Endpoint::send`] or
/// [`Endpoint::run`]. The log names a callback that runs longer than
/// [`handler_overrun_ms`](crate::EndpointOptions::handler_overrun_ms). A panic in a callback closes
/// that connection only. With `panic = "abort"`, one panicking callback ends the whole process.
///
/// `Err` from a callback, and so `?`, closes the connection: see [`HandlerResult`].
///
/// One endpoint can have several handlers, each with its own state: see [`Endpoint::attach`].
///
/// ```
/// use posthouse::{Handler, HandlerResult, Message, Peer};
///
/// /// Answers each message with the number of messages so far.
/// struct Count;
///
/// impl Handler for Count {
///     type State = u64;
///
///     fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
///         *peer.state_mut() += 1;
///         let count = peer.state().to_string();
///         peer.send(message.kind(), count.as_bytes());
///         Ok(())
///     }
/// }
/// ```
pub trait Handler: Sized + Send + Sync + 'static {
    /// The state of one connection. Only the callbacks of the connection can reach it. `Default`
    /// makes the state before `connected`, unless the caller of [`Endpoint::connect`] gives it. It
    /// is dropped after `disconnected`.
    type State: Default + Send + 'static;

    /// Handles the beginning of a connection. Posthouse calls this once, before every other
    /// callback of the connection. If a key is set, this is after the peer has proved that it knows
    /// the key. If a hello is required, this is after the hello; a [`Target`](crate::Target) with
    /// the native framing requires one, except with
    /// [`without_hello`](crate::Target::without_hello). Otherwise this is as soon as the connection
    /// is established.
    fn connected(&self, peer: &mut Peer<'_, Self>) -> HandlerResult {
        let _ = peer;
        Ok(())
    }

    /// Handles a message. The default closes the connection. It also logs, once for each endpoint,
    /// that the method is missing.
    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        let _ = message;
        peer.output().missing("received");
        Err(Close::internal_error().log("the handler does not implement `received`"))
    }

    /// Handles a request. The default rejects it.
    fn requested(
        &self,
        peer: &mut Peer<'_, Self>,
        message: Message<'_>,
        responder: &mut Responder<'_>,
    ) -> HandlerResult {
        let _ = (peer, message);
        responder.reject("requests are not answered here");
        Ok(())
    }

    /// Handles new room in the send queue. If the queue has exceeded its high-water mark
    /// ([`queue_high_bytes`](crate::Tuning::queue_high_bytes)) or has rejected a message, Posthouse
    /// calls this once, as soon as the queue falls to its low-water mark
    /// ([`queue_low_bytes`](crate::Tuning::queue_low_bytes)).
    ///
    /// A queue with 1,024 rejections and listings that the peer has not read counts as one that has
    /// exceeded its high-water mark.
    fn writable(&self, peer: &mut Peer<'_, Self>) -> HandlerResult {
        let _ = peer;
        Ok(())
    }

    /// Decides whether to accept an offered file, and where to store it. The default rejects it.
    ///
    /// To answer later, call [`OfferResponder::take`] and return `Ok(None)`; the answer must come
    /// within [`transfer_timeout_ms`](crate::ConnectionOptions::transfer_timeout_ms). `Ok(None)`
    /// without `take` rejects the offer.
    ///
    /// ```
    /// use posthouse::{Destination, Directory, Handler, Offer, OfferResponder, Peer, Reject};
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
    ///         _: &mut OfferResponder<'_>,
    ///     ) -> Result<Option<Destination>, Reject> {
    ///         if offer.size() > 1 << 30 {
    ///             return Err("at most 1 GiB".into());
    ///         }
    ///         Ok(Some(Destination::new(&self.0)))
    ///     }
    /// }
    /// ```
    fn offered(
        &self,
        peer: &mut Peer<'_, Self>,
        offer: &Offer<'_>,
        answer: &mut OfferResponder<'_>,
    ) -> Result<Option<Destination>, Reject> {
        let _ = (peer, offer, answer);
        Err(Reject::new("files are not accepted here"))
    }

    /// Decides which file answers a download request. The default rejects it. `name` is a relative
    /// path that is valid on every system, as [`Offer::name`] is; the file need not exist.
    fn download_requested(&self, peer: &mut Peer<'_, Self>, name: &str) -> Result<Source, Reject> {
        let _ = (peer, name);
        Err(Reject::new("downloads are not available here"))
    }

    /// Decides which directory answers a listing request. The default rejects it. The peer requests
    /// the names that follow `after`; if `after` is empty, it requests the first names.
    fn list_requested(&self, peer: &mut Peer<'_, Self>, after: &str) -> Result<Directory, Reject> {
        let _ = (peer, after);
        Err(Reject::new("listings are not available here"))
    }

    /// Handles the end of a transfer. Posthouse calls it once for each transfer, on success or
    /// failure, on both sides, before `disconnected`. If one side rejects an offer or a request
    /// before the transfer begins, Posthouse calls it only on the other side. After a success the
    /// received file is whole, verified, on the disk and under its final name.
    fn transferred(&self, peer: &mut Peer<'_, Self>, transfer: &FinishedTransfer) -> HandlerResult {
        let _ = (peer, transfer);
        Ok(())
    }

    /// Handles the end of a connection. If `connected` was called, Posthouse calls this exactly
    /// once, as the last callback of the connection. Messages sent here are discarded.
    ///
    /// After a graceful close, Posthouse first sends everything that is queued and waits for the
    /// peer to end its side of the stream. That takes at most
    /// [`close_timeout_ms`](crate::ConnectionOptions::close_timeout_ms). After every close,
    /// Posthouse cancels the operations in flight and waits for their ends; only a file operation
    /// can take long to end. This callback does not run inside of the call that closes the
    /// connection.
    fn disconnected(&self, peer: &mut Peer<'_, Self>, reason: &DisconnectReason) {
        let _ = (peer, reason);
    }

    /// Handles the failure of an [`Endpoint::connect`]. Posthouse calls it once, and no other
    /// callback for this id. Posthouse does not reconnect by itself: call `connect` again here.
    fn connect_failed(&self, endpoint: &Endpoint<Self>, failure: &ConnectFailure) {
        let _ = (endpoint, failure);
    }
}
