//! A client whose calls block.

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
    Destination, FileList, FinishedTransfer, Source, TransferError, TransferHandle,
};

/// One connection with blocking calls. A client has its own endpoint with one I/O worker. For many
/// connections write a [`Handler`] and use [`Endpoint::connect`].
///
/// It rejects requests of the server: to answer requests, use an [`Endpoint`] instead.
///
/// Received messages wait in a queue for [`receive`](Self::receive). When the queue holds 1 MiB or
/// 1024 messages, the client stops reading, which slows the server down.
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

/// The error of a client's call.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The connection was not established.
    #[error("cannot connect: {0}")]
    ConnectFailed(DisconnectReason),
    /// The connection ended.
    #[error("disconnected: {0}")]
    Disconnected(DisconnectReason),
    /// No message arrived in time. (A request that gets no reply in time fails with
    /// [`Request`](Self::Request).) In simulation this error can also mean that no message or reply
    /// can arrive any more.
    #[error("timed out: nothing arrived in time")]
    TimedOut,
    /// The message was not sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The request got no reply.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The file was not transferred.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The queue of received messages is full. The client reads nothing more until
    /// [`Client::receive`] has taken messages from it, so no answer can arrive.
    #[error("the queue of received messages is full: receive them, then try again")]
    ReceiveQueueFull,
    /// The attempt to connect was not begun.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The client's endpoint did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The call was made in a callback. A callback must not wait, because the worker that runs it
    /// may be the one that must do the awaited work.
    #[error("a callback must not block: use Endpoint::connect with a handler instead")]
    WouldDeadlock(#[from] WouldDeadlock),
}

crate::error::debug_as_display!(ClientError);

const MAX_QUEUED_MESSAGES: usize = 1024;
const MAX_QUEUED_BYTES: usize = 1024 * 1024;
/// The interval at which a send tries again while too many posts wait.
const BUSY_RETRY: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct ReceiveQueue {
    messages: VecDeque<OwnedMessage>,
    bytes: usize,
    /// True exactly while reading is paused because the queue is full.
    paused: bool,
    connected: bool,
    /// The finished transfers that no call has taken yet.
    transfers: Vec<FinishedTransfer>,
    ended: Option<DisconnectReason>,
    notify: Option<posthouse_io::Notify>,
}

impl ReceiveQueue {
    fn is_full(&self) -> bool {
        self.messages.len() >= MAX_QUEUED_MESSAGES || self.bytes >= MAX_QUEUED_BYTES
    }
}

/// The client's handler: puts each event into the queue and notifies the waiting caller.
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
    /// Connects to an address or a [`Target`].
    ///
    /// # Errors
    ///
    /// [`ClientError`] in these cases: the text is not an address; the attempt to connect fails;
    /// the connection is not established within
    /// [`connect_timeout_ms`](crate::ConnectionOptions::connect_timeout_ms) (10 s).
    pub fn connect(target: impl Into<Target>) -> Result<Self, ClientError> {
        Self::connect_with(target, EndpointOptions::default())
    }

    /// Connects with these options of the client's endpoint. `io_workers` has no effect: the
    /// client's endpoint always has one worker.
    ///
    /// # Errors
    ///
    /// The errors of [`connect`](Self::connect), and an option out of its bounds.
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
        // A connection that was established and has ended since is a success: the messages that
        // arrived before the end can be received.
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

    /// Sends a message. The call blocks while the send queue is full.
    ///
    /// # Errors
    ///
    /// [`ClientError`] if the connection has ended or the message is not valid on it.
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
            // Room in the queue notifies; the end of `Busy` does not, so the wait is short.
            if let Some(sent) = self.wait(Some(BUSY_RETRY), &mut send) {
                return sent;
            }
        }
    }

    /// Returns the next message, in the order of arrival. The call blocks until there is one, at
    /// most for `timeout` ([`Duration::MAX`]: for ever).
    ///
    /// # Errors
    ///
    /// [`ClientError::TimedOut`] if no message arrives in time, [`ClientError::Disconnected`] if
    /// the connection has ended and all messages that arrived before its end have been returned.
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
        // Any other error means that the connection has ended: then there is nothing to resume.
        while self.endpoint.run(self.peer, resume) == Err(RunError::Busy) {
            self.wait(Some(BUSY_RETRY), |_| None::<()>);
        }
    }

    /// Sends a request and waits for the reply.
    ///
    /// # Errors
    ///
    /// [`ClientError::Request`] if the peer rejects the request or does not answer within
    /// `timeout`, [`ClientError::ReceiveQueueFull`] if the queue of received messages is full.
    pub fn request(
        &self,
        kind: u8,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<OwnedMessage, ClientError> {
        Self::may_wait()?;
        let answer = Arc::<Mutex<Option<Result<OwnedMessage, RequestError>>>>::default();
        let slot = answer.clone();
        let notify = self.endpoint.notify().clone();
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

    /// Sends a file, waits until the server has it whole, verified and on its disk, and returns its
    /// BLAKE3 hash. Of a part that the server already has, at most the last chunk
    /// ([`chunk_bytes`](crate::Tuning::chunk_bytes)) is sent again.
    ///
    /// Messages that arrive meanwhile wait in the queue. If the queue becomes full, the call fails
    /// with [`ClientError::ReceiveQueueFull`], as `get`, `list` and `request` do.
    ///
    /// # Errors
    ///
    /// [`ClientError::Transfer`] if the server rejects the file or the transfer fails.
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

    /// Fetches a file into a directory, waits until it is whole, verified and on the disk, and
    /// returns its BLAKE3 hash. Of a part that the directory already has, at most the last chunk
    /// ([`chunk_bytes`](crate::Tuning::chunk_bytes)) is sent again.
    ///
    /// # Errors
    ///
    /// [`ClientError::Transfer`] if the server rejects the request or the transfer fails.
    pub fn get(
        &self,
        name: &str,
        destination: impl Into<Destination>,
    ) -> Result<[u8; 32], ClientError> {
        let name = name.to_owned();
        let destination = destination.into();
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

    /// Cancels a transfer for which no caller waits any more.
    fn cancel(&self, progress: TransferHandle) {
        // Fails only if the connection has ended, and the transfer with it.
        let _ = self.endpoint.run(self.peer, move |peer| {
            peer.cancel_transfer(&progress);
            Ok(())
        });
    }

    /// Returns all files of the server, in the order of their names. The memory of the list has no
    /// bound; [`Peer::list_files`] requests one page of it.
    ///
    /// # Errors
    ///
    /// [`ClientError::Transfer`] if the server rejects the request, or lists names that are not in
    /// ascending order.
    pub fn list(&self) -> Result<FileList, ClientError> {
        let mut all = FileList::default();
        loop {
            let after = all.next.take().unwrap_or_default();
            let page = Arc::<Mutex<Option<Result<FileList, TransferError>>>>::default();
            let slot = page.clone();
            let notify = self.endpoint.notify().clone();
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
            let page = listed.unwrap_or(Err(ClientError::TimedOut))?;
            all.files.extend(page.files);
            all.invalid_names.extend(page.invalid_names);
            if page.next.is_none() {
                return Ok(all);
            }
            all.next = page.next;
        }
    }

    /// Runs a task on the connection's strand, and waits for its result.
    fn on_strand<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Peer<'_, Collect>) -> T + Send + 'static,
    ) -> Result<T, ClientError> {
        Self::may_wait()?;
        let result = Arc::new(Mutex::new(None));
        let slot = result.clone();
        let notify = self.endpoint.notify().clone();
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

    /// Returns the client's endpoint, for its statistics and for the connection's
    /// [`PeerInfo`](crate::PeerInfo).
    pub fn endpoint(&self) -> &Endpoint<impl Handler> {
        &self.endpoint
    }

    /// Returns the connection's id.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Closes gracefully and waits until everything has been sent and the server has ended its
    /// side, for at most [`close_timeout_ms`](crate::ConnectionOptions::close_timeout_ms). Dropping
    /// the client also closes it, without waiting.
    pub fn close(self) {
        // Fails only if the connection has ended already.
        let _ = self.endpoint.close(self.peer, Close::graceful());
        let ended = Duration::from_millis(2 * self.close_timeout_ms);
        self.wait(Some(ended), |queue| queue.ended.is_some().then_some(()));
        self.endpoint.shutdown(Duration::ZERO);
        // Fails only in a callback, which must not wait.
        let _ = self.endpoint.wait();
    }
}

/// Returns the error if no answer can arrive any more.
fn no_answer<T>(queue: &mut ReceiveQueue) -> Option<Result<T, ClientError>> {
    if queue.ended.is_some() {
        return Some(Err(ended(queue)));
    }
    queue.paused.then_some(Err(ClientError::ReceiveQueueFull))
}

/// Converts the error of a task that was not posted.
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
