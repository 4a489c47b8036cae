//! The report of the demonstration, as text and as JSON.

use std::fmt;

use serde::Serialize;

use super::demo_counts::DemoCounts;
use super::{
    ABORTING_CLIENTS, CLIENTS, DemoResult, ECHO_BYTES, ECHOES, FILE_BYTES, FILES, GROUP_MESSAGES,
    GROUPS, REQUESTS,
};
use crate::failure::{CommandResult, Failure};

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    backend: &'static str,
    elapsed_seconds: f64,
    messages_per_second: f64,
    checks: Vec<Check>,
    /// The unexpected events that a handler saw.
    wrong: Vec<String>,
    ok: bool,
}

/// A count, and its expected value.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    expected: u64,
    found: u64,
}

impl Report {
    pub(crate) fn new(result: &DemoResult) -> Self {
        let counts = result.counts.read(DemoCounts::clone);
        let checks = checks(result);
        let elapsed_seconds = result.elapsed.as_secs_f64();
        // A message and its echo count as two, and so do a request and its reply.
        let messages = 2 * (counts.echoes + counts.replies + counts.joined) + counts.group_messages;
        let ok = counts.errors.is_empty() && checks.iter().all(|c| c.expected == c.found);
        Self {
            backend: result.backend,
            elapsed_seconds,
            messages_per_second: messages as f64 / elapsed_seconds,
            checks,
            wrong: counts.errors,
            ok,
        }
    }

    pub(crate) fn verdict(&self) -> CommandResult {
        if self.ok {
            return Ok(());
        }
        let failed = self.checks.iter().filter(|check| check.expected != check.found).count();
        let wrong = self.wrong.len();
        Err(Failure::runtime(format!(
            "the demonstration failed: {failed} counts are wrong, and {wrong} events were \
             unexpected; please report this with the lines above"
        )))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "A server and {CLIENTS} clients in one process, on {}, for {:.2} s: {:.0} messages/s\n",
            self.backend, self.elapsed_seconds, self.messages_per_second
        )?;
        for Check { what, expected, found } in &self.checks {
            write!(f, "  {found:>8}  {what:<58} ")?;
            if expected == found {
                writeln!(f, "ok")?;
            } else {
                writeln!(f, "WRONG: expected {expected}")?;
            }
        }
        self.wrong.iter().try_for_each(|wrong| writeln!(f, "  WRONG: {wrong}"))
    }
}

fn checks(result: &DemoResult) -> Vec<Check> {
    let counts = result.counts.read(DemoCounts::clone);
    let clients = u64::from(CLIENTS);
    let aborting = u64::from(ABORTING_CLIENTS);
    let remaining = clients - aborting;
    let server = &result.server;
    let client = &result.clients;
    let check = |what, found, expected| Check { what, expected, found };
    assert_eq!(ECHO_BYTES, 200, "the text below says so");
    assert_eq!(GROUPS, 4, "the text below says so");
    assert_eq!(FILE_BYTES, 4 << 20, "the text below says so");
    let files = u64::from(FILES);
    vec![
        check("clients connected", u64::from(counts.connected), clients),
        check(
            "echoes of 200 bytes, each compared byte by byte",
            counts.echoes,
            remaining * ECHOES + aborting * ECHOES / 2,
        ),
        check("requests answered, each reply compared", counts.replies, remaining * REQUESTS),
        check("clients joined one of 4 groups", counts.joined, remaining),
        check(
            "group messages received, each once and in order",
            counts.group_messages,
            remaining * GROUP_MESSAGES,
        ),
        check("files of 4 MiB sent, each confirmed by its hash", counts.files_sent, files),
        check("files received back, each compared byte by byte", result.files_unchanged, files),
        check("clients that aborted, seen as resets", counts.resets, aborting),
        check("clients that closed gracefully, seen as ended", counts.ended, remaining),
        check("server: peers accepted", server.accepted, clients),
        check("server: calls to connected", server.connected, clients),
        check("server: calls to disconnected, one per connection", server.disconnected, clients),
        check("clients: calls to disconnected, one per connection", client.disconnected, clients),
        check("server: files transferred, in both directions", server.transfers, 2 * files),
        check("transfers that failed", server.transfers_failed + client.transfers_failed, 0),
        check(
            "server: operations completed, of all submitted",
            server.operations_completed,
            server.operations_submitted,
        ),
        check(
            "clients: operations completed, of all submitted",
            client.operations_completed,
            client.operations_submitted,
        ),
        check("connections left", (server.connections + client.connections) as u64, 0),
        check("sockets left", (server.sockets + client.sockets) as u64, 0),
        check("buffers left in use", (server.buffers_used + client.buffers_used) as u64, 0),
        check("panics in callbacks", server.panics + client.panics, 0),
    ]
}
