//! A blocking client, for programs that want to ask and wait.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use posthouse_io::sim::Network;

use crate::builder::Builder;
use crate::close::{Close, Outcome, Reason};
use crate::directory::Directory;
use crate::endpoint::Endpoint;
use crate::error::{ConnectError, RequestError, SendError, StartError, WouldDeadlock};
use crate::handler::Handler;
use crate::id::PeerId;
use crate::message::Message;
use crate::options::Options;
use crate::peer::Peer;
use crate::sync::{Arc, Mutex, lock};
use crate::target::Target;
use crate::transfer::{FileEntry, Progress, Transfer, TransferError};

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
    endpoint: Endpoint<()>,
    peer: PeerId,
    inbox: Arc<Mutex<Inbox>>,
}

/// A message that a [`Client`] received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The kind; 0 in framings that have none.
    pub kind: u8,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Why a client's call has no result.
#[non_exhaustive]
pub enum ClientError {
    /// The connection did not come up.
    Unreachable(Reason),
    /// The connection ended.
    Disconnected(Reason),
    /// Nothing came in time. In simulation also: nothing can come any more.
    TimedOut,
    /// The message was not sent.
    Send(SendError),
    /// The request has no answer.
    Request(RequestError),
    /// The file did not get across.
    Transfer(TransferError),
    /// As many received messages as may be wait for [`Client::receive`]: nothing more is read, so
    /// no answer can come. Receive them, then try again.
    InboxFull,
    /// The connection was not begun.
    Connect(ConnectError),
    /// The client's endpoint did not start.
    Start(StartError),
    /// The target is no address.
    Address(posthouse_io::AddressError),
    /// A callback cannot wait: it runs on the worker that it would wait for.
    WouldDeadlock(WouldDeadlock),
}

/// As `Display`: it is what `fn main() -> Result` prints.
impl fmt::Debug for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Unreachable(reason) => write!(f, "not connected: {reason}"),
            ClientError::Disconnected(reason) => write!(f, "disconnected: {reason}"),
            ClientError::TimedOut => f.write_str("nothing came in time"),
            ClientError::Send(error) => error.fmt(f),
            ClientError::Request(error) => error.fmt(f),
            ClientError::Transfer(error) => error.fmt(f),
            ClientError::InboxFull => {
                f.write_str("too many received messages wait: receive them, then try again")
            }
            ClientError::Connect(error) => error.fmt(f),
            ClientError::Start(error) => error.fmt(f),
            ClientError::Address(error) => error.fmt(f),
            ClientError::WouldDeadlock(_) => {
                f.write_str("a callback cannot wait: use Endpoint::connect and a handler there")
            }
        }
    }
}

impl std::error::Error for ClientError {}

impl From<SendError> for ClientError {
    fn from(error: SendError) -> Self {
        ClientError::Send(error)
    }
}

impl From<posthouse_io::AddressError> for ClientError {
    fn from(error: posthouse_io::AddressError) -> Self {
        ClientError::Address(error)
    }
}

const INBOX_MESSAGES_MAX: usize = 1024;
const INBOX_BYTES_MAX: usize = 1024 * 1024;
/// How often a send looks whether the posted work that was too much has been done.
const BUSY_LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct Inbox {
    messages: VecDeque<Received>,
    bytes: usize,
    /// True exactly while reading is paused because the inbox is full.
    paused: bool,
    connected: bool,
    /// Files that are over and not yet asked for.
    transfers: Vec<Transfer>,
    ended: Option<Reason>,
    bell: Option<posthouse_io::Notify>,
}

impl Inbox {
    fn is_full(&self) -> bool {
        self.messages.len() >= INBOX_MESSAGES_MAX || self.bytes >= INBOX_BYTES_MAX
    }
}

/// Puts what happens into the inbox and rings.
struct Collect(Arc<Mutex<Inbox>>);

impl Collect {
    fn change(&self, change: impl FnOnce(&mut Inbox)) {
        let bell = {
            let mut inbox = lock(&self.0);
            change(&mut inbox);
            inbox.bell.clone()
        };
        if let Some(bell) = bell {
            bell.notify_all();
        }
    }
}

impl Handler for Collect {
    type State = ();

    fn connected(&self, _: &mut Peer<'_, ()>) -> Outcome {
        self.change(|inbox| inbox.connected = true);
        Ok(())
    }

    fn received(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Outcome {
        if let Some(ticket) = message.ticket() {
            peer.refuse(ticket, "this client answers no requests");
            return Ok(());
        }
        self.change(|inbox| {
            inbox.bytes += message.payload().len();
            inbox
                .messages
                .push_back(Received { kind: message.kind(), payload: message.to_bytes() });
            if inbox.is_full() {
                inbox.paused = true;
                peer.pause_reading();
            }
        });
        Ok(())
    }

    fn transferred(&self, _: &mut Peer<'_, ()>, transfer: &Transfer) -> Outcome {
        self.change(|inbox| inbox.transfers.push(transfer.clone()));
        Ok(())
    }

    fn writable(&self, _: &mut Peer<'_, ()>) -> Outcome {
        self.change(|_| {});
        Ok(())
    }

    fn disconnected(&self, _: &mut Peer<'_, ()>, why: &Reason) {
        self.change(|inbox| inbox.ended = Some(why.clone()));
    }

    fn unreachable(&self, _: &Endpoint<()>, _: PeerId, _: &Target, why: &Reason) {
        self.change(|inbox| inbox.ended = Some(why.clone()));
    }
}

impl Client {
    /// Connects, with the default options.
    ///
    /// # Errors
    ///
    /// When the text is no address, or the connection is not up within
    /// [`connect_ms`](crate::Options::connect_ms).
    pub fn connect(target: &str) -> Result<Self, ClientError> {
        Self::connect_with(Target::parse(target)?, Options::default())
    }

    /// Connects to a target that says more, with options of its own.
    pub fn connect_with(target: Target, options: Options) -> Result<Self, ClientError> {
        Self::start(target, Options { io_workers: 1, ..options }, None)
    }

    pub(crate) fn start(
        target: Target,
        options: Options,
        network: Option<Network>,
    ) -> Result<Self, ClientError> {
        if posthouse_io::on_worker() {
            return Err(ClientError::WouldDeadlock(WouldDeadlock));
        }
        let inbox = Arc::<Mutex<Inbox>>::default();
        let mut builder = Builder::new(Collect(inbox.clone())).options(options);
        if let Some(network) = network {
            builder = builder.network(network);
        }
        let endpoint = builder.start().map_err(ClientError::Start)?;
        lock(&inbox).bell = Some(endpoint.bell().clone());
        let peer = endpoint.connect(target).map_err(ClientError::Connect)?;
        let client = Self { endpoint, peer, inbox };
        // Up, even if it has ended since: what came before the end is there to be received.
        let up = client.wait(None, |inbox| match &inbox.ended {
            _ if inbox.connected => Some(Ok(())),
            Some(reason) => Some(Err(ClientError::Unreachable(reason.clone()))),
            None => None,
        });
        up.unwrap_or(Err(ClientError::TimedOut))?;
        Ok(client)
    }

    fn wait<T>(
        &self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(&mut Inbox) -> Option<T>,
    ) -> Option<T> {
        self.endpoint.bell().wait_until(timeout, || ready(&mut lock(&self.inbox)))
    }

    fn may_wait() -> Result<(), ClientError> {
        match posthouse_io::on_worker() {
            true => Err(ClientError::WouldDeadlock(WouldDeadlock)),
            false => Ok(()),
        }
    }

    /// Sends a message; waits while the send queue is full.
    pub fn send(&self, kind: u8, payload: &[u8]) -> Result<(), ClientError> {
        Self::may_wait()?;
        let mut send = |inbox: &mut Inbox| match self.endpoint.send(self.peer, kind, payload) {
            Ok(()) => Some(Ok(())),
            Err(SendError::QueueFull { .. } | SendError::Busy) => None,
            Err(SendError::NotConnected) => Some(Err(ended(inbox))),
            Err(error) => Some(Err(error.into())),
        };
        loop {
            // The bell rings when there is room; nobody rings for the end of `Busy`.
            if let Some(sent) = self.wait(Some(BUSY_LOOK), &mut send) {
                return sent;
            }
        }
    }

    /// The next message, in the order of their arrival; waits for it, at most so long
    /// ([`Duration::MAX`]: for ever). What arrived before the end
    /// of the connection is given before the end is told.
    pub fn receive(&self, timeout: Duration) -> Result<Received, ClientError> {
        Self::may_wait()?;
        let mut resume = false;
        let next = self.wait(Some(timeout), |inbox| {
            if let Some(message) = inbox.messages.pop_front() {
                inbox.bytes -= message.payload.len();
                resume = inbox.paused
                    && inbox.bytes < INBOX_BYTES_MAX / 2
                    && inbox.messages.len() < INBOX_MESSAGES_MAX / 2;
                inbox.paused &= !resume;
                return Some(Ok(message));
            }
            inbox.ended.is_some().then(|| Err(ended(inbox)))
        });
        if resume {
            self.resume_reading();
        }
        next.unwrap_or(Err(ClientError::TimedOut))
    }

    fn resume_reading(&self) {
        let resume = |peer: &mut Peer<'_, ()>| {
            peer.resume_reading();
            Ok(())
        };
        // Any other refusal is a connection that has ended: then there is nothing to resume.
        while self.endpoint.run(self.peer, resume) == Err(SendError::Busy) {
            self.wait(Some(BUSY_LOOK), |_| None::<()>);
        }
    }

    /// Asks, and waits for the reply.
    pub fn request(
        &self,
        kind: u8,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Received, ClientError> {
        Self::may_wait()?;
        let answer = Arc::<Mutex<Option<Result<Received, RequestError>>>>::default();
        let (slot, bell) = (answer.clone(), self.endpoint.bell().clone());
        let payload = payload.to_vec();
        let asked = self.endpoint.run(self.peer, move |peer| {
            peer.request(kind, &payload, timeout, move |_, reply| {
                let reply = reply.map(|m| Received { kind: m.kind(), payload: m.to_bytes() });
                *lock(&slot) = Some(reply);
                bell.notify_all();
                Ok(())
            });
            Ok(())
        });
        if asked == Err(SendError::NotConnected) {
            return Err(ended(&mut lock(&self.inbox)));
        }
        asked?;
        let reply = self.wait(None, |inbox| {
            let answered = lock(&answer).take().map(|reply| reply.map_err(ClientError::Request));
            answered.or_else(|| no_answer(inbox))
        });
        reply.unwrap_or(Err(ClientError::TimedOut))
    }

    /// Sends a file, and waits until the server has it whole, verified and on its disk; gives its
    /// BLAKE3 hash. What the server has of it already is not sent again.
    ///
    /// Messages that come meanwhile wait to be received; when as many wait as may, the call gives
    /// up with [`ClientError::InboxFull`], as `get`, `list` and `request` do.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use posthouse::{Client, Directory};
    /// let client = Client::connect("127.0.0.1:9990")?;
    /// client.put(&Directory::open("outbox")?, "today.csv")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn put(&self, directory: &Directory, name: &str) -> Result<[u8; 32], ClientError> {
        let (directory, name) = (directory.clone(), name.to_owned());
        self.transfer(move |peer| peer.offer(&directory, &name))
    }

    /// Fetches a file into a directory, and waits until it is there, whole, verified and on the
    /// disk; gives its BLAKE3 hash. What is there of it already is not sent again.
    pub fn get(&self, name: &str, directory: &Directory) -> Result<[u8; 32], ClientError> {
        let (directory, name) = (directory.clone(), name.to_owned());
        self.transfer(move |peer| peer.get(&directory, &name))
    }

    fn transfer(
        &self,
        begin: impl FnOnce(&mut Peer<'_, ()>) -> Progress + Send + 'static,
    ) -> Result<[u8; 32], ClientError> {
        let progress = self.on_strand(begin)?;
        let over = self.wait(None, |inbox| {
            let mine = |transfer: &Transfer| *transfer.progress() == progress;
            let Some(place) = inbox.transfers.iter().position(mine) else {
                return inbox.paused.then_some(Err(ClientError::InboxFull));
            };
            Some(inbox.transfers.swap_remove(place).result.map_err(ClientError::Transfer))
        });
        if let Some(Err(ClientError::InboxFull)) = over {
            self.give_up(progress);
        }
        over.unwrap_or(Err(ClientError::TimedOut))
    }

    /// Cancels a transfer that nobody waits for any more.
    fn give_up(&self, progress: Progress) {
        // Refused only where the connection has ended, and the transfer with it.
        let _ = self.endpoint.run(self.peer, move |peer| {
            peer.cancel(&progress);
            Ok(())
        });
    }

    /// Everything that the server has, in the order of the names.
    pub fn list(&self) -> Result<Vec<FileEntry>, ClientError> {
        let mut all: Vec<FileEntry> = Vec::new();
        loop {
            let after = all.last().map(|entry| entry.name.to_string()).unwrap_or_default();
            let page = Arc::<Mutex<Option<Result<Vec<FileEntry>, TransferError>>>>::default();
            let (slot, bell) = (page.clone(), self.endpoint.bell().clone());
            self.on_strand(move |peer| {
                peer.list(&after, move |_, listed| {
                    *lock(&slot) = Some(listed);
                    bell.notify_all();
                    Ok(())
                });
            })?;
            let listed = self.wait(None, |inbox| {
                let listed = lock(&page).take().map(|page| page.map_err(ClientError::Transfer));
                listed.or_else(|| no_answer(inbox))
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
        run: impl FnOnce(&mut Peer<'_, ()>) -> T + Send + 'static,
    ) -> Result<T, ClientError> {
        Self::may_wait()?;
        let result = Arc::new(Mutex::new(None));
        let (slot, bell) = (result.clone(), self.endpoint.bell().clone());
        let posted = self.endpoint.run(self.peer, move |peer| {
            let value = run(peer);
            *lock(&slot) = Some(value);
            bell.notify_all();
            Ok(())
        });
        if posted == Err(SendError::NotConnected) {
            return Err(ended(&mut lock(&self.inbox)));
        }
        posted?;
        let value = self.wait(None, |inbox| {
            let value = lock(&result).take().map(Ok);
            value.or_else(|| inbox.ended.is_some().then(|| Err(ended(inbox))))
        });
        value.unwrap_or(Err(ClientError::TimedOut))
    }

    /// The client's endpoint: for figures, or to look at the connection.
    pub fn endpoint(&self) -> &Endpoint<()> {
        &self.endpoint
    }

    /// The connection's id.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Closes gracefully and waits until everything is sent and the server has ended its side, for
    /// at most [`close_timeout_ms`](crate::Options::close_timeout_ms). Dropping the client closes
    /// as well, and does not wait.
    pub fn close(self) {
        // Refused only where the connection has ended already.
        let _ = self.endpoint.close(self.peer, Close::gracefully());
        let ended = Duration::from_millis(2 * self.endpoint.options().close_timeout_ms);
        self.wait(Some(ended), |inbox| inbox.ended.is_some().then_some(()));
        self.endpoint.shutdown(Duration::ZERO);
        // Refused only in a callback, where nothing can be waited for.
        let _ = self.endpoint.wait();
    }
}

/// Why no answer can come any more, where none can.
fn no_answer<T>(inbox: &mut Inbox) -> Option<Result<T, ClientError>> {
    if inbox.ended.is_some() {
        return Some(Err(ended(inbox)));
    }
    inbox.paused.then_some(Err(ClientError::InboxFull))
}

fn ended(inbox: &mut Inbox) -> ClientError {
    match &inbox.ended {
        Some(reason) => ClientError::Disconnected(reason.clone()),
        None => ClientError::Send(SendError::NotConnected),
    }
}
