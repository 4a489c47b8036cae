//! The comparison of what the two ends of a connection report when they are over.

use std::sync::{Mutex, MutexGuard, PoisonError};

use posthouse_io::Failure;

use super::script::{Disturbance, Part, Plan, Script, Side, Target};
use posthouse_process::is_wine;

/// What an end says when it is closed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnSummary {
    /// Bytes that were confirmed as sent.
    pub(super) sent: u32,
    /// Bytes that came, each of them checked.
    pub(super) received: u32,
    /// True exactly when it has seen the end of the other side's stream.
    pub(super) ended: bool,
    /// Why it came to nothing, where it did.
    pub(super) failed: Option<Failure>,
    /// Bytes of a send that failed where that does not say that none of them left.
    pub(super) doubtful: u32,
}

/// The connections that are going on, or whose second end is awaited, by their number. It has room
/// for as many as can have begun while the slowest one is still there, so it does not grow.
pub(super) struct Exchanges {
    plan: Plan,
    entries: Box<[Mutex<Entry>]>,
}

#[derive(Debug, Default)]
struct Entry {
    /// None: vacant.
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

    /// A client begins. False: the entry is still another's, try again later.
    pub(super) fn begin(&self, number: u32) -> Result<bool, String> {
        let mut entry = self.entry(number);
        if !entry.vacate(self.plan)? {
            return Ok(false);
        }
        *entry = Entry { number: Some(number), client: Half::Running, server: Half::Absent };
        Ok(true)
    }

    /// A server has accepted.
    pub(super) fn join(&self, number: u32) -> Result<(), String> {
        let mut entry = self.entry(number);
        match (entry.number == Some(number), entry.server) {
            (true, Half::Absent) => {
                entry.server = Half::Running;
                Ok(())
            }
            _ => Err(format!("connection {number} accepted twice, or never begun: {entry:?}")),
        }
    }

    /// One end is closed.
    pub(super) fn end(&self, number: u32, side: Side, summary: ConnSummary) -> Result<(), String> {
        let mut entry = self.entry(number);
        assert!(entry.number == Some(number), "an end of a connection that has not begun");
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

    /// Everything is over: nothing may be left but what its script explains.
    pub(super) fn finish(&self) -> Result<(), String> {
        for entry in &self.entries {
            let mut entry = lock(entry);
            if !entry.vacate(self.plan)? {
                return Err(format!("a connection that is not over: {entry:?}"));
            }
        }
        Ok(())
    }

    fn entry(&self, number: u32) -> MutexGuard<'_, Entry> {
        lock(&self.entries[number as usize % self.entries.len()])
    }
}

impl Entry {
    /// Makes room; false while the connection is going on.
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

/// Both ends are over.
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
    let (of_client, of_server) = ((client, &script.client), (server, &script.server));
    for ((from, from_part), (to, _)) in [(of_client, of_server), (of_server, of_client)] {
        if to.received > from.sent + from.doubtful {
            return wrong("more bytes came than were sent");
        }
        // Wine: a reset that comes while no receive waits looks like the end of the stream.
        let may_be_a_reset = is_wine() && (from.failed.is_some() || !from_part.is_polite());
        if to.ended && to.received < from.sent && !may_be_a_reset {
            return wrong("the stream ended before all of it had come");
        }
    }
    if script.target != Target::Serving {
        return wrong("served, although it went elsewhere");
    }
    if script.is_polite() {
        let whole = |summary: &ConnSummary, part: &Part| {
            let complete =
                part.disturbance == Disturbance::CutShort || summary.sent == part.bytes();
            summary.ended && summary.failed.is_none() && complete
        };
        if !whole(client, &script.client) || !whole(server, &script.server) {
            return wrong("nobody was rude, and yet it did not come to its end");
        }
    }
    Ok(())
}

/// The client is over, and no server has ever been there.
fn compare_alone(number: u32, script: &Script, client: &ConnSummary) -> Result<(), String> {
    if script.is_polite() || client.received > 0 {
        return Err(format!("connection {number}: nobody served it: {client:?}\n  {script:?}"));
    }
    if script.target == Target::Nobody && (client.ended || client.sent > 0) {
        return Err(format!("connection {number}: up, where nobody listens: {client:?}"));
    }
    Ok(())
}

pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
