//! A blocking client, for programs that want to ask and wait.

use std::collections::VecDeque;
use std::time::Duration;

use posthouse_io::sim::Network;

use crate::builder::Builder;
use crate::close::{Close, HandlerResult};
use crate::directory::Directory;
use crate::disconnect::DisconnectReason;
use crate::endpoint::Endpoint;
use crate::error::{ConnectError, RequestError, RunError, SendError, StartError, WouldDeadlock};
use crate::handler::Handler;
use crate::id::PeerId;
use crate::message::{Message, OwnedMessage};
use crate::options::EndpointOptions;
use crate::peer::Peer;
use crate::sync::{Arc, Mutex, lock};
use crate::target::{ConnectFailure, Target};
use crate::transfer::{
    Destination, FileEntry, FinishedTransfer, Source, TransferError, TransferHandle,
};

/// One connection, with calls that wait. It has an endpoint of its own with one I/O worker; for
/// many connections write a [`Handler`] and use [`Endpoint::connect`].
///
/// It refuses requests of the server: a program that answers some is an [`Endpoint`], too.
///
/// Received messages wait in it until they are asked for, up to 1 MiB or 1024 of them; then it
/// stops reading, and the server is slowed down.
///
/// ```no_run
/// use std::time::Duration;
/// use posthouse::Client;
///
/// let client = Client::connect("127.0.0.1:9990")?;
/// client.send(0, b"hello")?;
/// let reply = client.receive(Duration::from_secs(5))?;
/// println!("{}", String::from_utf8_lossy(&reply.payload));
/// client.close();
/// # Ok::<(), posthouse::ClientError>(())
/// ```
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint<Collect>,
    peer: PeerId,
    close_timeout_ms: u64,
    queue: Arc<Mutex<ReceiveQueue>>,
}

/// The reason why a client's call has no result.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The connection did not come up.
    #[error("not connected: {0}")]
    ConnectFailed(DisconnectReason),
    /// The connection ended.
    #[error("disconnected: {0}")]
    Disconnected(DisconnectReason),
    /// Nothing came in time. In simulation also: nothing can come any more.
    #[error("nothing came in time")]
    TimedOut,
    /// The message was not sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The request has no answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The file was not transferred.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The received messages that wait for [`Client::receive`] have reached their bound: nothing
    /// more is read, so no answer can come. Receive them, then try again.
    #[error("too many received messages wait: receive them, then try again")]
    ReceiveQueueFull,
    /// The connection was not begun.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The client's endpoint did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A callback cannot wait: it runs on the worker that it would wait for.
    #[error("a callback cannot wait: use Endpoint::connect and a handler there")]
    WouldDeadlock(#[from] WouldDeadlock),
}

crate::error::debug_as_display!(ClientError);

const MAX_QUEUED_MESSAGES: usize = 1024;
const MAX_QUEUED_BYTES: usize = 1024 * 1024;
/// How often a send looks whether the posted work that was too much has been done.
const BUSY_RETRY: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct ReceiveQueue {
    messages: VecDeque<OwnedMessage>,
    bytes: usize,
    /// True exactly while reading is paused because the queue is full.
    paused: bool,
    connected: bool,
    /// Files that are over and not yet asked for.
    transfers: Vec<FinishedTransfer>,
    ended: Option<DisconnectReason>,
    notify: Option<posthouse_io::Notify>,
}

impl ReceiveQueue {
    fn is_full(&self) -> bool {
        self.messages.len() >= MAX_QUEUED_MESSAGES || self.bytes >= MAX_QUEUED_BYTES
    }
}

/// Puts what happens into the queue and notifies the caller that waits.
struct Collect(Arc<Mutex<ReceiveQueue>>);

impl Collect {
    fn change(&self, change: impl FnOnce(&mut ReceiveQueue)) {
        let notify = {
            let mut queue = lock(&self.0);
            change(&mut queue);
            queue.notify.clone()
        };
        if let Some(notify) = notify {
            notify.notify_all();
        }
    }
}

impl Handler for Collect {
    type State = ();

    fn connected(&self, _: &mut Peer<'_, Self>) -> HandlerResult {
        self.change(|queue| queue.connected = true);
        Ok(())
    }

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        self.change(|queue| {
            queue.bytes += message.payload().len();
            queue.messages.push_back(message.to_owned());
            if queue.is_full() {
                queue.paused = true;
                peer.pause_reading();
            }
        });
        Ok(())
    }

    fn transferred(&self, _: &mut Peer<'_, Self>, transfer: &FinishedTransfer) -> HandlerResult {
        self.change(|queue| queue.transfers.push(transfer.clone()));
        Ok(())
    }

    fn writable(&self, _: &mut Peer<'_, Self>) -> HandlerResult {
        self.change(|_| {});
        Ok(())
    }

    fn disconnected(&self, _: &mut Peer<'_, Self>, why: &DisconnectReason) {
        self.change(|queue| queue.ended = Some(why.clone()));
    }

    fn connect_failed(&self, _: &Endpoint<Self>, failure: &ConnectFailure) {
        self.change(|queue| queue.ended = Some(failure.reason().clone()));
    }
}

impl Client {
    /// Connects to an address, or as a [`Target`] says.
    ///
    /// # Errors
    ///
    /// If the text is no address, or the connection is not up within
    /// [`connect_timeout_ms`](crate::ConnectionOptions::connect_timeout_ms).
    pub fn connect(target: impl Into<Target>) -> Result<Self, ClientError> {
        Self::connect_with(target, EndpointOptions::default())
    }

    /// Connects with an endpoint that has options of its own; it has one I/O worker all the same.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and for an option out of its bounds.
    pub fn connect_with(
        target: impl Into<Target>,
        options: EndpointOptions,
    ) -> Result<Self, ClientError> {
        Self::start(target.into(), options, None)
    }

    pub(crate) fn start(
        target: Target,
        options: EndpointOptions,
        network: Option<Network>,
    ) -> Result<Self, ClientError> {
        let options = options.with_io_workers(1);
        if posthouse_io::on_worker() {
            return Err(ClientError::WouldDeadlock(WouldDeadlock));
        }
        let queue = Arc::<Mutex<ReceiveQueue>>::default();
        let mut builder = Builder::new(Collect(queue.clone())).options(options);
        if let Some(network) = network {
            builder = builder.network(network);
        }
        let endpoint = builder.start()?;
        lock(&queue).notify = Some(endpoint.notify().clone());
        let close_timeout_ms = target.options.close_timeout_ms;
        let peer = endpoint.connect(target, ())?;
        let client = Self { endpoint, peer, close_timeout_ms, queue };
        // Up, even if it has ended since: what came before the end is there to be received.
        let up = client.wait(None, |queue| match &queue.ended {
            _ if queue.connected => Some(Ok(())),
            Some(reason) => Some(Err(ClientError::ConnectFailed(reason.clone()))),
            None => None,
        });
        up.unwrap_or(Err(ClientError::TimedOut))?;
        Ok(client)
    }

    fn wait<T>(
        &self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(&mut ReceiveQueue) -> Option<T>,
    ) -> Option<T> {
        self.endpoint.notify().wait_until(timeout, || ready(&mut lock(&self.queue)))
    }

    fn may_wait() -> Result<(), ClientError> {
        if posthouse_io::on_worker() {
            Err(ClientError::WouldDeadlock(WouldDeadlock))
        } else {
            Ok(())
        }
    }

    /// Sends a message; waits while the send queue is full.
    pub fn send(&self, kind: u8, payload: &[u8]) -> Result<(), ClientError> {
        Self::may_wait()?;
        let mut send = |queue: &mut ReceiveQueue| match self.endpoint.send(self.peer, kind, payload)
        {
            Ok(()) => Some(Ok(())),
            Err(SendError::QueueFull { .. } | SendError::Busy) => None,
            Err(SendError::NotConnected) => Some(Err(ended(queue))),
            Err(error) => Some(Err(error.into())),
        };
        loop {
            // Room notifies; the end of `Busy` does not, so the wait is short.
            if let Some(sent) = self.wait(Some(BUSY_RETRY), &mut send) {
                return sent;
            }
        }
    }

    /// The next message, in the order of their arrival; waits for it, at most so long
    /// ([`Duration::MAX`]: for ever). What arrived before the end
    /// of the connection is given before the end is told.
    pub fn receive(&self, timeout: Duration) -> Result<OwnedMessage, ClientError> {
        Self::may_wait()?;
        let mut resume = false;
        let next = self.wait(Some(timeout), |queue| {
            if let Some(message) = queue.messages.pop_front() {
                queue.bytes -= message.payload.len();
                resume = queue.paused
                    && queue.bytes < MAX_QUEUED_BYTES / 2
                    && queue.messages.len() < MAX_QUEUED_MESSAGES / 2;
                queue.paused &= !resume;
                return Some(Ok(message));
            }
            queue.ended.is_some().then(|| Err(ended(queue)))
        });
        if resume {
            self.resume_reading();
        }
        next.unwrap_or(Err(ClientError::TimedOut))
    }

    fn resume_reading(&self) {
        let resume = |peer: &mut Peer<'_, Collect>| {
            peer.resume_reading();
            Ok(())
        };
        // Any other refusal is a connection that has ended: then there is nothing to resume.
        while self.endpoint.run(self.peer, resume) == Err(RunError::Busy) {
            self.wait(Some(BUSY_RETRY), |_| None::<()>);
        }
    }

    /// Asks, and waits for the reply.
    pub fn request(
        &self,
        kind: u8,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<OwnedMessage, ClientError> {
        Self::may_wait()?;
        let answer = Arc::<Mutex<Option<Result<OwnedMessage, RequestError>>>>::default();
        let (slot, notify) = (answer.clone(), self.endpoint.notify().clone());
        let payload = payload.to_vec();
        let asked = self.endpoint.run(self.peer, move |peer| {
            peer.request(kind, &payload, timeout, move |_, reply| {
                let reply = reply.map(|m| m.to_owned());
                *lock(&slot) = Some(reply);
                notify.notify_all();
                Ok(())
            });
            Ok(())
        });
        if asked == Err(RunError::NotConnected) {
            return Err(ended(&mut lock(&self.queue)));
        }
        asked.map_err(not_posted)?;
        let reply = self.wait(None, |queue| {
            let answered = lock(&answer).take().map(|reply| reply.map_err(ClientError::Request));
            answered.or_else(|| no_answer(queue))
        });
        reply.unwrap_or(Err(ClientError::TimedOut))
    }

    /// Sends a file, and waits until the server has it whole, verified and on its disk; gives its
    /// BLAKE3 hash. What the server has of it already is not sent again.
    ///
    /// Messages that come meanwhile wait to be received; when as many wait as may, the call gives
    /// up with [`ClientError::ReceiveQueueFull`], as `get`, `list` and `request` do.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use posthouse::{Client, Directory};
    /// let client = Client::connect("127.0.0.1:9990")?;
    /// client.put("today.csv", &Directory::open("outbox")?)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn put(&self, name: &str, directory: &Directory) -> Result<[u8; 32], ClientError> {
        let source = Source::new(directory, name);
        self.transfer(move |peer| peer.offer_file(source))
    }

    /// Fetches a file into a directory, and waits until it is there, whole, verified and on the
    /// disk; gives its BLAKE3 hash. What is there of it already is not sent again.
    pub fn get(
        &self,
        name: &str,
        destination: impl Into<Destination>,
    ) -> Result<[u8; 32], ClientError> {
        let (name, destination) = (name.to_owned(), destination.into());
        self.transfer(move |peer| peer.fetch_file(&name, destination))
    }

    fn transfer(
        &self,
        begin: impl FnOnce(&mut Peer<'_, Collect>) -> TransferHandle + Send + 'static,
    ) -> Result<[u8; 32], ClientError> {
        let progress = self.on_strand(begin)?;
        let over = self.wait(None, |queue| {
            let mine = |transfer: &FinishedTransfer| *transfer.handle() == progress;
            let Some(index) = queue.transfers.iter().position(mine) else {
                return queue.paused.then_some(Err(ClientError::ReceiveQueueFull));
            };
            Some(queue.transfers.swap_remove(index).result.map_err(ClientError::Transfer))
        });
        if let Some(Err(ClientError::ReceiveQueueFull)) = over {
            self.cancel(progress);
        }
        over.unwrap_or(Err(ClientError::TimedOut))
    }

    /// Cancels a transfer that nobody waits for any more.
    fn cancel(&self, progress: TransferHandle) {
        // Refused only where the connection has ended, and the transfer with it.
        let _ = self.endpoint.run(self.peer, move |peer| {
            peer.cancel_transfer(&progress);
            Ok(())
        });
    }

    /// Everything that the server has, in the order of the names.
    pub fn list(&self) -> Result<Vec<FileEntry>, ClientError> {
        let mut all: Vec<FileEntry> = Vec::new();
        loop {
            let after = all.last().map(|entry| entry.name.to_string()).unwrap_or_default();
            let page = Arc::<Mutex<Option<Result<Vec<FileEntry>, TransferError>>>>::default();
            let (slot, notify) = (page.clone(), self.endpoint.notify().clone());
            self.on_strand(move |peer| {
                peer.list_files(&after, move |_, listed| {
                    *lock(&slot) = Some(listed);
                    notify.notify_all();
                    Ok(())
                });
            })?;
            let listed = self.wait(None, |queue| {
                let listed = lock(&page).take().map(|page| page.map_err(ClientError::Transfer));
                listed.or_else(|| no_answer(queue))
            });
            let entries = listed.unwrap_or(Err(ClientError::TimedOut))?;
            // A server that begins again would have it go on for ever.
            let last = all.last().map(|entry| &*entry.name).unwrap_or_default();
            if entries.first().is_none_or(|first| *first.name <= *last) {
                return Ok(all);
            }
            all.extend(entries);
        }
    }

    /// Runs something on the connection's strand, and waits for what it gives.
    fn on_strand<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Peer<'_, Collect>) -> T + Send + 'static,
    ) -> Result<T, ClientError> {
        Self::may_wait()?;
        let result = Arc::new(Mutex::new(None));
        let (slot, notify) = (result.clone(), self.endpoint.notify().clone());
        let posted = self.endpoint.run(self.peer, move |peer| {
            let value = run(peer);
            *lock(&slot) = Some(value);
            notify.notify_all();
            Ok(())
        });
        if posted == Err(RunError::NotConnected) {
            return Err(ended(&mut lock(&self.queue)));
        }
        posted.map_err(not_posted)?;
        let value = self.wait(None, |queue| {
            let value = lock(&result).take().map(Ok);
            value.or_else(|| queue.ended.is_some().then(|| Err(ended(queue))))
        });
        value.unwrap_or(Err(ClientError::TimedOut))
    }

    /// The client's endpoint: for figures, or to look at the connection.
    pub fn endpoint(&self) -> &Endpoint<impl Handler> {
        &self.endpoint
    }

    /// The connection's id.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Closes gracefully and waits until everything is sent and the server has ended its side, for
    /// at most [`close_timeout_ms`](crate::ConnectionOptions::close_timeout_ms). Dropping the
    /// client closes as well, and does not wait.
    pub fn close(self) {
        // Refused only where the connection has ended already.
        let _ = self.endpoint.close(self.peer, Close::graceful());
        let ended = Duration::from_millis(2 * self.close_timeout_ms);
        self.wait(Some(ended), |queue| queue.ended.is_some().then_some(()));
        self.endpoint.shutdown(Duration::ZERO);
        // Refused only in a callback, where nothing can be waited for.
        let _ = self.endpoint.wait();
    }
}

/// Why no answer can come any more, where none can.
fn no_answer<T>(queue: &mut ReceiveQueue) -> Option<Result<T, ClientError>> {
    if queue.ended.is_some() {
        return Some(Err(ended(queue)));
    }
    queue.paused.then_some(Err(ClientError::ReceiveQueueFull))
}

/// A task that was not posted, for a caller that waits.
fn not_posted(error: RunError) -> ClientError {
    ClientError::Send(match error {
        RunError::Busy => SendError::Busy,
        _ => SendError::NotConnected,
    })
}

fn ended(queue: &mut ReceiveQueue) -> ClientError {
    match &queue.ended {
        Some(reason) => ClientError::Disconnected(reason.clone()),
        None => ClientError::Send(SendError::NotConnected),
    }
}
