//! The client's side of files: one connection to a server, made again when it is lost, with files
//! on their way over it. `send`, `get` and `list` are thin over it.

mod account;
mod carry;
mod parcel;
mod retry;
mod rider;
mod screen;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use clap::Args;
use posthouse::{
    Endpoint, FileEntry, Options, Peer, PeerId, Reason, ReasonKind, SendError, Target,
    TransferError,
};

use crate::failure::{Failure, Outcome};
use crate::{key_file, open_files, quantity, settings, signals};

pub(crate) use account::{Account, End, Style, style};
pub(crate) use parcel::{Manifest, Next, Parcel, Way};
pub(crate) use retry::Patience;
pub(crate) use screen::Screen;

use retry::Attempts;
use rider::{Event, Rider};

/// The code of a goodbye to whoever has not the right key (PROTOCOL.md).
const NOT_ADMITTED: u16 = 5;
/// How long the end of a connection may take.
const CLOSING: Duration = Duration::from_secs(1);

/// How to reach the server: flags of every command that carries files.
#[derive(Debug, Args)]
pub(crate) struct LineFlags {
    /// A file with the secret that the server demands
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    io: settings::IoFlags,
}

/// What to tell, and how long to try: flags of the commands that carry files.
#[derive(Debug, Args)]
pub(crate) struct CarryFlags {
    /// Print one JSON object a line: for each file name, bytes, sent_bytes, resumed_from,
    /// already_there, blake3, seconds and error, and one for all of them at the end
    #[arg(long)]
    pub(crate) json: bool,
    /// Print nothing but errors
    #[arg(long, short, conflicts_with = "json")]
    pub(crate) quiet: bool,
    /// Go on trying for so long without progress, in seconds or with s, m or h; 0: not at all.
    /// Given, it counts for the first connection, too; default: 30 s, once there has been one
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true,
          default_missing_value = "30s", value_parser = quantity::time)]
    retry: Option<Duration>,
}

impl CarryFlags {
    pub(crate) fn patience(&self) -> Patience {
        match self.retry {
            None => Patience::default(),
            Some(time) => Patience { time: Some(time), from_the_start: !time.is_zero() },
        }
    }

    /// Where nothing is said it waits for ever.
    pub(crate) fn patience_of_a_watch(&self) -> Patience {
        match self.retry {
            None => Patience { time: None, from_the_start: true },
            Some(_) => self.patience(),
        }
    }
}

/// Some of the files that there are.
type Page = Vec<FileEntry>;

/// The connection.
#[derive(Debug)]
enum Link {
    /// There is none before then.
    None(Instant),
    Making(PeerId),
    Up(PeerId),
}

/// There is no connection, and there will be none.
#[derive(Debug)]
struct GivenUp {
    why: String,
    /// Whether there may be one later.
    passing: bool,
}

impl From<GivenUp> for Failure {
    fn from(given_up: GivenUp) -> Self {
        Self::runtime(given_up.why)
    }
}

/// What came of a listing.
#[derive(Debug)]
pub(crate) enum Listing {
    Whole,
    /// The server does not say what it has: why.
    Refused(String),
}

/// One connection to one server.
pub(crate) struct Courier {
    target: Target,
    endpoint: Endpoint,
    link: Link,
    attempts: Attempts,
    events: Receiver<Event>,
    teller: Sender<Event>,
    /// True once there was a connection.
    was_up: bool,
    /// True exactly while a lost connection has been told and none has come up since.
    lost: bool,
    /// True once a person wants it to end.
    interrupted: bool,
}

impl Courier {
    /// Starts, and begins to connect with the first thing to do.
    pub(crate) fn start(target: &Target, flags: &LineFlags, patience: Patience) -> Outcome<Self> {
        let mut target = target.clone();
        if let Some(path) = &flags.key_file {
            target = target.key(key_file::read(path)?);
        }
        let mut options = Options { io_workers: 1, ..Options::default() };
        flags.io.apply(&mut options)?;
        open_files::raise_limit();
        let (teller, events) = channel();
        let endpoint = Endpoint::builder(Rider(teller.clone())).options(options).start()?;
        let interrupt = teller.clone();
        signals::on_interrupt(move || {
            // Refused once the courier is gone: then all of it is about to end.
            let _ = interrupt.send(Event::Interrupted);
        })?;
        Ok(Self {
            target,
            endpoint,
            link: Link::None(Instant::now()),
            attempts: Attempts::new(patience),
            events,
            teller,
            was_up: false,
            lost: false,
            interrupted: false,
        })
    }

    /// Whether there ever was a connection.
    pub(crate) fn was_up(&self) -> bool {
        self.was_up
    }

    pub(crate) fn close_timeout(&self) -> Duration {
        Duration::from_millis(self.endpoint.options().close_timeout_ms)
    }

    /// Ends the connection, and waits for it.
    pub(crate) fn end(self) -> Outcome {
        self.endpoint.shutdown(CLOSING);
        self.endpoint.wait().map_err(|error| Failure::runtime(error.to_string()))
    }

    /// The files there are whose names begin so, in order, page by page.
    pub(crate) fn list(
        &mut self,
        screen: &Screen,
        prefix: &str,
        mut each: impl FnMut(FileEntry) -> Outcome,
    ) -> Outcome<Listing> {
        let mut after = before(prefix);
        loop {
            let page = match self.page(screen, &after)? {
                Ok(page) => page,
                Err(error) => {
                    let text = format!("{} does not list its files: {error}", self.target);
                    return Ok(Listing::Refused(text));
                }
            };
            let Some(first) = page.first() else { return Ok(Listing::Whole) };
            if *first.name <= *after {
                // It would go on for ever.
                let text = "lists the same files again and again: it does not keep to the protocol";
                return Err(Failure::runtime(format!("{} {text}", self.target)));
            }
            for entry in page {
                if *entry.name > *prefix && !entry.name.starts_with(prefix) {
                    return Ok(Listing::Whole);
                }
                after.clear();
                after.push_str(&entry.name);
                if entry.name.starts_with(prefix) {
                    each(entry)?;
                }
            }
        }
    }

    /// The first files after this name; the connection is made where there is none.
    fn page(&mut self, screen: &Screen, after: &str) -> Outcome<Result<Page, TransferError>> {
        loop {
            let Link::Up(peer) = self.link else {
                let due = self.tend(Instant::now())?;
                if let Some(event) = self.wait(due) {
                    self.heed(screen, &event)?;
                }
                continue;
            };
            match self.ask(screen, peer, after)? {
                Some(Ok(page)) => {
                    self.progressed(screen);
                    return Ok(Ok(page));
                }
                Some(Err(error)) => {
                    if !error.is_passing() || !self.attempts.may_go_on(Instant::now()) {
                        return Ok(Err(error));
                    }
                    self.pause(screen)?;
                }
                None => {}
            }
        }
    }

    /// Asks for a page over a connection. `None`: the connection went down, or has no room for
    /// the question now.
    fn ask(
        &mut self,
        screen: &Screen,
        peer: PeerId,
        after: &str,
    ) -> Outcome<Option<Result<Page, TransferError>>> {
        let (after, teller) = (after.to_owned(), self.teller.clone());
        let asked = self.run(peer, move |peer| {
            peer.list(&after, move |_, listed| {
                // Refused where nobody waits any more.
                let _ = teller.send(Event::Listed(listed));
                Ok(())
            });
        });
        if !asked {
            self.pause(screen)?;
            return Ok(None);
        }
        while let Link::Up(_) = self.link {
            match self.wait(None) {
                Some(Event::Listed(listed)) => return Ok(Some(listed)),
                Some(event) => self.heed(screen, &event)?,
                None => {}
            }
        }
        Ok(None)
    }

    /// Waits before the next attempt; what happens meanwhile is heeded.
    fn pause(&mut self, screen: &Screen) -> Outcome {
        let until = self.attempts.next(Instant::now());
        while Instant::now() < until {
            if let Some(event) = self.wait(Some(until)) {
                self.heed(screen, &event)?;
            }
        }
        Ok(())
    }

    /// Does what an event means for a command that does one thing after the other.
    fn heed(&mut self, screen: &Screen, event: &Event) -> Outcome {
        match event {
            Event::Down(why) => Ok(self.on_down(screen, why)?),
            Event::Interrupted => Err(Failure::interrupted("interrupted")),
            _ => Ok(()),
        }
    }

    // ---- the connection ----

    /// Begins to connect when it is time; until when there is nothing to do.
    ///
    /// # Errors
    ///
    /// Why there will be no connection.
    fn tend(&mut self, now: Instant) -> Result<Option<Instant>, GivenUp> {
        match self.link {
            Link::None(at) if now >= at => {
                let begun = self.endpoint.connect(self.target.clone());
                let peer = begun.map_err(|error| GivenUp {
                    why: format!("cannot connect: {error}"),
                    passing: false,
                })?;
                self.link = Link::Making(peer);
                Ok(None)
            }
            Link::None(at) => Ok(Some(at)),
            Link::Making(_) | Link::Up(_) => Ok(None),
        }
    }

    /// The next thing that happens, until then. What it means for the connection coming up, and
    /// for the courier's end, is noted.
    fn wait(&mut self, until: Option<Instant>) -> Option<Event> {
        let event = match until {
            // The teller here keeps the channel open.
            None => self.events.recv().ok()?,
            Some(until) => {
                let time = until.saturating_duration_since(Instant::now());
                match self.events.recv_timeout(time) {
                    Ok(event) => event,
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
                }
            }
        };
        match (&event, &self.link) {
            (Event::Up, Link::Making(peer)) => {
                self.link = Link::Up(*peer);
                self.was_up = true;
            }
            (Event::Interrupted, _) => self.interrupted = true,
            _ => {}
        }
        Some(event)
    }

    /// The connection is gone, or did not come up: there is another attempt later.
    ///
    /// # Errors
    ///
    /// Why there is none.
    fn on_down(&mut self, screen: &Screen, why: &Reason) -> Result<(), GivenUp> {
        let now = Instant::now();
        let (target, patience) = (&self.target, self.attempts.patience());
        let passing = matches!(
            why.kind(),
            ReasonKind::Ended
                | ReasonKind::Reset
                | ReasonKind::Silent
                | ReasonKind::TooSlow
                | ReasonKind::Busy
                | ReasonKind::System
                | ReasonKind::Unreachable
        ) && why.code() != Some(NOT_ADMITTED);
        if !self.was_up && (!passing || !patience.from_the_start) {
            let why = format!("cannot connect to {target}: {}", plainly(why));
            return Err(GivenUp { why, passing });
        }
        if !passing {
            let why = format!("{target} ended the connection for good: {why}");
            return Err(GivenUp { why, passing });
        }
        if !self.attempts.may_go_on(now) {
            let time = patience.time.unwrap_or_default().as_secs();
            let why = match (self.was_up, time) {
                (true, 0) => format!("lost the connection to {target}: {why}"),
                (true, _) => format!("no progress with {target} for {time} s: {why}"),
                (false, _) => format!("no connection to {target} for {time} s: {why}"),
            };
            return Err(GivenUp { why, passing });
        }
        self.link = Link::None(self.attempts.next(now));
        if !std::mem::replace(&mut self.lost, true) {
            let what = if self.was_up { "lost the" } else { "no" };
            screen.remark(&format!("{what} connection to {target}: {why}; trying again"));
        }
        Ok(())
    }

    /// Something was done over the connection.
    fn progressed(&mut self, screen: &Screen) {
        self.attempts.progress();
        if std::mem::take(&mut self.lost) {
            screen.remark(&format!("going on with {}", self.target));
        }
    }

    /// Runs something on the connection's strand; false: there is no room for it now. Where the
    /// connection is gone it is not run, and its end is told soon.
    fn run(&self, peer: PeerId, call: impl FnOnce(&mut Peer<'_, ()>) + Send + 'static) -> bool {
        let run = self.endpoint.run(peer, move |peer| {
            call(peer);
            Ok(())
        });
        run != Err(SendError::Busy)
    }
}

/// What an end means to somebody who has just typed the command.
fn plainly(why: &Reason) -> String {
    let text = why.to_string();
    if let Some((text, _)) = text.split_once(" (see Target::without_hello)") {
        return format!("{text}; is it a posthouse that listens there?");
    }
    if why.code() == Some(NOT_ADMITTED) || why.kind() == ReasonKind::NotAdmitted {
        return format!("{text}; both sides need the same key, see --key-file");
    }
    text
}

/// The last name before all those that begin so.
fn before(prefix: &str) -> String {
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
        assert_eq!(before(""), "");
        for prefix in ["a", "build/", "ü", "\u{e000}", "\u{1}"] {
            let before = before(prefix);
            assert!(*before < *prefix, "{prefix:?} {before:?}");
            for name in ["a", "build/", "b", "build/0", "bu", "build-x", "ü", "\u{d7ff}z"] {
                let listed = *name > *before;
                assert!(listed || !name.starts_with(prefix), "{name:?} begins with {prefix:?}");
            }
        }
        assert!(*before("b") > *"azzzz", "what cannot have it is not listed first");
    }
}
