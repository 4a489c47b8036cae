//! The comparison of the reports of the two ends of a connection when both are over.

use std::sync::{Mutex, MutexGuard, PoisonError};

use posthouse_io::Failure;

use super::script::{Disturbance, Part, Plan, Script, Side, Target};
use posthouse_process::is_wine;

/// The report of an end when it is closed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnSummary {
    /// The number of bytes that were confirmed as sent.
    pub(super) sent: u32,
    /// The number of bytes received, all of them checked.
    pub(super) received: u32,
    /// True exactly when the end has seen the end of the other side's stream.
    pub(super) ended: bool,
    /// The failure that ended it, if one did.
    pub(super) failed: Option<Failure>,
    /// The number of bytes of a failed send that may have left in part.
    pub(super) doubtful: u32,
}

/// The connections that are running, or whose second end is awaited, by number. It has room for all
/// connections that can begin while the slowest one is still running, so it does not grow.
pub(super) struct Exchanges {
    plan: Plan,
    entries: Box<[Mutex<Entry>]>,
}

#[derive(Debug, Default)]
struct Entry {
    /// The number of the connection; `None` if the entry is vacant.
    number: Option<u32>,
    client: Half,
    server: Half,
}

#[derive(Clone, Copy, Debug, Default)]
enum Half {
    #[default]
    Absent,
    Running,
    Over(ConnSummary),
}

const MAX_ENTRIES: u32 = 1 << 18;

impl Exchanges {
    pub(super) fn new(plan: Plan, connections: u32) -> Self {
        let entries = connections.clamp(1, MAX_ENTRIES);
        Self { plan, entries: (0..entries).map(|_| Mutex::default()).collect() }
    }

    /// Registers a new client. Returns false if the entry still belongs to another connection; the
    /// caller tries again later.
    pub(super) fn begin(&self, number: u32) -> Result<bool, String> {
        let mut entry = self.entry(number);
        if !entry.vacate(self.plan)? {
            return Ok(false);
        }
        *entry = Entry { number: Some(number), client: Half::Running, server: Half::Absent };
        Ok(true)
    }

    /// Registers an accepted server.
    pub(super) fn join(&self, number: u32) -> Result<(), String> {
        let mut entry = self.entry(number);
        match (entry.number == Some(number), entry.server) {
            (true, Half::Absent) => {
                entry.server = Half::Running;
                Ok(())
            }
            _ => Err(format!("connection {number} was accepted twice, or never begun: {entry:?}")),
        }
    }

    /// Registers the end of one side, and compares the two sides when both are over.
    pub(super) fn end(&self, number: u32, side: Side, summary: ConnSummary) -> Result<(), String> {
        let mut entry = self.entry(number);
        assert!(entry.number == Some(number), "a connection ended that had not begun");
        let half = match side {
            Side::Client => &mut entry.client,
            Side::Server => &mut entry.server,
        };
        *half = Half::Over(summary);
        if let (Half::Over(client), Half::Over(server)) = (entry.client, entry.server) {
            entry.number = None;
            return compare(number, &Script::of(self.plan, number), &client, &server);
        }
        Ok(())
    }

    /// Checks, when everything is over, that the script explains every remaining entry.
    pub(super) fn finish(&self) -> Result<(), String> {
        for entry in &self.entries {
            let mut entry = lock(entry);
            if !entry.vacate(self.plan)? {
                return Err(format!("a connection is not over: {entry:?}"));
            }
        }
        Ok(())
    }

    fn entry(&self, number: u32) -> MutexGuard<'_, Entry> {
        lock(&self.entries[number as usize % self.entries.len()])
    }
}

impl Entry {
    /// Vacates the entry. Returns false while its connection is running.
    fn vacate(&mut self, plan: Plan) -> Result<bool, String> {
        let Some(number) = self.number else { return Ok(true) };
        match (self.client, self.server) {
            (Half::Over(client), Half::Absent) => {
                self.number = None;
                compare_alone(number, &Script::of(plan, number), &client).map(|()| true)
            }
            _ => Ok(false),
        }
    }
}

/// Compares the two sides of a connection that is over.
fn compare(
    number: u32,
    script: &Script,
    client: &ConnSummary,
    server: &ConnSummary,
) -> Result<(), String> {
    let wrong = |what: &str| {
        Err(format!(
            "connection {number}: {what}\n  client: {client:?}\n  server: {server:?}\n  {script:?}"
        ))
    };
    let of_client = (client, &script.client);
    let of_server = (server, &script.server);
    for ((from, from_part), (to, _)) in [(of_client, of_server), (of_server, of_client)] {
        if to.received > from.sent + from.doubtful {
            return wrong("more bytes were received than sent");
        }
        // Under Wine, a reset that comes while no receive waits looks like the end of the stream.
        let may_be_a_reset = is_wine() && (from.failed.is_some() || !from_part.is_polite());
        if to.ended && to.received < from.sent && !may_be_a_reset {
            return wrong("the stream ended before all bytes were received");
        }
    }
    if script.target != Target::Serving {
        return wrong("it was served, although its target was elsewhere");
    }
    if script.is_polite() {
        let whole = |summary: &ConnSummary, part: &Part| {
            let complete =
                part.disturbance == Disturbance::CutShort || summary.sent == part.bytes();
            summary.ended && summary.failed.is_none() && complete
        };
        if !whole(client, &script.client) || !whole(server, &script.server) {
            return wrong("it did not reach its end, although neither side disturbed it");
        }
    }
    Ok(())
}

/// Checks a client that is over and was never served.
fn compare_alone(number: u32, script: &Script, client: &ConnSummary) -> Result<(), String> {
    if script.is_polite() || client.received > 0 {
        return Err(format!("connection {number} was never served: {client:?}\n  {script:?}"));
    }
    if script.target == Target::Nobody && (client.ended || client.sent > 0) {
        return Err(format!("connection {number} was established without a listener: {client:?}"));
    }
    Ok(())
}

pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
