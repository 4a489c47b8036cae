//! The connection of a file client, its events, and the list of the server's files.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use posthouse::{
    ConnectFailure, DisconnectKind, DisconnectReason, Endpoint, EndpointOptions, FileEntry,
    FileList, FinishedTransfer, Handler, HandlerResult, Message, Peer, PeerId, RunError, Target,
    TransferError, TransferErrorKind, TransferHandle,
};

use super::{Backoff, ConnectFlags, InvalidNames, ListCursor, RetryPolicy, earliest};
use crate::failure::{CommandResult, Failure};
use crate::term::terminal::Terminal;
use crate::{key_file, rlimit, signals};

/// The bye code for a peer without the right key (PROTOCOL.md).
const NOT_ADMITTED: u16 = 5;
/// The time that a graceful end of the connection may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// A page of the server's list of files, or the reason why the server did not send it.
pub(super) type Page = Result<FileList, TransferError>;

/// An event of the connection. Events are in the order in which they happened.
#[derive(Debug)]
pub(super) enum Event {
    Connected,
    /// The connection ended, or could not be established.
    Disconnected(DisconnectReason),
    /// The transfer of the job with this number has begun.
    Started(u64, TransferHandle),
    /// A transfer has ended, in success or failure.
    Finished(FinishedTransfer),
    /// A page of the server's list of files has arrived.
    Listed(Page),
    /// The user interrupted the program.
    Interrupted,
}

/// The handler of a file client: forwards every event and decides nothing.
pub(super) struct EventForwarder(Sender<Event>);

/// The state of the connection.
#[derive(Debug)]
enum Connection {
    /// There is no connection; the next attempt to connect is due at this time.
    Waiting(Instant),
    Connecting(PeerId),
    Open(PeerId),
}

/// The history of the connection, on which the messages to the user depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contact {
    /// No attempt has succeeded or failed.
    Untried,
    /// All attempts failed. The user was informed once.
    NeverConnected,
    /// There was a connection. No failure needs to be reported as resolved.
    Steady,
    /// There was a connection. A failure was reported, and there has been no progress since.
    Troubled,
}

/// The reason why the client makes no other attempt to connect.
#[derive(Debug)]
pub(crate) enum GaveUp {
    /// There never was a connection to the server.
    NeverConnected(String),
    /// The connection was lost for too long. A later run may succeed.
    Lost(String),
    /// The server ended the connection, or does not transfer files. A later run would fail, too.
    ForGood(String),
}

impl GaveUp {
    pub(super) fn why(&self) -> &str {
        let (Self::NeverConnected(why) | Self::Lost(why) | Self::ForGood(why)) = self;
        why
    }
}

impl From<GaveUp> for Failure {
    fn from(gave_up: GaveUp) -> Self {
        Self::runtime(gave_up.why())
    }
}

/// The reason why the server did not send a page of its list.
#[derive(Clone, Debug)]
pub(crate) struct NotListed {
    /// The message to the user.
    pub(crate) why: String,
    /// True exactly when the server follows the protocol, and will not list its files soon. It may
    /// send files by their names.
    pub(crate) is_lasting: bool,
    /// True exactly when the same request may succeed later.
    pub(crate) may_succeed_later: bool,
}

/// A client with one connection to one server.
pub(crate) struct FileClient {
    pub(super) target: Target,
    pub(super) backoff: Backoff,
    terminal: Terminal,
    endpoint: Endpoint<EventForwarder>,
    connection: Connection,
    contact: Contact,
    events: Receiver<Event>,
    sender: Sender<Event>,
}

impl FileClient {
    /// Starts the client. It connects when it first needs a connection.
    pub(crate) fn start(
        target: &Target,
        flags: &ConnectFlags,
        policy: RetryPolicy,
        terminal: Terminal,
    ) -> CommandResult<Self> {
        let mut target = target.clone();
        if let Some(path) = &flags.key_file {
            target = target.key(key_file::read(path)?);
        }
        let mut options = EndpointOptions::default().with_io_workers(1);
        flags.io.apply(&mut options)?;
        rlimit::raise_open_files();
        let (sender, events) = channel();
        let endpoint =
            Endpoint::builder(EventForwarder(sender.clone())).options(options).start()?;
        let forwarder = EventForwarder(sender.clone());
        signals::on_interrupt(move || forwarder.forward(Event::Interrupted))?;
        Ok(Self {
            target,
            backoff: Backoff::new(policy),
            terminal,
            endpoint,
            connection: Connection::Waiting(Instant::now()),
            contact: Contact::Untried,
            events,
            sender,
        })
    }

    /// Returns true if there ever was a connection.
    pub(crate) fn was_connected(&self) -> bool {
        matches!(self.contact, Contact::Steady | Contact::Troubled)
    }

    /// Ends the connection and waits for the end.
    pub(crate) fn shutdown(self) -> CommandResult {
        self.endpoint.shutdown(SHUTDOWN_TIMEOUT);
        self.endpoint.wait().map_err(|error| Failure::runtime(error.to_string()))
    }

    // ---- the connection ----

    /// Waits for the next event, at most until the given time. Connects if an attempt is due.
    ///
    /// # Errors
    ///
    /// There is no connection and will be none.
    pub(super) fn wait(&mut self, until: Option<Instant>) -> Result<Option<Event>, GaveUp> {
        let until = earliest(until, self.connect_if_due()?);
        let received = match until {
            // The sender held by this client keeps the channel open.
            None => self.events.recv().ok(),
            Some(until) => {
                let time = until.saturating_duration_since(Instant::now());
                self.events.recv_timeout(time).ok()
            }
        };
        match &received {
            Some(Event::Connected) => self.on_connected(),
            Some(Event::Disconnected(why)) => self.on_disconnected(why)?,
            _ => {}
        }
        Ok(received)
    }

    /// Begins to connect if an attempt is due. Otherwise returns the time of the next attempt.
    fn connect_if_due(&mut self) -> Result<Option<Instant>, GaveUp> {
        let Connection::Waiting(due) = self.connection else { return Ok(None) };
        if Instant::now() < due {
            return Ok(Some(due));
        }
        let begun = self.endpoint.connect(self.target.clone(), ());
        let peer = begun.map_err(|error| {
            let why = format!("cannot connect: {error}");
            if self.was_connected() { GaveUp::ForGood(why) } else { GaveUp::NeverConnected(why) }
        })?;
        self.connection = Connection::Connecting(peer);
        Ok(None)
    }

    fn on_connected(&mut self) {
        if let Connection::Connecting(peer) = self.connection {
            self.connection = Connection::Open(peer);
        }
        self.contact = match self.contact {
            Contact::Untried | Contact::Steady => Contact::Steady,
            Contact::NeverConnected | Contact::Troubled => Contact::Troubled,
        };
    }

    /// Schedules another attempt after the connection was lost or could not be established.
    ///
    /// # Errors
    ///
    /// The reason is permanent, or the retry policy allows no other attempt.
    fn on_disconnected(&mut self, why: &DisconnectReason) -> Result<(), GaveUp> {
        let now = Instant::now();
        let target = &self.target;
        let policy = self.backoff.policy;
        let was_connected = self.was_connected();
        let retries_first_connect = !matches!(policy, RetryPolicy::OnceConnected(_));
        if !was_connected && (!is_transient(why) || !retries_first_connect) {
            let why = format!("cannot connect to {target}: {}", explained(why));
            return Err(GaveUp::NeverConnected(why));
        }
        if !is_transient(why) {
            let why = format!("{target} ended the connection for good: {why}");
            return Err(GaveUp::ForGood(why));
        }
        if !self.backoff.may_retry(now) {
            let time = policy.limit().unwrap_or_default().as_secs();
            return Err(if !was_connected {
                GaveUp::NeverConnected(format!("no connection to {target} for {time} s: {why}"))
            } else if time == 0 {
                GaveUp::Lost(format!("lost the connection to {target}: {why}"))
            } else {
                GaveUp::Lost(format!("no progress with {target} for {time} s: {why}"))
            });
        }
        self.connection = Connection::Waiting(self.backoff.next_attempt_at(now));
        let (what, contact) = match self.contact {
            Contact::Untried => ("no", Contact::NeverConnected),
            Contact::Steady => ("lost the", Contact::Troubled),
            // The failure was reported before.
            Contact::NeverConnected | Contact::Troubled => return Ok(()),
        };
        self.contact = contact;
        self.terminal.info(&format!("{what} connection to {target}: {why}; retrying"));
        Ok(())
    }

    /// Notes progress over the connection.
    pub(super) fn on_progress(&mut self) {
        self.backoff.reset();
        if self.contact == Contact::Troubled {
            self.contact = Contact::Steady;
            self.terminal.info(&format!("connected to {}", self.target));
        }
    }

    /// Returns the peer of the connection if it is open.
    pub(super) fn peer(&self) -> Option<PeerId> {
        match self.connection {
            Connection::Open(peer) => Some(peer),
            Connection::Waiting(_) | Connection::Connecting(_) => None,
        }
    }

    /// Runs a call on the strand of the connection. Returns false if its queue is full. If the
    /// connection is gone, the call is dropped, and `Event::Disconnected` follows.
    pub(super) fn run_on_peer(
        &self,
        peer: PeerId,
        call: impl FnOnce(&mut Peer<'_, EventForwarder>, EventForwarder) + Send + 'static,
    ) -> bool {
        let forwarder = EventForwarder(self.sender.clone());
        let run = self.endpoint.run(peer, move |peer| {
            call(peer, forwarder);
            Ok(())
        });
        run != Err(RunError::Busy)
    }

    // ---- listing ----

    /// Calls `each` for each file of the server whose name begins with `prefix`, in order. Returns
    /// whether the server listed all of them, and the invalid names, also after a failure.
    pub(crate) fn list(
        &mut self,
        prefix: &str,
        mut each: impl FnMut(FileEntry) -> CommandResult,
    ) -> (CommandResult, InvalidNames) {
        let mut cursor = ListCursor::new(prefix);
        let mut invalid = InvalidNames::default();
        loop {
            let listed = match self.fetch_page(cursor.after()) {
                Ok(page) => cursor.take(page),
                Err(failure) => return (Err(failure), invalid),
            };
            invalid.add(listed.invalid);
            let shown = listed.files.into_iter().try_for_each(&mut each);
            if shown.is_err() || listed.is_last {
                return (shown, invalid);
            }
        }
    }

    pub(super) fn not_listed(&self, error: &TransferError) -> NotListed {
        NotListed {
            why: format!("cannot list the files of {}: {error}", self.target),
            is_lasting: !error.is_passing() && error.kind() != TransferErrorKind::Protocol,
            may_succeed_later: error.may_succeed_later(),
        }
    }

    /// Requests the first files after a name; they come as an [`Event::Listed`]. Returns false if
    /// the queue of the connection is full.
    pub(super) fn request_page(&self, peer: PeerId, after: &str) -> bool {
        let after = after.to_owned();
        self.run_on_peer(peer, move |peer, forwarder| {
            peer.list_files(&after, move |_, listed| {
                forwarder.forward(Event::Listed(listed));
                Ok(())
            });
        })
    }

    /// Fetches the first files after a name, as long as the retry policy allows another attempt.
    fn fetch_page(&mut self, after: &str) -> CommandResult<FileList> {
        let mut last_error = None;
        self.try_fetch_page(after, &mut last_error).map_err(|failure| {
            // The failure is another one, such as an interruption of the next attempt.
            failure.with(last_error.map(|error| self.not_listed(&error).why))
        })
    }

    /// Fetches the first files after a name. Keeps the error of the last failed attempt, unless the
    /// failure names it.
    fn try_fetch_page(
        &mut self,
        after: &str,
        last_error: &mut Option<TransferError>,
    ) -> CommandResult<FileList> {
        loop {
            let Some(peer) = self.peer() else {
                self.wait_for_page(None)?;
                continue;
            };
            let requested = self.request_page(peer, after);
            let mut page = None;
            while requested && page.is_none() && self.peer().is_some() {
                let answer = self.wait_for_page(None)?;
                page = answer.filter(|page| !page.as_ref().is_err_and(is_disconnected));
            }
            match page {
                Some(Ok(page)) => {
                    self.on_progress();
                    return Ok(page);
                }
                Some(Err(error)) => {
                    if !error.is_passing() || !self.backoff.may_retry(Instant::now()) {
                        *last_error = None;
                        return Err(Failure::runtime(self.not_listed(&error).why));
                    }
                    *last_error = Some(error);
                    self.pause()?;
                }
                // The connection was lost.
                None if requested => {}
                None => self.pause()?,
            }
        }
    }

    /// Waits for an event. Returns the page if the event is a page.
    fn wait_for_page(&mut self, until: Option<Instant>) -> CommandResult<Option<Page>> {
        match self.wait(until)? {
            Some(Event::Listed(page)) => Ok(Some(page)),
            Some(Event::Interrupted) => Err(Failure::interrupted("interrupted")),
            _ => Ok(None),
        }
    }

    /// Waits until the next attempt is due.
    fn pause(&mut self) -> CommandResult {
        let until = self.backoff.next_attempt_at(Instant::now());
        while Instant::now() < until {
            self.wait_for_page(Some(until))?;
        }
        Ok(())
    }
}

/// Returns true if the cause of an error is the end of the connection. `Event::Disconnected` comes
/// with it. A peer that only says that the connection is about to end may keep it.
pub(super) fn is_disconnected(error: &TransferError) -> bool {
    error.kind() == TransferErrorKind::Disconnected && !error.is_by_peer()
}

impl EventForwarder {
    pub(super) fn forward(&self, event: Event) {
        // This fails after the end of the client, when nothing needs the event.
        let _ = self.0.send(event);
    }
}

impl Handler for EventForwarder {
    type State = ();

    fn connected(&self, _: &mut Peer<'_, Self>) -> HandlerResult {
        self.forward(Event::Connected);
        Ok(())
    }

    fn received(&self, _: &mut Peer<'_, Self>, _: Message<'_>) -> HandlerResult {
        Ok(())
    }

    fn transferred(&self, _: &mut Peer<'_, Self>, transfer: &FinishedTransfer) -> HandlerResult {
        self.forward(Event::Finished(transfer.clone()));
        Ok(())
    }

    fn disconnected(&self, _: &mut Peer<'_, Self>, why: &DisconnectReason) {
        self.forward(Event::Disconnected(why.clone()));
    }

    fn connect_failed(&self, _: &Endpoint<Self>, failure: &ConnectFailure) {
        self.forward(Event::Disconnected(failure.reason().clone()));
    }
}

/// Returns true if a later attempt to connect may succeed.
fn is_transient(why: &DisconnectReason) -> bool {
    let is_transient = matches!(
        why.kind(),
        DisconnectKind::Ended
            | DisconnectKind::Reset
            | DisconnectKind::Silent
            | DisconnectKind::TooSlow
            | DisconnectKind::Busy
            | DisconnectKind::System
            | DisconnectKind::Unreachable
    );
    is_transient && why.code() != Some(NOT_ADMITTED)
}

/// Returns the text of a reason, with a hint for a user who has just typed the command.
fn explained(why: &DisconnectReason) -> String {
    let text = why.to_string();
    if let Some((text, _)) = text.split_once(" (see Target::without_hello)") {
        return format!("{text}; does a posthouse server listen there?");
    }
    if why.code() == Some(NOT_ADMITTED) || why.kind() == DisconnectKind::NotAdmitted {
        return format!("{text}; both sides need the same key, see --key-file");
    }
    text
}
