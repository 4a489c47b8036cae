//! The connection of a file client: established, restored after a loss, given up; and the list of
//! the server's files.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use posthouse::{
    DisconnectKind, DisconnectReason, Endpoint, EndpointOptions, FileEntry, Peer, PeerId, RunError,
    Target, TransferError,
};

use super::events::{Event, EventForwarder};
use super::flags::ConnectFlags;
use super::retry::{Backoff, RetryPolicy};
use crate::failure::{CommandResult, Failure};
use crate::term::terminal::Terminal;
use crate::{key_file, rlimit, signals};

/// The bye code for a peer without the right key (PROTOCOL.md).
const NOT_ADMITTED: u16 = 5;
/// The time that a graceful end of the connection may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// A page of the server's list of files.
type Page = Vec<FileEntry>;

#[derive(Debug)]
pub(super) enum Connection {
    /// There is none, and the next attempt is at this time.
    None(Instant),
    Connecting(PeerId),
    Connected(PeerId),
}

/// The reason why there is no connection and will be none.
#[derive(Debug)]
pub(super) struct ConnectionFailed {
    pub(super) why: String,
    /// True if a later attempt may succeed.
    pub(super) is_transient: bool,
}

impl From<ConnectionFailed> for Failure {
    fn from(failed: ConnectionFailed) -> Self {
        Self::runtime(failed.why)
    }
}

/// The result of a listing.
#[derive(Debug)]
pub(crate) enum Listing {
    Complete,
    /// The server refused to list its files: the reason.
    Refused(String),
}

/// A client with one connection to one server.
pub(crate) struct FileClient {
    pub(super) target: Target,
    endpoint: Endpoint<EventForwarder>,
    pub(super) connection: Connection,
    pub(super) backoff: Backoff,
    events: Receiver<Event>,
    pub(super) event_sender: Sender<Event>,
    /// True once there was a connection.
    was_connected: bool,
    /// True exactly while a loss has been reported and no progress has been made since.
    loss_reported: bool,
    /// True once the user asked for the end.
    pub(super) interrupted: bool,
}

impl FileClient {
    /// Starts the client; it connects when it first needs the connection.
    pub(crate) fn start(
        target: &Target,
        flags: &ConnectFlags,
        policy: RetryPolicy,
    ) -> CommandResult<Self> {
        let mut target = target.clone();
        if let Some(path) = &flags.key_file {
            target = target.key(key_file::read(path)?);
        }
        let mut options = EndpointOptions::default().with_io_workers(1);
        flags.io.apply(&mut options)?;
        rlimit::raise_open_files();
        let (event_sender, events) = channel();
        let forwarder = EventForwarder(event_sender.clone());
        let endpoint = Endpoint::builder(forwarder).options(options).start()?;
        let interrupt = event_sender.clone();
        signals::on_interrupt(move || {
            // Fails once the client is gone: then the program is about to end.
            let _ = interrupt.send(Event::Interrupted);
        })?;
        Ok(Self {
            target,
            endpoint,
            connection: Connection::None(Instant::now()),
            backoff: Backoff::new(policy),
            events,
            event_sender,
            was_connected: false,
            loss_reported: false,
            interrupted: false,
        })
    }

    /// Returns true if there ever was a connection.
    pub(crate) fn was_connected(&self) -> bool {
        self.was_connected
    }

    /// Ends the connection, and waits for that.
    pub(crate) fn shutdown(self) -> CommandResult {
        self.endpoint.shutdown(SHUTDOWN_TIMEOUT);
        self.endpoint.wait().map_err(|error| Failure::runtime(error.to_string()))
    }

    // ---- the list of files ----

    /// Calls `each` for the server's files whose names begin with `prefix`, in order.
    pub(crate) fn list(
        &mut self,
        terminal: &Terminal,
        prefix: &str,
        mut each: impl FnMut(FileEntry) -> CommandResult,
    ) -> CommandResult<Listing> {
        let mut after = name_before(prefix);
        loop {
            let page = match self.fetch_page(terminal, &after)? {
                Ok(page) => page,
                Err(error) => {
                    let text = format!("{} does not list its files: {error}", self.target);
                    return Ok(Listing::Refused(text));
                }
            };
            let Some(first) = page.first() else { return Ok(Listing::Complete) };
            if *first.name <= *after {
                // The listing would never end.
                let text = "lists the same files again and again: it does not keep to the protocol";
                return Err(Failure::runtime(format!("{} {text}", self.target)));
            }
            for entry in page {
                if *entry.name > *prefix && !entry.name.starts_with(prefix) {
                    return Ok(Listing::Complete);
                }
                after.clear();
                after.push_str(&entry.name);
                if entry.name.starts_with(prefix) {
                    each(entry)?;
                }
            }
        }
    }

    /// Fetches the first files after a name; connects first if there is no connection.
    fn fetch_page(
        &mut self,
        terminal: &Terminal,
        after: &str,
    ) -> CommandResult<Result<Page, TransferError>> {
        loop {
            let Connection::Connected(peer) = self.connection else {
                let retry_at = self.connect_if_due(Instant::now())?;
                if let Some(event) = self.next_event(retry_at) {
                    self.on_idle_event(terminal, &event)?;
                }
                continue;
            };
            match self.request_page(terminal, peer, after)? {
                Some(Ok(page)) => {
                    self.on_progress(terminal);
                    return Ok(Ok(page));
                }
                Some(Err(error)) => {
                    if !error.is_passing() || !self.backoff.may_retry(Instant::now()) {
                        return Ok(Err(error));
                    }
                    self.pause(terminal)?;
                }
                None => {}
            }
        }
    }

    /// Requests a page over a connection. Returns `None` if the connection was lost, or has no room
    /// for the request now.
    fn request_page(
        &mut self,
        terminal: &Terminal,
        peer: PeerId,
        after: &str,
    ) -> CommandResult<Option<Result<Page, TransferError>>> {
        let (after, sender) = (after.to_owned(), self.event_sender.clone());
        let requested = self.run_on_peer(peer, move |peer| {
            peer.list_files(&after, move |_, listed| {
                // Fails once the client is gone.
                let _ = sender.send(Event::Listed(listed));
                Ok(())
            });
        });
        if !requested {
            self.pause(terminal)?;
            return Ok(None);
        }
        while let Connection::Connected(_) = self.connection {
            match self.next_event(None) {
                Some(Event::Listed(listed)) => return Ok(Some(listed)),
                Some(event) => self.on_idle_event(terminal, &event)?,
                None => {}
            }
        }
        Ok(None)
    }

    /// Waits until the next attempt, and handles the events meanwhile.
    fn pause(&mut self, terminal: &Terminal) -> CommandResult {
        let until = self.backoff.next_attempt_at(Instant::now());
        while Instant::now() < until {
            if let Some(event) = self.next_event(Some(until)) {
                self.on_idle_event(terminal, &event)?;
            }
        }
        Ok(())
    }

    /// Handles an event while no file is transferred.
    fn on_idle_event(&mut self, terminal: &Terminal, event: &Event) -> CommandResult {
        match event {
            Event::Disconnected(why) => Ok(self.on_disconnected(terminal, why)?),
            Event::Interrupted => Err(Failure::interrupted("interrupted")),
            _ => Ok(()),
        }
    }

    // ---- the connection ----

    /// Begins to connect if it is time to; returns the time of the next attempt otherwise.
    ///
    /// # Errors
    ///
    /// The reason why there will be no connection.
    pub(super) fn connect_if_due(
        &mut self,
        now: Instant,
    ) -> Result<Option<Instant>, ConnectionFailed> {
        match self.connection {
            Connection::None(at) if now >= at => {
                let begun = self.endpoint.connect(self.target.clone(), ());
                let peer = begun.map_err(|error| ConnectionFailed {
                    why: format!("cannot connect: {error}"),
                    is_transient: false,
                })?;
                self.connection = Connection::Connecting(peer);
                Ok(None)
            }
            Connection::None(at) => Ok(Some(at)),
            Connection::Connecting(_) | Connection::Connected(_) => Ok(None),
        }
    }

    /// Waits for the next event, until the time if there is one. An established connection and an
    /// interruption are noted here, before the caller sees the event.
    pub(super) fn next_event(&mut self, until: Option<Instant>) -> Option<Event> {
        let event = match until {
            // The sender held by this client keeps the channel open.
            None => self.events.recv().ok()?,
            Some(until) => {
                let time = until.saturating_duration_since(Instant::now());
                match self.events.recv_timeout(time) {
                    Ok(event) => event,
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
                }
            }
        };
        match (&event, &self.connection) {
            (Event::Connected, Connection::Connecting(peer)) => {
                self.connection = Connection::Connected(*peer);
                self.was_connected = true;
            }
            (Event::Interrupted, _) => self.interrupted = true,
            _ => {}
        }
        Some(event)
    }

    /// Schedules another attempt after the connection was lost or could not be established.
    ///
    /// # Errors
    ///
    /// The reason why there is no other attempt.
    pub(super) fn on_disconnected(
        &mut self,
        terminal: &Terminal,
        why: &DisconnectReason,
    ) -> Result<(), ConnectionFailed> {
        let now = Instant::now();
        let (target, policy) = (&self.target, self.backoff.policy());
        let is_transient = is_transient(why);
        if !self.was_connected && (!is_transient || !policy.retries_first_connect) {
            let why = format!("cannot connect to {target}: {}", explained(why));
            return Err(ConnectionFailed { why, is_transient });
        }
        if !is_transient {
            let why = format!("{target} ended the connection for good: {why}");
            return Err(ConnectionFailed { why, is_transient });
        }
        if !self.backoff.may_retry(now) {
            let time = policy.give_up_after.unwrap_or_default().as_secs();
            let why = match (self.was_connected, time) {
                (true, 0) => format!("lost the connection to {target}: {why}"),
                (true, _) => format!("no progress with {target} for {time} s: {why}"),
                (false, _) => format!("no connection to {target} for {time} s: {why}"),
            };
            return Err(ConnectionFailed { why, is_transient });
        }
        self.connection = Connection::None(self.backoff.next_attempt_at(now));
        if !std::mem::replace(&mut self.loss_reported, true) {
            let what = if self.was_connected { "lost the" } else { "no" };
            terminal.info(&format!("{what} connection to {target}: {why}; trying again"));
        }
        Ok(())
    }

    /// Notes that something was achieved over the connection.
    pub(super) fn on_progress(&mut self, terminal: &Terminal) {
        self.backoff.reset();
        if std::mem::take(&mut self.loss_reported) {
            terminal.info(&format!("going on with {}", self.target));
        }
    }

    /// Runs a call on the strand of the connection. Returns false if there is no room for it now.
    /// If the connection is gone the call is dropped, and `Event::Disconnected` follows.
    pub(super) fn run_on_peer(
        &self,
        peer: PeerId,
        call: impl FnOnce(&mut Peer<'_, EventForwarder>) + Send + 'static,
    ) -> bool {
        let run = self.endpoint.run(peer, move |peer| {
            call(peer);
            Ok(())
        });
        run != Err(RunError::Busy)
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

/// A reason with a hint for a user who has just typed the command.
fn explained(why: &DisconnectReason) -> String {
    let text = why.to_string();
    if let Some((text, _)) = text.split_once(" (see Target::without_hello)") {
        return format!("{text}; is it a posthouse that listens there?");
    }
    if why.code() == Some(NOT_ADMITTED) || why.kind() == DisconnectKind::NotAdmitted {
        return format!("{text}; both sides need the same key, see --key-file");
    }
    text
}

/// The last name in order before all names that begin with the prefix.
fn name_before(prefix: &str) -> String {
    let mut before = prefix.to_owned();
    let Some(last) = before.pop() else { return before };
    let previous = (0..u32::from(last)).rev().find_map(char::from_u32);
    if let Some(previous) = previous {
        before.push(previous);
        before.push(char::MAX);
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_by_prefix_begins_right_before_the_first_name_that_has_it() {
        assert_eq!(name_before(""), "");
        for prefix in ["a", "build/", "ü", "\u{e000}", "\u{1}"] {
            let before = name_before(prefix);
            assert!(*before < *prefix, "{prefix:?} {before:?}");
            for name in ["a", "build/", "b", "build/0", "bu", "build-x", "ü", "\u{d7ff}z"] {
                let listed = *name > *before;
                assert!(listed || !name.starts_with(prefix), "{name:?} begins with {prefix:?}");
            }
        }
        assert!(*name_before("b") > *"azzzz", "names before the prefix are not listed");
    }
}
