//! The boundary between the code that knows the handler's type and the code below [`Peer`], which
//! does not.

use std::any::Any;

use crate::callbacks::{Callbacks, ErasedHandler};
use crate::close::HandlerResult;
use crate::connection::MessageRun;
use crate::directory::Directory;
use crate::disconnect::DisconnectReason;
use crate::endpoint::Endpoint;
use crate::handler::Handler;
use crate::message::Message;
use crate::output::Output;
use crate::peer::Peer;
use crate::responder::{OfferResponder, Responder};
use crate::sync::Arc;
use crate::target::ConnectFailure;
use crate::transfer::{Destination, FinishedTransfer, Offer, Reject, Source};

/// The endpoint as one handler sees it. Its handle, which callbacks borrow, does not keep the
/// endpoint running.
pub(crate) struct View<H: Handler> {
    pub(crate) endpoint: Endpoint<H>,
}

impl<H: Handler> ErasedHandler for View<H> {
    fn callbacks(self: Arc<Self>) -> Box<dyn Callbacks> {
        Box::new(Typed { view: self, state: None })
    }
}

/// The handler's side of one connection, typed.
struct Typed<H: Handler> {
    view: Arc<View<H>>,
    /// The state, made in the first callback, because its `default` is the user's code, too.
    state: Option<H::State>,
}

impl<H: Handler> View<H> {
    /// Makes the handler's side of a connection with this state.
    pub(crate) fn with_state(self: Arc<Self>, state: H::State) -> Box<dyn Callbacks> {
        Box::new(Typed { view: self, state: Some(state) })
    }
}

impl<H: Handler> Typed<H> {
    fn peer<'a>(&'a mut self, output: Output<'a>) -> Peer<'a, H> {
        Peer::new(&self.view.endpoint, self.state.get_or_insert_default(), output)
    }
}

/// Runs a closure that knows the handler's type.
///
/// # Panics
///
/// If the connection has another handler. The callers exclude that.
pub(crate) fn with_peer<H: Handler, T>(
    callbacks: &mut dyn Callbacks,
    output: Output<'_>,
    call: impl FnOnce(&mut Peer<'_, H>) -> T,
) -> T {
    let typed = callbacks.as_any().downcast_mut::<Typed<H>>();
    call(&mut typed.expect("a task goes to a connection of its own handler").peer(output))
}

impl<H: Handler> Callbacks for Typed<H> {
    fn connected(&mut self, output: Output<'_>) -> HandlerResult {
        let mut peer = self.peer(output);
        peer.handler().connected(&mut peer)
    }

    fn received(&mut self, output: Output<'_>, message: Message<'_>) -> HandlerResult {
        let mut peer = self.peer(output);
        peer.handler().received(&mut peer, message)
    }

    fn received_run(
        &mut self,
        output: Output<'_>,
        first: Message<'_>,
        run: &mut MessageRun<'_>,
    ) -> HandlerResult {
        let mut peer = self.peer(output);
        let handler = peer.handler();
        handler.received(&mut peer, first)?;
        while let Some(message) = run.next(peer.output().strand) {
            handler.received(&mut peer, message)?;
        }
        Ok(())
    }

    fn requested(
        &mut self,
        output: Output<'_>,
        message: Message<'_>,
        responder: &mut Responder<'_>,
    ) -> HandlerResult {
        let mut peer = self.peer(output);
        peer.handler().requested(&mut peer, message, responder)
    }

    fn writable(&mut self, output: Output<'_>) -> HandlerResult {
        let mut peer = self.peer(output);
        peer.handler().writable(&mut peer)
    }

    fn offered(
        &mut self,
        output: Output<'_>,
        offer: &Offer<'_>,
        answer: &mut OfferResponder<'_>,
    ) -> Result<Option<Destination>, Reject> {
        let mut peer = self.peer(output);
        peer.handler().offered(&mut peer, offer, answer)
    }

    fn download_requested(&mut self, output: Output<'_>, name: &str) -> Result<Source, Reject> {
        let mut peer = self.peer(output);
        peer.handler().download_requested(&mut peer, name)
    }

    fn list_requested(&mut self, output: Output<'_>, after: &str) -> Result<Directory, Reject> {
        let mut peer = self.peer(output);
        peer.handler().list_requested(&mut peer, after)
    }

    fn transferred(&mut self, output: Output<'_>, transfer: &FinishedTransfer) -> HandlerResult {
        let mut peer = self.peer(output);
        peer.handler().transferred(&mut peer, transfer)
    }

    fn disconnected(&mut self, output: Output<'_>, reason: &DisconnectReason) {
        // Without a state `connected` was not called: making the state panicked.
        if self.state.is_none() {
            return;
        }
        let mut peer = self.peer(output);
        peer.handler().disconnected(&mut peer, reason);
    }

    fn connect_failed(&mut self, failure: &ConnectFailure) {
        let endpoint = &self.view.endpoint;
        endpoint.handler().connect_failed(endpoint, failure);
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
