//! A client whose calls block.

use std::collections::VecDeque;
use std::time::Duration;

use posthouse_io::ThreadId;
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
/// 1,024 messages, the client stops reading, which slows the server down. An answer comes behind
/// the messages that the server sent before it, so while a call awaits one (a reply, a list, the
/// end of a transfer) the client reads on until the queue holds 16 MiB or 16,384 messages.
///
/// Several threads can use a client at once: one can receive while others send and request.
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
    close_timeout: Duration,
    stall_timeout: Duration,
    transfer_timeout: Duration,
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
    /// The queue of received messages is full, so the client reads nothing more until
    /// [`Client::receive`] has taken messages from it. The call fails at once if no thread is left
    /// that could do that: every thread that has ever called `receive` is in a call that waits. (A
    /// thread that has ended counts as one that could.) Otherwise it fails if no message is taken
    /// for the time that the call may wait.
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

/// The messages and bytes in the queue at which the client stops reading.
const SOFT_BOUND: Bound = Bound { messages: 1024, bytes: 1024 * 1024 };
/// The same while a call awaits an answer, which comes behind the messages.
const HARD_BOUND: Bound = Bound { messages: 16 * 1024, bytes: 16 * 1024 * 1024 };
/// The number of threads that are remembered as receivers.
const MAX_RECEIVERS: usize = 1024;
/// The interval at which a send tries again while too many posts wait.
const BUSY_RETRY: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
struct Bound {
    messages: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct ReceiveQueue {
    messages: VecDeque<OwnedMessage>,
    bytes: usize,
    /// True exactly while reading is paused because the queue was full. Only the strand changes it.
    paused: bool,
    /// True exactly when a task that resumes reading was posted and has not run.
    resuming: bool,
    /// The number of messages that were ever taken.
    taken: u64,
    connected: bool,
    /// The number of calls that await an answer.
    awaiting: usize,
    /// The threads that have called `receive`, and those that wait in another call.
    receivers: VecDeque<ThreadId>,
    blocked: Vec<ThreadId>,
    /// The transfers that a call awaits, with their results.
    transfers: Vec<(TransferHandle, Option<FinishedTransfer>)>,
    ended: Option<DisconnectReason>,
    notify: Option<posthouse_io::Notify>,
}

impl ReceiveQueue {
    fn bound(&self) -> Bound {
        if self.awaiting > 0 { HARD_BOUND } else { SOFT_BOUND }
    }

    fn is_full(&self) -> bool {
        let bound = self.bound();
        self.messages.len() >= bound.messages || self.bytes >= bound.bytes
    }

    /// Returns whether reading is paused and only a receiver can change that.
    fn needs_receiver(&self) -> bool {
        self.paused && self.is_full()
    }

    /// Returns whether no thread is left that could receive.
    fn has_no_receiver(&self) -> bool {
        self.receivers.iter().all(|receiver| self.blocked.contains(receiver))
    }

    fn take(&mut self) -> Option<OwnedMessage> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.payload.len();
        self.taken += 1;
        Some(message)
    }

    /// Returns whether a task must be posted that resumes reading: the queue is half empty.
    fn should_resume(&mut self) -> bool {
        let bound = self.bound();
        let has_room = self.bytes < bound.bytes / 2 && self.messages.len() < bound.messages / 2;
        let resume = self.paused && !self.resuming && has_room;
        self.resuming |= resume;
        resume
    }

    fn add_receiver(&mut self, thread: ThreadId) {
        if !self.receivers.contains(&thread) {
            if self.receivers.len() == MAX_RECEIVERS {
                self.receivers.pop_front();
            }
            self.receivers.push_back(thread);
        }
    }
}

/// A call that waits, on a thread that meanwhile cannot receive.
struct Waiting<'a> {
    queue: &'a Mutex<ReceiveQueue>,
    thread: ThreadId,
    /// Whether the call awaits an answer of the server.
    answer: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut queue = lock(self.queue);
        queue.awaiting -= usize::from(self.answer);
        if let Some(index) = queue.blocked.iter().position(|thread| *thread == self.thread) {
            queue.blocked.swap_remove(index);
        }
    }
}

/// A transfer that a call awaits. Dropping it forgets the transfer.
struct AwaitedTransfer<'a> {
    queue: &'a Mutex<ReceiveQueue>,
    handle: TransferHandle,
}

impl Drop for AwaitedTransfer<'_> {
    fn drop(&mut self) {
        lock(self.queue).transfers.retain(|(handle, _)| *handle != self.handle);
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
        self.change(|queue| {
            let mut awaited = queue.transfers.iter_mut();
            if let Some((_, result)) = awaited.find(|(handle, _)| handle == transfer.handle()) {
                *result = Some(transfer.clone());
            }
        });
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
        let close_timeout = Duration::from_millis(target.options.close_timeout_ms);
        let stall_timeout = Duration::from_millis(target.options.stall_timeout_ms);
        let transfer_timeout = Duration::from_millis(target.options.transfer_timeout_ms);
        let peer = endpoint.connect(target, ()).inspect_err(|_| end(&endpoint))?;
        let client = Self { endpoint, peer, close_timeout, stall_timeout, transfer_timeout, queue };
        // A connection that was established and has ended since is a success: the messages that
        // arrived before the end can be received.
        let up = client.wait(None, |queue| match &queue.ended {
            _ if queue.connected => Some(Ok(())),
            Some(reason) => Some(Err(ClientError::ConnectFailed(reason.clone()))),
            None => None,
        });
        if let Err(error) = up.unwrap_or(Err(ClientError::TimedOut)) {
            // A program that tries again at once must not pile up endpoints that end.
            end(&client.endpoint);
            return Err(error);
        }
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

    /// Begins a call that may wait. `answer` says whether it awaits an answer of the server.
    fn waiting(&self, answer: bool) -> Result<Waiting<'_>, ClientError> {
        Self::may_wait()?;
        let thread = posthouse_io::current_thread();
        let others = {
            let mut queue = lock(&self.queue);
            queue.awaiting += usize::from(answer);
            queue.blocked.push(thread);
            queue.blocked.len() > 1
        };
        if others {
            // Other calls may have waited for this thread to receive.
            self.endpoint.notify().notify_all();
        }
        Ok(Waiting { queue: &self.queue, thread, answer })
    }

    /// Waits until `ready` returns a value or the connection has ended. While only a receiver can
    /// make room for the answer, waits for at most `patience` until one takes a message.
    fn answered<T>(
        &self,
        patience: Duration,
        mut ready: impl FnMut(&mut ReceiveQueue) -> Option<Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let mut look = |queue: &mut ReceiveQueue| {
            if let Some(ready) = ready(queue) {
                return Some(ready);
            }
            if queue.ended.is_some() {
                return Some(Err(ended(queue)));
            }
            (queue.needs_receiver() && queue.has_no_receiver())
                .then_some(Err(ClientError::ReceiveQueueFull))
        };
        loop {
            let taken = self.wait(None, |queue| match look(queue) {
                Some(found) => Some(Ok(found)),
                None => queue.needs_receiver().then_some(Err(queue.taken)),
            });
            let taken = match taken {
                None => return Err(ClientError::TimedOut),
                Some(Ok(found)) => return found,
                Some(Err(taken)) => taken,
            };
            let found = self.wait(Some(patience), |queue| match look(queue) {
                Some(found) => Some(Some(found)),
                None => (queue.taken != taken || !queue.needs_receiver()).then_some(None),
            });
            match found {
                Some(None) => {}
                Some(Some(found)) => return found,
                None => return Err(ClientError::ReceiveQueueFull),
            }
        }
    }

    /// Sends a message. The call blocks while the send queue is full.
    ///
    /// # Errors
    ///
    /// [`ClientError`] if the connection has ended or the message is not valid on it;
    /// [`ClientError::ReceiveQueueFull`] if the send queue and the queue of received messages are
    /// full, so that each side waits for the other to read, and no thread receives (within
    /// [`stall_timeout_ms`](crate::ConnectionOptions::stall_timeout_ms), if another one could).
    pub fn send(&self, kind: u8, payload: &[u8]) -> Result<(), ClientError> {
        let _waiting = self.waiting(false)?;
        let mut paused_since = None;
        let mut send = |queue: &mut ReceiveQueue| {
            let full = match self.endpoint.send(self.peer, kind, payload) {
                Ok(()) => return Some(Ok(())),
                Err(SendError::QueueFull { .. }) => queue.paused,
                Err(SendError::Busy) => false,
                Err(SendError::NotConnected) => return Some(Err(ended(queue))),
                Err(error) => return Some(Err(error.into())),
            };
            if !full {
                paused_since = None;
                return None;
            }
            let now = self.endpoint.now();
            let (taken, since) = *paused_since.get_or_insert((queue.taken, now));
            if taken != queue.taken {
                paused_since = Some((queue.taken, now));
                return None;
            }
            (queue.has_no_receiver() || now.saturating_sub(since) >= self.stall_timeout)
                .then_some(Err(ClientError::ReceiveQueueFull))
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
        lock(&self.queue).add_receiver(posthouse_io::current_thread());
        let mut resume = false;
        let mut took_from_full = false;
        let next = self.wait(Some(timeout), |queue| {
            if let Some(message) = queue.take() {
                took_from_full = queue.paused;
                resume = queue.should_resume();
                return Some(Ok(message));
            }
            queue.ended.is_some().then(|| Err(ended(queue)))
        });
        if resume {
            self.resume_reading();
        }
        if took_from_full {
            // Other calls may wait for a receiver.
            self.endpoint.notify().notify_all();
        }
        next.unwrap_or(Err(ClientError::TimedOut))
    }

    fn resume_reading(&self) {
        let resume = |peer: &mut Peer<'_, Collect>| {
            resume_if_room(peer);
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
    /// `timeout`, [`ClientError::ReceiveQueueFull`] if the queue of received messages is full
    /// before the reply arrives.
    pub fn request(
        &self,
        kind: u8,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<OwnedMessage, ClientError> {
        let _waiting = self.waiting(true)?;
        let answer = Arc::<Mutex<Option<Result<OwnedMessage, RequestError>>>>::default();
        let slot = answer.clone();
        let notify = self.endpoint.notify().clone();
        let payload = payload.to_vec();
        let asked = self.endpoint.run(self.peer, move |peer| {
            resume_if_room(peer);
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
        self.answered(timeout, |_| {
            lock(&answer).take().map(|reply| reply.map_err(ClientError::Request))
        })
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
        let _waiting = self.waiting(true)?;
        let handle = self.on_strand(|peer| {
            let handle = begin(peer);
            // No callback of the transfer comes before the end of this task.
            lock(&peer.handler().0).transfers.push((handle.clone(), None));
            handle
        })?;
        let awaited = AwaitedTransfer { queue: &self.queue, handle };
        let over = self.answered(self.transfer_timeout, |queue| {
            let mut transfers = queue.transfers.iter_mut();
            let (_, result) = transfers.find(|(handle, _)| *handle == awaited.handle)?;
            Some(result.take()?.result.map_err(ClientError::Transfer))
        });
        if let Err(ClientError::ReceiveQueueFull) = over {
            self.cancel(awaited.handle.clone());
        }
        over
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
        let _waiting = self.waiting(true)?;
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
            let page = self.answered(self.transfer_timeout, |_| {
                lock(&page).take().map(|page| page.map_err(ClientError::Transfer))
            })?;
            all.files.extend(page.files);
            all.invalid_names.extend(page.invalid_names);
            if page.next.is_none() {
                return Ok(all);
            }
            all.next = page.next;
        }
    }

    /// Runs a task of a call that awaits an answer on the connection's strand, and waits for the
    /// task's result.
    fn on_strand<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Peer<'_, Collect>) -> T + Send + 'static,
    ) -> Result<T, ClientError> {
        let result = Arc::new(Mutex::new(None));
        let slot = result.clone();
        let notify = self.endpoint.notify().clone();
        let posted = self.endpoint.run(self.peer, move |peer| {
            resume_if_room(peer);
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
    /// side, for at most [`close_timeout_ms`](crate::ConnectionOptions::close_timeout_ms); then the
    /// connection is reset. Returns when nothing of the client is left. (Only a file operation on a
    /// disk that hangs, or a look-up that hangs, delays this; see [`Endpoint::wait`].) Dropping the
    /// client also closes it, without waiting.
    pub fn close(self) {
        // Fails only if the connection has ended already.
        let _ = self.endpoint.close(self.peer, Close::graceful());
        self.wait(Some(self.close_timeout), |queue| queue.ended.is_some().then_some(()));
        end(&self.endpoint);
    }
}

/// Ends a client's endpoint at once and waits until nothing of it is left.
fn end(endpoint: &Endpoint<Collect>) {
    endpoint.shutdown(Duration::ZERO);
    // Fails only in a callback, which must not wait.
    let _ = endpoint.wait();
}

/// Resumes reading if the queue has room for more: a receiver has taken messages, or a call has
/// begun to await an answer.
fn resume_if_room(peer: &mut Peer<'_, Collect>) {
    let resume = {
        let mut queue = lock(&peer.handler().0);
        queue.resuming = false;
        let resume = queue.paused && !queue.is_full();
        queue.paused &= !resume;
        resume
    };
    if resume {
        peer.resume_reading();
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::World;

    struct Publishing;

    impl Handler for Publishing {
        type State = ();

        fn received(&self, peer: &mut Peer<'_, Self>, _: Message<'_>) -> HandlerResult {
            (0..20_000).for_each(|_| peer.send(40, b"news"));
            Ok(())
        }
    }

    #[test]
    fn a_transfer_whose_call_has_failed_leaves_nothing_in_the_queue() {
        let world = World::new(1);
        let server = world.start(Endpoint::builder(Publishing).listen("10.0.0.1:9990")).unwrap();
        let client = world.client("10.0.0.1:9990").unwrap();
        client.send(0, b"subscribe").unwrap();
        let directory = world.disk("here").directory();
        for _ in 0..10 {
            let failed = client.get("file", &directory);
            assert!(matches!(failed, Err(ClientError::ReceiveQueueFull)), "{failed:?}");
            world.settle();
            let queue = lock(&client.queue);
            assert!(queue.transfers.is_empty() && queue.blocked.is_empty() && queue.awaiting == 0);
        }
        client.close();
        drop(server);
    }
}
