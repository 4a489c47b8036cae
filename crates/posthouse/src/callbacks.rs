//! The callbacks of a connection, without the type of its handler. The strand knows nothing else of
//! the handler.

use std::any::Any;

use crate::close::HandlerResult;
use crate::connection::MessageRun;
use crate::directory::Directory;
use crate::disconnect::DisconnectReason;
use crate::message::Message;
use crate::output::Output;
use crate::responder::{OfferResponder, Responder};
use crate::sync::Arc;
use crate::target::ConnectFailure;
use crate::transfer::{Destination, FinishedTransfer, Offer, Reject, Source};

/// A handler of an endpoint, without its type.
pub(crate) trait ErasedHandler: Send + Sync {
    /// Makes the handler's side of a connection.
    fn callbacks(self: Arc<Self>) -> Box<dyn Callbacks>;
}

/// The handler's side of one connection: the handler and the connection's state. The strand keeps
/// it in a box, so a connection with a small state costs one allocation. The strand takes the box
/// out for a callback and puts it back, also after a panic.
pub(crate) trait Callbacks: Send {
    fn connected(&mut self, output: Output<'_>) -> HandlerResult;
    fn received(&mut self, output: Output<'_>, message: Message<'_>) -> HandlerResult;
    /// Handles a message and those that follow it in the run.
    fn received_run(
        &mut self,
        output: Output<'_>,
        first: Message<'_>,
        run: &mut MessageRun<'_>,
    ) -> HandlerResult;
    fn requested(
        &mut self,
        output: Output<'_>,
        message: Message<'_>,
        responder: &mut Responder<'_>,
    ) -> HandlerResult;
    fn writable(&mut self, output: Output<'_>) -> HandlerResult;
    fn offered(
        &mut self,
        output: Output<'_>,
        offer: &Offer<'_>,
        answer: &mut OfferResponder<'_>,
    ) -> Result<Option<Destination>, Reject>;
    fn download_requested(&mut self, output: Output<'_>, name: &str) -> Result<Source, Reject>;
    fn list_requested(&mut self, output: Output<'_>, after: &str) -> Result<Directory, Reject>;
    fn transferred(&mut self, output: Output<'_>, transfer: &FinishedTransfer) -> HandlerResult;
    fn disconnected(&mut self, output: Output<'_>, reason: &DisconnectReason);
    fn connect_failed(&mut self, failure: &ConnectFailure);

    /// Returns the typed side, for a closure that knows the handler.
    fn as_any(&mut self) -> &mut dyn Any;
}
