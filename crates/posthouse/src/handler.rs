//! What a user writes.

use crate::close::{Outcome, Reason};
use crate::endpoint::Endpoint;
use crate::id::PeerId;
use crate::message::Message;
use crate::peer::Peer;
use crate::target::Target;
use crate::transfer::{Answer, Offer, Transfer, Wanted};

/// What happens on the connections of an endpoint. Only [`received`](Self::received) is required.
///
/// For one connection the callbacks come one at a time, in order: `connected` first,
/// `disconnected` last and exactly once, nothing after it. Different connections run on different
/// threads at the same time, so what they share in `self` must be `Sync`; what belongs to one
/// connection goes into [`State`](Self::State), which needs no lock.
///
/// A closure that a callback leaves behind (a reply's, a timer's) cannot borrow `self`; keep what
/// they share in an `Arc`, and clone that:
///
/// ```
/// # use std::sync::{Arc, Mutex};
/// # use std::time::Duration;
/// # use posthouse::{Handler, Message, Outcome, Peer};
/// #[derive(Clone, Default)]
/// struct Scores(Arc<Mutex<Vec<u64>>>);
///
/// impl Handler for Scores {
///     type State = u64;
///
///     fn received(&self, peer: &mut Peer<'_, u64>, _: Message<'_>) -> Outcome {
///         *peer.state() += 1;
///         let scores = self.clone();
///         peer.after(Duration::from_secs(1), move |peer| {
///             scores.0.lock().unwrap().push(*peer.state());
///             Ok(())
///         });
///         Ok(())
///     }
/// }
/// ```
///
/// Callbacks run on I/O workers: keep them short. One that runs too long is named in the log
/// ([`handler_overrun_ms`](crate::Options::handler_overrun_ms)). A panic in one closes that
/// connection and nothing else (this needs `panic = "unwind"`, the default).
///
/// ```
/// use posthouse::{Handler, Message, Outcome, Peer};
///
/// /// Answers each message with the number of messages so far.
/// struct Count;
///
/// impl Handler for Count {
///     type State = u64;
///
///     fn received(&self, peer: &mut Peer<'_, u64>, message: Message<'_>) -> Outcome {
///         *peer.state() += 1;
///         let count = peer.state().to_string();
///         peer.send(message.kind(), count.as_bytes());
///         Ok(())
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// What belongs to one connection: made with `Default` when it is first asked for, dropped when
    /// the connection ends.
    type State: Default + Send + 'static;

    /// A message, or a request where [`Message::ticket`] has a ticket.
    fn received(&self, peer: &mut Peer<'_, Self::State>, message: Message<'_>) -> Outcome;

    /// A connection is up: before anything else of it. Where the endpoint demands hello or a key,
    /// the peer has passed.
    fn connected(&self, peer: &mut Peer<'_, Self::State>) -> Outcome {
        let _ = peer;
        Ok(())
    }

    /// The send queue had been over its high-water mark, or too full for a message of another
    /// thread, and is now below the low one. Told once for each time.
    fn writable(&self, peer: &mut Peer<'_, Self::State>) -> Outcome {
        let _ = peer;
        Ok(())
    }

    /// The peer offers a file. Where it goes, or why not: [`Answer::here`], [`Answer::refuse`].
    /// Without this method every offer is refused.
    fn offered(&self, peer: &mut Peer<'_, Self::State>, offer: &Offer<'_>) -> Answer {
        let _ = (peer, offer);
        Answer::refuse("no files are taken here")
    }

    /// The peer asks for a file, or what files there are. Where it comes from, or why not. Without
    /// this method every wish is refused.
    fn wanted(&self, peer: &mut Peer<'_, Self::State>, wanted: &Wanted<'_>) -> Answer {
        let _ = (peer, wanted);
        Answer::refuse("no files are given here")
    }

    /// A file has got across, or has not: once for each, whoever began it, before `disconnected`.
    /// One that came in is whole, verified, on the disk and under its final name.
    fn transferred(&self, peer: &mut Peer<'_, Self::State>, transfer: &Transfer) -> Outcome {
        let _ = (peer, transfer);
        Ok(())
    }

    /// The connection is gone. What is sent here goes nowhere.
    fn disconnected(&self, peer: &mut Peer<'_, Self::State>, why: &Reason) {
        let _ = (peer, why);
    }

    /// A connection that [`Endpoint::connect`] began did not come up. `connected` has not been and
    /// will not be called for it.
    fn unreachable(
        &self,
        endpoint: &Endpoint<Self::State>,
        id: PeerId,
        target: &Target,
        why: &Reason,
    ) {
        let _ = (endpoint, id, target, why);
    }
}
